"""Rows that are set aside: what is kept of each, where it is filed, and by which id it is known again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from loop import schema
from loop.collect.events import mask
from loop.collect.record import Record
from loop.lake import from_rows
from loop.state import State

LATER: Final = "interactions"
"""The `path` of rows that were set aside after they had landed, when a batch was made of them."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A record that is set aside: its reasons, the main one first, and what was expected and came."""

    record: Record
    reasons: Sequence[str]
    explanation: str


def of_records(  # noqa: PLR0913 - one argument a fact
    refusals: Sequence[Refusal],
    *,
    key: bytes | None,
    seal: bytes | None = None,
    source: str,
    name: str,
    now: datetime,
) -> pa.Table:
    """Refused records as rows of `quarantine`, raw ids masked with `key`; without one they are masked already.

    A row is filed under the day and workflow that it names, as far as it names any: else under the day of `now` and
    `schema.UNPLACED`. Its id is a digest of what it is and where it stood, so the same file gives the same ids; under
    the home's key `seal`, for personal data that is masked in what is stored could be tried out against it.
    """
    return from_rows([_row(refusal, key, seal, source, name, now) for refusal in refusals], schema.QUARANTINE)


def _row(  # noqa: PLR0913, PLR0917 - one argument a fact
    refusal: Refusal, key: bytes | None, seal: bytes | None, source: str, name: str, now: datetime
) -> dict[str, Any]:
    record, fault = refusal.record, refusal.record.fault
    raw, fields = mask(record.raw, key)
    path = record.path or name
    workflow = fault.workflow if fault and fault.workflow else fields.get("workflow")
    event_id = fields.get("event_id")
    return {
        "quarantine_id": _id(raw, *refusal.reasons, source, path, str(record.line), seal=seal),
        "event_id": _printable(event_id) if isinstance(event_id, str) else None,
        "day": (fault and fault.day) or _day(fields.get("shown_at"), now) or now.date(),
        "workflow": workflow if workflow in schema.WORKFLOWS else schema.UNPLACED,
        "source": source,
        "path": _printable(path),
        "line": record.line,
        "reasons": list(refusal.reasons),
        "explanation": _printable(refusal.explanation),
        "raw": _printable(raw),
        "received_at": now,
    }


def of_rows(bad: pa.Table) -> pa.Table:
    """Landed rows that the row contract set aside (with `breaches` and `explanation`) as rows of `quarantine`."""
    rows = []
    for line, row in enumerate(bad.to_pylist(), 1):
        reasons, explanation = row.pop("breaches"), row.pop("explanation")
        kept = {
            "quarantine_id": _id(row["event_id"], row["content"], *reasons),
            "path": LATER,
            "line": line,
            "reasons": reasons,
            "explanation": explanation,
            "raw": msgspec.json.encode(row).decode(),
        }
        rows.append({name: row[name] for name in ("event_id", "day", "workflow", "source", "received_at")} | kept)
    return from_rows(rows, schema.QUARANTINE)


def unresolved(state: State, rows: pa.Table, day: date, workflow: str) -> pa.Table:
    """Rows of a partition of `quarantine` without those that a person took out of it.

    They stay in the files in which they landed, so that a second import of them is known, and do not come back.
    """
    table = state.tables["resolutions"]
    query = sa.select(table.c.quarantine_id).where(table.c.day == day, table.c.workflow == workflow)
    with state.engine.connect() as connection:
        gone = pa.array(connection.execute(query).scalars().all(), pa.string())
    return rows.filter(pc.invert(pc.is_in(rows["quarantine_id"], gone))) if len(gone) else rows


def _id(*parts: str, seal: bytes | None = None) -> str:
    """BLAKE2b-128 of the parts, told apart from a client's event id by its prefix."""
    told = msgspec.json.encode([_printable(part) for part in parts])
    return f"q_{hashlib.blake2b(told, key=seal or b'', digest_size=16).hexdigest()}"


def _day(shown_at: object, now: datetime) -> date | None:
    """The day of a time as it stands in a row that cannot be trusted; None where no batch can have it."""
    try:
        time = datetime.fromisoformat(str(shown_at))
        day = (time if time.tzinfo is None else time.astimezone(UTC)).date()
    except (ValueError, OverflowError):
        return None
    return day if schema.FIRST_DAY <= day <= now.date() else None


def _printable(text: str) -> str:
    """Lone surrogates, which JSON can spell and UTF-8 cannot, escaped."""
    return text.encode("utf-8", "backslashreplace").decode()
