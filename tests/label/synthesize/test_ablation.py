"""Whether synthetic rows help is told by answers of people alone."""

from __future__ import annotations

import random

import numpy as np
import pytest

from loop.label.synthesize.ablation import ablate, interval

COLOURS = ("red", "green", "blue", "white", "black", "brown")
THINGS = tuple(f"thing{n}" for n in range(60))


def pairs(seed: int, count: int, right: float = 1.0) -> list[tuple[str, str]]:
    """Each thing has a colour, and who answers names it with that chance."""
    draw = random.Random(seed)
    told = []
    for _ in range(count):
        place = draw.randrange(len(THINGS))
        colour = COLOURS[place % 6] if draw.random() < right else draw.choice(COLOURS)
        told.append((f"please paint the {THINGS[place]} for us", f"paint it {colour}, then wait"))
    return told


HELD_OUT = pairs(1, 200)
PEOPLE = [f"p{n % 10}" for n in range(200)]


def test_good_rows_help_and_bad_ones_do_not() -> None:
    real = pairs(0, 60)
    good = ablate(real, pairs(2, 200), HELD_OUT, PEOPLE)
    assert good.helps
    assert good.gain is not None
    assert good.low is not None
    assert 0 < good.low < good.gain
    assert (good.real_rows, good.held_out_rows, good.people) == (60, 200, 10)
    bad = ablate(real, pairs(2, 200, right=0.0), HELD_OUT, PEOPLE)
    assert not bad.helps
    assert bad.high is not None
    assert bad.high < 0
    assert bad.score_without == pytest.approx(good.score_without, rel=0.05)  # the same real rows, other words known


def test_where_too_little_is_known_nothing_is_measured_and_nothing_helps() -> None:
    few = ablate(pairs(0, 60), pairs(2, 50), HELD_OUT, ["p1"] * 200)
    assert (few.people, few.gain, few.low, few.helps) == (1, None, None, False)
    assert ablate(pairs(0, 3), pairs(2, 50), HELD_OUT, PEOPLE).gain is None
    assert ablate(pairs(0, 60), [], HELD_OUT, PEOPLE).gain is None


def test_the_interval_knows_that_rows_of_one_person_are_alike() -> None:
    of_people = np.repeat([1.0, -1.0, 2.0, 0.0, 1.5, 0.5], 50)
    who = [f"p{n // 50}" for n in range(300)]
    low, high = interval(of_people, who)
    assert low < 0 < high  # 300 independent rows of that spread would be far from 0
    assert (low + high) / 2 == pytest.approx(of_people.mean())


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng, hits = np.random.default_rng(0), 0
    who = [f"p{n % 8}" for n in range(80)]
    for _ in range(400):
        effects = rng.normal(0.3, 1.0, 8)
        low, high = interval(effects[np.arange(80) % 8] + rng.normal(0, 1, 80), who)
        hits += low <= 0.3 <= high
    assert 0.92 < hits / 400 < 0.98
