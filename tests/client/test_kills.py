"""Whatever fails, stops or is killed, and in whichever order: what was told is at the gateway, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loop.client import Loop, Outbox, Pace, RefusedError, Status
from tests.client.server import TOKEN, Fault, Gateway

FAST = Pace(tries=2, base=0.001, cap=0.05)
UNKNOWN = "unknown"

FAULTS = st.sampled_from(
    [
        Fault(status=503),
        Fault(status=429, retry_after="0.01"),
        Fault(status=500),
        Fault(drop=True),
        Fault(cut=True),
        Fault(body=b"<html>log in"),
        Fault(status=404, body=b"<html>not the gateway's"),
        Fault(status=401),
    ]
)
STEPS = st.one_of(
    st.tuples(st.just("tell"), st.sampled_from(["s", "s", "s", UNKNOWN])),
    st.tuples(st.just("fault"), FAULTS),
    st.tuples(st.sampled_from(["stop", "start", "flush", "reopen", "restore", "lose the cursor"]), st.none()),
)


class Life:
    """A gateway, an outbox and a client of it, and what became of what was told."""

    def __init__(self, folder: str) -> None:
        self.gateway = Gateway(suggestions={"s": "ads"})
        self.gateway.start()
        self.outbox = Outbox(folder, segment_bytes=300)
        self.loop = self.opened()
        self.kept: set[str] = set()
        self.refused: set[str] = set()

    def opened(self) -> Loop:
        return Loop(self.gateway.url, TOKEN, outbox=self.outbox, pace=FAST, timeout=1.0)

    def tell(self, key: str, suggestion: str) -> None:
        try:
            self.loop.reject(suggestion, event_id=key, reasons=[key])
            self.kept.add(key)
        except RefusedError as error:
            (self.kept if error.kept else self.refused).add(key)

    def start(self) -> None:
        if self.gateway.server is None:
            self.gateway.start()

    def reopen(self) -> None:
        self.loop.close()
        self.loop = self.opened()

    def lose_the_cursor(self) -> None:
        self.loop.close()
        (self.outbox.folder / "cursor").unlink(missing_ok=True)
        self.loop = self.opened()

    def step(self, key: str, name: str, what: object) -> None:
        if name == "tell":
            self.tell(key, str(what))
        elif isinstance(what, Fault):
            self.gateway.faults.append(what)
        else:
            {
                "stop": self.gateway.stop,
                "start": self.start,
                "flush": self.loop.flush,
                "reopen": self.reopen,
                "restore": self.outbox.restore,
                "lose the cursor": self.lose_the_cursor,
            }[name]()


@pytest.mark.slow
@given(st.lists(STEPS, max_size=25))
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_order_of_calls_and_failures_loses_and_doubles_nothing(steps: list[tuple[str, object]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        life = Life(folder)
        try:
            for number, (name, what) in enumerate(steps):
                life.step(f"e{number}", name, what)
            life.gateway.faults.clear()
            life.start()
            state = life.loop.flush()
            assert (state.waiting, state.trouble) == (0, None)
            aside = {refusal.key for refusal in life.outbox.refused()}
        finally:
            life.loop.close()
            life.gateway.stop()
    stored = set(life.gateway.stored)
    assert stored == {key for key in life.kept if steps[int(key[1:])][1] != UNKNOWN}
    assert life.kept - stored <= aside <= (life.kept | life.refused) - stored
    assert [item["reasons"] for item in life.gateway.stored.values()] == [[key] for key in life.gateway.stored]
    assert life.gateway.conflicts == []


_TOOL = """
import sys
from loop.client import Loop, Outbox, Pace
url, token, folder, first = sys.argv[1:]
loop = Loop(url, token, outbox=Outbox(folder, segment_bytes=2000), pace=Pace(tries=2, base=0.001, cap=0.05))
n = int(first)
while True:
    receipt = loop.reject("s", reasons=[f"n{n}"])
    print(f"n{n} {receipt.key}", flush=True)
    n += 1
"""


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(
            st.floats(0.0, 0.25),  # seconds from the first receipts to the kill
            st.lists(st.one_of(FAULTS.filter(lambda f: f.status != 401), st.just(Fault())), max_size=12),
            st.booleans(),  # whether the gateway is away at the kill
        ),
        min_size=1,
        max_size=3,
    )
)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_kill_9_of_two_processes_that_share_an_outbox(lives: list[tuple[float, list[Fault], bool]]) -> None:
    gateway = Gateway(suggestions={"s": "ads"})
    gateway.start()
    promised: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            for life, (seconds, faults, is_away) in enumerate(lives):
                gateway.faults = list(faults)
                promised |= _lived(gateway, folder, 20_000 * life, seconds, is_away=is_away)
                if gateway.server is None:
                    gateway.start()
            gateway.faults.clear()
            with Loop(gateway.url, TOKEN, outbox=folder, pace=FAST) as loop:
                deadline = time.monotonic() + 20
                while loop.flush().waiting and time.monotonic() < deadline:
                    time.sleep(0.02)
                assert (loop.state().waiting, loop.state().refused) == (0, 0)
        finally:
            gateway.stop()
    told = {key: item["reasons"][0] for key, item in gateway.stored.items()}
    assert promised.items() <= told.items()
    assert len(set(told.values())) == len(told)  # nothing twice, under whichever key
    assert gateway.conflicts == []


def _lived(gateway: Gateway, folder: str, first: int, seconds: float, *, is_away: bool) -> dict[str, str]:
    """Two processes that tell what they can until both are killed; key to number of what they were promised."""
    words = [sys.executable, "-c", _TOOL, gateway.url, TOKEN, folder]
    tools = [subprocess.Popen([*words, str(first + 10_000 * i)], stdout=subprocess.PIPE, text=True) for i in range(2)]
    outputs = []
    for tool in tools:
        assert tool.stdout is not None
        outputs.append(tool.stdout.readline())
    if is_away:
        gateway.stop()
    time.sleep(seconds)
    for tool in tools:
        os.kill(tool.pid, signal.SIGKILL)
    for i, tool in enumerate(tools):
        outputs[i] += tool.communicate()[0]
    lines = [line.split() for output in outputs for line in output.splitlines() if line.count(" ") == 1]
    return {key: number for number, key in lines if len(key) == 36}


def test_what_a_killed_process_was_promised_is_on_the_disk(tmp_path: Path) -> None:
    gateway = Gateway(suggestions={"s": "ads"})
    gateway.start()
    gateway.stop()
    words = [sys.executable, "-c", _TOOL, gateway.url, TOKEN, str(tmp_path / "o"), "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as tool:
        assert tool.stdout is not None
        lines = [tool.stdout.readline() for _ in range(5)]
        os.kill(tool.pid, signal.SIGKILL)
    outbox = Outbox(tmp_path / "o")
    waiting = [entry.item.key for entry in outbox.waiting(5, 1 << 20) if entry.item]
    assert waiting == [line.split()[1] for line in lines]
    gateway.start()
    with Loop(gateway.url, TOKEN, outbox=outbox) as loop:
        assert loop.flush().waiting == 0
        assert loop.reject("s").status is Status.STORED
    assert list(gateway.stored)[:5] == waiting
    gateway.stop()
