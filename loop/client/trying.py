"""One request, tried until it is answered or its pace gives up; once for threads and once for asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import httpx

from loop.client import wire
from loop.client.answers import UnavailableError


def call(
    post: Callable[[], httpx.Response],
    pace: wire.Pace,
    *,
    is_keyed: bool = True,
    sleep: Callable[[float], object] = time.sleep,
) -> httpx.Response:
    """The first answer that is a verdict, good or bad.

    Args:
        is_keyed: whether what is sent carries a client key. What does not may be made twice, so that it is not sent
            again when the answer takes too long.

    Raises:
        UnavailableError: none came; the last reason.
    """
    failed = 0
    while True:
        try:
            response = post()
            error = _later(response)
        except httpx.RequestError as broken:
            error = wire.unreachable(broken)
            if isinstance(broken, httpx.ReadTimeout) and not is_keyed:
                raise error from broken
        if error is None:
            return response
        failed += 1
        if (delay := pace.delay(failed, error)) is None:
            raise error
        sleep(delay)


async def acall(
    post: Callable[[], Awaitable[httpx.Response]], pace: wire.Pace, *, is_keyed: bool = True
) -> httpx.Response:
    """As `call`."""
    failed = 0
    while True:
        try:
            response = await post()
            error = _later(response)
        except httpx.RequestError as broken:
            error = wire.unreachable(broken)
            if isinstance(broken, httpx.ReadTimeout) and not is_keyed:
                raise error from broken
        if error is None:
            return response
        failed += 1
        if (delay := pace.delay(failed, error)) is None:
            raise error
        await asyncio.sleep(delay)


def _later(response: httpx.Response) -> UnavailableError | None:
    """Why an answer is to be asked for again; None for a verdict."""
    if response.status_code in (200, 207):
        return None
    error = wire.failure(response)
    return error if isinstance(error, UnavailableError) else None
