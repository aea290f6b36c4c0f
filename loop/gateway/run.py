"""The two processes of the gateway as they are started: `python -m loop.gateway.run front|generator`.

Here is what a process needs besides its work: its socket, its log, and to end well when it is told to.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import signal
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import msgspec
import uvicorn
from starlette.middleware.cors import CORSMiddleware
from uvicorn.config import STARTUP_FAILURE

from loop import config
from loop.collect.intake import Intake
from loop.config import Settings
from loop.errors import BadInputError, LoopError
from loop.gateway.access import Gate
from loop.gateway.backend import open_backend
from loop.gateway.front import Front
from loop.gateway.protocol import Protocol, watch
from loop.services import locate, processes


def serve_front(settings: Settings, *, host: str, port: int, generator: str) -> None:
    """Serve until SIGTERM or Ctrl-C; then answer what is under way, and seal the spool.

    Args:
        generator: address of the generator, `http://127.0.0.1:port`; not used with an upstream.

    Raises:
        LoopError: the port is taken, or spool or ledger cannot be opened.
    """
    with processes.exit_on_signals(), ExitStack() as open_:
        intake = Intake(
            settings.spool,
            settings.ledger,
            segment_bytes=settings.spool_segment_bytes,
            segment_seconds=settings.spool_segment_seconds,
            limit_bytes=settings.spool_bytes,
        )
        open_.callback(intake.close)
        gate = Gate(settings)
        open_.callback(gate.close)
        gate.start()
        front = Front(settings, intake, gate, open_backend(settings, generator))
        made = server(settings, front, host=host, port=port)
        gc.collect()
        gc.freeze()  # what is loaded stays
        gc.set_threshold(50_000, 20, 20)  # requests leave no cycles; looking for some cost a tenth of the time
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # uvicorn takes it, and passes it on when there is more to close
        try:
            with asyncio.Runner(loop_factory=made.config.get_loop_factory()) as runner:
                runner.run(serve(front, made))
        except SystemExit as ended:
            if ended.code != STARTUP_FAILURE:
                raise
            raise LoopError(f"{host}:{port}: the gateway cannot listen there; is another one running?") from None


def server(settings: Settings, front: Front, *, host: str, port: int) -> uvicorn.Server:
    """A server for the front, not started yet."""
    app: Any = front
    if settings.cors_origins:
        app = CORSMiddleware(
            app,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST"),
            allow_headers=("authorization", "content-type", "content-encoding"),
            expose_headers=("retry-after",),
        )
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            http=Protocol,
            ws="none",
            loop="uvloop" if sys.platform != "win32" else "asyncio",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=10,
            ssl_certfile=settings.tls_certificate,
            ssl_keyfile=settings.tls_key,
        )
    )


async def serve(front: Front, server: uvicorn.Server) -> None:
    """Serve until the server is told to end, and do what is done on the side."""
    beside = [
        asyncio.create_task(front.background()),
        asyncio.create_task(watch(server.server_state.connections)),
    ]
    try:
        await server.serve()
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await front.close()


def serve_generator(settings: Settings, *, host: str, port: int) -> None:
    """Hold the champion and answer the front, until SIGTERM or Ctrl-C."""
    from loop.gateway import generator

    generator.serve(settings, host=host, port=port, database=lambda: locate(settings).loop)


class _Lines(logging.Formatter):
    """Log records as JSON lines like the front's own; of an error its kind, for its message may quote a client."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC),
            "what": "log",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__qualname__
        return msgspec.json.encode(line).decode()


def main(arguments: list[str] | None = None) -> int:
    """Run one of the two. Exit codes as those of `loop`: 0 done, 1 failed, 2 bad input."""
    parser = argparse.ArgumentParser(prog="python -m loop.gateway.run", description="One process of the gateway.")
    parser.add_argument("process", choices=("front", "generator"))
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args(arguments)
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    try:
        settings = config.load()
        if given.process == "generator":
            serve_generator(settings, host=given.host, port=given.port)
        else:
            running = processes.read(settings).processes.get("generator")
            generator = running.address if running else "http://127.0.0.1:9"  # the port of nobody
            serve_front(settings, host=given.host, port=given.port, generator=generator)
    except LoopError as error:
        logging.getLogger("loop.gateway").error("%s", error)  # noqa: TRY400 - it says all
        return 2 if isinstance(error, BadInputError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
