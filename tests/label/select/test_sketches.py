"""Near-duplicates: what differs in a word or two meets, what has little in common does not."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa

from loop.label.select.sketches import alike, groups, representatives, sketches
from loop.label.select.words import words

RNG = np.random.default_rng(0)
LISTED = [f"word{i}" for i in range(500)]


def drawn(count: int, length: int = 30) -> list[list[str]]:
    return [[LISTED[i] for i in RNG.integers(len(LISTED), size=length)] for _ in range(count)]


def grouped(texts: list[list[str]]) -> np.ndarray:
    found = words(pa.array([" ".join(text) for text in texts], pa.string()))
    return groups(sketches(found, found.pairs()))


def test_a_changed_word_leaves_the_question_the_same_and_others_differ() -> None:
    texts = drawn(300)
    changed = [[*text[:-1], "other"] for text in texts]
    group = grouped(texts + changed)
    assert (group[:300] == group[300:]).mean() > 0.95
    assert len(np.unique(group[:300])) == 300


def test_texts_that_share_half_of_their_words_are_two_questions() -> None:
    texts = drawn(200)
    half = [[*text[:15], *other[15:]] for text, other in zip(texts, drawn(200), strict=True)]
    group = grouped(texts + half)
    assert (group[:200] == group[200:]).sum() == 0


def test_many_copies_are_one_group_and_the_least_stands_for_them() -> None:
    texts = drawn(3)
    group = grouped([texts[0], texts[1], texts[0], texts[2], texts[0]])
    assert group[0] == group[2] == group[4]
    order = np.array([5, 1, 2, 9, 7], np.uint64)
    assert representatives(group, order).tolist() == [1, 2, 3]


def test_short_texts_are_the_same_only_where_their_words_are() -> None:
    group = grouped([["yes"], ["no"], ["yes"], ["yes", "no"], ["no", "yes"]])
    assert group[0] == group[2]
    assert len(np.unique(group)) == 4


def test_resemblance_is_estimated_without_much_error() -> None:
    texts = drawn(400)
    near = [[*text[:-3], *other[-3:]] for text, other in zip(texts, drawn(400), strict=True)]
    one, other = (
        sketches(found, found.pairs()) for found in (words(pa.array([" ".join(t) for t in of])) for of in (texts, near))
    )
    sets = [[{*text, *itertools.pairwise(text)} for text in of] for of in (texts, near)]
    true = np.mean([len(a & b) / len(a | b) for a, b in zip(*sets, strict=True)])
    assert abs(alike(one, other).mean() - true) < 0.03


def test_texts_without_words_are_one_question_and_none_are_none() -> None:
    assert len(set(grouped([[], [], ["a"]]).tolist())) == 2
    assert groups(sketches(words(pa.array([], pa.string())))).tolist() == []
    assert representatives(np.zeros(0, np.int64), np.zeros(0, np.uint64)).tolist() == []
