from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from loop.client import GatewayError, Loop, Outbox, OutboxFullError, Pace, Refusal, RefusedError, Status
from loop.client.courier import Courier
from loop.client.wire import Item
from tests.client.server import TOKEN, Fault, Gateway

FAST = Pace(tries=2, base=0.002, cap=1.0)


def until(what: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


def suggestion(gateway: Gateway) -> str:
    return str(gateway.suggest()["suggestion_id"])


def test_away_and_back_everything_arrives_in_order_by_itself(gateway: Gateway, tmp_path: Path) -> None:
    name = suggestion(gateway)
    with Loop(gateway.url, TOKEN, outbox=tmp_path / "o", pace=FAST) as loop:
        gateway.stop()
        receipts = [loop.accept(name, n) for n in range(3)]
        receipts.append(loop.outcome(name, "click", 1.0))
        receipts.append(loop.reject(name))
        assert {(r.status, r.received_at) for r in receipts} == {(Status.WAITING, None)}
        assert (loop.state().waiting, loop.state().refused) == (5, 0)
        assert "no answer from the gateway (ConnectError)" in (loop.state().trouble or "")
        gateway.start()
        until(lambda: loop.state().waiting == 0)
        until(lambda: loop.state().trouble is None)
        assert loop.reject(name).status is Status.STORED
    assert list(gateway.stored)[:5] == [r.key for r in receipts]
    assert [type(body).__name__ for _, body, _ in gateway.requests] == ["list", "dict", "dict", "dict"]
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == ["cursor", "lock", "sender"]


def test_a_short_absence_is_not_noticed(gateway: Gateway, tmp_path: Path) -> None:
    gateway.faults = [Fault(drop=True)]
    with Loop(gateway.url, TOKEN, outbox=tmp_path / "o", pace=FAST) as loop:
        assert loop.reject(suggestion(gateway)).status is Status.STORED


def test_while_the_gateway_is_away_calls_return_at_once(gateway: Gateway, tmp_path: Path) -> None:
    gateway.away = Fault(status=503, retry_after="60")
    with Loop(gateway.url, TOKEN, outbox=tmp_path / "o", pace=FAST) as loop:
        name = suggestion(gateway)
        loop.reject(name)
        began = time.monotonic()
        for _ in range(20):
            assert loop.reject(name).status is Status.WAITING
        assert time.monotonic() - began < 2.0
        gateway.away = None
        assert loop.flush().waiting == 0
    assert len(gateway.stored) == 21


def test_a_slow_gateway_is_not_waited_for_longer_than_the_timeout(gateway: Gateway, tmp_path: Path) -> None:
    gateway.away = Fault(delay=0.6)
    with Loop(gateway.url, TOKEN, outbox=tmp_path / "o", timeout=0.2) as loop:
        receipt = loop.reject(suggestion(gateway))
        assert receipt.status is Status.WAITING
        gateway.away = None
        until(lambda: loop.flush().waiting == 0)
    assert list(gateway.stored) == [receipt.key]


def test_an_answer_cut_off_half_way_stores_once(gateway: Gateway, tmp_path: Path) -> None:
    gateway.faults = [Fault(cut=True), Fault(cut=True), Fault()]
    with Loop(gateway.url, TOKEN, outbox=tmp_path / "o", pace=FAST) as loop:
        receipt = loop.reject(suggestion(gateway))
        assert receipt.status is Status.WAITING
        assert loop.flush().waiting == 0
    assert list(gateway.stored) == [receipt.key]
    assert gateway.duplicates == [receipt.key] * 2


def test_a_refusal_is_told_to_who_waits_for_it_and_is_not_set_aside(gateway: Gateway, tmp_path: Path) -> None:
    with Loop(gateway.url, TOKEN, outbox=tmp_path / "o") as loop:
        with pytest.raises(RefusedError, match=r"refused with 404: expected a suggestion of this gateway$"):
            loop.reject("unknown")
        assert (loop.state().waiting, loop.state().refused) == (0, 0)


def test_poisoned_items_are_set_aside_and_hold_up_nobody(gateway: Gateway, tmp_path: Path) -> None:
    name = suggestion(gateway)
    with Loop(gateway.url, TOKEN, outbox=tmp_path / "o", pace=FAST) as loop:
        gateway.away = Fault(status=503)
        told = [loop.reject(n) for n in (name, "unknown", name)]
        conflict = loop.accept(name, 0, event_id=told[0].key)
        last = loop.reject(name)
        gateway.away = None
        state = loop.flush()
        assert (state.waiting, state.refused, state.trouble) == (0, 2, None)
        assert loop.outbox is not None
        assert loop.outbox.refused() == [
            Refusal(told[1].key, "feedback", 404, "expected a suggestion of this gateway"),
            Refusal(conflict.key, "feedback", 409, "other content under the same key"),
        ]
        assert list(gateway.stored) == [told[0].key, told[2].key, last.key]
        gateway.suggestions["unknown"] = "ads"
        assert loop.outbox.restore() == 2
        assert (loop.flush().waiting, loop.state().refused) == (0, 1)
    assert told[1].key in gateway.stored


def test_an_unreadable_line_holds_up_nobody(gateway: Gateway, tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o")
    outbox.append(Item("feedback", "a", b'{"event_id":"a","suggestion_id":"s","decision":"reject"}'))
    with (tmp_path / "o" / "000000000001.jsonl").open("ab") as file:
        file.write(b"damaged\n")
    gateway.suggestions["s"] = "ads"
    with Loop(gateway.url, TOKEN, outbox=outbox) as loop:
        assert loop.reject("s").status is Status.STORED
        assert (loop.state().waiting, loop.state().refused) == (0, 1)
    assert next(iter(gateway.stored)) == "a"
    assert len(gateway.stored) == 2


@pytest.mark.parametrize("count", [1, 3])
def test_a_refused_token_keeps_everything_and_says_so(gateway: Gateway, tmp_path: Path, count: int) -> None:
    name = suggestion(gateway)
    with Loop(gateway.url, "loop_wrong", outbox=tmp_path / "o", pace=FAST) as loop:
        for _ in range(count):
            with pytest.raises(RefusedError, match="401: unknown token; what was told waits in the outbox") as caught:
                loop.reject(name)
            assert caught.value.kept
        loop.flush()
        assert (loop.state().waiting, loop.state().refused) == (count, 0)
    with Loop(gateway.url, TOKEN, outbox=tmp_path / "o") as loop:
        assert loop.flush().waiting == 0
    assert len(gateway.stored) == count


def test_a_full_outbox_records_nothing_more(gateway: Gateway, tmp_path: Path) -> None:
    gateway.away = Fault(status=503)
    name = suggestion(gateway)
    with Loop(gateway.url, TOKEN, outbox=Outbox(tmp_path / "o", limit_bytes=500), pace=FAST) as loop:
        kept = [loop.reject(name) for _ in range(2)]
        with pytest.raises(OutboxFullError, match="is full"):
            loop.reject(name)
        gateway.away = None
        assert loop.flush().waiting == 0
        assert loop.reject(name).status is Status.STORED
    assert list(gateway.stored)[:2] == [r.key for r in kept]


def test_what_a_closed_client_left_the_next_one_delivers(gateway: Gateway, tmp_path: Path) -> None:
    name = suggestion(gateway)
    gateway.stop()
    with Loop(gateway.url, TOKEN, outbox=tmp_path / "o", pace=FAST) as loop:
        receipt = loop.reject(name)
    with pytest.raises(GatewayError, match="expected an open client, this one is closed"):
        loop.reject(name)
    gateway.start()
    with Loop(gateway.url, TOKEN, outbox=tmp_path / "o"):
        until(lambda: receipt.key in gateway.stored)


def test_closing_does_not_wait_for_an_absent_gateway(gateway: Gateway, tmp_path: Path) -> None:
    gateway.away = Fault(status=503)
    began = time.monotonic()
    with Loop(gateway.url, TOKEN, outbox=tmp_path / "o", pace=Pace(tries=9, base=50.0, cap=60.0), timeout=0.2) as loop:
        assert loop.reject(suggestion(gateway)).status is Status.WAITING
    assert time.monotonic() - began < 3.0


def test_a_client_without_an_outbox_says_that_it_has_none(gateway: Gateway) -> None:
    with Loop(gateway.url, TOKEN) as loop, pytest.raises(GatewayError, match="make it with outbox=FOLDER"):
        loop.flush()


def test_a_backlog_goes_in_arrays(gateway: Gateway, tmp_path: Path) -> None:
    outbox, name = Outbox(tmp_path / "o"), suggestion(gateway)
    for n in range(450):
        body = f'{{"event_id":"e{n}","suggestion_id":"{name}","decision":"reject"}}'.encode()
        outbox.append(Item("feedback", f"e{n}", body))
    with Loop(gateway.url, TOKEN, outbox=outbox) as loop:
        assert loop.flush().waiting == 0
    assert [len(body) for _, body, _ in gateway.requests] == [200, 200, 50]
    assert list(gateway.stored) == [f"e{n}" for n in range(450)]


def test_an_array_that_is_refused_as_a_whole_is_asked_about_one_by_one(gateway: Gateway, tmp_path: Path) -> None:
    name = suggestion(gateway)
    with Loop(gateway.url, TOKEN, outbox=tmp_path / "o", pace=FAST) as loop:
        gateway.away = Fault(status=503)
        receipts = [loop.reject(name) for _ in range(3)]
        gateway.away, gateway.faults = None, [Fault(status=413)]
        assert loop.flush().waiting == 0
    assert list(gateway.stored) == [r.key for r in receipts]


def _elsewhere(url: str, folder: str, name: str, count: int) -> None:
    with Loop(url, TOKEN, outbox=folder, pace=FAST) as loop:
        for _ in range(count):
            assert loop.reject(name).status in (Status.STORED, Status.WAITING)
        until(lambda: loop.flush().waiting == 0)


def test_processes_share_an_outbox(gateway: Gateway, tmp_path: Path) -> None:
    name = suggestion(gateway)
    context = multiprocessing.get_context("spawn")
    words = (gateway.url, str(tmp_path / "o"), name, 30)
    processes = [context.Process(target=_elsewhere, args=words) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert len(gateway.stored) == 90
    assert gateway.duplicates == []
    assert gateway.conflicts == []


def test_who_waits_is_told_when_another_process_sent_it(gateway: Gateway, tmp_path: Path) -> None:
    gateway.suggestions["s"] = "ads"
    outbox = Outbox(tmp_path / "o")
    item = [
        Item("feedback", k, f'{{"event_id":"{k}","suggestion_id":"{s}","decision":"reject"}}'.encode())
        for k, s in (("good", "s"), ("bad", "unknown"))
    ]
    with Outbox(tmp_path / "o").sending() as is_mine:
        assert is_mine
        with Loop(gateway.url, TOKEN) as direct:
            courier = Courier(outbox, lambda route, body: direct._client.post(route, content=body), FAST)
            futures = [courier.submit(each) for each in item]
            good, bad = outbox.waiting(2, 1 << 20)
            outbox.set_aside(bad, 404, "unknown")
            outbox.advance(bad.end)
            assert futures[0].result(5).status is Status.STORED
            assert futures[0].result().received_at is None
            with pytest.raises(RefusedError, match="404: unknown"):
                futures[1].result(5)
            courier.close(5)
    assert good.item == item[0]
    assert gateway.stored == {}


_HOLDER = """
import sys, time
from loop.client import Outbox
with Outbox(sys.argv[1]).sending():
    print(flush=True)
    time.sleep(60)
"""


def test_a_stopped_process_that_holds_the_turn_delays_but_loses_nothing(gateway: Gateway, tmp_path: Path) -> None:
    name = suggestion(gateway)
    words = [sys.executable, "-c", _HOLDER, str(tmp_path / "o")]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with Loop(gateway.url, TOKEN, outbox=tmp_path / "o", timeout=0.2) as loop:
            receipt = loop.reject(name)
            assert receipt.status is Status.WAITING
            os.kill(process.pid, signal.SIGKILL)
            until(lambda: receipt.key in gateway.stored)
