"""Diversity against values worked out by hand."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop.evaluate.diversity import diversity


def test_no_answers_are_not_measured() -> None:
    assert diversity([]) is None


def test_four_answers_by_hand() -> None:
    found = diversity(["a b", "a b", "a  c", "d"])
    assert found is not None
    assert (found.answers, found.unique, found.most_common, found.entropy) == (4, 0.75, 0.5, 1.5)
    assert found.distinct_1 == pytest.approx(4 / 7)
    assert found.distinct_2 == pytest.approx(2 / 3)
    # pairs: ab-ab 1, ab-ac 1/3 twice, ab-d 0 twice, ac-d 0
    assert found.overlap == pytest.approx((1 + 2 / 3) / 6)


def test_a_collapsed_model() -> None:
    found = diversity(["yes yes"] * 50)
    assert found is not None
    assert (found.unique, found.most_common, found.entropy, found.overlap) == (0.02, 1.0, 0.0, 1.0)


def test_empty_and_single_answers() -> None:
    empty, single = diversity(["", " "]), diversity(["one"])
    assert empty is not None
    assert single is not None
    assert (empty.most_common, empty.distinct_1, empty.overlap) == (1.0, 0.0, 1.0)
    assert single.overlap is None
    assert single.distinct_2 == 0.0


def test_many_answers_are_thinned_for_the_overlap_only() -> None:
    found = diversity([f"w{i}" for i in range(2_000)])
    assert found is not None
    assert (found.unique, found.overlap) == (1.0, 0.0)
    assert found.entropy == pytest.approx(10.9657843)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abc"), max_size=4).map(" ".join), min_size=2, max_size=12))
def test_overlap_is_the_mean_jaccard_index(answers: list[str]) -> None:
    found = diversity(answers)
    pairs = [(set(a.split()), set(b.split())) for a, b in itertools.combinations(answers, 2)]
    expected = sum(len(a & b) / len(a | b) if a | b else 1.0 for a, b in pairs) / len(pairs)
    assert found is not None
    assert found.overlap == pytest.approx(expected, abs=1e-6)
