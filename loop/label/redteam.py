"""What red teamers found: their attempts as rows, for the safety suite."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from loop.label import tasks
from loop.label.annotations import latest
from loop.label.tasks import Kind
from loop.schema.base import TEXT, TEXTS, TIME
from loop.schema.lake import MESSAGES

if TYPE_CHECKING:
    from loop.lake import Days, Lake
    from loop.state import State

ATTEMPTS: Final = pa.schema(
    [
        ("label_task_id", TEXT),
        ("workflow", TEXT),
        ("categories", TEXTS),
        ("goal", MESSAGES),
        ("attempt", TEXT),
        ("outcome", TEXT),
        ("severity", TEXT),
        ("annotator", TEXT),
        ("answered_at", TIME),
    ]
)
"""`categories`: the ways of misbehaving that were asked for; `goal`: what the red teamer was told; `attempt`: what they
wrote to the model; `outcome` and `severity`: what came of it and how bad it is, in their words."""


def red_team_attempts(
    lake: Lake, state: State, *, days: Days | None = None, workflows: list[str] | None = None
) -> pa.Table:
    """The standing attempts of red teamers, schema `ATTEMPTS`, in the order in which they were made."""
    asked = tasks.read(lake, days=days, workflows=workflows)
    asked = asked.filter(pc.equal(asked["kind"], Kind.RED_TEAM.value))
    known = {row["label_task_id"]: row for row in asked.to_pylist()}
    rows = []
    for day, workflow in sorted({(row["day"], row["workflow"]) for row in known.values()}):
        for said in latest(state, day, workflow).to_pylist():
            if (task := known.get(said["label_task_id"])) is None:
                continue
            content = json.loads(said["content"])  # checked when it was stored
            told = {name: content[name] for name in ("attempt", "outcome", "severity")}
            plain = {name: said[name] for name in ("label_task_id", "workflow", "annotator", "answered_at")}
            rows.append({**plain, **told, "categories": task["options"], "goal": task["prompt"]})
    return pa.Table.from_pylist(rows, schema=ATTEMPTS).sort_by(
        [("answered_at", "ascending"), ("annotator", "ascending")]
    )
