"""The clients and the example page against the real front, its intake and its gate; the model's texts are fixed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from loop.client import AsyncLoop, Loop, Pace, RefusedError, Status, UnavailableError
from loop.config import Settings
from loop.home import open_home
from loop.validate import inflow
from tests.client.pages import ARGUMENTS, CHROMIUM, needs_browser
from tests.client.pages import serving as tool_serving
from tests.gateway.fronts import TEXTS, Running, bearer, home_of, serving, wait

if TYPE_CHECKING:
    from playwright.sync_api import Page

FAST = Pace(tries=2, base=0.002, cap=1.0)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(home_of(tmp_path_factory.mktemp("front"), spool_segment_seconds=3600.0)) as running:
        yield running


def test_suggest_decide_revise_and_tell_the_outcome(front: Running) -> None:
    with Loop(front.url, bearer("desk")) as loop:
        shown = loop.suggest("ads", "an ad for shoes", employee="anna", team="north", task_id="t-1")
        first = loop.accept(shown, 1, dwell_ms=900)
        second = loop.modify(shown, "target old friends", 0)
        third = loop.modify(shown, "", 0)
        fourth = loop.reject(shown, employee="ben", reasons=["off brand"])
        fifth = loop.ignore(loop.suggest("ads", "an ad for shoes", employee="anna"))
        outcome = loop.outcome(shown, "click", 1.0)
    assert [(c.position, c.text) for c in shown.candidates] == [(0, TEXTS[0]), (1, TEXTS[1])]
    assert (shown.model_version, shown.arm_propensity, shown.order_propensity) == ("v7", 0.9, 0.5)
    receipts = (first, second, third, fourth, fifth, outcome)
    assert {r.status for r in receipts} == {Status.STORED}
    events = [front.event(r.key) for r in receipts[:5]]
    assert [(e["decision"], e.get("chosen"), e.get("final_text"), e.get("revises")) for e in events] == [
        ("accept", 1, TEXTS[1], None),
        ("modify", 0, "target old friends", first.key),
        ("modify", 0, "", second.key),
        ("reject", None, None, third.key),
        ("ignore", None, None, None),
    ]
    assert [e["reasons"] for e in events] == [[], [], ["deleted"], ["off brand"], []]
    assert events[0]["employee"] == events[1]["employee"] != events[3]["employee"]
    assert events[0]["employee"].startswith("p_")
    assert (events[0]["dwell_ms"], events[0]["team"], events[0]["task_id"]) == (900, "north", "t-1")
    (stored,) = [o for o in front.stored("outcome") if o["outcome_id"] == outcome.key]
    assert (stored["suggestion_id"], stored["name"], stored["value"]) == (shown.suggestion_id, "click", 1.0)
    assert first.received_at == datetime.fromisoformat(events[0]["_at"])


def test_told_again_it_is_a_duplicate_and_otherwise_a_conflict(front: Running) -> None:
    at = datetime.now(UTC)
    with Loop(front.url, bearer("desk")) as loop:
        shown = loop.suggest("moderation", "a post", employee="anna")
        first = loop.reject(shown, event_id="twice", decided_at=max(at, shown.shown_at))
        again = loop.reject(shown, event_id="twice", decided_at=max(at, shown.shown_at))
        assert (again.status, again.received_at) == (Status.DUPLICATE, first.received_at)
        with pytest.raises(RefusedError) as caught:
            loop.accept(shown, 0, event_id="twice")
    assert caught.value.status == 409


def test_what_may_not_be_is_refused(front: Running) -> None:
    with Loop(front.url, bearer("moderation"), pace=FAST) as loop:
        with pytest.raises(RefusedError) as caught:
            loop.suggest("ads", "a brief")
        assert caught.value.status == 403
        with pytest.raises(RefusedError) as caught:
            loop.reject("s-" + 32 * "0", employee="anna")
        assert caught.value.status == 404
    with Loop(front.url, bearer("moderation") + "x", pace=FAST) as loop, pytest.raises(RefusedError) as caught:
        loop.suggest("moderation", "a post")
    assert caught.value.status == 401
    with Loop(front.url, bearer("slow"), pace=FAST) as loop:
        for _ in range(2):  # 6 a minute, and 2 at once
            loop.suggest("ads", "a brief")
        with pytest.raises(UnavailableError) as late:
            loop.suggest("ads", "a brief")
    assert late.value.retry_after is not None
    assert late.value.retry_after >= 1.0


def test_an_outbox_across_a_restart_of_the_front(tmp_path: Path) -> None:
    settings = home_of(tmp_path, spool_segment_seconds=3600.0)
    with serving(settings) as front, Loop(front.url, bearer("desk"), outbox=tmp_path / "o", pace=FAST) as loop:
        shown = loop.suggest("ads", "a brief", employee="anna")
        stored, gone = loop.accept(shown, 0), front.url
    with Loop(gone, bearer("desk"), outbox=tmp_path / "o", pace=FAST) as loop:
        waiting = [loop.modify(shown, f"target {n}", 0) for n in range(3)]
        poisoned = loop.accept(shown.suggestion_id, 7)
        waiting.append(loop.outcome(shown, "click", 2.0))
        assert {r.status for r in (*waiting, poisoned)} == {Status.WAITING}
    (tmp_path / "o" / "cursor").unlink()  # a crash: everything that is left is sent again
    with serving(settings) as front, Loop(front.url, bearer("desk"), outbox=tmp_path / "o", pace=FAST) as loop:
        assert loop.outbox is not None
        state = loop.flush(20)
        assert (state.waiting, state.trouble) == (0, None)
        assert [(r.key, r.status) for r in loop.outbox.refused()] == [(poisoned.key, 422)]
        keys = [stored.key, *(r.key for r in waiting[:3])]
        assert [e["event_id"] for e in front.stored("event")] == keys
        assert [e.get("revises") for e in front.stored("event")] == [None, *keys[:3]]
        assert [o["value"] for o in front.stored("outcome")] == [2.0]


def test_many_at_once_from_asyncio(front: Running, tmp_path: Path) -> None:
    async def work() -> list[str]:
        async with AsyncLoop(front.url, bearer("desk"), outbox=tmp_path / "o") as loop:
            shown = await asyncio.gather(*(loop.suggest("ads", "a brief", employee=f"e{n}") for n in range(20)))
            receipts = await asyncio.gather(*(loop.accept(each, 1) for each in shown))
        assert {r.status for r in receipts} == {Status.STORED}
        return [r.key for r in receipts]

    keys = asyncio.run(work())
    assert sorted(keys) == sorted(e["event_id"] for e in front.stored("event") if e["event_id"] in keys)


@pytest.fixture
def ended(tmp_path: Path) -> Iterator[Running]:
    """A front of its own, whose spool a test may move on."""
    with serving(home_of(tmp_path, spool_segment_seconds=0.2)) as running:
        yield running


@pytest.fixture
def page(ended: Running) -> Iterator[Page]:
    from playwright.sync_api import sync_playwright

    with tool_serving(ended.url, bearer("desk")) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page()
        page.set_default_timeout(20_000)
        page.goto(url)
        yield page
        browser.close()


def both(page: Page) -> None:
    for desk in 1, 2:
        page.wait_for_selector(f".desk:nth-of-type({desk}) form:visible")


@pytest.mark.slow
@needs_browser
def test_the_example_page_accepts_edits_rejects_and_comes_back_and_the_lake_has_it(
    page: Page, ended: Running, settings: Settings
) -> None:
    both(page)
    page.keyboard.press("2")
    both(page)
    page.keyboard.press("e")
    page.keyboard.press("Control+a")
    page.keyboard.type("hide for taste, severity minor, then watch")
    page.keyboard.press("Control+Enter")
    both(page)
    page.keyboard.press("r")
    both(page)
    page.context.set_offline(True)
    page.keyboard.press("1")
    page.keyboard.press("e")
    page.keyboard.press("Control+a")
    page.keyboard.type("written offline, sent later: größer")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#link:text('Offline, 2 decisions wait on this device')")
    assert len(ended.stored("event")) == 3
    page.context.set_offline(False)
    page.wait_for_selector("#link:text('Online, all sent')")
    wait(lambda: not any(ended.settings.spool.glob("*.open")))
    with open_home(ended.settings.model_copy(update={"postgres_url": settings.postgres_url})) as home:
        inflow.drain(home.settings, home.lake, home.state)
        rows = sorted(home.lake.read("interactions").to_pylist(), key=lambda row: row["decided_at"])
    assert [(row["workflow"], row["decision"], row["final_text"]) for row in rows] == [
        ("ads", "accept", TEXTS[1]),
        ("moderation", "modify", "hide for taste, severity minor, then watch"),
        ("ads", "reject", None),
        ("moderation", "accept", TEXTS[0]),
        ("ads", "modify", "written offline, sent later: größer"),
    ]
    assert len({row["employee"] for row in rows}) == 1
