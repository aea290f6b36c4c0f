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
"""A feature that fewer items have is left out: of free text that is most, and they tell nothing of other texts.
Pairs of one prompt and cluster are one item: who holds both sides of a pair has said nothing twice."""
STEPS: Final = 20
TOLERANCE: Final = 1e-3
"""Change of a margin, in logits, below which it is settled."""
_CHUNK: Final = 1_024
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
    items = _items(pairs)
    met = np.bincount((items @ abs(features)).indices, minlength=BUCKETS)
    common = np.flatnonzero(met >= min(RARE, items.shape[0]))
    features = features[:, common]
    alike = (features @ features.T).toarray().astype(np.float64) / ridge
    weights = np.zeros((BUCKETS, members), np.float32)
    rng = np.random.default_rng([seed, 4])
    clusters = int(pairs.cluster.max(initial=-1)) + 1
    for k in range(members):
        drawn = np.bincount(rng.integers(clusters, size=clusters), minlength=clusters) if clusters else np.zeros(0)
        weight = pairs.weight * (1.0 if members == 1 else drawn[pairs.cluster])
        used = np.flatnonzero(weight > 0)
        share = np.zeros(len(pairs))
        share[used] = mode(alike[np.ix_(used, used)], weight[used])
        weights[common, k] = features.T @ share / ridge
    return Committee(weights)


def _items(pairs: Pairs) -> csr_matrix:
    """Which pairs are of which item; items by n."""
    prompt = np.asarray(pairs.prompt.dictionary_encode().indices, np.int64)
    both = np.stack([pairs.cluster, prompt])
    kinds, item = np.unique(both, axis=1, return_inverse=True)
    n = len(pairs)
    return csr_matrix((np.ones(n, np.float32), (item.ravel(), np.arange(n))), shape=(kinds.shape[1], n))


def mode(covariance: Reals, weight: Reals) -> Reals:
    """Penalised maximum likelihood of margins that ought to be positive, by Newton's method in the space of the pairs.

    There are far fewer pairs than features. A logistic regression with a normal prior on its weights is a Gaussian
    process with a linear kernel, and this its mode (Rasmussen and Williams 2006, Gaussian Processes for Machine
    Learning, algorithm 3.1).

    Args:
        covariance: of the margins before anything is known of them.
        weight: above 0; so many times each pair counts.

    Returns:
        How much of each pair's features the fitted weights hold, in units of their prior's variance.
    """
    from scipy.linalg import cho_factor, cho_solve
    from threadpoolctl import threadpool_limits

    margin, share = np.zeros((2, len(weight)))
    with threadpool_limits(1, user_api="blas"):  # two that wait for each other on a busy machine take longer
        for _ in range(STEPS if len(weight) else 0):
            curvature = weight * expit(margin) * expit(-margin)
            root = np.sqrt(curvature)
            target = curvature * margin + weight * expit(-margin)
            inner = np.eye(len(weight)) + root[:, None] * covariance * root
            share = target - root * cho_solve(cho_factor(inner), root * (covariance @ target))
            before, margin = margin, covariance @ share
            if np.abs(margin - before).max() < TOLERANCE:
                break
    return np.asarray(share)


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
        beside = said.pairs()
        crossed, of = _crossed(asked, said)
        rows += [said.of, beside.of, of]
        columns += [bucket(hashes) for hashes in (said.hashes, beside.hashes, crossed)]
        values.append(np.full(len(said.of) + len(beside.of) + len(of), sign, np.float32))
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
