"""Which model versions learned from rows that were erased since: the table `taints`.

A version is tainted if its own training set lost rows to an erasure, or if it was trained, through however many
parents, from one that is: its weights began where those ended. It may go on serving; nothing is trained from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from loop.state import State


@dataclass(frozen=True)
class Taint:
    """A row of `taints`."""

    version: str
    rows: int
    of: int
    share: float
    ancestor: str | None
    tagged_at: datetime


def tainted(state: State) -> dict[str, Taint]:
    """Every tainted version."""
    with state.engine.connect() as connection:
        rows = connection.execute(sa.select(state.tables["taints"])).mappings().all()
    return {row["version"]: Taint(**row) for row in rows}


def untainted(state: State, version: str) -> str | None:
    """The version itself if it is clean, else the nearest of its ancestors that is; None where all are tainted."""
    marked, parents = tainted(state), _parents(state)
    found: str | None = version
    while found is not None and found in marked:
        found = parents.get(found)
    return found


def tag(state: State, own: Mapping[str, tuple[int, int]]) -> list[Taint]:
    """Mark versions whose training sets lost rows, and all that descend from them; those whose mark is new or another.

    Args:
        own: of a version, how many rows of its training set were erased by now, and how many it had.
    """
    from sqlalchemy.dialects.postgresql import insert

    table, now = state.tables["taints"], datetime.now(UTC)
    with state.transaction(lock="taints") as connection:
        before = {row["version"]: Taint(**row) for row in connection.execute(sa.select(table)).mappings()}
        lost = {version: (taint.rows, taint.of) for version, taint in before.items()} | dict(own)
        parents = _parents(state)
        marked = {version for version, (rows, _) in lost.items() if rows}
        found: dict[str, Taint] = {}
        for version in (*parents, *(marked - set(parents))):
            ancestor = parents.get(version)
            while ancestor is not None and ancestor not in marked:
                ancestor = parents.get(ancestor)
            rows, of = lost.get(version, (0, 0))
            if rows or ancestor:
                found[version] = Taint(version, rows, of, rows / of if of else 0.0, ancestor, now)
        changed = [t for v, t in found.items() if v not in before or _said(before[v]) != _said(t)]
        for taint in changed:
            values = {name: getattr(taint, name) for name in ("rows", "of", "share", "ancestor", "tagged_at")}
            query = insert(table).values(version=taint.version, **values)
            connection.execute(query.on_conflict_do_update(index_elements=["version"], set_=values))
    return changed


def _said(taint: Taint) -> tuple[int, int, str | None]:
    return taint.rows, taint.of, taint.ancestor


def _parents(state: State) -> dict[str, str | None]:
    models = state.tables["models"]
    with state.engine.connect() as connection:
        return {row.version: row.parent for row in connection.execute(sa.select(models.c.version, models.c.parent))}
