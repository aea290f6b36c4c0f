"""Estimates against closed forms, scipy, and coverage in repeated sampling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop.evaluate import stats


def test_nothing_is_not_measured() -> None:
    assert stats.estimate([], seed=0) is None
    assert stats.estimate([], seed=0, clusters=[]) is None
    assert stats.stratified([], seed=0) is None
    assert stats.Share(0, 0).value is None
    assert stats.Share(0, 0).interval() is None


def test_one_pair_has_a_mean_and_no_spread() -> None:
    assert stats.estimate([1.0], seed=0) == stats.Estimate(1.0, 1, 1, None, None, None, None)


def test_plain_pairs_match_the_closed_forms() -> None:
    values = np.random.default_rng(1).normal(0.3, 1.0, 50)
    found = stats.estimate(values, seed=0)
    assert found is not None
    assert found.t is not None
    assert found.mean == pytest.approx(values.mean())
    assert found.sd == pytest.approx(values.std(ddof=1))
    half = 2.0095752 * values.std(ddof=1) / 50**0.5  # t(49) at 0.975
    assert (found.t.low, found.t.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=1e-6)


def test_bca_is_the_interval_of_scipy() -> None:
    from scipy.stats import bootstrap

    values = np.random.default_rng(2).exponential(1.0, 40)
    found = stats.estimate(values, seed=3, resamples=20_000)
    theirs = bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=4).confidence_interval
    assert found is not None
    assert found.bootstrap is not None
    assert (found.bootstrap.low, found.bootstrap.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)
    assert found.bootstrap.high - found.mean > found.mean - found.bootstrap.low, "the skew is followed"


def test_same_seed_same_interval() -> None:
    values = np.random.default_rng(5).normal(size=50)
    assert stats.estimate(values, seed=7) == stats.estimate(values, seed=7)
    assert stats.estimate(values, seed=7) != stats.estimate(values, seed=8)


def test_equal_differences_have_an_interval_of_no_width() -> None:
    found = stats.estimate([0.1] * 30, seed=0)
    assert found is not None
    assert found.bootstrap is not None
    assert found.bootstrap.low == found.bootstrap.high == found.mean == pytest.approx(0.1)
    assert found.sd == pytest.approx(0.0, abs=1e-12)


def test_clusters_widen_the_interval_and_keep_the_mean() -> None:
    rng = np.random.default_rng(6)
    levels = rng.normal(0.0, 1.0, 20)
    values = np.repeat(levels, 10) + rng.normal(0.0, 0.1, 200)
    writers = [f"w{i}" for i in np.repeat(np.arange(20), 10)]
    plain, clustered = stats.estimate(values, seed=0), stats.estimate(values, seed=0, clusters=writers)
    assert plain is not None
    assert clustered is not None
    assert clustered.mean == pytest.approx(plain.mean)
    assert (plain.units, clustered.units, clustered.n) == (200, 20, 200)
    assert plain.bootstrap is not None
    assert clustered.bootstrap is not None
    ratio = (clustered.bootstrap.high - clustered.bootstrap.low) / (plain.bootstrap.high - plain.bootstrap.low)
    assert 2.5 < ratio < 3.5  # sqrt(10) if writers were constant


def test_singleton_clusters_are_no_clusters() -> None:
    values = np.random.default_rng(8).normal(size=30)
    assert stats.estimate(values, seed=1, clusters=range(30)) == stats.estimate(values, seed=1)


def test_strata_count_alike_whatever_their_size() -> None:
    found = stats.stratified([[1.0] * 10 + [0.0] * 10, [0.0] * 60 + [-1.0] * 20], seed=0)
    assert found is not None
    assert found.mean == pytest.approx((0.5 - 0.25) / 2)
    expected = ((0.25 * 20 / 19 / 20) + (0.1875 * 80 / 79 / 80)) ** 0.5 / 2
    assert found.sd == pytest.approx(expected * 100**0.5)


def test_a_stratum_without_pairs_is_refused() -> None:
    with pytest.raises(AssertionError, match="empty stratum"):
        stats.stratified([[1.0], []], seed=0)


@pytest.mark.parametrize("values", [[float("nan")], [[1.0]]])
def test_what_is_no_difference_is_refused(values: list[float]) -> None:
    with pytest.raises(AssertionError):
        stats.estimate(values, seed=0)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """300 panels of 4 x 60 answers, true means .1, .0, .2, .1: a 90 % interval covers .1 in 90 % (sd 1.7 %)."""
    rng = np.random.default_rng(9)
    covered = 0
    for world in range(300):
        strata = [
            rng.choice([-1.0, 0.0, 1.0], 60, p=[0.4 - mean / 2, 0.2, 0.4 + mean / 2]) for mean in (0.1, 0.0, 0.2, 0.1)
        ]
        found = stats.stratified(strata, seed=world, confidence=0.9, resamples=600)
        assert found is not None
        assert found.bootstrap is not None
        covered += found.bootstrap.low <= 0.1 <= found.bootstrap.high
    assert 0.85 <= covered / 300 <= 0.95


def test_power_is_what_simulation_finds() -> None:
    from scipy.stats import ttest_1samp

    rng = np.random.default_rng(10)
    draws = rng.normal(0.25, 1.0, (4_000, 100))
    found = ttest_1samp(draws, 0.0, axis=1, alternative="greater").pvalue < 0.025
    assert stats.power(0.25, sd=1.0, n=100) == pytest.approx(found.mean(), abs=0.025)


def test_the_detectable_effect_has_the_wanted_power() -> None:
    effect = stats.detectable(sd=0.9, n=200)
    assert stats.power(effect, sd=0.9, n=200) == pytest.approx(0.8, abs=1e-4)
    assert effect == pytest.approx(2.80 * 0.9 / 200**0.5, rel=0.01)
    assert stats.detectable(sd=0.0, n=200) == 0.0
    assert stats.power(0.1, sd=0.0, n=2) == 1.0
    assert stats.power(0.0, sd=0.0, n=2) == 0.0


def test_wilson_interval_of_a_share() -> None:
    found = stats.Share(7, 10).interval()
    assert found is not None
    assert (found.low, found.high) == pytest.approx((0.3968, 0.8922), abs=1e-4)
    with pytest.raises(AssertionError):
        stats.Share(3, 2)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), min_size=2, max_size=80),
    seed=st.integers(0, 2**31),
    confidence=st.sampled_from([0.8, 0.9, 0.95, 0.99]),
)
def test_an_interval_is_ordered_inside_the_data_and_mirrors(values: list[float], seed: int, confidence: float) -> None:
    found = stats.estimate(values, seed=seed, confidence=confidence, resamples=500)
    assert found is not None
    assert found.bootstrap is not None
    assert found.sd is not None
    assert min(values) - 1e-9 <= found.bootstrap.low <= found.bootstrap.high <= max(values) + 1e-9
    mirrored = stats.estimate([-v for v in values], seed=seed, confidence=confidence, resamples=500)
    assert mirrored is not None
    assert mirrored.bootstrap is not None
    assert mirrored.bootstrap.low == pytest.approx(-found.bootstrap.high, abs=1e-9)
