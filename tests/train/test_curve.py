"""Which rows are drawn, and what comes of nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.train.curve import Outcome, draw

weights = st.lists(st.one_of(st.just(0.0), st.floats(0.01, 1.0)), min_size=1, max_size=40).filter(any)


@given(weights, st.integers(1, 200), st.integers(0, 5))
def test_every_row_comes_as_often_as_its_weight_asks_for(weight: list[float], count: int, seed: int) -> None:
    drawn = draw(np.array(weight), count, seed=seed)
    assert len(drawn) == count
    times = np.bincount(drawn, minlength=len(weight))
    asked = np.array(weight) / sum(weight) * count
    assert (times >= np.floor(asked - 1e-6)).all()
    assert (times <= np.ceil(asked + 1e-6)).all()
    assert not times[np.array(weight) == 0].any()


def test_equal_weights_are_passes_over_the_rows() -> None:
    assert sorted(draw(np.full(10, 0.3), 30, seed=1)) == sorted(list(range(10)) * 3)


def test_the_expectation_is_exact_where_there_are_fewer_draws_than_rows() -> None:
    weight = np.array([0.1, 0.4, 0.5, 1.0])
    times = sum(np.bincount(draw(weight, 1, seed=seed), minlength=4) for seed in range(4000))
    assert times / 4000 == pytest.approx(weight / weight.sum(), abs=0.03)


def test_draws_repeat_with_the_seed_and_are_shuffled() -> None:
    weight = np.ones(50)
    assert draw(weight, 50, seed=3).tolist() == draw(weight, 50, seed=3).tolist()
    assert draw(weight, 50, seed=3).tolist() != draw(weight, 50, seed=4).tolist()
    assert draw(weight, 50, seed=3).tolist() != sorted(draw(weight, 50, seed=3).tolist())


@pytest.mark.parametrize(
    ("weight", "steps", "outcome"),
    [
        ([], 5, Outcome.NO_ROWS),
        ([0.0, 0.0], 5, Outcome.NO_WEIGHT),
        ([1.0], 0, Outcome.NO_STEPS),
        ([0.0, 0.5], 5, Outcome.TRAINED),
    ],
)
def test_why_nothing_is_trained(weight: list[float], steps: int, outcome: Outcome) -> None:
    assert Outcome.of(np.array(weight), steps) is outcome
