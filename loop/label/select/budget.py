"""Which of the scored questions are asked under a budget, and with which probability.

Part of the budget is informed: the highest scores, for one reason after the other. The rest explores: a simple random
sample of all that is left. Whoever was taken for a reason was sure to be (propensity 1), of the others each was as
likely as any (propensity sample / left), and so sums over what was asked, each weighted by 1 / propensity, estimate
sums over all questions without bias (Horvitz and Thompson 1952, JASA 47:663): a stratum that is asked in full beside
one that is sampled. That holds given what was taken for a reason, whatever made it look informative. Who stands for
its near-duplicates, who goes first of those with one score, and who explores, are therefore matters of three hashes: of
whoever a draw brought this far, the same draw says nothing new.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loop.label.select.words import Hashes, Ints, mixed

Reals = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Reason(StrEnum):
    """Why a question is asked."""

    RANDOM = "random"
    DISAGREEMENT = "disagreement"
    """Members of the committee of scorers disagree on it."""
    CONFLICT = "conflict"
    """The decision is not to be believed as it stands: its signal is weak, or the committee holds the opposite."""
    NOVELTY = "novelty"
    """Its words were not asked about before."""
    RISK = "risk"
    """A cue of harm in it, or a house rule that is broken."""
    SLICE = "slice"
    """The benchmark has nothing like its prompt."""


SHARES: Final[Mapping[str, Mapping[Reason, float]]] = {
    "random": {},
    **{reason.value: {reason: 1.0} for reason in Reason if reason is not Reason.RANDOM},
    "mixed": {
        Reason.DISAGREEMENT: 0.4,
        Reason.CONFLICT: 0.2,
        Reason.RISK: 0.2,
        Reason.NOVELTY: 0.1,
        Reason.SLICE: 0.1,
    },
}
"""Value of the setting `acquisition` to the shares of what is not explored."""


_TIES: Final = np.uint64(0x8CB92BA72F3D8DD7)


@dataclass(frozen=True)
class Taken:
    """The questions that are asked, by place; one entry a question."""

    place: Ints
    reason: list[Reason]
    propensity: Reals


def choose(  # noqa: PLR0913 - one argument a fact
    draw: Hashes,
    scores: Mapping[Reason, Reals],
    *,
    budget: int,
    acquisition: str,
    exploration: float,
    informed: Flags | None = None,
    salt: int = 0,
) -> Taken:
    """Which questions are asked.

    Args:
        draw: a random number for each question, that names it; whatever else it decided, exploring takes another hash.
        scores: by reason, higher the sooner; nan where it was not measured, 0 or less where there is no such reason.
        budget: most questions.
        exploration: share of the budget that is drawn at random; what reasons leave over is, too.
        informed: questions that may be taken for a reason; all by default.
        salt: of the hash by which is explored, 64 bits; another one for each selection from the same questions, or
            those left over would be known by their draws.
    """
    n = len(draw)
    free = np.ones(n, bool) if informed is None else informed.copy()
    wanted = min(budget, n)
    most = wanted - min(wanted, int(np.ceil(exploration * wanted))) if SHARES[acquisition] else 0
    places: list[Ints] = []
    reasons: list[Reason] = []
    shares = SHARES[acquisition]
    quotas = dict(zip(shares, np.diff(np.rint(np.cumsum([0.0, *shares.values()]) * most).astype(int)), strict=True))
    for reason, quota in quotas.items():
        score = np.where(free & np.isfinite(scores[reason]) & (scores[reason] > 0), scores[reason], -np.inf)
        best = np.lexsort((mixed(draw ^ _TIES), -score))[:quota]
        best = best[np.isfinite(score[best])]
        free[best] = False
        places.append(best)
        reasons += [reason] * len(best)
    sure = np.concatenate([np.zeros(0, np.int64), *places]).astype(np.int64)
    left = np.ones(n, bool)
    left[sure] = False
    rest = np.flatnonzero(left)
    drawn = rest[np.argsort(mixed(draw[rest] ^ np.uint64(salt)), kind="stable")[: wanted - len(sure)]]
    chance = len(drawn) / len(rest) if len(rest) else 0.0
    propensity = np.concatenate([np.ones(len(sure)), np.full(len(drawn), chance)])
    return Taken(np.concatenate([sure, drawn]), reasons + [Reason.RANDOM] * len(drawn), propensity)


def total(values: Reals, propensity: Reals) -> tuple[float, float]:
    """Sum over all questions, estimated from those asked, and its standard error.

    Horvitz and Thompson's estimator; the variance is that of a simple random sample within the questions of one
    propensity (Cochran 1977, Sampling Techniques, sections 2.6 and 5.3).

    Args:
        values: of the questions asked, all of them that a selection took.
        propensity: as recorded.

    Raises:
        ValueError: a propensity is not a probability above 0.
    """
    if not np.all((propensity > 0) & (propensity <= 1)):
        raise ValueError(
            "propensity: expected probabilities above 0, as choose() gives them; leave out what nobody drew"
        )
    variance = 0.0
    for chance in np.unique(propensity[propensity < 1]):
        mine = values[propensity == chance]
        if len(mine) < 2:
            return float(np.sum(values / propensity)), float("nan")
        variance += len(mine) / chance**2 * (1.0 - chance) * float(mine.var(ddof=1))
    return float(np.sum(values / propensity)), float(np.sqrt(variance))
