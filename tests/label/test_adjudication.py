"""One person decides what answers leave unsure: the label follows, votes and voters stay what they were."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from loop import schema
from loop.errors import BadInputError
from loop.home import Home
from loop.label import adjudication, outside, tasks
from loop.label.aggregate import partition
from loop.label.annotations import Annotation, record
from loop.label.tasks import Kind, Origin
from loop.lake import from_rows
from tests.rows import DAY

PAST = datetime.now(UTC) - timedelta(hours=2)


def answered(home: Home, *labels: str) -> dict[str, Any]:
    """A task whose deadline is over, with what people said before it."""
    plain: dict[str, Any] = {"day": DAY, "workflow": "comms", "origin": Origin.DECISION, "reason": "random"}
    task = tasks.task(kind=Kind.PREFERENCE, texts=["a", "b"], due_at=PAST + timedelta(hours=1), **plain)
    tasks.add(home.lake, home.state, [task])
    for n, label in enumerate(labels):
        who = outside.enlist(home.settings, home.state, person=f"person {n}", source="page", author="lead")
        given = [Annotation(task["label_task_id"], who, PAST, "page", label=label)]
        assert record(home.state, from_rows([task], schema.LABEL_TASKS), given).new == 1
    partition.build(home.lake, home.state, DAY, "comms")
    return task


def decide(home: Home, task: str, label: str, reason: str = "the second is false") -> str:
    told = {"label_task_id": task, "label": label, "reason": reason, "author": "lead"}
    return adjudication.decide(home.settings, home.lake, home.state, **told)


def label_of(home: Home) -> tuple[Any, ...]:
    [row] = home.lake.read("task_labels").to_pylist()
    return tuple(row[name] for name in ("label", "confidence", "abstain", "answers", "method"))


def test_a_decision_is_the_label_whatever_the_votes_and_after_the_deadline(home: Home) -> None:
    task = answered(home, "first", "second")["label_task_id"]
    assert partition.to_adjudicate(home.lake, DAY, "comms").num_rows == 1
    before = partition.groups(home.lake, home.state, DAY, "comms")
    assert decide(home, task[:12], "first") == task
    assert label_of(home) == ("first", 1.0, False, 3, "adjudicated")
    assert partition.to_adjudicate(home.lake, DAY, "comms").num_rows == 0
    after = partition.groups(home.lake, home.state, DAY, "comms")
    assert [g.rows for g in after.values()] == [g.rows for g in before.values()], "a decision is no vote"
    decide(home, task, "tie")
    assert label_of(home) == ("tie", 1.0, False, 3, "adjudicated")
    assert partition.build(home.lake, home.state, DAY, "comms").labelled == 1
    assert label_of(home)[0] == "tie"


def test_what_nobody_answered_can_be_decided_too(home: Home) -> None:
    decide(home, answered(home)["label_task_id"], "neither")
    assert label_of(home) == ("neither", 1.0, False, 1, "adjudicated")


def test_a_decision_that_makes_no_sense_is_refused(home: Home) -> None:
    task = answered(home, "first")["label_task_id"]
    before = label_of(home)
    for said, told in (
        ((task, "third"), "expected one of first, second, tie, neither, got 'third'"),
        ((task, "first", " "), "expected why it is decided so"),
        (("nothing", "first"), "begins 0"),
    ):
        with pytest.raises(BadInputError, match=told):
            decide(home, *said)
    plain: dict[str, Any] = {"day": DAY, "workflow": "comms", "origin": Origin.DECISION, "reason": "random"}
    other = tasks.task(kind=Kind.REWRITE, texts=["a"], **plain)
    tasks.add(home.lake, home.state, [other])
    with pytest.raises(BadInputError, match="answered with content"):
        decide(home, other["label_task_id"], "first")
    assert label_of(home) == before
