"""Which rows of which table go. A table that is added to the schema is reached by the columns that it has."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from loop import schema
from loop.label.aggregate import teaching

if TYPE_CHECKING:
    from loop.erase.plan import Plan

BY: Final = {
    "employee": "employees",
    "annotator": "employees",
    "label_task_id": "label_tasks",
    "event_id": "events",
    "outcome_id": "outcomes",
    "item_id": "items",
    "comparison_id": "comparisons",
    "quarantine_id": "quarantined",
}
"""A column, and the part of a plan whose values, found in it, say that the row goes."""


def columns(table: schema.Table) -> list[str]:
    """The columns that decide about a row of a table."""
    names = [c.name for c in table.columns if c.name in BY]
    if table.name == schema.LABEL_TASKS.name:
        names.append("selected_at")  # a task may outlive the decision that it came from: then the person tells
    elif "event_id" in names and "employee" in names:
        names.remove("employee")  # the events are told from the person's later ones, which are not meant
    elif "employee" in names and table.store is schema.Store.LAKE:
        names.append("day")
    if table.name == schema.OUTCOMES.name:
        names = ["outcome_id", "suggestion_id"]  # what came of somebody's suggestion is theirs whoever told it
    return names


def goes(table: schema.Table, rows: pa.Table, plan: Plan) -> pa.ChunkedArray:
    """Of rows with at least `columns(table)`, whether each goes."""
    found = pa.chunked_array([pa.array([False] * rows.num_rows, pa.bool_())])
    for name in (n for n in columns(table) if n not in {"day", "selected_at"}):
        values = plan.named.suggestions if name == "suggestion_id" else plan.part(BY[name])
        mine = among(rows[name], values)
        if name == "employee" and plan.verifying:  # the day's sums may be made again from what came since
            mine = pc.and_(mine, pc.less(rows["day"], pa.scalar(plan.before.date())))
        if name == "employee" and table.name == schema.LABEL_TASKS.name:
            mine = pc.and_(mine, pc.less(rows["selected_at"], pa.scalar(plan.before)))
        found = pc.or_(found, mine)
    return found


def learned(rows: pa.Table, plan: Plan) -> pa.ChunkedArray:
    """Of rows of a training set, whether each goes: it came from a decision that does, or the person wrote it.

    Who wrote it is told by its id; the annotation itself may be long gone.
    """
    [own] = [name for name in ("demonstration_id", "preference_id") if name in rows.column_names]
    about = rows.filter(pc.equal(rows["kind"], teaching.REWRITTEN))["event_id"].to_pylist()
    wrote = {teaching.written_id(event_id, person) for event_id in about for person in plan.named.employees}
    return pc.or_(among(rows["event_id"], plan.named.events), among(rows[own], wrote))


def pointers(table: schema.Table) -> list[str]:
    """The columns in which a row of somebody else may name an event: the name goes, the row stays."""
    return [c.name for c in table.columns if c.name in {"revises", "event_id"} and c.nullable]


def points(table: schema.Table, rows: pa.Table, plan: Plan) -> pa.ChunkedArray:
    """Of rows with at least `pointers(table)`, whether each names an event that goes."""
    found = pa.chunked_array([pa.array([False] * rows.num_rows, pa.bool_())])
    for name in pointers(table):
        found = pc.or_(found, among(rows[name], plan.named.events))
    return found


def among(column: pa.ChunkedArray, values: Collection[str]) -> pa.ChunkedArray:
    """Whether each value is among the given; null is not."""
    return pc.fill_null(pc.is_in(column, pa.array(sorted(values), pa.string())), False)
