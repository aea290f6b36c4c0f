"""The passes of collecting: what the disk and the decoder can do, single events, batches, and the front's memory."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.gateway import load, made, running
from benchmarks.gateway.running import Gateway

CONNECTIONS = 128
BATCH_CONNECTIONS = 4
PACE = 3_000
"""Events a second of the paced run."""
GROUP_BYTES = 512 << 20
"""The reference writes no more than that in groups."""
BLOCKS = 20
"""The memory's second half is averaged in so many blocks before a line is drawn through them."""

# -- reference --------------------------------------------------------------------------------------------------------


def reference(folder: Path, seconds: float) -> dict[str, Any]:
    """The same events appended to a file, each with an fdatasync or by `made.GROUP`; and decoded by msgspec."""
    from loop.collect.events import decode

    lines = made.lines()
    group = b"".join(lines)
    single, waits = _appended(folder / "single", lines, seconds, most=1_000_000)
    grouped, _ = _appended(folder / "grouped", [group], seconds, most=GROUP_BYTES // len(group))
    until, decoded = time.perf_counter() + min(seconds, 2.0), 0
    began = time.process_time()
    while time.perf_counter() < until:
        for line in lines:
            decode(line)
        decoded += len(lines)
    return {
        "bytes_an_event": round(len(group) / len(lines)),
        "single_per_s": round(single),
        "single_p99_ms": round(float(np.percentile(waits, 99)) * 1e3, 2),
        "grouped_per_s": round(grouped * made.GROUP),
        "decoded_per_cpu_s": round(decoded / (time.process_time() - began)),
    }


def _appended(path: Path, pieces: list[bytes], seconds: float, most: int) -> tuple[float, list[float]]:
    """Appends and syncs a second, and how long each took."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    waits: list[float] = []
    began = now = time.perf_counter()
    try:
        while now < began + seconds and len(waits) < most:
            os.write(file, pieces[len(waits) % len(pieces)])
            os.fdatasync(file)
            before, now = now, time.perf_counter()
            waits.append(now - before)
    finally:
        os.close(file)
        path.unlink()
    return len(waits) / (now - began), waits


# -- single and batches -----------------------------------------------------------------------------------------------


def single(folder: Path, seconds: float) -> dict[str, Any]:
    """One event a request, 128 connections: as fast as they go, then paced at `PACE` a second."""
    with running.gateway(folder / "home", upstream_url=running.NO_PLACE) as gateway:
        requests, sent = made.singles(gateway.token), 0
        found: dict[str, Any] = {}
        for name, rate in (("free", None), ("paced", PACE)):
            plan = load.Plan(
                gateway.port,
                lambda n, first=sent: requests(first + n),
                CONNECTIONS,
                seconds,
                per_second=rate,
                good=made.stored,
            )
            run, used = _measured(gateway, plan)
            sent += run.total
            found[name] = run.figures() | {name: round(value / run.total * 1e6, 1) for name, value in used.items()}
    return found | {"acknowledged": sent, "stored": _stored(folder / "home", sent)}


def batch(folder: Path, seconds: float) -> dict[str, Any]:
    """`made.GROUP` events a request as NDJSON, plain and as zstd."""
    most = max(10, int(100_000 * seconds) // made.GROUP)
    with running.gateway(folder / "home", upstream_url=running.NO_PLACE, spool_bytes=1 << 36) as gateway:
        sent = 0
        found: dict[str, Any] = {}
        for name in ("plain", "zstd"):
            requests = made.batches(gateway.token) if name == "plain" else made.packed(gateway.token, most, sent)
            plan = load.Plan(gateway.port, requests, BATCH_CONNECTIONS, seconds, most=most, good=made.all_stored)
            run, used = _measured(gateway, plan)
            sent += run.total
            found[name] = _of_batches(run.figures()) | {
                name: round(value / run.total / made.GROUP * 1e6, 2) for name, value in used.items()
            }
    sent *= made.GROUP
    return found | {"acknowledged": sent, "stored": _stored(folder / "home", sent)}


def _of_batches(figures: dict[str, float]) -> dict[str, float]:
    return {"events_per_s": round(figures.pop("per_s") * made.GROUP)} | {f"batch_{k}": v for k, v in figures.items()}


def _measured(gateway: Gateway, plan: load.Plan) -> tuple[load.Run, dict[str, float]]:
    """A run, and the CPU seconds of the front and of the load itself meanwhile."""
    front, mine = running.cpu_seconds(gateway.front.pid), time.process_time()
    run = load.run(plan)
    used = {"front_cpu_us": running.cpu_seconds(gateway.front.pid) - front, "load_cpu_us": time.process_time() - mine}
    return run, used


def _stored(home: Path, acknowledged: int) -> int:
    """Events in the segments of a gateway that has ended.

    Raises:
        RuntimeError: they are not as many as were acknowledged.
    """
    from loop.collect import spool

    stored = sum(1 for path in spool.sealed(home / "gateway" / "spool") for _ in spool.frames(path))
    if stored != acknowledged:
        raise RuntimeError(f"{acknowledged} events were acknowledged as stored, and {stored} are in the spool")
    return stored


# -- memory -----------------------------------------------------------------------------------------------------------


def memory(folder: Path, events: int) -> dict[str, Any]:
    """The front's memory over that many events in batches, while sealed segments are removed as the mover does."""
    with running.gateway(folder / "home", upstream_url=running.NO_PLACE) as gateway:
        seen: list[tuple[int, int, int]] = []
        taken = [0]
        ends = threading.Event()
        spool = folder / "home" / "gateway" / "spool"
        mover = threading.Thread(target=_remove, args=(spool, ends, taken))
        mover.start()
        requests = made.batches(gateway.token)
        most = events // made.GROUP
        every = max(1, most // (10 * BLOCKS))
        done = [0]

        def good(status: int, body: bytes) -> bool:
            done[0] += 1
            if done[0] % every == 0:
                seen.append((done[0] * made.GROUP, *_resident(gateway.front)))
            return made.all_stored(status, body)

        try:
            run = load.run(
                load.Plan(gateway.port, requests, BATCH_CONNECTIONS, most / 2, warm=0.0, most=most, good=good)
            )
        finally:
            ends.set()
            mover.join()
    half = [row for row in seen if row[0] > run.total * made.GROUP / 2]
    return {
        "events": run.total * made.GROUP,
        "events_per_s": round(run.per_second * made.GROUP),
        "moved_mb": round(taken[0] / 1e6),
        "start_mb": round(seen[0][1] / 1e6, 1),
        "half_mb": round(half[0][1] / 1e6, 1),
        "end_mb": round(half[-1][1] / 1e6, 1),
        "most_mb": round(max(row[1] for row in seen) / 1e6, 1),
        "rss_bytes_an_event": slope([row[0] for row in half], [row[1] for row in half]),
        "private_bytes_an_event": slope([row[0] for row in half], [row[2] for row in half]),
    }


def slope(events: list[int], bytes_: list[int]) -> dict[str, float]:
    """Least squares through the means of `BLOCKS` blocks, with a 95 % interval (Student's t).

    Block means, for neighbouring readings are alike and would make the interval too narrow.
    """
    from scipy import stats

    blocks = min(BLOCKS, len(events) // 2)
    x = np.array([part.mean() for part in np.array_split(np.array(events, float), blocks)])
    y = np.array([part.mean() for part in np.array_split(np.array(bytes_, float), blocks)])
    line = stats.linregress(x, y)
    half = line.stderr * stats.t.ppf(0.975, blocks - 2)
    return {"slope": round(line.slope, 3), "low": round(line.slope - half, 3), "high": round(line.slope + half, 3)}


def _resident(process: psutil.Process) -> tuple[int, int]:
    """Bytes of resident memory, and of those that belong to no file."""
    rows = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
    rss, anonymous = (int(rows[name].split()[0]) * 1024 for name in ("VmRSS", "RssAnon"))
    return rss, anonymous


def _remove(spool: Path, ends: threading.Event, taken: list[int]) -> None:
    """Remove sealed segments until told to end; their bytes are added up in `taken`."""
    while not ends.wait(0.5):
        for path in sorted(spool.glob("*.seg")):
            taken[0] += path.stat().st_size
            path.unlink()
