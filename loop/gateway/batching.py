"""Requests that wait at the same moment are answered together: a batch costs the model little more than one of them.

Which version answers is `loop.release.arms`'s business, and how `loop.release.serve`'s; here requests are gathered,
grouped, and their answers handed back. One thread computes; the event loop only waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from loop.errors import BadInputError, LoopError
from loop.evaluate.answers import Decoding
from loop.release.arms import Arm, Arms
from loop.release.serve import ROWS, Request, Suggestion, number

PROMPTS: Final = 32
"""Most requests in a batch."""
PATIENCE: Final = 0.3
"""How long a batch waits for as many requests as were there for the last one, in parts of how long that one took. Those
who are answered together ask again within a few milliseconds of each other, and a batch of 32 takes little longer than
one of 16; without waiting, the first of them would be answered alone while the others queue, time and again."""
PATIENCE_S: Final = 0.1
"""At most that long."""
WAITING: Final = 512
"""Most requests that may wait; more would wait longer than anybody does."""

_LOG = logging.getLogger(__name__)


class NotReadyError(LoopError):
    """Nothing can answer now; the same request may be answered later."""


@dataclass(frozen=True)
class Asked:
    """One request that waits."""

    request: Request
    n: int
    decoding: Decoding
    most_tokens: int
    reply: asyncio.Future[Suggestion]
    home: asyncio.AbstractEventLoop
    """The event loop to which the reply belongs."""


class Batcher:
    """Answers requests in batches, in a thread of its own, in order of arrival."""

    def __init__(self, arms: Callable[[], Arms | None], *, shuffle: bool) -> None:
        self.served = 0
        """Requests answered since the start."""
        self._arms = arms
        self._shuffle = shuffle
        self._crowd = 1
        """Requests that were there for the last batch: in it, or come before it ended."""
        self._patience_s = 0.0
        self._waiting: queue.SimpleQueue[Asked | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)

    @property
    def depth(self) -> int:
        """Requests that wait to be taken into a batch."""
        return self._waiting.qsize()

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End after the batch that is being computed."""
        self._waiting.put(None)
        if self._thread.is_alive():
            self._thread.join()

    async def ask(self, request: Request, *, n: int, decoding: Decoding, most_tokens: int) -> Suggestion:
        """The answer to one request. Cancelled, it is not computed unless that has begun.

        Raises:
            NotReadyError: no version is loaded, or too many wait.
            BadInputError: the request is at fault.
            LoopError: the model failed.
        """
        if self._arms() is None:
            raise NotReadyError("no model version is loaded yet; ask again soon")
        if self.depth >= WAITING:
            raise NotReadyError(f"{WAITING} requests wait already; ask again soon")
        home = asyncio.get_running_loop()
        asked = Asked(request, n, decoding, most_tokens, home.create_future(), home)
        self._waiting.put(asked)
        return await asked.reply

    # -- the thread -------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, ends = self._gather(first)
            started = time.monotonic()
            wanted = [asked for asked in batch if not asked.reply.done()]  # nobody waits for the others any more
            arms = self._arms()
            assert arms is not None, "asked only when something is loaded, and nothing is ever unloaded"
            crowd = 0
            for arm, group, seeds in _groups(arms, wanted):
                results = self._answers(arm, group, seeds)
                crowd = crowd or len(batch) + self.depth  # before anybody who is answered here can have asked again
                _hand_back(group, results)
            self._crowd = crowd
            self._patience_s = min(PATIENCE * (time.monotonic() - started), PATIENCE_S)
            if ends:
                return

    def _gather(self, first: Asked) -> tuple[list[Asked], bool]:
        """What waits, and while that is less than last time, what comes soon; and whether this batch is the last."""
        batch, rows = [first], first.n
        until = time.monotonic() + self._patience_s
        with contextlib.suppress(queue.Empty):
            while len(batch) < PROMPTS and rows < ROWS:
                patience = until - time.monotonic() if len(batch) < self._crowd else 0.0
                following = self._waiting.get(timeout=max(0.0, patience))
                if following is None:
                    return batch, True
                batch.append(following)
                rows += following.n
        return batch, False

    def _answers(self, arm: Arm, group: Sequence[Asked], seeds: Sequence[int]) -> list[Suggestion | Exception]:
        """Answers to requests that share everything but prompt and seed; one that fails alone fails alone."""
        asked = group[0]
        try:
            found = arm.server.answer(
                [a.request for a in group],
                n=asked.n,
                seeds=seeds,
                most_tokens=asked.most_tokens,
                decoding=asked.decoding,
                shuffle=self._shuffle,
                arm_propensity=arm.propensity,
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are answered
            if len(group) > 1:
                alone = zip(group, seeds, strict=True)
                return [result for one, seed in alone for result in self._answers(arm, [one], [seed])]
            if isinstance(error, BadInputError):
                return [error]
            _LOG.exception("%s failed to answer", arm.server.version)
            return [LoopError(f"{arm.server.version} failed to answer; the generator's log says why")]
        self.served += len(group)
        return list(found)


def _groups(arms: Arms, batch: Sequence[Asked]) -> list[tuple[Arm, list[Asked], list[int]]]:
    """The batch by version and decoding, with a fresh seed for each request, so that asked twice it is drawn twice."""
    groups: dict[object, tuple[Arm, list[Asked], list[int]]] = {}
    for asked in batch:
        seed = number(asked.request.request_id, secrets.token_hex(16))
        arm = arms.choose(seed, asked.request.request_id)
        key = (arm.server.version, asked.n, asked.decoding, asked.most_tokens)
        _, members, seeds = groups.setdefault(key, (arm, [], []))
        members.append(asked)
        seeds.append(seed)
    return list(groups.values())


def _hand_back(group: Sequence[Asked], results: Sequence[Suggestion | Exception]) -> None:
    def deliver() -> None:
        for asked, result in zip(group, results, strict=True):
            if asked.reply.done():
                continue
            if isinstance(result, Exception):
                asked.reply.set_exception(result)
            else:
                asked.reply.set_result(result)

    with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever waited
        group[0].home.call_soon_threadsafe(deliver)
