"""Acceptance sampling: whether a delivery of answers is taken, from how its hidden known items were answered.

A single-sampling plan by attributes in the terms of ISO 2859: of `n` inspected items at most `c` may be wrong. It is
the smallest that keeps both risks, by exact probabilities (Guenther 1969, "Use of the binomial, hypergeometric and
Poisson tables to obtain sampling plans", Journal of Quality Technology 1(2):105-109; Montgomery, Introduction to
Statistical Quality Control, ch. 15): binomial where the inspected stand for a stream of work, hypergeometric where they
are drawn from the delivered items themselves. What it says holds if the known items are answered as the others are:
they must be of the same sort, and not to be told from them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from loop.errors import BadInputError

MOST: Final = 5_000
"""Largest sample that is looked for: rates that are nearer to one another cannot be told apart at any sane price."""


@dataclass(frozen=True)
class Plan:
    """How many are inspected, and how many of them may be wrong."""

    inspected: int
    allowed: int
    acceptable: float
    """Error rate that is good enough (the acceptance quality limit): rejected with at most `producer`."""
    limiting: float
    """Error rate that is too bad (the limiting quality): accepted with at most `consumer`."""
    producer: float
    """Stated risk that a good delivery is rejected."""
    consumer: float
    """Stated risk that a bad delivery is accepted."""
    lot: int | None = None
    """Items of the delivery, where the inspected are drawn from them; None: they stand for a stream of work."""

    def accepts_at(self, rate: float) -> float:
        """The probability that a delivery of that error rate is accepted (the operating characteristic)."""
        return _accepted(self.inspected, self.allowed, rate, self.lot, worse=rate >= self.limiting)

    @property
    def producer_risk(self) -> float:
        """What it is in fact, at most `producer`."""
        return 1.0 - self.accepts_at(self.acceptable)

    @property
    def consumer_risk(self) -> float:
        """What it is in fact, at most `consumer`."""
        return self.accepts_at(self.limiting)


@dataclass(frozen=True)
class Found:
    """What an inspection says."""

    inspected: int
    wrong: int
    allowed: int
    accepted: bool
    rate: float
    interval: tuple[float, float]
    """Of the error rate, 95 %: Clopper and Pearson 1934, exact."""
    p_value: float
    """Probability of as many wrong or more, were the error rate just the acceptable one."""
    producer_risk: float
    consumer_risk: float


def plan(
    *, acceptable: float, limiting: float, producer: float = 0.05, consumer: float = 0.10, lot: int | None = None
) -> Plan:
    """The plan with the fewest inspected items that keeps both risks.

    As `c` grows, so does the least `n` that keeps the consumer's risk, and each further item raises the producer's. So
    the first `c` whose least `n` keeps the producer's risk too gives the smallest plan.

    Args:
        lot: items of the delivery that the inspected are drawn from, if they are.

    Raises:
        BadInputError: a rate or risk is none, or no sample within the lot (or `MOST`) tells the two rates apart.
    """
    if not 0.0 <= acceptable < limiting < 1.0:
        raise BadInputError(f"error rates: expected 0 <= acceptable < limiting < 1, got {acceptable} and {limiting}")
    if not (0.0 < producer < 1.0 and 0.0 < consumer < 1.0):
        raise BadInputError(f"risks: expected numbers between 0 and 1, got {producer} and {consumer}")
    if lot is not None and lot < 1:
        raise BadInputError(f"lot: expected at least one item, got {lot}")
    most = MOST if lot is None else lot
    inspected, allowed = 1, 0
    while inspected <= most:
        inspected = _least(inspected, most, allowed, limiting, consumer, lot)
        if inspected > most:
            break
        if 1.0 - _accepted(inspected, allowed, acceptable, lot, worse=False) <= producer:
            return Plan(inspected, allowed, acceptable, limiting, producer, consumer, lot)
        allowed += 1
    raise BadInputError(
        f"no sample of up to {most:,} tells error rates of {acceptable:g} and {limiting:g} apart at risks of "
        f"{producer:g} and {consumer:g}: widen the gap between the rates, or allow more risk"
    )


def inspect(plan: Plan, inspected: int, wrong: int) -> Found:
    """The verdict on a delivery.

    Where fewer were inspected than planned, as when a known answer turned out not to be one, fewer may be wrong: as
    many as keep the consumer's risk. What that does to the producer's is said.

    Raises:
        BadInputError: so few were inspected that not even none wrong would keep the consumer's risk.
    """
    if not 0 <= wrong <= inspected:
        raise BadInputError(f"expected 0 <= wrong <= inspected, got {wrong} and {inspected}")
    allowed = plan.allowed
    if inspected < plan.inspected:
        kept = [c for c in range(allowed + 1) if _consumer(plan, inspected, c) <= plan.consumer]
        if not kept:
            raise BadInputError(
                f"{inspected} known items cannot tell a delivery of {plan.limiting:.1%} errors from a good one at a "
                f"consumer's risk of {plan.consumer:g}: {plan.inspected} were planned; make more known and export again"
            )
        allowed = kept[-1]
    return Found(
        inspected=inspected,
        wrong=wrong,
        allowed=allowed,
        accepted=wrong <= allowed,
        rate=wrong / inspected,
        interval=clopper_pearson(wrong, inspected),
        p_value=1.0 - _accepted(inspected, wrong - 1, plan.acceptable, plan.lot, worse=False) if wrong else 1.0,
        producer_risk=1.0 - _accepted(inspected, allowed, plan.acceptable, plan.lot, worse=False),
        consumer_risk=_consumer(plan, inspected, allowed),
    )


def clopper_pearson(wrong: int, inspected: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a rate, from quantiles of the beta distribution."""
    from scipy.stats import beta

    tail = (1.0 - level) / 2
    low = float(beta.ppf(tail, wrong, inspected - wrong + 1)) if wrong else 0.0
    high = float(beta.ppf(1.0 - tail, wrong + 1, inspected - wrong)) if wrong < inspected else 1.0
    return low, high


def _consumer(plan: Plan, inspected: int, allowed: int) -> float:
    return _accepted(inspected, allowed, plan.limiting, plan.lot, worse=True)


def _accepted(inspected: int, allowed: int, rate: float, lot: int | None, *, worse: bool) -> float:
    """P(at most `allowed` wrong of `inspected`). In a lot whole items are wrong: of a rate that is too bad at least
    that many, of one that is good enough at most.
    """
    from scipy.stats import binom, hypergeom

    if lot is None:
        return float(binom.cdf(allowed, inspected, rate))
    exact = rate * lot
    bad = math.ceil(exact - 1e-9) if worse else math.floor(exact + 1e-9)
    return float(hypergeom.cdf(allowed, lot, bad, inspected))


def _least(  # noqa: PLR0913, PLR0917 - what a plan is made of
    start: int, most: int, allowed: int, limiting: float, consumer: float, lot: int | None
) -> int:
    """The least sample, from `start` on, that keeps the consumer's risk; `most + 1` if none does. The risk falls with
    the sample, so that it can be halved.
    """
    low, high = max(start, allowed + 1), most
    if _accepted(high, allowed, limiting, lot, worse=True) > consumer:
        return most + 1
    while low < high:
        middle = (low + high) // 2
        if _accepted(middle, allowed, limiting, lot, worse=True) <= consumer:
            high = middle
        else:
            low = middle + 1
    return low
