"""The soft labels of a day and workflow of the home, and what waits for adjudication."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from loop import schema
from loop.label import annotations as answered
from loop.label import tasks
from loop.label.aggregate.answers import Answers, sort
from loop.label.aggregate.stacking import SoftLabels, aggregate
from loop.label.annotations import ADJUDICATION
from loop.label.tasks import CHOSEN, labels_of
from loop.lake import Lake, from_rows
from loop.state import State

WINDOW: Final = timedelta(days=27)
"""Answers of that long before the day tell of the annotators too."""

ADJUDICATED: Final = "adjudicated"
"""`method` of a label that one person decided on, see loop/label/adjudication.py."""
_ASKED: Final = ["label_task_id", "kind", "options"]

Question = tuple[str, tuple[str, ...]]
"""Kind and labels: answers to the same question are aggregated together."""


@dataclass(frozen=True)
class Group:
    """Answers to the same question."""

    answers: Answers
    today: set[str]
    """Tasks of the day itself."""
    rows: list[dict[str, Any]]
    """Their annotations, schema `annotations`, in the order of the answers."""


@dataclass
class Made:
    """What became of a partition's tasks: `tasks == labelled + set_aside.total()`."""

    tasks: int = 0
    labelled: int = 0
    abstained: int = 0
    answers: int = 0
    set_aside: Counter[str] = field(default_factory=Counter)
    weights: dict[str, dict[str, float]] = field(default_factory=dict)
    """Of the models, by kind and number of labels."""
    temperatures: dict[str, float] = field(default_factory=dict)
    """Above 1 the models were too sure together."""


def build(lake: Lake, state: State, day: date, workflow: str) -> Made:
    """Aggregate the answers that stand and write `task_labels` of the partition.

    Annotators are judged by their answers of the last four weeks, later ones left out, so that a day that is made again
    sees what it saw; written are the tasks of the day alone.
    """
    made = Made()
    rows: list[dict[str, Any]] = []
    with state.building(day, workflow), lake.pinned("label_tasks"):
        asked = tasks.read(lake, days=(day, day), workflows=[workflow]).select(_ASKED).to_pylist()
        made.tasks = len(asked)
        for question, group in groups(lake, state, day, workflow).items():
            if not group.today:
                continue
            told = aggregate(group.answers)
            if told.weights:
                name = f"{question[0]}, {len(question[1])} labels"
                made.weights[name], made.temperatures[name] = told.weights, told.temperature
            rows += _rows(told, group.today, question[0], day, workflow)
        rows = _adjudicated(rows, asked, answered.latest(state, day, workflow).to_pylist(), day, workflow)
        rows.sort(key=lambda row: str(row["label_task_id"]))
        lake.overwrite("task_labels", from_rows(rows, schema.TASK_LABELS), day=day, workflow=workflow)
    made.labelled, made.abstained = len(rows), sum(row["abstain"] for row in rows)
    made.answers = sum(row["answers"] for row in rows)
    labelled = {row["label_task_id"] for row in rows}
    for task in asked:
        if task["label_task_id"] not in labelled:
            content = task["kind"] not in CHOSEN
            made.set_aside["answered with content, which is not aggregated" if content else "not answered"] += 1
    assert made.tasks == made.labelled + made.set_aside.total(), "a task was lost by the aggregation"
    return made


def groups(lake: Lake, state: State, day: date, workflow: str, window: timedelta = WINDOW) -> dict[Question, Group]:
    """By question: the answers that stand to the tasks of the window's days; no adjudications, which are no votes."""
    first = max(schema.FIRST_DAY, day - window)
    known = tasks.read(lake, days=(first, day), workflows=[workflow]).select(
        ["label_task_id", "day", "kind", "options"]
    )
    question = {
        row["label_task_id"]: (row["day"], (row["kind"], labels_of(row["kind"], row["options"])))
        for row in known.to_pylist()
        if row["kind"] in CHOSEN
    }
    said: dict[Question, list[dict[str, Any]]] = {}
    for other in sorted({asked_on for asked_on, _ in question.values()}):
        for row in answered.latest(state, other, workflow).to_pylist():
            if row["label_task_id"] in question and row["source"] != ADJUDICATION:
                said.setdefault(question[row["label_task_id"]][1], []).append(row)
    found: dict[Question, Group] = {}
    for of, rows in sorted(said.items()):
        worker, task, label = ([row[c] for row in rows] for c in ("annotator", "label_task_id", "label"))
        answers = sort(worker, task, label, of[1]).answers
        assert len(answers) == len(rows), "somebody stands with two answers to a task"
        found[of] = Group(answers, {task for task in answers.tasks if question[task][0] == day}, rows)
    return found


def marks(state: State, since: date, until: date) -> dict[tuple[date, str], str]:
    """Of each partition of those days that has annotations: a mark of which there are, another once others are.

    The number alone is none: an erasure takes some away, and as many others come.
    """
    said = state.tables["annotations"]
    which = sa.func.concat_ws("|", said.c.label_task_id, said.c.annotator, said.c.version)
    digest = sa.func.sum(sa.func.hashtextextended(which, 0))
    told = sa.func.count().label("rows"), sa.func.max(said.c.recorded_at).label("last"), digest.label("digest")
    query = (
        sa.select(said.c.day, said.c.workflow, *told)
        .where(said.c.day.between(since, until))
        .group_by(said.c.day, said.c.workflow)
    )
    with state.engine.connect() as connection:
        return {
            (row.day, row.workflow): f"{row.rows} {row.digest} {row.last.astimezone(UTC).isoformat()}"
            for row in connection.execute(query)
        }


def to_adjudicate(lake: Lake, day: date, workflow: str) -> pa.Table:
    """Rows of `task_labels` that abstain, the least sure first: the queue of whoever decides what people could not."""
    rows = lake.read("task_labels", days=(day, day), workflows=[workflow])
    return rows.filter(rows["abstain"]).sort_by([("confidence", "ascending"), ("label_task_id", "ascending")])


def probabilities(told: SoftLabels) -> pa.Array:
    """Column `probabilities` of every task, in their order."""
    names = pa.array(list(told.answers.labels) or [""])
    k, n = told.probabilities.shape[1], len(told.answers.tasks)
    label = names.take(pa.array(np.tile(np.arange(k), n)))
    pairs = pa.StructArray.from_arrays([label, pa.array(told.probabilities.ravel())], ["label", "probability"])
    return pa.ListArray.from_arrays(pa.array(np.arange(n + 1) * k, pa.int32()), pairs)


def _rows(told: SoftLabels, mine: set[str], kind: str, day: date, workflow: str) -> list[dict[str, Any]]:
    counts, label, sure, abstain = told.answers.votes.sum(1), told.label, told.confidence, told.abstain
    now = datetime.now(UTC)
    return [
        {
            "label_task_id": task,
            "day": day,
            "workflow": workflow,
            "kind": kind,
            "label": told.answers.labels[label[i]],
            "confidence": float(sure[i]),
            "abstain": bool(abstain[i]),
            "probabilities": [
                {"label": name, "probability": float(p)}
                for name, p in zip(told.answers.labels, told.probabilities[i], strict=True)
            ],
            "answers": int(counts[i]),
            "method": told.method,
            "aggregated_at": now,
        }
        for i, task in enumerate(told.answers.tasks)
        if task in mine
    ]


def _adjudicated(
    rows: list[dict[str, Any]],
    asked: list[dict[str, Any]],
    said: list[dict[str, Any]],
    day: date,
    workflow: str,
) -> list[dict[str, Any]]:
    """The labels with those in their place that one person decided on, also where nobody else had answered."""
    decided = {row["label_task_id"]: row["label"] for row in said if row["source"] == ADJUDICATION}
    votes = {row["label_task_id"]: row["answers"] for row in rows}
    now = datetime.now(UTC)
    return [row for row in rows if row["label_task_id"] not in decided] + [
        {
            "label_task_id": task["label_task_id"],
            "day": day,
            "workflow": workflow,
            "kind": task["kind"],
            "label": decided[task["label_task_id"]],
            "confidence": 1.0,
            "abstain": False,
            "probabilities": [
                {"label": name, "probability": float(name == decided[task["label_task_id"]])}
                for name in labels_of(task["kind"], task["options"])
            ],
            "answers": votes.get(task["label_task_id"], 0) + 1,
            "method": ADJUDICATED,
            "aggregated_at": now,
        }
        for task in asked
        if task["label_task_id"] in decided
    ]
