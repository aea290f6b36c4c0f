"""Rows in quarantine: found again, run through the contract again, or dropped; each with author, time and reason.

A replayed row keeps its event id. It enters as any event does, so it can neither double one that has landed meanwhile
nor replace one with other content: then it stays where it is, as a conflict. So does whatever still breaks the
contract. A row that had landed before it was set aside (the contract has changed since) is in the batch again as soon
as the contract lets it: that is nobody's word, so it leaves no resolution, and such a row cannot be dropped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from loop.collect import landing, quarantine
from loop.collect.events import CLIENT, Event, EventError, Reason, decode, seal, to_table
from loop.collect.files import Partition
from loop.collect.record import Record
from loop.config import Settings
from loop.errors import BadInputError
from loop.lake import Lake
from loop.schema import UNPLACED, WORKFLOWS
from loop.state import State
from loop.validate import batches, contract

KEPT: Final = ("event_id", "employee", "purposes")
"""Fields that no correction may touch: which event it is, whose, and what the person consented to."""
NAME: Final = "replay"
AT_ONCE: Final = 20_000


@dataclass(frozen=True)
class Stayed:
    """A row that was replayed and stays in quarantine."""

    quarantine_id: str
    event_id: str | None
    reason: str
    explanation: str


@dataclass(frozen=True)
class Replayed:
    """What a replay came to: `rows == replayed + duplicates + stayed`, asserted."""

    rows: int
    replayed: int
    duplicates: int
    """Rows whose very event has landed meanwhile."""
    stayed: tuple[Stayed, ...]
    partitions: tuple[Partition, ...]
    """Days and workflows that have something new; their data job makes a batch of it."""

    def __post_init__(self) -> None:
        assert self.rows == self.replayed + self.duplicates + len(self.stayed), "a row was lost by the replay"


@dataclass(frozen=True)
class Correction:
    """What is stated to be true of the rows instead: fields to set, and fields to leave out."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    left_out: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in (*self.fields, *self.left_out):
            if name in KEPT:
                raise BadInputError(f"--set {name}: expected another field than {', '.join(KEPT)}: these stay as sent")
        if unknown := set(self.fields) - {c.name for c in CLIENT}:
            raise BadInputError(f"--set: expected fields of an event, got {', '.join(sorted(unknown))}")

    @property
    def names(self) -> list[str]:
        return sorted({*self.fields, *self.left_out})

    def of(self, raw: str) -> bytes:
        """The row as it is to be read; unchanged where it is no JSON object."""
        if not self.names:
            return raw.encode()
        try:
            told = json.loads(raw)
        except (ValueError, RecursionError):
            return raw.encode()
        if not isinstance(told, dict):
            return raw.encode()
        kept = {name: value for name, value in told.items() if name not in self.left_out}
        return json.dumps(kept | dict(self.fields)).encode()  # half a surrogate pair stays an escape, which is told of


def find(
    lake: Lake,
    *,
    ids: Sequence[str] = (),
    day: date | None = None,
    workflow: str | None = None,
    breach: str | None = None,
) -> pa.Table:
    """Rows of `quarantine`, by any of: their id or their event's, their partition, one of their reasons.

    Raises:
        BadInputError: no such workflow or reason.
    """
    if workflow is not None and workflow not in (*WORKFLOWS, UNPLACED):
        raise BadInputError(f"--workflow: expected one of {', '.join((*WORKFLOWS, UNPLACED))}, got {workflow!r}")
    if breach is not None and breach not in set(Reason):
        raise BadInputError(f"--breach: expected one of {', '.join(Reason)}, got {breach!r}")
    days = None if day is None else (day, day)
    rows = lake.read("quarantine", days=days, workflows=None if workflow is None else [workflow])
    if ids:
        wanted = pa.array(list(ids), pa.string())
        either = pc.or_kleene(pc.is_in(rows["quarantine_id"], wanted), pc.is_in(rows["event_id"], wanted))
        rows = rows.filter(either)
    if breach is not None:
        rows = rows.filter(pa.array([breach in reasons for reasons in rows["reasons"].to_pylist()], pa.bool_()))
    return rows.sort_by([("day", "ascending"), ("workflow", "ascending"), ("quarantine_id", "ascending")])


def one(lake: Lake, state: State, name: str) -> pa.Table:
    """The rows that an id stands for: one, or those of an event id that was set aside several times.

    Raises:
        BadInputError: there is none; the message says what became of it, if anything did.
    """
    rows = find(lake, ids=[name])
    if rows.num_rows:
        return rows
    table = state.tables["resolutions"]
    query = sa.select(table).where(sa.or_(table.c.quarantine_id == name, table.c.event_id == name))
    with state.engine.connect() as connection:
        gone = connection.execute(query).mappings().first()
    if gone is not None:
        when = f"{gone['resolved_at']:%Y-%m-%d %H:%M}"
        raise BadInputError(f"{name}: {gone['action']} by {gone['author']} on {when}: {gone['reason']}")
    raise BadInputError(f"{name}: expected the id of a row in quarantine, or of its event; see `loop quarantine list`")


def replay(  # noqa: PLR0913 - which rows of which home, and on whose word
    settings: Settings,
    lake: Lake,
    state: State,
    rows: pa.Table,
    *,
    reason: str,
    author: str,
    correction: Correction | None = None,
) -> Replayed:
    """Run rows of `quarantine` through the contract again and land those that keep it now.

    Args:
        rows: as `find` gives them.
        reason: why, for whoever asks in a year.
        author: who says so.
        correction: what is stated to be true of the rows instead.

    Raises:
        BadInputError: there is no reason, or a correction of rows that have landed already.
    """
    _needs(reason)
    mended = correction or Correction()
    later = pc.equal(rows["path"], quarantine.LATER)
    landed, edge = rows.filter(later), rows.filter(pc.invert(later))
    if landed.num_rows and mended.names:
        raise BadInputError(_HAS_LANDED.format(landed["quarantine_id"][0], "corrected; send a revision of its event"))
    result = _Result(rows.num_rows)
    for start in range(0, edge.num_rows, AT_ONCE):
        _land(settings, lake, state, edge.slice(start, AT_ONCE), mended, result)
    gone = [
        row | {"action": result.gone[row["quarantine_id"]]}
        for row in edge.select(_NAMED).to_pylist()
        if row["quarantine_id"] in result.gone
    ]
    _resolve(settings, lake, state, gone, corrected=mended.names, reason=reason, author=author)
    _rebuild(settings, lake, state, landed, result)
    return result.done()


def drop(  # noqa: PLR0913 - which rows of which home, and on whose word
    settings: Settings, lake: Lake, state: State, rows: pa.Table, *, reason: str, author: str
) -> int:
    """Take rows out of `quarantine` for good; how many.

    What was sent stays in the landing area, so that it is known when it comes again; `loop erase` removes it there.

    Raises:
        BadInputError: there is no reason.
    """
    _needs(reason)
    landed = rows.filter(pc.equal(rows["path"], quarantine.LATER))
    if landed.num_rows:
        raise BadInputError(_HAS_LANDED.format(landed["quarantine_id"][0], "dropped; erase it: `loop erase`"))
    told = [row | {"action": "dropped"} for row in rows.select(_NAMED).to_pylist()]
    _resolve(settings, lake, state, told, corrected=[], reason=reason, author=author)
    return len(told)


# -- inside -----------------------------------------------------------------------------------------------------------

_HAS_LANDED: Final = "{}: it has landed and breaks a contract that has changed since: it cannot be {}"
_NAMED: Final = ["quarantine_id", "event_id", "day", "workflow"]


@dataclass
class _Result:
    rows: int
    gone: dict[str, str] = field(default_factory=dict)
    """`quarantine_id` to what became of it."""
    stayed: list[Stayed] = field(default_factory=list)
    partitions: set[Partition] = field(default_factory=set)

    def done(self) -> Replayed:
        actions = list(self.gone.values())
        return Replayed(
            self.rows,
            actions.count("replayed"),
            actions.count("duplicate"),
            tuple(self.stayed),
            tuple(sorted(self.partitions)),
        )


@dataclass(frozen=True)
class _Again:
    """A row that is an event now."""

    row: dict[str, Any]
    raw: bytes
    event: Event


def _land(  # noqa: PLR0913, PLR0917 - the rows of a home
    settings: Settings, lake: Lake, state: State, rows: pa.Table, correction: Correction, result: _Result
) -> None:
    """Land what was set aside at the edge and keeps the contract now."""
    read: list[_Again] = []
    for row in rows.to_pylist():
        try:
            read.append(_read(row, correction))
        except EventError as error:
            result.stayed.append(Stayed(row["quarantine_id"], row["event_id"], error.reason.value, str(error)))
    if not read:
        return
    table = to_table([one.event for one in read], key=None, source=NAME, now=datetime.now(UTC))
    table = seal(table, settings.secret("content")).append_column("_place", pa.array(range(len(read)), pa.int64()))
    good, bad = contract.split(table, now=datetime.now(UTC))
    for place, breaches, explanation in _columns(bad, "_place", "breaches", "explanation"):
        row = read[place].row
        result.stayed.append(Stayed(row["quarantine_id"], row["event_id"], breaches[0], explanation))
    _settle(settings, lake, state, [(read[p], c, d) for p, c, d in _columns(good, "_place", "content", "day")], result)


def _settle(
    settings: Settings, lake: Lake, state: State, events: Sequence[tuple[_Again, str, date]], result: _Result
) -> None:
    """Land events that keep the contract, unless their ids are known; the first of several with one id counts."""
    known = _contents(state, [again.event.event_id for again, _, _ in events])
    new: dict[str, list[_Again]] = {}
    for again, content, _ in events:
        if known.setdefault(again.event.event_id, content) == content:
            new.setdefault(again.row["source"], []).append(again)
    before = set(_contents(state, list(known)))
    for source, some in new.items():
        records = [Record(again.row["line"], again.raw, again.row["path"]) for again in some]
        landing.land(
            settings,
            lake,
            state,
            source=source,
            name=NAME,
            records=records,
            contract=contract.split,
            pseudonymised=True,
        )
    # Asked again: another may have brought the same id with other content in this very moment.
    known = _contents(state, list(known))
    for again, content, day in events:
        row, event_id = again.row, again.event.event_id
        if known.get(event_id) != content:
            told = f"event_id {event_id}: expected the content that has landed, got another; send a revision instead"
            result.stayed.append(Stayed(row["quarantine_id"], event_id, Reason.CONFLICT.value, told))
        elif event_id in before:
            result.gone[row["quarantine_id"]] = "duplicate"
        else:
            before.add(event_id)
            result.gone[row["quarantine_id"]] = "replayed"
            result.partitions.add((day, again.event.workflow))
    for day, workflow in sorted({(day, again.event.workflow) for again, _, day in events}):
        if (day, workflow) in result.partitions:
            batches.extend(settings, lake, state, day, workflow)


def _read(row: Mapping[str, Any], correction: Correction) -> _Again:
    """A row as an event, received when it was set aside if it does not say.

    Raises:
        EventError: it is none yet.
    """
    if row["reasons"][0] == Reason.SESSION and not correction.names:
        raise EventError(
            Reason.SESSION, f"its source is not sure of it, expected another file of it: {row['explanation']}"
        )
    raw = correction.of(row["raw"])
    event = decode(raw)
    if event.received_at is None:
        event.received_at = row["received_at"]
        raw = msgspec.json.encode(event)
    return _Again(dict(row), raw, event)


def _rebuild(settings: Settings, lake: Lake, state: State, rows: pa.Table, result: _Result) -> None:
    """Rows that were set aside after they had landed: the batch is made anew, and what keeps the contract is in it."""
    for day, workflow in sorted(set(_columns(rows, "day", "workflow"))):
        batches.build(settings, lake, state, day, workflow)
        left = {row["quarantine_id"]: row for row in find(lake, day=day, workflow=workflow).to_pylist()}
        here = rows.filter(pc.and_(pc.equal(rows["day"], pa.scalar(day)), pc.equal(rows["workflow"], workflow)))
        for row in here.to_pylist():
            if (still := left.get(row["quarantine_id"])) is None:
                result.gone[row["quarantine_id"]] = "replayed"
                result.partitions.add((day, workflow))
            else:
                told = Stayed(row["quarantine_id"], row["event_id"], still["reasons"][0], still["explanation"])
                result.stayed.append(told)


def _resolve(  # noqa: PLR0913 - one argument a column
    settings: Settings,
    lake: Lake,
    state: State,
    rows: Sequence[Mapping[str, Any]],
    *,
    corrected: Sequence[str],
    reason: str,
    author: str,
) -> None:
    """Write down who took rows out of quarantine and why, and take them out."""
    if not rows:
        return
    told = {"corrected": list(corrected), "reason": reason, "author": author, "resolved_at": datetime.now(UTC)}
    query = postgresql.insert(state.tables["resolutions"]).on_conflict_do_nothing()
    with state.transaction() as connection:
        connection.execute(query, [dict(row) | told for row in rows])
    for day, workflow in sorted({(row["day"], row["workflow"]) for row in rows}):
        with state.building(day, workflow):
            landing.extend_quarantine(settings, lake, state, day, workflow)
            here = lake.read("quarantine", days=(day, day), workflows=[workflow])
            kept = quarantine.unresolved(state, here, day, workflow)
            if kept.num_rows != here.num_rows:
                lake.overwrite("quarantine", kept, day=day, workflow=workflow)


def _contents(state: State, ids: Sequence[str]) -> dict[str, str]:
    query = sa.text("SELECT event_id, content FROM event_index WHERE event_id = ANY(:ids)")
    with state.engine.connect() as connection:
        return {row.event_id: row.content for row in connection.execute(query, {"ids": list(set(ids))})}


def _needs(reason: str) -> None:
    if not reason.strip():
        raise BadInputError("--reason: expected a sentence that a colleague understands in a year, got nothing")


def _columns(rows: pa.Table, *names: str) -> list[tuple[Any, ...]]:
    return list(zip(*(rows[name].to_pylist() for name in names), strict=True))
