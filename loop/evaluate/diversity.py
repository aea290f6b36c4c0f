"""How varied a model's answers are: what falls first when training has collapsed onto one pleasing text.

Sources: distinct-n, Li et al., NAACL 2016 (arXiv:1510.03055), over the pooled answers; entropy in bits of the answers
as whole texts; overlap as the mean Jaccard index of the word sets of two answers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_OVERLAP_ANSWERS = 500
"""Overlap is over all pairs of at most this many answers (evenly spaced ones beyond): 125,000 pairs."""


@dataclass(frozen=True)
class Diversity:
    """Of one model's answers to one set of prompts."""

    answers: int
    unique: float
    """Share of different texts among the answers."""
    most_common: float
    """Share of the most common answer."""
    entropy: float
    """Bits; log2(answers) when all differ, 0 when all are alike."""
    distinct_1: float
    """Different words over words."""
    distinct_2: float
    """Different pairs of neighbouring words over such pairs; 0 where no answer has two words."""
    overlap: float | None
    """Mean Jaccard index of two answers' word sets, 0 to 1; None for a single answer."""


def diversity(answers: Sequence[str]) -> Diversity | None:
    """None for no answers. White space is not told apart; case is."""
    if not answers:
        return None
    words = [answer.split() for answer in answers]
    counts = Counter(" ".join(split) for split in words)
    shares = [count / len(answers) for count in counts.values()]
    return Diversity(
        answers=len(answers),
        unique=len(counts) / len(answers),
        most_common=max(shares),
        entropy=-math.fsum(share * math.log2(share) for share in shares) + 0.0,
        distinct_1=_distinct(words, 1),
        distinct_2=_distinct(words, 2),
        overlap=_overlap(words),
    )


def _distinct(words: Sequence[Sequence[str]], n: int) -> float:
    grams = [tuple(split[i : i + n]) for split in words for i in range(len(split) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def _overlap(words: Sequence[Sequence[str]]) -> float | None:
    step = max(1, math.ceil(len(words) / _OVERLAP_ANSWERS))
    sets = [set(split) for split in words[::step]]
    if len(sets) < 2:
        return None
    place = {word: i for i, word in enumerate(sorted(set().union(*sets)))}
    has = np.zeros((len(sets), len(place)), dtype=np.float32)
    for row, found in enumerate(sets):
        has[row, [place[word] for word in found]] = 1
    both = has @ has.T
    sizes = has.sum(axis=1)
    either = sizes[:, None] + sizes[None, :] - both
    first, second = np.triu_indices(len(sets), k=1)
    # Two empty answers are alike.
    shares = np.where(either > 0, both / np.maximum(either, 1), 1.0)[first, second]
    return float(shares.mean(dtype=np.float64))
