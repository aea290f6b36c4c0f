"""What has landed in a partition, by the rows of `landings` that make it visible, and how it is taken to the lake.

Every file is taken there once: each write to the lake claims the files that it takes. How files come is `files.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from loop.collect.files import TABLES, Kind, Partition, table
from loop.config import Settings
from loop.errors import LoopError
from loop.lake import Lake
from loop.state import State


@dataclass(frozen=True)
class Fresh:
    """The files of a partition that the next write to the lake takes there for the first time."""

    write: int
    """The write's number, to be given to the lake with it."""
    since: int
    """Number of the last write: files up to it are in the lake. 0 where the lake knows of none, or of fewer than were
    made: then all files are fresh, and what is written replaces the partition."""
    files: int


def claim(lake: Lake, state: State, kind: Kind, partition: Partition) -> Fresh:
    """Number the files of a partition that the lake has not, with the number of the write that is to take them there.

    Whether they are there is told by the lake's own log, which has the number in the same commit as the rows: after a
    kill in between they bear a number that no write has, are claimed again, and nothing is lost or doubled. What lands
    after this is left to the next write. The caller holds `State.building`.
    """
    landings = table("landings")
    written = lake.written(TABLES[kind], day=partition[0], workflow=partition[1]) or 0
    here = sa.and_(landings.c.kind == kind.value, landings.c.day == partition[0], landings.c.workflow == partition[1])
    with state.transaction() as connection:
        last = connection.execute(sa.select(sa.func.max(landings.c.lake_write)).where(here)).scalar() or 0
        since = written if last <= written + 1 else 0  # else the lake was set back to what it was before
        new = sa.and_(here, sa.func.coalesce(landings.c.lake_write, since + 1) > since)
        claimed = connection.execute(sa.update(landings).values(lake_write=written + 1).where(new))
    return Fresh(written + 1, since, claimed.rowcount)


def put(lake: Lake, kind: Kind, partition: Partition, rows: pa.Table, fresh: Fresh) -> None:
    """Write what was made of fresh files to the lake."""
    write = lake.append if fresh.since else lake.overwrite
    write(TABLES[kind], rows, day=partition[0], workflow=partition[1], write=fresh.write)


def landed(  # noqa: PLR0913 - the rows of a partition
    settings: Settings,
    state: State,
    kind: Kind,
    partition: Partition,
    columns: pa.Schema,
    *,
    since: int | None = None,
    until: int | None = None,
) -> pa.Table:
    """The visible rows of a partition; a column that a file lacks, for it was added since, is null there.

    Args:
        since: see `paths`, likewise `until`.

    Raises:
        LoopError: a file that should be there is not.
    """
    found = paths(settings, state, kind, partition, since=since, until=until)
    return pa.concat_tables([columns.empty_table(), *(pq.read_table(path, schema=columns) for path in found)])


def paths(  # noqa: PLR0913 - the files of a partition
    settings: Settings,
    state: State,
    kind: Kind,
    partition: Partition,
    *,
    since: int | None = None,
    until: int | None = None,
) -> list[Path]:
    """The visible files of a partition.

    Args:
        since: only those that are taken to the lake by later writes than this one.
        until: only those that this write, or one before it, takes to the lake.

    Raises:
        LoopError: a file that should be there is not.
    """
    landings = table("landings")
    query = (
        sa.select(landings.c.path)
        .where(landings.c.kind == kind.value, landings.c.day == partition[0], landings.c.workflow == partition[1])
        .order_by(landings.c.landing_id)
    )
    if since is not None:
        query = query.where(landings.c.lake_write > since)
    if until is not None:
        query = query.where(landings.c.lake_write <= until)
    with state.engine.connect() as connection:
        found = [settings.home / path for path in connection.execute(query).scalars()]
    if missing := [path for path in found if not path.exists()]:
        raise LoopError(
            f"{missing[0]}: expected a landed file, got none; restore the home's folder landing/ from a copy"
        )
    return found
