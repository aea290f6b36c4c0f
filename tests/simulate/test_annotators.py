"""Annotators of the simulated organisation: as good as they are said to be, and the same every time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from itertools import islice
from typing import Any

import numpy as np
import pytest

from loop.errors import BadInputError
from loop.simulate import annotators
from loop.simulate.people import Employee
from loop.simulate.prompts import Brief, Purpose, draw
from loop.simulate.streams import stream
from loop.simulate.world import World
from loop.workflows import BUILT_IN

WORLD = World(0)
BASE = Employee("a", "moderation", "t", "emea", 0.3, 1.0, 0.0, 0.0, 0.5, 0.0, 0.0)
HOUSE = BUILT_IN["moderation"]


def texts(brief: Brief) -> Iterator[str]:
    rng = stream("texts", brief.text)
    while True:
        yield HOUSE.render({part: str(rng.choice(values)) for part, values in HOUSE.parts.items()})


def asked(kind: str, count: int = 300, options: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    rows = []
    for i, brief in enumerate(islice(draw(stream("briefs"), "moderation", Purpose.TRAIN), count)):
        shown = list(islice(texts(brief), 2 if kind == "preference" else 1))
        row = {"label_task_id": f"t{i}", "workflow": "moderation", "kind": kind, "day": date(2026, 1, 5)}
        alone = kind == "category"
        row |= {"prompt": [] if alone else brief.messages, "texts": [brief.text] if alone else shown}
        rows.append(row | {"options": list(options)})
    return rows


def right(who: Employee, rows: list[dict[str, Any]], done: int = 0) -> float:
    said = [(annotators.answer(WORLD, row, who, done=done).label, annotators.truth(WORLD, row)) for row in rows]
    return float(np.mean([label == true for label, true in said if true is not None]))


def test_the_skilled_are_right_more_often_and_the_tired_and_careless_less() -> None:
    rows = asked("preference")
    skilled, plain, poor = (right(replace(BASE, skill=skill), rows) for skill in (3.0, 1.0, 0.4))
    assert skilled > plain > poor > 0.5
    assert right(replace(BASE, tiring=3.0), rows, done=annotators.LOAD) < right(replace(BASE, tiring=3.0), rows)
    assert right(replace(BASE, carelessness=0.5), rows) < plain - 0.05


def test_categories_are_those_that_the_world_holds_right() -> None:
    options = HOUSE.parts["decision"]
    rows = asked("category", 200, options)
    assert right(replace(BASE, skill=20.0), rows) > 0.95
    assert right(replace(BASE, carelessness=1.0), rows) < 0.3
    assert {annotators.answer(WORLD, row, BASE).label for row in rows} <= set(options)


def test_whoever_prefers_the_first_place_takes_it_wherever_the_texts_stand() -> None:
    rows = asked("preference")
    biased = replace(BASE, position_bias=5.0)
    said = [annotators.answer(WORLD, row, biased) for row in rows]
    decided = [one for one in said if one.label in {"first", "second"}]
    assert {one.label == "second" for one in decided if one.swapped} == {True}
    assert {one.label == "first" for one in decided if not one.swapped} == {True}
    assert 0.4 < np.mean([one.swapped for one in said]) < 0.6


def test_rewrites_are_better_and_ratings_go_with_the_truth() -> None:
    gains, ratings = [], []
    for row, rated in zip(asked("rewrite"), asked("rating", options=("1", "2", "3", "4", "5")), strict=True):
        brief = next(draw(stream("none"), "moderation", Purpose.TRAIN))
        brief = Brief("moderation", _attributes(row), brief.text)
        before = WORLD.utility(brief, HOUSE.parse(row["texts"][0]))
        after = WORLD.utility(brief, HOUSE.parse(json.loads(annotators.answer(WORLD, row, BASE).content or "")))
        gains.append(after - before)
        ratings.append((int(annotators.answer(WORLD, rated, replace(BASE, skill=3.0)).label or 0), before))
    assert np.mean(gains) > 0.5
    assert np.corrcoef(np.array(ratings).T)[0, 1] > 0.7


def _attributes(row: dict[str, Any]) -> tuple[int, ...]:
    from loop.simulate.prompts import read

    return read("moderation", row["prompt"]).attributes


def test_the_same_task_and_person_say_the_same_and_pace_is_a_persons_own() -> None:
    rows = asked("preference", 100)
    assert [annotators.answer(WORLD, r, BASE) for r in rows] == [annotators.answer(WORLD, r, BASE) for r in rows]
    slow, quick = (
        np.median([annotators.answer(WORLD, r, replace(BASE, pace=pace)).seconds for r in rows]) for pace in (2.0, 0.5)
    )
    assert slow == pytest.approx(4 * quick, rel=0.01)


def test_those_who_are_hired_differ_and_are_the_same_in_every_run() -> None:
    hired = annotators.hire(0, "ads", 30)
    assert hired == annotators.hire(0, "ads", 30)
    assert len({who.id for who in hired}) == 30
    assert np.std([who.skill for who in hired]) > 0.2
    assert {who.carelessness for who in hired} >= {0.0, 0.05}
    assert annotators.told(hired)[0]["skill"] == hired[0].skill


def test_what_it_has_no_truth_on_is_refused() -> None:
    with pytest.raises(BadInputError, match="got a task of kind 'span'"):
        annotators.answer(WORLD, asked("preference", 1)[0] | {"kind": "span"}, BASE)
