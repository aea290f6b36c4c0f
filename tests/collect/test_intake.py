"""The intake: what was acknowledged is stored exactly once, through kills, full disks and lost ledgers."""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import random
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loop.collect import intake as module
from loop.collect.intake import Head, Intake, Item, Receipt, SpoolFull, Status
from loop.collect.items import prepare, waiting
from loop.collect.served import Candidate, Message, SuggestionRecord
from loop.collect.spool import frames, sealed
from loop.errors import LoopError

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


@pytest.mark.parametrize(
    "item",
    [
        event("e1"),
        event("e2", about=f"s-{'0' * 32}"),
        Item("outcome", "o1", b"o" * 16, b'{"kind":"outcome","outcome":{}}', NOON + timedelta(microseconds=1)),
        suggestion(record(NOON)),
        suggestion(record(NOON, employee=None)),
    ],
)
def test_what_is_remembered_is_what_a_replay_reads(item: Item) -> None:
    made = prepare(item)
    assert waiting(made.frame) == made


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


# -- new, duplicate, conflict -----------------------------------------------------------------------------------------


def test_an_item_is_in_the_spool_when_its_receipt_comes(tmp_path: Path) -> None:
    with opened(tmp_path) as intake:
        item = event("e1", about="their id")
        assert put(intake, item) == [Receipt("e1", STORED, NOON)]
        (segment,) = (tmp_path / "spool").glob("*.open")
        assert [msgspec.json.decode(payload) for payload in frames(segment)] == [
            {
                "key": "e1",
                "digest": item.digest.hex(),
                "at": 1_767_614_400_000_000,
                "suggestion_id": "their id",
                "kind": "event",
                "event": {"event_id": "e1", "final_text": "first"},
            }
        ]


def test_a_duplicate_is_not_stored_and_gets_the_first_time_of_receipt(tmp_path: Path) -> None:
    later = NOON + timedelta(days=3)
    with opened(tmp_path) as intake:
        put(intake, event("e1"))
        assert put(intake, event("e1", at=later)) == [Receipt("e1", DUPLICATE, NOON)]
    with opened(tmp_path) as intake:
        assert put(intake, event("e1", at=later)) == [Receipt("e1", DUPLICATE, NOON)]
    assert contents(tmp_path) == named(event("e1"))


def test_a_conflict_is_kept_beside_the_first_once(tmp_path: Path) -> None:
    first, other, third = event("e1"), event("e1", "other", at=NOON + timedelta(hours=1)), event("e1", "third")
    with opened(tmp_path) as intake:
        assert statuses(intake, first) == [STORED]
        assert put(intake, other) == [Receipt("e1", CONFLICT, NOON + timedelta(hours=1))]
        again = event("e1", "other", at=NOON + timedelta(hours=2))
        assert put(intake, again) == [Receipt("e1", CONFLICT, NOON + timedelta(hours=1))]
    with opened(tmp_path) as intake:
        assert statuses(intake, other, third, first) == [CONFLICT, CONFLICT, DUPLICATE]
    assert contents(tmp_path) == named(first, other, third)


def test_inside_one_group_the_first_content_wins(tmp_path: Path) -> None:
    with opened(tmp_path) as intake:
        group = [event("e1"), event("e1", "other"), event("e2"), event("e1"), event("e1", "other"), event("e2")]
        assert statuses(intake, *group) == [STORED, CONFLICT, STORED, DUPLICATE, CONFLICT, DUPLICATE]
        counts = intake.counts
        assert (counts.stored, counts.duplicates, counts.conflicts, counts.refused) == (2, 2, 2, 0)
    assert sorted(contents(tmp_path)) == sorted(named(*group[:3]))
    assert contents(tmp_path)[-1:] == named(group[1]), "conflicts stand behind what they conflict with"


def test_an_event_and_an_outcome_of_one_key_are_two_things(tmp_path: Path) -> None:
    outcome = Item("outcome", "e1", b"o" * 16, b'{"kind":"outcome","outcome":{}}', NOON)
    with opened(tmp_path) as intake:
        assert statuses(intake, event("e1"), outcome) == [STORED, STORED]


def test_nothing_is_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as intake:
        assert put(intake) == []
        assert intake.counts.groups == 0
    assert contents(tmp_path) == []


@pytest.mark.parametrize(
    "item",
    [
        Item("event", "e1", b"short", b'{"kind":"event"}'),
        Item("event", "e1", b"d" * 16, b'{"kind":"outcome"}'),
        Item("event", "e1", b"d" * 16, b'{"kind":"event","key":"e2"}'),
        Item("event", "e1", b"d" * 16, b'{"kind":"event","text":"' + b"x" * (16 << 20) + b'"}'),
    ],
)
def test_an_item_that_could_not_be_read_again_is_our_own_mistake(tmp_path: Path, item: Item) -> None:
    with opened(tmp_path) as intake:
        with pytest.raises(AssertionError):
            put(intake, item)
        assert statuses(intake, event("e1")) == [STORED]


def test_many_at_once_share_groups_and_each_gets_its_own_answer(tmp_path: Path) -> None:
    async def all_at_once(intake: Intake) -> list[list[Receipt]]:
        return await asyncio.gather(*[intake.put([event(f"e{n // 2}"), event(f"f{n}")]) for n in range(400)])

    with opened(tmp_path) as intake:
        answers = asyncio.run(all_at_once(intake))
        assert [[receipt.key for receipt in answer] for answer in answers] == [
            [f"e{n // 2}", f"f{n}"] for n in range(400)
        ]
        assert Counter(receipt.status for answer in answers for receipt in answer) == {STORED: 600, DUPLICATE: 200}
        assert intake.counts.groups < 400
    assert Counter(contents(tmp_path)) == Counter(
        named(*[event(f"e{n}") for n in range(200)], *[event(f"f{n}") for n in range(400)])
    )


def test_two_event_loops_may_put_at_once(tmp_path: Path) -> None:
    answers: list[Status] = []
    with opened(tmp_path) as intake:
        threads = [
            threading.Thread(target=lambda n=n: answers.extend(statuses(intake, event(f"e{n}"), event("shared"))))
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert Counter(answers) == {STORED: 9, DUPLICATE: 7}


def test_a_cancelled_put_harms_nobody(tmp_path: Path) -> None:
    async def cancel(intake: Intake) -> list[Receipt]:
        gone = asyncio.ensure_future(intake.put([event("gone")]))
        await asyncio.sleep(0)
        gone.cancel()
        return await intake.put([event("stays")])

    with opened(tmp_path) as intake:
        assert asyncio.run(cancel(intake)) == [Receipt("stays", STORED, NOON)]
        assert statuses(intake, event("gone")) == [DUPLICATE]


def test_closing_stores_what_waits_and_refuses_what_comes_after(tmp_path: Path) -> None:
    async def close_behind(intake: Intake) -> list[list[Receipt]]:
        waiting = [asyncio.ensure_future(intake.put([event(f"e{n}")])) for n in range(50)]
        await asyncio.sleep(0)
        await asyncio.to_thread(intake.close)
        with pytest.raises(LoopError, match="closed"):
            await intake.put([event("late")])
        return await asyncio.gather(*waiting)

    with opened(tmp_path) as intake:
        answers = asyncio.run(close_behind(intake))
    assert {receipt.status for answer in answers for receipt in answer} == {STORED}
    assert contents(tmp_path) == named(*[event(f"e{n}") for n in range(50)])
    assert not list((tmp_path / "spool").glob("*.open")), "what is there can be moved on"


# -- suggestions ------------------------------------------------------------------------------------------------------


def test_a_suggestion_is_looked_up_and_knows_its_last_event(tmp_path: Path) -> None:
    made = record(datetime.now(UTC).replace(microsecond=0))
    name = made.suggestion_id
    with opened(tmp_path) as intake:
        assert (intake.suggestion(name), intake.last_event(name)) == (None, None)
        assert statuses(intake, suggestion(made)) == [STORED]
        assert (intake.suggestion(name), intake.last_event(name)) == (made, None)
        put(intake, event("e1", about=name), event("e2", about=name))
        put(intake, event("e1", about=name), event("e1", "conflicting", about=name))
        assert intake.last_event(name) == "e2", "neither a duplicate nor a conflict is the last event"
    with opened(tmp_path) as intake:
        assert (intake.suggestion(name), intake.last_event(name)) == (made, "e2")


def test_expired_suggestions_are_told_until_an_event_on_them_is_stored(tmp_path: Path) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    made = [record(now - timedelta(hours=hours)) for hours in (30, 29, 28, 1)]
    nobody = record(now - timedelta(hours=31), employee=None)
    day = now - timedelta(hours=24)
    with opened(tmp_path) as intake:
        put(intake, *map(suggestion, [*made, nobody]))
        assert intake.expired(day, 10) == made[:3]
        assert intake.expired(day, 2) == made[:2]
        put(intake, event(f"ignore:{made[0].suggestion_id}", about=made[0].suggestion_id))
        assert intake.expired(day, 10) == made[1:3]
    with opened(tmp_path) as intake:
        assert intake.expired(day, 10) == made[1:3]


def test_what_yields_is_not_stored_once_there_is_an_event_on_its_suggestion(tmp_path: Path) -> None:
    one, two, three = (record(datetime.now(UTC) + timedelta(seconds=n)).suggestion_id for n in range(3))

    def ignored(about: str) -> Item:
        return msgspec.structs.replace(event(f"ignore:{about}", about=about), yields=True)

    with opened(tmp_path) as intake:
        assert statuses(intake, event("e1", about=one)) == [STORED]
        assert statuses(intake, ignored(one)) == [DUPLICATE]
        assert statuses(intake, event("e2", about=two), ignored(two), ignored(three)) == [STORED, DUPLICATE, STORED]
        assert [intake.last_event(about) for about in (one, two, three)] == ["e1", "e2", f"ignore:{three}"]
        assert statuses(intake, ignored(three)) == [DUPLICATE]
    assert [key for key, _ in contents(tmp_path)] == ["e1", "e2", f"ignore:{three}"]


def test_suggestions_are_forgotten_after_forty_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    old, young = record(now - timedelta(days=41)), record(now - timedelta(days=39))
    with opened(tmp_path) as intake:
        put(intake, suggestion(old), suggestion(young))
        assert intake.suggestion(old.suggestion_id) == old, "not at once: the sweep comes first"
    monkeypatch.setattr(module, "_FORGET_SECONDS", 0.1)
    with opened(tmp_path) as intake:
        until(lambda: intake.suggestion(old.suggestion_id) is None)
        assert intake.suggestion(young.suggestion_id) == young
        assert statuses(intake, suggestion(old)) == [DUPLICATE], "its key is kept for ever"


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
