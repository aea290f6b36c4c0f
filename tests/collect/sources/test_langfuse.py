"""Exports of Langfuse, built as its API definition (servers 3 and 4) and its page on blob storage exports have them."""

from __future__ import annotations

import json
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

ASKED = {"messages": [{"role": "user", "content": "Write a slogan"}]}


def generation(number: int = 1, **other: Any) -> dict[str, Any]:
    return {
        "id": f"obs-{number}",
        "traceId": "trace-1",
        "type": "GENERATION",
        "name": "slogan",
        "startTime": "2026-01-05T09:00:00.000Z",
        "endTime": "2026-01-05T09:00:01.500Z",
        "model": "copywriter-7",
        "input": ASKED,
        "output": {"role": "assistant", "content": "Fresh every day"},
        "metadata": {"team": "north"},
        "level": "DEFAULT",
        "parentObservationId": None,
    } | other


def score(number: int = 1, **other: Any) -> dict[str, Any]:
    return {
        "id": f"score-{number}",
        "traceId": "trace-1",
        "observationId": None,
        "name": "user-feedback",
        "source": "API",
        "dataType": "BOOLEAN",
        "value": 1,
        "stringValue": "True",
        "timestamp": "2026-01-05T09:05:00.000Z",
        "createdAt": "2026-01-05T09:05:00.000Z",
        "updatedAt": "2026-01-05T09:05:00.000Z",
        "authorUserId": None,
        "comment": None,
    } | other


def trace(*scores: dict[str, Any], observations: Any = None, **other: Any) -> dict[str, Any]:
    """As `GET /api/public/traces/{id}` gives it."""
    return {
        "id": "trace-1",
        "timestamp": "2026-01-05T09:00:00.000Z",
        "name": "slogan",
        "userId": "alice@example.org",
        "sessionId": "session-1",
        "input": "Write a slogan",
        "output": "Fresh every day",
        "metadata": {"workflow": "ads"},
        "observations": [generation()] if observations is None else observations,
        "scores": list(scores),
    } | other


def read(tmp_path: Path, *documents: Any, workflow: str | None = None, **scores: tuple[str, str]) -> Drawn:
    return draw("langfuse", written(tmp_path / "export.jsonl", *documents), workflow, **scores)


def test_a_generation_that_its_user_liked_is_an_event(tmp_path: Path) -> None:
    event = read(tmp_path, trace(score())).event
    assert event.pop("event_id").startswith("langfuse:trace-1:obs-1:")
    assert event == {
        "suggestion_id": "langfuse:trace-1:obs-1",
        "episode_id": "langfuse:session-1",
        "workflow": "ads",
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
        "decided_at": "2026-01-05T09:05:00Z",
        "received_at": "2026-01-05T09:05:00Z",
    }


CORRECTED = {"name": "output", "dataType": "CORRECTION", "source": "ANNOTATION", "value": 0, "stringValue": None}
LIKE_THE_ANSWER = '{"role":"assistant","content":"Fresh daily"}'
"""A correction of an answer that was logged as JSON."""


@pytest.mark.parametrize(
    ("given_score", "expected"),
    [
        (score(value=0, stringValue="False"), ("reject", None, None)),
        (score(name="thumb", dataType="NUMERIC", value=1, stringValue=None), ("accept", 0, "Fresh every day")),
        (score(name="thumb", dataType="NUMERIC", value=-1, stringValue=None), ("reject", None, None)),
        (score(dataType="CATEGORICAL", value=None, stringValue="thumbs down"), ("reject", None, None)),
        (score(name="quality", source="ANNOTATION", observationId="obs-1"), ("accept", 0, "Fresh every day")),
        (score(**CORRECTED | {"stringValue": "Fresh daily"}), ("modify", 0, "Fresh daily")),
        (score(**CORRECTED | {"value": "Fresh daily"}), ("modify", 0, "Fresh daily")),
        (score(**CORRECTED, longStringValue=LIKE_THE_ANSWER), ("modify", 0, "Fresh daily")),
        (score(**CORRECTED | {"stringValue": "Fresh every day"}), ("accept", 0, "Fresh every day")),
    ],
)
def test_scores_of_people_are_decisions(tmp_path: Path, given_score: dict[str, Any], expected: tuple[Any, ...]) -> None:
    assert read(tmp_path, trace(given_score)).decision == expected


def test_a_correction_by_the_user_outweighs_the_user_s_thumb(tmp_path: Path) -> None:
    by_user = CORRECTED | {"source": "API", "stringValue": "Fresh daily"}
    assert read(tmp_path, trace(score(value=0), score(2, **by_user))).decision == ("modify", 0, "Fresh daily")
    same = by_user | {"stringValue": "Fresh every day"}
    reason, told = read(tmp_path, trace(score(value=0), score(2, **same))).why
    assert (reason, "got the same text as a correction" in told) == ("decision", True)


@pytest.mark.parametrize(
    ("skipped", "kind"),
    [
        (score(source="EVAL", name="user-feedback"), "judge"),
        (score(name="faithfulness", dataType="NUMERIC", value=0.9), "judge"),
        (score(traceId=None, sessionId="session-1"), "session"),
        (score(name="user-note", dataType="TEXT", value=None, stringValue="Bob is rude"), "comment"),
        (score(**CORRECTED | {"stringValue": ""}), "empty"),
    ],
)
def test_what_is_no_decision_of_a_person_is_counted(tmp_path: Path, skipped: dict[str, Any], kind: str) -> None:
    given_row = [trace(), skipped] if kind == "session" else [trace(skipped)]
    drawn = read(tmp_path, *given_row)
    assert (drawn.events, drawn.faults, drawn.tally.unrated, drawn.tally.skipped) == ([], [], 1, {kind: 1})


def test_a_number_without_a_scale_is_set_aside_and_with_one_is_a_decision(tmp_path: Path) -> None:
    rated = trace(score(dataType="NUMERIC", value=1, stringValue=None))
    reason, told = read(tmp_path, rated).why
    assert reason == "decision"
    assert told.endswith("got user-feedback = 1: say what it means with --score 'user-feedback=DOWN:UP'")
    assert read(tmp_path, rated, user_feedback=("0", "1")).decision[0] == "accept"
    assert read(tmp_path, rated, user_feedback=("1", "5")).decision[0] == "reject"
    by_pipeline = trace(score(name="stars", dataType="NUMERIC", value=5, stringValue=None))
    assert read(tmp_path, by_pipeline).tally.skipped == {"judge": 1}
    assert read(tmp_path, by_pipeline, stars=("2", "4")).decision[0] == "accept"


def test_an_annotator_is_not_the_user_whether_named_or_not(tmp_path: Path) -> None:
    by = {"source": "ANNOTATION", "name": "quality"}
    drawn = read(tmp_path, trace(score(), score(2, **by, value=0, authorUserId="bob"), score(3, **by, value=0)))
    assert [(e["employee"], e["decision"], e["reasons"]) for e in drawn.events] == [
        ("alice@example.org", "accept", []),
        ("bob", "reject", []),
        ("session-1", "reject", ["writer_unknown"]),
    ]
    assert len({e["suggestion_id"] for e in drawn.events}) == 3
    assert drawn.tally.writers_unknown == 1


def test_a_score_that_was_updated_is_a_later_event_on_the_same_suggestion(tmp_path: Path) -> None:
    first = read(tmp_path, trace(score())).event
    last = read(tmp_path, trace(score(value=0, updatedAt="2026-01-05T10:00:00Z"))).event
    assert (first["decision"], last["decision"], last["received_at"]) == ("accept", "reject", "2026-01-05T10:00:00Z")
    assert first["suggestion_id"] == last["suggestion_id"]
    assert first["event_id"] != last["event_id"]


def test_a_score_of_a_trace_is_on_the_generation_whose_answer_the_trace_gave(tmp_path: Path) -> None:
    plan = generation(2, output="first a plan")
    event = read(tmp_path, trace(score(), observations=[plan, generation()])).event
    assert event["suggestion_id"] == "langfuse:trace-1:obs-1"
    drawn = read(tmp_path, trace(score(), observations=[plan, generation()], output="something else"))
    assert drawn.why[1].startswith("user-feedback: expected feedback on one generation, got a trace with 2 of them")
    assert drawn.tally.unrated == 2


# -- the shapes of an export ------------------------------------------------------------------------------------------


def snake(row: dict[str, Any]) -> dict[str, Any]:
    """The row as a blob storage export has it: other names, times without a zone, JSON in texts."""
    found = {}
    for name, value in row.items():
        told = {"model": "providedModelName"}.get(name, name)
        kept = json.dumps(value) if name in {"input", "output", "metadata"} and not isinstance(value, str) else value
        if name in {"timestamp", "startTime", "endTime", "createdAt", "updatedAt"}:
            kept = value.replace("T", " ").replace("Z", "000")
        found["".join(f"_{c.lower()}" if c.isupper() else c for c in told)] = kept
    return found


def test_every_shape_of_an_export_tells_the_same_decision(tmp_path: Path) -> None:
    whole = trace(score())
    expected = read(tmp_path, whole).event
    bare = {key: value for key, value in whole.items() if key not in {"observations", "scores"}}
    shapes = {
        "download.json": {"trace": bare, "observations": whole["observations"], "scores": whole["scores"]},
        "scores in trace.json": {"trace": bare | {"scores": whole["scores"]}, "observations": whole["observations"]},
        "pages.json": {"data": [bare | {"observations": ["obs-1"], "scores": ["score-1"]}, generation(), score()]},
    }
    for name, content in shapes.items():
        if name == "pages.json":
            content["data"][0] = bare  # lists of traces name their observations by id only
        (tmp_path / name).write_text(json.dumps(content, indent=2))
        assert draw("langfuse", tmp_path / name, None).event == expected
    export = tmp_path / "export"
    for folder, row in (("traces", bare), ("observations", generation()), ("scores", score())):
        (export / folder).mkdir(parents=True)
        written(export / folder / "2026-01-05.jsonl", snake(row))
    assert draw("langfuse", export, None).event == expected
    enriched = tmp_path / "enriched"
    row = snake(generation()) | {"user_id": "alice@example.org", "session_id": "session-1"}
    row["metadata"] = {"team": "north", "workflow": "ads"}
    for folder, each in (("observations_v2", row), ("scores", snake(score()))):
        (enriched / folder).mkdir(parents=True)
        written(enriched / folder / "2026-01-05.jsonl", each)
    assert draw("langfuse", enriched, None).event == expected


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"traceName": "x", "scores": {"user-feedback": [1]}}, "got one with the keys scores, traceName"),
        (trace(observations=["obs-1"]), "got obs-1"),
        (trace(observations=[generation(id=None)]), "id: expected a text, got None"),
        (trace(score(name=None)), "name: expected a text, got None"),
        ([1], "got 1"),
        ("text", "got text"),
    ],
)
def test_what_is_no_export_is_set_aside(tmp_path: Path, document: Any, told: str) -> None:
    drawn = read(tmp_path, document)
    [record] = drawn.faults
    assert record.fault is not None
    assert (record.fault.reason.value, told in record.fault.explanation) == ("wrong_type", True), record.fault


@pytest.mark.parametrize("when", [None, "NaN", "yesterday", 5, "9999-12-31T23:59:59-23:00"])
def test_a_score_without_a_time_is_set_aside(tmp_path: Path, when: Any) -> None:
    times = dict.fromkeys(("timestamp", "createdAt", "updatedAt"), when)
    assert read(tmp_path, trace(score(**times))).why[0] == "times"


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    of=st.sampled_from(("trace", "generation", "score")),
    name=st.sampled_from(sorted({*trace(), *generation(), *score()})),
    value=ANY,
)
def test_whatever_stands_in_a_field_is_an_event_a_fault_or_counted(
    tmp_path: Path, of: str, name: str, value: Any
) -> None:
    changed = {name: value}
    rows = [
        trace(observations=[]) | (changed if of == "trace" else {}),
        generation(**(changed if of == "generation" else {})),
        score(**(changed if of == "score" else {})),
    ]
    drawn = read(tmp_path, *rows, workflow="comms")
    found = len(drawn.events) + len(drawn.faults) + drawn.tally.unrated + drawn.tally.skipped.total()
    assert found >= 1
    assert read(tmp_path, *rows, workflow="comms").events == drawn.events


def test_importing_counts_everything_once_and_twice_changes_nothing(home: Home, tmp_path: Path) -> None:
    second = {"traceId": "trace-2"}
    path = written(
        tmp_path / "export.jsonl",
        trace(score(), score(2, source="EVAL")),
        trace(score(3, **second, dataType="NUMERIC", value=3), observations=[generation(2, **second)], id="trace-2"),
        trace(observations=[generation(3, traceId="trace-3")], id="trace-3"),
        5,
    )

    def bring() -> Imported:
        rules, reading = contract.split, Reading(workflow="comms")
        return sources.read("langfuse", path, home.settings, home.lake, home.state, contract=rules, reading=reading)

    done = bring()
    assert (done.read, done.accepted, done.quarantined, done.unrated) == (3, 1, 2, 1)
    assert (done.skipped, done.reasons) == ({"judge": 1}, {"decision": 1, "wrong_type": 1})
    again = bring()
    assert (again.read, again.duplicates, again.unrated, again.unchanged) == (3, 3, 1, True)
    kept = home.lake.read("quarantine").to_pylist()
    assert not [row for row in kept if "alice" in json.dumps(row, default=str)]
