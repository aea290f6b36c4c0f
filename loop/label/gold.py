"""Known answers: each with its whole history, what they say of those who answered, and the appeals against them.

Nothing is changed in place. A correction is a later version, and what is measured is always measured against the last
one: an appeal that is upheld raises the accuracy of everybody who had been right, also earlier.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from loop.errors import BadInputError
from loop.label.annotations import standing
from loop.label.tasks import CHOSEN, labels_of
from loop.state import State


class Verdict(StrEnum):
    """What became of an appeal."""

    UPHELD = "upheld"
    """The known answer was wrong, and is corrected."""
    DISMISSED = "dismissed"


@dataclass(frozen=True)
class Gold:
    """The last version of a known answer."""

    label_task_id: str
    version: int
    label: str | None
    """None: the task is gold no more."""
    hidden: bool
    reason: str
    author: str
    changed_at: datetime


@dataclass(frozen=True)
class Judged:
    """An answer that stands to a task whose right answer is known."""

    label_task_id: str
    day: date
    workflow: str
    annotator: str
    label: str
    gold: str
    known_since: datetime
    """When the known answer was last said."""
    answered_at: datetime

    @property
    def right(self) -> bool:
        return self.label == self.gold


# -- the answers ------------------------------------------------------------------------------------------------------


def put(  # noqa: PLR0913 - by keyword, one a column
    state: State,
    task: Mapping[str, Any],
    *,
    label: str | None,
    reason: str,
    author: str,
    hidden: bool = True,
) -> Gold:
    """Say what is right, as the next version; the same said again changes nothing.

    Args:
        task: row of `label_tasks`, at least `label_task_id, kind, options`.
        label: None takes the task out of the known ones.

    Raises:
        BadInputError: the task does not offer that label, or nothing says why.
    """
    if label is not None and task["kind"] not in CHOSEN:
        raise BadInputError(
            f"gold: expected a task of {', '.join(CHOSEN)}, whose answers are labels, got a {task['kind']}"
        )
    offered = labels_of(task["kind"], task["options"])
    if label is not None and label not in offered:
        raise BadInputError(f"gold: expected one of {', '.join(offered)}, got {label!r}")
    with state.transaction(lock=f"gold {task['label_task_id']}") as connection:
        return _put(connection, state, task["label_task_id"], label, hidden, reason, author)


def latest(connection: sa.Connection, state: State) -> dict[str, Gold]:
    """What is known now, by task; tasks that are gold no more are left out."""
    table = state.tables["gold"]
    query = sa.select(table).distinct(table.c.label_task_id).order_by(table.c.label_task_id, table.c.version.desc())
    rows = [Gold(**row) for row in connection.execute(query).mappings()]
    return {row.label_task_id: row for row in rows if row.label is not None}


def history(state: State, label_task_id: str) -> list[Gold]:
    """Every version of a task's known answer, the first first."""
    table = state.tables["gold"]
    query = sa.select(table).where(table.c.label_task_id == label_task_id).order_by(table.c.version)
    with state.engine.connect() as connection:
        return [Gold(**row) for row in connection.execute(query).mappings()]


def judged(state: State, annotator: str | None = None, *, before: datetime | None = None) -> list[Judged]:
    """The standing answers to tasks whose right answer is known, of everybody or of one, by task and annotator.

    Args:
        before: only answers from before that time.
    """
    said = state.tables["annotations"]
    with state.engine.connect() as connection:
        known = latest(connection, state)
        of = said.c.label_task_id.in_(sorted(known))
        stands = standing(said, of, *([said.c.annotator == annotator] if annotator is not None else []))
        query = sa.select(stands).where(stands.c.label.is_not(None))
        if before is not None:
            query = query.where(stands.c.answered_at < before)
        rows = connection.execute(query.order_by(stands.c.label_task_id, stands.c.annotator))
        return [_judged(row, known[row.label_task_id]) for row in rows]


# -- appeals ----------------------------------------------------------------------------------------------------------


def contest(state: State, label_task_id: str, annotator: str, argument: str) -> str:
    """Open an appeal against a known answer; its id. The same person may contest each version of it once.

    Raises:
        BadInputError: the person gave no other answer than the known one, contests it already, or gives no reason.
    """
    if not argument.strip():
        raise BadInputError("expected a sentence that says why the known answer is wrong, got nothing")
    table, gold = state.tables["appeals"], state.tables["gold"]
    if label_task_id not in {one.label_task_id for one in judged(state, annotator) if not one.right}:
        raise BadInputError("expected a task to which you gave another answer than the known one, got another")
    with state.transaction(lock=f"gold {label_task_id}") as connection:
        mine = sa.and_(table.c.label_task_id == label_task_id, table.c.annotator == annotator)
        since = sa.select(sa.func.max(gold.c.changed_at)).where(gold.c.label_task_id == label_task_id).scalar_subquery()
        again = sa.or_(table.c.verdict.is_(None), table.c.opened_at > since)
        if connection.execute(sa.select(table.c.appeal_id).where(mine, again)).first():
            raise BadInputError("you contested this answer already: what became of it stands beside it")
        appeal_id = uuid.uuid4().hex
        row = {"appeal_id": appeal_id, "label_task_id": label_task_id, "annotator": annotator}
        told = {"argument": argument.strip(), "opened_at": datetime.now(UTC)}
        connection.execute(sa.insert(table).values(**row, **told))
    return appeal_id


def appeals(state: State, *, annotator: str | None = None, pending: bool = False) -> list[dict[str, Any]]:
    """Rows of `appeals`, the oldest first: of one person, or of all; only those without a verdict, or every one."""
    table = state.tables["appeals"]
    query = sa.select(table).order_by(table.c.opened_at, table.c.appeal_id)
    if annotator is not None:
        query = query.where(table.c.annotator == annotator)
    if pending:
        query = query.where(table.c.verdict.is_(None))
    with state.engine.connect() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def decide(  # noqa: PLR0913 - by keyword, one a column
    state: State,
    appeal_id: str,
    verdict: Verdict,
    *,
    answer: str,
    author: str,
    label: str | None = None,
    offered: Sequence[str] = (),
) -> dict[str, Any]:
    """Close an appeal; where it is upheld the known answer is corrected in the same transaction.

    All open appeals against the same answer that are upheld with it are not closed here: each is answered by itself.

    Args:
        label: what is right instead; None: the task is gold no more.
        offered: the labels of the task, of which `label` must be one.

    Raises:
        BadInputError: there is no such appeal, it is closed, or the correction corrects nothing.
    """
    if not answer.strip():
        raise BadInputError("expected an answer to the person who appealed, got nothing")
    if verdict is Verdict.DISMISSED and label is not None:
        raise BadInputError("an appeal that is dismissed corrects nothing: leave the label out")
    table = state.tables["appeals"]
    query = sa.select(table).where(table.c.appeal_id == appeal_id)
    with state.engine.connect() as connection:
        found = connection.execute(query).mappings().first()
    with state.transaction(lock=f"gold {found['label_task_id'] if found else ''}") as connection:
        row = connection.execute(query).mappings().first()
        if row is None or row["verdict"] is not None:
            raise BadInputError("expected the id of an open appeal, got another; `loop appeals list` shows them")
        if label is not None and label not in offered:
            raise BadInputError(f"label: expected one of {', '.join(offered)}, got {label!r}")
        if verdict is Verdict.UPHELD:
            gold = latest(connection, state).get(row["label_task_id"])
            if gold is not None and label == gold.label:
                raise BadInputError(f"label: expected another than {label!r}, which is what is held to be right now")
            if gold is not None:
                why = f"appeal {appeal_id}: {answer.strip()}"
                _put(connection, state, row["label_task_id"], label, gold.hidden, why, author)
        closed = {"verdict": verdict.value, "answer": answer.strip(), "closed_by": author}
        connection.execute(
            sa.update(table).where(table.c.appeal_id == appeal_id).values(**closed, closed_at=datetime.now(UTC))
        )
        return dict(connection.execute(query).mappings().one())


def _judged(row: sa.Row[Any], known: Gold) -> Judged:
    return Judged(
        label_task_id=row.label_task_id,
        day=row.day,
        workflow=row.workflow,
        annotator=row.annotator,
        label=row.label,
        gold=known.label or "",
        known_since=known.changed_at,
        answered_at=row.answered_at,
    )


def _put(  # noqa: PLR0913, PLR0917 - one a column
    connection: sa.Connection,
    state: State,
    label_task_id: str,
    label: str | None,
    hidden: bool,
    reason: str,
    author: str,
) -> Gold:
    if not reason.strip():
        raise BadInputError("gold: expected a sentence that says where the answer is known from, got nothing")
    table = state.tables["gold"]
    query = sa.select(table).where(table.c.label_task_id == label_task_id).order_by(table.c.version.desc()).limit(1)
    row = connection.execute(query).mappings().first()
    last = None if row is None else Gold(**row)
    if last is None and label is None:
        raise BadInputError("gold: expected a task whose answer is known, got one whose is not")
    if last is not None and (last.label, last.hidden) == (label, hidden):
        return last
    version = 1 if last is None else last.version + 1
    made = Gold(label_task_id, version, label, hidden, reason.strip(), author, datetime.now(UTC))
    connection.execute(sa.insert(table).values(**vars(made)))
    return made
