"""MLflow 3: traces with their assessments, as `Trace.to_json()` and `Trace.to_dict()` write them.

One trace is `{"info": {...}, "data": {"spans": [...]}}`; a file holds one, an array of them, or one a line:

    for trace in mlflow.search_traces(return_type="list"):
        print(trace.to_json())

A generation is a span of the type CHAT_MODEL or LLM; in a trace that has none (a function of one's own under
`@mlflow.trace`) it is the root span. Assessments of the source HUMAN are people's, those of LLM_JUDGE and CODE are not.
A feedback is a rating; an expectation is the text that should have stood if its name says that it is one
(expected_response, correction), else it is a fact for tests and is counted. An assessment that was overridden is no
longer valid and counted too. Who decided is the assessment's `source_id`, and where that is MLflow's `default` the
trace's user (`mlflow.trace.user`); the session is `mlflow.trace.session`, the workflow the tag or metadata
`loop.workflow`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from loop.collect.events import EventError
from loop.collect.record import Progress, Record, Source, Tally
from loop.collect.sources import chat, verdicts
from loop.collect.sources.documents import MALFORMED, Document, broken, decode, reader, told
from loop.collect.sources.feedback import records
from loop.collect.sources.pieces import About, Content, Details, Generation, Judgement, Piece, Skipped, Stage, Trace
from loop.collect.sources.verdicts import Reading, Verdict

_TYPES: Final = ("CHAT_MODEL", "LLM")
_DEFAULT: Final = "default"
"""What MLflow writes as `source_id` where none was given."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def read(path: Path, *, reading: Reading | None = None, progress: Progress | None = None) -> Source:
    """The decisions in traces of MLflow, as events. Each trace has all in it: the file is gone through once.

    Args:
        path: a file, perhaps packed (`.gz`, `.zst`), or a folder of them.
        reading: what the traces do not say.
        progress: called with how much was read, and how much there is.

    Raises:
        BadInputError: at once or while the records are drawn: no such file, no JSON, no workflow.
    """
    tally = Tally()
    documents = reader(path, progress)()
    return Source("mlflow", path, _records(documents, reading or Reading(), tally), tally=tally)


def _records(documents: Iterator[Document | Record], reading: Reading, tally: Tally) -> Iterator[Record]:
    for document in documents:
        if isinstance(document, Record):
            yield document
            continue
        try:
            pieces = list(_of_trace(document, reading))
        except MALFORMED as error:
            yield broken(document, "", f"expected a trace of MLflow 3, with info and data.spans: {told(error)}")
            continue
        yield from records("mlflow", partial(_all, pieces), tally, reading)


def _all(pieces: list[Piece], _stage: Stage) -> list[Piece]:
    return pieces


def _of_trace(document: Document, reading: Reading) -> Iterator[Piece]:
    info, spans = document.value["info"], document.value["data"]["spans"]
    trace = info["trace_id"]
    if not isinstance(trace, str) or not isinstance(spans, list):
        raise TypeError("expected a text as trace_id and an array of spans")
    tags = (info.get("trace_metadata") or {}) | (info.get("tags") or {})
    given = [(span, {name: _value(text) for name, text in (span.get("attributes") or {}).items()}) for span in spans]
    about = About(
        user=_text(tags.get("mlflow.trace.user")),
        session=_text(tags.get("mlflow.trace.session")),
        workflow=_text(tags.get("loop.workflow")),
    )
    roots = [(span, attributes) for span, attributes in given if not span.get("parent_span_id")]
    calls = [(span, attributes) for span, attributes in given if attributes.get("mlflow.spanType") in _TYPES]
    answer = partial(_answers, roots[0][1]) if len(roots) == 1 else None
    yield Trace(trace, About(about.user, about.session, about.workflow, answer))
    told_of = {name: text for name in ("team", "region", "task_id") if (text := _text(tags.get(f"loop.{name}")))}
    for span, attributes in calls or roots:
        yield Generation(
            key=(trace, _id(span["span_id"])),
            line=document.line,
            path=document.path,
            details=partial(_details, span, attributes, about, told_of),
            content=partial(_content, attributes),
        )
    for assessment in info.get("assessments") or ():
        yield from _of_assessment(assessment, trace, document, reading)


def _details(span: dict[str, Any], attributes: dict[str, Any], about: About, told_of: dict[str, str]) -> Details:
    return Details(
        start=_nanoseconds(span.get("start_time_unix_nano")),
        end=_nanoseconds(span.get("end_time_unix_nano")),
        model=_model(attributes),
        about=about,
        told=told_of,
    )


def _value(given: Any) -> Any:
    """An attribute's value: MLflow keeps each as JSON in a text."""
    if isinstance(given, str):
        with suppress(EventError):
            return decode(given)
    return given


def _content(attributes: dict[str, Any]) -> Content:
    return Content(chat.prompt(attributes.get("mlflow.spanInputs")), _answers(attributes))


def _answers(attributes: dict[str, Any]) -> list[str]:
    return chat.answers(attributes.get("mlflow.spanOutputs"))


def _model(attributes: dict[str, Any]) -> str | None:
    inputs = attributes.get("mlflow.spanInputs")
    return _text(attributes.get("mlflow.llm.model")) or (
        _text(inputs.get("model")) if isinstance(inputs, dict) else None
    )


def _of_assessment(given: dict[str, Any], trace: str, document: Document, reading: Reading) -> Iterator[Piece]:
    name, source, identity = given["assessment_name"], given["source"], given["assessment_id"]
    if not isinstance(name, str) or not isinstance(identity, str):
        raise TypeError("expected texts as assessment_name and assessment_id")
    if source["source_type"] != "HUMAN":
        yield Skipped("judge")
        return
    if given.get("valid") is False:
        yield Skipped("overridden")
        return
    text = None
    if (expectation := given.get("expectation")) is not None:
        value = expectation.get("value")
        text = _expected(value) if verdicts.of_text(name) else None
        if text is None:
            yield Skipped("expectation")
            return
        side = Verdict.CORRECTION
    elif (feedback := given.get("feedback")) is not None:
        value = feedback.get("value")
        side = verdicts.verdict(name, value, reading.scores)
    else:
        yield Skipped("issue")
        return
    rationale = given.get("rationale")
    if (tags := verdicts.tags(rationale) if rationale else ()) is None:
        yield Skipped("comment")
    author, span = _text(source.get("source_id")), _text(given.get("span_id"))
    yield Judgement(
        id=identity,
        trace=trace,
        spans=((trace, span),) if span else (),
        name=name,
        verdict=side,
        shown=verdicts.shown(value),
        at=_time(given.get("last_update_time")) or _time(given.get("create_time")),
        line=document.line,
        path=document.path,
        author=None if author == _DEFAULT else author,
        text=text,
        tags=tags or (),
    )


def _expected(value: Any) -> str | None:
    try:
        answers = chat.answers(value)
    except chat.NotTextError:
        return None
    return answers[0] if len(answers) == 1 else None


def _id(given: Any) -> str:
    """A span's id in hexadecimal digits, as assessments have it; spans have it in base64."""
    with suppress(binascii.Error, ValueError, TypeError):
        if len(content := base64.b64decode(given, validate=True)) == 8:
            return content.hex()
    if not isinstance(given, str) or not given:
        raise TypeError("expected the id of a span")
    return given


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _time(value: Any) -> datetime | None:
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return None if time.tzinfo is None else time.astimezone(UTC)


def _nanoseconds(value: Any) -> datetime | None:
    try:
        return _EPOCH + timedelta(microseconds=int(value) // 1000)
    except (TypeError, ValueError, OverflowError):
        return None
