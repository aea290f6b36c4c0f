"""A committee of cheap preference scorers: what people on the whole prefer, and where the evidence leaves that open.

Each member is a logistic regression without an intercept on differences of features (Bradley and Terry 1952, with
covariates), fitted to a bootstrap of the pairs by cluster (Efron 1979; of people, who repeat themselves). Where members
disagree, more labels would tell (query by bagging: Abe and Mamitsuka 1998). A reward model takes their place once there
is one. Features are hashed: an answer's words and bigrams, and each of its words with each of the prompt's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.special import expit

from loop.label.select.words import Hashes, Ints, Words, mixed, words

Reals = NDArray[np.float64]

MEMBERS: Final = 8
BUCKETS: Final = 1 << 16
ANSWER_WORDS: Final = 24
PROMPT_WORDS: Final = 24
"""Most words that are looked at: the first of an answer, the last of a prompt."""
RIDGE: Final = 1.0
"""Precision of the prior on each weight, whose mean is 0."""
RARE: Final = 2
"""A feature that fewer pairs have is left out: of free text that is most, and they tell nothing of other texts."""
_CHUNK: Final = 4_096
_CROSS: Final = np.uint64(0xD6E8FEB86659FD93)


@dataclass(frozen=True)
class Pairs:
    """Pairs of texts of which the first is preferred; one entry a pair."""

    prompt: pa.Array
    preferred: pa.Array
    other: pa.Array
    weight: Reals
    """How far that is believed, 0 to 1."""
    cluster: Ints
    """Pairs that are drawn together."""

    def __len__(self) -> int:
        return len(self.weight)


@dataclass(frozen=True)
class Opinion:
    """What a committee holds of pairs of texts, one entry a pair."""

    probability: Reals
    """That the first is preferred: the members' mean."""
    disagreement: Reals
    """Of the members' probabilities, the standard deviation: 0 to 1/2."""


@dataclass(frozen=True)
class Committee:
    """Fitted members: one column of weights each, over `BUCKETS` features."""

    weights: NDArray[np.float32]

    def opinion(self, prompt: pa.Array, first: pa.Array, second: pa.Array) -> Opinion:
        """What is held of pairs; a text that is missing is empty."""
        mean, spread = np.zeros(len(prompt)), np.zeros(len(prompt))
        for at in range(0, len(prompt), _CHUNK):
            some = slice(at, at + _CHUNK)
            margins = differences(prompt[some], first[some], second[some]) @ self.weights
            believed = expit(margins)
            mean[some], spread[some] = believed.mean(axis=1), believed.std(axis=1)
        return Opinion(mean, spread)

    def score(self, prompt: pa.Array, text: pa.Array) -> Reals:
        """How good texts are held to be, in logits against an empty one: the members' mean."""
        pieces = range(0, len(prompt), _CHUNK)
        parts = [slice(at, at + _CHUNK) for at in pieces]
        empty = pa.array([""] * _CHUNK)
        found = [(differences(prompt[p], text[p], empty[: len(prompt[p])]) @ self.weights).mean(axis=1) for p in parts]
        return np.concatenate([np.zeros(0), *found])


def fit(pairs: Pairs, *, seed: int, members: int = MEMBERS, ridge: float = RIDGE) -> Committee:
    """A committee that learned from the pairs. With one member, there is no bootstrap: all that is known is in it."""
    features = differences(pairs.prompt, pairs.preferred, pairs.other)
    used = np.flatnonzero(np.bincount(features.indices, minlength=BUCKETS) >= min(RARE, len(pairs)))
    features = features[:, used]
    weights = np.zeros((BUCKETS, members), np.float32)
    rng = np.random.default_rng([seed, 4])
    clusters = int(pairs.cluster.max(initial=-1)) + 1
    start = np.zeros(len(used))
    for k in range(members):
        drawn = np.bincount(rng.integers(clusters, size=clusters), minlength=clusters) if clusters else np.zeros(0)
        times = np.ones(len(pairs)) if members == 1 else drawn[pairs.cluster]
        start = logistic(features, pairs.weight * times, ridge, start)
        weights[used, k] = start
    return Committee(weights)


def logistic(features: csr_matrix, weight: Reals, ridge: float, start: Reals) -> Reals:
    """Weights under which each row's margin ought to be positive: penalised maximum likelihood."""
    transposed = features.T.tocsr()

    def loss(w: Reals) -> tuple[float, Reals]:
        margin = features @ w
        value = weight @ np.logaddexp(0.0, -margin) + 0.5 * ridge * (w @ w)
        return float(value), transposed @ (-weight * expit(-margin)) + ridge * w

    def curved(w: Reals, v: Reals) -> Reals:
        share = expit(features @ w)
        return np.asarray(transposed @ (weight * share * (1.0 - share) * (features @ v)) + ridge * v)

    options = {"maxiter": 12, "xtol": 1e-3}
    return np.asarray(minimize(loss, start, jac=True, hessp=curved, method="Newton-CG", options=options).x)


def differences(prompt: pa.Array, first: pa.Array, second: pa.Array) -> csr_matrix:
    """Features of the first text less those of the second; n by `BUCKETS`. What both have cancels out."""
    if not len(prompt):
        return csr_matrix((0, BUCKETS), dtype=np.float32)
    parts = [
        _differences(prompt[at : at + _CHUNK], first[at : at + _CHUNK], second[at : at + _CHUNK])
        for at in range(0, len(prompt), _CHUNK)
    ]
    from scipy.sparse import vstack

    return vstack(parts, format="csr")


def _differences(prompt: pa.Array, first: pa.Array, second: pa.Array) -> csr_matrix:
    asked = words(prompt).last(PROMPT_WORDS)
    rows, columns, values = [], [], []
    for text, sign in ((first, 1.0), (second, -1.0)):
        said = words(text).first(ANSWER_WORDS)
        every = said.and_pairs()
        crossed, of = _crossed(asked, said)
        rows += [every.of, of]
        columns += [bucket(every.hashes), bucket(crossed)]
        values.append(np.full(len(every.of) + len(of), sign, np.float32))
    at = (np.concatenate(rows), np.concatenate(columns))
    matrix = csr_matrix((np.concatenate(values), at), shape=(len(prompt), BUCKETS), dtype=np.float32)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def _crossed(asked: Words, said: Words) -> tuple[Hashes, Ints]:
    """Each word of a prompt with each of its answer's, and the number of the pair that they are of."""
    starts = asked.starts
    many = np.diff(starts)[said.of]
    answer = np.repeat(said.hashes, many)
    of = np.repeat(said.of, many)
    begins = np.cumsum(many) - many
    at = np.arange(len(answer)) - np.repeat(begins, many) + starts[of]
    return mixed(answer * _CROSS + asked.hashes[at]), of


def bucket(hashes: Hashes) -> Ints:
    return (hashes >> np.uint64(64 - 16)).astype(np.int64)


assert BUCKETS == 1 << 16
