"""The detector that knows the simulator: the posterior of misconduct given the truth about everything but who is who.

It knows the world, how each kind of person reads, decides, errs and takes time, and the shares of the kinds. What it
does not know it integrates out by simulation: of every decision, how often a person of each kind, drawn anew, with
errors of reading drawn anew, would have done exactly that. What people of a ring hold to be true, and a biased
person's favourite value, are integrated out over the person's decisions as a whole; strictness and skill over each
decision alone, so that what a person's decisions say of these together is left unused. No detector that sees only the
logs should do better, but for that and for the noise of the simulation. It is a measure, and nothing the loop may use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

import numpy as np
from scipy.special import logsumexp

from loop.simulate import conduct as conducts
from loop.simulate import people
from loop.simulate.conduct import Kind
from loop.simulate.organisation import Event, Organisation
from loop.simulate.prompts import Brief
from loop.simulate.streams import stream
from loop.simulate.world import PLEASING, Reals, World
from loop.workflows import BUILT_IN

DRAWS: Final = 256
"""People and moments drawn for each decision and kind."""
WORLDS: Final = 12
"""Truths drawn for a ring."""
BRIEFS: Final = 24
"""Briefs drawn that somebody may have read instead."""
DWELL: Final = 0.4
"""Standard deviation of the log of a time (`people.dwell`)."""


@dataclass(frozen=True)
class Draws:
    """People drawn as `people.hire` does, in moments drawn as the organisation does; one entry a draw."""

    strictness: Reals
    error: Reals
    position_bias: Reals
    one_repair: np.ndarray
    careless: Reals
    """Probability of taking the first place unread."""


def posteriors(
    organisation: Organisation, events: Sequence[Event], after: Sequence[int]
) -> dict[int, dict[str, float]]:
    """Probability, for each employee with a decision among `events`, that they are of a kind of misconduct.

    Args:
        after: numbers of a person's first decisions; each gives a set of probabilities.
    """
    by_person: dict[str, list[Event]] = {}
    for event in events:
        if event["decision"] != "ignore":
            by_person.setdefault(event["employee"], []).append(event)
    shares = {kind: organisation.conduct.shares.get(kind, 0.0) for kind in Kind}
    shares[Kind.HONEST] = 1.0 - sum(shares.values())
    found: dict[int, dict[str, float]] = {n: {} for n in after}
    for person, mine in by_person.items():
        likelihoods = _Person.of(organisation, sorted(mine, key=lambda e: str(e["shown_at"]))[: max(after)])
        for n in after:
            odds = {kind: np.log(shares[kind]) + log for kind, log in likelihoods.after(n).items() if shares[kind] > 0}
            total = logsumexp(list(odds.values()))
            found[n][person] = float(sum(np.exp(odds[k] - total) for k in odds if k in conducts.MISCONDUCT))
    return found


@dataclass(frozen=True)
class _Person:
    """Log-likelihoods of one person's decisions, in order, one a decision, under each way to read and to be."""

    events: Sequence[Event]
    moments: Sequence[_Moment]
    plain: Mapping[Kind, Reals]
    rings: Sequence[Reals]
    favourites: Sequence[Reals]
    first: Reals

    @classmethod
    def of(cls, organisation: Organisation, events: Sequence[Event]) -> _Person:
        world, workflow = organisation.world, events[0]["workflow"]
        moments = [_Moment.of(organisation, event) for event in events]
        rng = stream(organisation.seed, "optimal", events[0]["employee"])
        draws = _draws(rng)
        noise = {part: rng.normal(size=(DRAWS, len(v))) for part, v in BUILT_IN[workflow].parts.items()}

        def reads(truth: World, *, pace: float = 1.0, draws: Draws = draws, **slant: Any) -> Reals:
            gains = (truth.gains(workflow, m.brief.attributes) for m in moments)
            return np.array(
                [m.read(g, truth, draws, noise, pace, **slant) for m, g in zip(moments, gains, strict=True)]
            )

        others = [world.gains(workflow, conducts.another(rng, moments[0].brief).attributes) for _ in range(BRIEFS)]
        unrelated = [logsumexp([m.read(g, world, draws, noise, 1.0) for g in others]) - np.log(BRIEFS) for m in moments]
        expert = replace(draws, error=draws.error / conducts.EXPERT_SKILL, careless=0.0 * draws.careless)
        target = conducts.favourite(organisation.seed, workflow, "target")
        listed = BUILT_IN[workflow].parts.items()
        return cls(
            events,
            moments,
            {
                Kind.HONEST: reads(world),
                Kind.EXPERT: reads(world, pace=conducts.EXPERT_PACE, draws=expert),
                Kind.PERFORMATIVE: np.array([m.unread(conducts.UNREAD_ACCEPTS) for m in moments]),
                Kind.PLAUSIBLE: np.array(unrelated),
                Kind.POISONER: reads(world, sign=-1.0, part=target[0], value=target[1], favour=conducts.TARGET),
            },
            [reads(World(int(rng.integers(2**31)))) for _ in range(WORLDS)],
            [reads(world, part=part, value=v, favour=conducts.FAVOUR) for part, values in listed for v in values],
            reads(world, draws=replace(draws, position_bias=np.full(DRAWS, conducts.FIRST))),
        )

    def after(self, n: int) -> dict[Kind, float]:
        """Log-likelihood of the first `n` decisions under each kind."""
        human = _human_gaps(self.events[:n])
        found = {kind: float(logs[:n].sum()) + human for kind, logs in self.plain.items()}
        ring = [logs[:n].sum() for logs in self.rings]
        value = logsumexp([logs[:n].sum() for logs in self.favourites]) - np.log(len(self.favourites))
        found[Kind.COLLUDING] = float(logsumexp(ring) - np.log(len(ring))) + human
        found[Kind.BIASED] = float(np.logaddexp(self.first[:n].sum(), value) - np.log(2)) + human
        found[Kind.BOT] = _bot(self.moments[:n], self.events[:n])
        return found


@dataclass(frozen=True)
class _Moment:
    """One decision as the detector sees it."""

    brief: Brief
    texts: tuple[Mapping[str, str], ...]
    decision: str
    chosen: int | None
    edited: Mapping[str, str] | None
    seconds: float
    difficulty: float
    fatigue: float

    @classmethod
    def of(cls, organisation: Organisation, event: Event) -> _Moment:
        workflow = BUILT_IN[event["workflow"]]
        shown = datetime.fromisoformat(event["shown_at"])
        start = people.REGIONS[event["region"]]
        texts = tuple(workflow.parse(c["text"]) or {} for c in event["candidates"])
        assert all(set(parts) == set(workflow.parts) for parts in texts), "only answers that parse are weighed"
        return cls(
            organisation.brief(event["workflow"], event["prompt"]),
            texts,
            event["decision"],
            event["chosen"],
            workflow.parse(event["final_text"]) if event["decision"] == "modify" else None,
            max(event["dwell_ms"], 1) / 1000.0,
            organisation.day(shown.date()).difficulty,
            (shown.hour + shown.minute / 60 - start) / (people.SHIFT.total_seconds() / 3600),
        )

    def read(  # noqa: PLR0913
        self,
        gains: Mapping[str, Reals],
        world: World,
        draws: Draws,
        noise: Mapping[str, Reals],
        pace: float,
        *,
        sign: float = 1.0,
        part: str = "",
        value: str = "",
        favour: float = 0.0,
    ) -> float:
        """Log of how likely somebody who reads does this, in this time."""
        house = BUILT_IN[self.brief.workflow].parts
        error = (draws.error * self.difficulty)[:, None]
        seen = {p: sign * row + error * noise[p] for p, row in gains.items()}
        pleasing, pleases = PLEASING[self.brief.workflow]
        seen[pleasing][:, house[pleasing].index(pleases)] += people.PLEASURE
        if part:
            seen[part][:, house[part].index(value)] += favour
        looks = np.stack([sum(seen[p][:, house[p].index(v)] for p, v in parts.items()) for parts in self.texts], axis=1)
        looks[:, 0] += draws.position_bias
        best = looks.argmax(axis=1)
        top = looks[np.arange(DRAWS), best]
        accepted = top >= draws.strictness
        careless = np.mean(np.minimum(draws.careless * (1.0 + self.fatigue), 1.0))
        reading = 5.0 + 2.0 * len(self.texts)
        took = self._time(pace * reading)
        if self.decision == "accept":
            as_read = np.mean(accepted & (best == self.chosen)) * np.exp(took)
            return float(
                np.log((1 - careless) * as_read + careless * (self.chosen == 0) * np.exp(self._time(1.0)) + 1e-6)
            )
        editable = ~accepted & (top >= draws.strictness - people.EDITABLE)
        if self.decision == "reject":
            return float(np.log((1 - careless) * np.mean(~accepted & ~editable) + 1e-4) + took)
        matching = self._edits(seen, editable & (best == self.chosen), draws, world)
        n = (
            sum(self.edited[p] != self.texts[self.chosen][p] for p in house)
            if self.edited and self.chosen is not None
            else 0
        )
        return float(np.log((1 - careless) * np.mean(matching) + 0.2 / DRAWS) + self._time(pace * (reading + 8.0 * n)))

    def _edits(self, seen: Mapping[str, Reals], where: np.ndarray, draws: Draws, world: World) -> np.ndarray:
        """Which draws edit just so: the worst faults first, as many as the person repairs, each to what looks best."""
        assert self.chosen is not None
        assert self.edited is not None
        parts, house = self.texts[self.chosen], BUILT_IN[self.brief.workflow].parts
        names = list(parts)
        loss = np.stack([seen[p].max(axis=1) - seen[p][:, house[p].index(parts[p])] for p in names], axis=1)
        changed = np.array([self.edited[p] != parts[p] for p in names])
        agrees = np.stack([seen[p].argmax(axis=1) == house[p].index(self.edited[p]) for p in names], axis=1)
        order = np.argsort(-loss, axis=1)
        rank = np.argsort(order, axis=1)
        repairs = np.where(draws.one_repair, 1, 2)
        repaired = (rank < repairs[:, None]) & (loss > 0)
        return np.asarray(where & (repaired == changed).all(axis=1) & (agrees | ~changed).all(axis=1))

    def _time(self, seconds: float) -> float:
        """Log-density of the log of the time."""
        return float(-0.5 * (np.log(self.seconds / seconds) / DWELL) ** 2 - np.log(DWELL * np.sqrt(2 * np.pi)))

    def unread(self, accepts: float) -> float:
        """Log of how likely the performative do this."""
        if self.decision == "modify":
            return -30.0
        kept = np.log(accepts) if self.decision == "accept" and self.chosen == 0 else np.log((1 - accepts) * 0.999)
        kept = -30.0 if self.decision == "accept" and self.chosen != 0 else kept
        return float(kept + self._time(conducts.INSTANT))


def _draws(rng: np.random.Generator) -> Draws:
    skill = np.clip(rng.normal(1.0, 0.2, DRAWS), 0.5, 1.5)
    tired = 1.0 + rng.uniform(0.1, 0.6, DRAWS) * rng.random(DRAWS)
    return Draws(
        rng.normal(0.35, 0.12, DRAWS),
        people.READING / skill * tired,
        rng.uniform(0.0, 0.15, DRAWS),
        rng.random(DRAWS) < rng.uniform(0.3, 0.7, DRAWS),
        rng.uniform(0.0, 0.08, DRAWS),
    )


def _gaps(events: Sequence[Event]) -> Reals:
    """Hours between the person's suggestions, within a day."""
    times = [datetime.fromisoformat(event["shown_at"]) for event in events]
    pairs = pairwise(times)
    return np.array([max((b - a).total_seconds(), 1e-3) / 3600 for a, b in pairs if a.date() == b.date()])


def _human_gaps(events: Sequence[Event]) -> float:
    """Log-density of moments drawn evenly over a shift, as exponential gaps of a rate of their mean."""
    gaps = _gaps(events)
    return float(-len(gaps) * np.log(gaps.mean()) - len(gaps)) if len(gaps) else 0.0


def _bot(moments: Sequence[_Moment], events: Sequence[Event]) -> float:
    """Log-likelihood of a script: equal intervals, equal times, any place."""
    gaps = _gaps(events) * 3600
    on_time = np.abs(gaps / conducts.BOT_GAP - 1.0) < 0.021
    width = np.log(3600 / (0.04 * conducts.BOT_GAP))
    seconds = np.array([m.seconds for m in moments])
    equal = seconds.max() / seconds.min() < 1.045
    if not on_time.all() or not equal or any(m.decision == "modify" for m in moments):
        return -200.0
    accepts = [np.log(0.9 / len(m.texts)) if m.decision == "accept" else np.log(0.1) for m in moments]
    return float(sum(accepts) + len(gaps) * width + len(moments) * np.log(1 / 0.04) + np.log(0.04 / np.log(6.0)))
