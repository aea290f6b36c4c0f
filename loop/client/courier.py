"""Delivery: one thread that takes what waits in the outbox to the gateway, in order, and tells those who wait for it.

Everything a client records goes through the outbox first, so what a call promised survives whatever comes after. While
the gateway is away nobody waits for it: calls return at once, and the thread tries again at growing random intervals.
Several processes may share an outbox; the one that holds its `sending` sends, for all of them. Nothing that is logged
says who decided what: kinds, counts and statuses alone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from itertools import groupby
from typing import Final

import httpx

from loop.client import wire
from loop.client.answers import GatewayError, OutboxState, Receipt, RefusedError, Status, UnavailableError
from loop.client.outbox import Entry, Outbox, Place
from loop.client.trying import call

LOG: Final = logging.getLogger("loop.client")
BATCH_ITEMS: Final = 200
BATCH_BYTES: Final = 1 << 22
"""The gateway takes arrays of at most 8 MB."""
EVERY: Final = 30.0
"""Seconds between looks into the folder for what another process left behind."""
AWAY: Final = wire.Pace(base=0.5, cap=60.0)
"""Between tries while the gateway is away."""
TURN: Final = 0.02
"""Seconds between looks at whether another process has finished sending."""

Post = Callable[[str, bytes], httpx.Response]
"""POST a JSON body to a route of the gateway."""


class Courier:
    """The thread, its outbox and who waits for which item. Make it after a fork, not before."""

    def __init__(self, outbox: Outbox, post: Post, pace: wire.Pace) -> None:
        self._outbox = outbox
        self._post = post
        self._pace = pace
        self._changed = threading.Condition()
        self._pending: dict[Place, tuple[str, Future[Receipt]]] = {}
        self._closed = threading.Event()
        self._due = 0.0
        """When to look next, by time.monotonic."""
        self._failures = 0
        self._trouble: GatewayError | None = None
        self._wanted = self._started = self._finished = 0
        """Rounds of delivery: up to which they were asked for, whatever is due; begun; ended."""
        self._thread = threading.Thread(target=self._run, name="loop-outbox", daemon=True)
        self._thread.start()

    def submit(self, item: wire.Item) -> Future[Receipt]:
        """Make an item durable, and promise its receipt: WAITING if the gateway turns out to be away.

        Raises:
            OutboxError: the outbox is full, or cannot be written; nothing is recorded.
        """
        future: Future[Receipt] = Future()
        with self._changed:
            if self._closed.is_set():
                raise GatewayError("expected an open client, this one is closed")
            end = self._outbox.append(item)
            if self._trouble and time.monotonic() < self._due:
                self._put_off(item.key, future)
            else:
                self._pending[end] = (item.key, future)
                self._due = 0.0
                self._changed.notify_all()
        return future

    def flush(self, timeout: float) -> OutboxState:
        """Try to deliver everything now, for at most `timeout` seconds; how the outbox stands then."""
        with self._changed:
            wanted = self._wanted = self._started + 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._finished >= wanted or self._closed.is_set(), timeout)
        return self.state()

    def state(self) -> OutboxState:
        """How the outbox stands."""
        waiting, refused, size = self._outbox.counts()
        trouble = self._trouble
        return OutboxState(waiting, refused, size, str(trouble) if trouble else None)

    def close(self, timeout: float) -> None:
        """Stop sending after the request under way, for at most `timeout` seconds; what waits stays on the disk."""
        self._closed.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(timeout)
        self._put_off_all()

    # -- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._closed.is_set() and self._wanted <= self._started:
                    if (left := self._due - time.monotonic()) <= 0:
                        break
                    self._changed.wait(left)
                if self._closed.is_set():
                    return
                self._started += 1
                self._due = time.monotonic() + EVERY
            try:
                self._deliver()
            except GatewayError as error:
                self._failed(error)
            except Exception as error:  # the thread must live, or everything would wait for ever
                LOG.exception("delivery from the outbox failed")
                self._failed(UnavailableError(f"delivery failed here: {type(error).__name__}"))
            else:
                self._failures, self._trouble = 0, None
            with self._changed:
                self._finished = self._started
                self._changed.notify_all()

    def _deliver(self) -> None:
        """Send until nothing waits. Raises why the gateway takes nothing more."""
        while not self._closed.is_set():
            with self._outbox.sending() as is_mine:
                entries = self._outbox.waiting(BATCH_ITEMS, BATCH_BYTES)
                if is_mine:
                    for group in _groups(entries):
                        self._send(group)
            self._settle_passed()
            if not entries:
                return
            if not is_mine:
                self._closed.wait(TURN)

    def _send(self, group: Sequence[Entry]) -> None:
        """Send entries of one kind, and settle as many of them as the gateway gave a verdict on, in order."""
        verdicts: list[tuple[Entry, Receipt | RefusedError]] = []
        try:
            for entry, receipt in zip(group, self._ask(group), strict=True):
                verdicts.append((entry, receipt or self._ask_alone(entry)))
        finally:
            if verdicts:
                self._settle(verdicts)

    def _ask(self, group: Sequence[Entry]) -> Sequence[Receipt | None]:
        """Receipts of a group sent as one array; None where the gateway is to be asked about an item alone."""
        items = [entry.item for entry in group if entry.item]
        if len(group) == 1 or not items:
            return [None] * len(group)
        body = b"[" + b",".join(item.body for item in items) + b"]"
        try:
            return wire.read_receipts(items, self._call(items[0].kind, body))
        except RefusedError as error:
            raise _kept(error) from None

    def _ask_alone(self, entry: Entry) -> Receipt | RefusedError:
        if entry.item is None:
            return RefusedError(0, "the line in the outbox cannot be read")
        try:
            return wire.read_receipt(entry.item, self._call(entry.item.kind, entry.item.body))
        except RefusedError as error:
            if error.status == 401:
                raise _kept(error) from None
            return error

    def _call(self, kind: str, body: bytes) -> httpx.Response:
        return call(lambda: self._post(wire.ROUTES[kind], body), self._pace, sleep=self._pause)

    def _pause(self, seconds: float) -> None:
        if self._closed.wait(seconds):
            raise UnavailableError("the client was closed before the gateway answered")

    def _settle(self, verdicts: Sequence[tuple[Entry, Receipt | RefusedError]]) -> None:
        """Move on over these entries, then tell who waits for them. A refusal that nobody waits for is set aside."""
        waiting: list[tuple[Future[Receipt], Receipt | RefusedError]] = []
        for entry, verdict in verdicts:
            with self._changed:
                _, future = self._pending.pop(entry.end, (None, None))
            if future and future.set_running_or_notify_cancel():
                waiting.append((future, verdict))
            elif isinstance(verdict, RefusedError):
                self._outbox.set_aside(entry, verdict.status, verdict.reason)
                LOG.warning("the gateway refused an item of the outbox with %d; it is set aside", verdict.status)
        try:
            self._outbox.advance(verdicts[-1][0].end)
        finally:  # whether or not the disk remembers it, the gateway has given its verdict
            for future, verdict in waiting:
                _resolve(future, verdict)

    def _settle_passed(self) -> None:
        """Tell those whose items another process sent."""
        cursor = self._outbox.cursor()
        with self._changed:
            passed = [self._pending.pop(end) for end in list(self._pending) if end <= cursor]
        refused = {r.key: r for r in self._outbox.refused()} if passed else {}
        for key, future in passed:
            if future.set_running_or_notify_cancel():
                refusal = refused.get(key)
                _resolve(
                    future,
                    RefusedError(refusal.status, refusal.reason) if refusal else Receipt(key, Status.STORED),
                )

    def _failed(self, error: GatewayError) -> None:
        self._failures += 1
        asked = error.retry_after if isinstance(error, UnavailableError) else None
        delay = (asked or 0.0) + AWAY.jitter(self._failures)
        if self._failures == 1 or not isinstance(error, UnavailableError):
            what = f"{error.status}" if isinstance(error, RefusedError) else type(error).__name__
            LOG.warning("the outbox waits for the gateway (%s); next try in %.1f s", what, delay)
        with self._changed:
            self._trouble = error
            self._due = time.monotonic() + delay
        self._put_off_all()

    def _put_off_all(self) -> None:
        with self._changed:
            pending, self._pending = self._pending, {}
        for key, future in pending.values():
            if future.set_running_or_notify_cancel():
                self._put_off(key, future)

    def _put_off(self, key: str, future: Future[Receipt]) -> None:
        """Say that an item waits; or that the token is refused, which somebody has to mend."""
        trouble = self._trouble
        _resolve(future, trouble if isinstance(trouble, RefusedError) else Receipt(key, Status.WAITING))


def _groups(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Runs of neighbours that go to the same route."""
    for _, group in groupby(entries, lambda entry: entry.item.kind if entry.item else ""):
        yield list(group)


def _resolve(future: Future[Receipt], verdict: Receipt | RefusedError) -> None:
    if isinstance(verdict, Receipt):
        future.set_result(verdict)
    else:
        future.set_exception(verdict)


def _kept(error: RefusedError) -> RefusedError:
    return RefusedError(error.status, error.reason, code=error.code, param=error.param, kept=True)
