from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from loop.validate import drift
from loop.validate.drift import Drift, compare
from loop.validate.profiles import Profile, profile
from tests.rows import SHOWN, decision, interactions

TOPICS = ("the invoice of last month", "a new brochure", "an apology to a reader", "opening hours", "the summer party")
GERMAN = "Wir bitten Sie um eine Antwort bis zum Ende der nächsten Woche, denn sonst ist die Frist vorbei."
ENGLISH = "We ask you for an answer by the end of next week, for otherwise it will be too late for the offer."


def day(seed: int, count: int = 200, **shares: float) -> list[dict[str, Any]]:
    """A day of thirty people in two teams; shares of accepts and of German answers as told."""
    rng = np.random.default_rng(seed)
    rows = []
    for n in range(count):
        person = int(rng.integers(30))
        text = GERMAN if rng.random() < shares.get("german", 0.0) else f"{ENGLISH} {TOPICS[rng.integers(5)]}"
        shown = [{"position": i, "text": t, "logprob": None} for i, t in enumerate((text, *SHOWN[1:]))]
        told = {
            "employee": f"p{person}",
            "team": ("red", "blue")[person % 2],
            "candidates": shown,
            "prompt": [{"role": "user", "content": f"write about {TOPICS[rng.integers(5)]}, number {n}"}],
            "source": "gateway",
        }
        if rng.random() < shares.get("accept", 0.5):
            rows.append(decision(n, "accept", 0, text, **told))
        else:
            rows.append(decision(n, "reject", **told))
    return rows


def made(seed: int, count: int = 200, **shares: float) -> Profile:
    return profile(interactions(*day(seed, count, **shares)))


@pytest.fixture(scope="module")
def fortnight() -> list[Profile]:
    return [made(seed) for seed in range(14)]


def named(drifts: list[Drift]) -> dict[str, Drift]:
    return {one.name: one for one in drifts}


def outcome(one: Profile, before: list[Profile], *, imported: bool = False) -> tuple[set[str], set[str]]:
    """Figures beyond their bound, and those that hold the batch."""
    drifts = compare(one, before, imported=imported)
    return {d.name for d in drifts if not d.passed}, {d.name for d in drifts if d.blocking}


def test_clean_days_are_no_drift(fortnight: list[Profile]) -> None:
    assert [outcome(made(seed), fortnight) for seed in range(100, 110)] == [(set(), set())] * 10


def test_every_figure_has_its_bound_and_its_reason(fortnight: list[Profile]) -> None:
    drifts = compare(made(50), fortnight, imported=False)
    assert [d.name for d in drifts] == [
        "volume",
        "decision mix",
        "mix of a team",
        "length of prompts",
        "length of final texts",
        "language",
        "vocabulary",
        "prompt n-grams",
        "final-text n-grams",
    ]
    for one in drifts:
        assert one.figure is not None
        assert one.bound is not None
        assert len(one.reason) > 30
        assert f"{one.figure:.2f}"[:3] in one.told or one.name == "volume"


@pytest.mark.parametrize(
    ("shares", "seen", "held"),
    [
        ({"accept": 0.75}, {"decision mix"}, set()),
        ({"accept": 0.97}, {"decision mix", "mix of a team"}, {"decision mix"}),
        ({"german": 0.15}, {"language"}, set()),
        ({"german": 0.9}, {"language", "final-text n-grams", "vocabulary"}, {"language", "length of final texts"}),
    ],
)
def test_a_planted_drift_is_seen_and_a_gross_one_holds(
    fortnight: list[Profile], shares: dict[str, float], seen: set[str], held: set[str]
) -> None:
    found, blocking = outcome(made(60, 300, **shares), fortnight)
    assert seen <= found
    assert blocking == held


def test_a_team_that_moves_alone_is_seen(fortnight: list[Profile]) -> None:
    rows = [
        r | {"decision": "accept", "chosen": 0, "final_text": r["candidates"][0]["text"]} if r["team"] == "red" else r
        for r in day(61, 300)
    ]
    found, _ = outcome(profile(interactions(*rows)), fortnight)
    assert "mix of a team" in found


def test_without_a_week_or_for_an_import_nothing_holds(fortnight: list[Profile]) -> None:
    gross = made(62, 300, accept=0.99, german=0.9)
    assert outcome(gross, fortnight)[1] >= {"language"}
    assert outcome(gross, fortnight[:6])[1] == set()
    assert outcome(gross, fortnight, imported=True)[1] == set()
    assert "language" in outcome(gross, fortnight[:6])[0]


def test_what_cannot_be_measured_is_no_figure(fortnight: list[Profile]) -> None:
    for one, before in ((made(63, 20), fortnight), (made(63), fortnight[:3])):
        drifts = compare(one, before, imported=False)[1:]
        assert [(d.figure, d.passed) for d in drifts] == [(None, True)] * 8
        assert all("not measured" in d.told for d in drifts)


@pytest.mark.parametrize(
    ("rows", "days", "held"),
    [(100, 7, False), (40, 7, False), (32, 7, True), (301, 7, True), (32, 6, False), (0, 7, True), (0, 6, False)],
)
def test_volume(rows: int, days: int, held: bool) -> None:
    before = [dataclasses.replace(made(0, 1), rows=100) for _ in range(days)]
    [told, *_] = compare(dataclasses.replace(made(0, 1), rows=rows), before, imported=False)
    assert told.blocking is held
    assert ("median of 100" in told.told) or rows == 0


def test_a_feed_that_was_never_busy_may_fall_silent() -> None:
    before = [dataclasses.replace(made(0, 1), rows=5) for _ in range(14)]
    assert compare(dataclasses.replace(made(0, 1), rows=0), before, imported=False)[0].passed


def test_days_that_vary_much_widen_the_bound_on_volume() -> None:
    before = [dataclasses.replace(made(0, 1), rows=rows) for rows in (20, 400, 30, 500, 25, 450, 35, 380)]
    told = compare(dataclasses.replace(made(0, 1), rows=20), before, imported=False)[0]
    assert told.passed
    assert "vary that much" in told.reason


def test_the_distances_are_what_their_names_say() -> None:
    p, q = np.array([1, 3]), np.array([3, 1])
    assert drift.total_variation(p, q) == 0.5
    assert drift.kolmogorov_smirnov(p, q) == 0.5
    entropy = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
    assert drift.jensen_shannon(p, q) == pytest.approx(1 - entropy)
    assert drift.jensen_shannon(np.array([1, 0]), np.array([0, 1])) == 1
    assert drift.jensen_shannon(p, 5 * p) == pytest.approx(0)


def test_the_bound_is_a_prediction_interval() -> None:
    """Mean + t(.999; 3) s sqrt(1 + 1/4) of 1, 2, 3, 4: t from a table, 10.215."""
    bound = drift._interval(np.array([1.0, 2.0, 3.0, 4.0]))
    assert bound == pytest.approx(2.5 + 10.2145 * 1.290994 * math.sqrt(1.25), rel=1e-4)
