"""Near-duplicates among many questions: each is asked once.

MinHash by one permutation (Broder 1997, On the resemblance and containment of documents; Li, Owen and Zhang 2012, NIPS,
One permutation hashing, section 3: bins that both leave empty are left out) of a question's bigrams, banded (Leskovec,
Rajaraman and Ullman, Mining of Massive Datasets, section 3.4): two questions meet if all bins of a band agree, and are
the same if enough of all bins do.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from loop.label.select.words import Hashes, Ints, Words, mixed

BINS: Final = 32
BANDS: Final = 8
"""Questions whose resemblance is 0.9 meet with probability 0.9998, those of 0.8 with 0.985, of 0.5 with 0.40."""
SAME: Final = 0.8
"""Share of the bins that must agree, of those that one of the two fills: an estimate of their resemblance (the Jaccard
index of their words and bigrams)."""
EMPTY: Final = np.iinfo(np.uint32).max

Reals = NDArray[np.float64]
Sketches = NDArray[np.uint32]


def sketches(*parts: Words) -> Sketches:
    """Per text its MinHash (texts by `BINS`).

    Args:
        parts: what a text is compared by, such as its words and its bigrams; each counts once however often it comes.
    """
    sketched = np.full(parts[0].texts * BINS, EMPTY, np.uint32)
    for part in parts:
        at = part.of * BINS + (part.hashes & np.uint64(BINS - 1)).astype(np.int64)
        np.minimum.at(sketched, at, (part.hashes >> np.uint64(32)).astype(np.uint32))
    return sketched.reshape(-1, BINS)


def alike(one: Sketches, other: Sketches) -> Reals:
    """Estimated resemblance of texts, row by row; that of two without any words is 1."""
    filled = (one != EMPTY) | (other != EMPTY)
    agree = (one == other) & filled
    return np.asarray((agree.sum(axis=1) + 1e-9) / (filled.sum(axis=1) + 1e-9))


def groups(sketched: Sketches) -> Ints:
    """Number of each question's group of near-duplicates: the same number, the same question.

    What resembles a member is a member (single linkage), whatever it is to the others.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    n = len(sketched)
    one, other = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    rows = BINS // BANDS
    for band in range(BANDS):
        key = np.zeros(n, np.uint64)
        for column in range(band * rows, (band + 1) * rows):
            key = mixed(key ^ sketched[:, column].astype(np.uint64))
        order = np.argsort(key, kind="stable")
        begins = np.concatenate([[True], key[order][1:] != key[order][:-1]]) if n else np.zeros(0, bool)
        # Of those that meet, each is held against the first and against its neighbour: linear, however many they are.
        heads = order[np.maximum.accumulate(np.where(begins, np.arange(n), 0))] if n else order
        for left, right in ((heads, order), (order[:-1], order[1:])):
            met = np.flatnonzero((left != right) & (key[left] == key[right]))
            close = met[alike(sketched[left[met]], sketched[right[met]]) >= SAME]
            one.append(left[close])
            other.append(right[close])
    edges = (np.concatenate(one), np.concatenate(other))
    graph = coo_matrix((np.ones(len(edges[0]), np.int8), edges), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def representatives(group: Ints, order: Hashes) -> Ints:
    """Of each group the member with the least `order`; places, ascending."""
    by_order = np.lexsort((order, group))
    first = np.concatenate([[True], group[by_order][1:] != group[by_order][:-1]]) if len(group) else by_order
    return np.sort(by_order[first]) if len(group) else np.zeros(0, np.int64)
