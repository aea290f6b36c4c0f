"""The second process of the front: it reads long batches, for to decode and check an event costs more than to store it.

It is asked for whole events on other tools' suggestions, which it can judge by themselves. What else it meets, and
every line that is not in order, it leaves to the front. It ends when the front does, however that happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Final, cast

import msgspec

from loop.collect.items import Waiting, prepare
from loop.gateway import records
from loop.gateway.records import Names, Taken
from loop.gateway.wire import Problem

WORTH: Final = 200
"""Lines below which asking costs more than it saves."""
PATIENCE: Final = 10.0
"""Seconds after which the reader is given up, with whatever it was asked."""
_RESTART_SECONDS: Final = 1.0
_LENGTH: Final = struct.Struct("<I")
_BUFFER: Final = 1 << 20

_log = logging.getLogger(__name__)


class Asked(msgspec.Struct, array_like=True):
    """Lines of one group, and by which rules they are read."""

    lines: list[bytes]
    workflows: tuple[str, ...]
    """Those of the token."""
    stored: bytes
    compared: bytes
    now: datetime


class _Read(msgspec.Struct, array_like=True, gc=False):
    item: Waiting
    suggestion_id: str


_encode: Final = msgspec.msgpack.Encoder().encode
_decode_asked: Final = msgspec.msgpack.Decoder(Asked).decode
_decode_read: Final = msgspec.msgpack.Decoder(list[_Read | None]).decode


# -- the front's end --------------------------------------------------------------------------------------------------


class Reader:
    """The reading process as the front has it: started when it is first of use, and again when it is lost."""

    def __init__(self, *, cores: int | None = None) -> None:
        """`cores`: how many processors there are; with one there is nothing to gain and no process."""
        self._alone = (len(os.sched_getaffinity(0)) if cores is None else cores) < 2
        self._process: subprocess.Popen[bytes] | None = None
        self._line: _Line | None = None
        self._started = float("-inf")

    async def read(self, lines: Sequence[bytes], workflows: tuple[str, ...], names: Names, now: datetime) -> Reads:
        """What is to be stored of each line; None for those that are left to the caller."""
        nothing: Reads = [None] * len(lines)
        if self._alone or len(lines) < WORTH:
            return nothing
        if self._line is None or self._line.lost:
            await self._start()
        line = self._line
        if line is None or not line.ready:
            return nothing
        try:
            answer = await asyncio.wait_for(
                line.ask(_encode(Asked(list(lines), workflows, names.stored, names.compared, now))), PATIENCE
            )
        except (TimeoutError, ConnectionError) as error:
            _log.warning("the reading process is lost (%r); what it was asked is read here", error)
            self.close()
            return nothing
        read = _decode_read(answer)
        assert len(read) == len(lines), "the reading process lost a line"
        return [None if one is None else Taken(records.EVENT, one.item, one.suggestion_id) for one in read]

    async def _start(self) -> None:
        if time.monotonic() - self._started < _RESTART_SECONDS:
            return
        self.close()
        self._started = time.monotonic()
        _, self._line = await asyncio.get_running_loop().create_connection(_Line, sock=self._spawned())

    def _spawned(self) -> socket.socket:
        """Our end of the line to a process that starts; a millisecond, for nothing of ours is copied."""
        ours, theirs = socket.socketpair()
        with theirs:
            for end in (ours, theirs):
                for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                    end.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
            ours.setblocking(False)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "loop.gateway.reading", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        return ours

    def close(self) -> None:
        """Let the process go; what it was asked fails with a ConnectionError."""
        if self._line is not None:
            self._line.close()
        if self._process is not None:
            self._process.kill()  # it holds nothing that anybody misses
            self._process.wait()
        self._line = self._process = None


Reads = list[Taken | None]


class _Line(asyncio.Protocol):
    """The connection to the process: answers come in the order of the questions, after a first empty one."""

    def __init__(self) -> None:
        self.ready = False
        """Whether the process has said that it is there."""
        self.lost = False
        self._transport: asyncio.Transport | None = None
        self._asked: deque[asyncio.Future[bytes]] = deque()
        self._parts: list[bytes] = []
        self._held = 0
        self._wanted: int | None = None

    def ask(self, question: bytes) -> asyncio.Future[bytes]:
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if self._transport is None or self.lost:
            answer.set_exception(ConnectionResetError())
            return answer
        self._asked.append(answer)
        self._transport.writelines((_LENGTH.pack(len(question)), question))
        return answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self.connection_lost(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parts.append(data)
        self._held += len(data)
        while self._held >= (self._wanted or _LENGTH.size):
            whole = b"".join(self._parts)
            if self._wanted is None:
                self._wanted = _LENGTH.unpack_from(whole)[0]
                rest = whole[_LENGTH.size :]
            else:
                rest = whole[self._wanted :]
                self._take(whole[: self._wanted])
                self._wanted = None
            self._parts, self._held = [rest], len(rest)
            if self._wanted == 0:
                self._wanted, self.ready = None, True

    def _take(self, answer: bytes) -> None:
        asked = self._asked.popleft()
        if not asked.done():
            asked.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        while self._asked:
            if not (asked := self._asked.popleft()).done():
                asked.set_exception(ConnectionResetError())


# -- the process ------------------------------------------------------------------------------------------------------


def answer(asked: Asked) -> list[_Read | None]:
    """What is to be stored of each line, None for those that are the front's business."""
    names, workflows = Names(asked.stored, asked.compared), frozenset(asked.workflows)
    return [_read(line, workflows, names, asked.now) for line in asked.lines]


def _read(line: bytes, workflows: frozenset[str], names: Names, now: datetime) -> _Read | None:
    sent = records.read_whole(line)
    if (
        sent is None
        or sent.received_at is not None  # may be said by some tokens only
        or sent.workflow not in workflows
        or records.is_ours(sent.suggestion_id)
    ):
        return None
    try:
        return _Read(prepare(records.whole_item(sent, names, now)), sent.suggestion_id)
    except Problem:
        return None


def main(arguments: list[str]) -> None:
    """Read what is asked over the socket whose descriptor is the argument, until that is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the front's to answer
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)  # as in the front: events leave no cycles
    with socket.socket(fileno=int(arguments[0])) as line, contextlib.suppress(OSError):
        line.sendall(_LENGTH.pack(0))
        with line.makefile("rb", buffering=_BUFFER) as questions:
            while head := questions.read(_LENGTH.size):
                told = _encode(answer(_decode_asked(questions.read(_LENGTH.unpack(head)[0]))))
                line.sendall(_LENGTH.pack(len(told)))
                line.sendall(told)


if __name__ == "__main__":
    main(sys.argv[1:])
