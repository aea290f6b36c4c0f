"""The client of the gateway for Python tools. Imports nothing else of Loop.

`Loop` for plain code, `AsyncLoop` for asyncio; `loop.js` beside this file is the same for web pages. What answers look
like is in `answers`, what goes over the wire in `wire`, what happens while the gateway is away in `outbox` and
`courier`.

Example:
    >>> with Loop("http://127.0.0.1:8400", token, outbox="outbox") as loop:
    ...     shown = loop.suggest("ads", "brief: running shoes, budget low", employee="kim")
    ...     loop.accept(shown, 1, dwell_ms=2300)
    Receipt(key='8f0c...', status=<Status.STORED: 'stored'>, ...)
"""

from __future__ import annotations

from loop.client.aio import AsyncLoop
from loop.client.answers import (
    Candidate,
    GatewayError,
    OutboxError,
    OutboxFullError,
    OutboxState,
    Receipt,
    Refusal,
    RefusedError,
    Status,
    Suggestion,
    UnavailableError,
)
from loop.client.outbox import Outbox
from loop.client.sync import Loop
from loop.client.wire import Pace

__all__ = [
    "AsyncLoop",
    "Candidate",
    "GatewayError",
    "Loop",
    "Outbox",
    "OutboxError",
    "OutboxFullError",
    "OutboxState",
    "Pace",
    "Receipt",
    "Refusal",
    "RefusedError",
    "Status",
    "Suggestion",
    "UnavailableError",
]
