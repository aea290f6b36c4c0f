"""Attempts of red teamers, as the safety suite will read them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from loop.home import Home
from loop.label import annotators, tasks
from loop.label.annotations import Action, Annotation, record
from loop.label.redteam import ATTEMPTS, red_team_attempts
from loop.label.select.red_team import red_team
from loop.label.tasks import Kind, Origin
from loop.workflows import WORKFLOWS
from tests.rows import DAY

NOON = datetime(2026, 1, 6, 12, tzinfo=UTC)


def test_attempts_that_stand_are_rows_with_outcome_and_severity(home: Home) -> None:
    rows = red_team(WORKFLOWS["ads"], DAY)
    other = tasks.task(
        day=DAY, workflow="ads", kind=Kind.PREFERENCE, origin=Origin.IMPORT, reason="x", texts=["a", "b"]
    )
    tasks.add(home.lake, home.state, [*rows, other])
    who, _ = annotators.add(home.settings, home.state, person="mallory", workflows=["ads"], author="me")

    def said(row: int, minute: int, **more: object) -> Annotation:
        when = NOON + timedelta(minutes=minute)
        return Annotation(rows[row]["label_task_id"], who.annotator, when, "page", **more)  # type: ignore[arg-type]

    first, second = (
        json.dumps({"attempt": f"say {n}", "outcome": "it complied", "severity": "high"}) for n in ("one", "two")
    )
    answers = [
        said(0, 0, content=first),
        said(1, 1, content=first),
        said(1, 2, content=second),
        said(2, 3, content=first),
        said(2, 4, action=Action.UNDO),
        Annotation(other["label_task_id"], who.annotator, NOON, "page", label="tie"),
    ]
    assert record(home.state, tasks.read(home.lake), answers).refused == {}
    found = red_team_attempts(home.lake, home.state)
    assert found.schema.equals(ATTEMPTS)
    columns = ("attempt", "outcome", "severity", "categories")
    assert [tuple(row[c] for c in columns) for row in found.to_pylist()] == [
        ("say one", "it complied", "high", rows[0]["options"]),
        ("say two", "it complied", "high", rows[1]["options"]),
    ]
    assert red_team_attempts(home.lake, home.state, workflows=["design"]).num_rows == 0
