"""Who is asked under a budget: the best for each reason, the rest at random, and estimates that are not bent by it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop.label.select.budget import SHARES, Reason, Taken, choose, total

RNG = np.random.default_rng(3)


def numbers(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(2**63, size=n).astype(np.uint64)


def scored(n: int, **given: np.ndarray) -> dict[Reason, np.ndarray]:
    return {r: np.asarray(given.get(r.value, np.full(n, np.nan)), float) for r in Reason}


def taken(n: int, acquisition: str, budget: int, seed: int = 0, exploration: float = 0.3, **given: np.ndarray) -> Taken:
    return choose(numbers(n, seed), scored(n, **given), budget=budget, acquisition=acquisition, exploration=exploration)


def test_random_takes_the_budget_and_says_with_which_chance() -> None:
    found = taken(200, "random", 50)
    assert len(set(found.place.tolist())) == 50
    assert set(found.reason) == {Reason.RANDOM}
    assert set(found.propensity.tolist()) == {0.25}


def test_reasons_take_the_best_and_the_exploring_share_is_random() -> None:
    score = np.arange(100.0)
    found = taken(100, "novelty", 20, novelty=score)
    assert found.place[:14].tolist() == list(range(99, 85, -1))
    assert found.reason == [Reason.NOVELTY] * 14 + [Reason.RANDOM] * 6
    assert found.propensity.tolist() == [1.0] * 14 + [6 / 86] * 6
    assert not set(found.place[14:].tolist()) & set(found.place[:14].tolist())


def test_what_was_not_measured_or_is_no_reason_is_left_to_chance() -> None:
    score = np.where(np.arange(100) < 3, 1.0, np.where(np.arange(100) < 50, np.nan, 0.0))
    found = taken(100, "risk", 20, risk=score)
    assert sorted(found.place[:3].tolist()) == [0, 1, 2]
    assert found.reason == [Reason.RISK] * 3 + [Reason.RANDOM] * 17
    assert found.propensity[3:].tolist() == [17 / 97] * 17


def test_mixed_asks_each_once_by_its_shares() -> None:
    same = np.linspace(0.1, 1.0, 100)
    found = taken(100, "mixed", 20, exploration=0.5, **{r.value: same for r in Reason})
    counts = {reason: found.reason.count(reason) for reason in Reason}
    assert counts == {"random": 10, "disagreement": 4, "conflict": 2, "risk": 2, "novelty": 1, "slice": 1}
    assert len(set(found.place.tolist())) == 20


def test_held_out_questions_are_never_taken_for_a_reason() -> None:
    informed = np.arange(100) % 2 == 0
    draw = numbers(100)
    found = choose(
        draw, scored(100, novelty=np.ones(100)), budget=60, acquisition="novelty", exploration=0.3, informed=informed
    )
    sure = found.place[found.propensity == 1.0]
    assert len(sure) == 42
    assert informed[sure].all()
    assert not informed[found.place[found.propensity < 1.0]].all()


def test_a_budget_above_what_there_is_asks_everything() -> None:
    found = taken(5, "mixed", 50)
    assert sorted(found.place.tolist()) == [0, 1, 2, 3, 4]
    assert found.propensity.tolist() == [1.0] * 5
    assert taken(0, "mixed", 50).place.tolist() == []


@settings(max_examples=15, deadline=None)
@given(
    st.integers(20, 60), st.sampled_from(sorted(SHARES)), st.integers(4, 15), st.floats(0.2, 1.0), st.integers(0, 10**6)
)
def test_weighted_by_the_recorded_propensity_estimates_are_unbiased(
    n: int, acquisition: str, budget: int, exploration: float, seed: int
) -> None:
    """Also where what is asked for a reason is just what has high values."""
    rng = np.random.default_rng(seed)
    values = rng.normal(2.0, 1.0, n) ** 2
    scores = {r.value: values + rng.normal(0, 0.3, n) for r in Reason}
    draws = 600
    estimates, errors = np.zeros((2, draws))
    for i in range(draws):
        found = taken(n, acquisition, budget, seed + i, exploration, **scores)
        estimates[i], errors[i] = total(values[found.place], found.propensity)
    off = (estimates.mean() - values.sum()) / max(estimates.std() / np.sqrt(draws), 1e-9)
    assert abs(off) < 4.5
    known = errors[np.isfinite(errors)]
    if len(known) == draws and estimates.std() > 0.1:
        assert np.sqrt((known**2).mean()) == pytest.approx(estimates.std(), rel=0.25)


def test_the_plain_mean_of_what_was_asked_would_be_biased() -> None:
    """What the recorded propensity is for."""
    values = np.arange(100.0)
    estimates = []
    for seed in range(200):
        found = taken(100, "novelty", 20, seed, novelty=values)
        estimates.append(values[found.place].mean() * 100)
    assert np.mean(estimates) > 1.5 * values.sum()


def test_a_propensity_that_nobody_recorded_is_refused() -> None:
    with pytest.raises(ValueError, match="leave out what nobody drew"):
        total(np.ones(2), np.array([0.5, 0.0]))
