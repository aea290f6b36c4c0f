"""Estimates from paired differences: bootstrap and t intervals, spread, power. Shares with their intervals.

Knows numbers only: no table, no model, no workflow. Everything is seeded, and nothing measured is `None`, never 0.

Sources: Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 14 (BCa); Davison & Hinkley, Bootstrap
Methods and their Application (1997), section 5.3.2 (BCa for several samples); Lehmann & Romano, Testing Statistical
Hypotheses (2005), section 5.3 (t power); Wilson, JASA 22 (1927) 209-212 (interval of a share).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RESAMPLES = 10_000
_CHUNK = 2_000_000
"""Resampled values held at once: 16 MB."""


@dataclass(frozen=True)
class Interval:
    """A two-sided interval; its lower end is a one-sided bound at (1 + confidence) / 2."""

    low: float
    high: float
    confidence: float


@dataclass(frozen=True)
class Estimate:
    """A mean of paired differences and what is known of it.

    >>> estimate([0.0, 1.0, 1.0, 0.0], seed=0).mean
    0.5
    """

    mean: float
    n: int
    """Pairs."""
    units: int
    """Independent units: clusters, or pairs where there are no clusters."""
    sd: float | None
    """Standard deviation of a single pair that would give this standard error; without clusters and with one stratum
    the plain paired standard deviation. None for fewer than two units in a stratum."""
    bootstrap: Interval | None
    """BCa interval; None where `sd` is."""
    t: Interval | None
    """Student's interval on `units - strata` degrees of freedom; None where `sd` is."""
    detectable: float | None
    """Least true mean that a one-sided test at the interval's lower level finds with power 0.8; None where `sd` is."""


@dataclass(frozen=True)
class Share:
    """So many of so many. `value` of nothing is None."""

    count: int
    of: int

    def __post_init__(self) -> None:
        assert 0 <= self.count <= self.of, f"{self.count} of {self.of}"

    @property
    def value(self) -> float | None:
        return self.count / self.of if self.of else None

    def interval(self, confidence: float = 0.95) -> Interval | None:
        """Wilson's score interval."""
        if not self.of:
            return None
        z = _normal_quantile((1 + confidence) / 2)
        p, n = self.count / self.of, self.of
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
        return Interval(max(0.0, middle - half), min(1.0, middle + half), confidence)


def estimate(
    differences: npt.ArrayLike,
    *,
    seed: int,
    clusters: Sequence[Any] | None = None,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> Estimate | None:
    """The mean of one sample of paired differences, shape (n,); None for n = 0.

    With `clusters` (one label a difference) whole clusters are resampled, and the mean is still over pairs.
    """
    values = np.asarray(differences, dtype=np.float64)
    return _estimate([_units(values, clusters)], seed=seed, confidence=confidence, resamples=resamples)


def stratified(
    strata: Sequence[npt.ArrayLike], *, seed: int, confidence: float = 0.95, resamples: int = RESAMPLES
) -> Estimate | None:
    """The unweighted mean of the means of several samples, each resampled within itself; None without strata.

    Every stratum counts alike, however many pairs it has.

    Raises:
        AssertionError: a stratum is empty; leave it out and say that it was not measured.
    """
    samples = [_units(np.asarray(values, dtype=np.float64), None) for values in strata]
    assert all(len(sums) for sums, _ in samples), "an empty stratum has no mean"
    return _estimate(samples, seed=seed, confidence=confidence, resamples=resamples)


def power(effect: float, *, sd: float, n: int, confidence: float = 0.95) -> float:
    """Probability that the lower end of the t interval of `n` pairs lies above 0 when the true mean is `effect`."""
    from scipy.special import nctdtr, stdtrit

    assert n > 1, "power needs two pairs"
    if sd == 0:
        return float(effect > 0)
    critical = float(stdtrit(n - 1, (1 + confidence) / 2))
    return float(1 - nctdtr(n - 1, effect * n**0.5 / sd, critical))


def detectable(*, sd: float, n: int, confidence: float = 0.95, wanted: float = 0.8) -> float:
    """The least true mean that is found with power `wanted` (see `power`): the minimal detectable effect."""
    if sd == 0:
        return 0.0
    low, high = 0.0, 1.0
    while power(high * sd, sd=sd, n=n, confidence=confidence) < wanted:
        high *= 2
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle * sd, sd=sd, n=n, confidence=confidence) >= wanted else (middle, high)
    return high * sd


# -- the bootstrap --------------------------------------------------------------------------------------------------

_Sample = tuple[Floats, Floats]
"""Sum and number of pairs of each unit."""


def _units(values: Floats, clusters: Sequence[Any] | None) -> _Sample:
    assert values.ndim == 1, f"expected shape (n,), got {values.shape}"
    assert np.isfinite(values).all(), "a difference is not finite"
    if clusters is None:
        return values, np.ones_like(values)
    assert len(clusters) == len(values), f"{len(clusters)} cluster labels for {len(values)} differences"
    if not len(values):
        return values, np.ones_like(values)
    _, place = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(place, weights=values).astype(np.float64)
    return sums, np.bincount(place).astype(np.float64)


def _estimate(samples: Sequence[_Sample], *, seed: int, confidence: float, resamples: int) -> Estimate | None:
    if not samples or not all(len(sums) for sums, _ in samples):
        return None
    assert 0 < confidence < 1, confidence
    mean = float(np.mean([sums.sum() / counts.sum() for sums, counts in samples]))
    n = int(sum(counts.sum() for _, counts in samples))
    units = sum(len(sums) for sums, _ in samples)
    if any(len(sums) < 2 for sums, _ in samples):
        return Estimate(mean, n, units, None, None, None, None)
    error = _standard_error(samples)
    sd = error * n**0.5
    return Estimate(
        mean,
        n,
        units,
        sd,
        _bca(samples, mean, seed=seed, confidence=confidence, resamples=resamples),
        _t_interval(mean, error, units - len(samples), confidence),
        detectable(sd=error * units**0.5, n=units, confidence=confidence),
    )


def _influence(samples: Sequence[_Sample]) -> list[Floats]:
    """Empirical influence of each unit on the estimate, divided by its stratum's number of units."""
    return [(sums - sums.sum() / counts.sum() * counts) / counts.sum() / len(samples) for sums, counts in samples]


def _standard_error(samples: Sequence[_Sample]) -> float:
    """Of a mean of ratio estimators, linearised; with counts of one it is exactly sd / sqrt(n)."""
    return float(sum((part**2).sum() * len(part) / (len(part) - 1) for part in _influence(samples)) ** 0.5)


def _t_interval(mean: float, error: float, freedom: int, confidence: float) -> Interval:
    from scipy.special import stdtrit

    half = float(stdtrit(freedom, (1 + confidence) / 2)) * error
    return Interval(mean - half, mean + half, confidence)


def _bca(samples: Sequence[_Sample], mean: float, *, seed: int, confidence: float, resamples: int) -> Interval:
    """Bias-corrected and accelerated percentile interval."""
    from scipy.special import ndtr, ndtri

    rng = np.random.default_rng(seed)
    means = np.mean([_resampled(sums, counts, resamples, rng) for sums, counts in samples], axis=0)
    parts = np.concatenate(_influence(samples))
    spread = float((parts**2).sum())
    # Equal differences leave nothing to resample (up to rounding, which must not become a spread).
    if spread <= 1e-24 * max(1.0, mean * mean):
        return Interval(mean, mean, confidence)
    acceleration = float((parts**3).sum()) / (6 * spread**1.5)
    near = np.isclose(means, mean, rtol=0, atol=1e-12)
    below = float(((means < mean) & ~near).mean() + near.mean() / 2)
    bias = float(ndtri(np.clip(below, 1 / resamples, 1 - 1 / resamples)))
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    shifted = bias + ndtri(tails)
    levels = ndtr(bias + shifted / (1 - acceleration * shifted))
    low, high = np.quantile(means, levels)
    return Interval(float(low), float(high), confidence)


def _resampled(sums: Floats, counts: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Means of `resamples` samples drawn with replacement from the units, shape (resamples,)."""
    units = len(sums)
    rows = max(1, _CHUNK // units)
    means = np.empty(resamples)
    for start in range(0, resamples, rows):
        stop = min(start + rows, resamples)
        drawn = rng.integers(units, size=(stop - start, units))
        means[start:stop] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return means


def _normal_quantile(p: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(p))
