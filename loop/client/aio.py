"""The client for asyncio. The outbox is written and delivered in threads; the event loop waits for no disk."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

import httpx

from loop.client import wire
from loop.client.answers import OutboxState, Receipt, Status, Suggestion
from loop.client.courier import Courier
from loop.client.outbox import Outbox
from loop.client.sync import http, needed, opened
from loop.client.trying import acall


class AsyncLoop:
    """As `Loop`, for one event loop."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        outbox: Outbox | Path | str | None = None,
        timeout: float = 10.0,
        pace: wire.Pace | None = None,
    ) -> None:
        self._client = httpx.AsyncClient(base_url=wire.base_url(url), headers=wire.headers(token), timeout=timeout)
        self._pace = pace or wire.Pace()
        self._timeout = timeout
        self.outbox = opened(outbox)
        """What waits and what is set aside; None without one."""
        self._sender = http(url, token, timeout) if self.outbox else None
        self._courier = Courier(self.outbox, self._deliver, self._pace) if self.outbox else None

    async def suggest(self, workflow: str, messages: wire.Messages, **asked: Unpack[wire.Asked]) -> Suggestion:
        """As `Loop.suggest`."""
        body = wire.suggestion_body(workflow, messages, asked)
        response = await acall(lambda: self._post("/v1/suggestions", body), self._pace, is_keyed=False)
        return wire.read_suggestion(response)

    async def accept(
        self, suggestion: Suggestion | str, chosen: int | None = None, **told: Unpack[wire.Told]
    ) -> Receipt:
        """As `Loop.accept`."""
        return await self.feedback(suggestion, "accept", chosen=chosen, **told)

    async def modify(
        self, suggestion: Suggestion | str, final_text: str, chosen: int | None = None, **told: Unpack[wire.Told]
    ) -> Receipt:
        """As `Loop.modify`."""
        return await self.feedback(suggestion, "modify", chosen=chosen, final_text=final_text, **told)

    async def reject(self, suggestion: Suggestion | str, **told: Unpack[wire.Told]) -> Receipt:
        """As `Loop.reject`."""
        return await self.feedback(suggestion, "reject", **told)

    async def ignore(self, suggestion: Suggestion | str, **told: Unpack[wire.Told]) -> Receipt:
        """As `Loop.ignore`."""
        return await self.feedback(suggestion, "ignore", **told)

    async def feedback(
        self,
        suggestion: Suggestion | str,
        decision: wire.Decision,
        *,
        chosen: int | None = None,
        final_text: str | None = None,
        **told: Unpack[wire.Told],
    ) -> Receipt:
        """As `Loop.feedback`. With an outbox, what a cancelled call told may still be delivered."""
        return await self._record(wire.feedback(suggestion, decision, chosen, final_text, told))

    async def outcome(
        self,
        suggestion: Suggestion | str,
        name: str,
        value: float,
        *,
        observed_at: datetime | None = None,
        outcome_id: str | None = None,
    ) -> Receipt:
        """As `Loop.outcome`."""
        return await self._record(wire.outcome(suggestion, name, value, observed_at, outcome_id))

    async def flush(self, timeout: float | None = None) -> OutboxState:  # noqa: ASYNC109 - a bound, not a cancellation
        """As `Loop.flush`."""
        courier = needed(self._courier)
        return await asyncio.to_thread(courier.flush, self._timeout if timeout is None else timeout)

    async def state(self) -> OutboxState:
        """As `Loop.state`."""
        return await asyncio.to_thread(needed(self._courier).state)

    async def close(self) -> None:
        """As `Loop.close`."""
        if self._courier:
            await asyncio.to_thread(self._courier.close, self._timeout)
        if self._sender:
            self._sender.close()
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _post(self, route: str, body: bytes) -> httpx.Response:
        return await self._client.post(route, content=body)

    def _deliver(self, route: str, body: bytes) -> httpx.Response:
        assert self._sender is not None
        return self._sender.post(route, content=body)

    async def _record(self, item: wire.Item) -> Receipt:
        if self._courier is None:
            response = await acall(lambda: self._post(wire.ROUTES[item.kind], item.body), self._pace)
            return wire.read_receipt(item, response)
        future = await asyncio.to_thread(self._courier.submit, item)
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), self._timeout)
        except TimeoutError:
            return Receipt(item.key, Status.WAITING) if future.cancel() else await asyncio.wrap_future(future)
