"""Traces of MLflow 3: logged and judged with the installed MLflow, and by hand in the same shape."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loop.collect import sources
from loop.collect.imported import Imported
from loop.collect.sources.verdicts import Reading
from loop.home import Home
from loop.validate import contract
from tests.collect.sources.drawn import Drawn, draw, written

SPAN = "d56d2fb183073edb"
INPUTS = {"messages": [{"role": "user", "content": "Write a slogan"}], "model": "copywriter"}
OUTPUTS = {"choices": [{"message": {"role": "assistant", "content": "Fresh every day"}}]}


def span(identity: str = "1W0vsYMHPts=", parent: str | None = None, **attributes: Any) -> dict[str, Any]:
    told = {"mlflow.spanType": "CHAT_MODEL", "mlflow.spanInputs": INPUTS, "mlflow.spanOutputs": OUTPUTS}
    return {
        "trace_id": "wiSkevWn0kBg8A8n175AFQ==",
        "span_id": identity,
        "parent_span_id": parent,
        "name": "chat",
        "start_time_unix_nano": 1767603600000000000,
        "end_time_unix_nano": 1767603601500000000,
        "events": [],
        "status": {"code": "STATUS_CODE_OK", "message": ""},
        "attributes": {name: json.dumps(value) for name, value in (told | attributes).items()},
        "links": [],
    }


def assessment(value: Any = True, name: str = "thumb", number: int = 1, **other: Any) -> dict[str, Any]:
    return {
        "assessment_id": f"a-{number}",
        "assessment_name": name,
        "trace_id": "tr-1",
        "source": {"source_type": "HUMAN", "source_id": "bob@example.org"},
        "create_time": "2026-01-05T09:05:00Z",
        "last_update_time": "2026-01-05T09:05:00Z",
        "feedback": {"value": value},
        "valid": True,
    } | other


def expectation(value: Any, name: str = "expected_response", number: int = 2, **other: Any) -> dict[str, Any]:
    made = assessment(None, name, number, **other)
    del made["feedback"]
    return made | {"expectation": {"value": value}}


def trace(*assessments: Any, spans: Any = None, **metadata: str) -> dict[str, Any]:
    told = {"mlflow.trace.user": "alice@example.org", "mlflow.trace.session": "session-1", "mlflow.user": "root"}
    return {
        "info": {
            "trace_id": "tr-1",
            "request_time": "2026-01-05T09:00:00Z",
            "state": "OK",
            "trace_metadata": told | metadata,
            "assessments": list(assessments),
            "tags": {"loop.workflow": "ads", "mlflow.traceName": "chat"},
        },
        "data": {"spans": [span()] if spans is None else spans},
    }


def read(tmp_path: Path, *documents: Any, workflow: str | None = None, **scores: tuple[str, str]) -> Drawn:
    return draw("mlflow", written(tmp_path / "traces.jsonl", *documents), workflow, **scores)


def test_a_trace_that_a_person_liked_is_an_event(tmp_path: Path) -> None:
    event = read(tmp_path, trace(assessment(rationale="tone, facts"))).event
    assert event["suggestion_id"].startswith(f"mlflow:tr-1:{SPAN}:")
    assert event.pop("event_id").startswith(event.pop("suggestion_id"))
    assert event == {
        "episode_id": "mlflow:session-1",
        "workflow": "ads",
        "employee": "bob@example.org",
        "visibility": [],
        "purposes": ["training", "evaluation"],
        "prompt": [{"role": "user", "content": "Write a slogan"}],
        "candidates": [{"position": 0, "text": "Fresh every day"}],
        "model_version": "copywriter",
        "reasons": ["tone", "facts"],
        "decision": "accept",
        "chosen": 0,
        "final_text": "Fresh every day",
        "shown_at": "2026-01-05T09:00:01.500000Z",
        "decided_at": "2026-01-05T09:05:00Z",
        "received_at": "2026-01-05T09:05:00Z",
    }


@pytest.mark.parametrize(
    ("given_assessments", "expected"),
    [
        ([assessment(False)], ("reject", None, None)),
        ([assessment("no", "correctness")], ("reject", None, None)),
        ([assessment(True, span_id=SPAN)], ("accept", 0, "Fresh every day")),
        ([expectation("Fresh daily")], ("modify", 0, "Fresh daily")),
        ([expectation({"content": "Fresh daily"}, "correction")], ("modify", 0, "Fresh daily")),
        ([assessment(False), expectation("Fresh daily")], ("modify", 0, "Fresh daily")),
        ([expectation("Fresh every day")], ("accept", 0, "Fresh every day")),
    ],
)
def test_assessments_of_people_are_decisions(
    tmp_path: Path, given_assessments: list[dict[str, Any]], expected: tuple[Any, ...]
) -> None:
    assert read(tmp_path, trace(*given_assessments)).decision == expected


@pytest.mark.parametrize(
    ("given_assessment", "kind"),
    [
        (assessment(True, source={"source_type": "LLM_JUDGE", "source_id": "judge-1"}), "judge"),
        (assessment(True, source={"source_type": "CODE", "source_id": "check.py"}), "judge"),
        (assessment(True, valid=False), "overridden"),
        (expectation(["fact one", "fact two"], "expected_facts"), "expectation"),
        (expectation("be brief", "guidelines"), "expectation"),
        (expectation(["one", "two"]), "expectation"),
    ],
)
def test_what_is_no_decision_of_a_person_is_counted(
    tmp_path: Path, given_assessment: dict[str, Any], kind: str
) -> None:
    drawn = read(tmp_path, trace(given_assessment))
    assert (drawn.events, drawn.faults, drawn.tally.unrated, drawn.tally.skipped) == ([], [], 1, {kind: 1})


def test_who_decided_is_the_source_and_where_it_is_mlflow_s_default_the_trace_s_user(tmp_path: Path) -> None:
    by = {"source": {"source_type": "HUMAN", "source_id": "default"}}
    event = read(tmp_path, trace(assessment(**by))).event
    assert (event["employee"], event["suggestion_id"]) == ("alice@example.org", f"mlflow:tr-1:{SPAN}")
    drawn = read(tmp_path, trace(assessment(**by), **{"mlflow.trace.user": ""}))
    assert (drawn.event["employee"], drawn.event["reasons"]) == ("session-1", ["writer_unknown"])


def test_a_number_without_a_scale_is_set_aside(tmp_path: Path) -> None:
    rated = trace(assessment(4, "stars"))
    reason, told = read(tmp_path, rated).why
    assert (reason, told.endswith("got stars = 4: say what it means with --score 'stars=DOWN:UP'")) == (
        "decision",
        True,
    )
    assert read(tmp_path, rated, stars=("2", "4")).decision[0] == "accept"


def test_a_function_of_one_s_own_is_a_generation_where_no_model_call_was_traced(tmp_path: Path) -> None:
    own = {
        "mlflow.spanType": "CHAIN",
        "mlflow.spanInputs": {"question": "Write a slogan"},
        "mlflow.spanOutputs": "Fresh",
    }
    tool = span("AAAAAAAAAAE=", "1W0vsYMHPts=", **{"mlflow.spanType": "TOOL"})
    event = read(tmp_path, trace(assessment(), spans=[span(**own), tool])).event
    assert event["prompt"] == [{"role": "user", "content": "Write a slogan"}]
    assert (event["final_text"], event["model_version"]) == ("Fresh", "unknown")


def test_feedback_on_the_whole_is_on_the_call_that_gave_its_answer_or_set_aside(tmp_path: Path) -> None:
    root = span("AAAAAAAAAAE=", **{"mlflow.spanType": "AGENT", "mlflow.spanOutputs": "Fresh every day"})
    plan = span("AAAAAAAAAAI=", "AAAAAAAAAAE=", **{"mlflow.spanOutputs": "a plan"})
    last = span("AAAAAAAAAAM=", "AAAAAAAAAAE=")
    drawn = read(tmp_path, trace(assessment(), spans=[root, plan, last]))
    assert drawn.event["suggestion_id"].startswith("mlflow:tr-1:0000000000000003:")
    assert drawn.tally.unrated == 1
    drawn = read(tmp_path, trace(assessment(), spans=[root, plan, plan | {"span_id": "AAAAAAAAAAQ="}]))
    assert drawn.why[1].startswith("thumb: expected feedback on one generation, got a trace with 2 of them")


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({}, "'info' is missing"),
        ({"info": {"trace_id": "tr-1"}, "data": {}}, "'spans' is missing"),
        ({"info": {"request_id": "r"}, "data": {"spans": []}}, "'trace_id' is missing"),
        (trace(spans=7), "expected a text as trace_id and an array of spans"),
        (trace(spans=[7]), "expected a trace of MLflow 3"),
        (trace(7), "expected a trace of MLflow 3"),
        ("text", "expected a trace of MLflow 3"),
    ],
)
def test_what_is_no_trace_is_set_aside(tmp_path: Path, document: Any, told: str) -> None:
    reason, explanation = read(tmp_path, document).why
    assert (reason, told in explanation) == ("wrong_type", True), explanation


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"create_time": "NaN", "last_update_time": None}, "times"),
        ({"feedback": {"value": float("nan")}}, "decision"),
        ({"feedback": {"error": {"error_code": "X"}}}, "decision"),
    ],
)
def test_an_assessment_that_says_nothing_is_set_aside(tmp_path: Path, changed: dict[str, Any], reason: str) -> None:
    assert read(tmp_path, trace(assessment() | changed)).why[0] == reason


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document."""
    if at:
        yield at
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        yield from places(inner, (*at, key))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(list(places(trace(assessment(), expectation("Fresh"))))), value=ANY)
def test_whatever_stands_anywhere_is_an_event_a_fault_or_counted(
    tmp_path: Path, place: tuple[Any, ...], value: Any
) -> None:
    document = copy.deepcopy(trace(assessment(), expectation("Fresh")))
    at: Any = document
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = value
    drawn = read(tmp_path, document, workflow="comms")
    assert len(drawn.events) + len(drawn.faults) + drawn.tally.unrated + drawn.tally.skipped.total() >= 1
    assert read(tmp_path, document, workflow="comms").events == drawn.events


def test_importing_counts_everything_once_and_twice_changes_nothing(home: Home, tmp_path: Path) -> None:
    other = trace(assessment(3, "stars"))
    other["info"]["trace_id"] = "tr-2"
    path = written(tmp_path / "traces.jsonl", trace(assessment()), other, trace(), {"info": 1})

    def bring() -> Imported:
        rules, reading = contract.split, Reading()
        return sources.read("mlflow", path, home.settings, home.lake, home.state, contract=rules, reading=reading)

    done = bring()
    assert (done.read, done.accepted, done.quarantined, done.unrated) == (3, 1, 2, 1)
    assert done.reasons == {"decision": 1, "wrong_type": 1}
    again = bring()
    assert (again.read, again.duplicates, again.unrated, again.unchanged) == (3, 3, 1, True)
    kept = home.lake.read("quarantine").to_pylist()
    assert not [row for row in kept if "@example" in json.dumps(row, default=str)]


@pytest.mark.slow
def test_what_the_installed_mlflow_logs_and_judges_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    try:
        mlflow.set_experiment(experiment_id=mlflow.create_experiment("traces", str(tmp_path / "artifacts")))
        log_and_judge()
        found = mlflow.search_traces(return_type="list")
    finally:
        mlflow.set_tracking_uri(None)
        mlflow.tracing.reset()
    assert len(found) == 5
    lines, array = tmp_path / "traces.jsonl", tmp_path / "traces.json"
    lines.write_text("".join(f"{each.to_json()}\n" for each in found))
    array.write_text(json.dumps([each.to_dict() for each in found], indent=1, default=str))
    drawn = draw("mlflow", lines, "comms", stars=("2", "4"))
    decided = {(e["candidates"][0]["text"], e["employee"][:3], e["decision"], e["final_text"]) for e in drawn.events}
    assert decided == {
        ("one", "ali", "accept", "one"),
        ("one", "bob", "reject", None),
        ("two", "bob", "modify", "two, mended"),
        ("four", "ali", "accept", "four"),
        ("a plan", "ali", "reject", None),
        ("bread, every day", "bob", "reject", None),
    }
    assert {e["workflow"] for e in drawn.events} == {"ads", "comms"}
    assert {tuple(e["reasons"]) for e in drawn.events} == {(), ("too-long",)}
    assert (drawn.faults, drawn.tally.unrated) == ([], 1)
    assert drawn.tally.skipped == {"judge": 1, "overridden": 1}
    assert draw("mlflow", array, "comms", stars=("2", "4")).events == drawn.events


def log_and_judge() -> None:
    """Chats, an agent with two calls and a function of one's own; thumbs, an override, a judge, an expectation."""
    import mlflow
    from mlflow.entities import AssessmentSource, SpanType

    alice, bob = (AssessmentSource("HUMAN", f"{name}@example.org") for name in ("alice", "bob"))
    judge = AssessmentSource("LLM_JUDGE", "a model")

    def chat(answer: str) -> Any:
        with mlflow.start_span("chat", span_type=SpanType.CHAT_MODEL) as call:
            call.set_inputs(INPUTS)
            call.set_attribute("mlflow.llm.model", "copywriter-7")
            call.set_outputs({"choices": [{"message": {"role": "assistant", "content": answer}}]})
            told = {"mlflow.trace.user": "alice@example.org", "mlflow.trace.session": "session-1"}
            mlflow.update_current_trace(metadata=told, tags={"loop.workflow": "ads"})
        return call

    @mlflow.trace
    def slogan(topic: str) -> str:
        return f"{topic}, every day"

    liked, corrected, _unrated = chat("one").trace_id, chat("two").trace_id, chat("three")
    with mlflow.start_span("agent", span_type=SpanType.AGENT) as agent:
        agent.set_inputs({"question": "x"})
        first, _ = chat("a plan"), chat("four")
        agent.set_outputs("four")
    slogan("bread")
    own, whole = mlflow.get_last_active_trace_id(), agent.trace_id
    mlflow.flush_trace_async_logging()
    mlflow.log_feedback(trace_id=liked, name="thumb", value=True, source=alice)
    mlflow.log_feedback(trace_id=liked, name="relevance", value=0.2, source=judge)
    mistaken = mlflow.log_feedback(trace_id=liked, name="thumb", value=True, source=bob).assessment_id
    mlflow.override_feedback(trace_id=liked, assessment_id=mistaken, value=False, source=bob, rationale="too-long")
    mlflow.log_expectation(trace_id=corrected, name="expected_response", value="two, mended", source=bob)
    mlflow.log_feedback(trace_id=whole, name="helpful", value=True, source=alice)
    mlflow.log_feedback(trace_id=whole, span_id=first.span_id, name="helpful", value=False, source=alice)
    mlflow.log_feedback(trace_id=own, name="stars", value=2, source=bob)
