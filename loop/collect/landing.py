"""The landing area: typed files of events and of rows set aside, visible through their rows in `landings`.

One import is one transaction: its files are written first, and the rows of `landings` and `event_index` that make
them visible are committed together at its end. A crash leaves files that no row names: nobody reads them, and the
next import removes them. The wire format, the sources and the row contract stand elsewhere.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import Enum, auto
from pathlib import Path
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import sqlalchemy as sa

from loop import schema
from loop.collect import quarantine
from loop.collect.events import LANDED, LINE_BYTES, Event, EventError, Reason, decode, to_table
from loop.collect.imported import Count, Imported
from loop.collect.quarantine import Refusal
from loop.collect.record import Record
from loop.config import Settings
from loop.errors import LoopError
from loop.lake import Lake
from loop.state import METADATA, State

Partition = tuple[date, str]
"""Day and workflow."""

CHUNK_ROWS: Final = 50_000
CHUNK_BYTES: Final = 64 << 20
"""An import holds about this much in memory: so many records, or so many bytes of them and one more."""
_LOCK: Final = sa.func.hashtextextended("landing", 0)
"""Held shared by every import while it runs, and alone by whoever removes what a crash left behind."""


class Contract(Protocol):
    """`loop.validate.contract.split`: parts the rows that keep the row contract from those that break it."""

    def __call__(self, rows: pa.Table, *, now: datetime) -> tuple[pa.Table, pa.Table]: ...


def land(  # noqa: PLR0913 - what is brought, where to, and by which rules
    settings: Settings,
    lake: Lake,
    state: State,
    *,
    source: str,
    name: str,
    records: Iterable[Record],
    contract: Contract,
    now: datetime | None = None,
) -> Imported:
    """Bring records into the landing area, all or none of them, each counted once.

    The same event id with the same content is a duplicate, with other content it is set aside as a conflict. So is
    whatever is no event or breaks the row contract. A record that was set aside before from the same place counts as
    a duplicate, so that importing a file twice changes nothing.

    Args:
        source: as in the column `source`.
        name: file name of the source.
        records: streamed; memory does not grow with their number.
        contract: `loop.validate.contract.split`, handed in because validation builds on collection.
        now: the time of receipt of events that name none; by default the time of the call.

    Raises:
        BadInputError: the source could not be read to its end; nothing became visible.
        LoopError: another import brought the same events at the same moment; nothing became visible.
    """
    now = now or datetime.now(UTC)
    _clean(settings, state)
    try:
        with _journal(settings) as journal, state.engine.begin() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock_shared(_LOCK)))
            batch = _Import(settings, connection, journal, source=source, name=name, now=now, contract=contract)
            for chunk in _chunks(records):
                batch.take(chunk)
    except BaseException as error:
        with suppress(sa.exc.SQLAlchemyError):
            _clean(settings, state)
        if isinstance(error, sa.exc.DBAPIError):
            told = str(error.orig).strip().splitlines()[0]
            raise LoopError(f"{name}: nothing was imported, the database refused: {told}; import it again") from None
        raise
    for day, workflow in sorted(batch.filed):
        rebuild_quarantine(settings, lake, state, day, workflow)
    return batch.done()


class _Status(Enum):
    NEW = auto()
    DUPLICATE = auto()
    CONFLICT = auto()


@dataclass
class _Import:
    """One import under way."""

    settings: Settings
    connection: sa.Connection
    journal: Path
    source: str
    name: str
    now: datetime
    contract: Contract
    read: int = 0
    duplicates: int = 0
    accepted: Counter[Partition] = field(default_factory=Counter)
    quarantined: Counter[Partition] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    days: set[date] = field(default_factory=set)
    filed: set[Partition] = field(default_factory=set)
    """Partitions of `quarantine` that hold records of this source, now or before."""

    def __post_init__(self) -> None:
        self.key = self.settings.secret("pseudonym")

    def take(self, chunk: Sequence[Record]) -> None:
        """Land one chunk of records."""
        self.read += len(chunk)
        rows, refused = self._typed(chunk)
        good, bad = self.contract(rows, now=self.now)
        assert rows.num_rows == good.num_rows + bad.num_rows, "a row was lost by the contract"
        for place, breaches, explanation in _columns(bad, "_record", "breaches", "explanation"):
            refused.append(Refusal(chunk[place], breaches, explanation))
        self.days.update(good["day"].to_pylist())
        verdicts = self._known(list(_columns(good, "event_id", "content")))
        for (place, event_id), verdict in zip(_columns(good, "_record", "event_id"), verdicts, strict=True):
            if verdict is _Status.CONFLICT:
                told = (
                    f"event_id {event_id}: expected the content that came before, got another; send a revision instead"
                )
                refused.append(Refusal(chunk[place], [Reason.CONFLICT.value], told))
        new = good.filter(pa.array([verdict is _Status.NEW for verdict in verdicts], pa.bool_()))
        self.duplicates += verdicts.count(_Status.DUPLICATE)
        self.accepted += self._write("events", new.select(LANDED.names), "event_id", "content")
        self._set_aside(refused)

    def _typed(self, chunk: Sequence[Record]) -> tuple[pa.Table, list[Refusal]]:
        """The records that are events, as rows with their place in the chunk (`_record`), and the others."""
        events, places, refused = [], [], []
        for place, record in enumerate(chunk):
            try:
                events.append(_decoded(record))
                places.append(place)
            except EventError as error:
                refused.append(Refusal(record, [error.reason.value], str(error)))
        rows = to_table(events, key=self.key, source=self.source, now=self.now)
        return rows.append_column("_record", pa.array(places, pa.int64())), refused

    def _set_aside(self, refused: Sequence[Refusal]) -> None:
        refused = sorted(refused, key=lambda refusal: (refusal.record.path or "", refusal.record.line))
        rows = quarantine.of_records(refused, key=self.key, source=self.source, name=self.name, now=self.now)
        verdicts = self._known([(key, key) for key in rows["quarantine_id"].to_pylist()])
        new = rows.filter(pa.array([verdict is _Status.NEW for verdict in verdicts], pa.bool_()))
        self.duplicates += rows.num_rows - new.num_rows
        self.reasons.update(reasons[0] for reasons in new["reasons"].to_pylist())
        self.filed.update(_columns(rows, "day", "workflow"))
        self.quarantined += self._write("rejects", new, "quarantine_id", "quarantine_id")

    def _known(self, ids: Sequence[tuple[str, str]]) -> list[_Status]:
        """For each id and content, in this order, whether it is new, known with this content, or with another."""
        query = sa.text("SELECT event_id, content FROM event_index WHERE event_id = ANY(:ids)")
        wanted = list({key for key, _ in ids})
        known = {row.event_id: row.content for row in self.connection.execute(query, {"ids": wanted})}
        verdicts = []
        for key, content in ids:
            before = known.setdefault(key, "")
            verdicts.append(_Status.NEW if not before else _Status.DUPLICATE if before == content else _Status.CONFLICT)
            known[key] = before or content
        return verdicts

    def _write(self, kind: str, rows: pa.Table, key: str, content: str) -> Counter[Partition]:
        """Write new rows, a file per partition, and the rows of the state that make them visible on commit."""
        written: Counter[Partition] = Counter()
        for day, workflow in sorted(set(_columns(rows, "day", "workflow"))):
            of = pc.and_(pc.equal(rows["day"], pa.scalar(day)), pc.equal(rows["workflow"], workflow))
            part = rows.filter(of)
            ids, contents = part[key].to_pylist(), part[content].to_pylist()
            landing = _digest(kind, ids, contents)
            path = self.settings.landing / workflow / day.isoformat() / f"{landing}.parquet"
            self._file(path, part)
            self.connection.execute(
                sa.insert(_table("landings")).values(
                    landing_id=landing,
                    kind=kind,
                    source=self.source,
                    day=day,
                    workflow=workflow,
                    path=str(path.relative_to(self.settings.home)),
                    rows=part.num_rows,
                    landed_at=datetime.now(UTC),
                )
            )
            query = sa.text(
                "INSERT INTO event_index (event_id, content, landing_id) "
                "SELECT *, :landing FROM unnest(CAST(:ids AS text[]), CAST(:contents AS text[]))"
            )
            self.connection.execute(query, {"ids": ids, "contents": contents, "landing": landing})
            written[day, workflow] += part.num_rows
        assert written.total() == rows.num_rows
        return written

    def _file(self, path: Path, rows: pa.Table) -> None:
        """Write a file so that it is whole and on disk, or not there."""
        with self.journal.open("a") as journal:
            journal.write(f"{path.relative_to(self.settings.home)}\n")
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{self.journal.name}")
        with beside.open("wb") as file:
            pq.write_table(rows, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        _sync(path.parent)

    def done(self) -> Imported:
        changed = sorted(set(self.accepted) | set(self.quarantined))
        return Imported(
            source=self.source,
            path=self.name,
            read=self.read,
            accepted=self.accepted.total(),
            duplicates=self.duplicates,
            quarantined=self.quarantined.total(),
            first_day=min(self.days, default=None),
            last_day=max(self.days, default=None),
            partitions=tuple(Count(*p, self.accepted[p], self.quarantined[p]) for p in changed),
            reasons=dict(self.reasons.most_common()),
        )


# -- what has landed --------------------------------------------------------------------------------------------------


def partitions(state: State, first: date, last: date, workflows: Sequence[str] = schema.WORKFLOWS) -> list[Partition]:
    """Days and workflows of a range in which events have landed, in order."""
    landings = _table("landings")
    query = sa.select(landings.c.day, landings.c.workflow).where(
        landings.c.kind == "events", landings.c.day.between(first, last), landings.c.workflow.in_(list(workflows))
    )
    with state.engine.connect() as connection:
        found = {(row.day, row.workflow) for row in connection.execute(query)}
    return sorted(found, key=lambda partition: (partition[0], schema.WORKFLOWS.index(partition[1])))


def unread(state: State) -> list[tuple[Partition, datetime]]:
    """Days and workflows in which something landed after their batch was last judged, with when it did; in order."""
    landings, batches = _table("landings"), _table("batches")
    judged = sa.select(sa.func.max(batches.c.decided_at)).where(
        batches.c.day == landings.c.day, batches.c.workflow == landings.c.workflow
    )
    newest = sa.func.max(landings.c.landed_at)
    query = (
        sa.select(landings.c.day, landings.c.workflow, newest)
        .where(landings.c.kind == "events")
        .group_by(landings.c.day, landings.c.workflow)
        .having(
            newest > sa.func.coalesce(judged.correlate(landings).scalar_subquery(), datetime.min.replace(tzinfo=UTC))
        )
    )
    with state.engine.connect() as connection:
        found = [((day, workflow), landed) for day, workflow, landed in connection.execute(query)]
    return sorted(found)


def events(settings: Settings, state: State, day: date, workflow: str) -> pa.Table:
    """All visible events of a partition as rows of `LANDED`, by time shown; `batch` is empty.

    Raises:
        LoopError: a file that should be there is not.
    """
    rows = _landed(settings, state, "events", (day, workflow), LANDED)
    return rows.sort_by([("shown_at", "ascending"), ("event_id", "ascending")])


def rebuild_quarantine(  # noqa: PLR0913 - the partition of a home
    settings: Settings, lake: Lake, state: State, day: date, workflow: str, *, extra: pa.Table | None = None
) -> int:
    """Make a partition of `quarantine` anew from what was set aside at the edge and afterwards; its number of rows.

    Args:
        extra: the rows that a batch set aside, as the row contract gives them; None keeps those of before.
    """
    before = lake.read("quarantine", days=(day, day), workflows=[workflow])
    at_edge = _landed(settings, state, "rejects", (day, workflow), schema.QUARANTINE.arrow)
    kept = before.filter(pc.equal(before["path"], quarantine.LATER))
    later = kept if extra is None else quarantine.of_rows(extra)
    rows = pa.concat_tables([at_edge, later]).sort_by("quarantine_id")
    if set(rows["quarantine_id"].to_pylist()) != set(before["quarantine_id"].to_pylist()):
        lake.overwrite("quarantine", rows, day=day, workflow=workflow)
    return int(rows.num_rows)


def _landed(settings: Settings, state: State, kind: str, partition: Partition, columns: pa.Schema) -> pa.Table:
    landings = _table("landings")
    query = (
        sa.select(landings.c.path)
        .where(landings.c.kind == kind, landings.c.day == partition[0], landings.c.workflow == partition[1])
        .order_by(landings.c.landing_id)
    )
    with state.engine.connect() as connection:
        paths = [settings.home / path for path in connection.execute(query).scalars()]
    if missing := [path for path in paths if not path.exists()]:
        raise LoopError(
            f"{missing[0]}: expected a landed file, got none; restore the home's folder landing/ from a copy"
        )
    # A file's own schema may lack a column that was added to the table since: it is null there.
    parts = [pq.read_table(path, schema=columns) for path in paths]
    return pa.concat_tables([columns.empty_table(), *parts])


# -- inside -----------------------------------------------------------------------------------------------------------


def _chunks(records: Iterable[Record]) -> Iterator[list[Record]]:
    chunk: list[Record] = []
    held = 0
    for record in records:
        chunk.append(record)
        held += len(record.raw)
        if len(chunk) >= CHUNK_ROWS or held >= CHUNK_BYTES:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def _decoded(record: Record) -> Event:
    if record.fault is not None:
        raise EventError(record.fault.reason, record.fault.explanation)
    event = decode(record.raw)
    if len(record.raw) > LINE_BYTES:
        raise EventError(Reason.TOO_LONG, f"expected at most {LINE_BYTES:,} bytes a line, got {len(record.raw):,}")
    return event


def _columns(rows: pa.Table, *names: str) -> Iterator[tuple[Any, ...]]:
    return zip(*(rows[name].to_pylist() for name in names), strict=True)


def _digest(kind: str, ids: Sequence[str], contents: Sequence[str]) -> str:
    """Digest of a file's rows: BLAKE2b-128 over kind, ids and contents."""
    blake = hashlib.blake2b(kind.encode(), digest_size=16)
    for pair in sorted(zip(ids, contents, strict=True)):
        blake.update("\0".join(("", *pair)).encode())
    return blake.hexdigest()


def _table(name: str) -> sa.Table:
    return METADATA.tables[name]


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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
        visible = set(connection.execute(sa.select(_table("landings").c.path)).scalars())
        for journal in left:
            with suppress(FileNotFoundError):
                for name in journal.read_text().splitlines():
                    path = settings.home / name
                    path.with_suffix(f".{journal.name}").unlink(missing_ok=True)
                    if name not in visible:
                        path.unlink(missing_ok=True)
                journal.unlink(missing_ok=True)
