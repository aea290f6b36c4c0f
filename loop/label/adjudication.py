"""Adjudication: one person decides what answers left too unsure, and that is the task's label from then on.

The decision is an annotation like any other, append-only and changed by a later one; it is no vote, so it does not
tell of those who voted, nor is it outvoted. What is known to be right, by which people are measured, is gold and
something else.
"""

from __future__ import annotations

from datetime import UTC, datetime

from loop import schema
from loop.config import Settings
from loop.errors import BadInputError
from loop.label import outside, tasks
from loop.label.aggregate import partition
from loop.label.annotations import ADJUDICATION, Annotation, record
from loop.lake import Lake, from_rows
from loop.state import State


def decide(  # noqa: PLR0913 - by keyword
    settings: Settings, lake: Lake, state: State, *, label_task_id: str, label: str, reason: str, author: str
) -> str:
    """Decide on a task, known by its id or by how that begins, and make the labels of its day anew; the task's id.

    Raises:
        BadInputError: there is no such task, or none that a label answers; it does not offer the label; no reason.
    """
    task = tasks.one(lake, label_task_id)
    offered = tasks.labels_of(task["kind"], task["options"])
    if not offered:
        raise BadInputError(f"{task['label_task_id']}: a {task['kind']} is answered with content, which has no label")
    if label not in offered:
        raise BadInputError(f"label: expected one of {', '.join(offered)}, got {label!r}")
    if not reason.strip():
        raise BadInputError("reason: expected why it is decided so, got nothing")
    who = outside.enlist(settings, state, person=author, source=ADJUDICATION, author=author)
    given = Annotation(task["label_task_id"], who, datetime.now(UTC), ADJUDICATION, label=label, reason=reason.strip())
    record(state, from_rows([task], schema.LABEL_TASKS), [given])
    partition.build(lake, state, task["day"], task["workflow"])
    return str(task["label_task_id"])
