"""Somebody else's OpenAI-compatible server as the backend: its chat completions become candidates.

The front imports this module, hence nothing of the model stands here.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import httpx
import msgspec

from loop.errors import BadInputError
from loop.gateway.backend import Ask, Generated, Piece, Produced, Unavailable, retry_after
from loop.release.order import order_propensity

UPSTREAM_S: Final = 120.0
"""Seconds for an answer of an upstream."""
_LIMITS: Final = httpx.Limits(max_connections=1024, max_keepalive_connections=128)
_MESSAGE_CHARS: Final = 300
"""Of an upstream's error message that is passed on."""


class _Token(msgspec.Struct):
    logprob: float


class _Logprobs(msgspec.Struct):
    content: list[_Token] | None = None


class _Text(msgspec.Struct, frozen=True):
    content: str | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    message: _Text = _Text()
    delta: _Text = _Text()
    """In a stream."""
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Completion(msgspec.Struct):
    """A chat completion of OpenAI's protocol, or a chunk of one: the fields that are read."""

    choices: list[_Choice]
    model: str | None = None
    usage: _Usage | None = None


class Upstream:
    """An OpenAI-compatible server. What it does not say (how probable a text was) is None in what comes back."""

    def __init__(  # noqa: PLR0913 - by keyword
        self,
        url: str,
        key: str | None,
        *,
        model: str | None = None,
        shuffle: bool = True,
        true_logprobs: bool = False,
        timeout_s: float = UPSTREAM_S,
    ) -> None:
        """`url` as `http://host/v1`; `model` is the workflow's name if None.

        `true_logprobs`: it samples from what its log-probabilities say, without top-k, penalties or own defaults.
        """
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(timeout_s, connect=5.0),
            limits=_LIMITS,
        )
        self._timeout_s = timeout_s
        self._model = model
        self._shuffle = shuffle
        self._true_logprobs = true_logprobs
        self._logprobs = True
        """Whether it gives log-probabilities, until it says that it does not."""

    async def generate(self, ask: Ask) -> Generated:
        """See `Backend`. An upstream that gives fewer candidates than asked for is asked for the rest one by one."""
        whole = await self._complete(ask, ask.n)
        made = [whole, *await self._rest(ask, ask.n - len(whole.choices))]
        choices = [choice for completion in made for choice in completion.choices][: ask.n]
        drawn = [self._produced(choice, ask) for choice in choices]
        return self._generated(ask, made, drawn, _order(ask.n, shuffle=self._shuffle))

    async def stream(self, ask: Ask) -> AsyncIterator[Piece | Generated]:
        """See `Backend`. Positions are drawn before the first text, so that nothing need wait for the last."""
        order = _order(ask.n, shuffle=self._shuffle)
        position = {drawn: place for place, drawn in enumerate(order)}
        parts: dict[int, _Choice] = {}
        last: _Completion | None = None
        async for last in self._chunks(ask):
            for choice in last.choices:
                if not 0 <= choice.index < ask.n:
                    continue
                _extend(parts.setdefault(choice.index, _Choice(choice.index, _Text(""))), choice)
                if choice.delta.content:
                    yield Piece(position[choice.index], choice.delta.content)
        if last is None or any(choice.finish_reason is None for choice in parts.values()):
            raise Unavailable("the upstream broke off its answer")
        missing = [i for i in range(ask.n) if i not in parts]
        rest = await self._rest(ask, len(missing))
        for i, completion in zip(missing, rest, strict=True):
            parts[i] = completion.choices[0]
            yield Piece(position[i], parts[i].message.content or "")
        drawn = [self._produced(parts[i], ask) for i in range(ask.n)]
        yield self._generated(ask, [last, *rest], drawn, order)

    async def ready(self) -> str | None:
        """See `Backend`: whether the upstream answers at all, whatever it says."""
        try:
            await self._client.get("models", timeout=2.0)
        except httpx.TransportError as error:
            return f"the upstream cannot be reached ({type(error).__name__})"
        return None

    async def close(self) -> None:
        """See `Backend`."""
        await self._client.aclose()

    # -- inside -----------------------------------------------------------------------------------------------------

    def _body(self, ask: Ask, n: int, *, stream: bool = False) -> dict[str, Any]:
        """The request: what somebody chose and no more, for an upstream's own defaults are its business."""
        chosen = {"temperature": ask.temperature, "top_p": ask.top_p, "max_tokens": ask.max_tokens}
        return {
            "model": self._model or ask.workflow,
            "messages": ask.messages,
            "n": n,
            **({"logprobs": True} if self._logprobs else {}),
            **({"stream": True} if stream else {}),
            **{name: value for name, value in chosen.items() if value is not None},
        }

    async def _complete(self, ask: Ask, n: int) -> _Completion:
        try:
            async with asyncio.timeout(self._timeout_s):
                reply = await self._client.post("chat/completions", json=self._body(ask, n))
                if self._no_logprobs(reply):
                    reply = await self._client.post("chat/completions", json=self._body(ask, n))
        except (httpx.TimeoutException, TimeoutError):
            raise Unavailable("the upstream does not answer in time") from None
        except httpx.TransportError as error:
            raise Unavailable(f"the upstream cannot be reached ({type(error).__name__})") from None
        _raise_for(reply)
        completion = _completion(reply.content)
        if not completion.choices:
            raise Unavailable("the upstream gave no candidate")
        return completion

    async def _rest(self, ask: Ask, count: int) -> Sequence[_Completion]:
        return await asyncio.gather(*(self._complete(ask, 1) for _ in range(count)))

    async def _chunks(self, ask: Ask) -> AsyncIterator[_Completion]:
        """The chunks of a streamed completion."""
        try:
            for _ in range(2):
                body = self._body(ask, ask.n, stream=True)
                async with self._client.stream("POST", "chat/completions", json=body) as reply:
                    if reply.is_error:
                        await reply.aread()
                        if self._no_logprobs(reply):
                            continue
                        _raise_for(reply)
                    async for line in reply.aiter_lines():
                        data = line.removeprefix("data:").strip()
                        if line.startswith("data:") and data != "[DONE]":
                            yield _completion(data.encode())
                return
        except httpx.TimeoutException:
            raise Unavailable("the upstream does not answer in time") from None
        except httpx.TransportError as error:
            raise Unavailable(f"the upstream broke off ({type(error).__name__})") from None

    def _produced(self, choice: _Choice, ask: Ask) -> Produced:
        """A choice as a candidate.

        Servers report log-probabilities before temperature and truncation: they are those of the draw only where
        neither was applied. What was asked for is known; what a server applies by itself is its operator's to say.
        """
        told = choice.logprobs.content if choice.logprobs else None
        plain = self._true_logprobs and ask.temperature == 1.0 and ask.top_p == 1.0
        nats = sum(token.logprob for token in told) if told and plain else None
        return Produced(
            text=choice.message.content or "",
            logprob=nats if nats is not None and math.isfinite(nats) else None,
            tokens=len(told) if told else None,
            finished=choice.finish_reason == "stop",
        )

    def _no_logprobs(self, reply: httpx.Response) -> bool:
        """Whether it was refused for the log-probabilities alone; from then on they are not asked for."""
        if reply.status_code != httpx.codes.BAD_REQUEST or not self._logprobs or "logprobs" not in reply.text:
            return False
        self._logprobs = False
        return True

    def _generated(
        self, ask: Ask, made: Sequence[_Completion], drawn: Sequence[Produced], order: Sequence[int]
    ) -> Generated:
        shown = [drawn[i] for i in order]
        tokens = [candidate.tokens for candidate in drawn]
        usage = [completion.usage or _Usage() for completion in made]
        return Generated(
            model_version=f"upstream:{made[0].model or self._model or ask.workflow}",
            arm_propensity=1.0,
            # Unshuffled, the order is the upstream's: nobody knows how it came about, unless there is only one.
            order_propensity=order_propensity([c.text for c in shown]) if self._shuffle or ask.n == 1 else None,
            candidates=shown,
            prompt_tokens=usage[0].prompt_tokens,
            completion_tokens=_sum([u.completion_tokens for u in usage]) or _sum(tokens),
        )


def _order(n: int, *, shuffle: bool) -> list[int]:
    """Which draw stands at each position."""
    order = list(range(n))
    if shuffle:
        random.SystemRandom().shuffle(order)
    return order


def _extend(whole: _Choice, chunk: _Choice) -> None:
    whole.message = _Text((whole.message.content or "") + (chunk.delta.content or ""))
    whole.finish_reason = chunk.finish_reason or whole.finish_reason
    if chunk.logprobs and chunk.logprobs.content:
        known = whole.logprobs.content if whole.logprobs and whole.logprobs.content else []
        whole.logprobs = _Logprobs([*known, *chunk.logprobs.content])


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None


def _completion(content: bytes) -> _Completion:
    try:
        return msgspec.json.decode(content, type=_Completion)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Unavailable(f"expected a chat completion of the upstream, got {error}") from None


def _raise_for(reply: httpx.Response) -> None:
    """Whatever an upstream refuses, told so that whoever must act knows it: the asker, or the gateway's operator."""
    if reply.is_success:
        return
    why = _message(reply)
    match reply.status_code:
        case 400 | 413 | 422:
            raise BadInputError(f"the upstream refuses the request: {why}")
        case 429:
            raise Unavailable(
                f"the upstream wants fewer requests: {why}", retry_after(reply.headers.get("retry-after")), status=429
            )
        case 401 | 403:  # the message may quote the key
            raise Unavailable("the upstream does not accept the gateway's key")
        case status:
            raise Unavailable(
                f"the upstream cannot answer now (status {status}): {why}",
                retry_after(reply.headers.get("retry-after")),
            )


def _message(reply: httpx.Response) -> str:
    """The message of an error in OpenAI's shape, cut short; else its status in words."""
    with contextlib.suppress(ValueError):
        told = reply.json()
        error = told.get("error") if isinstance(told, Mapping) else None
        message = error.get("message") if isinstance(error, Mapping) else error
        if isinstance(message, str):
            return message[:_MESSAGE_CHARS]
    return reply.reason_phrase or str(reply.status_code)
