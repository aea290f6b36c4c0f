"""Helpers: small sessions as the CoAuthor editor logs them."""

from __future__ import annotations

import json
from typing import Any

from loop.collect.events import Event, decode
from loop.collect.record import Record
from loop.collect.sources import coauthor

START = 1_629_300_000_000
"""Milliseconds: 2021-08-18 15:20 UTC."""


class Session:
    """A session as the CoAuthor editor would log it: each call is what a person does."""

    def __init__(self, text: str = "Essay.\n") -> None:
        self.log: list[dict[str, Any]] = []
        self.now = START
        self.text = text
        self.cursor = len(text) - 1
        self._add("system-initialize", "api", currentDoc=text)

    def _add(self, name: str, source: str = "user", **fields: Any) -> None:
        self.log.append(
            {
                "eventName": name,
                "eventSource": source,
                "eventTimestamp": self.now,
                "eventNum": len(self.log),
                "textDelta": "",
                "currentDoc": "",
                "currentCursor": self.cursor,
                "currentSuggestions": [],
                "currentSuggestionIndex": 0,
                "currentHoverIndex": "",
                "currentTemperature": "0.9",
                "currentFrequencyPenalty": "0.5",
                "unread": None,
                **fields,
            }
        )
        self.now += 1000

    def edit(self, at: int, delete: int = 0, insert: str = "", source: str = "user") -> Session:
        before, after = self.text[:at], self.text[at + delete :]
        self.text = before + insert + after
        ops: list[dict[str, Any]] = [{"retain": len(before)}] if before else []
        ops += ([{"insert": insert}] if insert else []) + ([{"delete": delete}] if delete else [])
        self.cursor = at + len(insert)
        self._add("text-delete" if delete else "text-insert", source, textDelta={"ops": ops})
        return self

    def replace(self, old: str, new: str, *, by_keys: bool = False) -> Session:
        """Replace a text: selected and overwritten, or erased and typed letter by letter."""
        at = self.text.index(old)
        if not by_keys:
            return self.edit(at, len(old), new)
        for i in range(len(old)):
            self.edit(at + len(old) - 1 - i, 1)
        for i, letter in enumerate(new):
            self.edit(at + i, 0, letter)
        return self

    def type(self, text: str) -> Session:
        return self.edit(self.cursor, 0, text)

    def open(self, *texts: str, probability: float = 1e-3) -> Session:
        shown = [
            {"index": i, "original": t, "trimmed": t.strip(), "probability": probability} for i, t in enumerate(texts)
        ]
        self._add("suggestion-open", "api", currentSuggestions=shown)
        return self

    def take(self, text: str, index: int = 0) -> Session:
        self._add("suggestion-select", currentSuggestionIndex=index)
        self._add("suggestion-close", "api")
        return self.edit(self.cursor, 0, text, "api")

    def then(self, name: str, source: str = "user", **fields: Any) -> Session:
        self._add(name, source, **fields)
        return self

    @property
    def content(self) -> bytes:
        return b"".join(json.dumps(line).encode() + b"\n" for line in self.log)

    def records(self, told: coauthor.Told | None = None) -> list[Record]:
        return list(coauthor.openings(self.content, session="s1", member="set/s1.jsonl", told=told))

    def events(self) -> list[Event]:
        return [decode(record.raw) for record in self.records()]
