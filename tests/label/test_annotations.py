from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from loop import schema
from loop.errors import BadInputError
from loop.home import Home
from loop.label import annotations, tasks
from loop.label.annotations import Action, Annotation
from loop.label.tasks import Kind, Origin
from loop.lake import from_rows

DAY = date(2026, 1, 5)
AT = datetime(2026, 1, 6, 9, tzinfo=UTC)


def question(n: int = 0, **given: Any) -> dict[str, Any]:
    asked = {"kind": Kind.PREFERENCE, "texts": [f"one {n}", f"two {n}"], "origin": Origin.IMPORT, "reason": "random"}
    return tasks.task(day=DAY, workflow="ads", **{**asked, **given})


def table(*rows: dict[str, Any]) -> pa.Table:
    return from_rows(rows, schema.LABEL_TASKS)


def join(home: Home, *people: str, removed_at: datetime | None = None) -> None:
    row = {
        "source": "page",
        "token_id": None,
        "secret_hash": None,
        "workflows": ["ads"],
        "kinds": ["preference"],
        "harmful": False,
        "daily_minutes": 240,
        "daily_harmful": 20,
        "pay_per_hour": None,
        "joined_at": AT - timedelta(days=1),
        "joined_by": "lead",
        "removed_at": removed_at,
        "removed_by": None,
    }
    home.state.insert("annotators", [{"annotator": person, **row} for person in people])


def answer(task: dict[str, Any], person: str = "p1", label: str | None = "first", **given: Any) -> Annotation:
    return Annotation(task["label_task_id"], person, **{"answered_at": AT, "source": "page", "label": label, **given})


def test_tasks_are_added_once_and_read_back(home: Home) -> None:
    rows = [question(n) for n in range(3)]
    assert tasks.add(home.lake, home.state, [*rows[:2], rows[0]]) == tasks.Added(2, 1)
    later = {**rows[0], "reason": "disagreement"}
    assert tasks.add(home.lake, home.state, [later, rows[2]]) == tasks.Added(1, 1)
    there = tasks.read(home.lake, days=(DAY, DAY), workflows=["ads"]).to_pylist()
    assert there == sorted(rows, key=lambda row: row["label_task_id"])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"texts": ["one"]}, "expected 2 texts or images, got 1"),
        ({"kind": Kind.RATING, "texts": ["a"]}, "at least two options"),
        ({"kind": Kind.SPAN, "texts": ["a"]}, "the types of span"),
        ({"kind": Kind.REWRITE, "texts": ["a"], "images": ["x.png"]}, "expected no images"),
        ({"kind": Kind.CATEGORY, "texts": ["a"], "options": ["x", "x"]}, "each option once"),
        ({"images": ["a.png"]}, "in pairs"),
        ({"wanted": 0}, "at least one answer"),
    ],
)
def test_what_is_no_question_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInputError, match=told):
        question(**given)


def test_every_annotation_is_new_repeated_changed_or_refused(home: Home) -> None:
    first, second = question(1), question(2)
    join(home, "p1", "p2")
    given = [
        answer(first),
        answer(first),
        answer(first, label="second"),
        answer(first, "p2"),
        answer(second, label="third"),
        answer(second, action=Action.UNDO, label=None),
        answer(second, action=Action.SKIP, label=None, reason=" "),
        answer(second, action=Action.SKIP, label=None, reason="unreadable"),
        replace(answer(first), label_task_id="none"),
    ]
    done = annotations.record(home.state, table(first, second), given)
    assert (done.new, done.repeated, done.changed) == (3, 1, 1)
    assert done.refused == Counter(
        {
            "label that the task does not offer": 1,
            "nothing to undo": 1,
            "skipped without a reason": 1,
            "unknown task": 1,
        }
    )
    assert done.problems == [
        (4, "label that the task does not offer"),
        (6, "skipped without a reason"),
        (8, "unknown task"),
    ]
    again = annotations.record(home.state, table(first, second), given[2:4])
    assert (again.new, again.repeated, again.changed) == (0, 2, 0)
    stand = annotations.latest(home.state, DAY, "ads").select(["label_task_id", "annotator", "version", "label"])
    assert sorted(map(tuple, (row.values() for row in stand.to_pylist()))) == [
        (first["label_task_id"], "p1", 2, "second"),
        (first["label_task_id"], "p2", 1, "first"),
    ]


def test_an_answer_of_long_ago_was_recorded_when_it_came(home: Home) -> None:
    old, told = question(0), question(1)
    tasks.add(home.lake, home.state, [old, told])
    join(home, "p1")
    before = datetime.now(UTC)
    given = [answer(old), answer(told, recorded_at=AT + timedelta(days=10))]
    assert annotations.record(home.state, table(old, told), given).new == 2
    assert annotations.record(home.state, table(old, told), given).repeated == 2, "what is read again came once"
    stood = {row["label_task_id"]: row for row in annotations.latest(home.state, DAY, "ads").to_pylist()}
    assert {row["answered_at"] for row in stood.values()} == {AT}
    assert stood[told["label_task_id"]]["recorded_at"] == AT + timedelta(days=10)
    assert before <= stood[old["label_task_id"]]["recorded_at"] <= datetime.now(UTC)


def test_what_is_undone_does_not_stand_and_may_be_answered_again(home: Home) -> None:
    task = question()
    join(home, "p1")
    given = [answer(task), answer(task, action=Action.UNDO, label=None)]
    annotations.record(home.state, table(task), given)
    assert annotations.latest(home.state, DAY, "ads").num_rows == 0
    assert annotations.record(home.state, table(task), [answer(task)]).changed == 1
    assert annotations.latest(home.state, DAY, "ads")["version"].to_pylist() == [3]


def test_late_answers_and_those_of_nobody_are_kept_and_do_not_count(home: Home) -> None:
    task = question(due_at=AT)
    join(home, "p1", "p4")
    join(home, "p2", removed_at=AT)
    given = [
        answer(task, answered_at=AT + timedelta(seconds=1)),
        answer(task, "p2"),
        answer(task, "p3"),
        answer(task, "p4"),
    ]
    done = annotations.record(home.state, table(task), given)
    assert done.new == 4
    assert done.uncounted == Counter(
        {"after the deadline": 1, "from a removed annotator": 1, "from nobody who annotates": 1}
    )
    assert annotations.latest(home.state, DAY, "ads")["annotator"].to_pylist() == ["p4"]
    with home.state.engine.connect() as connection:
        stored = connection.execute(sa.select(sa.func.count()).select_from(home.state.tables["annotations"])).scalar()
    assert stored == 4


def test_another_answer_after_the_deadline_does_not_take_back_the_one_in_time(home: Home) -> None:
    task = question(due_at=AT)
    join(home, "p1", "p2")
    late = {"answered_at": AT + timedelta(seconds=1)}
    given = [
        answer(task),
        answer(task, label="second", **late),
        answer(task, "p2"),
        answer(task, "p2", action=Action.UNDO, label=None, **late),
    ]
    assert annotations.record(home.state, table(task), given).uncounted == Counter({"after the deadline": 2})
    stand = annotations.latest(home.state, DAY, "ads").select(["annotator", "version", "label"]).to_pylist()
    assert sorted(map(tuple, (row.values() for row in stand))) == [("p1", 1, "first"), ("p2", 1, "first")]


def test_what_counts_no_more_takes_no_earlier_answer_s_place(home: Home) -> None:
    task = question()
    join(home, "p1")
    given = [answer(task), answer(task, label="second"), answer(task, label="second", counts=False)]
    assert annotations.record(home.state, table(task), given).changed == 2
    assert annotations.latest(home.state, DAY, "ads").num_rows == 0


def test_an_old_answer_that_is_read_again_from_elsewhere_does_not_override_a_newer_one(home: Home) -> None:
    task = question()
    join(home, "p1")
    later = {"answered_at": AT + timedelta(hours=1)}
    old = answer(task, source="studio")
    given = [old, answer(task, label="second", **later), old, answer(task, action=Action.UNDO, source="studio")]
    done = annotations.record(home.state, table(task), given)
    assert (done.new, done.changed, done.repeated) == (1, 1, 2)
    newer = replace(old, label="tie", answered_at=AT + timedelta(hours=2))
    assert annotations.record(home.state, table(task), [newer]).changed == 1
    assert annotations.latest(home.state, DAY, "ads")["label"].to_pylist() == ["tie"]


def test_an_answer_in_time_that_is_read_after_a_late_one_is_kept_and_stands(home: Home) -> None:
    task = question(due_at=AT)
    join(home, "p1")
    late = answer(task, label="second", answered_at=AT + timedelta(seconds=1))
    done = annotations.record(home.state, table(task), [late, answer(task, source="studio")])
    assert (done.new, done.changed) == (1, 1)
    assert annotations.latest(home.state, DAY, "ads")["label"].to_pylist() == ["first"]


@pytest.mark.parametrize(
    ("kind", "content", "fits"),
    [
        (Kind.REWRITE, "better", True),
        (Kind.REWRITE, " ", False),
        (Kind.SPAN, [{"start": 0, "end": 3, "type": "claim"}], True),
        (Kind.SPAN, [{"start": 3, "end": 3, "type": "claim"}], False),
        (Kind.SPAN, [{"start": 0, "end": 3, "type": "other"}], False),
        (Kind.RED_TEAM, {"attempt": "a", "outcome": "refused", "severity": "none"}, True),
        (Kind.RED_TEAM, {"attempt": "a", "outcome": "refused"}, False),
        (Kind.PREFERENCE, "better", False),
    ],
)
def test_content_is_of_the_kind(kind: Kind, content: object, fits: bool) -> None:
    assert annotations.fits(kind, ["claim"], json.dumps(content)) is fits


def test_content_that_is_no_json_fits_nothing() -> None:
    assert not any(annotations.fits(kind, ["claim"], given) for kind in Kind for given in (None, "", "{", "x"))


def test_the_same_words_are_a_version_once_they_begin_or_cease_to_count(home: Home) -> None:
    asked = question()
    said = answer(asked)
    seen = []
    for given in (said, said, replace(said, counts=False), replace(said, counts=False), said):
        done = annotations.record(home.state, table(asked), [given])
        seen.append((done.new, done.repeated, done.changed, dict(done.uncounted)))
        if len(seen) == 1:
            join(home, "p1")  # at first from nobody who annotates
    assert seen == [
        (1, 0, 0, {"from nobody who annotates": 1}),
        (0, 0, 1, {}),
        (0, 0, 1, {"not to be counted": 1}),
        (0, 1, 0, {}),
        (0, 0, 1, {}),
    ]
    assert annotations.latest(home.state, DAY, "ads")["version"].to_pylist() == [4]


def test_the_same_words_after_the_deadline_do_not_undo_those_in_time(home: Home) -> None:
    asked = question(due_at=AT)
    join(home, "p1")
    annotations.record(home.state, table(asked), [answer(asked)])
    again = annotations.record(home.state, table(asked), [answer(asked, answered_at=AT + timedelta(hours=1))])
    assert (again.repeated, again.changed) == (1, 0)
    assert annotations.latest(home.state, DAY, "ads").num_rows == 1
