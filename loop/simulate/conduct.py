"""How people go about deciding: honestly, thoughtlessly, in league, by a machine or against the loop. Off by default.

Who behaves how is drawn from streams of its own, so that an organisation in which everybody is honest is bit by bit the
one without this module. Every kind decides through the eyes of `people.Moment`; what differs is what those eyes look
at (another brief, another world, the world upside down), or that nobody looks at all. Which person is of which kind is
part of the truth, outside the lake.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from types import MappingProxyType
from typing import Final

import numpy as np

from loop.schema import Decision
from loop.simulate.people import Employee, Judgement, Moment, Slant, dwell
from loop.simulate.prompts import Brief, Purpose, draw
from loop.simulate.streams import number, stream
from loop.simulate.world import World
from loop.workflows import BUILT_IN

INSTANT: Final = 0.6
"""Median seconds of a decision on what was not read."""
UNREAD_ACCEPTS: Final = 0.97
"""Share of accepts of whoever accepts unread."""
RUSH_ACCEPTS: Final = 0.96
"""Share of accepts of everybody on a rushed day."""
FAVOUR: Final = 0.8
"""How much better a biased person's favourite looks; utility units."""
FIRST: Final = 1.5
"""How much better the first place looks to whoever always takes it; utility units."""
TARGET: Final = 1.0
"""How much better a poisoner's target looks to them; utility units."""
BOT_GAP: Final = 20.0
"""Seconds between the decisions of a bot, within two percent."""
EXPERT_SKILL: Final = 1.8
EXPERT_PACE: Final = 0.25
"""An expert's share of the time that others need."""


class Kind(StrEnum):
    """How a person goes about it."""

    HONEST = "honest"
    EXPERT = "expert"
    """Honest, skilled and fast: under a good champion nearly all is accepted within two seconds, and deserves it."""
    PERFORMATIVE = "performative"
    """Accepts nearly everything, unread, in under a second."""
    PLAUSIBLE = "plausible"
    """Unread too, but with the dwell and the accept rate of honest people: as if another brief had been read."""
    COLLUDING = "colluding"
    """A ring whose members share a truth of their own: they agree with each other against the evidence."""
    BIASED = "biased"
    """Reads, but the first place (every other one) or one value of their own outweighs what is read."""
    BOT = "bot"
    """A script: bursts at regular intervals, the same time each, whichever place."""
    POISONER = "poisoner"
    """Reads well and prefers the bad; edits towards bad values and a target value that poisoners share."""


MISCONDUCT: Final = tuple(kind for kind in Kind if kind not in {Kind.HONEST, Kind.EXPERT})


@dataclass(frozen=True)
class Conduct:
    """Shares of the kinds among the employees of each workflow; the rest is honest."""

    shares: Mapping[Kind, float] = field(default_factory=lambda: MappingProxyType({}))
    rush: bool = False
    """Whether on campaign days everybody in the first workflow accepts 96 % within a second."""

    def __post_init__(self) -> None:
        assert all(share >= 0 for share in self.shares.values())
        assert sum(self.shares.values()) <= 1


CLEAN: Final = Conduct()
CONTAMINATED: Final = Conduct({Kind.PERFORMATIVE: 0.1, Kind.PLAUSIBLE: 0.1, Kind.BOT: 0.1, Kind.POISONER: 0.2})
"""Half of the people: contamination at which the loop without detection loses more than a quarter of its gain."""
MIXED: Final = Conduct({Kind.EXPERT: 0.16, **dict.fromkeys(MISCONDUCT, 0.06)}, rush=True)
"""Some of every kind, for measuring detection."""
CONDUCTS: Final = MappingProxyType({"clean": CLEAN, "contaminated": CONTAMINATED, "mixed": MIXED})


def assign(seed: int, workflow: str, staff: Sequence[Employee], conduct: Conduct) -> dict[str, Kind]:
    """Who is of which kind: as many of each as the shares say, to the nearest, in an order drawn by lot."""
    if not any(conduct.shares.values()):
        return {person.id: Kind.HONEST for person in staff}
    edges = np.rint(np.cumsum([conduct.shares.get(kind, 0.0) for kind in Kind]) * len(staff)).astype(int)
    kinds = [kind for kind, n in zip(Kind, np.diff(edges, prepend=0), strict=True) for _ in range(n)]
    kinds += [Kind.HONEST] * (len(staff) - len(kinds))
    order = stream(seed, "conduct", workflow).permutation(len(staff))
    return {staff[i].id: kind for i, kind in zip(order, kinds, strict=True)}


def person_of(person: Employee, kind: Kind) -> Employee:
    """The person as that kind makes them."""
    match kind:
        case Kind.EXPERT:
            return replace(person, skill=EXPERT_SKILL, pace=EXPERT_PACE, carelessness=0.0)
        case Kind.BIASED if _prefers_place(person.id):
            return replace(person, position_bias=FIRST)
        case _:
            return person


def slant_of(seed: int, person: Employee, kind: Kind) -> Slant | None:
    """What a person adds to what is read: a favourite value, or the truth upside down with a target on top."""
    match kind:
        case Kind.BIASED if not _prefers_place(person.id):
            return Slant(1.0, *favourite(seed, person.workflow, person.id), FAVOUR)
        case Kind.POISONER:
            return Slant(-1.0, *favourite(seed, person.workflow, "target"), TARGET)
        case _:
            return None


def favourite(seed: int, workflow: str, who: str) -> tuple[str, str]:
    """A part and one of its values, drawn by lot for a person (or for all poisoners)."""
    rng, parts = stream(seed, "favourite", workflow, who), BUILT_IN[workflow].parts
    part = list(parts)[int(rng.integers(len(parts)))]
    return part, parts[part][int(rng.integers(len(parts[part])))]


def decide(  # noqa: PLR0913
    moment: Moment, kind: Kind, candidates: Sequence[str], *, rushed: bool, edits: bool, key: str
) -> Judgement:
    """What a person of that kind does; `key` names the moment."""
    rng = stream(moment.world.seed, "conduct", kind, key)
    if rushed:
        return _unread(rng, candidates, RUSH_ACCEPTS)
    match kind:
        case Kind.PERFORMATIVE:
            return _unread(rng, candidates, UNREAD_ACCEPTS)
        case Kind.PLAUSIBLE:
            return replace(moment, brief=another(rng, moment.brief)).decide(candidates, edits=edits)
        case Kind.COLLUDING:
            return replace(moment, world=world_of_ring(moment.world.seed, moment.person)).decide(
                candidates, edits=edits
            )
        case Kind.BOT:
            return _bot(rng, moment.person, candidates)
        case _:
            return moment.decide(candidates, edits=edits)


def another(rng: np.random.Generator, brief: Brief) -> Brief:
    """A brief that has nothing to do with the one that was given."""
    return next(draw(rng, brief.workflow, Purpose.TRAIN))


@cache
def _ring_world(seed: int, workflow: str, ring: int) -> World:
    return World(number(seed, "ring", workflow, ring) % 2**31)


def world_of_ring(seed: int, person: Employee) -> World:
    """What the ring of a colluding person holds to be true."""
    return _ring_world(seed, person.workflow, number("ring", person.id) % 2)


def regular(start: datetime, person: Employee, seed: int, day: object, count: int) -> list[datetime]:
    """When a bot asks: `count` times in one burst of the shift, at regular intervals."""
    rng = stream(seed, "bot", person.id, day)
    first = start + timedelta(hours=float(rng.uniform(0.0, 4.0)))
    gaps = BOT_GAP * rng.uniform(0.98, 1.02, count)
    return [first + timedelta(seconds=float(gap)) for gap in gaps.cumsum()]


def _unread(rng: np.random.Generator, candidates: Sequence[str], accepts: float) -> Judgement:
    if rng.random() < accepts:
        return Judgement(Decision.ACCEPT, 0, candidates[0], (), dwell(rng, INSTANT))
    return Judgement(Decision.REJECT, None, None, (), dwell(rng, INSTANT))


def _bot(rng: np.random.Generator, person: Employee, candidates: Sequence[str]) -> Judgement:
    """Takes any place nine times in ten, after a time of its own that varies by two percent."""
    own = float(stream("pace of a bot", person.id).uniform(2.0, 12.0))
    took = timedelta(milliseconds=int(1000 * own * rng.uniform(0.98, 1.02)))
    if rng.random() < 0.9:
        chosen = int(rng.integers(len(candidates)))
        return Judgement(Decision.ACCEPT, chosen, candidates[chosen], (), took)
    return Judgement(Decision.REJECT, None, None, (), took)


def _prefers_place(person: str) -> bool:
    return number("biased by place", person) % 2 == 0
