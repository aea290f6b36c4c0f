"""HTTP to a process of ours on the same machine: kept connections, whole bodies, nothing else.

A general client costs more per request than the rest of the way to the generator (measured: 1.5 ms of processor time
against 0.2), which is time that the model does not get.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

IDLE: Final = 64
"""Most connections that are kept."""


class Reply(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes


class Connections:
    """Connections to one server, one request on each at a time."""

    def __init__(self, address: str) -> None:
        """`address` as `http://127.0.0.1:8000`."""
        parts = urlsplit(address)
        assert parts.scheme == "http", address
        assert parts.hostname is not None, address
        self._host, self._port = parts.hostname, parts.port or 80
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def call(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """One request. A kept connection that the server has closed meanwhile is replaced by a new one.

        Raises:
            OSError: the server cannot be reached, or broke off.
        """
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        host = f"{method} {path} HTTP/1.1\r\nhost: {self._host}:{self._port}\r\n"
        request = f"{host}content-length: {len(body)}\r\n{lines}\r\n".encode() + body
        while self._idle:
            reader, writer = self._idle.pop()
            if reader.at_eof() or writer.is_closing():
                writer.close()
                continue
            try:
                return await self._exchange(reader, writer, request)
            except ConnectionResetError:
                continue
        return await self._exchange(*await asyncio.open_connection(self._host, self._port), request)

    def close(self) -> None:
        """Close what is kept."""
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> Reply:
        """Send and read; the connection is kept if all of the reply came, and closed else (also when cancelled)."""
        whole = False
        try:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head[:-4].split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            reply = Reply(
                int(first.split(" ", 2)[1]), headers, await reader.readexactly(int(headers["content-length"]))
            )
            whole = headers.get("connection", "").lower() != "close" and len(self._idle) < IDLE
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("the server broke off its reply") from error
        except (asyncio.LimitOverrunError, ValueError, IndexError, KeyError) as error:
            raise ConnectionError("expected a reply in HTTP with a content-length") from error
        finally:
            if whole:
                self._idle.append((reader, writer))
            else:
                writer.close()
        return reply
