"""Whose decision feedback is, of which generation, and what is none; by traces in OTLP JSON."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from loop.collect import landing, sources
from loop.collect.events import pseudonym
from loop.collect.sources import otel
from loop.collect.sources.verdicts import Reading
from loop.home import Home
from loop.label.derive import derive
from loop.validate import contract
from tests.collect.sources.drawn import KEY, written
from tests.collect.sources.otlp import END, OUTPUT, SPAN, START, TRACE, Read, event, rated, request, span

TWO = {"gen_ai.output.messages": json.dumps([{"role": "assistant", "content": text} for text in ("one", "two")])}


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"loop.decision": "accept"}, ("accept", 0, "Fresh every day")),
        ({"loop.decision": "reject"}, ("reject", None, None)),
        ({"loop.decision": "ignore"}, ("ignore", None, None)),
        ({"loop.decision": "modify", "loop.final_text": "Fresh daily"}, ("modify", 0, "Fresh daily")),
        ({"loop.decision": "modify", "loop.final_text": ""}, ("modify", 0, "")),
        ({"loop.decision": "accept", "loop.chosen": 1} | TWO, ("accept", 1, "two")),
        ({"loop.decision": "modify", "loop.chosen": 0, "loop.final_text": "mine"} | TWO, ("modify", 0, "mine")),
    ],
)
def test_a_decision_in_our_own_words_is_taken_as_it_is(
    read: Read, attributes: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    as_attributes = read(request(span(attributes=attributes)))
    told = {key: value for key, value in attributes.items() if key.startswith("loop.")}
    rest = {key: value for key, value in attributes.items() if key not in told}
    as_event = read(request(span(event(otel.DECISION, **told), attributes=rest)))
    assert as_attributes.decision == as_event.decision == expected
    if expected == ("modify", 0, ""):
        assert as_event.event["reasons"] == ["deleted"]
    assert (as_event.event["decided_at"] is None) == (expected[0] == "ignore")


def test_what_a_decision_says_of_itself_goes_with_it(read: Read) -> None:
    told = {"loop.decision": "reject", "loop.employee": "bob", "loop.reasons": ["tone", "too-long"]}
    fields = {"loop.purposes": ["evaluation"], "loop.visibility": "press, partners", "loop.task_id": "brief-7"}
    found = read(request(span(event(otel.DECISION, **told), attributes=fields), resource={"loop.region": "eu"}))
    names = ("employee", "reasons", "purposes", "visibility", "task_id", "region")
    assert [found.event[name] for name in names] == [
        "bob",
        ["tone", "too-long"],
        ["evaluation"],
        ["press", "partners"],
        "brief-7",
        "eu",
    ]
    assert found.event["suggestion_id"] == f"otel:{TRACE}:{SPAN}:{pseudonym(f'otel:{TRACE}:{SPAN}:bob', KEY)[2:18]}"


def test_a_correction_comes_as_a_decision_and_a_comment_only_as_tags(read: Read) -> None:
    said = rated("reject", **{"gen_ai.evaluation.explanation": "tone, facts"})
    assert read(request(span(said))).event["reasons"] == ["tone", "facts"]
    drawn = read(request(span(rated("reject", **{"gen_ai.evaluation.explanation": "Bob is rude to everybody"}))))
    assert (drawn.event["reasons"], drawn.tally.skipped) == ([], {"comment": 1})


# -- whose decision, and of which generation --------------------------------------------------------------------------


def test_two_people_decide_on_suggestions_of_their_own(read: Read) -> None:
    said = [rated("accept"), rated("reject", **{"loop.employee": "bob"}), rated("reject", **{"user.id": "carol"})]
    drawn = read(request(span(*said)))
    assert [(e["employee"], e["decision"]) for e in drawn.events] == [
        ("alice@example.org", "accept"),
        ("bob", "reject"),
        ("carol", "reject"),
    ]
    assert len({e["suggestion_id"] for e in drawn.events}) == len({e["event_id"] for e in drawn.events}) == 3


def test_a_person_who_changes_their_mind_decides_once_and_on_the_same_suggestion(read: Read) -> None:
    by = {"loop.employee": "bob"}
    first = read(request(span(rated("accept", **by)))).event
    both = [rated("accept", **by), rated("reject", at=str(END + 10**9), **by)]
    last = read(request(span(*both))).event
    assert (first["decision"], last["decision"], last["decided_at"]) == (
        "accept",
        "reject",
        "2026-01-05T09:00:02.500000Z",
    )
    assert first["suggestion_id"] == last["suggestion_id"]
    assert first["event_id"] != last["event_id"]


@pytest.mark.parametrize(
    ("attributes", "employee"),
    [({"user.id": None}, "session-1"), ({"user.id": None, "gen_ai.conversation.id": None}, TRACE)],
)
def test_where_nobody_is_named_the_session_or_the_trace_stands_for_the_person(
    read: Read, attributes: dict[str, Any], employee: str
) -> None:
    drawn = read(request(span(rated(), attributes=attributes)))
    assert (drawn.event["employee"], drawn.event["reasons"]) == (employee, ["writer_unknown"])
    assert drawn.tally.writers_unknown == 1


ROOT = {"given": {"loop.workflow": "ads", "enduser.id": "dora"}, "spanId": "aaaaaaaaaaaaaaaa"}
OTHER = {"spanId": "bbbbbbbbbbbbbbbb", "parentSpanId": "aaaaaaaaaaaaaaaa"}


def test_feedback_on_a_trace_is_on_its_one_generation(read: Read) -> None:
    call = span(attributes={"user.id": None}, parentSpanId="aaaaaaaaaaaaaaaa")
    drawn = read(request(call), request(span(rated(), **ROOT)), workflow=None)
    assert (drawn.event["suggestion_id"], drawn.event["workflow"]) == (f"otel:{TRACE}:{SPAN}", "ads")
    assert drawn.event["employee"] == "dora"


def test_feedback_on_a_trace_is_on_the_generation_that_gave_its_answer(read: Read) -> None:
    calls = [span(attributes={"gen_ai.output.messages": "a plan"}, **OTHER), span(parentSpanId="aaaaaaaaaaaaaaaa")]
    answered = {"gen_ai.operation.name": "invoke_agent", "gen_ai.output.messages": json.dumps(OUTPUT)}
    drawn = read(request(*calls, span(rated(), given=answered, spanId="aaaaaaaaaaaaaaaa")))
    assert drawn.event["suggestion_id"] == f"otel:{TRACE}:{SPAN}"
    assert drawn.tally.unrated == 1


def test_feedback_on_a_trace_of_several_generations_is_not_put_down_to_one(read: Read) -> None:
    calls = [span(**OTHER), span(parentSpanId="aaaaaaaaaaaaaaaa")]
    drawn = read(request(*calls, span(rated(**{"user.id": "carol"}), **ROOT)))
    told = "expected feedback on one generation, got a trace with 2 of them; record it on the generation itself"
    assert drawn.why == ("decision", f"user_feedback: {told}")
    assert drawn.tally.unrated == 2
    assert json.loads(drawn.faults[0].raw)["feedback"][0]["employee"] == "carol"


def test_feedback_finds_its_generation_by_the_provider_s_id_and_is_lost_without_it(read: Read) -> None:
    record = {
        "timeUnixNano": str(END),
        "eventName": otel.EVALUATION,
        "attributes": rated(**{"gen_ai.response.id": "r-1"})["attributes"],
    }
    logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}
    assert read(logs, request(span(attributes={"gen_ai.response.id": "r-1"}))).event["decision"] == "accept"
    drawn = read(logs, request(span(attributes={"gen_ai.response.id": "r-2"})))
    assert drawn.why[1].endswith("got a trace with 0 of them; bring generations and feedback in together")
    assert drawn.tally.unrated == 1


# -- what is no decision ----------------------------------------------------------------------------------------------


def test_what_nobody_judged_is_counted_and_what_is_no_generation_is_not(read: Read) -> None:
    tool = span(attributes={"gen_ai.operation.name": "execute_tool"}, spanId="cccccccccccccccc")
    drawn = read(request(span(), span(spanId="dddddddddddddddd"), tool), {"resourceMetrics": []})
    assert (drawn.events, drawn.faults, drawn.tally.unrated, drawn.tally.skipped) == ([], [], 2, {})


def test_a_judge_s_score_is_counted_and_makes_no_decision(read: Read) -> None:
    drawn = read(request(span(rated("pass", name="faithfulness"), rated(0.9, name="Relevance"))))
    assert (drawn.events, drawn.faults, drawn.tally.unrated, drawn.tally.skipped) == ([], [], 1, {"judge": 2})


def test_an_export_that_was_delivered_twice_counts_once(read: Read) -> None:
    drawn = read(request(span(rated())), request(span(rated())))
    assert (len(drawn.events), drawn.faults, drawn.tally.unrated, drawn.tally.skipped) == (1, [], 0, {"repeated": 2})


@pytest.mark.parametrize(
    ("generation", "reason", "told"),
    [
        (
            span(rated(3.0)),
            "decision",
            "got user_feedback = 3.0: say what it means with --score 'user_feedback=DOWN:UP'",
        ),
        (span(rated("somewhat ok")), "decision", "got user_feedback = a text of 11 characters: say what it means"),
        (span(rated({})), "decision", "got user_feedback = a dict"),
        (span(rated("accept"), rated("reject", name="thumb")), "decision", "got both ways from one person"),
        (span(rated("accept"), attributes=TWO), "chosen", "expected which of 2 answers was meant"),
        (
            span(event(otel.DECISION, **{"loop.decision": "accept", "loop.chosen": 5})),
            "chosen",
            "expected one of 1 answers, got 5",
        ),
        (
            span(rated(), attributes={"gen_ai.output.messages": None}),
            "candidates",
            "expected the text of the answer, got none",
        ),
        (
            span(rated(), attributes={"gen_ai.input.messages": None}),
            "prompt",
            "expected the text of the prompt, got none",
        ),
        (
            span(rated(), attributes={"gen_ai.input.messages": '[{"role":"user","parts":[{"type":"blob"}]}]'}),
            "prompt",
            "got a part of type 'blob'",
        ),
        (span(rated(at="NaN")), "times", "user_feedback: expected the time of the feedback, got none"),
        (span(rated(at="0")), "times", "user_feedback: expected the time of the feedback, got none"),
        (
            span(rated(), startTimeUnixNano=None, endTimeUnixNano="soon"),
            "times",
            "expected the time at which the answer was complete",
        ),
        (span(rated(), traceId="xyz"), "wrong_type", "expected an id of 32 hexadecimal digits, got xyz"),
        (span(rated(), spanId=7), "wrong_type", "expected an id of 16 hexadecimal digits, got 7"),
        (span(rated(), attributes=None) | {"attributes": 7}, "wrong_type", "'int' object is not iterable"),
        (
            span(event(otel.DECISION, **{"loop.decision": "accept", "loop.chosen": "first"})),
            "chosen",
            "expected one of 1 answers, got -1",
        ),
        (span(event(otel.DECISION, **{"loop.decision": 7})), "decision", "got loop.decision = 7"),
        (span(rated(), event("note") | {"attributes": 7}), "wrong_type", "'int' object is not iterable"),
        (span(rated(), links=[{"traceId": TRACE}]), "wrong_type", "expected one of OTLP's spans: 'spanId' is missing"),
        ({"traceId": TRACE}, "wrong_type", "expected one of OTLP's spans: 'spanId' is missing"),
        ("span", "wrong_type", "expected one of OTLP's spans: "),
    ],
)
def test_what_is_no_clear_decision_is_set_aside_with_its_reason(
    read: Read, generation: Any, reason: str, told: str
) -> None:
    got, explanation = read(request(generation)).why
    assert (got, told in explanation) == (reason, True), explanation


def test_a_scale_makes_a_number_a_decision_and_a_score_a_person_s(read: Read) -> None:
    given = [rated(4.0, name="stars"), rated(0.1, name="relevance", at=str(END + 1000))]
    assert read(request(span(*given)), stars=("2", "4")).decision == ("accept", 0, "Fresh every day")
    drawn = read(request(span(rated(3.0, name="stars"), rated("reject"))), stars=("2", "4"))
    assert (drawn.decision, drawn.tally.skipped) == (("reject", None, None), {"no_side": 1})


def test_feedback_inside_the_span_was_shown_from_its_beginning(read: Read) -> None:
    event = read(request(span(rated(at=START + 10**9)))).event
    assert (event["shown_at"], event["decided_at"]) == ("2026-01-05T09:00:00Z", "2026-01-05T09:00:01Z")


def test_what_a_person_changed_between_two_imports_replaces_what_they_had_said(home: Home, tmp_path: Path) -> None:
    bob, later = {"loop.employee": "bob"}, str(END + 10**9)
    said = [rated(), rated(**bob)]
    rules, reading = contract.split, Reading(workflow="comms")
    for name, scores in (("monday", said), ("tuesday", [*said, rated("reject", at=later, **bob)])):
        path = written(tmp_path / f"{name}.jsonl", request(span(*scores)))
        done = sources.read("otel", path, home.settings, home.lake, home.state, contract=rules, reading=reading)
        assert (done.read, done.accepted, done.duplicates) == ((2, 2, 0) if name == "monday" else (2, 1, 1))
    rows = landing.events(home.settings, home.state, date(2026, 1, 5), "comms")
    labels = derive(rows, held_out_share=0.0)
    lived = {row["superseded_at"] for row in labels.demonstrations.to_pylist()}
    assert (rows.num_rows, lived) == (3, {None, datetime(2026, 1, 5, 9, 0, 2, 500_000, tzinfo=UTC)})
    assert labels.set_aside == {}
    assert set(labels.unpaired["label"].to_pylist()) == {"desirable", "undesirable"}
