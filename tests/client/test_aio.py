from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from loop.client import AsyncLoop, GatewayError, Pace, RefusedError, Status, UnavailableError
from tests.client.server import AD, TOKEN, Fault, Gateway

FAST = Pace(tries=3, base=0.002, cap=1.0)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 30))


def test_suggest_decide_and_tell_the_outcome(gateway: Gateway) -> None:
    async def work() -> None:
        async with AsyncLoop(gateway.url, TOKEN, pace=FAST) as loop:
            gateway.faults = [Fault(status=503), Fault(drop=True)]
            shown = await loop.suggest("ads", "a brief")
            assert tuple(c.text for c in shown.candidates) == AD
            receipts = [
                await loop.accept(shown, 1),
                await loop.modify(shown, "other", 0),
                await loop.reject(shown),
                await loop.ignore(shown),
                await loop.outcome(shown, "click", 1.0),
            ]
            assert {r.status for r in receipts} == {Status.STORED}
            assert list(gateway.stored) == [r.key for r in receipts]
            with pytest.raises(GatewayError, match="make it with outbox=FOLDER"):
                await loop.flush()

    run(work())
    decisions = [item.get("decision", item.get("name")) for item in gateway.stored.values()]
    assert decisions == ["accept", "modify", "reject", "ignore", "click"]


def test_a_cut_answer_is_a_duplicate_and_a_refusal_is_raised(gateway: Gateway) -> None:
    async def work() -> None:
        async with AsyncLoop(gateway.url, TOKEN, pace=FAST) as loop:
            shown = await loop.suggest("ads", "a brief")
            gateway.faults = [Fault(cut=True)]
            receipt = await loop.reject(shown)
            assert (receipt.status, gateway.duplicates) == (Status.DUPLICATE, [receipt.key])
            with pytest.raises(RefusedError, match="404"):
                await loop.reject("unknown")
            gateway.away = Fault(status=503)
            with pytest.raises(UnavailableError, match="503"):
                await loop.reject(shown)
            with pytest.raises(UnavailableError, match="503"):
                await loop.suggest("ads", "a brief")

    run(work())
    assert len(gateway.stored) == 1


def test_a_suggestion_that_takes_too_long_is_not_asked_for_twice(gateway: Gateway) -> None:
    async def work() -> None:
        async with AsyncLoop(gateway.url, TOKEN, pace=FAST, timeout=0.1) as loop:
            with pytest.raises(UnavailableError, match="ReadTimeout"):
                await loop.suggest("ads", "a brief")
            await asyncio.sleep(0.6)

    gateway.away = Fault(delay=0.4)
    run(work())
    assert len(gateway.requests) == 1


def test_away_and_back(gateway: Gateway, tmp_path: Path) -> None:
    async def work() -> None:
        name = str(gateway.suggest()["suggestion_id"])
        async with AsyncLoop(gateway.url, TOKEN, outbox=tmp_path / "o", pace=FAST) as loop:
            gateway.stop()
            receipts = [await loop.reject(name) for _ in range(3)]
            assert {r.status for r in receipts} == {Status.WAITING}
            assert (await loop.state()).waiting == 3
            gateway.start()
            assert (await loop.flush()).waiting == 0
            assert (await loop.reject(name)).status is Status.STORED
            assert list(gateway.stored)[:3] == [r.key for r in receipts]
            with pytest.raises(RefusedError, match="404"):
                await loop.reject("unknown")

    run(work())


def test_many_at_once_share_their_requests(gateway: Gateway, tmp_path: Path) -> None:
    async def work() -> None:
        name = str(gateway.suggest()["suggestion_id"])
        async with AsyncLoop(gateway.url, TOKEN, outbox=tmp_path / "o") as loop:
            gateway.faults = [Fault(delay=0.2)]
            receipts = await asyncio.gather(*(loop.reject(name) for _ in range(50)))
        assert {r.status for r in receipts} == {Status.STORED}
        assert sorted(gateway.stored) == sorted(r.key for r in receipts)

    run(work())
    assert len(gateway.requests) < 25


def test_a_call_that_takes_too_long_or_is_cancelled_is_still_delivered_once(gateway: Gateway, tmp_path: Path) -> None:
    async def work() -> None:
        name = str(gateway.suggest()["suggestion_id"])
        async with AsyncLoop(gateway.url, TOKEN, outbox=tmp_path / "o", timeout=0.2, pace=FAST) as loop:
            gateway.away = Fault(delay=0.6)
            assert (await loop.reject(name, event_id="slow")).status is Status.WAITING
            task = asyncio.create_task(loop.reject(name, event_id="cancelled"))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            gateway.away = None
            assert (await loop.flush(10.0)).waiting == 0

    run(work())
    assert list(gateway.stored) == ["slow", "cancelled"]
