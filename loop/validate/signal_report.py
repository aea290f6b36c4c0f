"""What signals say of a workflow as a whole, as figures: places, hasty decisions, weights, and what these change.

Nothing here is about a person; what is told of few people is left out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from loop.privacy import GROUP
from loop.validate import signal_evidence as judging
from loop.validate import signal_peers
from loop.validate.signal import Signals
from loop.validate.signal_features import Reals
from loop.validate.signal_position import chooses

INSTANTS: Final = (0.3, 1.0, 2.0)
"""Seconds."""


@dataclass(frozen=True)
class Place:
    """One place on the screen, among suggestions of several different candidates of which one was taken."""

    place: int
    shown: int
    taken: int
    by_chance: float
    """How often it would have been taken if every place were alike."""
    examination: float
    """Propensity of being looked at, relative to the place most looked at, with the content held fixed."""


@dataclass(frozen=True)
class Report:
    """What there is to tell of a workflow's decisions."""

    decisions: int
    people: int
    places: tuple[Place, ...]
    instant: dict[str, float]
    """Share of the decisions with a known time that took less; `floor`: than anybody needs to read."""
    timed: int
    mean_weight: float
    distrusted: float
    """Share of the weights below 1/2."""
    reasons: dict[str, float]
    """Share of the decisions with that reason."""
    agreement: float | None
    """Cohen's kappa on items that several people met; None where there is none."""
    groups: tuple[str, ...]
    pairs: dict[str, dict[str, float]]
    """Pairs of a choice, plain and weighted: share in which the earlier place, the longer text, the more probable text
    is preferred, and the number of pairs that they are worth (Kish 1965)."""

    def told(self) -> dict[str, Any]:
        return asdict(self)


def report(found: Signals, preferences: pa.Table, plain: pa.Table) -> Report | None:
    """The figures, None of fewer than ten people.

    Args:
        preferences: derived from the same interactions with these signals; `plain`: without.
    """
    facts = found.facts
    if len(facts.employees) < GROUP:
        return None
    decided = facts.decided
    timed = decided & np.isfinite(facts.seconds)
    seconds = facts.seconds[timed]
    instant = {f"{limit} s": float((seconds < limit).mean()) for limit in INSTANTS if len(seconds)}
    if len(seconds):
        instant["floor"] = float((seconds < judging.floor(facts)[timed]).mean())
    reasons = Counter(r for row in np.flatnonzero(decided).tolist() for r in found.reasons[row])
    count = max(int(decided.sum()), 1)
    return Report(
        decisions=int(decided.sum()),
        people=len(np.unique(facts.employee[decided])),
        places=_places(found),
        instant=instant,
        timed=int(timed.sum()),
        mean_weight=float(found.weight[decided].mean()),
        distrusted=float((found.weight[decided] < 0.5).mean()),
        reasons={name: n / count for name, n in reasons.most_common()},
        agreement=signal_peers.kappa(facts, found.choices),
        groups=tuple(group.told() for group in found.groups),
        pairs={"plain": _pairs(plain), "weighted": _pairs(preferences)},
    )


def _places(found: Signals) -> tuple[Place, ...]:
    facts = found.facts
    rows = np.flatnonzero(chooses(facts))
    shown = facts.shown[rows]
    return tuple(
        Place(
            place=place,
            shown=int((shown > place).sum()),
            taken=int((facts.chosen[rows] == place).sum()),
            by_chance=float((1.0 / shown[shown > place]).sum()),
            examination=float(propensity),
        )
        for place, propensity in enumerate(found.choices.propensity)
        if (shown > place).any()
    )


def _pairs(preferences: pa.Table) -> dict[str, float]:
    rows = preferences.filter(pc.equal(preferences["kind"], "choice"))
    weight = rows["weight"].to_numpy()
    if not weight.any():
        return {"pairs": float(len(weight))}
    earlier = np.asarray(rows["chosen_position"].to_numpy() < rows["rejected_position"].to_numpy(), np.float64)
    lengths = [pc.utf8_length(rows[name]).to_numpy() for name in ("chosen", "rejected")]
    nats = [rows[f"{name}_logprob"].to_numpy() for name in ("chosen", "rejected")]
    return {
        "pairs": float(len(weight)),
        "worth": float(weight.sum() ** 2 / (weight**2).sum()),
        "earlier": float(np.average(earlier, weights=weight)),
        "longer": _above(lengths[0], lengths[1], weight),
        "more probable": _above(nats[0], nats[1], weight),
    }


def _above(one: Reals, other: Reals, weight: Reals) -> float:
    """Weighted share in which the one is the greater, ties left out; nan where all are."""
    known = np.isfinite(one) & np.isfinite(other) & (one != other)
    share = weight * known
    return float(np.average((one > other)[known], weights=weight[known])) if share.any() else float("nan")
