"""Helpers: a home into which events are landed, and what can be seen of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from loop.collect import sources
from loop.collect.imported import Imported
from loop.collect.landing import events, land
from loop.collect.record import Record
from loop.collect.sources import jsonl
from loop.config import Settings
from loop.lake import Lake
from loop.state import State
from loop.validate import contract

NOW = datetime(2026, 1, 8, 12, tzinfo=UTC)
DAY = date(2026, 1, 5)


class Home:
    """A home, and what has come in."""

    def __init__(self, settings: Settings, state: State) -> None:
        self.settings, self.state, self.lake = settings, state, Lake(settings.lake)

    def land(self, *lines: bytes, name: str = "x.jsonl", now: datetime = NOW) -> Imported:
        return self.records(jsonl.records(lines), name=name, now=now)

    def records(self, records: Iterator[Record], name: str = "x.jsonl", now: datetime = NOW) -> Imported:
        return land(
            self.settings,
            self.lake,
            self.state,
            source="jsonl",
            name=name,
            records=records,
            contract=contract.split,
            now=now,
        )

    def read(self, path: Path, **more: Any) -> Imported:
        return sources.read(
            "jsonl", path, self.settings, self.lake, self.state, contract=contract.split, now=NOW, **more
        )

    def events(self, day: date = DAY, workflow: str = "ads") -> list[dict[str, Any]]:
        return events(self.settings, self.state, day, workflow).to_pylist()

    def set_aside(self) -> list[dict[str, Any]]:
        return self.lake.read("quarantine").sort_by([("path", "ascending"), ("line", "ascending")]).to_pylist()

    def files(self) -> set[str]:
        return {str(p.relative_to(self.settings.home)) for p in self.settings.landing.rglob("*") if p.is_file()}

    def visible(self) -> set[str]:
        return set(self.state.arrow("landings")["path"].to_pylist())

    def empty(self) -> None:
        with self.state.engine.begin() as connection:
            connection.execute(sa.text("TRUNCATE landings, event_index"))


def counts(done: Imported) -> tuple[int, int, int, int]:
    return done.read, done.accepted, done.duplicates, done.quarantined
