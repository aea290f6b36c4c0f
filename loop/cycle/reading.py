"""What a cycle may read: its cut-off, its window, accepted batches, and its own earlier rows."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from loop.errors import LoopError
from loop.home import Home
from loop.lake import Days
from loop.release import releases, taints
from loop.schema import Split


def latest(home: Home, table: str, cycle: date) -> dict[str, Any]:
    """The last attempt's row of a cycle in a state table keyed by cycle and attempt.

    Raises:
        LoopError: the cycle has no such row yet.
    """
    rows = home.state.tables[table]
    query = sa.select(rows).where(rows.c.cycle == cycle).order_by(rows.c.attempt.desc()).limit(1)
    with home.state.engine.connect() as connection:
        found = connection.execute(query).mappings().first()
    if found is None:
        raise LoopError(f"cycle {cycle} has no row in {table}: materialise the assets before it first")
    return dict(found)


def cutoff_of(cycle: date) -> datetime:
    """The end of the cycle's day, or now while that lies ahead."""
    return min(datetime.combine(cycle + timedelta(days=1), time(), UTC), datetime.now(UTC))


def window(home: Home, cycle: date) -> Days:
    return cycle - timedelta(days=home.settings.window_days - 1), cycle


def labels(  # noqa: PLR0913 - one argument a condition
    home: Home,
    table: str,
    cycle: date,
    cutoff: datetime,
    *,
    split: Split | None = None,
    version: int | None = None,
) -> pa.Table:
    """Labels of accepted batches in the cycle's window that were known, and not yet superseded, at the cut-off.

    Args:
        version: of the Delta table; by default the current one.
    """
    days = window(home, cycle)
    rows = home.lake.read(table, days=days, version=version)
    accepted = pa.array(sorted(home.state.accepted_digests(*days)), pa.string())
    known = pc.less(rows["received_at"], cutoff)
    stands = pc.fill_null(pc.greater_equal(rows["superseded_at"], cutoff), True)
    wanted = pc.and_(pc.and_(known, stands), pc.is_in(rows["batch"], accepted))
    if split is not None:
        wanted = pc.and_(wanted, pc.equal(rows["split"], split.value))
    return rows.filter(wanted)


def parent_version(home: Home, cycle: date) -> str | None:
    """The model that a cycle trains from: its champion; or, if that is tainted, the nearest ancestor that is not."""
    version = releases.champion_as_of(home.state, cycle)
    return None if version is None else taints.untainted(home.state, version)


def learned_until(home: Home, cycle: date) -> datetime:
    """The cut-off of the set that made the model which the cycle trains from: what was received later is fresh to it.

    See `parent_version`. The beginning of time for a base. Asked of the dated releases, so that a cycle run again gets
    the same answer.
    """
    beginning = datetime.min.replace(tzinfo=UTC)
    if (version := parent_version(home, cycle)) is None:
        return beginning
    champion = releases.model_version(home.state, version)
    sets = home.state.tables["training_sets"]
    query = sa.select(sa.func.min(sets.c.cutoff)).where(
        sets.c.cycle == champion.cycle, sets.c.digest == champion.training_digest
    )
    with home.state.engine.connect() as connection:
        return connection.execute(query).scalar() or beginning


def record(home: Home, table: str, cycle: date, **values: Any) -> int:
    """Insert the next attempt of a cycle into a state table; its number."""
    rows = home.state.tables[table]
    with home.state.transaction(lock=f"{table} {cycle}") as connection:
        last = connection.execute(sa.select(sa.func.max(rows.c.attempt)).where(rows.c.cycle == cycle)).scalar()
        attempt = int(last or 0) + 1
        connection.execute(sa.insert(rows).values(cycle=cycle, attempt=attempt, **values))
    return attempt
