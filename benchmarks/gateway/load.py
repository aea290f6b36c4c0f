"""Load over HTTP/1.1: keep-alive connections that send ready-made requests and time their replies.

As little as there can be between the socket and the clock, for load and server share the machine. Knows nothing of what
is sent.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import uvloop

TIMEOUT = 60.0
"""Seconds after the end of a run for which replies are waited for."""


@dataclass
class Plan:
    """What is to be sent."""

    port: int
    request: Callable[[int], bytes]
    """The bytes of request 0, 1, 2 and so on."""
    connections: int
    seconds: float
    """How long is measured."""
    warm: float = 1.0
    """How long before that is not. 0: everything is, until the last reply, for requests that take seconds."""
    most: int = 1_000_000
    """No more requests than that."""
    per_second: float | None = None
    """Requests are sent when they are due, whatever became of those before; None: as soon as a connection is free."""
    good: Callable[[int, bytes], bool] = lambda status, _: status == 200
    """Whether a reply is the one that was hoped for."""
    keep: bool = False
    """Whether to keep the bodies of the replies."""


@dataclass
class Run:
    """What came of it. Only requests that were sent, or due, after the warm-up have a latency."""

    seconds: float = 0.0
    """What is measured."""
    answered: int = 0
    """Replies within those seconds."""
    total: int = 0
    """Replies in all."""
    latencies: list[float] = field(default_factory=list)
    """Seconds."""
    bodies: list[bytes] = field(default_factory=list)
    bad: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        return self.answered / self.seconds

    def figures(self) -> dict[str, float]:
        """Rate and percentiles in milliseconds."""
        p50, p99 = np.percentile(self.latencies, (50, 99)) * 1e3
        return {
            "per_s": round(self.per_second, 1),
            "p50_ms": round(float(p50), 2),
            "p99_ms": round(float(p99), 2),
            "max_ms": round(max(self.latencies) * 1e3, 2),
        }


def run(plan: Plan) -> Run:
    """Carry out a plan in an event loop of its own.

    Raises:
        RuntimeError: a reply was not the one hoped for, a connection broke, or replies failed to come.
    """
    return uvloop.run(drive(plan))


async def drive(plan: Plan) -> Run:
    """`run` within an event loop."""
    driver = _Driver(plan)
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: _Connection(driver), "127.0.0.1", plan.port)
        for _ in range(plan.connections)
    ]
    try:
        await driver.go([connection for _, connection in made])
    finally:
        for transport, _ in made:
            transport.close()
    found = driver.found
    if found.bad:
        status, body = found.bad[0]
        told = f"{len(found.bad)} of {found.total} replies were not as expected; the first"
        raise RuntimeError(f"{told}: {status} {body[:500]!r}")
    return found


class _Driver:
    """Says which connection sends what when."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.found = plan, Run()
        self.sent = 0
        self.start = self.end = 0.0
        self.due: deque[float] = deque()
        self.idle: list[_Connection] = []
        self.over = asyncio.get_running_loop().create_future()

    async def go(self, connections: list[_Connection]) -> None:
        began = time.perf_counter()
        self.start = began + self.plan.warm
        self.end = self.start + self.plan.seconds
        if self.plan.per_second is None:
            for connection in connections:
                self.next(connection)
        else:
            self.idle = list(connections)
            await self._pace(began, self.plan.per_second)
        await asyncio.wait_for(self.over, self.end - time.perf_counter() + TIMEOUT)
        last = time.perf_counter()
        if self.plan.warm:
            self.found.seconds = min(last, self.end) - self.start
        else:
            self.found.seconds, self.found.answered = last - self.start, self.found.total

    async def _pace(self, began: float, per_second: float) -> None:
        scheduled = 0
        while (now := time.perf_counter()) < self.end and not self.over.done():
            until = int((now - began) * per_second)
            self.due.extend(began + number / per_second for number in range(scheduled, until))
            scheduled = max(scheduled, until)
            for _ in range(min(len(self.due), len(self.idle))):
                self.next(self.idle.pop())
            await asyncio.sleep(0.001)
        self.end = min(self.end, time.perf_counter())
        self._maybe_over()

    def _number(self) -> int:
        self.sent += 1
        return self.sent - 1

    def next(self, connection: _Connection) -> None:
        """What a free connection does: the next request, if there is one."""
        if self.sent >= self.plan.most or self.found.bad:
            self.due.clear()
        elif self.due:  # also after the end: whatever was due is sent and timed
            connection.send(self.plan.request(self._number()), self.due.popleft())
            return
        elif self.plan.per_second is None and time.perf_counter() < self.end:
            connection.send(self.plan.request(self._number()), time.perf_counter())
            return
        self.idle.append(connection)
        self._maybe_over()

    def _maybe_over(self) -> None:
        ends = time.perf_counter() >= self.end or self.sent >= self.plan.most or self.found.bad
        if ends and not self.due and self.found.total >= self.sent and not self.over.done():
            self.over.set_result(None)

    def replied(self, since: float, status: int, body: bytes) -> None:
        now = time.perf_counter()
        found = self.found
        found.total += 1
        if since >= self.start:
            found.latencies.append(now - since)
        if self.start <= now <= self.end:
            found.answered += 1
        if not self.plan.good(status, body):
            found.bad.append((status, body))
        elif self.plan.keep:
            found.bodies.append(body)

    def broke(self, connection: _Connection, error: BaseException | None) -> None:
        if connection in self.idle:
            self.idle.remove(connection)
        if connection.busy and not self.over.done():
            self.over.set_exception(RuntimeError(f"the server closed a connection instead of answering: {error!r}"))


class _Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, driver: _Driver) -> None:
        self.driver = driver
        self.transport: Any = None
        self.since = 0.0
        self.busy = False
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def send(self, request: bytes, since: float) -> None:
        self.since, self.busy = since, True
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        data = self.buffer + data if self.buffer else data
        reply = _parsed(data)
        if reply is None:
            self.buffer = data
            return
        self.buffer, self.busy = b"", False
        self.driver.replied(self.since, *reply)
        self.driver.next(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.driver.broke(self, exc)


def _parsed(data: bytes) -> tuple[int, bytes] | None:
    """Status and body of a reply; None if it is not whole yet."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    status, head = int(data[9:12]), data[:end].lower()
    at = head.find(b"\r\ncontent-length:")
    if at >= 0:
        stop = head.find(b"\r\n", at + 2)
        length = int(head[at + 17 : stop if stop > 0 else None])
        return (status, data[end + 4 :]) if len(data) >= end + 4 + length else None
    if b"\r\ntransfer-encoding: chunked" in head:
        return (status, _unchunked(data[end + 4 :])) if data.endswith(b"\r\n0\r\n\r\n") else None
    return status, b""


def _unchunked(data: bytes) -> bytes:
    parts = []
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        parts.append(data[:length])
        data = data[length + 2 :] if length else b""
    return b"".join(parts)


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """The bytes of one request; an underscore in a header's name stands for a hyphen."""
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
