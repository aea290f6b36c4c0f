"""OpenTelemetry: traces of model calls in OTLP's JSON encoding, and what people said of them.

A file holds ExportTraceServiceRequest objects (`resourceSpans`): one, an array of them, or one a line, as the
collector's file exporter writes them; ExportLogsServiceRequest objects (`resourceLogs`) may stand among them or in
another file of the same folder. Ids are hexadecimal as OTLP says (base64, which plain protobuf writes, is read too).

A generation is a span of the operations chat, text_completion or generate_content, or one that carries an answer. Its
conversation is read from the attributes `gen_ai.input.messages`, `gen_ai.output.messages` and
`gen_ai.system_instructions` (semantic conventions from 1.37), from the span events `gen_ai.*.message` and
`gen_ai.choice` (until 1.36) or `gen_ai.content.prompt` and `gen_ai.content.completion` (until 1.27), or from the
attributes of OpenLLMetry (`gen_ai.prompt.N.content`) and OpenInference (`llm.input_messages.N.message.content`).

A person's feedback comes after the answer, when its span has mostly ended. It is found in three places: an event of the
generation's own span; a later span, whose attributes or events tell it, that is a child of the generation or links to
it; or a log record with the generation's trace and span id, or with its `gen_ai.response.id`. Its two forms:

- `gen_ai.evaluation.result` (event or log record) with `gen_ai.evaluation.name`, `.score.label` or `.score.value`, and
  `.explanation`. The conventions do not say who evaluated: it is a person's if it has `user.id` or `loop.employee`, or
  if its name says so (user_feedback, thumb); else it is a judge's and skipped.
- `loop.decision` (event, log record, or attribute of a span): accept, modify, reject or ignore, with `loop.final_text`
  (what stands in the end), `loop.chosen` (position of the answer taken, from 0), `loop.employee` and `loop.reasons`.

On a span or its resource, `loop.workflow`, `loop.employee` (else `user.id`, `enduser.id`), `loop.team`, `loop.region`,
`loop.task_id`, `loop.visibility` and `loop.purposes` tell what an event needs beside that.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from loop import schema
from loop.collect.events import DELETED
from loop.collect.record import Progress, Record, Source, Tally
from loop.collect.sources import verdicts
from loop.collect.sources.attributes import CHOICE, COMPLETED, Attributes, attributes, content_of, text_of, value_of
from loop.collect.sources.documents import MALFORMED, Document, broken, reader, told
from loop.collect.sources.feedback import records
from loop.collect.sources.pieces import (
    About,
    Content,
    Details,
    Generation,
    Judgement,
    Piece,
    Skipped,
    Span,
    Stage,
    Trace,
)
from loop.collect.sources.verdicts import Reading, Verdict
from loop.schema import Decision

EVALUATION: Final = "gen_ai.evaluation.result"
DECISION: Final = "loop.decision"
_OPERATIONS: Final = ("chat", "text_completion", "generate_content", "completion")
_USER: Final = ("loop.employee", "user.id", "enduser.id")
_SESSION: Final = ("gen_ai.conversation.id", "session.id")
_MODEL: Final = ("gen_ai.response.model", "gen_ai.request.model", "llm.model_name")
_HEX: Final = re.compile(r"[0-9a-fA-F]+")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SPANS: Final = ("resourceSpans", "scopeSpans", "spans")
_NAME: Final = "gen_ai.evaluation.name"
_LOGS: Final = ("resourceLogs", "scopeLogs", "logRecords")


class Event(NamedTuple):
    """An event of a span."""

    name: Any
    attributes: Attributes
    at: Any


def read(path: Path, *, reading: Reading | None = None, progress: Progress | None = None) -> Source:
    """The decisions in a file or folder of OTLP JSON, as events.

    Args:
        path: a file, perhaps packed (`.gz`, `.zst`), or a folder of them.
        reading: what the traces do not say.
        progress: called with how much was read, and how much there is.

    Raises:
        BadInputError: at once or while the records are drawn: no such file, no JSON, no workflow.
    """
    how, tally, again = reading or Reading(), Tally(), reader(path, progress, times=3)

    def pieces(stage: Stage) -> Iterator[Piece]:
        for document in again():
            yield from [document] if isinstance(document, Record) else _of_document(document, stage, how)

    return Source("otel", path, records("otel", pieces, tally, how), tally=tally)


def _of_document(document: Document, stage: Stage, reading: Reading) -> Iterator[Piece]:
    """The pieces of one request of traces or logs; requests of metrics have none."""
    value = document.value
    if not isinstance(value, dict) or not value.keys() & {"resourceSpans", "resourceLogs", "resourceMetrics"}:
        yield broken(document, "", "expected an object with resourceSpans or resourceLogs, as OTLP's JSON has it")
        return
    for keys, of_item in ((_SPANS, _of_span), (_LOGS, _of_log)):
        for place, (resource, item) in enumerate(_items(value, *keys)):
            try:
                yield from of_item(item, resource, document, stage, reading)
            except MALFORMED as error:
                yield broken(document, f"{keys[2]}[{place}]", f"expected one of OTLP's {keys[2]}: {told(error)}")


def _items(value: dict[str, Any], by_resource: str, by_scope: str, name: str) -> Iterator[tuple[Attributes, Any]]:
    """Each item of a request with its resource's attributes; what should hold items and does not is itself given."""
    for group in _list(value.get(by_resource)):
        if not isinstance(group, dict):
            yield {}, group
            continue
        resource = group.get("resource")
        try:
            shared = attributes(resource.get("attributes")) if isinstance(resource, dict) else {}
        except (TypeError, KeyError, AttributeError):
            shared = {}
        for scope in _list(group.get(by_scope)):
            if not isinstance(scope, dict):
                yield shared, scope
                continue
            for item in _list(scope.get(name)):
                yield shared, item


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


# -- spans ------------------------------------------------------------------------------------------------------------


def _of_span(span: Any, resource: Attributes, document: Document, stage: Stage, reading: Reading) -> Iterator[Piece]:
    trace, own = _id(span["traceId"], 16), _id(span["spanId"], 8)
    parent = _id(span["parentSpanId"], 8) if span.get("parentSpanId") else None
    links = [(_id(link["traceId"], 16), _id(link["spanId"], 8)) for link in span.get("links") or ()]
    given = attributes(span.get("attributes"))
    events = [
        Event(event.get("name"), attributes(event.get("attributes")), event.get("timeUnixNano"))
        for event in span.get("events") or ()
    ]
    is_generation = _is_generation(given, events)
    if stage is Stage.JUDGEMENTS:
        nearest = ((trace, own), *([(trace, parent)] if parent else []), *links)
        author = None if is_generation else text_of(given, *_USER)
        yield from _judgements(span, given, events, _Where(trace, nearest, document, reading, author))
        return
    if is_generation:
        yield Generation(
            key=(trace, own),
            line=document.line,
            path=document.path,
            details=partial(_details, span, given, resource),
            content=partial(_content, given, events),
            response=text_of(given, "gen_ai.response.id"),
        )
    if parent is None and stage is Stage.GENERATIONS and not given.keys() & {DECISION, _NAME}:
        yield Trace(trace, replace(_about(given, resource), answer=partial(_answer, given, events)))


def _judgements(span: Any, given: Attributes, events: list[Event], where: _Where) -> Iterator[Piece]:
    """What the events of a span say, and its attributes."""
    key = ":".join(where.spans[0])
    for number, event in enumerate(events):
        if event.name in (EVALUATION, DECISION):
            yield from where.judgement(event.name, event.attributes, _time(event.at), f"{key}:{number}")
    for name, attribute in ((EVALUATION, _NAME), (DECISION, DECISION)):
        if attribute in given:
            yield from where.judgement(name, given, _time(span.get("endTimeUnixNano")), f"{key}:{name}")


def _details(span: Any, given: Attributes, resource: Attributes) -> Details:
    return Details(
        start=_time(span.get("startTimeUnixNano")),
        end=_time(span.get("endTimeUnixNano")),
        model=text_of(given, *_MODEL),
        about=_about(given, resource),
        told=_told(given, resource),
    )


def _is_generation(given: Attributes, events: list[Event]) -> bool:
    if (operation := text_of(given, "gen_ai.operation.name")) is not None:
        return operation in _OPERATIONS
    if text_of(given, "openinference.span.kind") == "LLM" or text_of(given, "llm.request.type") in _OPERATIONS:
        return True
    if given.keys() & {"gen_ai.output.messages", "gen_ai.completion", "gen_ai.completion.0.content"}:
        return True
    return any(event.name in (CHOICE, COMPLETED) for event in events)


def _content(given: Attributes, events: list[Event]) -> Content:
    return content_of(given, [(event.name, event.attributes) for event in events])


def _answer(given: Attributes, events: list[Event]) -> list[str]:
    return _content(given, events).answers


def _about(given: Attributes, resource: Attributes) -> About:
    workflow = text_of(given, "loop.workflow") or text_of(resource, "loop.workflow")
    named = text_of(given, "gen_ai.workflow.name")
    return About(
        user=text_of(given, *_USER) or text_of(resource, *_USER),
        session=text_of(given, *_SESSION),
        workflow=workflow or (named if named in schema.WORKFLOWS else None),
    )


def _told(given: Attributes, resource: Attributes) -> dict[str, Any]:
    """Fields of the event that the span or its resource tells in so many words."""
    told: dict[str, Any] = {}
    for name in ("team", "region", "task_id"):
        if (text := text_of(given, f"loop.{name}") or text_of(resource, f"loop.{name}")) is not None:
            told[name] = text
    for name in ("visibility", "purposes"):
        value = value_of(given.get(f"loop.{name}", resource.get(f"loop.{name}")))
        if value is not None:
            told[name] = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    return told


# -- feedback ---------------------------------------------------------------------------------------------------------


def _of_log(record: Any, resource: Attributes, document: Document, stage: Stage, reading: Reading) -> Iterator[Piece]:
    """A log record that is feedback on the span it names; others have no pieces."""
    given = attributes(record.get("attributes"))
    name = record.get("eventName") or text_of(given, "event.name")
    if name not in (EVALUATION, DECISION) or stage is not Stage.JUDGEMENTS:
        return
    body = record.get("body")
    if isinstance(body, dict) and isinstance(body.get("kvlistValue"), dict):
        given = attributes(body["kvlistValue"].get("values")) | given
    trace = _id(record["traceId"], 16) if record.get("traceId") else None
    span = _id(record["spanId"], 8) if record.get("spanId") else None
    where = ((trace, span),) if trace and span else ()
    at = _time(record.get("timeUnixNano")) or _time(record.get("observedTimeUnixNano"))
    digest = hashlib.blake2b(msgspec.json.encode(record, order="sorted"), digest_size=8).hexdigest()
    yield from _Where(trace, where, document, reading, None).judgement(name, given, at, f"log:{digest}")


@dataclass(frozen=True)
class _Where:
    """Where feedback stood, and what it may be about."""

    trace: str | None
    spans: tuple[Span, ...]
    document: Document
    reading: Reading
    author: str | None
    """Who judged, if the feedback does not say it itself."""

    def judgement(self, kind: str, given: Attributes, at: datetime | None, key: str) -> Iterator[Piece]:
        author = text_of(given, *_USER) or self.author
        if kind == EVALUATION:
            name = text_of(given, _NAME) or ""
            if author is None and not verdicts.of_person(name, self.reading.scores):
                yield Skipped("judge")
                return
            values = [value_of(given.get(f"gen_ai.evaluation.score.{field}")) for field in ("label", "value")]
            said = [value for value in values if value is not None]
            sides = [verdicts.verdict(name, value, self.reading.scores) for value in said]
            side = next((side for side in sides if side is not Verdict.UNCLEAR), Verdict.UNCLEAR)
            shown = " and ".join(verdicts.shown(value) for value in said) or "nothing"
            comment, text, decision, chosen = value_of(given.get("gen_ai.evaluation.explanation")), None, None, None
        else:
            decision, text, chosen = (
                value_of(given.get(name)) for name in (DECISION, "loop.final_text", "loop.chosen")
            )
            name, side = DECISION, Verdict.DECIDED if isinstance(decision, str) else Verdict.UNCLEAR
            text = text if isinstance(text, str) else None
            chosen = chosen if chosen is None or type(chosen) is int else -1  # no position: refused where it matters
            shown, comment = verdicts.shown(decision), value_of(given.get("loop.reasons"))
            comment = ",".join(map(str, comment)) if isinstance(comment, list) else comment
        tags = verdicts.tags(comment) if comment is not None else ()
        if tags is None:
            yield Skipped("comment")
        yield Judgement(
            id=key,
            trace=self.trace,
            spans=self.spans,
            name=name,
            verdict=side,
            shown=shown,
            at=at,
            line=self.document.line,
            path=self.document.path,
            author=author,
            text=text,
            tags=(*(tags or ()), *([DELETED] if decision == Decision.MODIFY and text == "" else [])),
            decision=decision if isinstance(decision, str) else None,
            chosen=chosen,
            response=text_of(given, "gen_ai.response.id"),
        )


# -- ids and times ----------------------------------------------------------------------------------------------------


def _id(given: Any, size: int) -> str:
    """An id in hexadecimal digits, in lower case; base64, as plain protobuf writes it, is told by its length."""
    if isinstance(given, str):
        if len(given) == 2 * size and _HEX.fullmatch(given):
            return given.lower()
        with suppress(binascii.Error):
            if len(content := base64.b64decode(given, validate=True)) == size:
                return content.hex()
    raise ValueError(f"expected an id of {2 * size} hexadecimal digits, got {verdicts.shown(given)}")


def _time(nanoseconds: Any) -> datetime | None:
    """A time in nanoseconds since 1970, a text or a number; None for 0, which says none, and for what is none."""
    try:
        micros = int(nanoseconds) // 1000
        return _EPOCH + timedelta(microseconds=micros) if micros > 0 else None
    except (TypeError, ValueError, OverflowError):
        return None
