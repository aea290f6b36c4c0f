"""Near-duplicates among many questions: each is asked once.

MinHash (Broder 1997, On the resemblance and containment of documents) of a question's bigrams, banded (Leskovec,
Rajaraman and Ullman, Mining of Massive Datasets, section 3.4): two questions meet if all hashes of a band agree, and
are the same if enough of all hashes do.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from loop.label.select.words import Hashes, Ints, Words, mixed

HASHES: Final = 16
BANDS: Final = 4
"""Questions whose resemblance is 0.9 meet with probability 0.99, those of 0.8 with 0.88, of 0.5 with 0.23."""
SAME: Final = 13
"""Hashes that must agree: an estimated resemblance (Jaccard index of the bigrams) of 0.8 or more."""

Sketches = NDArray[np.uint32]

_FACTORS: Final = mixed(np.arange(1, HASHES + 1, dtype=np.uint64)) | np.uint64(1)


def sketches(found: Words) -> Sketches:
    """Per text its MinHash (texts by `HASHES`); of a text without any words, all ones.

    Args:
        found: what a text is compared by, as bigrams; each counts once however often it comes.
    """
    sketched = np.full((found.texts, HASHES), np.iinfo(np.uint32).max, np.uint32)
    starts = found.starts
    filled = np.flatnonzero(starts[1:] > starts[:-1])
    if len(filled):
        for k, factor in enumerate(_FACTORS):
            least = np.minimum.reduceat(found.hashes * factor, starts[filled])
            sketched[filled, k] = (least >> np.uint64(32)).astype(np.uint32)
    return sketched


def groups(sketched: Sketches) -> Ints:
    """Number of each question's group of near-duplicates: the same number, the same question.

    What resembles a member is a member (single linkage), whatever it is to the others.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    n = len(sketched)
    one, other = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    rows = HASHES // BANDS
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
            close = met[(sketched[left[met]] == sketched[right[met]]).sum(axis=1) >= SAME]
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
