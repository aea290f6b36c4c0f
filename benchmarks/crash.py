"""Is what the gateway acknowledged stored exactly once, however often it is killed?

    python benchmarks/crash.py [--kills 200] [--seed 0] [--json]

The real front takes whole events over HTTP, one at a time and in batches, from clients that send again with the same
key until they are answered, as a client must. It is killed with SIGKILL at random moments: while it starts, under load,
while it seals. Beside it the mover takes sealed segments to the lake and is killed as well, before, while and after it
lands, builds and removes them. In the end everything is moved, and what was acknowledged is compared with
`interactions`, content by content. An event that was sent and not acknowledged may be stored, once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from loop import config
from loop.config import Settings
from loop.home import Home, open_home

CLIENTS = 8
BATCH = 50
SEGMENT_SECONDS = "0.2"
START = datetime(2026, 1, 5, 8, tzinfo=UTC)
MOVE = """
from loop import config
from loop.home import open_home
from loop.validate import inflow
with open_home(config.load()) as home:
    inflow.drain(home.settings, home.lake, home.state)
"""


@dataclass
class Told:
    """What the clients sent, and what of it was acknowledged: event_id to final text."""

    sent: dict[str, str] = field(default_factory=dict)
    acknowledged: dict[str, str] = field(default_factory=dict)
    statuses: Counter[str] = field(default_factory=Counter)


def event(key: str, number: int) -> dict[str, Any]:
    """A whole event whose final text is its own."""
    shown = START + timedelta(seconds=number % 3600)
    return {
        "event_id": key,
        "suggestion_id": f"elsewhere-{key}",
        "workflow": ("ads", "comms")[number % 2],
        "shown_at": shown.isoformat(),
        "decided_at": (shown + timedelta(seconds=5)).isoformat(),
        "employee": f"person {number % 30}",
        "visibility": [],
        "prompt": [{"role": "user", "content": f"brief {number}"}],
        "candidates": [{"position": 0, "text": "first", "logprob": None}],
        "model_version": "theirs",
        "decision": "modify",
        "chosen": 0,
        "final_text": f"text of {key}",
        "reasons": [],
        "purposes": ["training"],
    }


def client(number: int, url: str, token: str, told: Told, stop: threading.Event) -> None:
    """Send, every fourth time a batch; the same again until it is answered."""
    headers = {"authorization": f"Bearer {token}"}
    made = 0
    with httpx.Client(base_url=url, headers=headers, timeout=5.0) as http:
        while not stop.is_set():
            count = BATCH if made % 4 == 3 else 1
            events = [event(f"{number}-{made}-{n}", made * 7 + n) for n in range(count)]
            made += 1
            told.sent |= {one["event_id"]: one["final_text"] for one in events}
            path = "/v1/feedback" if count == 1 else "/v1/feedback/batch"
            body = "\n".join(json.dumps(one) for one in events).encode()
            while True:  # also after `stop`: until it is answered
                try:
                    reply = http.post(path, content=body)
                except httpx.TransportError:
                    time.sleep(0.02)
                    continue
                if reply.status_code == 200:
                    break
                told.statuses[str(reply.status_code)] += 1
                time.sleep(0.05)
            answer = reply.json()
            for result in answer.get("results", [answer]):
                assert result["status"] in {"stored", "duplicate"}, result
                told.statuses[result["status"]] += 1
                told.acknowledged[result["event_id"]] = f"text of {result['event_id']}"


def killing(settings: Settings, port: int, kills: int, seed: int, step: Any = None) -> Counter[str]:
    """Start front and mover again and again, and kill each after a random time; how often which was killed when."""
    rng, killed = random.Random(seed), Counter[str]()
    environment = {**os.environ, **settings.as_environment(), "LOOP_SPOOL_SEGMENT_SECONDS": SEGMENT_SECONDS}
    front = [sys.executable, "-m", "loop.gateway.run", "front", "--port", str(port)]
    mover = [sys.executable, "-c", MOVE]
    for number in range(kills):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
        with subprocess.Popen(front, **quiet) as running, subprocess.Popen(mover, **quiet) as moving:
            early = rng.random() < 0.15  # while it starts
            if not early:
                await_health(port, running)
            time.sleep(rng.uniform(0.0, 0.6))
            killed["front, starting" if early else "front, serving"] += running.poll() is None
            running.kill()
            time.sleep(rng.uniform(0.0, 0.6))
            killed["mover"] += moving.poll() is None
            moving.kill()
        if step is not None:
            step(number + 1)
    return killed


def await_health(port: int, running: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while running.poll() is None and time.monotonic() < until:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=1).status_code == 200:
                return
        time.sleep(0.02)
    raise RuntimeError(f"the front did not start; it ended with {running.poll()}")


@contextlib.contextmanager
def serving(settings: Settings, port: int) -> Iterator[None]:
    """A front that is left alone, and told to end."""
    command = [sys.executable, "-m", "loop.gateway.run", "front", "--port", str(port)]
    environment = {**os.environ, **settings.as_environment(), "LOOP_SPOOL_SEGMENT_SECONDS": SEGMENT_SECONDS}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as running:
        await_health(port, running)
        yield
        running.send_signal(signal.SIGTERM)
        running.wait(30)


def measured(home: Home, kills: int, seed: int, step: Any = None) -> dict[str, Any]:
    """Kill so often under load, then move everything and compare."""
    from loop.gateway import access
    from loop.validate import inflow

    settings = home.settings
    scopes = {"workflows": ["ads", "comms"], "scopes": ["feedback"], "purposes": []}
    token = access.create(home.state, tool="crash", per_minute=10_000_000, author="benchmark", **scopes)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    told, stop = Told(), threading.Event()
    url = f"http://127.0.0.1:{port}"
    clients = [threading.Thread(target=client, args=(n, url, token, told, stop), daemon=True) for n in range(CLIENTS)]
    for one in clients:
        one.start()
    killed = killing(settings, port, kills, seed, step)
    with serving(settings, port):
        stop.set()
        for one in clients:
            one.join(60)
            assert not one.is_alive(), "a client was not answered"
    inflow.drain(settings, home.lake, home.state)
    assert not list(settings.spool.glob("*.seg")), "a segment was left"
    rows = home.lake.read("interactions", columns=["event_id", "final_text"]).to_pylist()
    stored = Counter((row["event_id"], row["final_text"]) for row in rows)
    return {
        "kills": dict(killed),
        "sent": len(told.sent),
        "acknowledged": len(told.acknowledged),
        "stored": len(rows),
        "acknowledged_not_stored": sum(pair not in stored for pair in told.acknowledged.items()),
        "stored_twice": sum(count > 1 for count in stored.values()),
        "stored_never_sent": sum(told.sent.get(key) != text for key, text in stored),
        "quarantined": home.lake.read("quarantine", columns=["quarantine_id"]).num_rows,
        "torn_or_bad_files": sorted(p.suffix for p in settings.spool.iterdir() if p.suffix in {".torn", ".bad"}),
        "answers": dict(told.statuses),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, open_home(config.load(home=Path(folder) / "home")) as home:
        found = measured(home, given.kills, given.seed, lambda n: print(f"{n} kills", end="\r", file=sys.stderr))
    if given.json:
        print(json.dumps(found))
        return
    for name, figure in found.items():
        print(f"{name:26} {figure}")
    wrong = found["acknowledged_not_stored"] + found["stored_twice"] + found["stored_never_sent"]
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
