"""In which days and workflows something has landed, and which of them wait to be read or judged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date

import sqlalchemy as sa

from loop import schema
from loop.collect.files import Kind, Partition, table
from loop.state import State


def partitions(state: State, first: date, last: date, workflows: Sequence[str] = schema.WORKFLOWS) -> list[Partition]:
    """Days and workflows of a range in which events have landed, in order."""
    landings = table("landings")
    query = sa.select(landings.c.day, landings.c.workflow).where(
        landings.c.kind == Kind.EVENTS.value,
        landings.c.day.between(first, last),
        landings.c.workflow.in_(list(workflows)),
    )
    with state.engine.connect() as connection:
        found = {(row.day, row.workflow) for row in connection.execute(query)}
    return sorted(found, key=lambda partition: (partition[0], schema.WORKFLOWS.index(partition[1])))


def partitions_of(state: State, wanted: Iterable[Partition]) -> list[Partition]:
    """Those of the wanted days and workflows in which anything has landed, in order."""
    landings = table("landings")
    query = sa.select(landings.c.day, landings.c.workflow).where(
        sa.tuple_(landings.c.day, landings.c.workflow).in_(list(wanted))
    )
    with state.engine.connect() as connection:
        return sorted({(row.day, row.workflow) for row in connection.execute(query)})


def unread(state: State) -> list[tuple[Partition, str]]:
    """Days and workflows of which something has landed that their batch does not hold, or that no verdict was on.

    In order, each with a mark that is another as soon as there is more to read. Asked of what was read and judged, not
    of clocks: what lands while a batch is built or judged is never taken for judged.
    """
    landings, builds, batches = table("landings"), table("builds"), table("batches")
    here = (
        sa.select(landings.c.day, landings.c.workflow, sa.func.sum(landings.c.rows).label("rows"))
        .where(landings.c.kind == Kind.EVENTS.value)
        .group_by(landings.c.day, landings.c.workflow)
        .subquery()
    )
    judged = (
        sa.select(batches.c.day, batches.c.workflow, batches.c.digest)
        .distinct(batches.c.day, batches.c.workflow)
        .order_by(batches.c.day, batches.c.workflow, batches.c.attempt.desc())
        .subquery()
    )
    query = (
        sa.select(here.c.day, here.c.workflow, here.c.rows, builds.c.digest)
        .outerjoin(builds, sa.and_(builds.c.day == here.c.day, builds.c.workflow == here.c.workflow))
        .outerjoin(judged, sa.and_(judged.c.day == here.c.day, judged.c.workflow == here.c.workflow))
        .where(
            sa.or_(
                builds.c.landed.is_distinct_from(here.c.rows),
                judged.c.digest.is_(None),
                judged.c.digest != builds.c.digest,
            )
        )
    )
    with state.engine.connect() as connection:
        found = [
            ((row.day, row.workflow), f"{row.rows} {row.digest or 'never read'}") for row in connection.execute(query)
        ]
    return sorted(found)
