"""The intake: new, duplicate, conflict; suggestions and what is known of them."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from loop.collect import intake as module
from loop.collect.intake import Intake, Item, Receipt, Status
from loop.collect.items import prepare, waiting
from loop.collect.spool import frames
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
