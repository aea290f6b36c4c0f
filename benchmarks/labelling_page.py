"""How fast is the labelling page with fifty people at it, and does history slow it?

    python -m benchmarks.labelling_page [--json] [--people 50] [--tasks 2000] [--seconds 10] [--history 200000]

A real front in a process of its own and the embedded Postgres, all on this machine, as is the load. Each person looks
at a task, thinks, answers it, and is shown the next. Passes:

    paced      everybody thinks for two seconds, so some twenty-five answers and as many tasks a second
    flat out   nobody thinks: what the page can do; with fifty at once every request waits for forty-nine others
    history    paced again, with so many answers of earlier days in the database

`look` is GET /label, with the task; `answer` is POST /label/answer, until the redirect, with the answer stored. `calm`
are the requests of those seconds in which a bystander, who only sleeps for five milliseconds again and again, was never
woken more than `LATE_MS` too late: in the others somebody else had the processors. `cpu_ms` is the front's, a request.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import html
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import sqlalchemy as sa

from benchmarks.gateway import running
from loop.config import Settings
from loop.home import Home, open_home
from loop.label import annotators, gold, tasks
from loop.label.tasks import Kind, Origin

WORDS = "the bread of this bakery is baked two streets away and sold before nine to whoever comes".split()  # noqa: SIM905
LATE_MS = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--tasks", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--history", type=int, default=200_000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder) / "home", pay_floor_per_hour=12.0, break_minutes=0)
        with open_home(settings) as home:
            found = {"load": os.getloadavg()[0], **measured(home, given)}
    if given.json:
        print(json.dumps(found))
        return
    for name, one in found.items():
        print(f"{name:10} {one}")


def measured(home: Home, given: argparse.Namespace) -> dict[str, Any]:
    tokens = [join(home, n) for n in range(given.people)]
    rows = ask(home, given.tasks)
    for row in rows[:: max(1, given.tasks // 50)]:
        gold.put(home.state, row, label="first", reason="experts", author="lead")
    found: dict[str, Any] = {}
    with front(home.settings) as server:
        found["paced"] = asyncio.run(load(server, tokens, given.seconds, think=2.0))
        found["flat out"] = asyncio.run(load(server, tokens, given.seconds, think=0.0))
    remember(home, given.history)
    with front(home.settings) as server:
        found["history"] = asyncio.run(load(server, tokens, given.seconds, think=2.0))
    return found


def join(home: Home, number: int) -> str:
    told = {"workflows": ["ads", "comms"], "pay_per_hour": 15.0, "daily_minutes": 1_440, "author": "lead"}
    return annotators.add(home.settings, home.state, person=f"person-{number}", **told)[1]


def ask(home: Home, count: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)

    def text() -> str:
        return " ".join(rng.choice(WORDS, 80))

    rows = [
        tasks.task(
            day=date(2026, 1, 5) + timedelta(days=n % 5),
            workflow=("ads", "comms")[n % 2],
            kind=Kind.PREFERENCE,
            origin=Origin.IMPORT,
            reason="random",
            prompt=[{"role": "user", "content": text()}],
            texts=[text(), text()],
            wanted=50,
        )
        for n in range(count)
    ]
    tasks.add(home.lake, home.state, rows)
    return rows


def remember(home: Home, count: int) -> None:
    """Answers of earlier days to tasks that are done, of the same people."""
    people = [who.annotator for who in annotators.annotators(home.state)]
    query = sa.text(
        "INSERT INTO annotations (label_task_id, annotator, version, day, workflow, action, label, swapped, counts, "
        "source, answered_at, recorded_at, shown_at, seconds) "
        "SELECT md5(n::text), (CAST(:people AS text[]))[1 + n % :of], 1, "
        "DATE '2025-06-01' + (n % 100), 'ads', 'answer', 'first', false, true, 'page', "
        "at, at, TIMESTAMPTZ '2025-06-02', 20 FROM generate_series(1, :count) AS n, LATERAL (SELECT "
        "TIMESTAMPTZ '2025-06-02' + (n % 100) * INTERVAL '1 day' + n * INTERVAL '1 millisecond' AS at) AS given"
    )
    with home.state.transaction() as connection:
        connection.execute(query, {"people": people, "of": len(people), "count": count})
    with home.state.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("ANALYZE annotations"))


class front:  # noqa: N801 - reads as what it is
    """The front as `loop up` starts it, on a free port."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def __enter__(self) -> tuple[int, int]:
        """Its port and process."""
        self.port = running.free_port()
        command = [sys.executable, "-m", "loop.gateway.run", "front", "--port", str(self.port)]
        environment = os.environ | self.settings.as_environment() | {"LOOP_UPSTREAM_URL": "http://127.0.0.1:9/v1"}
        self.process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            assert self.process.poll() is None, "the front ended"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                break
            time.sleep(0.1)
        return self.port, self.process.pid

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()


# -- fifty people -----------------------------------------------------------------------------------------------------


@dataclass
class Spent:
    look: list[tuple[float, float]] = field(default_factory=list)
    """When each began, and how long it took, in seconds."""
    answer: list[tuple[float, float]] = field(default_factory=list)


async def bystander(lags: dict[int, float]) -> None:
    """Note for each second how late it was woken at most."""
    while True:
        began = time.perf_counter()
        await asyncio.sleep(0.005)
        late = time.perf_counter() - began - 0.005
        lags[int(began)] = max(lags.get(int(began), 0.0), late)


async def load(server: tuple[int, int], tokens: list[str], seconds: float, *, think: float) -> dict[str, Any]:
    port, pid = server
    spent = Spent()
    people = [Person(port, n) for n in range(len(tokens))]
    await asyncio.gather(*(person.log_in(token) for person, token in zip(people, tokens, strict=True)))
    lags: dict[int, float] = {}
    watch = asyncio.create_task(bystander(lags))
    began, cpu = time.perf_counter(), running.cpu_seconds(pid)
    await asyncio.gather(*(person.work(began + 1.0, began + 1.0 + seconds, think, spent) for person in people))
    watch.cancel()
    done = len(spent.look) + len(spent.answer)
    told: dict[str, Any] = {"people": len(people), "per_s": round(done / seconds, 1), "load": running.load_average()}
    told["cpu_ms"] = round((running.cpu_seconds(pid) - cpu) / done * 1e3, 2)
    for name in ("look", "answer"):
        taken = getattr(spent, name)
        calm = [took for at, took in taken if _calm(lags, at, took)]
        told[name] = figures([took for _, took in taken])
        told[f"{name} calm"] = figures(calm) if calm else None
    return told


def _calm(lags: dict[int, float], at: float, took: float) -> bool:
    return all(lags.get(second, 0.0) < LATE_MS / 1e3 for second in range(int(at), int(at + took) + 1))


def figures(taken: list[float]) -> dict[str, float]:
    told = {f"p{q}_ms": round(float(np.percentile(taken, q)) * 1e3, 1) for q in (50, 95, 99)}
    return told | {"requests": len(taken)}


class Person:
    """A browser of little: one connection, one cookie."""

    def __init__(self, port: int, number: int) -> None:
        self.port, self.cookie = port, ""
        self.rng = np.random.default_rng(number)

    async def log_in(self, token: str) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        status, headers, _ = await self.call("POST", "/label/login", {"token": token})
        assert status == 303, status
        self.cookie = headers["set-cookie"].split(";")[0]

    async def work(self, first: float, last: float, think: float, spent: Spent) -> None:
        await asyncio.sleep(float(self.rng.uniform(0, think)))
        while time.perf_counter() < last:
            began = time.perf_counter()
            status, _, page = await self.call("GET", "/label")
            took = time.perf_counter() - began
            assert status == 200, status
            assert "Which one is better?" in page, page[:2000]
            if began >= first:
                spent.look.append((began, took))
            await asyncio.sleep(float(self.rng.uniform(0.5, 1.5)) * think)
            form = page[page.index('<form id="task"') :]
            fields = {
                name: html.unescape(re.search(rf'name="{name}" value="([^"]*)"', form)[1])  # type: ignore[index]
                for name in ("csrf", "ticket")
            }
            began = time.perf_counter()
            label = str(self.rng.choice(["1", "2", "tie"]))
            fields |= {"action": "answer", "label": label}
            status, headers, page = await self.call("POST", "/label/answer", fields)
            assert (status, headers.get("location")) == (303, "/label?said=saved"), (status, page[:2000])
            if began >= first:
                spent.answer.append((began, time.perf_counter() - began))
        self.writer.close()

    async def call(self, method: str, path: str, form: dict[str, str] | None = None) -> tuple[int, dict[str, str], str]:
        body = urlencode(form or {}).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: x\r\ncookie: {self.cookie}\r\ncontent-length: {len(body)}\r\n\r\n"
        self.writer.write(head.encode() + body)
        told = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in told[1:] if line}
        text = await self.reader.readexactly(int(headers["content-length"]))
        return int(told[0].split()[1]), headers, text.decode()


if __name__ == "__main__":
    main()
