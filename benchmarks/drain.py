"""Does a drain cost what is new, or what is there?

    python benchmarks/drain.py [--there 10000 100000 500000 1000000 2000000] [--json]

A home gets one day of one workflow with ever more events, landed and in the lake; a twentieth of them have an outcome.
At each step a process of its own drains 10,000 frames of the spool twice: once all new decisions, once `mixed`: 9,700
new decisions, 200 revisions of earlier ones and 100 outcomes of earlier suggestions, so that outcomes that are there
have to be put down anew. Reported are seconds, CPU seconds (this process and Postgres), and the process's peak memory.
The last column is what a person waits for: the segments' landing, the lake, and their removal.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from benchmarks.gateway import made, running
from loop import config
from loop.collect import outcomes
from loop.collect.events import decode, to_table
from loop.collect.files import Kind, bringing
from loop.collect.spool import Spool
from loop.config import Settings
from loop.home import Home, open_home
from loop.lake import from_rows
from loop.schema import OUTCOMES
from loop.validate import inflow

DAY = datetime(2026, 1, 5, tzinfo=UTC)
WORKFLOW = "ads"
NEW = 10_000
BLOCK = 50_000
THERE = (10_000, 100_000, 500_000, 1_000_000, 2_000_000)
BETWEEN = timedelta(milliseconds=30)
"""From one decision to the next: two million take most of a day."""
PSEUDONYM = f"p_{'0' * 32}"


def key(kind: str, number: int) -> str:
    """An id without an order, as clients make them."""
    return f"{kind}-{hashlib.blake2b(f'{kind}{number}'.encode(), digest_size=16).hexdigest()}"


def times(number: int) -> dict[str, datetime]:
    shown = DAY + BETWEEN * number
    return {"shown_at": shown, "decided_at": shown + timedelta(seconds=5), "received_at": shown + timedelta(seconds=6)}


def event(rng: random.Random, number: int, **other: Any) -> dict[str, Any]:
    return made.event(rng, key("e", number), key("s", number)) | times(number) | {"employee": PSEUDONYM} | other


def fill(home: Home, first: int, last: int) -> None:
    """Events and outcomes into the landing area; texts repeat after `BLOCK` events, ids and times do not."""
    rng = random.Random(0)
    lines = [decode(msgspec.json.encode(event(rng, number))) for number in range(min(BLOCK, last - first))]
    base = to_table(lines, key=None, source="gateway", now=DAY)
    for start in range(first, last, BLOCK):
        numbers = range(start, min(start + BLOCK, last))
        ids = {name: [key(kind, n) for n in numbers] for name, kind in (("event_id", "e"), ("suggestion_id", "s"))}
        ids["content"] = [key("", n)[1:] for n in numbers]
        columns: dict[str, list[Any]] = {**ids, **{name: [times(n)[name] for n in numbers] for name in times(0)}}
        rows = base.slice(0, len(numbers))
        for name, values in columns.items():
            rows = rows.set_column(rows.column_names.index(name), name, pa.array(values, rows.schema.field(name).type))
        told = [result(n) for n in numbers if n % 20 == 0]
        contents = [outcomes.digest(one) for one in told]
        results = [
            {**msgspec.structs.asdict(one), "event_id": None, "source": "gateway", "content": content}
            for one, content in zip(told, contents, strict=True)
        ]
        with bringing(home.settings, home.state, source="gateway", name="fill") as files:
            files.write(Kind.EVENTS, rows, ids["event_id"], ids["content"])
            known = [f"outcome:{one.outcome_id}" for one in told]
            files.write(Kind.OUTCOMES, from_rows(results, OUTCOMES), known, contents)


def result(number: int, kind: str = "o") -> outcomes.Outcome:
    seen = times(number)["received_at"] + timedelta(minutes=5)
    return outcomes.Outcome(
        outcome_id=key(kind, number),
        suggestion_id=key("s", number),
        workflow=WORKFLOW,
        day=DAY.date(),
        name="click",
        value=1.0,
        observed_at=seen,
        received_at=seen,
    )


def frames(first: int, count: int, *, mixed: bool) -> Iterator[bytes]:
    """What the gateway spools; `first` is the number of decisions that are there."""
    rng = random.Random(first)
    revisions, late = (200, 100) if mixed else (0, 0)
    told = [event(rng, number) for number in range(first, first + count - revisions - late)]
    for earlier in rng.sample(range(first), revisions):
        other = {"event_id": key("r", earlier * 10**7 + first), "revises": key("e", earlier)}
        now = times(first)["received_at"]
        told.append(event(rng, earlier, **other, decided_at=now, received_at=now))
    for one in told:
        yield msgspec.json.encode({"kind": "event", "event": one, "received_at": one["received_at"]})
    for earlier in rng.sample(range(first), late):
        yield msgspec.json.encode({"kind": "outcome", "outcome": result(earlier, f"late{first}")})


def drained(home: Home, first: int, count: int, *, mixed: bool = False) -> dict[str, float]:
    """One drain of `count` frames: seconds and CPU seconds."""
    spool = Spool(home.settings.spool, segment_bytes=64 << 20, segment_seconds=60, limit_bytes=1 << 30)
    spool.append(list(frames(first, count, mixed=mixed)))
    spool.seal()
    spool.close()
    server = running.service(home.settings.home, "postgres")
    wall, own, its = time.perf_counter(), time.process_time(), running.cpu_seconds(server)
    [moved] = inflow.drain(home.settings, home.lake, home.state)
    assert (moved.frames, moved.events.accepted + moved.outcomes.accepted) == (count, count)
    return {
        "seconds": time.perf_counter() - wall,
        "cpu": time.process_time() - own,
        "postgres_cpu": running.cpu_seconds(server) - its,
    }


def step(home: Home, there: int) -> dict[str, Any]:
    """What drains cost with so many events there; in a fresh process, which is asked for its memory in the end."""
    drained(home, there, 400, mixed=True)
    first = drained(home, there + 400, NEW)
    second = drained(home, there + 400 + NEW, NEW, mixed=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"there": there, "new": first, "mixed": second, "peak_mib": peak}


def child(settings: Settings, *words: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--home", str(settings.home), *words]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, Any] = json.loads(told)
    return found


def measured(settings: Settings, steps: list[int]) -> Iterator[dict[str, Any]]:
    with open_home(settings):  # its Postgres stays up for the children
        before = 0
        for there in steps:
            child(settings, "--fill", str(before), str(there))
            yield child(settings, "--step", str(there))
            before = there + 400 + 2 * NEW


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--there", type=int, nargs="+", default=list(THERE))
    parser.add_argument("--json", action="store_true")
    for name, count in (("--home", 1), ("--fill", 2), ("--step", 1)):  # of the processes that this one starts
        parser.add_argument(name, nargs=count, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.home:
        with open_home(config.load(home=Path(given.home[0]))) as home:
            if given.fill:
                first, last = map(int, given.fill)
                fill(home, first, last - 100)
                print(json.dumps(drained(home, last - 100, 100)))  # takes to the lake what was landed
            else:
                print(json.dumps(step(home, int(given.step[0]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        for found in measured(config.load(home=Path(folder) / "home"), given.there):
            if given.json:
                print(json.dumps(found), flush=True)
                continue
            told = "".join(
                f"  {kind}: {one['seconds']:6.2f} s, CPU {one['cpu']:5.2f} + {one['postgres_cpu']:5.2f} s"
                for kind, one in (("new", found["new"]), ("mixed", found["mixed"]))
            )
            print(f"{found['there']:>9,} there{told}  peak {found['peak_mib']:,.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
