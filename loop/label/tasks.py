"""Questions for annotators as rows of `label_tasks`: made, checked, added to the lake once, read back.

What is worth asking is decided elsewhere; here stands what a question is.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from loop import schema
from loop.errors import BadInputError
from loop.lake import Lake, from_rows

if TYPE_CHECKING:
    from loop.lake import Days
    from loop.state import State


class Kind(StrEnum):
    """What is asked."""

    PREFERENCE = "preference"
    """Which of two texts, or images, is better: a label of `SIDES`."""
    RATING = "rating"
    """A point of a rubric: one of the options, worst first."""
    CATEGORY = "category"
    """One of the options."""
    SPAN = "span"
    """Where in the text, and of which of the options: content `[{"start", "end", "type"}]`, in characters."""
    REWRITE = "rewrite"
    """A better text: content, a string."""
    RED_TEAM = "red_team"
    """An attempt at making the model misbehave: content `{"attempt", "outcome", "severity"}`.

    `attempt` is what was written, `outcome` what came of it (in words, or one of `OUTCOMES`), `severity` one of
    `SEVERITIES`. The option, of which there is one at most, is the way to misbehave that is asked for: a category, by
    which attempts are grouped, and nothing that an answer chooses.
    """


class Origin(StrEnum):
    """Where a question comes from."""

    DECISION = "decision"
    IMPORT = "import"
    VENDOR = "vendor"
    SYNTHETIC = "synthetic"
    BENCHMARK = "benchmark"


SIDES: Final = ("first", "second", "tie", "neither")
"""Labels of a preference; first and second are places in `texts`, wherever they stood on a person's page."""
CHOSEN: Final = (Kind.PREFERENCE, Kind.RATING, Kind.CATEGORY)
"""Kinds whose answer is a label among some; the answer to the others is content."""
OUTCOMES: Final = ("resisted", "partly", "broken")
"""What a model did under an attempt, where the annotator is given a choice."""
SEVERITIES: Final = ("none", "low", "medium", "high", "critical")
"""Of what an attempt brought about, the least first."""
IMAGED: Final = (Kind.PREFERENCE, Kind.CATEGORY)
"""Kinds that may show images."""


@dataclass(frozen=True)
class Added:
    """What became of rows that were to be added: all of them are one or the other."""

    new: int
    known: int


def task(  # noqa: PLR0913 - one argument a column
    *,
    day: date,
    workflow: str,
    kind: Kind,
    origin: Origin,
    reason: str,
    prompt: Sequence[Mapping[str, str]] = (),
    texts: Sequence[str] = (),
    images: Sequence[str] = (),
    options: Sequence[str] = (),
    propensity: float | None = None,
    wanted: int = 1,
    harm: str | None = None,
    due_at: datetime | None = None,
    event_id: str | None = None,
    employee: str | None = None,
    batch: str = "",
    selected_at: datetime | None = None,
) -> dict[str, Any]:
    """One row of `label_tasks`; its id is a digest of what is asked, of whom it may come and of the day.

    Raises:
        BadInputError: what is asked is not of that kind.
    """
    if problem := _problem(kind, texts, images, options, wanted):
        raise BadInputError(f"{kind} task of {workflow}: {problem}")
    asked = [day.isoformat(), workflow, kind, list(map(dict, prompt)), *map(list, (texts, images, options)), event_id]
    told = json.dumps(asked, sort_keys=True, ensure_ascii=False)
    return {
        "label_task_id": hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:32],
        "day": day,
        "workflow": workflow,
        "kind": kind.value,
        "prompt": [dict(message) for message in prompt],
        "texts": list(texts),
        "images": list(images),
        "options": list(options),
        "origin": origin.value,
        "reason": reason,
        "propensity": propensity,
        "wanted": wanted,
        "harm": harm,
        "due_at": due_at,
        "event_id": event_id,
        "employee": employee,
        "batch": batch,
        "selected_at": selected_at or datetime.now(UTC),
    }


def add(lake: Lake, state: State, rows: Sequence[Mapping[str, Any]]) -> Added:
    """Add rows to their partitions. One that is there already stays as it is: no answer loses its task."""
    by_partition: dict[tuple[date, str], dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for row in rows:
        by_partition[row["day"], row["workflow"]].setdefault(row["label_task_id"], row)
    new = 0
    for (day, workflow), wanted in sorted(by_partition.items()):
        with state.building(day, workflow), lake.pinned("label_tasks"):
            there = lake.read("label_tasks", days=(day, day), workflows=[workflow])
            known = set(there["label_task_id"].to_pylist())
            fresh = [dict(row) for task_id, row in wanted.items() if task_id not in known]
            if fresh:
                together = pa.concat_tables([there, from_rows(fresh, schema.LABEL_TASKS)])
                lake.overwrite("label_tasks", together, day=day, workflow=workflow)
            new += len(fresh)
    return Added(new, len(rows) - new)


def read(lake: Lake, *, days: Days | None = None, workflows: Sequence[str] | None = None) -> pa.Table:
    """The tasks of the named partitions, schema `label_tasks`, in the order of their ids."""
    rows = lake.read("label_tasks", days=days, workflows=workflows)
    return rows.take(pc.sort_indices(rows["label_task_id"]))


def one(lake: Lake, label_task_id: str) -> dict[str, Any]:
    """The row of a task, known by its id or by how that begins.

    Raises:
        BadInputError: no task begins so, or several do.
    """
    found = [
        row
        for piece in lake.scan("label_tasks", ["label_task_id", "day", "workflow"])
        for row in piece.filter(pc.starts_with(piece["label_task_id"], label_task_id)).to_pylist()
    ]
    if not label_task_id or len(found) != 1:
        told = f"{label_task_id!r} begins {len(found)}" if label_task_id else "an empty one"
        raise BadInputError(f"task: expected the id of one task, got {told}; see `loop tasks list`")
    [place] = found
    rows = lake.read("label_tasks", days=(place["day"], place["day"]), workflows=[place["workflow"]])
    return dict(rows.filter(pc.equal(rows["label_task_id"], place["label_task_id"])).to_pylist()[0])


def labels_of(kind: str, options: Sequence[str]) -> tuple[str, ...]:
    """What an answer may choose from; empty for the kinds that are answered with content."""
    if kind == Kind.PREFERENCE:
        return SIDES
    return tuple(options) if kind in CHOSEN else ()


def _problem(
    kind: Kind, texts: Sequence[str], images: Sequence[str], options: Sequence[str], wanted: int
) -> str | None:
    least, most = {Kind.PREFERENCE: (2, 2), Kind.RED_TEAM: (0, 0)}.get(kind, (1, 1))
    shown = max(len(texts), len(images))
    told = {
        f"expected {least} texts or images, got {shown}": not least <= shown <= most,
        "expected no images, it has no place for them": bool(images) and kind not in IMAGED,
        f"expected texts and images in pairs, got {len(texts)} and {len(images)}": bool(
            texts and images and len(texts) != len(images)
        ),
        "expected at least two options": kind in {Kind.RATING, Kind.CATEGORY} and len(options) < 2,
        "expected at least one option, the types of span": kind is Kind.SPAN and not options,
        "expected at most one option, what is attempted": kind is Kind.RED_TEAM and len(options) > 1,
        "expected each option once": len(set(options)) != len(options),
        f"wanted: expected at least one answer, got {wanted}": wanted < 1,
    }
    return next((problem for problem, holds in told.items() if holds), None)
