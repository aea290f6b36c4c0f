"""Is what the gateway acknowledged stored exactly once, however often it is killed?

    python benchmarks/crash.py [--kills 200] [--seed 0] [--json]

The real front takes whole events, makes suggestions (an upstream of ours has the words), and takes short feedback on
them, decisions that revise earlier ones, and outcomes; it says itself what nobody decided on. It is killed with SIGKILL
at random moments: while it starts, under load, while it seals or sweeps. Beside it the mover takes sealed segments to
the lake and is killed as well, before, while and after it lands, writes and removes them. In the end everything is
moved, and what was acknowledged is compared with the lake, content by content. What was sent and not acknowledged may
be stored, once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from benchmarks.crashing.clients import Client, Told
from benchmarks.crashing.comparing import compared, histories
from benchmarks.crashing.upstream import upstream
from benchmarks.gateway.running import free_port
from loop import config
from loop.home import Home, open_home

CLIENTS = 8
IGNORE_SECONDS = 3.0
"""After so long without a decision a suggestion counts as ignored."""
GIVEN = {
    "LOOP_SPOOL_SEGMENT_SECONDS": "0.2",
    "LOOP_IGNORE_AFTER_HOURS": f"{IGNORE_SECONDS / 3600:.6f}",
}
FRONT = """
import sys
from loop.gateway import front, run
front.SWEEP_SECONDS = 0.1  # as often as it looks; a minute is longer than it lives here
sys.exit(run.main(["front", *sys.argv[1:]]))
"""
MOVE = """
from loop import config
from loop.home import open_home
from loop.validate import inflow
with open_home(config.load()) as home:
    print("moving", flush=True)
    inflow.drain(home.settings, home.lake, home.state)
    print("moved", flush=True)
"""


def killing_fronts(port: int, environment: Mapping[str, str], kills: int, seed: int, step: Any = None) -> Counter[str]:
    """Start a front again and again, and kill each after a random time; how often it was killed when."""
    rng, killed = random.Random(seed), Counter[str]()
    for number in range(kills):
        with started(FRONT, environment, "--port", str(port)) as running:
            early = rng.random() < 0.15  # while it starts
            if not early:
                await_health(port, running)
            time.sleep(rng.uniform(0.0, 1.2) + rng.choice((0.0, 0.0, 1.0)))  # it sweeps after a second
            killed["front, starting" if early else "front, serving"] += running.poll() is None
            running.kill()
        if step is not None:
            step(number + 1)
    return killed


def killing_movers(environment: Mapping[str, str], seed: int, stop: threading.Event, killed: Counter[str]) -> None:
    """Likewise movers, until told to stop: most of them while they move."""
    rng = random.Random(-seed - 1)
    while not stop.is_set():
        with started(MOVE, environment) as moving:
            assert moving.stdout is not None
            early = rng.random() < 0.1
            said = b"" if early else moving.stdout.readline()  # that it begins
            time.sleep(rng.uniform(0.0, 3.0))
            moving.kill()
            said += moving.stdout.read()
            killed["mover, starting" if not said else "mover, done" if b"moved" in said else "mover, moving"] += 1


def started(script: str, environment: Mapping[str, str], *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", script, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)


def await_health(port: int, running: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while running.poll() is None and time.monotonic() < until:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=1, trust_env=False).status_code == 200:
                return
        time.sleep(0.02)
    raise RuntimeError(f"the front did not start; it ended with {running.poll()}")


@contextlib.contextmanager
def serving(port: int, environment: Mapping[str, str]) -> Iterator[None]:
    """A front that is left alone, and told to end."""
    with started(FRONT, environment, "--port", str(port)) as running:
        await_health(port, running)
        yield
        running.send_signal(signal.SIGTERM)
        running.wait(30)


def measured(home: Home, kills: int, seed: int, step: Any = None) -> dict[str, Any]:
    """Kill so often under load, then move everything and compare."""
    from loop.gateway import access
    from loop.validate import inflow

    settings = home.settings
    scopes = {"workflows": ["ads", "comms"], "scopes": ["suggest", "feedback", "outcomes"]}
    purposes = ["training", "evaluation"]
    token = access.create(
        home.state, tool="crash", per_minute=10_000_000, author="benchmark", purposes=purposes, **scopes
    )
    told, stop, port = Told(), threading.Event(), free_port()
    clients = [Client(n, f"http://127.0.0.1:{port}", token, told, stop) for n in range(CLIENTS)]
    threads = [threading.Thread(target=client.run, daemon=True) for client in clients]
    with upstream(free_port()) as words:
        environment = {**os.environ, **settings.as_environment(), **GIVEN, "LOOP_UPSTREAM_URL": words}
        for one in threads:
            one.start()
        ended, movers = threading.Event(), Counter[str]()
        other = threading.Thread(target=killing_movers, args=(environment, seed, ended, movers), daemon=True)
        other.start()
        fronts = killing_fronts(port, environment, kills, seed, step)
        ended.set()
        other.join()
        with serving(port, environment):
            stop.set()
            for one in threads:
                one.join(60)
                assert not one.is_alive(), "a client was not answered"
            time.sleep(IGNORE_SECONDS + 3.0)  # until all that nobody decided on is overdue, and swept
    inflow.drain(settings, home.lake, home.state)
    assert not list(settings.spool.glob("*.seg")), "a segment was left"
    return {
        "kills": dict(sorted((fronts + movers).items())),
        **compared(home, told),
        "histories": histories(told, home.lake.read("interactions").to_pylist())[:5],
        "torn or bad files": sorted(p.suffix for p in settings.spool.iterdir() if p.suffix in {".torn", ".bad"}),
        "answers": dict(told.answers),
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
    else:
        for name, figure in found.items():
            print(f"{name:60} {figure}")
    sys.exit(any(figure for name, figure in found.items() if name.startswith("wrong: ")))


if __name__ == "__main__":
    main()
