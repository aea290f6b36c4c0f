"""What tells a duplicate from a conflict is a digest of what was sent; nobody without the home's key can try it out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from loop.collect import landing, quarantine
from loop.collect.events import decode, digests, sealed
from loop.collect.imported import Imported
from loop.collect.quarantine import Refusal
from loop.collect.sources import jsonl
from loop.home import Home
from loop.validate import contract

Line = Callable[..., bytes]
NOW = datetime(2026, 1, 8, 12, tzinfo=UTC)
PROMPT = [{"role": "user", "content": "call +44 20 7946 0123"}]


def land(home: Home, *lines: bytes) -> Imported:
    given: dict[str, Any] = {"source": "jsonl", "name": "x.jsonl", "records": jsonl.records(lines)}
    return landing.land(home.settings, home.lake, home.state, **given, contract=contract.split, now=NOW)


def unsealed(home: Home, line: bytes) -> str:
    """The digest without a key, which anybody can make of what was sent."""
    return digests(decode(line), [home.settings.secret("pseudonym")])[0]


def indexed(home: Home) -> dict[str, str]:
    with home.state.engine.connect() as connection:
        rows = connection.execute(sa.select(home.state.tables["event_index"]))
        return {row.event_id: row.content for row in rows}


def test_what_is_stored_of_a_masked_text_is_under_the_homes_key(home: Home, line: Line) -> None:
    sent = line(prompt=PROMPT)
    land(home, sent)
    [row] = landing.events(home.settings, home.state, date(2026, 1, 5), "ads").to_pylist()
    assert "7946" not in row["prompt"][0]["content"]
    assert row["content"] == sealed(unsealed(home, sent), home.settings.secret("content"))
    assert indexed(home) == {"e1": row["content"]}


def test_two_homes_know_one_line_under_two_digests(home: Home, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = line(event_id="e2", prompt=PROMPT, dwell_ms=-1)
    land(home, line(prompt=PROMPT), bad)
    first = set(indexed(home).items())
    monkeypatch.setenv("LOOP_SECRET_CONTENT", "ab" * 32)
    with home.state.transaction() as connection:
        for name in ("event_index", "landings"):
            connection.execute(sa.delete(home.state.tables[name]))
    land(home, line(prompt=PROMPT), bad)
    assert len(first) == 2
    assert first.isdisjoint(indexed(home).items()), "neither the content nor the id of what was set aside"


def test_what_an_older_version_stored_without_a_key_is_known_again(home: Home, line: Line) -> None:
    good, bad = line(), line(event_id="e2", dwell_ms=-1)
    [reason] = land(home, good, bad).reasons
    [aside] = [key for key in indexed(home) if key.startswith("q_")]
    [_, record] = jsonl.records([good, bad])
    names: dict[str, Any] = {"source": "jsonl", "name": "x.jsonl", "now": NOW}
    key = home.settings.secret("pseudonym")
    [former] = quarantine.of_records([Refusal(record, [reason], "")], key=key, **names)["quarantine_id"].to_pylist()
    assert former != aside
    index = home.state.tables["event_index"]
    with home.state.transaction() as connection:
        connection.execute(sa.update(index).where(index.c.event_id == "e1").values(content=unsealed(home, good)))
        connection.execute(sa.update(index).where(index.c.event_id == aside).values(event_id=former, content=former))
    again = land(home, good, bad)
    assert (again.read, again.accepted, again.duplicates, again.quarantined) == (2, 0, 2, 0)
    other = land(home, line(final_text="two", dwell_ms=7))
    assert other.reasons == {"conflict": 1}
