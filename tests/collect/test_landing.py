"""Imports: what lands, what is a duplicate, what is set aside, and that every record is accounted for."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from loop import schema
from loop.collect import events as events_module
from loop.collect import landing, quarantine
from loop.collect.arrivals import partitions
from loop.collect.events import Reason, pseudonym
from loop.collect.imported import Imported
from loop.collect.landing import events, extend_quarantine, rebuild_quarantine
from loop.collect.record import Fault, Record
from loop.config import Settings
from loop.state import State
from loop.validate import contract
from tests.collect.landings import DAY, NOW, Home, counts

Line = Callable[..., bytes]
RAW = "alice@example.org"


@pytest.fixture
def home(settings: Settings, state: State) -> Home:
    return Home(settings, state)


# -- good events ------------------------------------------------------------------------------------------------------


def test_events_land_by_day_and_workflow(home: Home, line: Line) -> None:
    done = home.land(
        line(),
        line(event_id="e2", shown_at="2026-01-05T07:00:00Z"),
        line(event_id="e3", workflow="comms", shown_at="2026-01-05T23:30:00-01:00", decided_at=None,
             decision="ignore", chosen=None, final_text=None, received_at=...),
    )  # fmt: skip
    assert counts(done) == (3, 3, 0, 0)
    assert (done.first_day, done.last_day, done.unchanged) == (DAY, date(2026, 1, 6), False)
    assert [(c.day, c.workflow, c.accepted, c.quarantined) for c in done.partitions] == [
        (DAY, "ads", 2, 0),
        (date(2026, 1, 6), "comms", 1, 0),
    ]
    assert [row["event_id"] for row in home.events()] == ["e2", "e1"]
    (late,) = home.events(date(2026, 1, 6), "comms")
    assert late["shown_at"] == datetime(2026, 1, 6, 0, 30, tzinfo=UTC)
    assert late["received_at"] == NOW
    assert partitions(home.state, DAY, date(2026, 1, 6)) == [(DAY, "ads"), (date(2026, 1, 6), "comms")]
    assert partitions(home.state, DAY, DAY, ["comms"]) == []
    assert home.files() == home.visible()


def test_landed_rows_have_the_columns_of_interactions_and_no_raw_id(home: Home, line: Line) -> None:
    home.land(line(), line(event_id="bad", turn=-1), line(event_id="worse", colour=1), line()[:-40])
    rows = events(home.settings, home.state, DAY, "ads")
    assert rows.schema.equals(schema.INTERACTIONS.arrow)
    hidden = pseudonym(RAW, home.settings.secret("pseudonym"))
    assert rows["employee"].to_pylist() == [hidden]
    assert [hidden in row["raw"] for row in home.set_aside()] == [True, True, True]
    for path in home.settings.home.rglob("*.parquet"):
        assert RAW not in str(pq.ParquetFile(path).read().to_pylist())


def test_nothing_lands_from_an_empty_source(home: Home) -> None:
    done = home.land()
    assert counts(done) == (0, 0, 0, 0)
    assert (done.first_day, done.last_day, done.unchanged, done.partitions) == (None, None, True, ())
    assert home.set_aside() == []


def test_what_the_import_tells_is_json(home: Home, line: Line) -> None:
    told = json.loads(json.dumps(home.land(line(), b"garbage").told(), default=str))
    assert told == {
        "source": "jsonl",
        "path": "x.jsonl",
        "read": 2,
        "accepted": 1,
        "duplicates": 0,
        "quarantined": 1,
        "first_day": "2026-01-05",
        "last_day": "2026-01-05",
        "partitions": [
            {"day": "2026-01-05", "workflow": "ads", "accepted": 1, "quarantined": 0},
            {"day": "2026-01-08", "workflow": "unplaced", "accepted": 0, "quarantined": 1},
        ],
        "reasons": {"not_json": 1},
        "writer_known": True,
        "unrated": 0,
        "skipped": {},
        "masked": {},
        "unchanged": False,
    }


# -- duplicates and conflicts -----------------------------------------------------------------------------------------


def test_the_same_event_again_is_a_duplicate_and_another_content_a_conflict(home: Home, line: Line) -> None:
    done = home.land(line(), line(received_at=...), line(dwell_ms=1), line(event_id="e2"))
    assert counts(done) == (4, 2, 1, 1)
    assert done.reasons == {"conflict": 1}
    (aside,) = home.set_aside()
    assert (aside["event_id"], aside["line"], aside["reasons"]) == ("e1", 3, ["conflict"])
    assert (aside["day"], aside["workflow"], aside["path"], aside["source"]) == (DAY, "ads", "x.jsonl", "jsonl")
    assert (
        aside["explanation"]
        == "event_id e1: expected the content that came before, got another; send a revision instead"
    )
    assert json.loads(aside["raw"])["dwell_ms"] == 1
    # The same again from elsewhere, and in another chunk.
    assert counts(home.land(line(dwell_ms=1), line(), name="y.jsonl")) == (2, 0, 1, 1)
    assert {row["event_id"]: row["dwell_ms"] for row in home.events()} == {"e1": 5000, "e2": 5000}


def test_a_corrected_event_is_accepted_for_the_bad_one_did_not_take_its_id(home: Home, line: Line) -> None:
    assert counts(home.land(line(turn=-1))) == (1, 0, 0, 1)
    assert counts(home.land(line())) == (1, 1, 0, 0)


def test_importing_the_same_again_changes_nothing_and_says_so(home: Home, line: Line) -> None:
    lines = [line(), b"garbage", line(turn=-1, event_id="e2"), line(dwell_ms=1), line(event_id="e3")]
    assert counts(home.land(*lines)) == (5, 2, 0, 3)
    before = home.files(), home.set_aside(), home.lake.version("quarantine"), home.state.arrow("event_index").num_rows
    again = home.land(*lines, now=NOW + timedelta(days=2))
    assert (counts(again), again.unchanged, again.partitions) == ((5, 0, 5, 0), True, ())
    assert (again.first_day, again.last_day) == (DAY, DAY)
    after = home.files(), home.set_aside(), home.lake.version("quarantine"), home.state.arrow("event_index").num_rows
    assert after == before


def test_the_same_garbage_in_two_places_is_two_rows(home: Home) -> None:
    assert counts(home.land(b"garbage", b"garbage")) == (2, 0, 0, 2)
    assert counts(home.land(b"garbage", name="y.jsonl")) == (1, 0, 0, 1)
    assert [(row["path"], row["line"]) for row in home.set_aside()] == [("x.jsonl", 1), ("x.jsonl", 2), ("y.jsonl", 1)]


# -- bad input, case by case ------------------------------------------------------------------------------------------


def test_bad_lines_are_set_aside_one_by_one_with_their_reasons(home: Home, line: Line, tmp_path: Path) -> None:
    path = tmp_path / "mixed.jsonl"
    cases = [
        (b"\xef\xbb\xbf" + line(), None),
        (line(event_id="e2").replace(b"brief", b"br\xffef"), ("not_utf8", DAY, "ads")),
        (b'{"event_id": "e3"', ("not_json", NOW.date(), "unplaced")),
        (b"[]", ("wrong_type", NOW.date(), "unplaced")),
        (line(event_id="e5", colour="red"), ("unknown_field", DAY, "ads")),
        (line(event_id="e6", prompt=...), ("missing_field", DAY, "ads")),
        (line(event_id="e7", shown_at="2026-01-05T08:00:00"), ("naive_time", DAY, "ads")),
        (line(event_id="e8", shown_at="2027-01-05T08:00:00Z"), ("times", NOW.date(), "ads")),
        (line(event_id="e9", received_at="2027-01-05T08:00:00Z"), ("future", DAY, "ads")),
        (line(event_id="e10", workflow="hr"), ("workflow", DAY, "unplaced")),
        (b'{"event_id": "\\ud800"}', ("not_json", NOW.date(), "unplaced")),
        (line(dwell_ms=7), ("conflict", DAY, "ads")),
        (line(event_id="e13", prompt=[{"role": "user", "content": "x" * 5_000}]), ("too_long", DAY, "ads")),
        (line(event_id="e14", prompt=[{"role": "user", "content": "x" * 1_000_000}]), ("too_long", DAY, "ads")),
        (line(event_id="e15\0"), ("id", DAY, "ads")),
    ]  # fmt: skip
    path.write_bytes(b"\n".join(content for content, _ in cases))
    done = home.read(path)
    assert counts(done) == (15, 1, 0, 14)
    found = {row["line"]: (row["reasons"][0], row["day"], row["workflow"]) for row in home.set_aside()}
    assert found == {number: wanted for number, (_, wanted) in enumerate(cases, 1) if wanted}
    raws = {row["line"]: row["raw"] for row in home.set_aside()}
    assert len(raws[14]) > 1_000_000
    assert "br\\\\xffef" in raws[2]
    assert all(row["explanation"] for row in home.set_aside())
    assert [row["event_id"] for row in home.events()] == ["e1"]


@pytest.mark.slow
def test_a_prompt_of_50_mb_is_kept_whole(home: Home, line: Line, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(line(prompt=[{"role": "user", "content": "x" * 50_000_000}]) + b"\n" + line(event_id="e2"))
    assert counts(home.read(path)) == (2, 1, 0, 1)
    (aside,) = home.set_aside()
    assert (aside["reasons"], aside["event_id"]) == (["too_long"], "e1")
    assert aside["explanation"].startswith("expected at most 1,000,000 bytes a line, got 50,000,")
    assert aside["raw"].count("x") > 50_000_000


def test_a_fault_known_to_the_source_is_filed_where_it_says(home: Home) -> None:
    fault = Fault(Reason.SESSION, "session s1: cut", day=DAY, workflow="comms")
    done = home.records(iter([Record(3, b'{"employee": "alice"}', path="s1.jsonl", fault=fault)]))
    assert counts(done) == (1, 0, 0, 1)
    (aside,) = home.set_aside()
    assert (aside["day"], aside["workflow"], aside["path"], aside["line"]) == (DAY, "comms", "s1.jsonl", 3)
    assert (aside["reasons"], aside["explanation"]) == (["session"], "session s1: cut")
    assert "alice" not in aside["raw"]


# -- quarantine -------------------------------------------------------------------------------------------------------


def test_quarantine_is_rebuilt_from_what_was_set_aside_at_the_edge_and_later(home: Home, line: Line) -> None:
    home.land(line(), line(event_id="e2", turn=-1), line(event_id="e3"))
    landed = events(home.settings, home.state, DAY, "ads")
    # Later: the contract has become stricter, say, for a batch's row.
    _, bad = contract.split(landed.slice(0, 1), now=datetime(2020, 1, 1, tzinfo=UTC))
    assert bad.num_rows == 1

    def kept() -> list[tuple[str, str]]:
        return sorted((row["path"], row["event_id"]) for row in home.set_aside())

    def rebuild(extra: pa.Table) -> list[tuple[str, str]]:
        count = rebuild_quarantine(home.settings, home.lake, home.state, DAY, "ads", extra=extra)
        assert len(home.set_aside()) == count
        return kept()

    both = [(quarantine.LATER, "e1"), ("x.jsonl", "e2")]
    assert rebuild(extra=bad) == both
    version = home.lake.version("quarantine")
    assert rebuild(extra=bad) == both
    extend_quarantine(home.settings, home.lake, home.state, DAY, "ads", extra=bad)
    assert kept() == both
    assert home.lake.version("quarantine") == version
    home.land(line(event_id="e4", turn=-1), name="y.jsonl")
    assert kept() == [*both, ("y.jsonl", "e4")]  # an import keeps what a batch set aside
    assert rebuild(extra=bad.slice(0, 0)) == [("x.jsonl", "e2"), ("y.jsonl", "e4")]


def test_a_row_set_aside_later_keeps_its_content_and_its_reasons(home: Home, line: Line) -> None:
    home.land(line())
    landed = events(home.settings, home.state, DAY, "ads")
    _, bad = contract.split(landed, now=datetime(2020, 1, 1, tzinfo=UTC))
    (row,) = quarantine.of_rows(bad).to_pylist()
    assert row["reasons"] == ["future"]
    assert row["explanation"].startswith("shown_at: expected not after now, 2020-01-01")
    kept = json.loads(row["raw"])
    assert (kept["event_id"], kept["final_text"], kept["day"]) == ("e1", "two", "2026-01-05")


# -- conservation -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@examples(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), chunk=st.integers(1, 5))
def test_every_record_is_accepted_a_duplicate_or_set_aside(
    home: Home, line: Line, monkeypatch: pytest.MonkeyPatch, data: st.DataObject, chunk: int
) -> None:
    """Arbitrary mixtures of good, repeated, conflicting and garbage lines, against a plain account of them."""
    monkeypatch.setattr(landing, "CHUNK_ROWS", chunk)
    home.empty()
    event = st.builds(
        lambda key, dwell, workflow: line(event_id=f"e{key}", dwell_ms=dwell, workflow=workflow),
        st.integers(0, 4),
        st.integers(-1, 1),
        st.sampled_from(["ads", "comms", "hr"]),
    )
    garbage = st.binary(max_size=20).map(lambda raw: raw.replace(b"\n", b""))
    known: dict[str, dict[str, Any]] = {}
    seen: set[tuple[str, int, bytes]] = set()
    for name in ("one", "two"):
        lines = data.draw(st.lists(event | garbage, max_size=12))
        accepted = duplicates = aside = 0
        for number, raw in enumerate(lines, 1):
            if not raw.strip(b" \t\r\n"):
                continue
            try:
                content = json.loads(raw)
                good = content["dwell_ms"] >= 0 and content["workflow"] != "hr"
            except (ValueError, TypeError, KeyError):
                good = False
            if good and content["event_id"] not in known:
                known[content["event_id"]] = content
                accepted += 1
            elif good and known[content["event_id"]] == content:
                duplicates += 1
            else:
                aside += 1
                seen.add((name, number, raw))
        done = home.land(*lines, name=name)
        assert counts(done) == (accepted + duplicates + aside, accepted, duplicates, aside)
        again = home.land(*lines, name=name)
        assert counts(again) == (done.read, 0, done.read, 0)
    landed = [row for workflow in schema.WORKFLOWS for row in home.events(workflow=workflow)]
    assert {row["event_id"]: row["dwell_ms"] for row in landed} == {key: c["dwell_ms"] for key, c in known.items()}
    assert len(landed) == len(known)
    rejects = home.state.arrow("landings")
    rows = sum(r["rows"] for r in rejects.to_pylist() if r["kind"] == "rejects")
    assert rows == len(seen)


def test_the_account_must_balance() -> None:
    with pytest.raises(AssertionError, match="a record was lost by the import"):
        Imported("jsonl", "x", 2, 0, 1, 0, None, None, (), {})


# -- the pseudonyms' key is rotated -----------------------------------------------------------------------------------


def test_the_same_events_are_duplicates_after_every_rotation(home: Home, line: Line) -> None:
    lines = [line(), line(event_id="e2", employee="bob"), line(event_id="e3", dwell_ms=-1), b'{"employee": "bob"}']
    assert counts(home.land(*lines)) == (4, 2, 0, 2)
    before, aside = home.events(), home.set_aside()
    for number in (1, 2):
        assert home.settings.rotate("pseudonym") == number
        assert counts(home.land(*lines)) == (4, 0, 4, 0)
    assert home.events() == before
    assert home.set_aside() == aside
    done = home.land(line(event_id="e4"), line(final_text="two", dwell_ms=7), line(event_id="e2", employee="carol"))
    assert counts(done) == (3, 1, 0, 2), "new is new, and other content under a known id is still a conflict"
    assert done.reasons == {"conflict": 2}
    assert {e["event_id"]: e["employee"] for e in home.events()} == {
        "e1": events_module.pseudonyms(RAW, home.settings)[2],
        "e2": events_module.pseudonyms("bob", home.settings)[2],
        "e4": events_module.pseudonyms(RAW, home.settings)[0],
    }
