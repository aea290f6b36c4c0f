"""What of a person is in the gateway's stores is found, and goes; the gateway goes on meanwhile."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loop.collect import erasing, spool
from loop.collect.erasing import Named
from loop.collect.intake import Intake, Item, Status
from loop.collect.ledger import hashed
from loop.config import Settings

WHEN = datetime(2026, 1, 5, 12, tzinfo=UTC)
MINE, OTHER = f"s-{1:012x}{'a' * 20}", f"s-{2:012x}{'b' * 20}"


def item(kind: Any, key: str, content: bytes = b"0" * 16, about: str | None = None, **told: Any) -> Item:
    body = msgspec.json.encode({"kind": kind, kind: {f"{kind}_id": key, **told}})
    return Item(kind, key, content, body, WHEN, about)


def items(who: str = "p_me", other: str = "p_other") -> list[Item]:
    return [
        item("suggestion", MINE, employee=who, text="my prompt"),
        item("suggestion", OTHER, employee=other, text="their prompt"),
        item("event", "e-mine", about=MINE, suggestion_id=MINE, employee=who, text="my own words"),
        item("event", "e-other", about=OTHER, suggestion_id=OTHER, employee=other, text="their words"),
        item("outcome", "o-mine", suggestion_id=MINE),
        item("outcome", "o-other", suggestion_id=OTHER),
    ]


def put(settings: Settings, given: list[Item]) -> list[Status]:
    intake = Intake(settings.spool, settings.ledger)
    try:
        return [receipt.status for receipt in asyncio.run(intake.put(given))]
    finally:
        intake.close()


def files(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def forgotten(settings: Settings, named: Named) -> erasing.Erased:
    return erasing.forgotten(settings, "one", named, patience=20, wait=lambda: None)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


def test_what_there_is_is_found_by_the_name_alone_and_nothing_changes(settings: Settings) -> None:
    put(settings, items())
    before = files(settings.spool)
    named = Named(employees={"p_me"})
    found = erasing.look(settings, named)
    assert (named.events, named.suggestions, named.outcomes) == ({"e-mine"}, {MINE}, {"o-mine"})
    assert (found.suggestions, found.frames) == (1, 3)
    assert files(settings.spool) == before


def test_nobody_is_found_where_there_is_nothing(settings: Settings) -> None:
    named = Named(employees={"p_me"})
    assert erasing.look(settings, named) == erasing.Erased()
    assert forgotten(settings, named) == erasing.Erased()
    assert erasing.rewrite(settings, named) == erasing.Erased()


def test_spool_and_ledger_lose_one_person_and_nobody_else(settings: Settings) -> None:
    put(settings, items())
    named = Named(employees={"p_me"})
    erasing.look(settings, named)
    assert forgotten(settings, named).keys == 3
    assert erasing.rewrite(settings, named).frames == 3
    kept = [msgspec.json.decode(frame)["key"] for path in spool.sealed(settings.spool) for frame in spool.frames(path)]
    assert kept == [OTHER, "e-other", "o-other"]
    for needle in (b"p_me", b"my own words", b"my prompt", b"e-mine", MINE.encode()):
        assert needle not in files(settings.spool)
        assert needle not in files(settings.ledger)
    intake = Intake(settings.spool, settings.ledger)
    try:
        assert intake.suggestion(MINE) is None
        assert intake.last_event(MINE) is None
        assert intake.last_event(OTHER) == "e-other"
    finally:
        intake.close()


def test_what_is_sent_again_is_a_duplicate_whatever_it_says_now(settings: Settings) -> None:
    put(settings, items())
    named = Named(employees={"p_me"})
    erasing.look(settings, named)
    forgotten(settings, named)
    erasing.rewrite(settings, named)
    again = [
        item("event", "e-mine", about=MINE, suggestion_id=MINE, employee="p_me", text="my own words"),
        item("event", "e-mine", b"1" * 16, about=MINE, suggestion_id=MINE, employee="p_me", text="changed"),
        item("event", "e-new", about=None, suggestion_id="x", employee="p_me", text="a new day"),
    ]
    assert put(settings, again) == [Status.DUPLICATE, Status.DUPLICATE, Status.STORED]
    assert b"my own words" not in files(settings.spool)


def test_a_conflicting_content_goes_too(settings: Settings) -> None:
    put(settings, items())
    conflict = item("event", "e-mine", b"1" * 16, about=MINE, suggestion_id=MINE, employee="p_me", text="changed")
    assert put(settings, [conflict]) == [Status.CONFLICT]
    named = Named(events={"e-mine"})
    assert forgotten(settings, named).keys == 1
    assert erasing.rewrite(settings, named).frames == 2
    intake = Intake(settings.spool, settings.ledger)
    try:
        assert intake._held().find([hashed("event", "e-mine") + b"1" * 16]) == [None]
    finally:
        intake.close()


def test_the_front_that_holds_the_ledger_is_asked_and_goes_on_storing(settings: Settings) -> None:
    intake = Intake(settings.spool, settings.ledger, segment_seconds=60)
    told: list[erasing.Erased] = []
    named = Named(employees={"p_me"})

    async def front() -> int:
        await intake.put(items())
        erase = threading.Thread(target=lambda: told.append(forgotten(settings, named)))
        erase.start()
        stored = 0
        while erase.is_alive():
            stored += len(await intake.put([item("event", f"e-{stored}", suggestion_id="x", employee="p_other")]))
            await erasing.answer(settings.gateway, intake)
        return stored

    try:
        stored = asyncio.run(front())
    finally:
        intake.close()
    assert (told[0].keys, told[0].suggestions) == (1, 1), "the suggestion: the events are found by whoever asks"
    assert named.suggestions == {MINE}
    erasing.look(settings, named)
    assert erasing.rewrite(settings, named).frames == 3
    frames = [frame for path in spool.sealed(settings.spool) for frame in spool.frames(path)]
    assert len(frames) == 3 + stored
    erasing.tidied(settings, "one")
    assert not list((settings.gateway / "erasing").iterdir())


def test_a_segment_that_could_not_be_read_goes_if_it_holds_any(settings: Settings) -> None:
    put(settings, items())
    (settings.spool / "1.bad").write_bytes(b"\x01garbage p_me garbage")
    (settings.spool / "2.bad").write_bytes(b"\x01garbage p_other garbage")
    assert erasing.rewrite(settings, Named(employees={"p_me"})).files == 1
    assert not (settings.spool / "1.bad").exists()
    assert (settings.spool / "2.bad").exists()
