"""Events that come in: typed, known again, and put into the landing area; and what has landed so far.

One import is one transaction (`files.py`). The wire format, the sources and the row contract stand elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from loop import schema
from loop.collect import quarantine
from loop.collect.events import (
    CLIENT,
    LANDED,
    LINE_BYTES,
    Event,
    EventError,
    Reason,
    decode,
    digests,
    seal,
    sealed,
    to_table,
)
from loop.collect.files import Files, Kind, Known, Partition, bringing, merge
from loop.collect.imported import Count, Imported
from loop.collect.landed import claim, landed, paths, put
from loop.collect.quarantine import Refusal
from loop.collect.record import Record
from loop.config import Settings
from loop.lake import Lake
from loop.privacy import bulk
from loop.privacy.masking import mask_raw
from loop.privacy.recognise import Find, recogniser
from loop.state import State
from loop.views import viewed

if TYPE_CHECKING:
    import duckdb

CHUNK_ROWS: Final = 50_000
CHUNK_BYTES: Final = 64 << 20
"""An import holds about this much in memory: so many records, or so many bytes of them and one more."""

_KEYS: Final = frozenset(c.name for c in CLIENT if c.privacy is not schema.Privacy.TEXT)
"""Fields of an event that are no text: ids, times and tags, by which rows are known and counted."""


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
    pseudonymised: bool = False,
) -> Imported:
    """Bring records into the landing area, all or none of them, each counted once.

    The same event id with the same content is a duplicate, with other content it is set aside as a conflict. So is
    whatever is no event or breaks the row contract. A record that was set aside before from the same place counts as
    a duplicate, so that importing a file twice changes nothing.

    Personal data is masked before anything is written, as `settings.privacy` says; what tells duplicates from conflicts
    is the content as it was sent.

    Args:
        source: as in the column `source`.
        name: file name of the source.
        records: streamed; memory does not grow with their number.
        contract: `loop.validate.contract.split`, handed in because validation builds on collection.
        now: the time of receipt of events that name none; by default the time of the call.
        pseudonymised: whether the records bear pseudonyms already, as those of the gateway do.

    Raises:
        BadInputError: the source could not be read to its end; nothing became visible.
        LoopError: another import brought the same events at the same moment; nothing became visible.
    """
    now = now or datetime.now(UTC)
    keys = () if pseudonymised else settings.ring("pseudonym")
    with bringing(settings, state, source=source, name=name) as files:
        find = recogniser(settings.privacy)
        batch = _Import(
            files,
            source=source,
            name=name,
            now=now,
            contract=contract,
            keys=keys,
            seal=settings.secret("content"),
            find=find,
        )
        for chunk in _chunks(records):
            batch.take(chunk)
    for day, workflow in sorted(batch.filed):
        with state.building(day, workflow):
            extend_quarantine(settings, lake, state, day, workflow)
    return batch.done()


@dataclass
class _Import:
    """One import under way."""

    files: Files
    source: str
    name: str
    now: datetime
    contract: Contract
    keys: tuple[bytes, ...]
    """Of pseudonyms, the current one first; none where the records bear pseudonyms."""
    seal: bytes
    """Of the digests of contents."""
    find: Find | None
    """What finds personal data; None if none is to be masked."""
    read: int = 0
    duplicates: int = 0
    accepted: Counter[Partition] = field(default_factory=Counter)
    quarantined: Counter[Partition] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    masked: Counter[str] = field(default_factory=Counter)
    days: set[date] = field(default_factory=set)
    filed: set[Partition] = field(default_factory=set)
    """Partitions of `quarantine` that hold records of this source, now or before."""

    def take(self, chunk: Sequence[Record]) -> None:
        """Land one chunk of records."""
        self.read += len(chunk)
        rows, refused = self._typed(chunk)
        rows, masked = self._masked(rows)
        # The gateway has looked at the times already. If the clock was set back since, they are ahead of it now,
        # and what was acknowledged would be set aside for good.
        now = self.now if self.keys else max([self.now, *rows["received_at"].to_pylist()])
        good, bad = self.contract(rows, now=now)
        assert rows.num_rows == good.num_rows + bad.num_rows, "a row was lost by the contract"
        for place, breaches, explanation in _columns(bad, "_record", "breaches", "explanation"):
            refused.append(Refusal(chunk[place], breaches, explanation))
        self.days.update(good["day"].to_pylist())
        verdicts = self._verdicts(chunk, good)
        for (place, event_id), verdict in zip(_columns(good, "_record", "event_id"), verdicts, strict=True):
            if verdict is Known.CONFLICT:
                told = (
                    f"event_id {event_id}: expected the content that came before, got another; send a revision instead"
                )
                refused.append(Refusal(chunk[place], [Reason.CONFLICT.value], told))
        new = good.filter(pa.array([verdict is Known.NEW for verdict in verdicts], pa.bool_()))
        self.duplicates += verdicts.count(Known.DUPLICATE)
        self.masked.update(sum((masked[place] for place in new["_record"].to_pylist() if place in masked), Counter()))
        self.accepted += self.files.write(
            Kind.EVENTS, new.select(LANDED.names), new["event_id"].to_pylist(), new["content"].to_pylist()
        )
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
        rows = to_table(events, key=self.keys[0] if self.keys else None, source=self.source, now=self.now)
        rows = rows.append_column("_record", pa.array(places, pa.int64())).append_column("_sent", rows["content"])
        return seal(rows, self.seal), refused

    def _masked(self, rows: pa.Table) -> tuple[pa.Table, dict[int, Counter[str]]]:
        """The rows with their texts masked, and what was masked in which record."""
        if self.find is None:
            return rows, {}
        done = bulk.mask(rows, self.find)
        places = rows["_record"].take(list(done.counts)).to_pylist() if done.counts else []
        return done.rows, dict(zip(places, done.counts.values(), strict=True))

    def _verdicts(self, chunk: Sequence[Record], rows: pa.Table) -> list[Known]:
        """What is known of each row.

        A conflict may be the same event under a pseudonym from before a rotation, or its digest from before digests
        were sealed.
        """
        told = list(_columns(rows, "_record", "event_id", "content", "_sent"))
        verdicts = self.files.known([(event_id, content) for _, event_id, content, _ in told])
        other = [i for i, verdict in enumerate(verdicts) if verdict is Known.CONFLICT]
        before = self.files.contents(told[i][1] for i in other) if other else {}
        for i in other:
            place, event_id, _, sent = told[i]
            former = digests(decode(chunk[place].raw), self.keys[1:])
            if before.get(event_id) in {sent, *former, *(sealed(content, self.seal) for content in former)}:
                verdicts[i] = Known.DUPLICATE
        return verdicts

    def _set_aside(self, refused: Sequence[Refusal]) -> None:
        refused = sorted(refused, key=lambda refusal: (refusal.record.path or "", refusal.record.line))
        rows, *former = (
            quarantine.of_records(refused, key=key, seal=mine, source=self.source, name=self.name, now=self.now)
            for mine in (self.seal, None)  # None: ids from before they were sealed
            for key in self.keys or (None,)
        )
        verdicts = self.files.known([(key, key) for key in rows["quarantine_id"].to_pylist()])
        for older in former:  # a rotation gives the same line another id
            ids = older["quarantine_id"].to_pylist()
            before = self.files.contents(ids)
            verdicts = [Known.DUPLICATE if i in before else v for i, v in zip(ids, verdicts, strict=True)]
        new = rows.filter(pa.array([verdict is Known.NEW for verdict in verdicts], pa.bool_()))
        self.duplicates += rows.num_rows - new.num_rows
        self.reasons.update(reasons[0] for reasons in new["reasons"].to_pylist())
        self.filed.update(_columns(rows, "day", "workflow"))
        ids = new["quarantine_id"].to_pylist()
        self.quarantined += self.files.write(Kind.REJECTS, self._masked_rejects(new), ids, ids)

    def _masked_rejects(self, rows: pa.Table) -> pa.Table:
        """Rows of `quarantine` with what was kept of them masked; their ids stay those of what came."""
        if self.find is None or not rows.num_rows:
            return rows
        kept = [mask_raw(r, e, self.find, ids=_KEYS) for r, e in _columns(rows, "raw", "explanation")]
        for i, name in enumerate(("raw", "explanation")):
            at = rows.schema.get_field_index(name)
            rows = rows.set_column(at, rows.schema.field(name), pa.array([row[i] for row in kept], pa.string()))
        self.masked.update(sum((counts for _, _, counts in kept), Counter()))
        return rows

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
            masked=dict(self.masked.most_common()),
        )


# -- what has landed --------------------------------------------------------------------------------------------------


def merge_files(settings: Settings, lake: Lake, state: State, day: date, workflow: str) -> None:
    """Few files instead of many for a partition's events and rejects. The caller holds `State.building`."""
    for kind, columns in ((Kind.EVENTS, LANDED), (Kind.REJECTS, schema.QUARANTINE.arrow)):
        merge(settings, lake, state, kind, (day, workflow), columns)


def events(  # noqa: PLR0913 - the partition of a home
    settings: Settings,
    state: State,
    day: date,
    workflow: str,
    *,
    since: int | None = None,
    until: int | None = None,
) -> pa.Table:
    """The visible events of a partition as rows of `LANDED`, by time shown; `batch` is empty. See `landed.landed`.

    Raises:
        LoopError: a file that should be there is not.
    """
    rows = landed(settings, state, Kind.EVENTS, (day, workflow), LANDED, since=since, until=until)
    return rows.sort_by([("shown_at", "ascending"), ("event_id", "ascending")])


@contextmanager
def opened(
    settings: Settings, state: State, day: date, workflow: str, *, until: int
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB in which the visible events of a partition are the view `landed`, with the columns of `LANDED`.

    Args:
        until: see `landed.paths`.

    Raises:
        LoopError: a file that should be there is not.
    """
    files = paths(settings, state, Kind.EVENTS, (day, workflow), until=until)
    with viewed([str(path) for path in files], LANDED, view="landed") as connection:
        yield connection


def extend_quarantine(  # noqa: PLR0913 - the partition of a home
    settings: Settings, lake: Lake, state: State, day: date, workflow: str, *, extra: pa.Table | None = None
) -> None:
    """Add to a partition of `quarantine` what was set aside since it was last written. The caller holds `building`.

    Args:
        extra: rows that were set aside after they had landed, as the row contract gives them; some may stand there.
    """
    fresh = claim(lake, state, Kind.REJECTS, (day, workflow))
    rows = landed(settings, state, Kind.REJECTS, (day, workflow), schema.QUARANTINE.arrow, since=fresh.since)
    if extra is not None and extra.num_rows:
        before = lake.read("quarantine", days=(day, day), workflows=[workflow], columns=["quarantine_id"])
        later = quarantine.of_rows(extra)
        rows = pa.concat_tables(
            [rows, later.filter(pc.invert(pc.is_in(later["quarantine_id"], before["quarantine_id"])))]
        )
    if not fresh.since and rows.num_rows:  # it is replaced: what batches have set aside stays
        before = lake.read("quarantine", days=(day, day), workflows=[workflow])
        rows = pa.concat_tables([rows, before.filter(pc.equal(before["path"], quarantine.LATER))])
    rows = quarantine.unresolved(state, rows, day, workflow)
    if rows.num_rows:
        put(lake, Kind.REJECTS, (day, workflow), rows.sort_by("quarantine_id"), fresh)


def rebuild_quarantine(  # noqa: PLR0913 - the partition of a home
    settings: Settings, lake: Lake, state: State, day: date, workflow: str, *, extra: pa.Table
) -> int:
    """Make a partition of `quarantine` anew from what was set aside at the edge and afterwards; its number of rows.

    Args:
        extra: the rows that a batch set aside, as the row contract gives them.
    """
    fresh = claim(lake, state, Kind.REJECTS, (day, workflow))
    at_edge = landed(settings, state, Kind.REJECTS, (day, workflow), schema.QUARANTINE.arrow, until=fresh.write)
    rows = pa.concat_tables([at_edge, quarantine.of_rows(extra)]).sort_by("quarantine_id")
    rows = quarantine.unresolved(state, rows, day, workflow)
    before = lake.read("quarantine", days=(day, day), workflows=[workflow], columns=["quarantine_id"])
    if fresh.files or set(rows["quarantine_id"].to_pylist()) != set(before["quarantine_id"].to_pylist()):
        lake.overwrite("quarantine", rows, day=day, workflow=workflow, write=fresh.write)
    return int(rows.num_rows)


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
