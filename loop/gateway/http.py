"""Requests and replies as ASGI has them: reading a body within its limits, and sending JSON. Knows no route."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from math import ceil
from typing import Any, Final, NamedTuple

import pyarrow as pa

from loop.gateway.wire import JSON, Failure, Problem

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]


class Request(NamedTuple):
    """One request, its body not read yet."""

    scope: Scope
    receive: Receive


class Reply(NamedTuple):
    """An answer: whole, or a stream of server-sent events."""

    status: int
    body: bytes = b""
    headers: Headers = ()
    type: bytes = b"application/json"
    items: int = 0
    """Items of which it speaks, for the log."""
    stream: AsyncIterator[bytes] | None = None


PACKED_BYTES: Final = 16 << 20
"""Longest body that is packed by zstd: it is held whole."""
PIECE: Final = 1 << 20
"""Bytes that a body is unpacked by at a time: what a small body can at most become before it is looked at again."""


class Gone(Exception):  # noqa: N818 - it is no error of ours
    """The client hung up before its request was whole; nobody waits for an answer."""


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of that name, which is in small letters; None if there is none."""
    for given, value in scope["headers"]:
        if given == name:
            return bytes(value)
    return None


# -- reading ----------------------------------------------------------------------------------------------------------


async def read(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body, unpacked.

    Raises:
        Problem: 413 if it is longer than `limit` bytes, packed or unpacked; 400 if it is not packed as it says.
        Gone: the client hung up.
    """
    message = await receive()
    body: bytes = message.get("body", b"")
    plain = True
    for name, value in scope["headers"]:
        if name == b"content-length" and (len(value) > 12 or int(value) > limit):
            raise too_large(limit)
        if name == b"content-encoding" and value != b"identity":
            plain = False
    if plain and not message.get("more_body") and message["type"] == "http.request":
        if len(body) > limit:
            raise too_large(limit)
        return body
    parts = [part async for part in stream(scope, receive, limit, first=message)]
    return b"".join(parts)


async def stream(
    scope: Scope, receive: Receive, limit: int, *, first: Mapping[str, Any] | None = None
) -> AsyncIterator[bytes]:
    """The body in unpacked pieces of at most `PIECE` bytes or as they come; errors as of `read`."""
    unpack = _unpacker(header(scope, b"content-encoding"))
    packed = unpacked = 0
    more = True
    while more:
        message = first or await receive()
        first = None
        if message["type"] != "http.request":
            raise Gone
        more = message.get("more_body", False)
        part = message.get("body", b"")
        packed += len(part)
        if packed > limit:
            raise too_large(limit)
        for piece in unpack(part, last=not more):
            unpacked += len(piece)
            if unpacked > limit:
                raise too_large(limit)
            yield piece


def too_large(limit: int) -> Problem:
    return Problem(413, "too_large", f"expected a body of at most {limit:,} bytes, unpacked; send it in parts")


Unpack = Callable[..., Iterator[bytes]]


def _unpacker(encoding: bytes | None) -> Unpack:
    match (encoding or b"identity").strip().lower():
        case b"identity" | b"":
            return _as_it_is
        case b"gzip" | b"x-gzip":
            return _Gzip().feed
        case b"zstd":
            return _Zstandard().feed
        case other:
            told = other[:40].decode("latin-1")
            raise Problem(415, "encoding", f"content-encoding: expected gzip, zstd or identity, got {told!r}")


def _as_it_is(part: bytes, *, last: bool) -> Iterator[bytes]:
    yield part


class _Gzip:
    """Any number of gzip members one after the other."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)
        self._began = False

    def feed(self, part: bytes, *, last: bool) -> Iterator[bytes]:
        try:
            while part:
                if self._member.eof:
                    self._member = zlib.decompressobj(wbits=31)
                self._began = True
                yield self._member.decompress(part, PIECE)
                part = self._member.unconsumed_tail or self._member.unused_data
        except zlib.error as error:
            raise Problem(400, "not_gzip", f"content-encoding: expected gzip, got something else ({error})") from None
        if last and not (self._began and self._member.eof):
            raise Problem(400, "not_gzip", "content-encoding: expected gzip to its end, got a body that was cut short")


class _Zstandard:
    """Zstandard frames. Arrow pulls where we are pushed, so the packed body is held until it is whole."""

    def __init__(self) -> None:
        self._packed = bytearray()

    def feed(self, part: bytes, *, last: bool) -> Iterator[bytes]:
        self._packed += part
        if len(self._packed) > PACKED_BYTES:
            raise Problem(413, "too_large", f"expected at most {PACKED_BYTES:,} bytes of zstd; send it in parts")
        if not last:
            return
        try:
            with pa.CompressedInputStream(pa.BufferReader(bytes(self._packed)), "zstd") as unpacked:
                while piece := unpacked.read(PIECE):
                    yield piece
        except OSError as error:
            told = str(error).splitlines()[0]
            raise Problem(400, "not_zstd", f"content-encoding: expected zstd, got something else ({told})") from None


# -- answering --------------------------------------------------------------------------------------------------------

_ALWAYS: Final = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))


async def answer(send: Send, reply: Reply) -> None:
    """Send a reply."""
    headers = [(b"content-type", reply.type), *_ALWAYS, *reply.headers]
    if reply.stream is None:
        headers.append((b"content-length", b"%d" % len(reply.body)))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    if reply.stream is not None:
        async for part in reply.stream:
            await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": reply.body})


def failure(problem: Problem) -> Reply:
    """The reply to a request that is not answered as asked."""
    headers = []
    if problem.retry_after is not None:
        headers.append((b"retry-after", b"%d" % max(1, ceil(problem.retry_after))))
    if problem.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if problem.allow:
        headers.append((b"allow", ", ".join(problem.allow).encode()))
    return Reply(problem.status, JSON.encode(Failure(error=problem.error())), headers)


def event(value: Any) -> bytes:
    """One server-sent event."""
    return b"data: %s\n\n" % JSON.encode(value)


DONE: Final = b"data: [DONE]\n\n"
"""How OpenAI ends a stream."""
