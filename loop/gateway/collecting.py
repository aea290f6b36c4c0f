"""Taking what people did: feedback and late outcomes, one or many, and the suggestions on which nobody decided.

An answer is given when the intake has made durable what it speaks of. The forms are in `wire.py`, what is stored of an
item in `records.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import repeat
from typing import Final, Protocol

import msgspec

from loop import schema
from loop.collect.events import LINE_BYTES, Reason
from loop.collect.items import Item, Receipt, Status, Waiting
from loop.collect.served import SuggestionRecord
from loop.gateway import http, records, wire
from loop.gateway.access import Token
from loop.gateway.http import Reply, Request
from loop.gateway.reading import Reader
from loop.gateway.records import Names, Taken, Whole
from loop.gateway.wire import JSON, Problem, Stored

ARRAY_BYTES: Final = 8 << 20
"""Longest body that holds an array."""
BATCH_BYTES: Final = 64 << 20
"""Longest batch, unpacked."""
BATCH_LINES: Final = 100_000
GROUP: Final = 1_000
"""Items that are stored together, so that a long batch is never held whole."""
SLICE: Final = 200
"""Items after which others have their turn: some milliseconds."""
BATCHES: Final = 16
"""Batches that are read at a time; others wait, unread."""
SWEEP: Final = 1_000
"""Ignored suggestions that are looked for at a time."""


class Store(Protocol):
    """What is needed of `loop.collect.intake.Intake`."""

    async def put(self, items: Sequence[Item | Waiting]) -> list[Receipt]: ...
    def suggestion(self, suggestion_id: str) -> SuggestionRecord | None: ...
    def last_event(self, suggestion_id: str) -> str | None: ...
    def expired(self, before: datetime, limit: int) -> list[SuggestionRecord]: ...


@dataclass
class Context:
    """What the items of one request share."""

    token: Token
    names: Names
    now: datetime
    """Of a long batch, when the group was read that is being read: what came over another connection meanwhile is not
    to look later than it was."""
    last: dict[str, str] = field(default_factory=dict)
    """Suggestion to the last event on it within this request."""


Read = Callable[[bytes, Context], Taken]


@dataclass
class Collecting:
    """The routes of feedback and outcomes over one store."""

    store: Store
    names: Callable[[], Names]
    """The keys of now, for the first of them may be replaced at any time."""
    reject: Callable[[str], None]
    """Told the code of every item that is not taken."""
    reader: Reader = field(default_factory=Reader)
    _coming: dict[str, str] = field(default_factory=dict)
    """Suggestion of ours to the last event on it that is being stored: the store knows it only afterwards."""
    _latest: datetime = field(default_factory=lambda: datetime.now(UTC))
    _batches: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(BATCHES))

    # -- routes -----------------------------------------------------------------------------------------------------

    async def feedback(self, request: Request, token: Token) -> Reply:
        """POST /v1/feedback"""
        return await self._one_or_many(request, token, self._event)

    async def outcomes(self, request: Request, token: Token) -> Reply:
        """POST /v1/outcomes"""
        return await self._one_or_many(request, token, self._outcome)

    async def batch(self, request: Request, token: Token) -> Reply:
        """POST /v1/feedback/batch"""
        async with self._batches:
            pieces = http.stream(request.scope, request.receive, BATCH_BYTES)
            return await self._many(_groups(_lines(pieces)), self._context(token), self._event, self.reader)

    async def sweep(self, before: datetime) -> int:
        """Store an ignore for each suggestion made before that time on which nobody decided; how many there were."""
        swept = 0
        while found := self.store.expired(before, SWEEP):
            now = self._now()
            receipts = await self._put([records.ignored(record, now) for record in found])
            new = sum(receipt.status is Status.STORED for receipt in receipts)
            swept += new
            if not new:  # they will be told again as long as they are there; do not go round in circles
                break
        return swept

    # -- one and many -----------------------------------------------------------------------------------------------

    def _context(self, token: Token) -> Context:
        return Context(token, self.names(), self._now())

    def _now(self) -> datetime:
        """The clock's time, but never before one that was given already: a later decision counts, by its receipt."""
        self._latest = max(self._latest, datetime.now(UTC))
        return self._latest

    async def _one_or_many(self, request: Request, token: Token, read: Read) -> Reply:
        body = await http.read(request.scope, request.receive, ARRAY_BYTES)
        if body[:1].isspace():
            body = body.lstrip()
        if body[:1] == b"[":
            return await self._many(_groups(_array(body)), self._context(token), read)
        return await self._one(body, self._context(token), read)

    async def _one(self, body: bytes, context: Context, read: Read) -> Reply:
        try:
            taken = read(body, context)
        except Problem as problem:
            self.reject(problem.code)
            raise
        (receipt,) = await self._put([taken.item])
        if receipt.status is Status.CONFLICT:
            raise _conflict(taken)
        return Reply(200, JSON.encode(_stored(taken, receipt)), items=1)

    async def _many(
        self, groups: AsyncIterator[list[bytes]], context: Context, read: Read, reader: Reader | None = None
    ) -> Reply:
        """Read a group while the one before it is being stored."""
        told = _Told()
        storing: Awaitable[None] | None = None
        try:
            async for group in groups:
                results, taken = await self._read(group, context, read, reader)
                if storing is not None:
                    await storing
                storing = asyncio.ensure_future(self._store(results, taken, told))
            if storing is not None:
                await storing
        except BaseException:
            if storing is not None:
                with suppress(Exception):
                    await storing
            raise
        return told.reply()

    async def _read(
        self, group: Sequence[bytes], context: Context, read: Read, reader: Reader | None
    ) -> tuple[list[Stored | None], list[Taken]]:
        """What is said at once of each item of a group, None for those that are to be stored; and those.

        Most items are read by the reader where there is one, the others here.
        """
        results: list[Stored | None] = []
        taken: list[Taken] = []
        context.now = self._now()
        easy: Iterable[Taken | None] = repeat(None, len(group))
        if reader is not None:
            easy = await reader.read(group, context.token.workflows, context.names, context.now)
        here = 0
        for line, one in zip(group, easy, strict=True):
            if one is not None:
                taken.append(one)
                results.append(None)
                continue
            try:
                taken.append(read(line, context))
                results.append(None)
            except Problem as problem:
                self.reject(problem.code)
                results.append(_rejected(line, problem))
            here += 1
            if here % SLICE == 0:
                await asyncio.sleep(0)
        return results, taken

    async def _store(self, results: list[Stored | None], taken: Sequence[Taken], told: _Told) -> None:
        """Store what a group holds, and note what became of every item in its order."""
        receipts = zip(taken, await self._put([one.item for one in taken]), strict=True)
        told.add([_stored(*next(receipts)) if result is None else result for result in results])

    async def _put(self, items: Sequence[Item | Waiting]) -> list[Receipt]:
        """Store items; what is decided on their suggestions meanwhile comes after them, and revises them."""
        decided = {item.suggestion_id: item for item in items if isinstance(item, Item) and item.suggestion_id}
        mine = {about: one.key for about, one in decided.items() if not (one.yields and about in self._coming)}
        self._coming |= mine
        try:
            return await self.store.put(items)
        finally:
            for about, key in mine.items():
                if self._coming.get(about) == key:
                    del self._coming[about]

    # -- what an item is --------------------------------------------------------------------------------------------

    def _event(self, line: bytes, context: Context) -> Taken:
        sent = records.read(line)
        about = sent.suggestion_id
        if sent.received_at is not None and "admin" not in context.token.scopes:
            message = (
                "received_at: expected it from a token with the scope admin only, for learning cycles go by it; "
                "leave it out, and it is the time of this request"
            )
            raise Problem(403, "forbidden", message, param="received_at")
        if isinstance(sent, Whole):
            if sent.workflow in schema.WORKFLOWS:
                require(context.token, sent.workflow)
            record = self.store.suggestion(about) if records.is_ours(about) else None
            if record is not None:
                require(context.token, record.workflow)
            item = records.whole_item(sent, context.names, context.now, record)
        else:
            record = self._record(about, context.token)
            if sent.shown_at is not None:
                _same_day(sent.shown_at, record, context.token)
            last = None
            if sent.revises is None:
                last = context.last.get(about) or self._coming.get(about) or self.store.last_event(about)
            item = records.joined(sent, record, last, context.names, context.now)
        if item.suggestion_id is not None:
            context.last[about] = item.key
        return Taken(records.EVENT, item, about)

    def _outcome(self, line: bytes, context: Context) -> Taken:
        if len(line) > LINE_BYTES:
            raise wire.too_long()
        sent = wire.decode(wire.OUTCOME, line)
        record = self._record(sent.suggestion_id, context.token)
        return Taken(records.OUTCOME, records.outcome_item(sent, record, context.now), sent.suggestion_id)

    def _record(self, suggestion_id: str, token: Token) -> SuggestionRecord:
        record = self.store.suggestion(suggestion_id)
        if record is None:
            message = (
                "suggestion_id: expected one that this gateway made in the last forty days, got another; "
                "for feedback on it send the whole event"
            )
            raise Problem(404, "unknown_suggestion", message, param="suggestion_id")
        require(token, record.workflow)
        return record


def _same_day(shown_at: datetime, record: SuggestionRecord, token: Token) -> None:
    """Refuse a time of showing on another day than the suggestion's, unless a relay says so.

    What is known of a suggestion, its revisions and its outcomes, stands in the partition of its day.

    Raises:
        Problem: 422.
    """
    if "admin" not in token.scopes and wire.utc(shown_at, "shown_at").date() != record.shown_at.date():
        told = f"shown_at: expected a time on {record.shown_at:%Y-%m-%d}, the day of the suggestion, got another day"
        raise Problem(422, Reason.TIMES.value, told, param="shown_at")


def require(token: Token, workflow: str, named: str = "workflow") -> None:
    """Refuse what is about a workflow that the token does not name; `named` is what the request calls it.

    Raises:
        Problem: 403.
    """
    if workflow not in token.workflows:
        mine = ", ".join(token.workflows)
        message = f"{named}: expected one of this token ({mine}), got another; ask for a token that names it"
        raise Problem(403, "wrong_workflow", message, param=named)


# -- items out of a body ----------------------------------------------------------------------------------------------


async def _array(body: bytes) -> AsyncIterator[list[bytes]]:
    yield [bytes(raw) for raw in wire.decode_array(body)]


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    """Lines that are not blank, without their ends. Of a line that is too long to be an item only that much is kept."""
    rest = bytearray()
    count = 0
    async for piece in pieces:
        *lines, last = piece.split(b"\n")
        if lines and rest:
            lines[0] = bytes(rest + lines[0][: LINE_BYTES + 1])
            rest.clear()
        rest += last[: max(0, LINE_BYTES + 1 - len(rest))]
        lines = [line for line in lines if line and not line.isspace()]
        count = _counted(count + len(lines))
        yield lines
    if rest and not rest.isspace():
        _counted(count + 1)
        yield [bytes(rest)]


def _counted(lines: int) -> int:
    if lines > BATCH_LINES:
        raise Problem(413, "too_large", f"expected at most {BATCH_LINES:,} lines; send them in parts")
    return lines


async def _groups(found: AsyncIterator[list[bytes]]) -> AsyncIterator[list[bytes]]:
    """The same lines, `GROUP` at a time."""
    waiting: list[bytes] = []
    async for lines in found:
        waiting += lines
        while len(waiting) >= GROUP:
            yield waiting[:GROUP]
            del waiting[:GROUP]
    if waiting:
        yield waiting


# -- what became of them ----------------------------------------------------------------------------------------------


class _Ids(msgspec.Struct):
    """The keys of an item that is not taken, as far as they can be read."""

    event_id: str | None = None
    outcome_id: str | None = None
    suggestion_id: str | None = None


_IDS: Final = msgspec.json.Decoder(_Ids)


@dataclass
class _Told:
    """What became of the items so far, written already, for the answer to a long batch is long too."""

    parts: list[bytes] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(Status, 0) | {"rejected": 0})

    def add(self, results: list[Stored]) -> None:
        for result in results:
            self.counts[result.status] += 1
        self.parts.append(JSON.encode(results)[1:-1])

    def reply(self) -> Reply:
        stored, duplicates = self.counts[Status.STORED], self.counts[Status.DUPLICATE]
        conflicts, rejected = self.counts[Status.CONFLICT], self.counts["rejected"]
        body = b'{"results":[%s],"stored":%d,"duplicates":%d,"conflicts":%d,"rejected":%d}' % (
            b",".join(self.parts),
            stored,
            duplicates,
            conflicts,
            rejected,
        )
        status = 207 if conflicts or rejected else 200
        return Reply(status, body, items=stored + duplicates + conflicts + rejected)


def _stored(taken: Taken, receipt: Receipt) -> Stored:
    key = taken.item.key
    error = _conflict(taken).error(of_item=True) if receipt.status is Status.CONFLICT else None
    is_event = taken.kind == records.EVENT
    return Stored(
        status=receipt.status.value,
        event_id=key if is_event else None,
        outcome_id=None if is_event else key,
        suggestion_id=taken.suggestion_id,
        received_at=receipt.received_at,
        error=error,
    )


def _rejected(line: bytes, problem: Problem) -> Stored:
    ids = _Ids()
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        ids = _IDS.decode(line)
    return Stored(
        status="rejected",
        event_id=ids.event_id,
        outcome_id=ids.outcome_id,
        suggestion_id=ids.suggestion_id,
        error=problem.error(of_item=True),
    )


def _conflict(taken: Taken) -> Problem:
    name = f"{taken.kind}_id"
    message = f"{name}: expected the content that came before with this id, got another; both are kept"
    return Problem(409, "conflict", message, param=name)


def overdue(now: datetime, hours: float) -> datetime:
    """Before which suggestions are ignored by now if nobody decided on them."""
    return now - timedelta(hours=hours)
