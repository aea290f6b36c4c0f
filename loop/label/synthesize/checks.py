"""What a synthetic answer has to pass: the house's rules, no leak of what models are judged on, nothing that is there.

All comparisons are of words, in bulk: exact overlaps of their n-grams, for there are few enough texts that nothing need
be estimated (MinHash would be, of shingles that a sparse product counts).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from loop.label.functions import functions_of
from loop.label.select.words import Words, mixed, words
from loop.workflows import BAD, Workflow

LEAKED: Final = 13
"""Words in a row that a text has of a benchmark item and by which it is leaked (Brown et al. 2020, appendix C)."""
COMMON: Final = 10
"""A run of words that more real texts have is a form of the house, and no leak (ibid.)."""
ALIKE: Final = 0.9
"""Jaccard similarity of word trigrams from which two texts are the same."""
_SHINGLE: Final = 3
_BASE: Final = np.uint64(0x9E3779B97F4A7C15)
_CHUNK: Final = 1_024

Flags = NDArray[np.bool_]


def broken(workflow: Workflow, prompts: Sequence[str], texts: Sequence[str]) -> tuple[list[list[str]], Counter[str]]:
    """Of each answer, the labelling functions that speak against it; and how often each function raised.

    A cue of harm in the answer that its prompt has not speaks against it too.
    """
    raised: Counter[str] = Counter()
    found: list[list[str]] = []
    for prompt, text in zip(prompts, texts, strict=True):
        mine = []
        for function in functions_of(workflow):
            try:
                held = function.vote(prompt, text)
                against = held == BAD or (
                    function.name.startswith("cue_") and held is not None and function.vote("", prompt) is None
                )
            except Exception:  # noqa: BLE001 - whatever somebody's rule raises
                raised[function.name] += 1
                continue
            mine += [f"rule: {function.name}"] if against else []
        found.append(mine)
    return found, raised


def leaked(texts: Sequence[str], judged_on: Sequence[str], real: Sequence[str]) -> Flags:
    """Whether each text has `LEAKED` words in a row of what models are judged on, or is as good as such a text.

    Args:
        judged_on: prompts of the benchmark, and held-out prompts with their answers.
        real: texts of the training side: what many of them have is a form, as of a template.
    """
    runs, known, forms = (_grams(words(pa.array(part, pa.string())), LEAKED) for part in (texts, judged_on, real))
    common, often = np.unique(_once_a_text(forms).hashes, return_counts=True)
    hits = np.isin(runs.hashes, known.hashes) & ~np.isin(runs.hashes, common[often > COMMON])
    found = np.zeros(len(texts), bool)
    found[runs.of[hits]] = True
    return found | (nearest(texts, judged_on) >= ALIKE)


def nearest(texts: Sequence[str], others: Sequence[str]) -> NDArray[np.float64]:
    """Of each text, the greatest Jaccard similarity to one of the others, by sets of word trigrams; 0 with none.

    Texts of fewer than three words are compared by all of them.
    """
    found = np.zeros(len(texts))
    if not texts or not others:
        return found
    mine, theirs = (_once_a_text(_shingles(part)) for part in (texts, others))
    vocabulary, at = np.unique(mine.hashes, return_inverse=True)
    first = csr_matrix((np.ones(len(at)), (mine.of, at)), (len(texts), len(vocabulary)))
    place = np.searchsorted(vocabulary, theirs.hashes)
    shared = vocabulary[np.minimum(place, len(vocabulary) - 1)] == theirs.hashes if len(vocabulary) else place > 0
    second = csr_matrix((np.ones(shared.sum()), (place[shared], theirs.of[shared])), (len(vocabulary), len(others)))
    sizes, other_sizes = np.bincount(mine.of, minlength=len(texts)), np.bincount(theirs.of, minlength=len(others))
    for start in range(0, len(texts), _CHUNK):
        both = (first[start : start + _CHUNK] @ second).tocoo()
        union = sizes[start + both.row] + other_sizes[both.col] - both.data
        np.maximum.at(found, start + both.row, both.data / np.maximum(union, 1))
    return found


def _shingles(texts: Sequence[str]) -> Words:
    found = words(pa.array(texts, pa.string()))
    short = np.bincount(found.of, minlength=found.texts) < _SHINGLE
    grams, few = _grams(found, _SHINGLE), found.take(short[found.of])
    return Words(np.concatenate([grams.hashes, few.hashes]), np.concatenate([grams.of, few.of]), found.texts)


def _grams(found: Words, n: int) -> Words:
    """Runs of `n` words, hashed in their order."""
    count = len(found.of) - n + 1
    if count <= 0:
        return Words(np.zeros(0, np.uint64), np.zeros(0, np.int64), found.texts)
    rolled = np.zeros(count, np.uint64)
    for k in range(n):
        rolled = rolled * _BASE + found.hashes[k : k + count]
    whole = found.of[:count] == found.of[n - 1 :]
    return Words(mixed(rolled)[whole], found.of[:count][whole], found.texts)


def _once_a_text(found: Words) -> Words:
    """Each hash once in each text."""
    order = np.lexsort((found.hashes, found.of))
    hashes, of = found.hashes[order], found.of[order]
    first = np.ones(len(of), bool)
    first[1:] = (hashes[1:] != hashes[:-1]) | (of[1:] != of[:-1])
    return Words(hashes[first], of[first], found.texts)
