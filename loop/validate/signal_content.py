"""What people on the whole hold to be a good answer to a prompt, learned from the decisions themselves.

Agreement with peers, where hardly two people ever see the same item: a decision is judged by what the decisions of
*other* people on similar items say. The model is a logistic regression on pairs of a prompt's and an answer's token
(Bradley and Terry 1952, with features), of which whoever is judged has no part (cross-fitting by person), and whose
teachers count as far as they are trusted, in turns: learning from crowds (Raykar et al. 2010, JMLR 11:1297).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix, vstack
from scipy.special import expit

from loop.validate.signal_features import ANSWER_BUCKETS, CANDIDATES, PROMPT_BUCKETS, Facts, Ints, Reals

FOLDS: Final = 5
"""Nobody is judged by a model that their own decisions helped to make."""
MOST: Final = 12_000
"""Decisions that a model learns from, of whole people: what keeps its cost independent of history and of the volume."""
PAIRS: Final = 5_000_000
"""Pairs of a prompt's and an answer's word that it learns from at most. Short texts never come to it: of briefs, `MOST`
decisions have some four million."""
BRIEF: Final = 600
"""Pairs of a decision up to which its texts are short. Of longer ones it learns from fewer pairs, in proportion: most
of theirs are met once and teach nothing of others, and a fit takes the longer the more of them there are."""
RIDGE: Final = 8.0
"""Precision of the prior on a weight, whose mean is 0, in the first turn. In later ones each weight has its own
(automatic relevance determination, MacKay 1994; Tipping 2001): most pairs of words mean nothing."""
RARE: Final = 3
"""A pair of words that is met less often is left out: of free text that is most, and they tell nothing of others."""
LOOSEST, TIGHTEST = 0.3, 1000.0
STEPS: Final = 8
"""Newton steps at most, each by conjugate gradients."""
TOLERANCE: Final = 1e-3
_CHUNK: Final = 8_192

Buckets = NDArray[Any]


@dataclass(frozen=True)
class Examples:
    """Differences of features, each of which ought to be positive (or 1 rather than 0), by the row they came from."""

    features: csr_matrix
    """Over the pairs of buckets in `columns`."""
    columns: Ints
    label: Reals
    weight: Reals
    row: Ints
    absolute: Reals
    """1 where an answer was held against a standard rather than another answer: the intercept is theirs."""


@dataclass(frozen=True)
class Content:
    """One table of weights a fold, over prompt bucket x answer bucket."""

    weights: NDArray[np.float32]
    columns: Ints
    fits: tuple[tuple[Reals, Reals], ...]
    """Weights on `columns` (the intercept last) and the precision of their prior for the next turn, by fold."""

    def quality(self, facts: Facts, fold: Ints) -> tuple[Reals, Reals]:
        """How good each candidate (n by `CANDIDATES`) and each edited text (n) is held to be, in logits.

        0 where there is no such text.
        """
        quality = np.zeros((len(facts), CANDIDATES))
        final = np.zeros(len(facts))
        for start in range(0, len(facts), _CHUNK):
            part = slice(start, start + _CHUNK)
            prompt = _trimmed(facts.prompt[part], front=False)
            for i in range(min(CANDIDATES, int(facts.shown[part].max(initial=0)))):
                quality[part, i] = self._sums(prompt, _trimmed(facts.answers[part, i], front=True), fold[part])
            edited = np.flatnonzero(facts.modified[part])
            if len(edited):
                texts = _trimmed(facts.final[part][edited], front=True)
                final[start + edited] = self._sums(prompt[edited], texts, fold[part][edited])
        return quality, final

    def _sums(self, prompt: Buckets, answer: Buckets, fold: Ints) -> Reals:
        at = (prompt[:, :, None].astype(np.int32) * ANSWER_BUCKETS + answer[:, None, :]).reshape(len(prompt), -1)
        at += (fold * (PROMPT_BUCKETS * ANSWER_BUCKETS))[:, None].astype(np.int32)
        return np.asarray(self.weights.reshape(-1)[at].sum(axis=1), np.float64)


def folds(facts: Facts) -> Ints:
    """The fold of each row's person: by hash, the same every day."""
    of_person = np.array([zlib.crc32(name.encode()) % FOLDS for name in facts.employees] or [0], np.int64)
    return np.asarray(of_person[facts.employee], np.int64)


def sample(facts: Facts) -> Facts:
    """All decisions of as many people, drawn by hash, as make `MOST` or `PAIRS`; everything where there are no more."""
    pairs = (facts.prompt > 0).sum(axis=1) * (facts.answers > 0).sum(axis=(1, 2))
    share = facts.decided * np.maximum(1.0 / MOST, pairs * np.maximum(1.0, pairs / BRIEF) / PAIRS)
    count = np.bincount(facts.employee, share, len(facts.employees))
    if count.sum() <= 1.0:
        return facts
    order = np.argsort([zlib.crc32(f"sample {name}".encode()) for name in facts.employees], kind="stable")
    enough = int(np.searchsorted(count[order].cumsum(), 1.0)) + 1
    drawn = np.zeros(len(facts.employees), bool)
    drawn[order[:enough]] = True
    return facts.take(np.flatnonzero(drawn[facts.employee]))


def examples(facts: Facts) -> Examples:
    """What decisions say: the taken over the others, the edited over the taken, and what stood up."""
    rows = np.flatnonzero(facts.decided & (facts.shown > 0))
    took = rows[(facts.chosen[rows] >= 0) & (facts.chosen[rows] < CANDIDATES)]
    taken = facts.answers[took, facts.chosen[took]]
    parts: list[tuple[Ints, Buckets, Buckets, float | Reals, float, float]] = []
    for i in range(CANDIDATES):
        other = (facts.shown[took] > i) & (facts.chosen[took] != i) & (facts.answers[took, i] != taken).any(axis=1)
        pairs = took[other]
        share = 1.0 / np.maximum(facts.shown[pairs] - 1, 1)
        parts.append((pairs, taken[other], facts.answers[pairs, i], share, 1.0, 0.0))
    edited = facts.modified[took] & ~facts.blank_edit[took] & facts.final[took].any(axis=1)
    parts.append((took[edited], facts.final[took[edited]], taken[edited], 1.0, 1.0, 0.0))
    nothing = np.zeros_like(taken)
    kept = facts.accepted[took]
    parts.append((took[kept], taken[kept], nothing[kept], 0.5, 1.0, 1.0))
    parts.append((took[~kept], taken[~kept], nothing[~kept], 0.5, 0.0, 1.0))
    for i in range(CANDIDATES):
        refused = rows[facts.rejected[rows] & (facts.shown[rows] > i)]
        share = 0.5 / facts.shown[refused]
        parts.append(
            (refused, facts.answers[refused, i], np.zeros((len(refused), taken.shape[1]), np.uint8), share, 0.0, 1.0)
        )
    crossed = [_crossed(facts.prompt[r], plus, minus) for r, plus, minus, *_ in parts]
    every = np.concatenate([columns for _, columns, _ in crossed])
    columns, places, seen = np.unique(every, return_inverse=True, return_counts=True)
    matrices, start = [], 0
    for (count, cols, values), (r, *_) in zip(crossed, parts, strict=True):
        at = places[start : start + len(cols)]
        start += len(cols)
        matrices.append(csr_matrix((values, at, np.concatenate([[0], count.cumsum()])), shape=(len(r), len(columns))))
    known = np.flatnonzero(seen >= RARE)
    columns = columns[known]
    spread = [np.broadcast_to(np.asarray(w, float), len(r)) for r, _, _, w, _, _ in parts]
    return Examples(
        features=vstack(matrices, format="csr")[:, known],
        columns=columns,
        label=np.concatenate([np.full(len(r), y) for r, _, _, _, y, _ in parts]),
        weight=np.concatenate(spread),
        row=np.concatenate([r for r, *_ in parts]),
        absolute=np.concatenate([np.full(len(r), a) for r, _, _, _, _, a in parts]),
    )


def learn(found: Examples, trust: Reals, fold: Ints, before: Content | None = None) -> Content:
    """Fit one model a fold on the examples of the other folds.

    Args:
        trust: of each interaction, 0 to 1: how much what it says counts.
        fold: of each interaction.
        before: of the same examples, the turn before.
    """
    none = (np.zeros(len(found.columns) + 1), np.full(len(found.columns), RIDGE))
    weights = np.zeros((FOLDS, PROMPT_BUCKETS * ANSWER_BUCKETS), np.float32)
    fits: list[tuple[Reals, Reals]] = []
    for k in range(FOLDS):
        use = np.flatnonzero((fold[found.row] != k) & (trust[found.row] > 0.01))
        start, precision = before.fits[k] if before else (fits[-1][0], none[1]) if fits else none
        fits.append(_fit(found, use, found.weight[use] * trust[found.row[use]], start, precision) if len(use) else none)
        weights[k, found.columns] = fits[-1][0][:-1]
    return Content(weights, found.columns, tuple(fits))


def _fit(found: Examples, use: Ints, weight: Reals, start: Reals, precision: Reals) -> tuple[Reals, Reals]:
    """Weights, the intercept last, and each one's precision for the next turn: logistic regression."""
    # In units of each weight's prior the curvature is 1 plus that of the data: conjugate gradients take a fraction of
    # the steps that they take where precisions lie between 0.3 and 1,000.
    unit = np.append(1.0 / np.sqrt(precision), 1.0)
    features, label, absolute = found.features[use].copy(), found.label[use], found.absolute[use]
    features.data *= unit[features.indices]
    transposed = features.T.tocsr()
    at: tuple[Reals, Reals, Reals] | None = None

    def seen(u: Reals) -> tuple[Reals, Reals]:
        """Margin and share there; of the last place asked for they are known."""
        nonlocal at
        if at is None or not np.array_equal(at[0], u):
            margin = features @ u[:-1] + u[-1] * absolute
            at = u.copy(), margin, expit(margin)
        return at[1:]

    def loss(u: Reals) -> tuple[float, Reals]:
        margin, share = seen(u)
        residual = weight * (share - label)
        value = weight @ (np.logaddexp(0.0, margin) - label * margin) + 0.5 * (u[:-1] @ u[:-1])
        return float(value), np.append(transposed @ residual + u[:-1], residual @ absolute)

    def curved(u: Reals, v: Reals) -> Reals:
        _, share = seen(u)
        along = weight * share * (1.0 - share) * (features @ v[:-1] + v[-1] * absolute)
        return np.append(transposed @ along + v[:-1], along @ absolute)

    options = {"maxiter": STEPS, "xtol": TOLERANCE}
    u = np.asarray(minimize(loss, start / unit, jac=True, hessp=curved, method="Newton-CG", options=options).x)
    share = seen(u)[1]
    curvature = (transposed.power(2) @ (weight * share * (1.0 - share))) * precision
    w = u * unit
    own = 1.0 / (w[:-1] ** 2 + 1.0 / (curvature + precision))
    return w, np.asarray(np.clip(own, LOOSEST, TIGHTEST))


def _crossed(prompt: Buckets, plus: Buckets, minus: Buckets) -> tuple[Ints, Ints, Reals]:
    """Per row the number of its features, then all columns and values: tokens of the one answer and not the other."""
    prompt = _trimmed(prompt, front=False)
    counts, columns, values = [], [], []
    for start in range(0, len(prompt), _CHUNK):
        p, a, b = (x[start : start + _CHUNK] for x in (prompt, plus, minus))
        same = a[:, :, None] == b[:, None, :]
        answer = np.concatenate([np.where(same.any(axis=2), 0, a), np.where(same.any(axis=1), 0, b)], axis=1)
        sign = np.concatenate([np.ones(a.shape[1]), -np.ones(b.shape[1])])
        used = (answer > 0).any(axis=0)
        answer, sign = answer[:, used], sign[used]
        there = (p[:, :, None] > 0) & (answer[:, None, :] > 0)
        counts.append(there.sum(axis=(1, 2)))
        columns.append((p[:, :, None].astype(np.int64) * ANSWER_BUCKETS + answer[:, None, :])[there])
        values.append(np.broadcast_to(sign, there.shape)[there])
    none = np.zeros(0, np.int64)
    return (
        np.concatenate([none, *counts]),
        np.concatenate([none, *columns]),
        np.concatenate([np.zeros(0), *values]),
    )


def _trimmed(tokens: Buckets, *, front: bool) -> Buckets:
    """Without columns that nobody uses: padding stands at the front of answers and at the end of prompts."""
    used = max(1, int((tokens > 0).any(axis=0).sum()))
    return tokens[:, -used:] if front else tokens[:, :used]
