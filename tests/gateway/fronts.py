"""Helpers: a real front on 127.0.0.1, its protocol, the durable intake and the gate; only the model's texts are fixed.

No Postgres: the gate reads its snapshot, which is what it does when the database is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import msgspec
import uvicorn

from loop.collect import spool
from loop.collect.events import pseudonym
from loop.collect.intake import Intake
from loop.config import Settings
from loop.gateway import run
from loop.gateway.access import Gate, Known, Token
from loop.gateway.backend import Ask, Backend, Generated, Piece, Produced
from loop.gateway.front import Front

TEXTS = ("target newcomers", "target regulars", "target families", "target strangers")
_SECRET = "5e" * 32
_NUMBER = count(1)


def _token(number: int, **changes: Any) -> Token:
    given: dict[str, Any] = {
        "token_id": f"{number:012x}",
        "tool": "desk",
        "workflows": ("ads", "moderation"),
        "scopes": ("suggest", "feedback", "outcomes"),
        "purposes": ("training",),
        "per_minute": 10**9,
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        "created_by": "ann",
    }
    return Token(**given | changes)


TOKENS = {
    "desk": _token(1),
    "moderation": _token(2, workflows=("moderation",)),
    "asks": _token(3, scopes=("suggest",)),
    "relay": _token(6, scopes=("suggest", "feedback", "admin")),
    "logged": _token(7),
    "slow": _token(4, per_minute=6),
    "all": _token(5, workflows=("ads", "moderation", "design", "comms"), purposes=()),
}


def bearer(name: str) -> str:
    return f"loop_{TOKENS[name].token_id}_{_SECRET}"


@dataclass
class Fixed:
    """A backend that knows its answers by heart."""

    error: Exception | None = None
    late: Exception | None = None
    """Raised in a stream after the first text."""
    delay: float = 0.0
    asked: list[Ask] = field(default_factory=list)
    cancelled: int = 0

    async def generate(self, ask: Ask) -> Generated:
        self.asked.append(ask)
        try:
            await asyncio.sleep(self.delay)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return Generated(
            model_version="v7",
            arm_propensity=0.9,
            order_propensity=1.0 / ask.n,
            candidates=[Produced(TEXTS[i % len(TEXTS)], -1.5 - i, 3, i != 1) for i in range(ask.n)],
            prompt_tokens=11,
            completion_tokens=3 * ask.n,
        )

    async def stream(self, ask: Ask) -> AsyncIterator[Piece | Generated]:
        made = await self.generate(ask)
        for position, candidate in enumerate(made.candidates):
            for word in (candidate.text[:6], candidate.text[6:]):
                yield Piece(position, word)
            if self.late is not None:
                raise self.late
        yield made

    async def ready(self) -> str | None:
        return None if self.error is None else str(self.error)

    async def close(self) -> None:
        pass


@dataclass
class Running:
    """A front that serves."""

    settings: Settings
    server: uvicorn.Server
    front: Front
    intake: Intake
    backend: Fixed
    loop: asyncio.AbstractEventLoop
    client: httpx.Client

    @property
    def port(self) -> int:
        return int(self.server.servers[0].sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def post(self, path: str, body: Any, token: str | None = "desk", **more: Any) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {**({"authorization": f"Bearer {bearer(token)}"} if token else {}), **more.pop("headers", {})}
        return self.client.post(path, content=content, headers=headers, **more)

    def get(self, path: str, token: str | None = None) -> httpx.Response:
        return self.client.get(path, headers={"authorization": f"Bearer {bearer(token)}"} if token else {})

    def suggest(self, **changes: Any) -> dict[str, Any]:
        """A suggestion, as POST /v1/suggestions answers it."""
        asked = {
            "workflow": "ads",
            "messages": [{"role": "user", "content": "an ad for shoes"}],
            "employee": "anna",
            "team": "north",
        }
        reply = self.post("/v1/suggestions", {**asked, **changes}, token="all")
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    def stored(self, kind: str) -> list[dict[str, Any]]:
        """All that was spooled of a kind, in order; `_at` is the time of receipt beside an event."""
        paths = [*spool.sealed(self.settings.spool), *self.settings.spool.glob("*.open")]
        frames = [json.loads(frame) for path in paths for frame in spool.frames(path)]
        return [frame[kind] | {"_at": frame.get("received_at")} for frame in frames if frame["kind"] == kind]

    def event(self, event_id: str) -> dict[str, Any]:
        """The event as it was spooled."""
        (found,) = [event for event in self.stored("event") if event["event_id"] == event_id]
        return found

    def call(self, work: Any) -> Any:
        """The result of a coroutine that runs in the front's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)


def know_tokens(settings: Settings) -> None:
    """Write the snapshot from which a gate knows `TOKENS` while the database is away."""
    path = settings.make_home() / "gateway" / "tokens.json"
    path.parent.mkdir(exist_ok=True)
    digest = hashlib.sha256(_SECRET.encode()).hexdigest()
    path.write_bytes(msgspec.json.encode([Known(token, digest) for token in TOKENS.values()]))


@contextlib.contextmanager
def serving(settings: Settings, given: Backend | None = None) -> Iterator[Running]:
    """A front for a home, in a thread of its own; closed in the order in which its process does it."""
    know_tokens(settings)
    intake = Intake(
        settings.spool,
        settings.ledger,
        segment_bytes=settings.spool_segment_bytes,
        segment_seconds=settings.spool_segment_seconds,
        limit_bytes=settings.spool_bytes,
    )
    gate = Gate(settings)
    gate.start()
    backend = Fixed()
    front = Front(settings, intake, gate, given or backend)
    server = run.server(settings, front, host="127.0.0.1", port=0)
    runner = asyncio.Runner(loop_factory=server.config.get_loop_factory())
    thread = threading.Thread(target=lambda: runner.run(run.serve(front, server)))
    thread.start()
    try:
        wait(lambda: server.started)
        with httpx.Client(timeout=20.0, trust_env=False) as client:
            running = Running(settings, server, front, intake, backend, runner.get_loop(), client)
            client.base_url = running.url
            yield running
    finally:
        server.should_exit = True
        thread.join()
        runner.close()
        gate.close()
        intake.close()


def home_of(path: Path, **changes: Any) -> Settings:
    """Settings of a fresh home whose database is away."""
    given = {"home": path / "home", "postgres_url": "postgresql://nobody:nothing@127.0.0.1:9/none"}
    return Settings(**given | changes)


def wait(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


def refused(reply: httpx.Response) -> tuple[int, str, str | None]:
    """Status, code and field of an error, whose form is checked."""
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "code", "param"}
    return reply.status_code, error["code"], error["param"]


def key() -> str:
    """A client key that nobody used yet."""
    return f"e-{next(_NUMBER)}"


def whole(**changes: Any) -> dict[str, Any]:
    """A whole event that breaks no rule; a field that is changed to `...` is left out."""
    shown = datetime.now(UTC) - timedelta(minutes=5)
    event = {
        "event_id": key(),
        "suggestion_id": "elsewhere-1",
        "workflow": "ads",
        "shown_at": shown.isoformat(),
        "decided_at": (shown + timedelta(seconds=9)).isoformat(),
        "employee": "anna",
        "visibility": [],
        "prompt": [{"role": "user", "content": "an ad for shoes"}],
        "candidates": [
            {"position": 0, "text": "target newcomers", "logprob": -1.5},
            {"position": 1, "text": "target regulars", "logprob": None},
        ],
        "model_version": "theirs-1",
        "arm_propensity": 1.0,
        "order_propensity": 0.5,
        "decision": "modify",
        "chosen": 1,
        "final_text": "target old friends",
        "reasons": [],
        "dwell_ms": 900,
        "purposes": ["training"],
    }
    return {name: value for name, value in (event | changes).items() if value is not ...}


def feedback(suggestion: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A rejection of a suggestion, short."""
    told = {"event_id": key(), "suggestion_id": suggestion["suggestion_id"], "decision": "reject"}
    return {name: value for name, value in (told | changes).items() if value is not ...}


def name_of(front: Running, raw: str) -> str:
    """What is stored of a person whom a tool names."""
    return pseudonym(raw, front.settings.secret("pseudonym"))
