"""What lands is masked: texts of events, what is set aside, and what is told of both; what tells duplicates is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from loop.collect import landing
from loop.collect.imported import Imported
from loop.collect.sources import jsonl
from loop.config import Settings, load
from loop.lake import Lake
from loop.state import State
from loop.validate import contract

Line = Callable[..., bytes]
NOW = datetime(2026, 1, 8, 12, tzinfo=UTC)
DAY = date(2026, 1, 5)
MAIL, PHONE, CARD = "jane.roe@example.org", "+49 30 1234567", "4539988915720591"


@pytest.fixture
def land(settings: Settings, state: State) -> Callable[..., Imported]:
    def land(*lines: bytes, name: str = "x.jsonl", settings: Settings = settings) -> Imported:
        return landing.land(
            settings,
            Lake(settings.lake),
            state,
            source="jsonl",
            name=name,
            records=jsonl.records(lines),
            contract=contract.split,
            now=NOW,
        )

    return land


def events(settings: Settings, state: State) -> list[dict[str, Any]]:
    return landing.events(settings, state, DAY, "ads").to_pylist()


def everything(home: Path) -> str:
    return "".join(str(pq.ParquetFile(path).read().to_pylist()) for path in home.rglob("*.parquet"))


def personal(line: Line, **changes: Any) -> bytes:
    text = f"Write to {MAIL}"
    return line(
        prompt=[{"role": "user", "content": f"Answer {MAIL}, who called from {PHONE}"}],
        candidates=[{"position": 0, "text": f"Call {PHONE}"}, {"position": 1, "text": text}],
        final_text=text,
        **changes,
    )


def test_the_texts_of_an_event_are_masked_alike(
    land: Callable[..., Imported], settings: Settings, state: State, line: Line
) -> None:
    done = land(personal(line))
    assert (done.accepted, done.quarantined) == (1, 0)
    (row,) = events(settings, state)
    assert row["prompt"] == [{"role": "user", "content": "Answer <EMAIL_ADDRESS_1>, who called from <PHONE_NUMBER_1>"}]
    assert [c["text"] for c in row["candidates"]] == ["Call <PHONE_NUMBER_1>", "Write to <EMAIL_ADDRESS_1>"]
    assert row["final_text"] == "Write to <EMAIL_ADDRESS_1>"
    assert done.masked == {"EMAIL_ADDRESS": 3, "PHONE_NUMBER": 2}
    assert not any(value in everything(settings.home) for value in (MAIL, PHONE))


def test_what_was_sent_tells_duplicates_and_conflicts(land: Callable[..., Imported], line: Line) -> None:
    land(personal(line))
    again = land(personal(line), name="again.jsonl")
    assert (again.duplicates, again.accepted, again.masked) == (1, 0, {})
    other = line(final_text="Write to other@example.org", candidates=[{"position": 0, "text": "a"}, {"position": 1,
                 "text": "Write to other@example.org"}])  # fmt: skip
    assert land(other, name="other.jsonl").reasons == {"conflict": 1}


def test_what_is_set_aside_is_masked_and_stays_json(
    land: Callable[..., Imported], settings: Settings, state: State, line: Line
) -> None:
    escaped = personal(line, event_id="e2", turn=-1).replace(b"@example", rb"\u0040example")
    cut = personal(line, event_id="e3").replace(b"@example", rb"\u0040example")[:-30]
    lines = (escaped, cut, line(event_id="e4", note={"card": int(CARD)}), b'{"a": "%s"}' % MAIL.encode(), b"\xff" + cut)
    done = land(*lines)
    assert done.quarantined == len(lines)
    found = everything(settings.home)
    assert not any(value in found for value in (MAIL, PHONE, CARD, "jane"))
    rows = Lake(settings.lake).read("quarantine").sort_by("line").to_pylist()
    first = json.loads(rows[0]["raw"])
    assert (first["event_id"], first["shown_at"]) == ("e2", "2026-01-05T08:00:00Z")
    assert first["final_text"] == "Write to <EMAIL_ADDRESS_1>"
    assert json.loads(rows[2]["raw"])["note"] == {"card": "<CREDIT_CARD_1>"}
    assert json.loads(rows[3]["raw"]) == {"a": "<EMAIL_ADDRESS_1>"}
    again = land(*lines)
    assert (again.duplicates, again.masked) == (len(lines), {})


def test_a_repeated_key_hides_nothing(land: Callable[..., Imported], settings: Settings, state: State) -> None:
    land(b'{"x": "%s", "x": "nothing"}' % MAIL.encode())
    (row,) = Lake(settings.lake).read("quarantine").to_pylist()
    assert row["raw"] == '{"x": "<EMAIL_ADDRESS_1>", "x": "nothing"}'


def test_a_name_of_a_field_is_masked_in_what_is_told_of_it(
    land: Callable[..., Imported], settings: Settings, state: State, line: Line
) -> None:
    land(line(**{MAIL: 1}))
    (row,) = Lake(settings.lake).read("quarantine").to_pylist()
    assert "jane" not in row["raw"] + row["explanation"]
    assert "<EMAIL_ADDRESS_1>" in row["explanation"]


def test_a_text_that_fills_in_what_was_shown_masked_is_the_same_text_again(
    land: Callable[..., Imported], settings: Settings, state: State, line: Line
) -> None:
    shown = [{"position": 0, "text": "Call <PHONE_NUMBER_2> or write to <EMAIL_ADDRESS_1>."}]
    filled = f"Call {PHONE} or write to {MAIL}."
    done = land(
        line(candidates=shown, chosen=0, final_text=filled),
        line(event_id="e2", candidates=shown, chosen=0, decision="modify", final_text=f"Ring {PHONE} or wait."),
        line(event_id="e3", candidates=shown, chosen=0, decision="modify", final_text=filled),
    )
    assert (done.accepted, done.quarantined) == (3, 0)
    texts = {row["event_id"]: row["final_text"] for row in events(settings, state)}
    assert texts["e1"] == shown[0]["text"]
    assert texts["e2"] == "Ring <PHONE_NUMBER_2> or wait."
    assert texts["e3"] == "Call <PHONE_NUMBER_3> or write to <EMAIL_ADDRESS_2>."  # still a modify


def test_off_masks_nothing(
    land: Callable[..., Imported], settings: Settings, state: State, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOP_PRIVACY", "off")
    done = land(personal(line), personal(line, event_id="e2", turn=-1), settings=load(home=settings.home))
    assert done.masked == {}
    assert events(settings, state)[0]["final_text"] == f"Write to {MAIL}"
    assert MAIL in Lake(settings.lake).read("quarantine").to_pylist()[0]["raw"]


@pytest.mark.slow
def test_full_masks_what_presidio_knows_too(
    land: Callable[..., Imported], settings: Settings, state: State, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOP_PRIVACY", "full")
    text = f"My driver's license number is U62928788557186, I am {MAIL}"
    candidates = [{"position": 0, "text": "no"}, {"position": 1, "text": text}]
    done = land(line(candidates=candidates, final_text=text), settings=load(home=settings.home))
    assert done.masked == {"US_DRIVER_LICENSE": 2, "EMAIL_ADDRESS": 2}
    masked = "My driver's license number is <US_DRIVER_LICENSE_1>, I am <EMAIL_ADDRESS_1>"
    assert events(settings, state)[0]["final_text"] == masked
