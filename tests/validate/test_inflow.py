"""From the spool to the lake: everything once, whatever broke off before, and a segment stays until the lake has it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from loop.collect import arrivals, files, landing, outcomes
from loop.collect.spool import Spool, sealed
from loop.home import Home
from loop.validate import batches, contract, inflow, verdicts
from tests.rows import DAY, decision, event

PSEUDONYM = f"p_{'0' * 32}"


@pytest.fixture
def spool(home: Home) -> Iterator[Spool]:
    made = Spool(home.settings.spool, segment_bytes=1 << 20, segment_seconds=60, limit_bytes=1 << 30)
    yield made
    made.close()


def an_event(number: int, **other: Any) -> bytes:
    told = event(decision(number, "reject", employee=PSEUDONYM), **other)
    return msgspec.json.encode({"kind": "event", "event": told, "received_at": told["received_at"]})


def an_outcome(number: int) -> bytes:
    told = {"outcome_id": f"o{number}", "suggestion_id": f"{DAY}-s{number}", "workflow": "comms", "day": DAY}
    told |= {"name": "click", "value": 1.0, "observed_at": "2026-01-05T13:00:00Z"}
    return msgspec.json.encode({"kind": "outcome", "outcome": told | {"received_at": "2026-01-05T14:00:00Z"}})


def a_suggestion(number: int) -> bytes:
    return msgspec.json.encode({"kind": "suggestion", "suggestion": {"suggestion_id": f"{DAY}-s{number}"}})


def segment(spool: Spool, *payloads: bytes) -> Path:
    spool.append(payloads)
    path = spool.seal()
    assert path is not None
    return path


def drained(home: Home) -> dict[str, int]:
    return inflow.told(inflow.drain(home.settings, home.lake, home.state))


def counts(**other: int) -> dict[str, int]:
    names = ("segments", "frames", "events", "duplicates", "quarantined", "outcomes", "suggestions", "partitions")
    return dict.fromkeys((*names, "unreadable segments"), 0) | other


def test_an_empty_spool_moves_nothing(home: Home) -> None:
    assert drained(home) == {}


def test_each_kind_goes_where_it_belongs_and_the_segment_goes_last(home: Home, spool: Spool) -> None:
    segment(spool, a_suggestion(1), an_event(1), an_event(2))
    segment(spool, an_outcome(1))
    spool.append([an_event(3)])  # not sealed yet
    assert drained(home) == counts(segments=2, frames=4, events=2, outcomes=1, suggestions=1, partitions=1)
    assert sealed(home.settings.spool) == []
    rows = home.lake.read("interactions").to_pylist()
    assert {row["event_id"] for row in rows} == {f"{DAY}-e1", f"{DAY}-e2"}
    assert {(row["employee"], row["source"]) for row in rows} == {(PSEUDONYM, "gateway")}
    [outcome] = home.lake.read("outcomes").to_pylist()
    assert (outcome["outcome_id"], outcome["event_id"]) == ("o1", f"{DAY}-e1")


def test_an_event_was_received_when_it_was_acknowledged(home: Home, spool: Spool) -> None:
    text = 'he wrote "received_at": never'
    told = event(decision(1, "modify", 0, text, employee=PSEUDONYM))
    del told["received_at"]
    segment(spool, msgspec.json.encode({"kind": "event", "event": told, "received_at": "2026-01-05T12:34:56.789Z"}))
    drained(home)
    [row] = home.lake.read("interactions").to_pylist()
    assert row["final_text"] == text
    assert row["received_at"] == datetime(2026, 1, 5, 12, 34, 56, 789_000, UTC)


def test_a_conflict_is_kept_once_and_without_a_second_pseudonym(home: Home, spool: Spool) -> None:
    segment(spool, an_event(1), an_event(1, dwell_ms=17))
    assert drained(home) == counts(segments=1, frames=2, events=1, quarantined=1, partitions=1)
    [kept] = home.lake.read("quarantine").to_pylist()
    assert kept["reasons"] == ["conflict"]
    assert msgspec.json.decode(kept["raw"])["employee"] == PSEUDONYM


@pytest.mark.parametrize("stage", ["landing", "outcomes", "building", "removing"])
def test_a_move_that_broke_off_is_done_again_and_doubles_nothing(
    home: Home, spool: Spool, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    path = segment(spool, an_event(1), an_outcome(1))

    class PowerCutError(Exception):
        pass

    def cut(*_: Any, **__: Any) -> None:
        raise PowerCutError

    owner, name = {
        "landing": (landing, "land"),
        "outcomes": (outcomes, "land"),
        "building": (batches, "extend"),
        "removing": (Path, "unlink"),
    }[stage]
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, cut)
        with pytest.raises(PowerCutError):
            inflow.drain(home.settings, home.lake, home.state)
    assert path.exists()
    drained(home)
    assert not path.exists()
    assert home.lake.read("interactions").num_rows == 1
    assert home.lake.read("outcomes").num_rows == 1
    assert home.lake.read("quarantine").num_rows == 0


def test_a_corrupt_segment_lands_as_far_as_it_can_be_read_and_is_kept(home: Home, spool: Spool) -> None:
    path = segment(spool, an_event(1), an_event(2), an_event(4))
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xff")
    segment(spool, an_event(3))
    assert drained(home) == counts(segments=2, frames=3, events=3, partitions=1, **{"unreadable segments": 1})
    assert path.with_suffix(".bad").exists()
    assert {row["event_id"] for row in home.lake.read("interactions").to_pylist()} == {f"{DAY}-e{n}" for n in (1, 3, 4)}


def test_many_segments_are_moved_in_groups(home: Home, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inflow, "AT_ONCE", 1)
    for number in range(3):
        segment(spool, an_event(number))
    moved = inflow.drain(home.settings, home.lake, home.state)
    assert [one.frames for one in moved] == [1, 1, 1]
    assert home.lake.read("interactions").num_rows == 3


def test_a_late_event_opens_its_own_partition_only(home: Home, spool: Spool) -> None:
    segment(spool, an_event(1), an_event(2, day=DAY + timedelta(days=1)))
    drained(home)
    before = home.lake.version("interactions")
    segment(spool, an_event(3))
    [moved] = inflow.drain(home.settings, home.lake, home.state)
    assert moved.partitions == ((DAY, "comms"),)
    assert home.lake.version("interactions") == (before or 0) + 1


def test_a_build_that_had_read_before_does_not_write_over_what_is_moved_meanwhile(
    home: Home, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment(spool, an_event(1))
    drained(home)
    segment(spool, an_event(2))
    moving = threading.Thread(target=drained, args=(home,))
    breaking = contract.breaking

    def slow(*given: Any, **how: Any) -> pa.Table:
        monkeypatch.setattr(contract, "breaking", breaking)
        moving.start()
        moving.join(2.0)  # as far as it gets
        return breaking(*given, **how)

    monkeypatch.setattr(contract, "breaking", slow)
    assert batches.build(home.settings, home.lake, home.state, DAY, "comms").rows == 1
    moving.join()
    rows = home.lake.read("interactions", columns=["event_id"])["event_id"].to_pylist()
    assert sorted(rows) == [f"{DAY}-e1", f"{DAY}-e2"]


def test_a_clock_that_was_set_back_sets_nothing_aside_for_good(home: Home, spool: Spool) -> None:
    told = msgspec.json.decode(an_event(1))["event"] | {"received_at": datetime.now(UTC) + timedelta(hours=1)}
    segment(spool, msgspec.json.encode({"kind": "event", "event": told, "received_at": told["received_at"]}))
    assert drained(home)["events"] == 1
    assert landing.events(home.settings, home.state, DAY, "comms")["event_id"].to_pylist() == [f"{DAY}-e1"]


def test_what_lands_while_its_batch_is_judged_waits_to_be_judged(home: Home, spool: Spool) -> None:
    segment(spool, an_event(1))
    drained(home)
    assert [key for key, _ in arrivals.unread(home.state)] == [(DAY, "comms")]  # no batch yet
    first = batches.build(home.settings, home.lake, home.state, DAY, "comms")
    assert [key for key, _ in arrivals.unread(home.state)] == [(DAY, "comms")]  # not judged
    segment(spool, an_event(2))
    drained(home)  # while, say, another run is about to judge the batch
    judged = verdicts.judge(home.settings, home.lake, home.state, DAY, "comms")
    assert judged.report.rows == 1
    [verdict] = home.state.batches(DAY, DAY)
    assert verdict["digest"] == first.digest
    [(key, mark)] = arrivals.unread(home.state)
    assert (key, mark.split()[0]) == ((DAY, "comms"), "2")
    batches.build(home.settings, home.lake, home.state, DAY, "comms")
    verdicts.judge(home.settings, home.lake, home.state, DAY, "comms")
    assert arrivals.unread(home.state) == []


def files_of(home: Home) -> set[str]:
    return {path.relative_to(home.settings.home).as_posix() for path in home.settings.landing.rglob("*.parquet")}


def test_many_small_files_become_one_and_nothing_is_lost(
    home: Home, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "FILES", 3)
    for number in range(4):
        segment(spool, an_event(number), an_event(number, dwell_ms=17), an_outcome(number))
        drained(home)
    for stage in (batches, outcomes):
        stage.build(home.settings, home.lake, home.state, DAY, "comms")
    assert {kind: len(group) for kind, group in grouped(home).items()} == {"events": 1, "rejects": 1, "outcomes": 1}
    assert {row["path"] for row in home.state.arrow("landings").to_pylist()} == files_of(home)
    assert home.lake.read("interactions").num_rows == home.lake.read("quarantine").num_rows == 4
    assert home.lake.read("outcomes").num_rows == 4
    index = home.state.arrow("event_index").to_pylist()
    known = {row["landing_id"] for row in home.state.arrow("landings").to_pylist()}
    assert len(index) == 12
    assert {row["landing_id"] for row in index} == known
    segment(spool, an_event(0), an_outcome(0))
    assert drained(home)["duplicates"] == 2


def test_no_more_rows_are_merged_at_once_than_fit_into_memory(
    home: Home, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "FILES", 3)
    monkeypatch.setattr(files, "SMALL", 3)
    for number in range(5):
        segment(spool, an_event(number))
        drained(home)
    batches.build(home.settings, home.lake, home.state, DAY, "comms")
    rows = sorted(row["rows"] for row in home.state.arrow("landings").to_pylist())
    assert rows == [2, 3]
    assert {row["path"] for row in home.state.arrow("landings").to_pylist()} == files_of(home)
    assert home.lake.read("interactions").num_rows == 5


def grouped(home: Home) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in home.state.arrow("landings").to_pylist():
        found.setdefault(row["kind"], []).append(row["path"])
    return found


@pytest.mark.parametrize("stage", ["writing", "removing"])
def test_a_merge_that_broke_off_leaves_what_was_or_what_will_be(
    home: Home, spool: Spool, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    for number in range(3):
        segment(spool, an_event(number))
        drained(home)
    before = files_of(home)

    class PowerCutError(Exception):
        pass

    def cut(*_: Any, **__: Any) -> None:
        raise PowerCutError

    with monkeypatch.context() as patched:
        patched.setattr(files, "FILES", 2)
        owner, name = {"writing": (files.Files, "_show"), "removing": (Path, "unlink")}[stage]
        patched.setattr(owner, name, cut)
        with pytest.raises(PowerCutError):
            batches.build(home.settings, home.lake, home.state, DAY, "comms")
    assert before <= files_of(home)
    batches.build(home.settings, home.lake, home.state, DAY, "comms")
    assert home.lake.read("interactions").num_rows == 3
    segment(spool, an_event(7))
    drained(home)
    assert home.lake.read("interactions").num_rows == 4
    assert {row["path"] for row in home.state.arrow("landings").to_pylist()} == files_of(home)
