from __future__ import annotations

import numpy as np
import pytest
from crowds import crowd

from loop.errors import BadInputError
from loop.label.aggregate import agreement
from loop.label.aggregate import answers as columns
from loop.label.aggregate.agreement import Level, alpha, pairs, wilson

# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), section D: four observers, twelve units.
OBSERVED = (
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
)


def observed() -> columns.Answers:
    rows = [
        (f"o{w}", f"u{t}", said)
        for w, line in enumerate(OBSERVED)
        for t, said in enumerate(line.split())
        if said != "."
    ]
    return columns.sort(*([row[i] for row in rows] for i in range(3))).answers


@pytest.mark.parametrize(
    ("level", "published"), [(Level.NOMINAL, 0.743), (Level.ORDINAL, 0.815), (Level.INTERVAL, 0.849)]
)
def test_alpha_is_krippendorffs_own(level: Level, published: float) -> None:
    found = alpha(observed(), level)
    assert found is not None
    assert found.value == pytest.approx(published, abs=5e-4)
    assert found.n == 11
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high


def test_where_nothing_can_disagree_alpha_is_not_measured() -> None:
    assert alpha(columns.sort(["a", "b"], ["t", "u"], ["x", "y"]).answers) is None  # nobody met
    assert alpha(columns.sort(["a", "b"], ["t", "t"], ["x", "x"]).answers) is None  # one label alone
    with pytest.raises(BadInputError, match="labels that are numbers, got x, y"):
        alpha(columns.sort(["a", "b"], ["t", "t"], ["x", "y"]).answers, Level.INTERVAL)


@pytest.mark.parametrize(("tasks", "odd", "told"), [(8, 1, False), (40, 0, False), (40, 1, True)])
def test_of_few_tasks_or_where_all_agree_no_interval_is_told(tasks: int, odd: int, told: bool) -> None:
    said = [(w, f"t{t}", "xy"[(t + (w == "a" and t < odd)) % 2]) for t in range(tasks) for w in "ab"]
    found = alpha(columns.sort(*([row[i] for row in said] for i in range(3))).answers)
    assert found is not None
    assert (found.value == 1, found.n) == (odd == 0, tasks)
    assert (found.low is not None, found.high is not None) == (told, told)


def test_the_bootstrap_covers_what_many_more_tasks_would_say() -> None:
    whole = crowd(seed=0, tasks=4000).answers
    many = alpha(whole, resamples=10)
    assert many is not None
    inside = 0
    for seed in range(40):
        few = alpha(whole.of_tasks(np.arange(seed * 100, seed * 100 + 100)))
        assert few is not None
        assert few.low is not None
        assert few.high is not None
        inside += few.low <= many.value <= few.high
    assert inside >= 34


def test_pairs_have_cohens_kappa_and_no_order_but_the_names() -> None:
    # Cohen 1960 by hand: 20 tasks, both x on 8, both y on 6, 4 of x-y, 2 of y-x: p = .7, chance .6*.5+.4*.5 = .5.
    said = [("x", "x")] * 8 + [("y", "y")] * 6 + [("x", "y")] * 4 + [("y", "x")] * 2
    rows = [("b", f"t{i}", one) for i, (one, _) in enumerate(said)]
    rows += [("a", f"t{i}", other) for i, (_, other) in enumerate(said)]
    found = pairs(columns.sort(*([row[i] for row in rows] for i in range(3))).answers)
    assert [(p.first, p.second) for p in found] == [("a", "b")]
    (pair,) = found
    assert pair.agreement.value == pytest.approx(0.7)
    assert pair.beyond_chance is not None
    assert pair.beyond_chance.value == pytest.approx(0.4)
    assert pair.beyond_chance.low is not None
    assert pair.beyond_chance.low < 0.4 - 1.6 * 0.2
    assert (pair.agreement.n, pair.beyond_chance.n) == (20, 20)


def test_two_who_always_say_the_same_one_thing_have_no_kappa() -> None:
    (pair,) = pairs(columns.sort(["a", "b"] * 3, ["t", "t", "u", "u", "v", "v"], ["x"] * 6, ["x", "y"]).answers)
    assert (pair.agreement.value, pair.beyond_chance) == (1.0, None)


def test_wilsons_interval_is_the_published_one() -> None:
    # Newcombe 1998, table I: 81 of 263 and 0 of 20.
    some = wilson(81, 263)
    assert (some.low, some.high) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))
    none = wilson(0, 20)
    assert (none.low, none.high) == (0.0, pytest.approx(0.1611, abs=1e-4))
    with pytest.raises(AssertionError):
        wilson(0, 0)
    assert agreement.LEAST == 2
