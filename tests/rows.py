"""Rows that tests of several rooms start from."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa

from loop import schema
from loop.collect import landing
from loop.collect.events import encode
from loop.collect.imported import Imported
from loop.collect.record import Record
from loop.home import Home
from loop.lake import from_rows
from loop.validate import contract

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
DAY = NOON.date()
SHOWN = ("first", "second", "third")


def decision(
    number: int, kind: str, chosen: int | None = None, final: str | None = None, **other: Any
) -> dict[str, Any]:
    """A row of `interactions`: candidates first, second, third; every decision on a suggestion of its own."""
    row = {
        "event_id": f"e{number}",
        "suggestion_id": f"s{number}",
        "workflow": "comms",
        "day": NOON.date(),
        "shown_at": NOON + timedelta(seconds=number),
        "decided_at": NOON + timedelta(seconds=number + 5),
        "received_at": NOON + timedelta(seconds=number + 6),
        "employee": "p_1",
        "visibility": [],
        "prompt": [{"role": "user", "content": f"draft number {number}"}],
        "candidates": [{"position": i, "text": t, "logprob": -1.0 - i} for i, t in enumerate(SHOWN)],
        "model_version": "m",
        "decision": kind,
        "chosen": chosen,
        "final_text": final,
        "reasons": [],
        "dwell_ms": 5000,
        "purposes": ["training", "evaluation"],
        "source": "jsonl",
        "content": f"c{number}",
        "batch": "b",
    }
    if kind == "ignore":
        row |= {"decided_at": None, "dwell_ms": None}
    nullable = {c.name: None for c in schema.INTERACTIONS.columns if c.nullable}
    return nullable | row | other


def interactions(*rows: dict[str, Any]) -> pa.Table:
    return from_rows(rows, schema.INTERACTIONS)


def ordinary_day(count: int = 100, **other: Any) -> list[dict[str, Any]]:
    """A believable batch by thirty people: of ten, five accept, two modify, two reject, one ignores."""
    rows = []
    for n in range(count):
        match n % 10:
            case 0 | 1 | 2 | 3 | 4:
                rows.append(decision(n, "accept", n % 3, SHOWN[n % 3], **other))
            case 5 | 6:
                rows.append(decision(n, "modify", n % 3, f"{SHOWN[n % 3]}, changed", **other))
            case 7 | 8:
                rows.append(decision(n, "reject", **other))
            case _:
                rows.append(decision(n, "ignore", **other))
    return [row if "employee" in other else row | {"employee": f"person {n % 30}"} for n, row in enumerate(rows)]


def event(row: dict[str, Any], day: date = DAY, **other: Any) -> dict[str, Any]:
    """The row as a tool would send it, moved to a day."""
    moved = timedelta(days=(day - DAY).days)
    client = {c.name for c in schema.INTERACTIONS.columns if c.origin is schema.Origin.CLIENT}
    sent = {name: value for name, value in (row | other).items() if name in client}
    for name in ("shown_at", "decided_at", "received_at"):
        if sent[name] is not None:
            sent[name] = (sent[name] + moved).isoformat()
    for name in ("event_id", "suggestion_id"):
        sent[name] = f"{day}-{sent[name]}"
    return sent


def land(home: Home, events: Iterable[dict[str, Any]], name: str = "test.jsonl") -> Imported:
    """Events into the landing area of a home, as `loop import jsonl` would."""
    records = [Record(n, encode(sent), name) for n, sent in enumerate(events, 1)]
    return landing.land(
        home.settings,
        home.lake,
        home.state,
        source="jsonl",
        name=name,
        records=records,
        contract=contract.split,
    )
