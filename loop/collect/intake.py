"""Durable intake: items are acknowledged when they are in the spool for good, and each content of each key once.

Group commit: one thread takes everything that waits, looks all keys up at once, appends what is new with one write and
one fdatasync, then writes the ledger, then answers. A crash in between loses nothing: the ledger is made good from the
segments on the next start. What an item says is the business of whoever makes and reads it; HTTP stands elsewhere.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from loop.collect.items import Head, Item, Receipt, Status, Verdict, Waiting, prepare, sort, waiting
from loop.collect.ledger import KEEP_SUGGESTIONS, Ledger, moment
from loop.collect.served import SuggestionRecord
from loop.collect.spool import Spool, SpoolFull
from loop.errors import LoopError

__all__ = ["Head", "Intake", "Item", "Receipt", "SpoolFull", "Status", "SuggestionRecord"]

_log = logging.getLogger(__name__)
GROUP_ITEMS: Final = 4096
"""A group takes no further put once it holds so many items or bytes."""
GROUP_BYTES: Final = 8 << 20
_RETRY_SECONDS: Final = 1.0
"""How long after a failure the ledger is opened again at the earliest."""
_TROUBLE_SECONDS: Final = 10.0
_FORGET_SECONDS: Final = 3600.0
T = TypeVar("T")
_decode_record = msgspec.json.Decoder(SuggestionRecord).decode


@dataclass
class Counts:
    """Since the start, for metrics."""

    stored: int = 0
    duplicates: int = 0
    conflicts: int = 0
    refused: int = 0
    """Items that were not acknowledged: the spool was full or the disk failed."""
    groups: int = 0
    sealed: int = 0
    replayed: int = 0
    """Items that the ledger did not have when it was opened."""
    torn_bytes: int = 0
    """What the spool set aside when it was opened, because it was no whole frame."""


@dataclass(frozen=True, slots=True)
class _Put:
    items: list[Waiting]
    reply: asyncio.Future[list[Receipt]]


class Intake:
    """Spool, ledger and the committer thread that alone writes to both."""

    def __init__(
        self,
        spool: Path,
        ledger: Path,
        *,
        segment_bytes: int = 16 << 20,
        segment_seconds: float = 5.0,
        limit_bytes: int = 1 << 30,
    ) -> None:
        """Opens both folders and brings the ledger up to date with the spool, which may take seconds after a crash.

        Raises:
            LoopError: another process has them open, a sealed segment is damaged, or the disk fails.
        """
        self.counts = Counts()
        self._folder = ledger
        self._spool = Spool(
            spool, segment_bytes=segment_bytes, segment_seconds=segment_seconds, limit_bytes=limit_bytes
        )
        if self._spool.recovered:
            self.counts.torn_bytes = self._spool.recovered
            _log.warning("%s: %d torn bytes were set aside", spool, self._spool.recovered)
        self._ledger: Ledger | None = None
        self._lost = ""
        """Why the ledger is not open."""
        self._tried = float("-inf")
        self._forgot = time.monotonic()  # not at once: what expired while it was down is told as ignored first
        self._trouble = (float("-inf"), "")
        try:
            self._open_ledger()
        except BaseException:
            self._spool.close()
            raise
        self._queue: queue.SimpleQueue[_Put | None] = queue.SimpleQueue()
        self._chores: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._tick = min(segment_seconds / 4, 0.5)
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)
        self._thread.start()

    # -- for the front ----------------------------------------------------------------------------------------------

    async def put(self, items: Sequence[Item | Waiting]) -> list[Receipt]:
        """Store all items; a receipt for each, in their order, once they are durable.

        An item may be prepared already, where somebody else had the time for it.

        A cancelled put may be stored all the same.

        Raises:
            SpoolFull: there is no room; nothing of these is acknowledged, send them again later.
            LoopError: the disk failed; likewise.
        """
        if not items:
            return []
        made = [item if isinstance(item, Waiting) else prepare(item) for item in items]
        put = _Put(made, asyncio.get_running_loop().create_future())
        with self._closing:
            if self._closed:
                raise LoopError("the intake is closed; send again when the gateway is back")
            self._queue.put(put)
        return await put.reply

    def suggestion(self, suggestion_id: str) -> SuggestionRecord | None:
        """The record of a suggestion of the last forty days."""
        record = self._held().record(suggestion_id)
        return None if record is None else _decode_record(record)

    def last_event(self, suggestion_id: str) -> str | None:
        """The key of the last event stored on a suggestion of the last forty days."""
        return self._held().last_event(suggestion_id)

    def expired(self, before: datetime, limit: int) -> list[SuggestionRecord]:
        """The oldest suggestions to a known employee, made before that time, that have no event yet; at most `limit`.

        They are told again until an event with their suggestion_id is stored.
        """
        return [_decode_record(record) for record in self._held().unanswered(before, limit)]

    @property
    def depth(self) -> int:
        """Puts that wait."""
        return self._queue.qsize()

    @property
    def spool_bytes(self) -> int:
        """Bytes of all segments."""
        return self._spool.size

    @property
    def trouble(self) -> str | None:
        """Why items were refused or a segment could not be sealed in the last ten seconds; None if all went well."""
        when, what = self._trouble
        return what if time.monotonic() - when < _TROUBLE_SECONDS else None

    # -- erasure ----------------------------------------------------------------------------------------------------

    async def apart(self, work: Callable[[Ledger], T]) -> T:
        """Something with the ledger that takes its time, beside the committer: reading, or compaction.

        Raises:
            LoopError: the ledger failed, or was opened again meanwhile.
        """
        return await asyncio.to_thread(lambda: work(self._held()))

    async def sealed(self, work: Callable[[Ledger], T]) -> T:
        """Something quick with the ledger, by the committer, once everything that was put is in sealed segments."""
        done: concurrent.futures.Future[T] = concurrent.futures.Future()

        def chore() -> None:
            try:
                self._seal()
                done.set_result(work(self._writable()))
            except BaseException as error:
                done.set_exception(error)
                raise

        with self._closing:
            if self._closed:
                raise LoopError("the intake is closed")
            self._chores.put(chore)
        return await asyncio.wrap_future(done)

    def close(self) -> None:
        """Store what waits, seal, and let go of the files. Blocks until then."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    # -- the committer thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        last = False
        while not last:
            puts, last = self._take()
            if puts:
                self._commit(puts)
            with self._noted():
                self._writable()
                if last or self._spool.due():
                    self._seal()
                with contextlib.suppress(queue.Empty):
                    self._chores.get_nowait()()
                if time.monotonic() - self._forgot > _FORGET_SECONDS:
                    self._writable().forget(datetime.now(UTC) - KEEP_SUGGESTIONS)
                    self._forgot = time.monotonic()
        self._spool.close()
        if self._ledger is not None:
            self._ledger.close()

    def _take(self) -> tuple[list[_Put], bool]:
        """What waits, up to a group's size; and whether nothing will follow."""
        puts: list[_Put] = []
        items = size = 0
        with contextlib.suppress(queue.Empty):
            put = self._queue.get(timeout=self._tick)
            while put is not None:
                puts.append(put)
                items += len(put.items)
                size += sum(len(item.frame) for item in put.items)
                if items >= GROUP_ITEMS or size >= GROUP_BYTES:
                    return puts, False
                put = self._queue.get_nowait()
            return puts, True
        return puts, False

    def _commit(self, puts: Sequence[_Put]) -> None:
        """Store a group, then answer each put: with receipts if all of it is stored, were it by earlier groups."""
        verdicts: list[Verdict] = []
        with self._noted() as failures:
            held = self._writable()
            verdicts, new = sort(held, [item for put in puts for item in put.items])
            if new:
                self._spool.append([item.frame for item in new])
                self._remember(held, new)
        self.counts.groups += 1
        replies: list[tuple[asyncio.Future[list[Receipt]], list[Receipt] | LoopError]] = []
        at = 0
        for put in puts:
            mine, at = verdicts[at : at + len(put.items)], at + len(put.items)
            if failures and not (mine and all(verdict.settled for verdict in mine)):
                self.counts.refused += len(put.items)
                replies.append((put.reply, type(failures[0])(*failures[0].args)))
                continue
            self._count(mine)
            receipts = [Receipt(item.key, v.status, moment(v.at)) for item, v in zip(put.items, mine, strict=True)]
            replies.append((put.reply, receipts))
        for loop in {reply.get_loop() for reply, _ in replies}:
            with contextlib.suppress(RuntimeError):  # it was closed: nobody waits there any more
                loop.call_soon_threadsafe(_answer, [reply for reply in replies if reply[0].get_loop() is loop])

    def _remember(self, held: Ledger, new: Sequence[Waiting]) -> None:
        try:
            held.write([item.entry for item in new])
        except BaseException as error:
            # The spool has them and the ledger does not: before anything else it is opened again, and they replayed.
            self._ledger, self._lost = None, str(error)
            held.close()
            raise

    def _seal(self) -> None:
        if (number := self._spool.number) is not None:
            self._writable().flush(sealed=number)  # before: what is sealed is in the ledger for good
            self._spool.seal()
            self.counts.sealed += 1

    def _count(self, verdicts: Sequence[Verdict]) -> None:
        for verdict in verdicts:
            match verdict.status:
                case Status.STORED:
                    self.counts.stored += 1
                case Status.DUPLICATE:
                    self.counts.duplicates += 1
                case Status.CONFLICT:
                    self.counts.conflicts += 1

    @contextlib.contextmanager
    def _noted(self) -> Iterator[list[LoopError]]:
        """Keeps the thread alive: what fails is noted as trouble and given in the list, as a LoopError."""
        failures: list[LoopError] = []
        try:
            yield failures
        except Exception as error:  # noqa: BLE001 - nobody would be answered any more
            if not isinstance(error, LoopError):
                _log.exception("the intake failed")
            failures.append(error if isinstance(error, LoopError) else LoopError(f"the intake failed: {error!r}"))
            self._trouble = (time.monotonic(), str(failures[0]))

    # -- the ledger -------------------------------------------------------------------------------------------------

    def _held(self) -> Ledger:
        if (held := self._ledger) is None:
            raise LoopError(f"{self._folder}: the ledger failed and could not be opened again yet: {self._lost}")
        return held

    def _writable(self) -> Ledger:
        if self._ledger is None and time.monotonic() - self._tried > _RETRY_SECONDS:
            self._tried = time.monotonic()
            try:
                self._open_ledger()
            except LoopError as error:
                self._lost = str(error)
        return self._held()

    def _open_ledger(self) -> None:
        """Open the ledger and write what the spool has and it has not: usually the end of the open segment."""
        held = Ledger(self._folder)
        try:
            frames = self._spool.since(held.sealed)
            while group := [waiting(frame) for frame in islice(frames, GROUP_ITEMS)]:
                _, new = sort(held, group)
                held.write([item.entry for item in new])
                self.counts.replayed += len(new)
            held.flush()
        except BaseException:
            held.close()
            raise
        self._ledger = held


def _answer(replies: Sequence[tuple[asyncio.Future[list[Receipt]], list[Receipt] | LoopError]]) -> None:
    for future, reply in replies:
        if future.done():  # whoever asked has gone
            continue
        if isinstance(reply, LoopError):
            future.set_exception(reply)
        else:
            future.set_result(reply)
