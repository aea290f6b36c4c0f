"""Asking for suggestions: OpenAI's chat completions and Loop's own route, over whatever generates.

A suggestion is stored with all that off-policy evaluation will need before anything of it is shown.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from loop import schema
from loop.collect.events import Reason, pseudonym
from loop.collect.served import Candidate, Message, SuggestionRecord
from loop.gateway import http, records, rules, wire
from loop.gateway.access import Token
from loop.gateway.backend import Ask, Backend, Generated, Piece
from loop.gateway.collecting import Store, require
from loop.gateway.http import Gone, Reply, Request
from loop.gateway.metrics import Metrics, clock
from loop.gateway.records import Names
from loop.gateway.telemetry import Span, Telemetry
from loop.gateway.wire import JSON, Chat, ChatMessage, Problem, Shown, Suggest, Suggested
from loop.validate.contract import PURPOSES, TEXT_CHARS

BODY_BYTES: Final = 1_000_000


@dataclass(frozen=True)
class Served:
    """A suggestion that is stored and may be shown."""

    record: SuggestionRecord
    generated: Generated


@dataclass(frozen=True)
class Suggesting:
    """The routes of suggestions over one store and one backend."""

    store: Store
    backend: Backend
    names: Callable[[], Names]
    metrics: Metrics
    telemetry: Telemetry
    problem: Callable[[Exception], Problem]
    """What a client is told of an error."""
    provider: str
    """As `gen_ai.provider.name`."""

    # -- routes -----------------------------------------------------------------------------------------------------

    async def suggestions(self, request: Request, token: Token) -> Reply:
        """POST /v1/suggestions"""
        body = await http.read(request.scope, request.receive, BODY_BYTES)
        ask = wire.decode(wire.SUGGEST, body)
        asked = self._allowed(token, ask, status=422, named="workflow")
        record = (await self._serve(request, token, ask, asked)).record
        shown = [Shown(position=c.position, text=c.text, logprob=c.logprob) for c in record.candidates]
        told = Suggested(
            suggestion_id=record.suggestion_id,
            workflow=record.workflow,
            model_version=record.model_version,
            arm_propensity=record.arm_propensity,
            order_propensity=record.order_propensity,
            shown_at=record.shown_at,
            candidates=shown,
        )
        return Reply(200, JSON.encode(told), items=len(shown))

    async def chat(self, request: Request, token: Token) -> Reply:
        """POST /v1/chat/completions"""
        body = await http.read(request.scope, request.receive, BODY_BYTES)
        chat = wire.decode(wire.CHAT, body, status=400)
        ask = _ask(chat)
        asked = self._allowed(token, ask, status=400, named="model")
        if chat.stream:
            usage = bool(chat.stream_options and chat.stream_options.include_usage)
            parts = self._stream(request, token, ask, asked, usage=usage)
            await anext(parts)
            return Reply(200, type=b"text/event-stream", stream=parts, items=asked.n)
        served = await self._serve(request, token, ask, asked)
        return Reply(200, JSON.encode(_completion(asked, served)), items=asked.n)

    async def models(self, request: Request, token: Token) -> Reply:
        """GET /v1/models"""
        mine = [model(name) for name in schema.WORKFLOWS if name in token.workflows]
        return Reply(200, JSON.encode({"object": "list", "data": mine}))

    async def one_model(self, request: Request, token: Token) -> Reply:
        """GET /v1/models/{model}"""
        name = request.scope["path"].removeprefix("/v1/models/")
        if name not in schema.WORKFLOWS:
            raise _unknown(name, "model", 404)
        require(token, name, "model")
        return Reply(200, JSON.encode(model(name)))

    # -- what both do -----------------------------------------------------------------------------------------------

    def _allowed(self, token: Token, ask: Suggest, *, status: int, named: str) -> Ask:
        """What the backend is asked.

        Args:
            status: of what is wrong with the request.
            named: what the request calls the workflow.

        Raises:
            Problem: there is no such workflow, the token is not for it, or the request breaks a rule.
        """
        if ask.workflow not in schema.WORKFLOWS:
            raise _unknown(ask.workflow, named, 404 if named == "model" else status)
        require(token, ask.workflow, named)
        _check(ask, status)
        return Ask(
            request_id=records.suggestion_id(datetime.now(UTC)),
            workflow=ask.workflow,
            messages=[{"role": message.role, "content": message.content} for message in ask.messages],
            n=ask.n,
            temperature=ask.temperature,
            top_p=ask.top_p,
            max_tokens=ask.max_tokens,
        )

    async def _serve(self, request: Request, token: Token, ask: Suggest, asked: Ask) -> Served:
        """Generate, store, and only then give back."""
        began = clock()
        with self._span(asked) as span:
            generated = await _unless_gone(request, self.backend.generate(asked))
            return await self._store(token, ask, asked, generated, began, span)

    async def _stream(
        self, request: Request, token: Token, ask: Suggest, asked: Ask, *, usage: bool
    ) -> AsyncIterator[bytes]:
        """The candidates' texts as they come; their ends when they are stored. What fails on the way is said in place.

        The first part is empty: until then an error still has a status of its own.
        """
        began = clock()
        head = _head(asked, datetime.now(UTC), "chat.completion.chunk")
        pieces = self.backend.stream(asked)
        with self._span(asked) as span:
            piece = await _unless_gone(request, anext(pieces))
            yield b""
            try:
                while isinstance(piece, Piece):
                    yield http.event(_text(head, piece))
                    piece = await _unless_gone(request, anext(pieces))
                served = await self._store(token, ask, asked, piece, began, span)
            except Gone:
                return
            except Exception as error:  # noqa: BLE001 - the status was sent; the form that OpenAI's clients read was not
                yield http.event({"error": self.problem(error).error()})
                return
        for chunk in _ends(head, served, usage=usage):
            yield http.event(chunk)
        yield http.DONE

    def _span(self, asked: Ask) -> AbstractContextManager[Span]:
        return self.telemetry.chat(
            asked.workflow,
            provider=self.provider,
            gen_ai__request__temperature=asked.temperature,
            gen_ai__request__top_p=asked.top_p,
            gen_ai__request__max_tokens=asked.max_tokens,
            gen_ai__request__choice__count=asked.n if asked.n != 1 else None,
        )

    async def _store(  # noqa: PLR0913, PLR0917 - what was asked, by whom, and what came
        self, token: Token, ask: Suggest, asked: Ask, generated: Generated, began: float, span: Span
    ) -> Served:
        """Store a suggestion: whoever shows it afterwards shows what is on disk."""
        self.metrics.generated.labels(asked.workflow).observe(clock() - began)
        if any(len(candidate.text) > TEXT_CHARS for candidate in generated.candidates):
            raise Problem(
                502, "answer_too_long", f"a candidate has more than {TEXT_CHARS} characters; ask for fewer tokens"
            )
        record = self._record(asked.request_id, ask, generated, token)
        await self.store.put([records.suggestion_item(record, record.shown_at)])
        usage = _usage(generated)
        self.metrics.suggestions.labels(asked.workflow, generated.model_version).inc()
        self.metrics.tokens.labels(asked.workflow, "input").inc(usage["prompt_tokens"])
        self.metrics.tokens.labels(asked.workflow, "output").inc(usage["completion_tokens"])
        span.note(
            gen_ai__response__id=record.suggestion_id,
            gen_ai__response__model=generated.model_version,
            gen_ai__response__finish_reasons=[_finish(candidate.finished) for candidate in generated.candidates],
            gen_ai__usage__input_tokens=generated.prompt_tokens,
            gen_ai__usage__output_tokens=generated.completion_tokens,
        )
        return Served(record, generated)

    def _record(self, suggestion_id: str, ask: Suggest, generated: Generated, token: Token) -> SuggestionRecord:
        return SuggestionRecord(
            suggestion_id=suggestion_id,
            workflow=ask.workflow,
            shown_at=datetime.now(UTC),
            messages=[Message(message.role, message.content) for message in ask.messages],
            candidates=[
                Candidate(position, candidate.text, _known(candidate.logprob))
                for position, candidate in enumerate(generated.candidates)
            ],
            model_version=generated.model_version,
            arm_propensity=generated.arm_propensity,
            order_propensity=generated.order_propensity,
            employee=None if ask.employee is None else pseudonym(ask.employee, self.names().stored),
            team=ask.team,
            region=ask.region,
            episode_id=ask.episode_id,
            turn=ask.turn,
            task_id=ask.task_id,
            visibility=ask.visibility,
            purposes=list(token.purposes) if ask.purposes is None else list(ask.purposes),
            token_id=token.token_id,
        )


T = TypeVar("T")


async def _unless_gone(request: Request, working: Awaitable[T]) -> T:
    """What is awaited, unless the client hangs up before: nobody will see it, so nobody can have ignored it.

    Raises:
        Gone: the client hung up.
    """
    work = asyncio.ensure_future(working)
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise Gone
        return work.result()
    finally:
        for task in (work, gone):
            task.cancel()
            with suppress(BaseException):
                await task


def _known(logprob: float | None) -> float | None:
    """A log-probability, None where it is no such number."""
    return min(logprob, 0.0) if logprob is not None and math.isfinite(logprob) and logprob < 1e-3 else None


def _finish(finished: bool) -> str:
    return "stop" if finished else "length"


# -- what is asked ----------------------------------------------------------------------------------------------------

_CHAT_FIELDS: Final = {"employee": "user"}
"""What a chat request calls what is no part of its metadata."""


def _check(ask: Suggest, status: int) -> None:
    """The rules that the later event will have to keep, as far as they can be told now."""
    found = rules.prompt(ask.workflow, ask.messages, "messages") or rules.tags("visibility", ask.visibility)
    if found:
        reason, field, told = found
        raise Problem(status, reason.value, f"{field}: {told}", param=field)
    for name in ("employee", "team", "region", "episode_id", "task_id"):
        text = getattr(ask, name)
        if text is not None and not (rules.is_id(text) and text.strip()):
            reason, _, told = rules.bad_id(name)
            field = _CHAT_FIELDS.get(name, f"metadata.{name}") if status == 400 else name
            raise Problem(status, reason.value, f"{field}: {told}", param=field.partition(".")[0])


def _unknown(name: str, named: str, status: int) -> Problem:
    code = "model_not_found" if named == "model" else "workflow"
    message = f"{named}: expected one of {', '.join(schema.WORKFLOWS)}, got {wire.short(name)}"
    return Problem(status, code, message, param=named)


def _ask(chat: Chat) -> Suggest:
    """A chat request as a request for suggestions.

    Raises:
        Problem: 400, what its metadata says cannot be used.
    """
    told = chat.metadata or {}
    return Suggest(
        workflow=chat.model,
        messages=[_message(message) for message in chat.messages],
        n=chat.n or 1,
        temperature=chat.temperature,
        top_p=chat.top_p,
        max_tokens=chat.max_completion_tokens or chat.max_tokens,
        employee=chat.user,
        team=told.get("team"),
        region=told.get("region"),
        episode_id=told.get("episode_id"),
        turn=_turn(told.get("turn")),
        task_id=told.get("task_id"),
        visibility=_listed(told.get("visibility")) or [],
        purposes=_purposes(_listed(told.get("purposes"))),
    )


def _message(message: ChatMessage) -> wire.Message:
    content = message.content
    text = content if isinstance(content, str) else "".join(part.text for part in content)
    return wire.Message(role="system" if message.role == "developer" else message.role, content=text)


def _turn(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise Problem(400, "turn", f"metadata.turn: expected a whole number, got {wire.short(text)}", param="metadata")
    return int(text)


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [item.strip() for item in text.split(",") if item.strip()]


def _purposes(given: list[str] | None) -> Any:
    for purpose in given or ():
        if purpose not in PURPOSES:
            told = f"metadata.purposes: expected some of {', '.join(PURPOSES)}, got {wire.short(purpose)}"
            raise Problem(400, Reason.PURPOSES.value, told, param="metadata")
    return given


# -- what is answered in OpenAI's form --------------------------------------------------------------------------------


def model(name: str) -> dict[str, Any]:
    """A workflow as OpenAI's clients read a model."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "loop"}


def _head(asked: Ask, now: datetime, object_: str) -> dict[str, Any]:
    return {"id": asked.request_id, "object": object_, "created": int(now.timestamp()), "model": asked.workflow}


def _loop(record: SuggestionRecord) -> dict[str, Any]:
    """What OpenAI's form has no place for."""
    return {
        "suggestion_id": record.suggestion_id,
        "model_version": record.model_version,
        "arm_propensity": record.arm_propensity,
        "order_propensity": record.order_propensity,
        "logprobs": [candidate.logprob for candidate in record.candidates],
    }


def _usage(generated: Generated) -> dict[str, int]:
    """Tokens; 0 where an upstream does not say, for the form has no null."""
    read, written = generated.prompt_tokens or 0, generated.completion_tokens or 0
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _completion(asked: Ask, served: Served) -> dict[str, Any]:
    record, generated = served.record, served.generated
    choices = [
        {
            "index": shown.position,
            "message": {"role": "assistant", "content": shown.text, "refusal": None},
            "logprobs": None,
            "finish_reason": _finish(candidate.finished),
        }
        for shown, candidate in zip(record.candidates, generated.candidates, strict=True)
    ]
    return {
        **_head(asked, record.shown_at, "chat.completion"),
        "system_fingerprint": record.model_version,
        "choices": choices,
        "usage": _usage(generated),
        "loop": _loop(record),
    }


def _text(head: Mapping[str, Any], piece: Piece) -> dict[str, Any]:
    delta = {"role": "assistant", "content": piece.text}
    choice = {"index": piece.position, "delta": delta, "logprobs": None, "finish_reason": None}
    return {**head, "choices": [choice]}


def _ends(head: Mapping[str, Any], served: Served, *, usage: bool) -> list[dict[str, Any]]:
    """The last chunks: the end of each candidate, with the first of them Loop's part, and the usage if it was asked."""
    head = {**head, "system_fingerprint": served.record.model_version}
    chunks = []
    for position, candidate in enumerate(served.generated.candidates):
        end = {"index": position, "delta": {}, "logprobs": None, "finish_reason": _finish(candidate.finished)}
        chunks.append({**head, "choices": [end]})
    chunks[0]["loop"] = _loop(served.record)
    if usage:
        chunks.append({**head, "choices": [], "usage": _usage(served.generated)})
    return chunks
