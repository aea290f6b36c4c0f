"""The front: one ASGI application that says who may, sends each request to its room, and never falls over.

No framework: the way from the socket to the spool is a dictionary of routes, a gate, and a function. Nothing here or in
what it imports knows a model; torch, transformers, pandas, MLflow and Dagster are never loaded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from loop.collect import erasing
from loop.collect.intake import Intake, SpoolFull
from loop.config import Settings
from loop.errors import BadInputError, LoopError
from loop.gateway import http, openapi, veiling
from loop.gateway.access import Gate, Refused, Token
from loop.gateway.backend import Backend, Unavailable
from loop.gateway.collecting import Collecting, overdue
from loop.gateway.http import Gone, Receive, Reply, Request, Scope, Send
from loop.gateway.labelling import IMAGES, Labelling
from loop.gateway.metrics import Log, Metrics, clock
from loop.gateway.records import Names
from loop.gateway.studio import Studio
from loop.gateway.suggesting import Suggesting
from loop.gateway.telemetry import Telemetry
from loop.gateway.wire import JSON, Problem
from loop.label.studio import hook

SWEEP_SECONDS: Final = 60.0
"""How often suggestions that nobody decided on are looked for."""
STALE_SECONDS: Final = 60.0
"""Tokens older than that are a reason not to be ready: one that was revoked may still be let in."""
FULL_SECONDS: Final = 5.0
"""After which to come back when the spool is full or the disk fails."""
BACKEND_SECONDS: Final = 2.0
"""How long `/readyz` believes what the backend said last, and how long it waits for it."""

Handler = Callable[[Request, Token], Awaitable[Reply]]
Open = Callable[[Request], Awaitable[Reply]]


@dataclass(frozen=True)
class Route:
    """What answers a method of a path: with a scope a `Handler` that is given the token, without one an `Open`."""

    template: str
    handler: Any
    scope: str | None = None


class Front:
    """The application, and what it does on the side: see `background`."""

    def __init__(self, settings: Settings, intake: Intake, gate: Gate, backend: Backend) -> None:
        self.settings, self.intake, self.gate, self.backend = settings, intake, gate, backend
        self.metrics, self.log, self.telemetry = Metrics(intake, gate), Log(), Telemetry()
        self.collecting = Collecting(intake, self._names, lambda code: self.metrics.rejected.labels(code).inc())
        self.suggesting = Suggesting(
            intake,
            backend,
            self._names,
            self.metrics,
            self.telemetry,
            problem=lambda error: self._problem(error, "/v1/chat/completions"),
            provider="openai" if settings.upstream_url else "loop",
            find=veiling.finder(settings.privacy),
        )
        self.studio = Studio(settings)
        self._known = Names(gate.pseudonym_key, settings.secret("ledger"))
        self._backend_said: tuple[float, str | None] = (float("-inf"), None)
        self._routes = self._all_routes()
        self.labelling = Labelling(settings, lambda outcome: self.metrics.annotations.labels(outcome).inc())
        self._pages = {
            path: {method: Route(path, handler) for method, handler in methods.items()}
            for path, methods in self.labelling.routes().items()
        }

    def _all_routes(self) -> dict[str, dict[str, Route]]:
        take, suggest = self.collecting, self.suggesting
        routes = (
            ("POST", Route("/v1/feedback", take.feedback, "feedback")),
            ("POST", Route("/v1/feedback/batch", take.batch, "feedback")),
            ("POST", Route("/v1/outcomes", take.outcomes, "outcomes")),
            ("POST", Route("/v1/suggestions", suggest.suggestions, "suggest")),
            ("POST", Route("/v1/chat/completions", suggest.chat, "suggest")),
            ("POST", Route(hook.PATH, self.studio.called)),
            ("GET", Route("/v1/models", suggest.models, "suggest")),
            ("GET", Route("/v1/models/{model}", suggest.one_model, "suggest")),
            ("GET", Route("/healthz", self.healthz)),
            ("GET", Route("/readyz", self.readyz)),
            ("GET", Route("/metrics", self.metrics_page)),
            ("GET", Route("/openapi.json", self.openapi_json)),
            ("GET", Route("/docs", self.docs)),
        )
        table: dict[str, dict[str, Route]] = {}
        for method, route in routes:
            table.setdefault(route.template, {})[method] = route
        return table

    # -- a request --------------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", "uvicorn is told to speak nothing else"
        began = clock()
        method, template, token = scope["method"], "other", None
        try:
            route = self._find(scope)
            template = route.template
            if route.scope is None:
                reply = await route.handler(Request(scope, receive))
            else:
                token = self._admit(scope, route.scope)
                reply = await route.handler(Request(scope, receive), token)
        except Gone:
            return
        except Exception as error:  # noqa: BLE001 - a client is told in our words or not at all
            reply = http.failure(self._problem(error, template))
        await http.answer(send, reply)
        seconds = clock() - began
        if template == "other":
            method = "other"
        self.metrics.answered(method, template, reply.status, seconds)
        self.log.answered((method, template, reply.status, token.token_id if token else ""), seconds, reply.items)

    def _find(self, scope: Scope) -> Route:
        path = scope["path"]
        methods = self._routes.get(path)
        if methods is None and path.startswith("/v1/models/"):
            methods = self._routes["/v1/models/{model}"]
        if methods is None and path.startswith("/label"):
            methods = self._pages.get(IMAGES if path.startswith(IMAGES) else path)
        if methods is None or "{" in path:
            raise Problem(404, "no_such_path", "expected a path of this gateway, see /docs")
        method = scope["method"]
        route = methods.get("GET" if method == "HEAD" else method)
        if route is None:
            raise Problem(405, "method", f"expected {' or '.join(methods)} for this path", allow=tuple(methods))
        return route

    def _admit(self, scope: Scope, needed: str) -> Token:
        given = http.header(scope, b"authorization")
        return self.gate.admit(None if given is None else given.decode("latin-1"), needed)

    def _problem(self, error: Exception, template: str) -> Problem:  # noqa: PLR0911 - a table
        """What a client is told of an error; what it is not told goes to the log."""
        match error:
            case Problem():
                return error
            case Refused():
                code = {401: "unauthorized", 403: "forbidden", 429: "rate_limit"}.get(error.status, "unavailable")
                return Problem(error.status, code, str(error), retry_after=error.retry_after)
            case Unavailable():
                return Problem(error.status, "unavailable", error.message, retry_after=error.retry_after)
            case BadInputError():
                return Problem(400, "bad_input", str(error))
            case SpoolFull():
                message = "too much waits to be moved to the lake; nothing of this is stored, send it again later"
                return Problem(429, "spool_full", message, retry_after=FULL_SECONDS)
            case LoopError():
                self.log.say("refused", path=template, why=str(error))
                message = "it could not be stored; nothing of this is acknowledged, send it again later"
                return Problem(503, "storage", message, retry_after=FULL_SECONDS)
        self.log.failed(template, error)
        return Problem(500, "internal", "the gateway failed; its log says where")

    def _names(self) -> Names:
        if self._known.stored is not self.gate.pseudonym_key:
            self._known = Names(self.gate.pseudonym_key, self._known.compared)
        return self._known

    # -- what it says of itself -------------------------------------------------------------------------------------

    async def healthz(self, request: Request) -> Reply:
        """GET /healthz"""
        return Reply(200, b'{"status":"ok"}')

    async def readyz(self, request: Request) -> Reply:
        """GET /readyz"""
        storing = self._why_not_storing()
        suggesting = await self._why_not_suggesting()
        reasons = {**storing, **suggesting}
        if self.gate.age_s > STALE_SECONDS:
            reasons["tokens"] = f"they were last read {min(self.gate.age_s, 1e9):.0f} s ago; is Postgres there?"
        home = f"{self.settings.home}/"  # anybody may ask, and where files lie is nobody's business
        reasons = {name: why.replace(home, "") for name, why in reasons.items()}
        told = {"ready": not reasons, "feedback": not storing, "suggestions": not suggesting, "reasons": reasons}
        return Reply(503 if reasons else 200, JSON.encode(told))

    async def metrics_page(self, request: Request) -> Reply:
        """GET /metrics"""
        return Reply(200, self.metrics.page(), type=b"text/plain; version=0.0.4; charset=utf-8")

    async def openapi_json(self, request: Request) -> Reply:
        """GET /openapi.json"""
        return Reply(200, openapi.document())

    async def docs(self, request: Request) -> Reply:
        """GET /docs"""
        policy = (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'")
        return Reply(200, openapi.page(), (policy,), type=b"text/html; charset=utf-8")

    def _why_not_storing(self) -> dict[str, str]:
        if self.intake.trouble is not None:
            return {"spool": self.intake.trouble}
        if self.intake.spool_bytes > self.settings.spool_bytes:
            return {"spool": "too much waits to be moved to the lake; does Dagster's daemon run?"}
        return {}

    async def _why_not_suggesting(self) -> dict[str, str]:
        when, why = self._backend_said
        if clock() - when > BACKEND_SECONDS:
            try:
                why = await asyncio.wait_for(self.backend.ready(), BACKEND_SECONDS)
            except TimeoutError:
                why = f"no answer in {BACKEND_SECONDS:.0f} s"
            except LoopError as error:
                why = str(error)
            self._backend_said = (clock(), why)
        return {} if why is None else {"suggestions": why}

    # -- on the side ------------------------------------------------------------------------------------------------

    async def background(self) -> None:
        """Write the log every second and sweep now and then, until cancelled."""
        swept = clock()
        try:
            while True:
                await asyncio.sleep(1.0)
                self.log.flush()
                await self.erase()
                if clock() - swept > SWEEP_SECONDS:
                    await self.sweep()
                    swept = clock()
        finally:
            self.log.flush()

    async def sweep(self) -> int:
        """Store an ignore for every suggestion on which nobody decided in time; how many there were."""
        try:
            swept = await self.collecting.sweep(overdue(datetime.now(UTC), self.settings.ignore_after_hours))
        except LoopError as error:
            self.log.say("refused", path="ignore", why=str(error))
            return 0
        self.metrics.ignored.inc(swept)
        return swept

    async def erase(self) -> None:
        """Take from the ledger what a `loop erase` on this machine asks for."""
        try:
            await erasing.answer(self.settings.gateway, self.intake)
        except Exception as error:  # noqa: BLE001 - it is tried again in a second, and sweeps must go on
            self.log.say("refused", path="erase", why=str(error) if isinstance(error, LoopError) else repr(error))

    async def close(self) -> None:
        """Send off what telemetry holds and let go of reader, pages and backend."""
        self.telemetry.close()
        self.collecting.reader.close()
        await asyncio.to_thread(self.labelling.close)
        with suppress(LoopError):
            await self.backend.close()
