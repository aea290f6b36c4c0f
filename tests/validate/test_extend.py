"""What drains leave in the lake, piece by piece and broken off anywhere, is what one build of everything leaves."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from loop import lake as lakes
from loop.collect import arrivals, files, landing, outcomes, quarantine
from loop.collect.spool import Spool
from loop.home import Home
from loop.lake import Lake
from loop.schema import BatchStatus
from loop.validate import batches, inflow
from loop.workflows import WORKFLOWS
from tests.rows import DAY, NOON, decision, event

PSEUDONYM = f"p_{'0' * 32}"
DAYS = (DAY + timedelta(days=n) for n in itertools.count())
AHEAD = datetime.now(UTC) + timedelta(days=30)
"""The clock was set back since."""


class PowerCutError(Exception):
    pass


# -- what comes in: suggestions 0 to 3, each with a first decision, revisions, outcomes -------------------------------


def first(number: int, day: date, **other: Any) -> bytes:
    told = event(decision(number, "reject", employee=PSEUDONYM, **other), day)
    return msgspec.json.encode({"kind": "event", "event": told, "received_at": told["received_at"]})


def revision(number: int, day: date, turn: int) -> bytes:
    late = {"decided_at": NOON + timedelta(hours=turn), "received_at": NOON + timedelta(hours=turn)}
    told = event(decision(number, "modify", 0, f"take {turn}", employee=PSEUDONYM, **late), day)
    told |= {"event_id": f"{told['event_id']}-{turn}", "revises": told["event_id"]}
    return msgspec.json.encode({"kind": "event", "event": told, "received_at": told["received_at"]})


def ahead(number: int, day: date) -> bytes:
    """It landed when the clock was ahead; now it breaks the contract."""
    told = event(decision(number, "reject", employee=PSEUDONYM), day) | {"received_at": AHEAD}
    told |= {"event_id": f"{told['event_id']}-ahead", "suggestion_id": f"{told['suggestion_id']}-ahead"}
    return msgspec.json.encode({"kind": "event", "event": told, "received_at": AHEAD})


def outcome(number: int, day: date, value: float, hours: int) -> bytes:
    seen = NOON + (day - DAY) + timedelta(hours=hours)
    told = {"outcome_id": f"{day}-o{number}-{hours}", "suggestion_id": f"{day}-s{number}", "workflow": "comms"}
    told |= {"day": day, "name": "click", "value": value, "observed_at": seen, "received_at": seen}
    return msgspec.json.encode({"kind": "outcome", "outcome": told})


NUMBERS = st.integers(0, 3)
FRAMES = st.one_of(
    st.tuples(st.just(first), NUMBERS),
    st.tuples(st.just(revision), NUMBERS, st.integers(1, 2)),
    st.tuples(st.just(ahead), NUMBERS),
    st.tuples(st.just(outcome), NUMBERS, st.sampled_from([1.0, 1.0, 2.0]), st.sampled_from([-1, 3, 24 * 60])),
    st.tuples(st.just(conflict := lambda number, day: first(number, day, dwell_ms=17)), NUMBERS),
)

# -- where it may break off -------------------------------------------------------------------------------------------

POINTS: list[tuple[Any, str]] = [
    (landing, "land"),
    (outcomes, "land"),
    (landing, "extend_quarantine"),
    (batches, "claim"),
    (outcomes, "claim"),
    (landing, "claim"),
    (outcomes, "extend"),
    (batches, "put"),
    (outcomes, "put"),
    (landing, "put"),
    (Lake, "append"),
    (Lake, "overwrite"),
    (Path, "unlink"),
]
CUTS = st.none() | st.tuples(st.sampled_from(POINTS), st.booleans())


@contextmanager
def cut(point: tuple[Any, str] | None, *, after: bool) -> Iterator[None]:
    """The first call of a function breaks off, before it began or after it ended."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lakes, "COMPACT_EVERY", 3)
        patched.setattr(files, "FILES", 2)
        if point is not None:
            real: Callable[..., Any] = getattr(*point)

            def broken(*args: Any, **given: Any) -> Any:
                if after:
                    real(*args, **given)
                raise PowerCutError

            patched.setattr(*point, broken)
        yield


def drain(home: Home, spool: Spool, payloads: list[bytes], point: tuple[Any, str] | None, *, after: bool) -> None:
    spool.append(payloads)
    spool.seal()
    with cut(point, after=after), suppress(PowerCutError):
        inflow.drain(home.settings, home.lake, home.state)


def build(home: Home, lake: Lake, day: date) -> batches.Batch:
    made = batches.build(home.settings, lake, home.state, day, "comms")
    outcomes.build(home.settings, lake, home.state, day, "comms")
    return made


def stands(lake: Lake, day: date) -> dict[str, list[dict[str, Any]]]:
    """What the lake has of a day, but for what only a batch has."""
    found = {}
    for table, key in (("interactions", "event_id"), ("quarantine", "quarantine_id"), ("outcomes", "outcome_id")):
        rows = lake.read(table, days=(day, day)).sort_by(key).to_pylist()
        for row in rows:
            row.pop("batch", None)
            if row.get("path") == quarantine.LATER:
                row |= {"line": 0, "explanation": ""}  # its place among those set aside together; the time of that
        found[table] = rows
    return found


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("drain"), st.lists(FRAMES, min_size=1, max_size=4), CUTS),
        st.tuples(st.just("build"), st.just([]), CUTS),
        st.tuples(st.just("tidy"), st.just([]), st.none()),
    ),
    min_size=1,
    max_size=6,
)


THREE: list[tuple[str, list[Any], Any]] = [("drain", [(first, n)], None) for n in range(3)]
"""After them a build merges the files that have landed."""


@examples(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(STEPS)
@example([("drain", [(first, 0), (outcome, 0, 1.0, 3)], ((Lake, "append"), True)), ("drain", [(revision, 0, 1)], None)])
@example([*THREE, ("drain", [(first, 3)], ((batches, "claim"), False)), ("build", [], ((Lake, "overwrite"), False))])
@example([*THREE, ("build", [], ((batches, "claim"), False))])
@example([("drain", [(ahead, 0), (first, 1)], ((Lake, "append"), False)), ("build", [], None)])
def test_piece_by_piece_is_all_at_once(home: Home, steps: list[tuple[str, list[Any], Any]]) -> None:
    day = next(DAYS)
    spool = Spool(home.settings.spool, segment_bytes=1 << 20, segment_seconds=60, limit_bytes=1 << 30)
    sent: list[bytes] = []
    for kind, frames, broken in steps:
        point, after = broken or (None, False)
        match kind:
            case "drain":
                payloads = [make(number, day, *more) for make, number, *more in frames]
                sent += payloads
                drain(home, spool, payloads, point, after=after)
            case "build":
                with cut(point, after=after), suppress(PowerCutError):
                    build(home, home.lake, day)
            case _:
                home.lake.tidy("interactions")
    drain(home, spool, [first(9, day)], None, after=False)
    sent.append(first(9, day))
    spool.close()

    found = stands(home.lake, day)
    digest = batches.digest_of(home.lake.read("interactions", days=(day, day)), day, "comms")
    assert not list(home.settings.spool.glob("*.seg"))
    expect(found, sent)
    scratch = Lake(home.settings.home / "scratch" / f"{day}")
    made = build(home, scratch, day)
    assert stands(scratch, day) == found
    assert made.digest == digest
    assert (made.rows, made.quarantined) == (len(found["interactions"]), len(found["quarantine"]))


def expect(found: dict[str, list[dict[str, Any]]], sent: list[bytes]) -> None:
    """What must stand there, told from what was sent alone."""
    frames = [msgspec.json.decode(one) for one in sent]
    events = {one["event"]["event_id"] for one in frames if one["kind"] == "event"}
    stood = {row["event_id"] for row in found["interactions"]}
    late = {row["event_id"] for row in found["quarantine"] if row["path"] == quarantine.LATER}
    assert stood == {key for key in events if not key.endswith("ahead")}
    assert late == events - stood
    contents = {(one["event"]["event_id"], one["event"]["dwell_ms"]) for one in frames if one["kind"] == "event"}
    results = {(one["outcome"]["outcome_id"], one["outcome"]["value"]) for one in frames if one["kind"] == "outcome"}
    assert {row["outcome_id"] for row in found["outcomes"]} == {key for key, _ in results}
    conflicts = len(contents) - len(events) + len(results) - len(found["outcomes"])
    assert sum(row["reasons"] == ["conflict"] for row in found["quarantine"]) >= conflicts
    for row in found["outcomes"]:
        own = [one for one in found["interactions"] if one["suggestion_id"] == row["suggestion_id"]]
        last = max(own, key=lambda one: one["received_at"], default=None)
        window = WORKFLOWS["comms"].attribution_window
        counts = last and last["shown_at"] <= row["observed_at"] <= last["decided_at"] + window
        assert row["event_id"] == (last["event_id"] if last and counts else None)


def test_the_cost_of_a_drain_is_that_of_what_is_new(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(home.settings.spool, segment_bytes=1 << 20, segment_seconds=60, limit_bytes=1 << 30)
    day = next(DAYS)
    drain(home, spool, [first(n, day) for n in range(4)], None, after=False)
    before = set(home.lake.files("interactions"))
    read: list[int] = []
    split = batches.contract.split

    def counted(rows: pa.Table, *, now: datetime) -> tuple[pa.Table, pa.Table]:
        read.append(rows.num_rows)
        return split(rows, now=now)

    monkeypatch.setattr(batches.contract, "split", counted)
    drain(home, spool, [first(9, day), first(1, day)], None, after=False)
    assert read == [2, 1]  # as it lands, the duplicate too; as it enters the lake
    assert before < set(home.lake.files("interactions")), "what was there was written again"
    version = home.lake.version("interactions")
    drain(home, spool, [first(9, day)], None, after=False)
    assert home.lake.version("interactions") == version, "nothing new, and yet something was written"
    spool.close()


def test_a_lake_that_was_set_back_or_lost_gets_everything_again(home: Home, tmp_path: Path) -> None:
    spool = Spool(home.settings.spool, segment_bytes=1 << 20, segment_seconds=60, limit_bytes=1 << 30)
    day, table, copy = next(DAYS), home.lake.root / "interactions", tmp_path / "copy"

    def after_draining(number: int) -> list[str]:
        drain(home, spool, [first(number, day)], None, after=False)
        return sorted(row["suggestion_id"][-1] for row in home.lake.read("interactions").to_pylist())

    assert after_draining(0) == ["0"]
    shutil.copytree(table, copy)
    assert [after_draining(n) for n in (1, 2)] == [["0", "1"], ["0", "1", "2"]]
    table.rename(tmp_path / "newer")
    copy.rename(table)
    assert after_draining(3) == ["0", "1", "2", "3"]
    made = build(home, home.lake, day)
    told = {"status": BatchStatus.ACCEPTED, "quarantined": 0, "reasons": [], "author": "test", "run_id": None}
    home.state.record_batch(day=day, workflow="comms", digest=made.digest, rows=made.rows, **told)
    assert arrivals.unread(home.state) == []
    table.rename(tmp_path / "lost")
    assert after_draining(3) == ["0", "1", "2", "3"]
    assert [partition for partition, _ in arrivals.unread(home.state)] == [(day, "comms")], "its batch went with it"
    spool.close()
