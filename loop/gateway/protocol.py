"""HTTP/1.1 on a socket: uvicorn's httptools protocol with the limits in time and size that it leaves out.

A client may take `HEADERS_SECONDS` to send its headers, and for its body `BODY_SECONDS` and what the slowest permitted
line needs. Deadlines are looked at once a second for all connections together, so that a request costs no timer.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from loop.gateway.wire import JSON, Failure, Problem

HEADERS_SECONDS: Final = 10.0
BODY_SECONDS: Final = 30.0
SLOWEST: Final = 65_536
"""Bytes a second that a long body must come at, over and above `BODY_SECONDS`."""
HEADER_BYTES: Final = 32_768
"""Most bytes of request line and headers together."""
UNREAD_SECONDS: Final = 30
"""How long a reply waits for a client that does not read it."""
UNWANTED_BYTES: Final = 64 << 20
"""How much of a body is still read after it was answered, so that the client gets to read the answer."""
CONNECTIONS: Final = 4_096
"""Most at a time."""

_REASONS: Final = {
    400: b"Bad Request",
    408: b"Request Timeout",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
}


class Protocol(HttpToolsProtocol):
    """One connection."""

    _deadline: float | None = None
    """When, on the loop's clock, the request under way must have arrived whole; None while nothing is waited for."""
    _head = 0
    _in_head = True
    _unwanted = 0
    _unread = 0
    """Seconds for which the client has not read."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline = self.loop.time() + HEADERS_SECONDS
        if len(self.connections) > CONNECTIONS:
            self._refuse(Problem(503, "busy", f"expected at most {CONNECTIONS:,} connections; come back in a moment"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head += len(data)
            if self._deadline is None and (self.cycle is None or self.cycle.response_complete):
                self._deadline = self.loop.time() + HEADERS_SECONDS
        super().data_received(data)
        if self._in_head and self._head > HEADER_BYTES:
            self._refuse(Problem(431, "headers_too_large", f"expected at most {HEADER_BYTES:,} bytes of headers"))

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client that has sent its request and closed its half still gets the reply."""
        self._deadline = None
        waits = self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body
        if waits and self.scheme == "http":  # TLS cannot be half closed
            self.cycle.keep_alive = False
            return True
        return False

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._deadline = self.loop.time() + HEADERS_SECONDS

    def on_headers_complete(self) -> None:
        self._in_head, self._head = False, 0
        self._deadline = self.loop.time() + BODY_SECONDS
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._deadline is not None:
            self._deadline += len(body) / SLOWEST
        super().on_body(body)

        if self.cycle.response_complete:  # answered before it was all sent: the rest is thrown away
            self._unwanted += len(body)
            if self._unwanted > UNWANTED_BYTES:
                self.transport.close()

    def on_message_complete(self) -> None:
        self._deadline, self._in_head = None, True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(Problem(400, "not_http", "expected a request of HTTP/1.1"))

    def expire(self, now: float) -> None:
        """Close the connection if its client has had its time. Called once a second."""
        self._unread = self._unread + 1 if self.flow.write_paused else 0
        if self._unread > UNREAD_SECONDS:
            self.transport.abort()
        elif self._deadline is None or self.transport.is_closing():
            return
        elif self.flow.read_paused:  # it is we who do not read
            self._deadline += 1.0
        elif now > self._deadline:
            what = "headers" if self._in_head else "body"
            self._refuse(Problem(408, "timeout", f"the {what} did not arrive in time; send it in one go"))

    def _refuse(self, problem: Problem) -> None:
        """Answer at once, unless another answer is under way, and close."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete or (cycle.more_body and not cycle.response_started):
            body = JSON.encode(Failure(error=problem.error()))
            self.transport.write(
                b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
                % (problem.status, _REASONS[problem.status], len(body), body)
            )
        self.transport.close()


async def watch(connections: set[Any], every: float = 1.0) -> None:
    """Look after the deadlines of all connections until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(every)
        now = loop.time()
        for connection in list(connections):
            if isinstance(connection, Protocol):
                connection.expire(now)
