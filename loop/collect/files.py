"""Files of the landing area, and the one transaction that makes them visible.

Files are written first; the rows of `landings` and `event_index` that make them visible are committed together at the
end. A crash leaves files that no row names: nobody reads them, and the next transaction removes them. What stands in
the files is the business of whoever brings them; how the visible ones are read and taken to the lake is `landed.py`.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from enum import Enum, StrEnum, auto
from functools import cached_property
from itertools import accumulate, groupby
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import sqlalchemy as sa

from loop import disk
from loop.config import Settings
from loop.errors import LoopError
from loop.lake import Lake
from loop.state import METADATA, State

Partition = tuple[date, str]
"""Day and workflow."""

_LOCK: Final = sa.func.hashtextextended("landing", 0)
"""Held shared by every transaction while it runs, and alone by whoever removes what a crash left behind."""


FILES: Final = 32
"""Small files of one kind and source in a partition, beyond which they are merged."""
SMALL: Final = 50_000
"""Rows below which a file is small: larger ones are left alone, so that no row is written more than a few times."""


class Kind(StrEnum):
    """What a landed file holds: the schemas `interactions`, `quarantine` and `outcomes`."""

    EVENTS = "events"
    REJECTS = "rejects"
    OUTCOMES = "outcomes"


_KEYS: Final = {Kind.EVENTS: "event_id", Kind.REJECTS: "quarantine_id", Kind.OUTCOMES: "outcome_id"}
KNOWN_BY: Final = {Kind.EVENTS: "{}", Kind.REJECTS: "{}", Kind.OUTCOMES: "outcome:{}"}
"""The column whose value names a row, and how that stands in `event_index`."""
ERASED: Final = "erased"
"""In the place of a content's digest: the row was erased, and is not brought again."""
TABLES: Final = {Kind.EVENTS: "interactions", Kind.REJECTS: "quarantine", Kind.OUTCOMES: "outcomes"}
"""The table of the lake that is made of them."""


class Known(Enum):
    """What the landing area knows of an id and its content."""

    NEW = auto()
    DUPLICATE = auto()
    CONFLICT = auto()


class Files:
    """Files that are being brought; visible all at once when `bringing` ends, or not at all."""

    def __init__(self, settings: Settings, connection: sa.Connection, journal: Path, source: str) -> None:
        self.settings, self.connection, self.source = settings, connection, source
        self._journal = journal
        self._gone: list[str] = []

    def contents(self, ids: Iterable[str]) -> dict[str, str]:
        """The digest of each id that is known already; `ERASED` for one that was erased."""
        wanted = set(ids)
        stones = {stone(self.settings, key): key for key in wanted} if self._any_erased else {}
        query = sa.text("SELECT event_id, content FROM event_index WHERE event_id = ANY(:ids)")
        found = self.connection.execute(query, {"ids": [*wanted, *stones]})
        return {stones.get(row.event_id, row.event_id): row.content for row in found}

    @cached_property
    def _any_erased(self) -> bool:
        query = sa.text("SELECT 1 FROM event_index WHERE event_id >= :first AND event_id < :last LIMIT 1")
        bounds = {"first": f"{ERASED}:", "last": f"{ERASED};"}
        return self.connection.execute(query, bounds).first() is not None

    def known(self, ids: Sequence[tuple[str, str]]) -> list[Known]:
        """For each id and content, in this order, whether it is new, known with this content, or with another."""
        known = self.contents(key for key, _ in ids)
        verdicts = []
        for key, content in ids:
            before = known.setdefault(key, "")
            same = before in (content, ERASED)
            verdicts.append(Known.NEW if not before else Known.DUPLICATE if same else Known.CONFLICT)
            known[key] = before or content
        return verdicts

    def write(self, kind: Kind, rows: pa.Table, ids: Sequence[str], contents: Sequence[str]) -> Counter[Partition]:
        """Write new rows, a file per partition (their columns `day` and `workflow`); how many went into each.

        Args:
            ids: one a row, as they will be known in `event_index`; likewise `contents`, their digests.
        """
        written: Counter[Partition] = Counter()
        rows = rows.append_column("_id", pa.array(ids, pa.string())).append_column(
            "_content", pa.array(contents, pa.string())
        )
        for day, workflow in sorted(set(zip(rows["day"].to_pylist(), rows["workflow"].to_pylist(), strict=True))):
            of = pc.and_(pc.equal(rows["day"], pa.scalar(day)), pc.equal(rows["workflow"], workflow))
            part = rows.filter(of)
            own, told = part["_id"].to_pylist(), part["_content"].to_pylist()
            bare = part.drop_columns(["_id", "_content"])
            rewarded = False if kind is Kind.OUTCOMES else None
            digest = _digest(kind, own, told)
            landing = self._show(kind, (day, workflow), bare, digest, datetime.now(UTC), rewarded=rewarded)
            query = sa.text(
                "INSERT INTO event_index (event_id, content, landing_id) "
                "SELECT *, :landing FROM unnest(CAST(:ids AS text[]), CAST(:contents AS text[]))"
            )
            self.connection.execute(query, {"ids": own, "contents": told, "landing": landing})
            written[day, workflow] += part.num_rows
        assert written.total() == rows.num_rows
        return written

    def _file(self, path: Path, rows: pa.Table) -> None:
        """Write a file so that it is whole and on disk, or not there."""
        with self._journal.open("a") as journal:
            journal.write(f"{path.relative_to(self.settings.home)}\n")
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{self._journal.name}")
        with beside.open("wb") as file:
            pq.write_table(rows, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        disk.sync(path.parent)

    def replace(self, kind: Kind, partition: Partition, rows: pa.Table, old: Sequence[tuple[str, str]]) -> None:
        """Put one file in the place of several of a partition.

        Args:
            rows: all that the files hold.
            old: their `landing_id` and `path`; they are removed.
        """
        landings = table("landings")
        gone = [landing for landing, _ in old]
        known = sa.select(
            sa.func.max(landings.c.landed_at), sa.func.max(landings.c.lake_write), sa.func.bool_and(landings.c.rewarded)
        ).where(landings.c.landing_id.in_(gone))
        landed_at, write, rewarded = self.connection.execute(known).one()
        self.remove(old)
        merged = self._show(kind, partition, rows, _digest(kind, gone, gone), landed_at, write, rewarded=rewarded)
        ids = [KNOWN_BY[kind].format(key) for key in rows[_KEYS[kind]].to_pylist()]
        query = sa.text("UPDATE event_index SET landing_id = :landing WHERE event_id = ANY(:ids)")
        found = self.connection.execute(query, {"landing": merged, "ids": ids})
        assert found.rowcount == rows.num_rows, "a row of a landed file is not known"

    def remove(self, old: Sequence[tuple[str, str]]) -> None:
        """Take files out of sight, and once that is committed off the disk; after a crash whoever cleans up does that.

        Args:
            old: their `landing_id` and `path`.
        """
        with self._journal.open("a") as journal:
            journal.writelines(f"{path}\n" for _, path in old)
        landings = table("landings")
        query = sa.delete(landings).where(landings.c.landing_id.in_([landing for landing, _ in old]))
        assert self.connection.execute(query).rowcount == len(old), "a landed file went while it was being replaced"
        self._gone += [path for _, path in old]

    def sweep(self) -> None:
        """Remove the files that were taken out of sight. By `bringing`, when that is committed."""
        for path in self._gone:
            (self.settings.home / path).unlink(missing_ok=True)

    def _show(  # noqa: PLR0913, PLR0917 - what a row of `landings` says
        self,
        kind: Kind,
        partition: Partition,
        rows: pa.Table,
        landing: str,
        landed_at: datetime,
        write: int | None = None,
        *,
        rewarded: bool | None = None,
    ) -> str:
        """Write a file and the row that makes it visible; its `landing_id`."""
        day, workflow = partition
        path = self.settings.landing / workflow / day.isoformat() / f"{landing}.parquet"
        self._file(path, rows)
        self.connection.execute(
            sa.insert(table("landings")).values(
                landing_id=landing,
                kind=kind.value,
                source=self.source,
                day=day,
                workflow=workflow,
                path=str(path.relative_to(self.settings.home)),
                rows=rows.num_rows,
                landed_at=landed_at,
                lake_write=write,
                rewarded=rewarded,
            )
        )
        return landing


def merge(  # noqa: PLR0913, PLR0917 - the files of a partition
    settings: Settings, lake: Lake, state: State, kind: Kind, partition: Partition, columns: pa.Schema
) -> int:
    """Make few files of the small files of a partition where there are many of one source; how many went into others.

    What comes in by the second leaves thousands of files a day, and all of them are opened whenever the day is built.
    A merged file has at most about twice `SMALL` rows, so that no more are held in memory.
    Only files that the lake has are merged: the merged one is in it as a whole. The caller holds `State.building`, so
    that nobody reads them meanwhile.
    """
    landings = table("landings")
    written = lake.written(TABLES[kind], day=partition[0], workflow=partition[1]) or 0
    query = (
        sa.select(landings.c.source, landings.c.landing_id, landings.c.path, landings.c.rows)
        .where(landings.c.kind == kind.value, landings.c.day == partition[0], landings.c.workflow == partition[1])
        .where(landings.c.rows < SMALL, landings.c.lake_write <= written)
        .order_by(landings.c.source, landings.c.landed_at, landings.c.landing_id)
    )
    with state.engine.connect() as connection:
        found = connection.execute(query).all()
    merged = 0
    for source in sorted({row.source for row in found}):
        small = [row for row in found if row.source == source]
        if len(small) <= FILES:
            continue
        places = zip(accumulate(row.rows for row in small), small, strict=True)
        for _, group in groupby(places, lambda place: place[0] // SMALL):
            old = [(row.landing_id, row.path) for _, row in group]
            if len(old) == 1:
                continue
            rows = pa.concat_tables([pq.read_table(settings.home / path, schema=columns) for _, path in old])
            with bringing(settings, state, source=source, name=f"{partition[0]} {partition[1]}") as files:
                files.replace(kind, partition, rows, old)
            merged += len(old)
    return merged


@contextmanager
def bringing(settings: Settings, state: State, *, source: str, name: str) -> Iterator[Files]:
    """One transaction: what is written in it becomes visible at its end, or, if it fails, not at all.

    Raises:
        LoopError: the database refused, as it does where another brought the same rows at the same moment.
    """
    _clean(settings, state)
    try:
        with _journal(settings) as journal:
            with state.engine.begin() as connection:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock_shared(_LOCK)))
                files = Files(settings, connection, journal, source)
                yield files
            files.sweep()
    except BaseException as error:
        with suppress(sa.exc.SQLAlchemyError):
            _clean(settings, state)
        if isinstance(error, sa.exc.DBAPIError):
            told = str(error.orig).strip().splitlines()[0]
            raise LoopError(f"{name}: nothing was imported, the database refused: {told}; import it again") from None
        raise


def stone(settings: Settings, key: str) -> str:
    """As what an erased id stays known in `event_index`: a hash keyed with the home's secret, BLAKE2b-128."""
    keyed = hashlib.blake2b(key.encode(), key=settings.secret("erasure"), digest_size=16)
    return f"{ERASED}:{keyed.hexdigest()}"


def table(name: str) -> sa.Table:
    return METADATA.tables[name]


# -- inside -----------------------------------------------------------------------------------------------------------


def _digest(kind: str, ids: Sequence[str], contents: Sequence[str]) -> str:
    """Digest of a file's rows: BLAKE2b-128 over kind, ids and contents."""
    blake = hashlib.blake2b(kind.encode(), digest_size=16)
    for pair in sorted(zip(ids, contents, strict=True)):
        blake.update("\0".join(("", *pair)).encode())
    return blake.hexdigest()


@contextmanager
def _journal(settings: Settings) -> Iterator[Path]:
    """A file that names the files of an import under way; gone when the import is done, left behind by a crash."""
    folder = settings.landing / ".imports"
    folder.mkdir(parents=True, exist_ok=True)
    journal = folder / uuid.uuid4().hex
    journal.touch()
    yield journal
    journal.unlink(missing_ok=True)


def _clean(settings: Settings, state: State) -> None:
    """Remove the files of imports that did not come to their end, unless an import is under way right now."""
    left = sorted((settings.landing / ".imports").glob("*"))
    if not left:
        return
    with state.engine.begin() as connection:
        if not connection.execute(sa.select(sa.func.pg_try_advisory_xact_lock(_LOCK))).scalar():
            return
        visible = set(connection.execute(sa.select(table("landings").c.path)).scalars())
        for journal in left:
            with suppress(FileNotFoundError):
                for name in journal.read_text().splitlines():
                    path = settings.home / name
                    path.with_suffix(f".{journal.name}").unlink(missing_ok=True)
                    if name not in visible:
                        path.unlink(missing_ok=True)
                journal.unlink(missing_ok=True)
