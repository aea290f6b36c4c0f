"""Helpers: a real intake, what is put into it, and what then stands in its spool."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from loop.collect.intake import Head, Intake, Item, Receipt, Status
from loop.collect.served import Candidate, Message, SuggestionRecord
from loop.collect.spool import frames

STORED, DUPLICATE, CONFLICT = Status.STORED, Status.DUPLICATE, Status.CONFLICT
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def event(key: str, content: str = "first", *, at: datetime = NOON, about: str | None = None) -> Item:
    payload = msgspec.json.encode({"kind": "event", "event": {"event_id": key, "final_text": content}})
    return Item("event", key, hashlib.blake2b(payload, digest_size=16).digest(), payload, at, about)


def record(shown_at: datetime, *, employee: str | None = "p_1") -> SuggestionRecord:
    return SuggestionRecord(
        suggestion_id=f"s-{int(shown_at.timestamp() * 1000):012x}{'0' * 20}",
        workflow="ads",
        shown_at=shown_at,
        messages=[Message("user", "Ad for tea")],
        candidates=[Candidate(0, "Tea.", -1.5), Candidate(1, "More tea.")],
        model_version="m1",
        arm_propensity=1.0,
        order_propensity=0.5,
        employee=employee,
        token_id="t1",
    )


def suggestion(made: SuggestionRecord) -> Item:
    payload = msgspec.json.encode({"kind": "suggestion", "suggestion": made})
    return Item("suggestion", made.suggestion_id, b"s" * 16, payload, made.shown_at)


@contextmanager
def opened(home: Path, **changes: Any) -> Iterator[Intake]:
    intake = Intake(home / "spool", home / "ledger", **changes)
    try:
        yield intake
    finally:
        intake.close()


def put(intake: Intake, *items: Item) -> list[Receipt]:
    return asyncio.run(intake.put(items))


def statuses(intake: Intake, *items: Item) -> list[Status]:
    return [receipt.status for receipt in put(intake, *items)]


def heads(home: Path) -> list[Head]:
    """What the spool holds, in order."""
    segments = sorted((home / "spool").glob("*.[so]*"))
    return [msgspec.json.decode(payload, type=Head) for path in segments for payload in frames(path)]


def contents(home: Path) -> list[tuple[str, str]]:
    return [(head.key, head.digest) for head in heads(home)]


def named(*items: Item) -> list[tuple[str, str]]:
    return [(item.key, item.digest.hex()) for item in items]


def until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline, "it did not happen within 20 seconds"
        time.sleep(0.01)
