"""What the front asks for suggestions: the generator beside it, or an upstream (see upstream.py).

The types that travel between front and generator stand here too. The front imports this module, hence nothing of the
model: no torch, nothing of `loop.models`, `loop.evaluate`, `loop.train` or `loop.release.serve`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Final, Protocol, TypeVar

import msgspec
from msgspec import Meta

from loop.config import Settings
from loop.errors import BadInputError, LoopError
from loop.gateway.connections import Connections, Reply
from loop.services import serving

HEADER: Final = serving.INTERNAL
"""Carries the home's secret `gateway`, in hexadecimal digits."""
LOCAL_S: Final = 60.0
"""Seconds for an answer of the generator: far more than its longest queue takes."""
STATUS_S: Final = 2.0
"""Seconds for its status."""
RETRY_S: Final = 1.0
"""When to come back after an error that does not say."""
LONGEST_RETRY_S: Final = 3600.0

T = TypeVar("T", bound=msgspec.Struct)


class Ask(msgspec.Struct, kw_only=True):
    """Candidates are wanted."""

    request_id: str
    workflow: str
    messages: list[dict[str, str]]
    """`[{"role": "user", "content": "..."}]`."""
    n: Annotated[int, Meta(ge=1, le=64)]
    temperature: Annotated[float, Meta(ge=0.0, le=10.0)] | None = None
    """None: as evaluation samples. 0: the likeliest token each time."""
    top_p: Annotated[float, Meta(gt=0.0, le=1.0)] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    """Never beyond what the workflow allows."""


class Produced(msgspec.Struct):
    """One candidate."""

    text: str
    logprob: float | None
    """Nats, under the distribution that it was drawn from; None where that is not known."""
    tokens: int | None
    """Tokens drawn; None where an upstream does not say."""
    finished: bool
    """Whether the model ended it itself."""


class Generated(msgspec.Struct, kw_only=True):
    """Candidates in the order in which they are to be shown, and how probable all of it was."""

    model_version: str
    arm_propensity: float
    """Probability that this version served the request."""
    order_propensity: float | None
    """Probability of this order given the candidates; None if somebody else chose it."""
    candidates: list[Produced]
    prompt_tokens: int | None
    completion_tokens: int | None
    """Of all candidates."""


class Piece(msgspec.Struct):
    """Text that continues the candidate at that position."""

    position: int
    text: str


class Status(msgspec.Struct, kw_only=True):
    """How the generator is."""

    version: str | None
    """The champion that serves; None while none is loaded."""
    predecessor: str | None
    """The version before it, if a share of requests is its."""
    since: datetime | None
    """When they began to serve."""
    loading: str | None
    failed: dict[str, str] | None
    """Versions that should serve and do not load, and why."""
    database: str | None
    """Why nobody can be asked who is champion; None if all is well."""
    queue: int
    """Requests that wait."""
    served: int
    """Requests answered since its start."""


class Unavailable(LoopError):  # noqa: N818 - as in HTTP
    """Nothing can be generated now; the same request may succeed later."""

    def __init__(self, message: str, retry_after: float = RETRY_S, *, status: int = 503) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after
        """Seconds."""
        self.status = status
        """For the client: 503, or 429 where an upstream said so."""


class Backend(Protocol):
    """Where candidates come from."""

    async def generate(self, ask: Ask) -> Generated:
        """Candidates for one request.

        Raises:
            BadInputError: the request is at fault.
            Unavailable: nothing can be generated now.
        """

    def stream(self, ask: Ask) -> AsyncIterator[Piece | Generated]:
        """The same, texts piece by piece as they come and then the whole. Raises as `generate`."""

    async def ready(self) -> str | None:
        """Why nothing can be generated now; None if it can."""

    async def close(self) -> None: ...


def open_backend(settings: Settings, generator: str) -> Backend:
    """The home's backend: its upstream if one is set, else the generator at that address (`http://127.0.0.1:port`)."""
    if settings.upstream_url:
        from loop.gateway.upstream import Upstream

        return Upstream(
            settings.upstream_url,
            settings.secret_text("upstream"),
            model=settings.upstream_model,
            shuffle=settings.shuffle,
            true_logprobs=settings.upstream_true_logprobs,
        )
    return Local(generator, settings.secret("gateway"))


# -- the generator ----------------------------------------------------------------------------------------------------


class Local:
    """The generator of this home."""

    def __init__(self, address: str, secret: bytes, *, timeout_s: float = LOCAL_S) -> None:
        self._connections = Connections(address)
        self._secret = secret.hex()
        self._timeout_s = timeout_s

    async def generate(self, ask: Ask) -> Generated:
        """See `Backend`."""
        body = await self._call("POST", "/generate", msgspec.json.encode(ask), self._timeout_s)
        return _decoded(body, Generated, "candidates")

    async def stream(self, ask: Ask) -> AsyncIterator[Piece | Generated]:
        """See `Backend`: the model draws all candidates together, so each comes in one piece."""
        found = await self.generate(ask)
        for position, candidate in enumerate(found.candidates):
            yield Piece(position, candidate.text)
        yield found

    async def status(self) -> Status:
        """How the generator is. Raises Unavailable."""
        return _decoded(await self._call("GET", "/status", b"", STATUS_S), Status, "its status")

    async def ready(self) -> str | None:
        """See `Backend`."""
        try:
            status = await self.status()
        except Unavailable as error:
            return error.message
        if status.version is not None:
            return None
        reasons = [f"{version}: {why}" for version, why in (status.failed or {}).items()]
        reasons += ["its database is away"] if status.database else []  # whoever asks may be anybody: not where it is
        return "; ".join(["the generator has no model version loaded", *reasons])

    async def close(self) -> None:
        """See `Backend`."""
        self._connections.close()

    async def _call(self, method: str, path: str, body: bytes, seconds: float) -> bytes:
        try:
            async with asyncio.timeout(seconds):
                reply = await self._connections.call(method, path, {HEADER: self._secret}, body)
        except TimeoutError:
            raise Unavailable("the generator does not answer in time") from None
        except OSError:
            raise Unavailable("the generator cannot be reached; it may be starting") from None
        if reply.status == HTTPStatus.OK:
            return reply.body
        why = _told(reply)
        if reply.status == HTTPStatus.BAD_REQUEST:
            raise BadInputError(why)
        raise Unavailable(f"the generator cannot answer now: {why}", retry_after(reply.headers.get("retry-after")))


class _Told(msgspec.Struct):
    error: str


def _decoded(body: bytes, type_: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(body, type=type_)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Unavailable(f"the generator sent something else than {what}: {error}") from None


def _told(reply: Reply) -> str:
    try:
        return msgspec.json.decode(reply.body, type=_Told).error
    except msgspec.MsgspecError:
        return f"status {reply.status}"


def retry_after(told: str | None) -> float:
    """Seconds that a header Retry-After says; a date, which the protocol allows too, counts as not said."""
    try:
        seconds = float(told or RETRY_S)
    except ValueError:
        return RETRY_S
    return min(max(seconds, 0.0), LONGEST_RETRY_S) if math.isfinite(seconds) else RETRY_S
