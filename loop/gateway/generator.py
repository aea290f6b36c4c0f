"""The generator: a small HTTP server on loopback that holds the champion and answers the front alone.

Transport and its errors only: requests share batches in batching.py, versions are followed in `loop.release.arms`.

    POST /generate    an `Ask`, answered with a `Generated`
    GET  /status      a `Status`

Who asks shows the home's secret `gateway` in the header `x-loop-internal`. An error is `{"error": "..."}`; 503 comes
with Retry-After.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import msgspec
import uvicorn

from loop.config import Settings
from loop.errors import BadInputError, LoopError
from loop.evaluate.answers import SERVED, Decoding
from loop.gateway.backend import HEADER, Ask, Generated, Produced, Status
from loop.gateway.batching import Batcher, NotReadyError
from loop.release.arms import Follower
from loop.release.serve import Request, Suggestion, most_tokens
from loop.services import processes

BODY_BYTES: Final = 32 << 20
"""Most bytes of a request: more than the front lets through."""
GREEDY: Final = 1e-6
"""The temperature that stands for 0: the likeliest token is drawn with probability 1 but for exact ties."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_LOG = logging.getLogger(__name__)
_ASK: Final = msgspec.json.Decoder(Ask)
_ENCODER: Final = msgspec.json.Encoder()


class _Refused(Exception):  # noqa: N818 - a reply, not a failure
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Generator:
    """The ASGI application."""

    def __init__(self, follower: Follower, batcher: Batcher, secret: bytes) -> None:
        self.follower = follower
        self.batcher = batcher
        self._secret = secret.hex().encode()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", "no lifespan and no websockets are configured"
        retry: float | None = None
        try:
            reply = await self._reply(scope, receive)
            if reply is None:
                return
            status, body = 200, _ENCODER.encode(reply)
        except _Refused as refused:
            status, body = refused.status, _error(refused)
        except BadInputError as error:
            status, body = 400, _error(error)
        except NotReadyError as error:
            status, body, retry = 503, _error(error), 1.0
        except LoopError as error:
            status, body = 500, _error(error)
        await _send(send, status, body, retry)

    def status(self) -> Status:
        """What serves, and what hinders whatever should."""
        arms = self.follower.arms
        return Status(
            version=arms.champion.version if arms else None,
            predecessor=arms.predecessor.version if arms and arms.predecessor else None,
            since=self.follower.since,
            loading=self.follower.loading,
            failed=self.follower.failed or None,
            database=self.follower.unreachable,
            queue=self.batcher.depth,
            served=self.batcher.served,
        )

    async def _reply(self, scope: MutableMapping[str, Any], receive: Receive) -> Generated | Status | None:
        """The reply; None if whoever asked has gone meanwhile."""
        given = dict(scope["headers"]).get(HEADER.encode(), b"")
        if not hmac.compare_digest(given, self._secret):
            raise _Refused(401, f"expected the home's secret in {HEADER}; only its gateway may ask")
        match scope["method"], scope["path"]:
            case "POST", "/generate":
                return await self._generate(receive)
            case "GET", "/status":
                return self.status()
            case _:
                raise _Refused(404, "expected POST /generate or GET /status")

    async def _generate(self, receive: Receive) -> Generated | None:
        body = await _read(receive)
        if body is None:
            return None
        try:
            ask = _ASK.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BadInputError(f"expected a request of the front, got {error}") from None
        answer = asyncio.ensure_future(
            self.batcher.ask(
                Request(ask.request_id, ask.workflow, ask.messages),
                n=ask.n,
                decoding=_decoding(ask),
                most_tokens=most_tokens(ask.workflow, ask.max_tokens),
            )
        )
        gone = asyncio.ensure_future(receive())
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            return _generated(await answer) if answer.done() else None
        finally:
            gone.cancel()
            answer.cancel()


def serve(settings: Settings, *, host: str, port: int, database: Callable[[], str]) -> None:
    """Run the generator until SIGTERM or Ctrl-C; requests that are being answered are answered.

    Args:
        database: the URL of Loop's database; asked again whenever it could not be reached, and may raise LoopError.
    """
    follower = Follower(settings, database)
    batcher = Batcher(lambda: follower.arms, shuffle=settings.shuffle)
    app = Generator(follower, batcher, settings.secret("gateway"))
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
    )
    with processes.exit_on_signals():
        follower.start()
        batcher.start()
        try:
            uvicorn.Server(config).run()
        finally:
            batcher.close()
            follower.close()


# -- inside -----------------------------------------------------------------------------------------------------------


def _decoding(ask: Ask) -> Decoding:
    temperature = SERVED.temperature if ask.temperature is None else ask.temperature
    return Decoding(temperature or GREEDY, SERVED.top_p if ask.top_p is None else ask.top_p)


def _generated(found: Suggestion) -> Generated:
    return Generated(
        model_version=found.model_version,
        arm_propensity=found.arm_propensity,
        order_propensity=found.order_propensity,
        candidates=[Produced(c.text, c.logprob, c.tokens, c.finished) for c in found.candidates],
        prompt_tokens=found.prompt_tokens,
        completion_tokens=sum(c.tokens for c in found.candidates),
    )


async def _read(receive: Receive) -> bytes | None:
    """The body; None if the client has gone before its end."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > BODY_BYTES:
            raise _Refused(413, f"expected at most {BODY_BYTES} bytes")
        if not message.get("more_body"):
            return bytes(body)


def _error(error: Exception) -> bytes:
    return _ENCODER.encode({"error": str(error)})


async def _send(send: Send, status: int, body: bytes, retry: float | None) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if retry is not None:
        headers.append((b"retry-after", b"%d" % retry))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
