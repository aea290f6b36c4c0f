"""Asking for suggestions: OpenAI's chat completions and Loop's own route, over whatever generates.

A suggestion is stored with all that off-policy evaluation will need before anything of it is shown.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from loop import schema
from loop.collect.events import Reason, pseudonym
from loop.collect.served import Candidate, Message, SuggestionRecord
from loop.gateway import completions, http, records, rules, wire
from loop.gateway.access import Token
from loop.gateway.backend import Ask, Backend, Generated, Piece
from loop.gateway.collecting import Store, require
from loop.gateway.completions import Served
from loop.gateway.http import Gone, Reply, Request
from loop.gateway.metrics import Metrics, clock
from loop.gateway.records import Names
from loop.gateway.telemetry import Span, Telemetry
from loop.gateway.veiling import Filling, Hidden
from loop.gateway.wire import JSON, Chat, ChatMessage, Problem, Shown, Suggest, Suggested
from loop.privacy.recognise import Find
from loop.validate.contract import PURPOSES, TEXT_CHARS

BODY_BYTES: Final = 1_000_000


@dataclass(frozen=True)
class Wanted:
    """A request that is allowed: with placeholders for personal data, and what they stand for."""

    ask: Suggest
    asked: Ask
    hidden: Hidden


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
    find: Find | None = None
    """What finds personal data; None if none is to be masked."""

    # -- routes -----------------------------------------------------------------------------------------------------

    async def suggestions(self, request: Request, token: Token) -> Reply:
        """POST /v1/suggestions"""
        body = await http.read(request.scope, request.receive, BODY_BYTES)
        ask = wire.decode(wire.SUGGEST, body)
        served = await self._serve(request, token, await self._allowed(token, ask, status=422, named="workflow"))
        record = served.record
        shown = [
            Shown(position=c.position, text=text, logprob=c.logprob)
            for c, text in zip(record.candidates, served.texts, strict=True)
        ]
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
        wanted = await self._allowed(token, _ask(chat), status=400, named="model")
        if chat.stream:
            usage = bool(chat.stream_options and chat.stream_options.include_usage)
            parts = self._stream(request, token, wanted, usage=usage)
            await anext(parts)
            return Reply(200, type=b"text/event-stream", stream=parts, items=wanted.asked.n)
        served = await self._serve(request, token, wanted)
        return Reply(200, JSON.encode(completions.whole(wanted.asked, served)), items=wanted.asked.n)

    async def models(self, request: Request, token: Token) -> Reply:
        """GET /v1/models"""
        mine = [completions.model(name) for name in schema.WORKFLOWS if name in token.workflows]
        return Reply(200, JSON.encode({"object": "list", "data": mine}))

    async def one_model(self, request: Request, token: Token) -> Reply:
        """GET /v1/models/{model}"""
        name = request.scope["path"].removeprefix("/v1/models/")
        if name not in schema.WORKFLOWS:
            raise _unknown(name, "model", 404)
        require(token, name, "model")
        return Reply(200, JSON.encode(completions.model(name)))

    # -- what both do -----------------------------------------------------------------------------------------------

    async def _allowed(self, token: Token, ask: Suggest, *, status: int, named: str) -> Wanted:
        """What the backend is asked, without personal data.

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
        hidden = Hidden(self.find)
        ask.messages = await hidden.prompt(ask.messages)
        _check(ask, status)  # a placeholder may be longer than what it stands for
        asked = Ask(
            request_id=records.suggestion_id(datetime.now(UTC)),
            workflow=ask.workflow,
            messages=[{"role": message.role, "content": message.content} for message in ask.messages],
            n=ask.n,
            temperature=ask.temperature,
            top_p=ask.top_p,
            max_tokens=ask.max_tokens,
        )
        return Wanted(ask, asked, hidden)

    async def _serve(self, request: Request, token: Token, wanted: Wanted) -> Served:
        """Generate, store, and only then give back."""
        began = clock()
        with self._span(wanted.asked) as span:
            generated = await _unless_gone(request, self.backend.generate(wanted.asked))
            return await self._store(token, wanted, generated, began, span)

    async def _stream(self, request: Request, token: Token, wanted: Wanted, *, usage: bool) -> AsyncIterator[bytes]:
        """The candidates' texts as they come; their ends when they are stored. What fails on the way is said in place.

        The first part is empty: until then an error still has a status of its own.
        """
        began, filling = clock(), Filling(wanted.hidden)
        head = completions.head(wanted.asked, datetime.now(UTC), "chat.completion.chunk")
        pieces = self.backend.stream(wanted.asked)
        with self._span(wanted.asked) as span:
            piece = await _unless_gone(request, anext(pieces))
            yield b""
            try:
                while isinstance(piece, Piece):
                    if (told := filling.next(piece)).text or not piece.text:
                        yield http.event(completions.chunk(head, told))
                    piece = await _unless_gone(request, anext(pieces))
                for told in filling.rest():
                    yield http.event(completions.chunk(head, told))
                served = await self._store(token, wanted, piece, began, span)
            except Gone:
                return
            except Exception as error:  # noqa: BLE001 - the status was sent; the form that OpenAI's clients read was not
                yield http.event({"error": self.problem(error).error()})
                return
        for chunk in completions.ends(head, served, usage=usage):
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

    async def _store(self, token: Token, wanted: Wanted, generated: Generated, began: float, span: Span) -> Served:
        """Store a suggestion: whoever shows it afterwards shows what is on disk, the request's values filled in."""
        asked = wanted.asked
        self.metrics.generated.labels(asked.workflow).observe(clock() - began)
        texts = wanted.hidden.stored([candidate.text for candidate in generated.candidates])
        if any(len(text) > TEXT_CHARS for text in texts):
            raise Problem(
                502, "answer_too_long", f"a candidate has more than {TEXT_CHARS} characters; ask for fewer tokens"
            )
        record = self._record(wanted, generated, texts, token)
        await self.store.put([records.suggestion_item(record, record.shown_at)])
        usage = completions.tokens(generated)
        self.metrics.suggestions.labels(asked.workflow, generated.model_version).inc()
        self.metrics.tokens.labels(asked.workflow, "input").inc(usage["prompt_tokens"])
        self.metrics.tokens.labels(asked.workflow, "output").inc(usage["completion_tokens"])
        span.note(
            gen_ai__response__id=record.suggestion_id,
            gen_ai__response__model=generated.model_version,
            gen_ai__response__finish_reasons=[
                completions.finish(candidate.finished) for candidate in generated.candidates
            ],
            gen_ai__usage__input_tokens=generated.prompt_tokens,
            gen_ai__usage__output_tokens=generated.completion_tokens,
        )
        return Served(record, generated, [wanted.hidden.shown(text) for text in texts])

    def _record(self, wanted: Wanted, generated: Generated, texts: Sequence[str], token: Token) -> SuggestionRecord:
        ask = wanted.ask
        return SuggestionRecord(
            suggestion_id=wanted.asked.request_id,
            workflow=ask.workflow,
            shown_at=datetime.now(UTC),
            messages=[Message(message.role, message.content) for message in ask.messages],
            candidates=[
                Candidate(position, text, _known(candidate.logprob))
                for position, (text, candidate) in enumerate(zip(texts, generated.candidates, strict=True))
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
