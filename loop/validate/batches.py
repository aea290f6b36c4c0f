"""From landed events to a batch: `interactions` and `quarantine` of one day and workflow. `verdicts.py` judges it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from loop.collect import landing, outcomes
from loop.collect.files import Kind
from loop.collect.landed import claim, put
from loop.config import Settings
from loop.lake import Lake
from loop.state import State
from loop.validate import contract
from loop.validate.suites.measures import opened

if TYPE_CHECKING:
    import duckdb

PIECE: Final = 50_000
"""Rows that are sorted, and handed to the lake, at a time."""


@dataclass(frozen=True)
class Batch:
    """What one day of one workflow came to. `landed == rows + quarantined_here`, asserted."""

    day: date
    workflow: str
    digest: str
    landed: int
    rows: int
    quarantined: int
    """Rows of this partition in quarantine: set aside here and at the edge."""


def build(settings: Settings, lake: Lake, state: State, day: date, workflow: str) -> Batch:
    """Type the landed events of a partition, set aside those that break the contract, and write both partitions.

    What stands there then is a batch: each row bears its digest.
    """
    with state.building(day, workflow):
        landing.merge_files(settings, lake, state, day, workflow)
        fresh = claim(lake, state, Kind.EVENTS, (day, workflow))
        with landing.opened(settings, state, day, workflow, until=fresh.write) as connection:
            bad = contract.breaking(connection, "landed", now=datetime.now(UTC), order=_ORDER)
            connection.register("bad", bad.select(["event_id"]))
            connection.execute("CREATE TEMP VIEW batch AS FROM landed ANTI JOIN bad USING (event_id)")
            [(landed, rows)] = connection.execute(
                "SELECT (SELECT count(*) FROM landed), count(*) FROM batch"
            ).fetchall()
            assert landed == rows + bad.num_rows, "a row was lost by the contract"
            digest = digest_of(connection, day, workflow)
            pieces = _pieces(connection, rows, digest)
            lake.overwrite("interactions", pieces, day=day, workflow=workflow, write=fresh.write)
        quarantined = landing.rebuild_quarantine(settings, lake, state, day, workflow, extra=bad)
        state.record_build(day, workflow, landed=landed, digest=digest)
    return Batch(day, workflow, digest, landed, rows, quarantined)


_ORDER: Final = "shown_at, event_id"


def _pieces(connection: duckdb.DuckDBPyConnection, rows: int, digest: str) -> Iterator[pa.Table]:
    """The view `batch` by time shown, as rows of `interactions`, so many at a time that they can be sorted in memory.

    Each piece is a span of time: of files that landed one after the other, it is in a few.
    """
    parts = max(1, round(rows / PIECE))
    shares = [n / parts for n in range(1, parts)]
    ends: list[datetime | None] = []
    if shares:
        ends = sorted(set(connection.execute(f"SELECT quantile_disc(shown_at, {shares}) FROM batch").fetchall()[0][0]))  # noqa: S608
    told = 0
    for first, end in pairwise([None, *ends, None]):
        query = (
            f"SELECT * REPLACE ('{digest}' AS batch) FROM batch WHERE coalesce(shown_at >= $first, true) "  # noqa: S608
            f"AND coalesce(shown_at < $end, true) ORDER BY {_ORDER}"
        )
        piece = connection.sql(query, params={"first": first, "end": end}).to_arrow_table()
        told += piece.num_rows
        yield piece
    assert told == rows, "a row was lost on the way to the lake"


def extend(settings: Settings, lake: Lake, state: State, day: date, workflow: str) -> None:
    """Bring to the lake what has landed in a partition since it was last written; the cost is that of the new rows.

    The rows are those that `build` would make, but that their `batch` is empty: they can be read, and wait to be made
    a batch of with the others. `interactions` is written last, for its number says that the rest is done too.
    """
    with state.building(day, workflow):
        fresh = claim(lake, state, Kind.EVENTS, (day, workflow))
        landed = landing.events(settings, state, day, workflow, since=fresh.since)
        good, bad = contract.split(landed, now=datetime.now(UTC))
        landing.extend_quarantine(settings, lake, state, day, workflow, extra=bad)
        outcomes.extend(settings, lake, state, day, workflow, decisions=good)
        if landed.num_rows:
            if not fresh.since:  # written anew: of what was a batch here nothing is left
                state.record_build(day, workflow, landed=0, digest="")
            put(lake, Kind.EVENTS, (day, workflow), good, fresh)


def rows_of(lake: Lake, day: date, workflow: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a partition as the batch that was last made of it has them; what was brought since is left out.

    Args:
        columns: only these, `batch` among them.
    """
    rows = lake.read("interactions", days=(day, day), workflows=[workflow], columns=columns)
    mine = pc.not_equal(rows["batch"], "")
    return rows if pc.all(mine, min_count=0).as_py() else rows.filter(mine)  # a copy of a day's texts is a gigabyte


def digest_of(rows: pa.Table | duckdb.DuckDBPyConnection, day: date, workflow: str) -> str:
    """The batch's content digest: over day, workflow and the sorted content digests of its rows (SHA-256, 32 hex).

    Args:
        rows: the batch, or a connection in which it is the view `batch`.
    """
    sha = hashlib.sha256(f"{day.isoformat()}|{workflow}|".encode())
    with opened(rows) as connection:
        lines = "SELECT event_id || ':' || content || chr(10) AS line FROM batch ORDER BY event_id, content"
        for chunk in connection.sql(lines).to_arrow_reader(100_000):
            sha.update("".join(chunk["line"].to_pylist()).encode())
    return sha.hexdigest()[:32]
