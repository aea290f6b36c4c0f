"""Kept connections to a process of ours: reused, replaced when the server closed them, never kept half read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from generators import free_port

from loop.gateway import connections
from loop.gateway.connections import Connections, Reply

Handle = Callable[[int, int, bytes, asyncio.StreamWriter], Awaitable[None]]
"""Answers the request of a number on the connection of a number."""


@asynccontextmanager
async def server(handle: Handle) -> AsyncIterator[str]:
    """A server that reads whole requests and leaves the reply to `handle`."""
    port, opened = free_port(), [0]

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened[0] += 1
        connection, number = opened[0], 0
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                number += 1
                await handle(connection, number, head + await reader.readexactly(length), writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", port):
        yield f"http://127.0.0.1:{port}"


def answered(body: bytes, *, status: str = "200 OK", more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nX-Note:  kept \r\n{more}\r\n".encode() + body


async def echo(connection: int, number: int, request: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(answered(b"%d.%d " % (connection, number) + request.rpartition(b"\r\n\r\n")[2]))


def run(handle: Handle, calls: Callable[[Connections], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with server(handle) as address:
            pool = Connections(address)
            try:
                return await calls(pool)
            finally:
                pool.close()

    return asyncio.run(main())


async def call(pool: Connections, body: bytes = b"x") -> Reply:
    return await pool.call("POST", "/path", {"x-secret": "s"}, body)


def test_one_after_the_other_use_one_connection_and_at_once_several() -> None:
    async def calls(pool: Connections) -> list[bytes]:
        one = [(await call(pool, b"%d" % i)).body for i in range(3)]
        both = await asyncio.gather(call(pool, b"a"), call(pool, b"b"))
        return [*one, *(reply.body for reply in both)]

    assert run(echo, calls) == [b"1.1 0", b"1.2 1", b"1.3 2", b"1.4 a", b"2.1 b"]


def test_the_request_is_http_and_so_is_what_is_read() -> None:
    seen = []

    async def handle(_: int, __: int, request: bytes, writer: asyncio.StreamWriter) -> None:
        seen.append(request)
        writer.write(answered(b"", status="503 Service Unavailable", more="Retry-After: 7\r\n"))

    reply = run(handle, lambda pool: call(pool, b"hello"))
    assert (reply.status, reply.body) == (503, b"")
    assert reply.headers == {"content-length": "0", "x-note": "kept", "retry-after": "7"}
    head, _, body = seen[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /path HTTP/1.1"
    assert lines[1].startswith(b"host: 127.0.0.1:")
    assert lines[2:] == [b"content-length: 5", b"x-secret: s"]
    assert body == b"hello"


def test_a_connection_that_the_server_closed_meanwhile_is_replaced() -> None:
    async def closing(connection: int, number: int, request: bytes, writer: asyncio.StreamWriter) -> None:
        await echo(connection, number, request, writer)
        await writer.drain()
        writer.close()  # without saying so

    async def calls(pool: Connections) -> list[bytes]:
        bodies = []
        for pause in (0.0, 0.0, 0.05):
            bodies.append((await call(pool)).body)
            await asyncio.sleep(pause)
        return bodies

    assert run(closing, calls) == [b"1.1 x", b"2.1 x", b"3.1 x"]


def test_a_server_that_says_that_it_closes_is_believed() -> None:
    async def handle(connection: int, _: int, __: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answered(b"%d" % connection, more="Connection: close\r\n"))

    async def calls(pool: Connections) -> list[bytes]:
        return [(await call(pool)).body, (await call(pool)).body]

    assert run(handle, calls) == [b"1", b"2"]


def test_a_reply_that_breaks_off_is_an_error() -> None:
    async def handle(_: int, __: int, ___: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answered(b"whole")[:-2])
        await writer.drain()
        writer.close()

    with pytest.raises(ConnectionResetError, match="broke off"):
        run(handle, call)


@pytest.mark.parametrize("reply", [b"hello\r\n\r\n", b"HTTP/1.1 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 70_000])
def test_what_is_no_reply_is_an_error(reply: bytes) -> None:
    async def handle(_: int, __: int, ___: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(reply)

    with pytest.raises(ConnectionError, match="expected a reply in HTTP"):
        run(handle, call)


def test_a_call_that_is_given_up_leaves_no_reply_for_the_next() -> None:
    async def handle(connection: int, number: int, request: bytes, writer: asyncio.StreamWriter) -> None:
        if request.endswith(b"slow"):
            await asyncio.sleep(0.1)
        await echo(connection, number, request, writer)

    async def calls(pool: Connections) -> list[bytes]:
        await call(pool)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await call(pool, b"slow")
        return [(await call(pool, b"next")).body, (await call(pool, b"last")).body]

    assert run(handle, calls) == [b"2.1 next", b"2.2 last"]


def test_no_more_than_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "IDLE", 2)

    async def calls(pool: Connections) -> int:
        await asyncio.gather(*(call(pool) for _ in range(5)))
        return len(pool._idle)

    assert run(echo, calls) == 2


def test_nobody_there_is_an_error() -> None:
    with pytest.raises(ConnectionRefusedError):
        asyncio.run(call(Connections(f"http://127.0.0.1:{free_port()}")))
