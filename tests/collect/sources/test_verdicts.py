from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.collect.sources import verdicts
from loop.collect.sources.verdicts import Scale, Verdict
from loop.errors import BadInputError

UP, DOWN, UNCLEAR = Verdict.UP, Verdict.DOWN, Verdict.UNCLEAR


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("anything", "accept", UP),
        ("anything", "Thumbs up", UP),
        ("anything", "👎", DOWN),
        ("anything", "rejected", DOWN),
        ("user_feedback", True, UP),
        ("user-feedback", "False", DOWN),
        ("isHelpful", True, UP),
        ("helpful", "no", DOWN),
        ("thumb", 1, UP),
        ("thumb", -1.0, DOWN),
        # true under a name that whoever is content answers with no, or that says nothing of content
        ("contains_pii", True, UNCLEAR),
        ("not_helpful", True, UNCLEAR),
        ("thumbs_down", True, UNCLEAR),
        ("needs_correction", False, UNCLEAR),
        ("", True, UNCLEAR),
        # a number has no side by itself: 0 is the middle of one scale and the end of another
        ("thumb", 0, UNCLEAR),
        ("user_feedback", 1, UNCLEAR),
        ("user_feedback", 0, UNCLEAR),
        ("stars", 5, UNCLEAR),
        ("stars", math.nan, UNCLEAR),
        ("user_feedback", "meh", UNCLEAR),
        ("user_feedback", None, UNCLEAR),
        ("user_feedback", ["accept"], UNCLEAR),
    ],
)
def test_a_value_says_a_side_by_itself_or_by_its_name_or_none(name: str, value: Any, expected: Verdict) -> None:
    assert verdicts.verdict(name, value, {}) is expected


@pytest.mark.parametrize(
    ("scale", "value", "expected"),
    [
        (Scale("2", "4"), 4, UP),
        (Scale("2", "4"), "5", UP),
        (Scale("2", "4"), 3, UNCLEAR),
        (Scale("2", "4"), 2.0, DOWN),
        (Scale("2", "4"), -7, DOWN),
        (Scale("4", "2"), 1, UP),
        (Scale("4", "2"), 3, UNCLEAR),
        (Scale("4", "2"), 4, DOWN),
        (Scale("0", "1"), math.nan, UNCLEAR),
        (Scale("0", "1"), True, UNCLEAR),
        (Scale("redo", "ship"), "Ship", UP),
        (Scale("redo", "ship"), "redo", DOWN),
        (Scale("redo", "ship"), "wait", UNCLEAR),
        (Scale("true", "false"), True, DOWN),
    ],
)
def test_a_scale_says_what_a_score_means_whatever_its_name(scale: Scale, value: Any, expected: Verdict) -> None:
    assert verdicts.verdict("contains_pii", value, {"contains_pii": scale}) is expected


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_no_number_lies_on_both_sides_of_a_scale(value: float, down: float, up: float) -> None:
    if down == up:
        return
    one, other = Scale(str(down), str(up)).verdict(value), Scale(str(up), str(down)).verdict(value)
    assert {one, other} in ({UP, DOWN}, {UNCLEAR})


def test_a_reading_is_made_of_the_words_of_a_command_line() -> None:
    read = verdicts.reading("ads", ["stars=2:4", "a=b=redo:ship"])
    assert (read.workflow, read.scores) == ("ads", {"stars": Scale("2", "4"), "a": Scale("b=redo", "ship")})


@pytest.mark.parametrize("score", ["stars", "stars=", "stars=2", "=2:4", "stars=2:", "stars=2:2.0", "x=No:no"])
def test_a_score_that_says_no_two_sides_is_refused(score: str) -> None:
    with pytest.raises(BadInputError, match=r"--score: expected NAME=DOWN:UP, such as stars=2:4"):
        verdicts.reading(None, [score])


def test_an_unknown_workflow_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"--workflow: expected one of ads, .*, got 'cooking'"):
        verdicts.reading("cooking", [])


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        ("too-long", ("too-long",)),
        ("tone, facts;tone", ("tone", "facts")),
        ("", ()),
        ("deleted, tone", ("tone",)),
        ("Bob wrote this badly", None),
        ("tone, Bob wrote this", None),
        ("bob@example.org", None),
        ("x" * 31, None),
        (7, None),
    ],
)
def test_short_words_are_tags_and_free_text_is_none(comment: Any, expected: tuple[str, ...] | None) -> None:
    assert verdicts.tags(comment) == expected


@pytest.mark.parametrize(
    ("name", "person", "text"),
    [
        ("user_feedback", True, False),
        ("human-rating", True, False),
        ("thumb", True, False),
        ("faithfulness", False, False),
        ("toxicity", False, False),
        ("expected_response", False, True),
        ("correctedOutput", False, True),
        ("expected_facts", False, False),
        ("guidelines", False, False),
        ("", False, False),
    ],
)
def test_a_name_may_say_that_a_person_rated_or_that_a_text_should_have_stood(
    name: str, person: bool, text: bool
) -> None:
    assert (verdicts.of_person(name, {}), verdicts.of_text(name)) == (person, text)
    assert verdicts.of_person(name, {name: Scale("0", "1")})


def test_an_explanation_repeats_no_free_text() -> None:
    values = (0.5, True, None, "redo", "Bob is rude", [1], {})
    shown = [verdicts.shown(value) for value in values]
    assert shown == ["0.5", "True", "None", "redo", "a text of 11 characters", "a list", "a dict"]
