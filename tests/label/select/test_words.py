"""Words in bulk: the same words have the same hash wherever they stand, and texts do not run into each other."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from loop.label.select.words import Seen, word, words

TEXTS = st.lists(st.text(alphabet="abAB1 .,é\n", max_size=30), max_size=20)


def said(texts: list[str]) -> list[list[str]]:
    """The words as a plain reading has them: ASCII case is disregarded, letters beyond ASCII are part of a word."""
    return [re.findall(r"[a-z0-9\x80-\U0010ffff]+", re.sub("[A-Z]", lambda m: m[0].lower(), text)) for text in texts]


@given(TEXTS)
def test_words_are_those_of_a_plain_reading(texts: list[str]) -> None:
    found = words(pa.array(texts, pa.string()))
    expected = [(i, w) for i, of in enumerate(said(texts)) for w in of]
    assert found.texts == len(texts)
    assert found.of.tolist() == [i for i, _ in expected]
    assert found.hashes.tolist() == [word(w) for _, w in expected]


@given(TEXTS)
def test_different_words_have_different_hashes(texts: list[str]) -> None:
    every = {w for of in said(texts) for w in of}
    assert len({word(w) for w in every}) == len(every)


def test_texts_longer_than_a_piece_and_slices_of_columns() -> None:
    texts = ["alpha " * 100_000, "beta", "", "Beta gamma"] * 2
    found = words(pa.array(texts)[2:6])
    assert found.of.tolist() == [1, 1, *[2] * 100_000, 3]
    assert found.hashes[:2].tolist() == [word("beta"), word("gamma")]
    assert set(found.hashes[2:-1].tolist()) == {word("alpha")}


def test_pairs_stay_within_a_text_and_keep_their_order() -> None:
    found = words(pa.array(["a b c", "c", "b a"])).pairs()
    assert found.of.tolist() == [0, 0, 2]
    assert len(np.unique(found.hashes)) == 3


def test_first_and_last() -> None:
    found = words(pa.array(["a b c", "", "d"]))
    assert found.first(2).hashes.tolist() == [word("a"), word("b"), word("d")]
    assert found.last(2).hashes.tolist() == [word("b"), word("c"), word("d")]


def test_the_share_of_words_that_were_not_met() -> None:
    found = words(pa.array(["a b c", "", "d a"]))
    met = Seen.of(words(pa.array(["a", "b c"])).hashes)
    assert met.unseen(found).tolist() == [0.0, 0.0, 0.5]
    assert met.unseen(found, found.pairs()).tolist() == [2 / 5, 0.0, 2 / 3]
    assert np.isnan(Seen.of().unseen(found)).all()
