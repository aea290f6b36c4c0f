"""The ledger: every key for ever, suggestions for a while, all of it there again after a flush and a kill."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from loop.collect.ledger import Entry, Ledger, Seen, hashed, micros, moment, variant
from loop.errors import LoopError

NOON = datetime(2026, 1, 5, 12, 0, 0, 123456, tzinfo=UTC)


def suggestion_id(shown_at: datetime, tail: str = "") -> str:
    return f"s-{micros(shown_at) // 1000:012x}{tail:0>20}"


def suggested(shown_at: datetime, *, tail: str = "", ignorable: bool = True) -> Entry:
    name = suggestion_id(shown_at, tail)
    seen = Seen(b"d" * 16, micros(shown_at))
    return Entry(
        hashed("suggestion", name), seen, suggestion_id=name, record=f"record {name}".encode(), ignorable=ignorable
    )


def answered(suggestion: str, key: str) -> Entry:
    return Entry(hashed("event", key), Seen(b"e" * 16, 1), suggestion_id=suggestion, event_id=key)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "ledger")
    yield opened
    opened.close()


def test_times_are_kept_to_the_microsecond() -> None:
    for time in (NOON, datetime(1969, 7, 20, 20, 17, 40, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, tzinfo=UTC)):
        assert moment(micros(time)) == time
    assert micros(NOON) == 1_767_614_400_123_456


def test_a_key_of_one_kind_is_none_of_another() -> None:
    assert hashed("event", "k") != hashed("outcome", "k")
    assert len(hashed("event", "k")) == 16


def test_what_was_written_is_found_in_the_order_that_was_asked_for(ledger: Ledger) -> None:
    a, b, c = (hashed("event", key) for key in "abc")
    first, second = Seen(b"1" * 16, micros(NOON)), Seen(b"2" * 16, -5)
    ledger.write([Entry(a, first), Entry(c, second), Entry(variant(a, b"9" * 16), second)])
    assert ledger.find([c, b, a, a, variant(a, b"9" * 16)]) == [second, None, first, first, second]
    assert ledger.find([]) == []


def test_everything_is_there_after_closing_and_opening(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert ledger.sealed == ""
    ledger.write([suggested(NOON), answered(suggestion_id(NOON), "e1")])
    ledger.flush(sealed="000000000004")
    ledger.close()
    ledger = Ledger(tmp_path)
    assert ledger.sealed == "000000000004"
    assert ledger.find([hashed("event", "e1")]) == [Seen(b"e" * 16, 1)]
    assert ledger.record(suggestion_id(NOON)) == f"record {suggestion_id(NOON)}".encode()
    assert ledger.last_event(suggestion_id(NOON)) == "e1"
    ledger.close()


def test_what_was_flushed_outlives_a_kill(tmp_path: Path) -> None:
    script = f"""
import os
from pathlib import Path
from loop.collect.ledger import Entry, Ledger, Seen, hashed
ledger = Ledger(Path({str(tmp_path)!r}))
for group in range(20):
    ledger.write([Entry(hashed("event", f"{{group}}-{{n}}"), Seen(b"d" * 16, n)) for n in range(500)])
ledger.flush()
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -9
    ledger = Ledger(tmp_path)
    keys = [hashed("event", f"{group}-{n}") for group in range(20) for n in range(500)]
    assert ledger.find(keys) == [Seen(b"d" * 16, n) for _ in range(20) for n in range(500)]
    ledger.close()


def test_the_last_event_on_a_suggestion_is_the_last_that_was_written(ledger: Ledger) -> None:
    name = suggestion_id(NOON)
    assert ledger.last_event(name) is None
    ledger.write([suggested(NOON), answered(name, "e1")])
    ledger.write([answered(name, "e2")])
    assert ledger.last_event(name) == "e2"


def test_of_suggestions_that_are_not_ours_nothing_is_kept(ledger: Ledger) -> None:
    ledger.write([answered("their own id", "e1")])
    assert ledger.last_event("their own id") is None
    assert ledger.find([hashed("event", "e1")]) == [Seen(b"e" * 16, 1)]


def test_the_oldest_unanswered_suggestions_are_told_until_they_are_answered(ledger: Ledger) -> None:
    times = [NOON + timedelta(minutes=n) for n in range(5)]
    ids = [suggestion_id(time) for time in times]
    ledger.write([suggested(time) for time in reversed(times)])
    ledger.write([suggested(NOON - timedelta(days=1), ignorable=False)])

    def told(before: datetime, limit: int = 10) -> list[str]:
        return [record.decode().removeprefix("record ") for record in ledger.unanswered(before, limit)]

    assert told(NOON) == []
    assert told(times[3]) == ids[:3]
    assert told(times[3]) == ids[:3]
    assert told(times[3], limit=2) == ids[:2]
    ledger.write([answered(ids[0], "e0"), answered(ids[2], "e2")])
    assert told(times[4]) == [ids[1], ids[3]]
    ledger.write([answered(ids[1], "e1"), answered(ids[3], "e3"), answered(ids[4], "e4")])
    assert told(times[4] + timedelta(hours=1)) == []
    ledger.write([suggested(times[4], tail="f")])
    assert told(times[4] + timedelta(hours=1)) == [suggestion_id(times[4], "f")]


def test_forgotten_suggestions_have_gone_and_keys_have_not(ledger: Ledger) -> None:
    old, new = NOON, NOON + timedelta(days=2)
    ledger.write([suggested(old), suggested(old, tail="a"), suggested(new), answered(suggestion_id(old), "e1")])
    ledger.forget(NOON + timedelta(days=1))
    assert ledger.record(suggestion_id(old)) is None
    assert ledger.record(suggestion_id(old, "a")) is None
    assert ledger.last_event(suggestion_id(old)) is None
    assert ledger.record(suggestion_id(new)) is not None
    assert len(ledger.unanswered(NOON + timedelta(days=9), 10)) == 1
    assert None not in ledger.find([hashed("event", "e1"), hashed("suggestion", suggestion_id(old))])


def test_a_ledger_in_use_is_told(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(LoopError, match=r"ledger: expected to open the ledger, got .*lock"):
        Ledger(tmp_path / "ledger")


def test_a_damaged_ledger_says_what_to_do(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.write([Entry(hashed("event", "a"), Seen(b"1" * 16, 0))])
    ledger.flush()
    ledger.close()
    (tmp_path / "CURRENT").write_text("nonsense")
    with pytest.raises(LoopError, match="if it is damaged, restore the folder from a copy"):
        Ledger(tmp_path)
    assert not (tmp_path / "CURRENT").read_text().startswith("MANIFEST"), "nothing was made over it"


def test_a_closed_ledger_is_an_error_and_no_crash(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.close()
    for use in (lambda: ledger.find([b"k"]), lambda: ledger.record("s"), lambda: ledger.unanswered(NOON, 1)):
        with pytest.raises(LoopError):
            use()
    Ledger(tmp_path).close()
