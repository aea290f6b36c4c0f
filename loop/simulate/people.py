"""Who works in the simulated organisation, and how they decide on what they are shown.

One model of perception serves every decision (Thurstone 1927): a person reads the true fit of each value in a brief
with an error that is smaller for the skilled and larger when tired or when the work is hard, and finds one value per
workflow more pleasing than it is. Candidates are compared, faults are seen and edits are made through the same eyes,
so that people are right more often than not and wrong in the same ways everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Final

import numpy as np

from loop.schema import Decision
from loop.simulate.prompts import Brief
from loop.simulate.streams import stream
from loop.simulate.world import PLEASING, Reals, World
from loop.workflows import BUILT_IN, Parts

READING: Final = 0.15
"""Error of a person of skill 1, fresh, on an easy day, in reading one cell of the fit; utility units."""
PLEASURE: Final = 0.12
"""How much better than it is the pleasing value looks; utility units."""
TIE: Final = 0.06
"""Two answers that look closer than this are a tie to the panel; utility units."""
HOPELESS: Final = -0.45
"""The panel takes neither answer when both look worse than this; utility units."""
EDITABLE: Final = 0.5
"""An answer that looks worse than one's standard by more than this is not worth editing; utility units."""

REGIONS: Final = {"apac": 0, "emea": 7, "amer": 14}
"""Region to the hour (UTC) at which its shift begins; a shift lasts seven hours."""
SHIFT: Final = timedelta(hours=7)


@dataclass(frozen=True)
class Employee:
    """One person. Rates and shares are from 0 to 1."""

    id: str
    workflow: str
    team: str
    region: str
    strictness: float
    """How good an answer must look to be accepted as it is; utility units."""
    skill: float
    """The error of reading is divided by it; around 1."""
    tiring: float
    """How much of a shift's work tires: the error grows by this share until the shift's end."""
    position_bias: float
    """How much better what stands first looks; utility units."""
    anchoring: float
    """How much of what is shown stays: the chance that one repair is enough."""
    carelessness: float
    """Chance of taking what stands first without reading."""
    absence: float
    """Chance of not answering a suggestion at all."""
    pace: float = 1.0
    """Factor on the time that reading takes."""

    def __post_init__(self) -> None:
        assert self.skill > 0
        assert self.pace > 0
        assert 0 <= self.carelessness + self.absence <= 1


@dataclass(frozen=True)
class Circumstances:
    """In what state a suggestion finds a person."""

    fatigue: float
    """Share of the day's work that is done, 0 to 1."""
    difficulty: float
    """Factor on the error of reading; 1 on an ordinary day."""
    haste: float
    """Added chance of thoughtless use, 0 to 1."""


@dataclass(frozen=True)
class Slant:
    """What somebody adds to what is read; see `conduct`."""

    sign: float
    """-1: what is bad looks good."""
    part: str
    value: str
    favour: float
    """How much better than it is `value` looks; utility units."""


@dataclass(frozen=True)
class Judgement:
    """What a person did with the candidates of one suggestion."""

    decision: Decision
    chosen: int | None
    """Position of the candidate that was taken."""
    final_text: str | None
    reasons: tuple[str, ...]
    dwell: timedelta | None


def hire(seed: int, workflow: str, n: int, *, role: str = "e") -> list[Employee]:
    """`n` people for a workflow; `role` sets apart those who give training data ("e") and the panel ("p")."""
    people = []
    for i in range(n):
        rng = stream(seed, "person", role, workflow, i)
        region = list(REGIONS)[i % len(REGIONS)]
        people.append(
            Employee(
                id=f"{role}-{workflow}-{i:03d}",
                workflow=workflow,
                team=f"{workflow}-{region}",
                region=region,
                strictness=float(rng.normal(0.35, 0.12)),
                skill=float(np.clip(rng.normal(1.0, 0.2), 0.5, 1.5)),
                tiring=float(rng.uniform(0.1, 0.6)),
                position_bias=float(rng.uniform(0.0, 0.15)),
                anchoring=float(rng.uniform(0.3, 0.7)),
                carelessness=float(rng.uniform(0.0, 0.08)),
                absence=float(rng.uniform(0.05, 0.15)),
            )
        )
    return people


@dataclass(frozen=True)
class Moment:
    """One person before one brief, in a certain state; `rng` is the moment's own."""

    rng: np.random.Generator
    world: World
    brief: Brief
    person: Employee
    state: Circumstances
    slant: Slant | None = None

    @cached_property
    def seen(self) -> dict[str, Reals]:
        """The fit of every value of every part as the person sees it just now; utility units."""
        error = READING / self.person.skill * self.state.difficulty * (1 + self.person.tiring * self.state.fatigue)
        gains = self.world.gains(self.brief.workflow, self.brief.attributes)
        sign = 1.0 if self.slant is None else self.slant.sign
        seen = {part: sign * row + self.rng.normal(0, error, len(row)) for part, row in gains.items()}
        part, value = PLEASING[self.brief.workflow]
        seen[part][self._house[part].index(value)] += PLEASURE
        if self.slant is not None:
            seen[self.slant.part][self._house[self.slant.part].index(self.slant.value)] += self.slant.favour
        return seen

    def impression(self, parts: Parts | None) -> float:
        """How good an answer looks; utility units."""
        return sum(self._looks(part, parts or {}) for part in self.seen)

    def decide(self, candidates: Sequence[str], *, edits: bool = True) -> Judgement:
        """What the person does with candidates, given in the order in which they stand on the screen.

        Ignored at the person's rate; taken unread from the first place at the rate of carelessness and haste; else
        the candidate that looks best is taken as it is, edited or rejected by how it looks against the standard.
        """
        person, tired, rng = self.person, 1 + self.state.fatigue, self.rng
        if rng.random() < person.absence * tired:
            return Judgement(Decision.IGNORE, None, None, (), None)
        if rng.random() < person.carelessness * tired + self.state.haste:
            return Judgement(Decision.ACCEPT, 0, candidates[0], (), dwell(rng, 1.0))
        parsed = [BUILT_IN[self.brief.workflow].parse(text) for text in candidates]
        looks = [self.impression(parts) for parts in parsed]
        looks[0] += person.position_bias
        chosen = int(np.argmax(looks))
        reading = 5.0 + 2.0 * len(candidates)
        if looks[chosen] >= person.strictness:
            return Judgement(Decision.ACCEPT, chosen, candidates[chosen], (), dwell(rng, person.pace * reading))
        parts = parsed[chosen] or {}
        if edits and set(parts) == set(self.seen) and looks[chosen] >= person.strictness - EDITABLE:
            repaired = self._edited(parts, repairs=1 if rng.random() < person.anchoring else 2)
            if tags := tuple(part for part in parts if repaired[part] != parts[part]):
                text = BUILT_IN[self.brief.workflow].render(repaired)
                return Judgement(
                    Decision.MODIFY, chosen, text, tags, dwell(rng, person.pace * (reading + 8.0 * len(tags)))
                )
        return Judgement(Decision.REJECT, None, None, tuple(self._faults(parts)[:1]), dwell(rng, person.pace * reading))

    def reconsider(self, text: str) -> Judgement | None:
        """A second look at an answer that was accepted, with fresh eyes (another `rng`).

        Its worst fault is repaired if it now falls short of the person's standard; None if it stands.
        """
        parts = BUILT_IN[self.brief.workflow].parse(text) or {}
        if set(parts) != set(self.seen) or self.impression(parts) >= self.person.strictness:
            return None
        repaired = self._edited(parts, repairs=1)
        if not (tags := tuple(part for part in parts if repaired[part] != parts[part])):
            return None
        final = BUILT_IN[self.brief.workflow].render(repaired)
        return Judgement(Decision.MODIFY, None, final, tags, dwell(self.rng, 15.0))

    def compare(self, left: str, right: str) -> tuple[str, timedelta]:
        """Which of two answers the person prefers, `left`, `right`, `tie` or `neither`, and the time it took."""
        parse = BUILT_IN[self.brief.workflow].parse
        looks = [self.impression(parse(text)) for text in (left, right)]
        lead = looks[0] + self.person.position_bias - looks[1]
        time = dwell(self.rng, 9.0)
        if max(looks) < HOPELESS:
            return "neither", time
        if left == right or abs(lead) < TIE:
            return "tie", time
        return ("left" if lead > 0 else "right"), time

    def rewrite(self, text: str) -> str:
        """A better text, as the person sees it: the worst two faults repaired; one that does not parse is left."""
        parts = BUILT_IN[self.brief.workflow].parse(text) or {}
        if set(parts) != set(self.seen):
            return text
        return BUILT_IN[self.brief.workflow].render(self._edited(parts, repairs=2))

    @property
    def _house(self) -> Mapping[str, tuple[str, ...]]:
        return BUILT_IN[self.brief.workflow].parts

    def _looks(self, part: str, parts: Parts) -> float:
        """How a part of an answer looks; missing or off the house's list, as bad as any value does."""
        row, value = self.seen[part], parts.get(part)
        return float(row[self._house[part].index(value)] if value in self._house[part] else row.min())

    def _faults(self, parts: Parts) -> list[str]:
        """Parts that look improvable, the worst fault first."""
        loss = {part: float(row.max()) - self._looks(part, parts) for part, row in self.seen.items()}
        return sorted((part for part in loss if loss[part] > 0), key=lambda part: -loss[part])

    def _edited(self, parts: Parts, *, repairs: int) -> dict[str, str]:
        """The answer with its worst faults repaired as the person sees them, short of the best answer.

        A repair that would make the answer the best one is left undone, so that nobody writes it outright.
        """
        best, repaired = self.world.best(self.brief), dict(parts)
        for part in self._faults(parts)[:repairs]:
            value = self._house[part][int(self.seen[part].argmax())]
            if {**repaired, part: value} != best:
                repaired[part] = value
        return repaired


def dwell(rng: np.random.Generator, seconds: float) -> timedelta:
    """A log-normal time around `seconds`, at most two minutes."""
    return timedelta(milliseconds=int(1000 * min(seconds * rng.lognormal(0, 0.4), 120.0)))
