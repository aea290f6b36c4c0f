"""A small OpenAI-compatible server, so that the front has something to suggest: every text is its own."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from itertools import count

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

_NUMBERS = count()


async def complete(request: Request) -> JSONResponse:
    asked = await request.json()
    texts = [f"suggested text {next(_NUMBERS)}" for _ in range(asked.get("n", 1))]
    choices = [
        {"index": i, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        for i, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": 3, "completion_tokens": 3 * len(texts), "total_tokens": 3 + 3 * len(texts)}
    return JSONResponse({"id": "c", "object": "chat.completion", "model": "words", "choices": choices, "usage": usage})


@contextlib.contextmanager
def upstream(port: int) -> Iterator[str]:
    """The server in a thread; its address as `LOOP_UPSTREAM_URL` wants it."""
    app = Starlette(routes=[Route("/v1/chat/completions", complete, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, port=port, lifespan="off", log_level="critical", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        until = time.monotonic() + 20
        while not server.started and time.monotonic() < until:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.should_exit = True
        thread.join(20)
