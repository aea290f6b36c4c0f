"""Acceptance sampling: plans keep their risks exactly, and none smaller does; nothing here is simulated."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, comb, floor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop.errors import BadInputError
from loop.label import acceptance
from loop.label.acceptance import Plan, inspect, plan


def at_most(allowed: int, inspected: int, rate: Fraction) -> Fraction:
    """P(X <= allowed), X binomial, in whole fractions."""
    chances = (comb(inspected, k) * rate**k * (1 - rate) ** (inspected - k) for k in range(allowed + 1))
    return sum(chances, Fraction(0))


def drawn(allowed: int, inspected: int, bad: int, lot: int) -> Fraction:
    """P(X <= allowed), X hypergeometric."""
    ways = sum(comb(bad, k) * comb(lot - bad, inspected - k) for k in range(min(allowed, inspected) + 1))
    return Fraction(ways, comb(lot, inspected))


def test_plans_that_others_found() -> None:
    """Kiermeier 2008, Journal of Statistical Software 26(6): `find.plan` for 5 % and 15 % at 5 % and 7.5 %."""
    made = plan(acceptable=0.05, limiting=0.15, producer=0.05, consumer=0.075)
    assert (made.inspected, made.allowed) == (80, 7)
    assert plan(acceptable=0.05, limiting=0.15) == Plan(77, 7, 0.05, 0.15, 0.05, 0.10)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 15),
    st.integers(8, 30),
    st.sampled_from([1, 5, 10, 20]),
    st.sampled_from([1, 5, 10, 20]),
)
def test_a_plan_keeps_both_risks_and_none_smaller_does(good: int, gap: int, producer: int, consumer: int) -> None:
    acceptable, limiting = Fraction(good, 100), Fraction(good + gap, 100)
    alpha, beta = Fraction(producer, 100), Fraction(consumer, 100)
    made = plan(acceptable=float(acceptable), limiting=float(limiting), producer=float(alpha), consumer=float(beta))
    accepted = at_most(made.allowed, made.inspected, acceptable)
    missed = at_most(made.allowed, made.inspected, limiting)
    assert 1 - accepted <= alpha
    assert missed <= beta
    assert made.producer_risk == pytest.approx(float(1 - accepted), abs=1e-9)
    assert made.consumer_risk == pytest.approx(float(missed), abs=1e-9)
    fewer = made.inspected - 1  # where the consumer's risk is kept by fewer allowed, the producer's is not
    for allowed in range(made.allowed + 1):
        kept = at_most(allowed, fewer, limiting) <= beta and 1 - at_most(allowed, fewer, acceptable) <= alpha
        assert not kept


@settings(max_examples=20, deadline=None)
@given(st.integers(20, 120), st.integers(0, 10), st.integers(10, 40))
def test_a_plan_of_a_lot_keeps_both_risks_by_whole_items(lot: int, good: int, gap: int) -> None:
    acceptable, limiting = Fraction(good, 100), Fraction(good + gap, 100)
    try:
        made = plan(acceptable=float(acceptable), limiting=float(limiting), lot=lot)
    except BadInputError:
        whole = lot  # not even all of them: a whole item lies not between the rates
        assert ceil(limiting * lot) <= floor(acceptable * lot) or drawn(0, whole, ceil(limiting * lot), lot) > 0
        return
    assert made.inspected <= lot
    few, many = floor(acceptable * lot), ceil(limiting * lot)
    assert 1 - drawn(made.allowed, made.inspected, few, lot) <= Fraction(5, 100)
    assert drawn(made.allowed, made.inspected, many, lot) <= Fraction(10, 100)
    endless = plan(acceptable=float(acceptable), limiting=float(limiting))
    assert made.inspected <= endless.inspected  # who draws from a lot learns more of it


def test_the_operating_characteristic_falls() -> None:
    made = plan(acceptable=0.05, limiting=0.15)
    curve = [made.accepts_at(rate / 100) for rate in range(41)]
    assert curve[0] == 1.0
    assert curve == sorted(curve, reverse=True)
    assert made.accepts_at(0.05) >= 0.95
    assert made.accepts_at(0.15) <= 0.10


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300), st.integers(0, 300))
def test_an_inspection_of_fewer_still_keeps_the_consumers_risk(inspected: int, wrong: int) -> None:
    made = plan(acceptable=0.05, limiting=0.15)
    wrong = min(wrong, inspected)
    if at_most(0, inspected, Fraction(15, 100)) > Fraction(1, 10):
        with pytest.raises(BadInputError, match=f"{made.inspected} were planned"):
            inspect(made, inspected, wrong)
        return
    found = inspect(made, inspected, wrong)
    allowed = made.allowed if inspected >= made.inspected else found.allowed
    assert found.accepted is (wrong <= allowed)
    if inspected <= made.inspected:
        assert at_most(found.allowed, inspected, Fraction(15, 100)) <= Fraction(1, 10)
    assert found.interval[0] <= found.rate <= found.interval[1]
    assert found.p_value == pytest.approx(float(1 - at_most(wrong - 1, inspected, Fraction(5, 100))), abs=1e-9)


def test_the_interval_is_clopper_and_pearsons() -> None:
    assert acceptance.clopper_pearson(0, 10) == pytest.approx((0.0, 0.3085), abs=1e-4)
    assert acceptance.clopper_pearson(1, 10) == pytest.approx((0.0025, 0.4450), abs=1e-4)
    assert acceptance.clopper_pearson(10, 10) == pytest.approx((0.6915, 1.0), abs=1e-4)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"acceptable": 0.2, "limiting": 0.1}, "0 <= acceptable < limiting < 1, got 0.2 and 0.1"),
        ({"acceptable": 0.1, "limiting": 0.2, "producer": 0.0}, "between 0 and 1, got 0.0 and 0.1"),
        ({"acceptable": 0.1, "limiting": 0.2, "lot": 0}, "at least one item"),
        ({"acceptable": 0.1, "limiting": 0.10001}, "no sample of up to 5,000 tells"),
    ],
)
def test_what_cannot_be_planned_is_said(asked: dict[str, float], told: str) -> None:
    with pytest.raises(BadInputError, match=told):
        plan(**asked)  # type: ignore[arg-type]
