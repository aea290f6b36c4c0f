"""In which days and workflows something has landed, and which of them wait to be read, judged or rewarded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date

import sqlalchemy as sa

from loop import schema
from loop.collect.files import Kind, Partition, table
from loop.lake import Lake
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


def unrewarded(state: State) -> list[Partition]:
    """Days and workflows of which outcomes have landed that no `rewards` were made of, in order.

    Only those whose batch may be learned from: what is held is made anew once it is mended or let through, and of what
    was never judged nothing is derived. What this costs goes with what waits, not with what has landed.
    """
    landings, batches = table("landings"), table("batches")
    here = landings.c.day, landings.c.workflow
    verdict = (
        sa.select(batches.c.status)
        .where(batches.c.day == landings.c.day, batches.c.workflow == landings.c.workflow)
        .order_by(batches.c.attempt.desc())
        .limit(1)
        .scalar_subquery()
    )
    waiting = landings.c.rewarded.is_(False), landings.c.rows > 0  # an erasure may have left none
    query = sa.select(*here).distinct().where(*waiting, verdict != schema.BatchStatus.HELD.value)
    with state.engine.connect() as connection:
        return sorted((row.day, row.workflow) for row in connection.execute(query))


def mark_rewarded(lake: Lake, state: State, day: date, workflow: str) -> None:
    """Note that `rewards` were made of all outcomes of a partition that the lake has.

    The caller has held `State.building` since before it read them: what lands meanwhile is not in the lake yet. After a
    kill in between they are made once more.
    """
    landings = table("landings")
    written = lake.written("outcomes", day=day, workflow=workflow) or 0
    read = landings.c.day == day, landings.c.workflow == workflow, landings.c.lake_write <= written
    with state.transaction() as connection:
        connection.execute(sa.update(landings).where(*read, landings.c.rewarded.is_(False)).values(rewarded=True))
