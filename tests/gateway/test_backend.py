"""The front's ways to suggestions: without torch, and with errors that say when to come back."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from generators import free_port, serving
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from loop.config import Settings
from loop.errors import BadInputError
from loop.gateway.backend import HEADER, Ask, Generated, Local, Piece, Produced, Unavailable, open_backend, retry_after
from loop.gateway.upstream import Upstream

ASK = Ask(request_id="r1", workflow="ads", messages=[{"role": "user", "content": "Brief"}], n=2)
SECRET = b"0123456789abcdef"
REPLY = {
    "model_version": "m1",
    "arm_propensity": 1.0,
    "order_propensity": 0.5,
    "candidates": [
        {"text": "a", "logprob": -1.5, "tokens": 2, "finished": True},
        {"text": "b", "logprob": -2.5, "tokens": 3, "finished": False},
    ],
    "prompt_tokens": 4,
    "completion_tokens": 5,
}
STATUS = {
    "version": "m1",
    "predecessor": None,
    "since": "2026-03-01T00:00:00Z",
    "loading": None,
    "failed": None,
    "database": None,
    "queue": 0,
    "served": 7,
}


def replying(reply: Response | float, status: dict[str, Any] = STATUS) -> Starlette:
    """A process that answers as the generator does, or after so many seconds."""

    async def generate(request: Request) -> Response:
        if request.headers.get(HEADER) != SECRET.hex():
            return JSONResponse({"error": "who are you?"}, 401)
        if isinstance(reply, Response):
            return reply
        await asyncio.sleep(reply)
        return JSONResponse(REPLY)

    async def told(_: Request) -> Response:
        return JSONResponse(status)

    return Starlette(routes=[Route("/generate", generate, methods=["POST"]), Route("/status", told)])


def generate(app: Any, *, timeout_s: float = 10.0) -> Generated:
    async def main(address: str) -> Generated:
        backend = Local(address, SECRET, timeout_s=timeout_s)
        try:
            return await backend.generate(ASK)
        finally:
            await backend.close()

    with serving(app) as address:
        return asyncio.run(main(address))


def test_a_reply_of_the_generator_is_typed() -> None:
    found = generate(replying(JSONResponse(REPLY)))
    assert found.candidates == [Produced("a", -1.5, 2, True), Produced("b", -2.5, 3, False)]
    assert (found.model_version, found.arm_propensity, found.order_propensity) == ("m1", 1.0, 0.5)


def test_a_stream_of_the_generator_comes_candidate_by_candidate() -> None:
    async def main(address: str) -> list[Piece | Generated]:
        return [part async for part in Local(address, SECRET).stream(ASK)]

    with serving(replying(JSONResponse(REPLY))) as address:
        *pieces, whole = asyncio.run(main(address))
    assert pieces == [Piece(0, "a"), Piece(1, "b")]
    assert isinstance(whole, Generated)


@pytest.mark.parametrize(
    ("reply", "message", "retry"),
    [
        (JSONResponse({"error": "no model yet"}, 503, {"Retry-After": "3"}), "cannot answer now: no model yet", 3.0),
        (JSONResponse({"error": "m1 failed"}, 500), "cannot answer now: m1 failed", 1.0),
        (Response("<html>", 502), "cannot answer now: status 502", 1.0),
        (JSONResponse({"error": "who are you?"}, 401), "who are you", 1.0),
        (JSONResponse({"else": 1}), "something else than candidates", 1.0),
        (1.5, "does not answer in time", 1.0),
    ],
)
def test_what_keeps_the_generator_from_answering_is_told(reply: Response | float, message: str, retry: float) -> None:
    with pytest.raises(Unavailable, match=message) as told:
        generate(replying(reply), timeout_s=0.7)
    assert (told.value.status, told.value.retry_after, told.value.message) == (503, retry, str(told.value))


def test_a_request_at_fault_is_the_askers() -> None:
    with pytest.raises(BadInputError, match="expected one of ads"):
        generate(replying(JSONResponse({"error": "expected one of ads"}, 400)))


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ({}, None),
        ({"failed": {"m2": "no files"}}, None),
        ({"version": None}, "the generator has no model version loaded"),
        (
            {"version": None, "failed": {"m2": "no files"}, "database": "refused"},
            "the generator has no model version loaded; m2: no files; its database is away",
        ),
    ],
)
def test_ready_or_why_not(status: dict[str, Any], why: str | None) -> None:
    with serving(replying(0.0, {**STATUS, **status})) as address:
        assert asyncio.run(Local(address, SECRET).ready()) == why


def test_nobody_there_is_unavailable() -> None:
    backend = Local(f"http://127.0.0.1:{free_port()}", SECRET)
    with pytest.raises(Unavailable, match="cannot be reached; it may be starting"):
        asyncio.run(backend.generate(ASK))
    assert asyncio.run(backend.ready()) == "the generator cannot be reached; it may be starting"


@pytest.mark.parametrize(
    ("told", "seconds"),
    [(None, 1.0), ("5", 5.0), ("0.5", 0.5), ("-3", 0.0), ("1e9", 3600.0), ("nan", 1.0), ("inf", 1.0), ("soon", 1.0)],
)
def test_when_to_come_back(told: str | None, seconds: float) -> None:
    assert retry_after(told) == seconds


def test_the_home_says_what_answers(bare_settings: Settings) -> None:
    assert isinstance(open_backend(bare_settings, "http://127.0.0.1:1"), Local)
    upstream = bare_settings.model_copy(update={"upstream_url": "http://127.0.0.1:1/v1"})
    assert isinstance(open_backend(upstream, ""), Upstream)


def test_the_front_gets_no_model_with_it() -> None:
    code = (
        "import sys, loop.gateway.backend, loop.gateway.upstream; "
        "heavy = ('torch', 'transformers', 'numpy', 'pandas', 'mlflow', 'dagster', 'sqlalchemy', "
        "'loop.models', 'loop.release.serve', 'loop.evaluate', 'loop.train'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
