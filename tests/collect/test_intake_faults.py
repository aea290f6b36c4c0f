"""The intake through kills, full disks and lost ledgers: what was acknowledged is stored exactly once."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loop.collect import intake as module
from loop.collect.intake import Head, Intake, Item, Receipt, SpoolFull, Status
from loop.collect.spool import frames, sealed
from loop.errors import LoopError
from tests.collect.intakes import (
    CONFLICT,
    DUPLICATE,
    NOON,
    STORED,
    contents,
    event,
    named,
    opened,
    put,
    record,
    statuses,
    suggestion,
    until,
)

# -- sealing, and the ledger against the spool -----------------------------------------------------------------------


def test_segments_are_sealed_by_age_and_by_size_without_further_puts(tmp_path: Path) -> None:
    with opened(tmp_path / "old", segment_seconds=0.05) as intake:
        put(intake, event("e1"))
        until(lambda: len(sealed(tmp_path / "old" / "spool")) == 1)
        put(intake, event("e2"))
        until(lambda: len(sealed(tmp_path / "old" / "spool")) == 2)
        until(lambda: intake.counts.sealed == 2)
    with opened(tmp_path / "large", segment_bytes=100, segment_seconds=3600.0) as intake:
        put(intake, event("e1"))
        until(lambda: len(sealed(tmp_path / "large" / "spool")) == 1)


def test_a_ledger_that_was_removed_is_made_anew_from_the_segments_that_are_left(tmp_path: Path) -> None:
    made = record(datetime.now(UTC).replace(microsecond=0))
    first = [suggestion(made), event("e1", about=made.suggestion_id), event("e1", "other")]
    with opened(tmp_path, segment_seconds=0.01) as intake:
        put(intake, *first)
        until(lambda: sealed(tmp_path / "spool"))
        put(intake, event("e2"))
    shutil.rmtree(tmp_path / "ledger")
    with opened(tmp_path) as intake:
        assert intake.counts.replayed == 4
        assert statuses(intake, *first, event("e2"), event("e3")) == [
            DUPLICATE,
            DUPLICATE,
            CONFLICT,
            DUPLICATE,
            STORED,
        ]
        assert intake.last_event(made.suggestion_id) == "e1"
    assert Counter(contents(tmp_path)) == Counter(named(*first, event("e2"), event("e3")))


def test_a_ledger_behind_the_spool_catches_up_and_does_so_once(tmp_path: Path) -> None:
    with opened(tmp_path) as intake:
        put(intake, event("e1"))
    shutil.copytree(tmp_path / "ledger", tmp_path / "before")
    with opened(tmp_path) as intake:
        put(intake, event("e2"), event("e1", "other"))
    shutil.rmtree(tmp_path / "ledger")
    (tmp_path / "before").rename(tmp_path / "ledger")
    with opened(tmp_path) as intake:
        assert intake.counts.replayed == 2
        assert statuses(intake, event("e1"), event("e2"), event("e1", "other")) == [DUPLICATE, DUPLICATE, CONFLICT]
    with opened(tmp_path) as intake:
        assert intake.counts.replayed == 0
    assert len(contents(tmp_path)) == 3


def test_a_ledger_ahead_of_the_spool_still_knows_what_was_moved_on(tmp_path: Path) -> None:
    with opened(tmp_path) as intake:
        put(intake, event("e1"))
    for segment in sealed(tmp_path / "spool"):
        segment.unlink()
    with opened(tmp_path) as intake:
        assert statuses(intake, event("e1"), event("e2")) == [DUPLICATE, STORED]
    assert contents(tmp_path) == named(event("e2"))


def test_a_sealed_segment_is_in_the_ledger_for_good_before_it_bears_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    flush, seal = module.Ledger.flush, module.Spool.seal
    monkeypatch.setattr(
        module.Ledger, "flush", lambda self, sealed=None: (order.append(f"flush {sealed}"), flush(self, sealed))
    )
    monkeypatch.setattr(module.Spool, "seal", lambda self: order.append(f"seal {self.number}") or seal(self))
    with opened(tmp_path) as intake:
        put(intake, event("e1"))
    (segment,) = sealed(tmp_path / "spool")
    assert order == ["flush None", f"flush {segment.stem}", f"seal {segment.stem}"]


def test_a_damaged_sealed_segment_stops_only_a_ledger_that_needs_it(tmp_path: Path) -> None:
    with opened(tmp_path) as intake:
        put(intake, event("e1"))
    (segment,) = sealed(tmp_path / "spool")
    segment.write_bytes(segment.read_bytes()[:-1])
    with opened(tmp_path) as intake:
        assert statuses(intake, event("e1")) == [DUPLICATE]
    shutil.rmtree(tmp_path / "ledger")
    with pytest.raises(LoopError, match=f"{segment.name}: expected a whole frame at byte 0"):
        Intake(tmp_path / "spool", tmp_path / "ledger")
    segment.rename(tmp_path / "aside")
    with opened(tmp_path) as intake:
        assert statuses(intake, event("e1")) == [STORED]


def test_a_torn_end_is_counted(tmp_path: Path) -> None:
    with opened(tmp_path) as intake:
        put(intake, event("e1"))
    (segment,) = sealed(tmp_path / "spool")
    torn = segment.with_suffix(".open")
    segment.rename(torn)
    torn.write_bytes(torn.read_bytes() + b"\x20\0\0\0half a fra")
    with opened(tmp_path) as intake:
        assert intake.counts.torn_bytes == 14
        assert statuses(intake, event("e1")) == [DUPLICATE]


# -- no room, no disk -------------------------------------------------------------------------------------------------


def test_a_full_spool_refuses_what_is_new_and_still_knows_duplicates(tmp_path: Path) -> None:
    with opened(tmp_path, limit_bytes=600, segment_seconds=0.01) as intake:
        put(intake, event("e1"))

        async def both() -> list[Any]:
            big = intake.put([event("e1"), event("big", "x" * 1000)])
            return await asyncio.gather(big, intake.put([event("e1")]), return_exceptions=True)

        refused, known = asyncio.run(both())
        assert isinstance(refused, SpoolFull)
        assert known == [Receipt("e1", DUPLICATE, NOON)]
        assert intake.trouble == str(refused)
        assert intake.counts.refused == 2
        put(intake, event("e2"))
        with pytest.raises(SpoolFull):
            put(intake, event("e3", "x" * 100))
        until(lambda: not list((tmp_path / "spool").glob("*.open")))
        assert contents(tmp_path) == named(event("e1"), event("e2"))
        for segment in sealed(tmp_path / "spool"):
            segment.unlink()
        assert intake.spool_bytes == 0
        assert statuses(intake, event("e3", "x" * 100), event("e1")) == [STORED, DUPLICATE]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=False, capture_output=True)
    if made.returncode:
        pytest.skip(f"no small disk can be mounted here: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_disk_that_fills_up_under_spool_and_ledger_loses_nothing_and_recovers(small_disk: Path) -> None:
    acknowledged: list[Item] = []
    number = 0

    def store(intake: Intake, puts: int) -> int:
        """How many of so many puts of twenty were refused."""
        nonlocal number
        refused = 0
        for _ in range(puts):
            items = [event(f"e{(number := number + 1)}", "x" * 1000) for _ in range(20)]
            try:
                put(intake, *items)
                acknowledged.extend(items)
            except LoopError as error:
                assert "No space left" in str(error) or "ledger failed" in str(error)  # noqa: PT017
                refused += 1
        return refused

    filler = small_disk / "filler"
    with opened(small_disk) as intake:
        for _ in range(3):
            filler.write_bytes(b"")
            assert store(intake, 2) == 0
            with suppress(OSError), filler.open("ab", buffering=0) as file:
                while file.write(b"x" * 4096):
                    pass
            assert store(intake, 30) >= 29
            assert "No space left" in (intake.trouble or "")
            filler.unlink()
            until(lambda: _recovers(intake))
        statuses_now = statuses(intake, *acknowledged)
    assert set(statuses_now) == {DUPLICATE}
    stored = Counter(contents(small_disk))
    assert set(stored.values()) == {1}
    assert set(named(*acknowledged)) <= set(stored)


def _recovers(intake: Intake) -> bool:
    with suppress(LoopError):
        return bool(statuses(intake, event("probe")))
    return False


def test_a_ledger_that_fails_after_the_spool_took_a_group_is_opened_again_and_the_group_stored_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = record(datetime.now(UTC).replace(microsecond=0))
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.2)
    with opened(tmp_path) as intake:
        put(intake, suggestion(made))
        intake._ledger._keys.close()  # as it is after an error of its own: every use fails
        with pytest.raises(LoopError, match="expected to read the ledger"):
            put(intake, event("e1"))
    assert contents(tmp_path) == named(suggestion(made)), "it failed before the spool"

    with opened(tmp_path) as intake:
        with monkeypatch.context() as broken:
            broken.setattr(intake._ledger, "write", _fails)
            with pytest.raises(LoopError, match="write failed"):
                put(intake, event("e1", about=made.suggestion_id))
            with pytest.raises(LoopError, match="could not be opened again yet: write failed"):
                intake.suggestion(made.suggestion_id)
        until(lambda: intake._ledger is not None)
        assert intake.suggestion(made.suggestion_id) == made
        assert intake.last_event(made.suggestion_id) == "e1", "what the spool has was replayed"
        assert statuses(intake, event("e1"), event("e2")) == [DUPLICATE, STORED]
    assert contents(tmp_path) == named(suggestion(made), event("e1"), event("e2"))


def _fails(*_: object) -> None:
    raise LoopError("write failed")


def test_a_mistake_of_ours_in_the_committer_is_answered_and_the_thread_lives_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as intake:
        with monkeypatch.context() as broken:
            broken.setattr(intake._spool, "append", None)
            with pytest.raises(LoopError, match="the intake failed: TypeError"):
                put(intake, event("e1"))
        assert statuses(intake, event("e1")) == [STORED]


def test_a_second_intake_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(LoopError, match="expected no other writer"):
        Intake(tmp_path / "spool", tmp_path / "ledger")
    with opened(tmp_path) as intake:
        assert statuses(intake, event("e1")) == [STORED]


# -- kill -9 ----------------------------------------------------------------------------------------------------------


def feed(home: Path, acknowledged: Connection, seed: int) -> None:
    """Puts events from sixteen tasks, old and new ones, until it is killed; tells each answer."""
    draw = random.Random(seed)
    acknowledged.send([])  # from here on it may be killed: while it recovers, too
    intake = Intake(home / "spool", home / "ledger", segment_bytes=6000, segment_seconds=0.02)

    async def task() -> None:
        while True:
            keys = [f"e{draw.randrange(4000)}" for _ in range(draw.choice((1, 1, 5, 40)))]
            items = [event(key, draw.choice(("first", "first", "other")), at=datetime.now(UTC)) for key in keys]
            receipts = await intake.put(items)
            told = [(r.key, i.digest.hex(), r.status, r.received_at) for i, r in zip(items, receipts, strict=True)]
            acknowledged.send(told)

    async def tasks() -> None:
        await asyncio.gather(*[task() for _ in range(16)])

    asyncio.run(tasks())


@pytest.mark.parametrize("kills", [4, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_at_any_moment_what_was_acknowledged_is_stored_exactly_once(tmp_path: Path, kills: int) -> None:
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__])
    draw = random.Random(kills)
    answers: list[tuple[str, str, Status, datetime]] = []
    moved: list[bytes] = []

    def move() -> None:
        for segment in sealed(tmp_path / "spool"):
            moved.extend(frames(segment))
            segment.unlink()

    for kill in range(kills):
        ours, theirs = processes.Pipe(duplex=False)
        child = processes.Process(target=feed, args=(tmp_path, theirs, kill))
        child.start()
        theirs.close()
        assert ours.recv() == []
        # By turns after some time, within recovery too, and after some answers.
        seconds, puts = (draw.uniform(0.0, 0.2), 1 << 30) if kill % 2 else (60.0, draw.randrange(1, 60))
        deadline = time.monotonic() + seconds
        with suppress(EOFError):
            while puts > 0 and time.monotonic() < deadline:
                if ours.poll(0.01):
                    answers += ours.recv()
                    puts -= 1
                if draw.random() < 0.1:
                    move()
            child.kill()
            while True:
                answers += ours.recv()
        child.join()
        assert child.exitcode == -9

    with opened(tmp_path) as intake:
        again = {(key, digest): (status, at) for key, digest, status, at in answers}
        items = [event(key, "first") for key, _ in again] + [event(key, "other") for key, _ in again]
        items = [item for item in items if (item.key, item.digest.hex()) in again]
        receipts = put(intake, *items)
    move()
    stored = {(head.key, head.digest): head.at for head in (msgspec.json.decode(frame, type=Head) for frame in moved)}
    assert len(stored) == len(moved), "nothing is stored twice"
    assert set(again) <= set(stored), "nothing that was acknowledged is missing"
    assert len(answers) >= kills / 2
    assert STORED not in {receipt.status for receipt in receipts}
    times = {(i.key, i.digest.hex()): r.received_at for i, r in zip(items, receipts, strict=True)}
    for key, digest, status, at in answers:
        assert times[key, digest] == at == datetime.fromtimestamp(0, UTC) + timedelta(microseconds=stored[key, digest])
        assert status in Status
    assert max(Counter((key, digest) for key, digest, status, _ in answers if status is STORED).values()) == 1
