"""Late results of suggestions: as they come in, as they land, and put down to the decisions that they follow from.

An outcome belongs to the partition of its suggestion, so one that comes weeks later re-opens that partition and no
other. Whether it still counts is the workflow's to say: its attribution window runs from the decision.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Annotated, Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from loop import schema
from loop.collect import quarantine
from loop.collect.events import Reason
from loop.collect.files import KNOWN_BY, Kind, Known, Partition, bringing, merge
from loop.collect.landed import claim, landed, put
from loop.collect.quarantine import Refusal
from loop.collect.record import Fault, Record
from loop.config import Settings
from loop.lake import Lake, conform, from_rows
from loop.schema.lake import DECISION_ORDER
from loop.state import State
from loop.workflows import WORKFLOWS

_TIME = Annotated[datetime, msgspec.Meta(tz=True)]
_KEY: Final = KNOWN_BY[Kind.OUTCOMES]


class Outcome(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An outcome as the gateway spools it: what the tool sent, and the partition of its suggestion."""

    outcome_id: str
    suggestion_id: str
    workflow: str
    day: date
    name: str
    value: float
    observed_at: _TIME
    received_at: _TIME


@dataclass(frozen=True)
class Landed:
    """What became of every outcome: `read == accepted + duplicates + conflicts`, asserted."""

    read: int
    accepted: int
    duplicates: int
    conflicts: int
    """Known ids with other content; they stand in quarantine."""
    partitions: tuple[Partition, ...]
    """Where something changed."""

    def __post_init__(self) -> None:
        assert self.read == self.accepted + self.duplicates + self.conflicts, "an outcome was lost"


def digest(outcome: Outcome) -> str:
    """BLAKE2b-128 of what the tool sent; equal content is a duplicate."""
    told = {name: value for name, value in msgspec.structs.asdict(outcome).items() if name != "received_at"}
    return hashlib.blake2b(msgspec.json.encode(told, order="sorted"), digest_size=16).hexdigest()


def decode(record: Record) -> Outcome:
    """The outcome that a record holds; the gateway wrote it, so it is one."""
    return msgspec.json.decode(record.raw, type=Outcome)


def land(settings: Settings, state: State, records: Iterable[Record], *, source: str, name: str) -> Landed:
    """Bring outcomes into the landing area, all or none of them, each counted once.

    Args:
        records: of outcomes; path and line say where each stands, always the same for the same.
        source: as in the column `source`.
        name: of the file they come from.
    """
    given = list(records)
    rows = [(outcome, digest(outcome)) for outcome in map(decode, given)]
    with bringing(settings, state, source=source, name=name) as files:
        verdicts = files.known([(_KEY.format(outcome.outcome_id), content) for outcome, content in rows])
        new = [row for row, known in zip(rows, verdicts, strict=True) if known is Known.NEW]
        told = from_rows([_row(outcome, content, source) for outcome, content in new], schema.OUTCOMES)
        ids = [_KEY.format(outcome.outcome_id) for outcome, _ in new]
        written = files.write(Kind.OUTCOMES, told, ids, [content for _, content in new])
        refusals = [
            _conflict(record, outcome)
            for record, (outcome, _), known in zip(given, rows, verdicts, strict=True)
            if known is Known.CONFLICT
        ]
        now = max((outcome.received_at for outcome, _ in rows), default=None)
        if refusals and now is not None:
            aside = quarantine.of_records(refusals, key=None, source=source, name=name, now=now)
            known = files.known([(key, key) for key in aside["quarantine_id"].to_pylist()])
            aside = aside.filter(pa.array([k is Known.NEW for k in known], pa.bool_()))
            keys = aside["quarantine_id"].to_pylist()
            written += files.write(Kind.REJECTS, aside, keys, keys)
    counts = Counter(verdicts)
    return Landed(len(rows), counts[Known.NEW], counts[Known.DUPLICATE], counts[Known.CONFLICT], tuple(sorted(written)))


def build(settings: Settings, lake: Lake, state: State, day: date, workflow: str) -> tuple[int, int]:
    """Write a partition of `outcomes` anew; how many rows it has, and how many are put down to a decision.

    An outcome is put down to the last decision on its suggestion if it was observed after the suggestion was shown and
    inside the workflow's window, counted from the decision (from the showing where the decision has no time).
    """
    partition = (day, workflow)
    with state.building(day, workflow):
        merge(settings, lake, state, Kind.OUTCOMES, partition, schema.OUTCOMES.arrow)
        fresh = claim(lake, state, Kind.OUTCOMES, partition)
        rows = landed(settings, state, Kind.OUTCOMES, partition, schema.OUTCOMES.arrow, until=fresh.write)
        rows = _attributed(lake, rows, day, workflow)
        if rows.num_rows or partition in lake.partitions("outcomes"):
            lake.overwrite("outcomes", rows, day=day, workflow=workflow, write=fresh.write)
    return rows.num_rows, rows.num_rows - rows["event_id"].null_count


def extend(  # noqa: PLR0913 - the partition of a home
    settings: Settings, lake: Lake, state: State, day: date, workflow: str, *, decisions: pa.Table
) -> None:
    """Add to a partition of `outcomes` what has landed since, and mend what new decisions change.

    The rows are those that `build` would make. What is there is written again only where a decision came after the
    outcome of its suggestion. The caller holds `State.building`.

    Args:
        decisions: rows that are about to enter `interactions`, and perhaps are there already.
    """
    where: dict[str, Any] = {"day": day, "workflow": workflow}
    fresh = claim(lake, state, Kind.OUTCOMES, (day, workflow))
    new = landed(settings, state, Kind.OUTCOMES, (day, workflow), schema.OUTCOMES.arrow, since=fresh.since)
    before = schema.OUTCOMES.empty()
    if fresh.since:
        told = decisions["suggestion_id"].combine_chunks()
        before = lake.matching("outcomes", "suggestion_id", told, **where, columns=before.column_names)
    rows = _attributed(lake, pa.concat_tables([before, new]), day, workflow, decisions)
    known = pc.is_in(rows["outcome_id"], before["outcome_id"])
    after = rows.filter(known).sort_by("outcome_id")
    if not after["event_id"].equals(before.sort_by("outcome_id")["event_id"]):
        everything = lake.read("outcomes", days=(day, day), workflows=[workflow])
        others = everything.filter(pc.invert(pc.is_in(everything["outcome_id"], before["outcome_id"])))
        rows = pa.concat_tables([others, rows]).sort_by(_ORDER)
        lake.overwrite("outcomes", rows, **where, write=fresh.write)
    elif new.num_rows:
        put(lake, Kind.OUTCOMES, (day, workflow), rows.filter(pc.invert(known)), fresh)


_ORDER: Final = [("observed_at", "ascending"), ("outcome_id", "ascending")]
_ATTRIBUTED: Final = f"""
    SELECT o.* REPLACE (
        CASE WHEN o.observed_at BETWEEN d.shown_at AND coalesce(d.decided_at, d.shown_at) + $window THEN d.event_id END
        AS event_id)
    FROM outcomes o LEFT JOIN (
        FROM decisions QUALIFY lead(event_id) OVER (PARTITION BY suggestion_id ORDER BY {DECISION_ORDER}) IS NULL
    ) d USING (suggestion_id)
"""  # noqa: S608


def _attributed(lake: Lake, rows: pa.Table, day: date, workflow: str, coming: pa.Table | None = None) -> pa.Table:
    """Outcomes put down to the last decisions on their suggestions, of those in the lake and those that are coming."""
    import duckdb

    if not rows.num_rows:
        return rows
    columns = ["event_id", "suggestion_id", "revises", "shown_at", "decided_at", "received_at"]
    suggestions = pc.unique(rows["suggestion_id"])
    decisions = lake.matching("interactions", "suggestion_id", suggestions, day=day, workflow=workflow, columns=columns)
    if coming is not None:
        decisions = pa.concat_tables([decisions, coming.select(columns)])
    connection = duckdb.connect(":memory:", config={"threads": 2, "enable_external_access": False})
    try:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("outcomes", rows)
        connection.register("decisions", decisions)
        window = WORKFLOWS[workflow].attribution_window
        found = connection.sql(_ATTRIBUTED, params={"window": window}).to_arrow_table()
    finally:
        connection.close()
    assert found.num_rows == rows.num_rows, "an outcome was lost, or doubled, when it was put down to its decision"
    return conform(found, schema.OUTCOMES).sort_by(_ORDER)


def _row(outcome: Outcome, content: str, source: str) -> dict[str, Any]:
    return {**msgspec.structs.asdict(outcome), "event_id": None, "source": source, "content": content}


def _conflict(record: Record, outcome: Outcome) -> Refusal:
    told = f"outcome_id {outcome.outcome_id}: expected the content that came before, got another"
    fault = Fault(Reason.CONFLICT, told, day=outcome.day, workflow=outcome.workflow)
    return Refusal(replace(record, fault=fault), [Reason.CONFLICT.value], told)
