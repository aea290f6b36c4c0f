"""Known answers, appeals against them, and that an upheld one changes what had been measured."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from loop import schema
from loop.errors import BadInputError
from loop.home import Home
from loop.label import gold, tasks
from loop.label.annotations import Action, Annotation, record
from loop.label.gold import Verdict
from loop.label.tasks import Kind, Origin
from loop.lake import from_rows

AT = datetime(2026, 1, 6, 9, tzinfo=UTC)


def question(n: int = 0, **given_: Any) -> dict[str, Any]:
    asked = {"kind": Kind.RATING, "texts": [f"text {n}"], "options": ["bad", "good"], "reason": "gold"}
    return tasks.task(day=date(2026, 1, 5), workflow="ads", origin=Origin.IMPORT, **{**asked, **given_})


def join(home: Home, *people: str) -> None:
    row = {
        **{c.name: None for c in schema.ANNOTATORS.columns if c.nullable},
        "source": "page",
        "workflows": ["ads"],
        "kinds": ["rating"],
        "harmful": False,
        "daily_minutes": 1,
        "daily_harmful": 1,
        "joined_at": datetime(2026, 1, 1, tzinfo=UTC),
        "joined_by": "lead",
    }
    home.state.insert("annotators", [{**row, "annotator": person} for person in people])


def say(home: Home, row: dict[str, Any], person: str, label: str | None, action: Action = Action.ANSWER) -> None:
    reason = "no" if action is Action.SKIP else None
    said = Annotation(row["label_task_id"], person, AT, "page", action=action, label=label, reason=reason)
    record(home.state, from_rows([row], schema.LABEL_TASKS), [said])


def known(home: Home, row: dict[str, Any], label: str | None = "good", **more: Any) -> gold.Gold:
    return gold.put(home.state, row, **{"label": label, "reason": "two experts", "author": "lead", **more})


def accuracy(home: Home) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for one in gold.judged(home.state):
        right, of = found.get(one.annotator, (0, 0))
        found[one.annotator] = (right + one.right, of + 1)
    return found


def test_every_version_is_kept_and_the_last_counts(home: Home) -> None:
    row = question()
    assert [known(home, row).version, known(home, row).version] == [1, 1], "the same said again changes nothing"
    assert known(home, row, "bad", reason="looked again").version == 2
    assert known(home, row, None, reason="nobody can tell").version == 3
    told = gold.history(home.state, row["label_task_id"])
    assert [(one.label, one.reason) for one in told] == [
        ("good", "two experts"),
        ("bad", "looked again"),
        (None, "nobody can tell"),
    ]
    with home.state.engine.connect() as connection:
        assert gold.latest(connection, home.state) == {}


@pytest.mark.parametrize(
    ("row", "more", "told"),
    [
        (question(), {"label": "fine"}, "expected one of bad, good"),
        (question(), {"label": None}, "whose answer is known"),
        (question(), {"reason": " "}, "where the answer is known from"),
        (question(kind=Kind.REWRITE, options=[]), {}, "whose answers are labels, got a rewrite"),
    ],
)
def test_what_cannot_be_known_is_refused(home: Home, row: dict[str, Any], more: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInputError, match=told):
        known(home, row, **more)
    assert home.state.arrow("gold").num_rows == 0


def test_only_standing_answers_are_judged(home: Home) -> None:
    rows = [question(n) for n in range(4)]
    join(home, "ann", "ben")
    for row in rows[:3]:
        known(home, row)
    say(home, rows[0], "ann", "bad")
    say(home, rows[0], "ann", "good")
    say(home, rows[1], "ann", "good")
    say(home, rows[1], "ann", None, Action.UNDO)
    say(home, rows[2], "ann", None, Action.SKIP)
    say(home, rows[3], "ann", "bad")
    say(home, rows[0], "ben", "bad")
    say(home, rows[0], "nobody", "bad")
    assert accuracy(home) == {"ann": (1, 1), "ben": (0, 1)}


def test_what_is_said_after_the_deadline_changes_no_accuracy_and_cannot_be_contested(home: Home) -> None:
    row = question(due_at=AT)
    join(home, "ann")
    known(home, row)
    say(home, row, "ann", "good")
    late = Annotation(row["label_task_id"], "ann", AT + timedelta(seconds=1), "page", label="bad")
    assert record(home.state, from_rows([row], schema.LABEL_TASKS), [late]).changed == 1
    assert accuracy(home) == {"ann": (1, 1)}
    with pytest.raises(BadInputError, match="gave another answer"):
        gold.contest(home.state, row["label_task_id"], "ann", "no")


def test_an_upheld_appeal_corrects_the_answer_and_all_that_was_measured_by_it(home: Home) -> None:
    row = question()
    join(home, "ann", "ben")
    known(home, row, "good", hidden=False)
    say(home, row, "ann", "bad")
    say(home, row, "ben", "good")
    assert accuracy(home) == {"ann": (0, 1), "ben": (1, 1)}
    appeal = gold.contest(home.state, row["label_task_id"], "ann", "  it is unreadable ")
    assert [a["argument"] for a in gold.appeals(home.state, pending=True)] == ["it is unreadable"]
    told = {"answer": "Indeed.", "author": "lead", "label": "bad", "offered": row["options"]}
    closed = gold.decide(home.state, appeal, Verdict.UPHELD, **told)
    assert (closed["verdict"], closed["answer"], closed["closed_by"]) == ("upheld", "Indeed.", "lead")
    assert accuracy(home) == {"ann": (1, 1), "ben": (0, 1)}
    last = gold.history(home.state, row["label_task_id"])[-1]
    assert (last.version, last.label, last.hidden, last.reason) == (2, "bad", False, f"appeal {appeal}: Indeed.")
    assert gold.appeals(home.state, pending=True) == []
    with pytest.raises(BadInputError, match="an open appeal"):
        gold.decide(home.state, appeal, Verdict.DISMISSED, answer="no", author="lead")


def test_an_answer_that_nobody_can_know_is_known_no_more(home: Home) -> None:
    row = question()
    join(home, "ann")
    known(home, row)
    say(home, row, "ann", "bad")
    appeal = gold.contest(home.state, row["label_task_id"], "ann", "it may be either")
    gold.decide(home.state, appeal, Verdict.UPHELD, answer="True.", author="lead")
    assert accuracy(home) == {}


def test_a_dismissed_appeal_changes_nothing_and_is_not_opened_again_until_the_answer_changes(home: Home) -> None:
    row = question()
    join(home, "ann", "ben")
    known(home, row)
    say(home, row, "ann", "bad")
    say(home, row, "ben", "good")
    key = row["label_task_id"]
    with pytest.raises(BadInputError, match="gave another answer"):
        gold.contest(home.state, key, "ben", "no")
    with pytest.raises(BadInputError, match="says why"):
        gold.contest(home.state, key, "ann", " ")
    appeal = gold.contest(home.state, key, "ann", "no")
    with pytest.raises(BadInputError, match="already"):
        gold.contest(home.state, key, "ann", "no!")
    with pytest.raises(BadInputError, match="leave the label out"):
        gold.decide(home.state, appeal, Verdict.DISMISSED, answer="a", author="l", label="bad", offered=["bad"])
    with pytest.raises(BadInputError, match="held to be right now"):
        gold.decide(home.state, appeal, Verdict.UPHELD, answer="a", author="l", label="good", offered=row["options"])
    gold.decide(home.state, appeal, Verdict.DISMISSED, answer="See the rubric.", author="lead")
    assert accuracy(home)["ann"] == (0, 1)
    with pytest.raises(BadInputError, match="already"):
        gold.contest(home.state, key, "ann", "no!")
    known(home, row, "bad", reason="new rubric")
    known(home, row, "good", reason="the old one")
    assert gold.contest(home.state, key, "ann", "again")
