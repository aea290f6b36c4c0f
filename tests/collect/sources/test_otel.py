"""OTLP JSON, made by OpenTelemetry's own SDK and by hand."""

from __future__ import annotations

import base64
import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from loop.collect import sources
from loop.collect.imported import Imported
from loop.collect.sources import otel
from loop.collect.sources.verdicts import Reading
from loop.errors import BadInputError
from loop.home import Home
from loop.validate import contract
from tests.collect.sources.drawn import draw, written
from tests.collect.sources.otlp import CALL, SPAN, TRACE, Read, event, rated, request, span


def test_a_generation_that_a_person_accepted_is_an_event(read: Read) -> None:
    event = read(request(span(rated(), attributes={"loop.team": "north"}))).event
    assert event.pop("event_id").startswith(f"otel:{TRACE}:{SPAN}:")
    assert event == {
        "suggestion_id": f"otel:{TRACE}:{SPAN}",
        "episode_id": "otel:session-1",
        "workflow": "comms",
        "employee": "alice@example.org",
        "team": "north",
        "visibility": [],
        "purposes": ["training", "evaluation"],
        "prompt": [{"role": "user", "content": "Write a slogan"}],
        "candidates": [{"position": 0, "text": "Fresh every day"}],
        "model_version": "copywriter-7",
        "reasons": [],
        "decision": "accept",
        "chosen": 0,
        "final_text": "Fresh every day",
        "shown_at": "2026-01-05T09:00:01.500000Z",
        "decided_at": "2026-01-05T09:00:01.500000Z",
        "received_at": "2026-01-05T09:00:01.500000Z",
    }


def test_the_sdk_s_own_spans_and_log_records_are_read(tmp_path: Path) -> None:
    """A request with its model call; feedback as an event of it, a child, a link from another trace, a log record."""
    exporter, logs = InMemorySpanExporter(), InMemoryLogRecordExporter()
    provider, logger_provider = TracerProvider(), LoggerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    logger_provider.add_log_record_processor(SimpleLogRecordProcessor(logs))
    tracer, logger = provider.get_tracer("tool"), logger_provider.get_logger("tool")
    feedback = {"gen_ai.evaluation.name": "thumb", "gen_ai.evaluation.score.label": "thumbs up"}
    calls = []
    with tracer.start_as_current_span("POST /suggest", attributes={"user.id": "alice", "session.id": "s"}):
        for number in range(5):
            told = CALL | {
                "user.id": "",
                "gen_ai.output.messages": json.dumps([{"role": "assistant", "content": f"answer {number}"}]),
            }
            with tracer.start_as_current_span("chat", attributes=told) as call:
                calls.append(call.get_span_context())
                if number == 0:
                    call.add_event(otel.EVALUATION, feedback)
    with trace.use_span(trace.NonRecordingSpan(calls[1])):
        tracer.start_span("feedback", attributes={"loop.decision": "reject", "loop.employee": "bob"}).end()
    link = trace.Link(calls[2])
    tracer.start_span("feedback", links=[link], attributes={"loop.decision": "modify", "loop.final_text": "mine"}).end()
    logger.emit(
        LogRecord(
            timestamp=int(datetime.now(UTC).timestamp() * 1e9),
            context=trace.set_span_in_context(trace.NonRecordingSpan(calls[3])),
            event_name=otel.EVALUATION,
            attributes={"gen_ai.evaluation.name": "thumb", "gen_ai.evaluation.score.value": -1.0},
        )
    )
    spans = MessageToDict(encode_spans(exporter.get_finished_spans()))
    records = MessageToDict(encode_logs(logs.get_finished_logs()))
    for name, documents in (("plain protobuf", (spans, records)), ("otlp", (hexed(spans), hexed(records)))):
        drawn = draw("otel", written(tmp_path / f"{name}.jsonl", *documents))
        found = {e["candidates"][0]["text"]: (e["decision"], e["final_text"], e["employee"]) for e in drawn.events}
        assert found == {
            "answer 0": ("accept", "answer 0", "alice"),
            "answer 1": ("reject", None, "bob"),
            "answer 2": ("modify", "mine", "alice"),
            "answer 3": ("reject", None, "alice"),
        }
        assert (drawn.faults, drawn.tally.unrated, drawn.tally.skipped, drawn.tally.writers_unknown) == ([], 1, {}, 0)


def hexed(value: Any, key: str = "") -> Any:
    """Plain protobuf's JSON as OTLP wants it: ids in hexadecimal digits."""
    match value:
        case dict():
            return {name: hexed(inner, name) for name, inner in value.items()}
        case list():
            return [hexed(inner) for inner in value]
        case str() if key in {"traceId", "spanId", "parentSpanId"}:
            return base64.b64decode(value).hex()
    return value


def test_traces_that_name_no_workflow_are_refused_until_it_is_given(read: Read) -> None:
    with pytest.raises(
        BadInputError, match="line 1: nothing was imported: it does not say of which workflow it is; give --workflow"
    ):
        read(request(span(rated())), workflow=None)
    for name in ("gen_ai.workflow.name", "loop.workflow"):
        assert read(request(span(rated(), attributes={name: "design"})), workflow="ads").event["workflow"] == "design"
    assert (
        read(request(span(rated(), attributes={"gen_ai.workflow.name": "rag"})), workflow="ads").event["workflow"]
        == "ads"
    )


@pytest.mark.parametrize("document", [1, "x", None, {}, {"resourceSpan": []}, [[1]]])
def test_json_that_is_no_otlp_is_set_aside(read: Read, document: Any) -> None:
    drawn = read(request(span(rated())), document)
    assert len(drawn.events) == 1
    assert [record.fault and record.fault.reason.value for record in drawn.faults] == ["wrong_type"]


def test_one_array_one_object_and_packed_lines_give_the_same(tmp_path: Path) -> None:
    both = [request(span(rated())), request(span(rated("reject"), spanId="eeeeeeeeeeeeeeee"))]
    expected = draw("otel", written(tmp_path / "lines", *both)).events
    assert len(expected) == 2
    merged = {"resourceSpans": [group for each in both for group in each["resourceSpans"]]}
    for name, content in (("array.json", json.dumps(both, indent=1)), ("object.json", json.dumps(merged, indent=1))):
        (tmp_path / name).write_text(content)
        assert draw("otel", tmp_path / name).events == expected
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress((tmp_path / "lines").read_bytes()))
    assert draw("otel", tmp_path / "x.jsonl.gz").events == expected


def deep(levels: int) -> str:
    return '{"arrayValue":{"values":[' * levels + '{"stringValue":"x"}' + "]}}" * levels


NESTED = [json.dumps({"stringValue": text}) for text in ("[" * 900 + "]" * 900, '{"a":' * 900 + "1" + "}" * 900)]


@pytest.mark.parametrize("name", ["gen_ai.input.messages", "gen_ai.output.messages", "user.id", "loop.workflow"])
@pytest.mark.parametrize("value", [*NESTED, deep(60), deep(300), deep(2000)])
def test_what_nests_deep_is_an_event_or_set_aside(tmp_path: Path, name: str, value: str) -> None:
    line = json.dumps(request(span(rated(), attributes={name: "HERE"})))
    line = line.replace('{"stringValue": "HERE"}', value)
    assert "HERE" not in line
    (tmp_path / "x.jsonl").write_text(f'{{"resourceSpans":[]}}\n{line}\n')
    drawn = draw("otel", tmp_path / "x.jsonl")
    assert len(drawn.events) + len(drawn.faults) == 1


# -- anything that may come -------------------------------------------------------------------------------------------

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)
PLACES = [
    (),
    ("resourceSpans",),
    ("resourceSpans", 0),
    ("resourceSpans", 0, "resource"),
    ("resourceSpans", 0, "scopeSpans"),
    ("resourceSpans", 0, "scopeSpans", 0),
    ("resourceSpans", 0, "scopeSpans", 0, "spans"),
    *(
        ("resourceSpans", 0, "scopeSpans", 0, "spans", 0, *place)
        for place in (
            (),
            ("traceId",),
            ("spanId",),
            ("parentSpanId",),
            ("startTimeUnixNano",),
            ("endTimeUnixNano",),
            ("links",),
            ("attributes",),
            ("attributes", 0),
            ("attributes", 0, "key"),
            ("attributes", 0, "value"),
            ("attributes", 3, "value"),
            ("attributes", 4, "value", "stringValue"),
            ("events",),
            ("events", 0),
            ("events", 0, "name"),
            ("events", 0, "timeUnixNano"),
            ("events", 0, "attributes"),
            ("events", 0, "attributes", 0, "value"),
            ("events", 0, "attributes", 1, "value", "stringValue"),
        )
    ),
]


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(PLACES), value=ANY)
def test_whatever_stands_anywhere_is_an_event_a_fault_or_counted(
    tmp_path: Path, place: tuple[Any, ...], value: Any
) -> None:
    document: Any = request(span(rated()))
    if place:
        at = document
        for step in place[:-1]:
            at = at[step]
        at[place[-1]] = value
    else:
        document = value
    drawn = draw("otel", written(tmp_path / "x", {"resourceSpans": []}, document))
    found = len(drawn.events) + len(drawn.faults) + drawn.tally.unrated + drawn.tally.skipped.total()
    holds_no_span = len(place) < len(("resourceSpans", 0, "scopeSpans", 0, "spans", 0))
    assert found >= (0 if holds_no_span else 1)
    assert draw("otel", tmp_path / "x").events == drawn.events


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_refused_or_set_aside(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    try:
        drawn = draw("otel", path)
    except BadInputError:
        return
    assert drawn.events == []


# -- into the landing area --------------------------------------------------------------------------------------------


def test_importing_counts_everything_once_and_twice_changes_nothing(home: Home, tmp_path: Path) -> None:
    spans = [
        span(rated(**{"user.id": "bob@example.org"})),
        span(rated(2.5), spanId="dddddddddddddddd"),
        span(rated("accept", name="judge"), spanId="cccccccccccccccc"),
        span(
            event(otel.DECISION, **{"loop.decision": "modify", "loop.final_text": "Fresh"}), spanId="eeeeeeeeeeeeeeee"
        ),
        span(rated(), traceId="f" * 32, attributes={"loop.workflow": "cooking"}),
        span(rated(), spanId="1234"),
    ]
    path = written(tmp_path / "traces.jsonl", request(*spans))
    with path.open("a") as file:
        file.write('{"resourceSpans": [{"user.id": "dora@example.org"')

    def bring() -> Imported:
        rules, reading = contract.split, Reading(workflow="comms")
        return sources.read("otel", path, home.settings, home.lake, home.state, contract=rules, reading=reading)

    done = bring()
    assert (done.read, done.accepted, done.duplicates, done.quarantined, done.unrated) == (6, 2, 0, 4, 1)
    assert done.reasons == {"decision": 1, "workflow": 1, "wrong_type": 1, "not_json": 1}
    assert (done.skipped, done.writer_known) == ({"judge": 1}, True)
    again = bring()
    assert (again.read, again.accepted, again.duplicates, again.quarantined, again.unrated) == (6, 0, 6, 0, 1)
    assert again.unchanged
    kept = home.lake.read("quarantine").to_pylist()
    assert len(kept) == 4
    assert not [row for row in kept for name in ("alice", "bob@", "dora") if name in json.dumps(row, default=str)]
    told = again.told()
    assert (told["unrated"], told["skipped"]) == (1, {"judge": 1})
