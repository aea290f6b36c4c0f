"""Langfuse: its exports of traces with observations and scores.

The formats are those of Langfuse's server versions 3 and 4, as its API definition and its page on blob storage exports
describe them. Three are read, each as JSON or JSON lines:

- a trace with all in it: what `GET /api/public/traces/{id}` gives (`observations` and `scores` inside the trace), or
  the page's own "Download JSON" (`trace`, `observations`, `scores` side by side);
- rows of the API's lists (`{"data": [...]}`) or of nothing but themselves: observations, traces and scores, together
  in one file;
- the folder of a blob storage export: `observations_v2/` or `observations/` with `traces/`, and `scores/`, whose
  columns are spelled `trace_id` and not `traceId`.

The table export of the page is not read: it gives scores without saying who gave them.

A generation is an observation of the type GENERATION. A score of the source ANNOTATION is a person's (`authorUserId`,
where the export tells it), one of EVAL a judge's. One of API is a person's if its name says so (user-feedback, thumb),
if it corrects, or if `--score` names it; else it is counted as a judge's, for pipelines send theirs in this way too. A
score of the type CORRECTION is the text that should have stood, one of TEXT a comment. The person is the trace's
`userId`; `metadata` of the trace or the observation may tell `workflow` (or `loop.workflow`), `team`, `region` and
`task_id`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from loop import schema
from loop.collect.events import EventError
from loop.collect.record import Progress, Record, Source, Tally
from loop.collect.sources import chat, verdicts
from loop.collect.sources.documents import MALFORMED, Document, broken, decode, reader, told
from loop.collect.sources.feedback import records
from loop.collect.sources.pieces import About, Content, Details, Generation, Judgement, Piece, Skipped, Stage, Trace
from loop.collect.sources.verdicts import Reading, Verdict

_SHAPES: Final = "a trace with observations, or rows of observations, traces and scores, as Langfuse exports them"


def read(path: Path, *, reading: Reading | None = None, progress: Progress | None = None) -> Source:
    """The decisions in an export of Langfuse, as events.

    Args:
        path: a file, perhaps packed (`.gz`, `.zst`), or the folder of a blob storage export.
        reading: what the traces do not say.
        progress: called with how much was read, and how much there is.

    Raises:
        BadInputError: at once or while the records are drawn: no such file, no JSON, no workflow.
    """
    how, tally, again = reading or Reading(), Tally(), reader(path, progress, times=3)

    def pieces(_stage: Stage) -> Iterator[Piece]:
        for document in again():
            if isinstance(document, Record):
                yield document
                continue
            for place, (row, trace) in enumerate(_rows(document.value)):
                try:
                    yield from _of_row(row, trace, document, how)
                except MALFORMED as error:
                    yield broken(document, f"[{place}]", f"expected {_SHAPES}: {told(error)}")

    return Source("langfuse", path, records("langfuse", pieces, tally, how), tally=tally)


def _rows(value: Any) -> Iterator[tuple[Any, Any]]:
    """The rows of a document, each with the id of the trace that it stands in, if it stands in one."""
    if not isinstance(value, dict):
        yield value, None
    elif isinstance(value.get("data"), list):
        for each in value["data"]:
            yield from _rows(each)
    elif isinstance(value.get("observations"), list):
        trace = value.get("trace", value)
        yield trace, None
        inner = trace if isinstance(trace, dict) else {}
        scores = [*_list(value.get("scores")), *(_list(inner.get("scores")) if inner is not value else [])]
        for each in (*value["observations"], *scores):
            yield each, inner.get("id")
    else:
        yield value, None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _get(row: dict[str, Any], name: str) -> Any:
    """A field by its name in the API (`traceId`) or, spelled otherwise, in a blob storage export (`trace_id`)."""
    if name in row:
        return row[name]
    return row.get("".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name))


def _of_row(row: Any, trace: str | None, document: Document, reading: Reading) -> Iterator[Piece]:
    if not isinstance(row, dict):
        raise TypeError(f"got {verdicts.shown(row)}")
    if _get(row, "dataType") is not None or ("value" in row and "source" in row):
        yield from _of_score(row, trace, document, reading)
    elif "type" in row and _get(row, "startTime") is not None:
        yield from _of_observation(row, trace, document)
    elif "id" in row and ("timestamp" in row or _get(row, "userId") is not None or _get(row, "createdAt") is not None):
        answer = partial(chat.answers, row.get("output"))
        yield Trace(_text(row["id"], "id"), _about(row, answer))
    else:
        raise TypeError(f"got one with the keys {', '.join(sorted(map(str, row)))[:200]}")


def _of_observation(row: dict[str, Any], trace: str | None, document: Document) -> Iterator[Piece]:
    key = (_text(_get(row, "traceId") or trace, "traceId"), _text(row.get("id"), "id"))
    if row["type"] == "GENERATION":
        yield Generation(
            key=key,
            line=document.line,
            path=document.path,
            details=partial(_details, row),
            content=partial(_content, row),
        )
    elif _get(row, "parentObservationId") is None and row.get("output") is not None:
        yield Trace(key[0], _about(row, partial(chat.answers, row["output"])))


def _details(row: dict[str, Any]) -> Details:
    return Details(
        start=_time(_get(row, "startTime")),
        end=_time(_get(row, "endTime")),
        model=_plain(row.get("model") or _get(row, "providedModelName")),
        about=_about(row),
        told=_told(row),
    )


def _content(row: dict[str, Any]) -> Content:
    return Content(chat.prompt(row.get("input")), chat.answers(row.get("output")))


def _about(row: dict[str, Any], answer: Any = None) -> About:
    metadata = _metadata(row)
    named = _plain(metadata.get("workflow"))
    return About(
        user=_plain(_get(row, "userId")),
        session=_plain(_get(row, "sessionId")),
        workflow=_plain(metadata.get("loop.workflow")) or (named if named in schema.WORKFLOWS else None),
        answer=answer,
    )


def _told(row: dict[str, Any]) -> dict[str, str]:
    metadata = _metadata(row)
    return {name: text for name in ("team", "region", "task_id") if (text := _plain(metadata.get(name))) is not None}


def _metadata(row: dict[str, Any]) -> dict[str, Any]:
    """The row's metadata; in exports it may be JSON in a text."""
    value = row.get("metadata")
    if isinstance(value, str):
        try:
            value = decode(value)
        except EventError:
            return {}
    return value if isinstance(value, dict) else {}


def _of_score(row: dict[str, Any], trace: str | None, document: Document, reading: Reading) -> Iterator[Piece]:
    name, source, kind = _text(row.get("name"), "name"), row.get("source"), _get(row, "dataType")
    in_trace = _plain(_get(row, "traceId")) or trace
    personal = source == "ANNOTATION" or kind == "CORRECTION" or verdicts.of_person(name, reading.scores)
    if source == "EVAL" or not personal:
        yield Skipped("judge")
        return
    if in_trace is None or kind == "TEXT":
        yield Skipped("comment" if kind == "TEXT" else "session")
        return
    text = None
    value = _value(row, kind)
    if kind == "CORRECTION":
        text = _corrected(value)
        if text is None:
            yield Skipped("empty")
            return
    comment = row.get("comment")
    if (tags := verdicts.tags(comment) if comment else ()) is None:
        yield Skipped("comment")
    observation = _plain(_get(row, "observationId"))
    yield Judgement(
        id=_text(row.get("id"), "id"),
        trace=in_trace,
        spans=((in_trace, observation),) if observation else (),
        name=name,
        verdict=Verdict.CORRECTION if text is not None else verdicts.verdict(name, value, reading.scores),
        shown=verdicts.shown(value),
        at=_time(_get(row, "updatedAt")) or _time(row.get("timestamp")) or _time(_get(row, "createdAt")),
        line=document.line,
        path=document.path,
        author=_plain(_get(row, "authorUserId")),
        by_user=source != "ANNOTATION",
        text=text,
        tags=tags or (),
    )


def _value(row: dict[str, Any], kind: Any) -> Any:
    """The value of a score: a truth value for a boolean one, a text for one of words, else what came."""
    texts = (_get(row, "stringValue"), _get(row, "longStringValue"), row.get("value"))
    if kind == "BOOLEAN":
        return bool(row.get("value")) if row.get("value") in (0, 1) else row.get("value")
    if kind in ("CATEGORICAL", "CORRECTION"):
        return next((text for text in texts if isinstance(text, str) and text.strip()), row.get("value"))
    return row.get("value")


def _corrected(value: Any) -> str | None:
    """The text of a correction; where the answer was logged as JSON, so is its correction. None where none was set."""
    try:
        answers = chat.answers(value) if isinstance(value, str) else []
    except chat.NotTextError:
        return None
    return answers[0] if len(answers) == 1 else None


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise TypeError(f"{name}: expected a text, got {verdicts.shown(value)}")
    return value


def _plain(value: Any) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _time(value: Any) -> datetime | None:
    """A time in ISO 8601, or as a blob storage export writes it, in UTC: `2024-05-29 13:46:19.963000`."""
    try:
        time = datetime.fromisoformat(value)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None
