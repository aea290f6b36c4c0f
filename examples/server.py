"""An internal tool in one page: a person accepts, edits or rejects what the model suggests. See the README beside this.

The server holds the token and knows who is at work; the page knows neither. It passes on what the page may say, field
by field, and nothing else; keys and times are the page's, so that the page's outbox is the only one.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

import loop.client
from loop.client import AsyncLoop, Pace, RefusedError, UnavailableError

PAGE: Final = Path(__file__).parent / "page"
FILES: Final = {
    "/": PAGE / "index.html",
    "/page.js": PAGE / "page.js",
    "/page.css": PAGE / "page.css",
    "/work.json": PAGE / "work.json",
    "/loop.js": Path(loop.client.__file__).parent / "loop.js",
}
WORKFLOWS: Final = ("ads", "moderation")
FEEDBACK: Final = frozenset(
    {"event_id", "suggestion_id", "decision", "chosen", "final_text", "reasons", "dwell_ms", "decided_at"}
)
"""What the page may say of a decision. Who decided is not among it."""
BODY_BYTES: Final = 100_000
HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}

Answer = Callable[[AsyncLoop, str, dict[str, Any]], Awaitable[Mapping[str, Any]]]


def application(gateway: str, token: str, employee: str) -> Starlette:
    """The tool as an ASGI application.

    Args:
        gateway: its address.
        token: with the scopes suggest and feedback for `WORKFLOWS`.
        employee: who is at work. A tool with more people takes it from its session, never from the page.
    """
    # One try: the page tries again itself, and would hold a connection open meanwhile.
    client = AsyncLoop(gateway, token, pace=Pace(tries=1))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    answers: dict[str, Answer] = {"/v1/suggestions": suggest, "/v1/feedback": feedback}
    return Starlette(
        routes=[
            *(Route(path, partial(_file, file)) for path, file in FILES.items()),
            *(
                Route(path, partial(_passed_on, answer, client, employee), methods=["POST"])
                for path, answer in answers.items()
            ),
        ],
        # Another site's page whose name is made to lead here (DNS rebinding) would be of the same origin.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
        lifespan=lifespan,
    )


async def suggest(client: AsyncLoop, employee: str, asked: dict[str, Any]) -> Mapping[str, Any]:
    """Two candidates for one brief."""
    workflow, brief = asked.get("workflow"), asked.get("brief")
    if workflow not in WORKFLOWS or not isinstance(brief, str):
        raise ValueError(f"expected a workflow among {', '.join(WORKFLOWS)} and a brief")
    shown = await client.suggest(workflow, brief, n=2, employee=employee)
    return {
        "suggestion_id": shown.suggestion_id,
        "shown_at": shown.shown_at.isoformat(),
        "candidates": [{"position": c.position, "text": c.text} for c in shown.candidates],
    }


async def feedback(client: AsyncLoop, employee: str, told: dict[str, Any]) -> Mapping[str, Any]:
    """What the person did, under the key that the page made."""
    if unknown := told.keys() - FEEDBACK:
        raise ValueError(f"expected only {', '.join(sorted(FEEDBACK))}, got {', '.join(sorted(unknown))[:60]}")
    if not all(isinstance(told.get(name), str) for name in ("event_id", "suggestion_id", "decision")):
        raise ValueError("expected event_id, suggestion_id and decision as texts")
    if "decided_at" in told:
        told["decided_at"] = datetime.fromisoformat(told["decided_at"])
    suggestion, decision = told.pop("suggestion_id"), told.pop("decision")
    receipt = await client.feedback(suggestion, decision, employee=employee, **told)
    assert receipt.received_at is not None  # this client has no outbox: what it returns is the gateway's word
    return {"event_id": receipt.key, "status": receipt.status, "received_at": receipt.received_at.isoformat()}


async def _file(file: Path, request: Request) -> Response:
    return FileResponse(file, headers=HEADERS)


async def _passed_on(answer: Answer, client: AsyncLoop, employee: str, request: Request) -> Response:
    """The gateway's answer to a call of this page; errors keep the gateway's form, which `loop.js` reads."""
    # What another site's page can send without asking first is a form or plain text.
    is_own = request.headers.get("sec-fetch-site", "same-origin") == "same-origin"
    if not is_own or request.headers.get("content-type") != "application/json":
        return _error(403, "expected JSON from this page itself")
    body = await _body(request)
    if body is None:
        return _error(413, f"expected at most {BODY_BYTES:,} bytes")
    try:
        asked = json.loads(body)
        if not isinstance(asked, dict):
            raise TypeError("expected one JSON object")  # noqa: TRY301 - told like every other
        return JSONResponse(await answer(client, employee, asked), headers=HEADERS)
    except RefusedError as error:
        return _error(error.status, error.reason)
    except UnavailableError as error:
        again = {} if error.retry_after is None else {"retry-after": f"{error.retry_after:.0f}"}
        return _error(503, "the gateway is away", again)
    except (ValueError, TypeError, RecursionError) as error:
        return _error(422, str(error))


async def _body(request: Request) -> bytes | None:
    """The body; None if it is too large, of which no more is read."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES:
            return None
    return body


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": {"message": message}}, status, headers={**HEADERS, **(headers or {})})


def main() -> None:
    """Serve on this machine only, until Ctrl-C."""
    parser = argparse.ArgumentParser(description="The example tool; its token comes in LOOP_TOKEN.")
    parser.add_argument("--gateway", required=True, help="address of the gateway, such as http://127.0.0.1:8400")
    parser.add_argument("--employee", default=os.environ.get("USER", "somebody"), help="who is at work")
    parser.add_argument("--port", type=int, default=8500)
    given = parser.parse_args()
    if not (token := os.environ.get("LOOP_TOKEN")):
        parser.error("expected a token in the variable LOOP_TOKEN; make one with `loop token create`")
    uvicorn.run(application(given.gateway, token, given.employee), host="127.0.0.1", port=given.port)


if __name__ == "__main__":
    main()
