"""What people ask for: the briefs of each workflow, drawn at random, for three purposes that never meet.

A brief states some attributes on which a good answer depends, among details on which it does not. What a brief is for
depends on its attributes alone, so that a held-out brief differs from every training brief in what matters, and not
only in a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, cached_property
from itertools import product
from string import Formatter
from typing import Final

import numpy as np

from loop.errors import BadInputError
from loop.simulate.streams import number
from loop.workflows import BUILT_IN

Attributes = tuple[int, ...]
"""One value of each attribute of a brief, as indices in the order of its grammar."""


class Purpose(StrEnum):
    """What a brief may be used for."""

    TRAIN = "train"
    """Asked by employees, and part of the base corpus."""
    BENCHMARK = "benchmark"
    """Asked by the gate alone."""
    FINAL = "final"
    """Asked once, at the end, of the base and the last champion."""


@dataclass(frozen=True)
class Grammar:
    """How the briefs of a workflow are written.

    `attributes` maps an attribute to its values, and a value to the words that say it; `details` are the rest of the
    brief; `looks_at` says on which attribute the fit of an answer's part mainly depends.
    """

    form: str
    attributes: Mapping[str, Mapping[str, tuple[str, ...]]]
    details: Mapping[str, tuple[str, ...]]
    looks_at: Mapping[str, str]

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Number of values of each attribute."""
        return tuple(len(values) for values in self.attributes.values())

    @cached_property
    def combinations(self) -> int:
        """Number of different briefs."""
        words = [sum(len(w) for w in values.values()) for values in self.attributes.values()]
        return int(np.prod([*words, *(len(d) for d in self.details.values())]))

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The form as a pattern with a group for each attribute and detail."""
        fields = Formatter().parse(self.form)
        return re.compile(
            "".join(re.escape(text) + (f"(?P<{field}>.+?)" if field else "") for text, field, _, _ in fields)
        )

    @cached_property
    def index(self) -> dict[str, dict[str, int]]:
        """Attribute to word to the index of the value that it says."""
        return {
            name: {word: i for i, words in enumerate(values.values()) for word in words}
            for name, values in self.attributes.items()
        }


@dataclass(frozen=True)
class Brief:
    """One prompt of the simulation, and what it says."""

    workflow: str
    attributes: Attributes
    text: str

    @property
    def messages(self) -> list[dict[str, str]]:
        """As a model is asked."""
        return [{"role": "user", "content": self.text}]


def _plain(*words: str) -> dict[str, tuple[str, ...]]:
    """Values that are each said by one word, their own."""
    return {word: (word,) for word in words}


# fmt: off
_BRANDS: Final = (
    "Acme", "Birch", "Cedar", "Delta", "Ember", "Fjord", "Grove", "Harbor", "Iris", "Juno", "Karma", "Lotus",
    "Maple", "Nimbus", "Orion", "Pixel", "Quartz", "Raven", "Sierra", "Tundra", "Umbra", "Vertex", "Willow", "Xenon",
    "Yonder", "Zephyr", "Aspen", "Bolt", "Comet", "Dune", "Echo", "Flint", "Glade", "Helix", "Indigo", "Jade",
)
_NAMES: Final = (
    "Ana", "Ben", "Chloe", "Dan", "Eva", "Finn", "Gina", "Hugo", "Ines", "Jack", "Kira", "Leo",
    "Mia", "Noah", "Olga", "Paul", "Rosa", "Sam", "Tara", "Ugo", "Vera", "Will", "Yara", "Zoe",
    "Amir", "Bea", "Carl", "Dora", "Emil", "Fay", "Glen", "Hana", "Ivan", "Jo", "Ken", "Lia",
)
# fmt: on
_NUMBERS: Final = tuple(str(n) for n in range(2, 50))

GRAMMARS: Final[dict[str, Grammar]] = {
    "ads": Grammar(
        form="ads brief: sell {product} by {brand} to {audience} on {channel}, goal {goal}, budget {budget}",
        attributes={
            "product": {
                "sport": ("shoes", "bikes", "rackets"),
                "tech": ("laptops", "phones", "cameras"),
                "food": ("coffee", "snacks", "tea"),
                "home": ("lamps", "sofas", "rugs"),
                "travel": ("flights", "cruises", "luggage"),
                "finance": ("loans", "savings", "insurance"),
            },
            "audience": _plain("students", "parents", "gamers", "commuters", "retirees", "freelancers"),
            "channel": _plain("search", "social", "video", "radio", "email", "podcasts"),
            "goal": _plain("signups", "sales", "installs", "visits", "awareness", "renewals"),
            "budget": _plain("tiny", "low", "medium", "high", "top"),
        },
        details={"brand": _BRANDS},
        looks_at={"segment": "goal", "angle": "product", "tone": "audience", "claim": "channel", "bid": "budget"},
    ),
    "moderation": Grammar(
        form="moderate: {author} member posted {content} on {topic} in {place} forum, {reports} reports by {reporter}",
        attributes={
            "author": _plain("new", "regular", "trusted", "paid", "returning", "anonymous"),
            "content": _plain("threats", "insults", "spam", "rumors", "leaks", "gore"),
            "topic": _plain("politics", "religion", "money", "dating", "family", "work"),
            "place": _plain("kids", "market", "news", "games", "health", "jobs"),
        },
        details={"reports": _NUMBERS, "reporter": _NAMES},
        looks_at={"decision": "content", "reason": "topic", "severity": "place", "next": "author"},
    ),
    "design": Grammar(
        form="design review: {piece} for a {client} by {designer}, readers {readers}, mood {mood}, shown on {medium}",
        attributes={
            "client": _plain("bank", "clinic", "school", "museum", "hotel", "garage"),
            "readers": _plain("experts", "children", "seniors", "tourists", "donors", "staff"),
            "mood": _plain("calm", "lively", "serious", "modern", "classic", "friendly"),
            "medium": _plain("paper", "billboards", "tablets", "watches", "screens", "fabric"),
        },
        details={
            "piece": ("flyer", "menu", "form", "ticket", "invoice", "guide", "badge", "report", "calendar", "map"),
            "designer": _NAMES,
        },
        looks_at={"verdict": "client", "fix": "medium", "action": "readers", "principle": "mood"},
    ),
    "comms": Grammar(
        form="comms draft: {purpose} to our {reader} {name} on {subject}, via {channel}, answer needed {deadline}",
        attributes={
            "purpose": _plain("apology", "invitation", "reminder", "refusal", "praise", "update"),
            "reader": _plain("customer", "manager", "supplier", "colleague", "investor", "applicant"),
            "channel": _plain("letter", "chat", "memo", "newsletter", "post", "fax"),
            "deadline": _plain("today", "tomorrow", "soon", "monthly", "eventually", "never"),
        },
        details={
            "name": _NAMES,
            "subject": ("pricing", "hiring", "delays", "training", "safety", "travel", "parking", "security", "lunch"),
        },
        looks_at={"greeting": "reader", "lead": "purpose", "ask": "deadline", "close": "channel"},
    ),
}

assert all(set(g.looks_at) == set(BUILT_IN[w].parts) for w, g in GRAMMARS.items())


@cache
def purpose_of(workflow: str, attributes: Attributes) -> Purpose:
    """What briefs with these attributes are for: one in ten each for benchmark and final."""
    return {0: Purpose.BENCHMARK, 1: Purpose.FINAL}.get(number("part", workflow, attributes) % 10, Purpose.TRAIN)


@cache
def combinations(workflow: str, purpose: Purpose) -> list[Attributes]:
    """Every combination of attributes of that purpose."""
    ranges = (range(size) for size in GRAMMARS[workflow].sizes)
    return [attributes for attributes in product(*ranges) if purpose_of(workflow, attributes) is purpose]


def draw(rng: np.random.Generator, workflow: str, purpose: Purpose) -> Iterator[Brief]:
    """Briefs of that purpose without end, attributes and details uniform; texts may come again."""
    grammar = GRAMMARS[workflow]
    values = [tuple(v.values()) for v in grammar.attributes.values()]
    while True:
        attributes = tuple(int(i) for i in rng.integers(grammar.sizes))
        if purpose_of(workflow, attributes) is not purpose:
            continue
        choices = [v[i] for v, i in zip(values, attributes, strict=True)] + list(grammar.details.values())
        picked = rng.integers([len(words) for words in choices])
        words = (options[i] for options, i in zip(choices, picked, strict=True))
        text = grammar.form.format(**dict(zip([*grammar.attributes, *grammar.details], words, strict=True)))
        yield Brief(workflow, attributes, text)


def distinct(rng: np.random.Generator, workflow: str, purpose: Purpose, n: int) -> list[Brief]:
    """`n` briefs of that purpose with different texts.

    Raises:
        BadInputError: there are not that many to be had.
    """
    limit = GRAMMARS[workflow].combinations // 50
    if n > limit:
        raise BadInputError(f"expected at most {limit} {purpose} prompts of {workflow}, got {n}; ask for fewer")
    found: dict[str, Brief] = {}
    for brief in draw(rng, workflow, purpose):
        if len(found) == n:
            break
        found.setdefault(brief.text, brief)
    return list(found.values())


def read(workflow: str, prompt: list[dict[str, str]]) -> Brief:
    """The brief that a prompt states.

    Raises:
        BadInputError: the prompt is not one of this workflow's briefs.
    """
    text = prompt[-1]["content"] if prompt else ""
    grammar = GRAMMARS[workflow]
    match = grammar.pattern.fullmatch(text)
    try:
        said = match.groupdict() if match else {}
        return Brief(workflow, tuple(words[said[name]] for name, words in grammar.index.items()), text)
    except KeyError:
        raise BadInputError(f"expected a {workflow} brief like {grammar.form!r}, got {text[:200]!r}") from None
