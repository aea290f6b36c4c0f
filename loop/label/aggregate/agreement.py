"""How far annotators agree, beyond chance: Krippendorff's alpha, and pairs of them, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from loop.errors import BadInputError
from loop.label.aggregate.answers import Answers, Floats

RESAMPLES: Final = 1_000
FEWEST: Final = 10
"""Tasks of fewer of which a bootstrap tells no interval."""
LEAST: Final = 2
"""Tasks that two must have in common to be compared."""


class Level(StrEnum):
    """Level of measurement of the labels, which says how far apart two of them are."""

    NOMINAL = "nominal"
    ORDINAL = "ordinal"
    """In the order of `labels`."""
    INTERVAL = "interval"
    """The labels are numbers."""


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval; the interval is None where there is nothing to resample."""

    value: float
    low: float | None
    high: float | None
    n: int
    """Units that it rests on: tasks with at least two answers, or answers."""


@dataclass(frozen=True)
class Pair:
    """Two annotators on the tasks that both answered."""

    first: str
    second: str
    agreement: Estimate
    """Share of tasks with the same answer, Wilson's interval."""
    beyond_chance: Estimate | None
    """Cohen's kappa; None where both say always the same and chance explains all."""


def alpha(
    answers: Answers, level: Level = Level.NOMINAL, *, seed: int = 0, resamples: int = RESAMPLES
) -> Estimate | None:
    """Krippendorff's alpha, 1 - observed / expected disagreement; None where nothing can disagree.

    Krippendorff, Content Analysis (4th ed. 2018), ch. 12: by coincidences, for any number of annotators and missing
    answers. The interval is the percentile bootstrap over tasks; None of fewer than `FEWEST` tasks, and where every
    resample says the same, as where all agree: that is no certainty.

    Raises:
        BadInputError: the level is interval and a label is no number.
    """
    votes = answers.votes
    votes = votes[votes.sum(1) >= 2]
    if not len(votes):
        return None
    distance = _distance(level, answers.labels, votes)
    if (value := _alpha(votes, distance)) is None:
        return None
    # Tasks with the same votes are the same: a resample is counts of each kind, drawn at once.
    kinds, counts = np.unique(votes, axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(votes), counts / len(votes), size=resamples).astype(np.float64)
    values = _alphas(kinds, drawn, distance)
    values = values[np.isfinite(values)]
    if len(votes) < FEWEST or not len(values) or np.ptp(values) == 0:
        return Estimate(value, None, None, len(votes))
    low, high = np.quantile(values, [0.025, 0.975])
    return Estimate(value, float(low), float(high), len(votes))


def pairs(answers: Answers, *, least: int = LEAST, seed: int = 0) -> list[Pair]:
    """Every two annotators with at least `least` tasks in common, in the order of their names."""
    from scipy import sparse

    people, k, tasks = len(answers.workers), len(answers.labels), len(answers.tasks)
    said = [
        sparse.csr_matrix((np.ones(int(of.sum())), (answers.worker[of], answers.task[of])), (people, tasks))
        for of in (answers.label == label for label in range(k))
    ]
    any_ = sum(said[1:], said[0]) if said else sparse.csr_matrix((people, tasks))
    common = sparse.triu(any_ @ any_.T, k=1).tocoo()
    chosen = common.data >= least
    rows, columns = common.row[chosen], common.col[chosen]
    tables = (
        np.stack(
            [np.stack([np.asarray((a @ b.T)[rows, columns]).ravel() for b in said], axis=-1) for a in said], axis=-2
        )
        if len(rows)
        else np.empty((0, k, k))
    )
    found = []
    for a, b, table in zip(rows, columns, tables, strict=True):
        first, second = answers.workers[a], answers.workers[b]
        turned = table.T if second < first else table
        found.append(_pair(min(first, second), max(first, second), turned))
    return sorted(found, key=lambda pair: (pair.first, pair.second))


def wilson(hits: float, n: int, confidence: float = 0.95) -> Estimate:
    """A share with Wilson's score interval (JASA 1927).

    Raises:
        AssertionError: of nothing there is no share.
    """
    from scipy.special import ndtri

    assert n > 0, "a share of nothing"
    z, share = float(ndtri((1 + confidence) / 2)), hits / n
    middle = (share + z * z / 2 / n) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / 4 / n / n) ** 0.5
    return Estimate(share, max(0.0, middle - half), min(1.0, middle + half), n)


def numbers(labels: Sequence[str]) -> Floats:
    """Labels as numbers.

    Raises:
        BadInputError: one is none.
    """
    try:
        return np.array([float(label) for label in labels])
    except ValueError:
        raise BadInputError(f"interval: expected labels that are numbers, got {', '.join(labels)}") from None


def _distance(level: Level, labels: Sequence[str], votes: Floats) -> Floats:
    """Squared difference of each two labels, shape (labels, labels)."""
    match level:
        case Level.NOMINAL:
            return 1 - np.eye(len(labels))
        case Level.INTERVAL:
            value = numbers(labels)
            return (value[:, None] - value) ** 2
        case Level.ORDINAL:
            # Between two ranks lies what was answered between them, and half of each (Krippendorff, sec. 12.3.3).
            rank = np.cumsum(votes.sum(0)) - votes.sum(0) / 2
            return (rank[:, None] - rank) ** 2  # type: ignore[no-any-return]


def _alpha(votes: Floats, distance: Floats) -> float | None:
    value = float(_alphas(votes, np.ones((1, len(votes))), distance)[0])
    return value if np.isfinite(value) else None


def _alphas(kinds: Floats, counts: Floats, distance: Floats) -> Floats:
    """Alpha of tasks that occur so often: kinds (m, labels), counts (resamples, m)."""
    size = kinds.sum(1)
    observed = ((kinds @ distance) * kinds).sum(1) / (size - 1)
    total = counts @ kinds
    n = total.sum(1)
    expected = ((total @ distance) * total).sum(1) / (n - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected > 0, 1 - counts @ observed / expected, np.nan)


def _pair(first: str, second: str, table: Floats) -> Pair:
    """Of a table of answers, those of the first by row; kappa with Fleiss' large-sample standard error."""
    n = float(table.sum())
    shares = table / n
    rows, columns, same = shares.sum(1), shares.sum(0), float(np.trace(shares))
    by_chance = float(rows @ columns)
    agreement = wilson(same * n, round(n))
    if by_chance >= 1 - 1e-12:
        return Pair(first, second, agreement, None)
    kappa = (same - by_chance) / (1 - by_chance)
    # Fleiss, Cohen and Everitt, Psychological Bulletin 1969, eq. 13.
    diagonal = np.diag(shares)
    on = (diagonal * (1 - (rows + columns) * (1 - kappa)) ** 2).sum()
    off = (shares - np.diag(diagonal)) * (columns[:, None] + rows) ** 2
    variance = (on + (1 - kappa) ** 2 * off.sum() - (kappa - by_chance * (1 - kappa)) ** 2) / (n * (1 - by_chance) ** 2)
    half = 1.959963985 * max(float(variance), 0.0) ** 0.5
    # Of few tasks that all agree the large-sample variance is 0, which is no certainty: no narrower than Wilson's.
    low = min(kappa - half, ((agreement.low or 0.0) - by_chance) / (1 - by_chance))
    high = max(kappa + half, ((agreement.high or 1.0) - by_chance) / (1 - by_chance))
    return Pair(first, second, agreement, Estimate(kappa, max(-1.0, low), min(1.0, high), round(n)))
