"""A home in which people were asked about decisions and answered, and what is left of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from loop import schema
from loop.collect.events import pseudonym
from loop.erase import Kind, Report, run
from loop.erase.subject import subject
from loop.home import Home
from loop.label import annotators, gold, tasks
from loop.label.annotations import Annotation, record
from loop.label.tasks import Kind as Task
from loop.label.tasks import Origin
from loop.lake import from_rows
from tests.rows import DAY, decision, event, land

ANNA, BEN, EVE = "anna-4711", "ben-0815-labels", "eve-2300-labels"
AT = datetime.now(UTC) - timedelta(hours=2)


def question(home: Home, number: int, employee: str | None) -> dict[str, Any]:
    """A task about a decision, or about none."""
    who = {} if employee is None else {"event_id": f"{DAY}-e{number}", "employee": name(home, employee)}
    texts = [f"what {employee} wrote {number}"]
    row = {"kind": Task.RATING, "texts": texts, "options": ["bad", "good"], "reason": "random", "selected_at": AT}
    return tasks.task(day=DAY, workflow="comms", origin=Origin.DECISION if employee else Origin.IMPORT, **row, **who)


def name(home: Home, person: str) -> str:
    return pseudonym(person, home.settings.secret("pseudonym"))


def filled(home: Home) -> list[dict[str, Any]]:
    """A decision of Anna and one of Carl; three tasks, known and answered by Ben and Eve, each with an appeal."""
    land(home, [event(decision(n, "reject", employee=who), DAY) for n, who in ((1, ANNA), (2, "carl-9999"))], "d.jsonl")
    rows = [question(home, 1, ANNA), question(home, 2, "carl-9999"), question(home, 3, None)]
    tasks.add(home.lake, home.state, rows)
    for person in (BEN, EVE):
        annotators.add(home.settings, home.state, person=person, workflows=["comms"], author="lead")
    table = home.state.tables["annotators"]
    with home.state.transaction() as connection:
        connection.execute(table.update().values(joined_at=AT - timedelta(days=1)))
    for row in rows:
        gold.put(home.state, row, label="good", reason="two experts", author="lead")
        for person in (BEN, EVE):
            told = {"label": "bad", "reason": f"{person} finds it dull", "content": None}
            said = Annotation(row["label_task_id"], name(home, person), AT, "page", **told)
            assert record(home.state, from_rows([row], schema.LABEL_TASKS), [said]).new == 1
            gold.contest(home.state, row["label_task_id"], name(home, person), f"{person} says no")
    labels = [
        {
            "label_task_id": row["label_task_id"],
            "day": DAY,
            "workflow": "comms",
            "kind": "rating",
            "label": "bad",
            "confidence": 0.9,
            "abstain": False,
            "probabilities": [{"label": "bad", "probability": 0.9}, {"label": "good", "probability": 0.1}],
            "answers": 2,
            "method": "majority",
            "aggregated_at": AT,
        }
        for row in rows
    ]
    home.lake.overwrite("task_labels", from_rows(labels, schema.TASK_LABELS), day=DAY, workflow="comms")
    return rows


def erase(home: Home, given: str, kind: Kind = Kind.EMPLOYEE, step: Callable[[str], None] = lambda _: None) -> Report:
    return run.erase(home, subject(home.settings, kind, given), reason="request 17", author="dpo", step=step)


def held(home: Home, table: str) -> list[dict[str, Any]]:
    rows: pa.Table = home.lake.read(table) if table in schema.LAKE else home.state.arrow(table)
    return [dict(row) for row in rows.to_pylist()]


def everything(home: Home) -> str:
    return json.dumps([held(home, name) for name in schema.TABLES], default=str)
