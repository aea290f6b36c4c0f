"""Signs of harm in a question: words that tell of it anywhere or in one workflow, and house rules that are broken.

Cues are for choosing what people look at, and for warning those who do; they are no moderation. A word that is harmless
where it stands costs a look.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loop.label.select.words import Ints, Seen, Words, words
from loop.workflows import Workflow
from loop.workflows.workflow import MEASURES

Reals = NDArray[np.float64]

CUES: Final[Mapping[str, tuple[str, ...]]] = {
    "violence": ("kill", "killed", "murder", "shoot", "stab", "bomb", "behead", "torture", "massacre", "rape"),
    "self-harm": ("suicide", "suicidal", "overdose", "selfharm"),
    "hate": ("nazi", "vermin", "subhuman", "genocide", "lynch"),
    "harassment": ("idiot", "moron", "scum", "slut", "bitch", "whore"),
    "sexual": ("porn", "nude", "nudes", "naked", "incest"),
    "privacy": ("password", "passport", "doxx", "ssn"),
}
"""Kinds of harm, as moderation has them (Markov et al. 2023, A holistic approach to undesired content detection,
section 3), to words that tell of them."""


def cues(workflow: Workflow) -> dict[str, tuple[str, ...]]:
    """Kinds of harm to words, those of the workflow among them."""
    kinds = dict.fromkeys([*CUES, *workflow.cues])
    return {kind: (*CUES.get(kind, ()), *workflow.cues.get(kind, ())) for kind in kinds}


def cued(workflow: Workflow, *parts: Words) -> Ints:
    """How many cues the words of each text hold, in all of its parts."""
    listed = words(pa.array([word for of in cues(workflow).values() for word in of])).hashes
    seen = Seen.of(listed)
    count = np.zeros(parts[0].texts, np.int64)
    for part in parts:
        maybe = np.flatnonzero(seen.has(part.hashes))  # few: each is looked up in full
        hits = maybe[np.isin(part.hashes[maybe], listed)]
        count += np.bincount(part.of[hits], minlength=part.texts)
    return count


def harm(workflow: Workflow, *texts: str) -> str | None:
    """The kinds of harm that texts hold cues of, a comma between them; None where there are none."""
    said = set(re.findall(r"\w+", " ".join(texts).lower()))
    kinds = [kind for kind, listed in cues(workflow).items() if said & set(listed)]
    return ", ".join(kinds) or None


def broken(workflow: Workflow, prompt: str, *texts: str) -> float:
    """Greatest share of the workflow's own rules that a text breaks; 0 where none says anything of it."""
    shares = [0.0]
    for text in texts:
        grades = [grade for name, grade in workflow.grade(prompt, text).items() if name not in MEASURES]
        shares += [1.0 - sum(grades) / len(grades)] if grades else []
    return max(shares)
