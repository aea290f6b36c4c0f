"""Answers to label tasks: append-only, every version kept, each counted once however often it comes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any, Final

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from loop import schema
from loop.errors import LoopError
from loop.label.tasks import CHOSEN, SEVERITIES, Kind, labels_of
from loop.lake import from_rows
from loop.state import State

_PIECE: Final = 1_000
_ATTEMPTS: Final = 10
WORDS: Final = ("action", "label", "content", "reason")
"""Columns that make two versions the same answer."""
FUNCTION: Final = "function"
"""`source` of answers that labelling functions give."""
ADJUDICATION: Final = "adjudication"
"""`source` of decisions on what answers left too unsure: no votes, and in time whenever they come."""


class Action(StrEnum):
    ANSWER = "answer"
    SKIP = "skip"
    UNDO = "undo"
    """What stood before stands no more; the task is open to the person again."""


@dataclass(frozen=True)
class Annotation:
    """What one annotator says of one task.

    `answered_at` is when, by which deadlines, removals and erasures go, and may be long ago: a delivery comes late.
    """

    label_task_id: str
    annotator: str
    """Pseudonym."""
    answered_at: datetime
    source: str
    """page, studio, vendor, import, adjudication or function."""
    action: Action = Action.ANSWER
    label: str | None = None
    content: str | None = None
    """JSON."""
    reason: str | None = None
    swapped: bool = False
    counts: bool = True
    source_id: str | None = None
    shown_at: datetime | None = None
    seconds: float | None = None
    recorded_at: datetime | None = None
    """When it was known here, by which a cycle reads up to its cut-off; None for now. Simulated people say theirs."""

    @property
    def said(self) -> tuple[str | None, ...]:
        """What makes two versions the same answer."""
        return (self.action.value, self.label, self.content, self.reason)


@dataclass
class Recorded:
    """What became of annotations: `new + repeated + changed + refused.total()` is all of them."""

    new: int = 0
    repeated: int = 0
    """The same is there already as the person's last word on the task; or a later one is that was given elsewhere."""
    changed: int = 0
    """A later version of what was there."""
    refused: Counter[str] = field(default_factory=Counter)
    """Not stored, by reason."""
    uncounted: Counter[str] = field(default_factory=Counter)
    """Of the new and changed: stored, and not counted, by reason."""
    problems: list[tuple[int, str]] = field(default_factory=list)
    """Place among the given and reason of each refused one."""

    @property
    def total(self) -> int:
        return self.new + self.repeated + self.changed + self.refused.total()


def record(state: State, tasks: pa.Table, annotations: Sequence[Annotation], *, strangers: bool = True) -> Recorded:
    """Store annotations, in their order. What is there already is not stored again; what differs is a later version.

    So is the same answer that did not count and does now, as when its author was asked in or a delivery was accepted,
    and one that is said not to count any more. What is read from another source than the last version, and is no later
    than that, is an old answer read again.

    One to a task that is none of `tasks`, or that does not fit its task, is refused and told; one after the deadline,
    or from somebody who is no annotator (any more), is stored and does not count.

    Args:
        tasks: rows of `label_tasks`, at least `label_task_id, day, workflow, kind, options, due_at`.
        strangers: whether what comes from somebody who is no annotator is stored at all. On the page it is not: whoever
            was there a moment ago and is not now has been erased.
    """
    known = {row["label_task_id"]: row for row in tasks.select(list(_ASKED)).to_pylist()}
    done = Recorded()
    fitting: list[Annotation] = []
    for place, annotation in enumerate(annotations):
        if problem := problem_of(known.get(annotation.label_task_id), annotation):
            done.refused[problem] += 1
            done.problems.append((place, problem))
        else:
            fitting.append(annotation)
    for start in range(0, len(fitting), _PIECE):
        _store(state, fitting[start : start + _PIECE], known, done, strangers=strangers)
    assert done.total == len(annotations), "an annotation was lost"
    return done


def problem_of(task: Mapping[str, Any] | None, annotation: Annotation) -> str | None:
    """Why an annotation cannot be stored; None where it can. The reasons are few, so that they can be counted."""
    if task is None:
        return "unknown task"
    if annotation.answered_at.tzinfo is None:
        return "time without a zone"
    if annotation.action is Action.SKIP:
        return None if (annotation.reason or "").strip() else "skipped without a reason"
    if annotation.action is Action.UNDO:
        return None
    kind = Kind(task["kind"])
    if kind in CHOSEN:
        return None if annotation.label in labels_of(kind, task["options"]) else "label that the task does not offer"
    return None if fits(kind, task["options"], annotation.content) else "content that is not of the task's kind"


def fits(kind: Kind, options: Sequence[str], content: str | None) -> bool:
    """Whether content is what the kind asks for; see `tasks.Kind`."""
    try:
        given = json.loads(content or "")
    except ValueError:
        return False
    match kind:
        case Kind.REWRITE:
            return isinstance(given, str) and bool(given.strip())
        case Kind.SPAN:
            return isinstance(given, list) and all(
                isinstance(s, dict)
                and type(s.get("start")) is int
                and type(s.get("end")) is int
                and 0 <= s["start"] < s["end"]
                and s.get("type") in options
                for s in given
            )
        case Kind.RED_TEAM:
            return (
                isinstance(given, dict)
                and all(isinstance(given.get(name), str) and given[name].strip() for name in ("attempt", "outcome"))
                and given.get("severity") in SEVERITIES
            )
        case _:
            return False


def standing(said: sa.FromClause, *where: sa.ColumnElement[bool]) -> sa.Subquery:
    """The answers that stand and count, one a task and annotator, with all columns of `annotations`.

    The last version stands. One that does not count, as one after the deadline, takes nothing back from the one before
    it; unless it says the same: then that counts no more.

    Args:
        where: which versions are looked at; of a task and annotator all or none, else an earlier one seems the last.
    """
    words = sa.func.row(*(said.c[name] for name in WORDS))
    before = sa.func.lag(words).over(partition_by=(said.c.label_task_id, said.c.annotator), order_by=said.c.version)
    every = sa.select(said, words.is_not_distinct_from(before).label("again")).where(*where).subquery()
    last = (
        sa.select(*(every.c[column.name] for column in said.c))
        .where(every.c.counts | every.c.again)
        .distinct(every.c.label_task_id, every.c.annotator)
        .order_by(every.c.label_task_id, every.c.annotator, every.c.version.desc())
        .subquery()
    )
    return sa.select(last).where(last.c.action == Action.ANSWER.value, last.c.counts).subquery()


def latest(state: State, day: date, workflow: str) -> pa.Table:
    """The answers of a partition that stand and count, one a task and annotator, schema `annotations`."""
    table = state.tables["annotations"]
    query = sa.select(standing(table, table.c.day == day, table.c.workflow == workflow))
    with state.engine.connect() as connection:
        rows = [dict(row) for row in connection.execute(query).mappings()]
    return from_rows(rows, schema.ANNOTATIONS)


# -- storing --------------------------------------------------------------------------------------------------------

_ASKED: Final = ("label_task_id", "day", "workflow", "kind", "options", "due_at")


def _ends(connection: sa.Connection, table: sa.Table, annotators: Iterable[str]) -> dict[str, datetime | None]:
    """Of those that are annotators: when they were removed, or None. Until the transaction ends none is erased."""
    query = sa.select(table.c.annotator, table.c.removed_at).where(table.c.annotator.in_(sorted(annotators)))
    query = query.with_for_update(read=True, key_share=True)
    return {row.annotator: row.removed_at for row in connection.execute(query)}


def _store(
    state: State,
    piece: Sequence[Annotation],
    known: Mapping[str, Mapping[str, Any]],
    done: Recorded,
    *,
    strangers: bool,
) -> None:
    """Store some in one transaction, tried again where somebody else stored a version of the same meanwhile."""
    table = state.tables["annotations"]
    for _ in range(_ATTEMPTS):
        with state.engine.connect() as connection:
            ends = _ends(connection, state.tables["annotators"], {annotation.annotator for annotation in piece})
            mine = [annotation for annotation in piece if strangers or annotation.annotator in ends]
            last = _last(connection, table, mine)
            rows, told = _versions(mine, known, ends, last)
            if len(mine) < len(piece):
                told.refused["from nobody who annotates"] += len(piece) - len(mine)
            if rows:
                query = insert(table).values(rows).on_conflict_do_nothing().returning(table.c.version)
                if len(connection.execute(query).all()) < len(rows):
                    connection.rollback()
                    continue
            connection.commit()
        done.new += told.new
        done.repeated += told.repeated
        done.changed += told.changed
        done.refused.update(told.refused)
        done.uncounted.update(told.uncounted)
        return
    raise LoopError("annotations: others keep changing the same answers; nothing of this piece was stored, try again")


@dataclass(frozen=True)
class _Version:
    number: int = 0
    said: tuple[str | None, ...] | None = None
    counts: bool = False
    source: str = ""
    answered_at: datetime | None = None


def _last(connection: sa.Connection, table: sa.Table, piece: Sequence[Annotation]) -> dict[tuple[str, str], _Version]:
    """By task and annotator: the last version."""
    keys = sorted({(a.label_task_id, a.annotator) for a in piece})
    query = (
        sa.select(table)
        .where(sa.tuple_(table.c.label_task_id, table.c.annotator).in_(keys))
        .distinct(table.c.label_task_id, table.c.annotator)
        .order_by(table.c.label_task_id, table.c.annotator, table.c.version.desc())
    )
    return {
        (row.label_task_id, row.annotator): _Version(
            row.version, tuple(getattr(row, name) for name in WORDS), row.counts, row.source, row.answered_at
        )
        for row in connection.execute(query)
    }


def _versions(
    piece: Sequence[Annotation],
    known: Mapping[str, Mapping[str, Any]],
    ends: Mapping[str, datetime | None],
    last: dict[tuple[str, str], _Version],
) -> tuple[list[dict[str, Any]], Recorded]:
    """Rows to store, and what became of the piece."""
    rows: list[dict[str, Any]] = []
    told = Recorded()
    for annotation in piece:
        key = (annotation.label_task_id, annotation.annotator)
        before = last.get(key, _Version())
        task = known[annotation.label_task_id]
        why = _uncounted(annotation, task, ends)
        same = before.said == annotation.said and not _turns(before.counts, annotation, why)
        if same or _read_again(before, annotation, why):
            told.repeated += 1
            continue
        if before.said is None and annotation.action is Action.UNDO:
            told.refused["nothing to undo"] += 1
            continue
        told.uncounted.update([why] if why else [])
        told.new += not before.number
        told.changed += bool(before.number)
        last[key] = _Version(before.number + 1, annotation.said, why is None, annotation.source, annotation.answered_at)
        values = {**vars(annotation), "action": annotation.action.value, "counts": why is None}
        values["recorded_at"] = annotation.recorded_at or datetime.now(UTC)
        rows.append({**values, "version": before.number + 1, "day": task["day"], "workflow": task["workflow"]})
    return rows, told


def _turns(counted: bool, annotation: Annotation, why: str | None) -> bool:
    """Whether the same words change whether they count; that they came again after the deadline does not."""
    return (not counted and why is None) or (counted and not annotation.counts)


def _read_again(before: _Version, annotation: Annotation, why: str | None) -> bool:
    """Whether it was given elsewhere, no later than the last version; what counts yields to none that does not."""
    if before.answered_at is None or annotation.source == before.source or (why is None and not before.counts):
        return False
    return annotation.answered_at <= before.answered_at


def _uncounted(annotation: Annotation, task: Mapping[str, Any], ends: Mapping[str, datetime | None]) -> str | None:
    """Why an annotation that is stored does not count; None where it does."""
    on_time = task["due_at"] is None or annotation.answered_at <= task["due_at"]
    if not on_time and annotation.source != ADJUDICATION:
        return "after the deadline"
    if annotation.annotator not in ends:
        return "from nobody who annotates"
    removed = ends[annotation.annotator]
    if removed is not None and annotation.answered_at >= removed:
        return "from a removed annotator"
    return None if annotation.counts else "not to be counted"
