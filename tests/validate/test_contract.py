from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop import schema
from loop.collect.events import CLOCK_BACKWARDS, DELETED, Reason
from loop.lake import from_rows
from loop.validate import contract
from loop.workflows import WORKFLOWS

NOW = datetime(2026, 1, 6, 12, tzinfo=UTC)
SHOWN = datetime(2026, 1, 5, 8, tzinfo=UTC)
SECOND = timedelta(seconds=1)
GOOD: dict[str, Any] = {
    "event_id": "e1",
    "suggestion_id": "s1",
    "revises": None,
    "episode_id": "episode-1",
    "turn": 0,
    "task_id": None,
    "workflow": "comms",
    "day": SHOWN.date(),
    "shown_at": SHOWN,
    "decided_at": SHOWN + 5 * SECOND,
    "received_at": SHOWN + 6 * SECOND,
    "employee": "p_0",
    "team": None,
    "region": None,
    "visibility": [],
    "prompt": [{"role": "user", "content": "brief"}],
    "candidates": [{"position": 0, "text": "one", "logprob": -1.5}, {"position": 1, "text": "two", "logprob": None}],
    "model_version": "m1",
    "arm_propensity": 0.5,
    "order_propensity": 1.0,
    "decision": "accept",
    "chosen": 1,
    "final_text": "two",
    "reasons": [],
    "dwell_ms": 0,
    "purposes": ["training", "evaluation"],
    "source": "jsonl",
    "content": "c1",
    "batch": "",
}
REJECTED = {"decision": "reject", "chosen": None, "final_text": None}
IGNORED = {**REJECTED, "decision": "ignore", "decided_at": None, "dwell_ms": None}
EDITED = {"decision": "modify", "final_text": "two!"}
GONE = {"decision": "modify", "final_text": "", "reasons": [DELETED]}


def table(*changes: dict[str, Any]) -> pa.Table:
    return from_rows([{**GOOD, "event_id": f"e{i}", **change} for i, change in enumerate(changes)], schema.INTERACTIONS)


def breaches(**change: Any) -> tuple[list[str], str]:
    good, bad = contract.split(table(change), now=NOW)
    assert good.num_rows + bad.num_rows == 1
    return (bad["breaches"].to_pylist()[0], bad["explanation"].to_pylist()[0]) if bad.num_rows else ([], "")


@pytest.mark.parametrize(
    "change",
    [
        {},
        EDITED,
        GONE,
        REJECTED,
        IGNORED,
        {"decided_at": None, "reasons": [CLOCK_BACKWARDS]},
        {"decided_at": SHOWN, "received_at": SHOWN - 300 * SECOND},
        {"shown_at": NOW, "decided_at": NOW + 300 * SECOND, "received_at": NOW + 300 * SECOND},
        {"prompt": [{"role": "user", "content": "x" * WORKFLOWS["comms"].max_prompt_chars}]},
        {
            "candidates": [{"position": 0, "text": "y" * 20_000, "logprob": 0.0}],
            "chosen": 0,
            "final_text": "y" * 20_000,
        },
        {"arm_propensity": None, "order_propensity": 1e-9, "purposes": []},
        {"event_id": "é" * 200, "task_id": "\N{GRINNING FACE}"},
    ],
)
def test_what_keeps_the_contract_comes_back_as_it_was(change: dict[str, Any]) -> None:
    rows = table(change)
    good, bad = contract.split(rows, now=NOW)
    assert good.equals(rows)
    assert bad.num_rows == 0


@pytest.mark.parametrize(
    ("change", "reasons", "explanation"),
    [
        ({"event_id": ""}, ["id"], "event_id: expected 1 to 200 characters and no control character, got 0"),
        (
            {"episode_id": "x" * 201},
            ["id"],
            "episode_id: expected 1 to 200 characters and no control character, got 201",
        ),
        (
            {"suggestion_id": "a\0b"},
            ["id"],
            "suggestion_id: expected 1 to 200 characters and no control character, got 3",
        ),
        ({"event_id": "a", "revises": "a"}, ["id"], "revises: expected an earlier event, got the event itself"),
        ({"workflow": "hr"}, ["workflow"], "workflow: expected one of ads, moderation, design, comms, got hr"),
        (
            {"workflow": "ads", "prompt": [{"role": "user", "content": "x" * 2001}] * 2},
            ["too_long"],
            "prompt, characters: expected at most 4000, got 4002",
        ),
        ({"prompt": []}, ["prompt"], "prompt: expected at least one message, got none"),
        (
            {"prompt": [{"role": "boss", "content": "x"}]},
            ["prompt"],
            "prompt: expected roles among system, user, assistant, tool",
        ),
        (
            {"candidates": [{"position": 0, "text": "y" * 20_001, "logprob": None}], **REJECTED},
            ["too_long"],
            "candidate, characters: expected at most 20000, got 20001",
        ),
        (
            {**EDITED, "final_text": "y" * 20_001},
            ["too_long"],
            "final_text, characters: expected at most 20000, got 20001",
        ),
        ({"reasons": ["x"] * 101}, ["too_long"], "reasons, items: expected at most 100, got 101"),
        ({"visibility": ["x" * 201]}, ["too_long"], "visibility, characters: expected at most 200, got 201"),
        (
            {"candidates": [], **REJECTED},
            ["candidates"],
            "candidates: expected positions 0, 1, 2 and so on in this order, got []",
        ),
        (
            {"candidates": [{"position": 1, "text": "two", "logprob": None}] * 2},
            ["candidates"],
            "candidates: expected positions 0, 1, 2 and so on in this order, got [1, 1]",
        ),
        (
            {"candidates": [{"position": 0, "text": "a", "logprob": 0.5}], **REJECTED},
            ["logprob"],
            "candidates: expected log-probabilities of at most 0, got [0.5]",
        ),
        (
            {"decided_at": SHOWN - SECOND},
            ["times"],
            "decided_at: expected not before shown_at 2026-01-05 08:00:00+00, got 2026-01-05 07:59:59+00",
        ),
        (
            {"received_at": SHOWN - 296 * SECOND},
            ["times"],
            "received_at: expected not before 2026-01-05 08:00:05+00, got 2026-01-05 07:55:04+00",
        ),
        (
            {"shown_at": datetime(1970, 1, 1, tzinfo=UTC)},
            ["times"],
            "shown_at: expected after 2021-01-01, got 1970-01-01 00:00:00+00",
        ),
        (
            {"received_at": NOW + 301 * SECOND},
            ["future"],
            "received_at: expected not after now, 2026-01-06 12:00:00+00, got 2026-01-06 12:05:01+00",
        ),
        (
            {**REJECTED, "decision": "maybe"},
            ["decision"],
            "decision: expected one of accept, modify, reject, ignore, got maybe",
        ),
        (
            {**IGNORED, "decided_at": SHOWN},
            ["decision"],
            "decided_at: expected null for ignore, got 2026-01-05 08:00:00+00",
        ),
        (
            {"decided_at": None},
            ["decision"],
            "decided_at: expected a time for accept (or the reason clock_backwards), got null",
        ),
        ({"chosen": None}, ["chosen"], "chosen: expected a shown position for accept, got null"),
        ({"chosen": 2}, ["chosen"], "chosen: expected a shown position for accept, got 2"),
        ({**REJECTED, "chosen": 0}, ["chosen"], "chosen: expected null for reject, got 0"),
        ({"final_text": None}, ["final_text"], "final_text: expected a text for accept, got null"),
        ({**REJECTED, "final_text": "x"}, ["final_text"], "final_text: expected null for reject, got a text"),
        (
            {"final_text": "one"},
            ["final_text"],
            "final_text: expected the chosen candidate verbatim for accept, got another text",
        ),
        (
            {**EDITED, "final_text": "two"},
            ["final_text"],
            "final_text: expected another text than the chosen candidate for modify, got the same",
        ),
        (
            {**GONE, "reasons": []},
            ["final_text"],
            "final_text: expected an empty text for modify with the reason deleted and only then",
        ),
        (
            {**EDITED, "reasons": [DELETED]},
            ["final_text"],
            "final_text: expected an empty text for modify with the reason deleted and only then",
        ),
        (
            {"arm_propensity": 0.0},
            ["propensity"],
            "arm_propensity: expected a probability above 0 and at most 1, got 0.0",
        ),
        (
            {"order_propensity": float("nan")},
            ["propensity"],
            "order_propensity: expected a probability above 0 and at most 1, got nan",
        ),
        ({"dwell_ms": -1}, ["dwell"], "dwell_ms: expected at least 0, got -1"),
        ({"turn": -1}, ["turn"], "turn: expected at least 0, got -1"),
        ({"purposes": ["training", "sale"]}, ["purposes"], "purposes: expected some of training, evaluation"),
        (
            {"dwell_ms": -1, "turn": -2, "workflow": "hr"},
            ["workflow", "dwell", "turn"],
            (
                "workflow: expected one of ads, moderation, design, comms, got hr; "
                "dwell_ms: expected at least 0, got -1; turn: expected at least 0, got -2"
            ),
        ),
    ],
)
def test_what_breaks_the_contract_is_set_aside_with_reasons(
    change: dict[str, Any], reasons: list[str], explanation: str
) -> None:
    assert breaches(**change) == (reasons, explanation)


def test_every_rule_can_be_broken_and_explained() -> None:
    """The cases above meet every reason that the contract gives."""
    met = {
        reason
        for mark in test_what_breaks_the_contract_is_set_aside_with_reasons.pytestmark
        for case in mark.args[1]
        for reason in case[1]
    }
    assert met == {rule.reason.value for rule in contract.RULES}


def test_rows_are_parted_in_order_and_other_columns_stay() -> None:
    rows = table({}, {"turn": -1}, REJECTED, {"chosen": 9}).append_column("_record", pa.array([7, 8, 9, 10]))
    good, bad = contract.split(rows, now=NOW)
    assert good["_record"].to_pylist() == [7, 9]
    assert bad["_record"].to_pylist() == [8, 10]
    assert bad.column_names == [*rows.column_names, "breaches", "explanation"]
    assert bad["breaches"].to_pylist() == [["turn"], ["chosen"]]


def test_no_rows_are_no_rows() -> None:
    good, bad = contract.split(schema.INTERACTIONS.empty(), now=NOW)
    assert (good.num_rows, bad.num_rows) == (0, 0)
    assert bad.schema.field("breaches").type == pa.list_(pa.string())


# -- against a plain reading of the rules, one row at a time ----------------------------------------------------------


def plain(row: dict[str, Any]) -> set[str]:  # noqa: C901, PLR0912 - the rules, written out
    """The same contract, slow and obvious."""
    found: set[str] = set()
    skew = timedelta(minutes=5)
    known = {c["position"]: c["text"] for c in reversed(row["candidates"])}
    if row["workflow"] not in schema.WORKFLOWS:
        found.add("workflow")
    if [c["position"] for c in row["candidates"]] != list(range(max(1, len(row["candidates"])))):
        found.add("candidates")
    if any(c["logprob"] is not None and c["logprob"] > 1e-6 for c in row["candidates"]):
        found.add("logprob")
    decided = row["decided_at"]
    if decided is not None and decided < row["shown_at"]:
        found.add("times")
    if row["received_at"] < (decided or row["shown_at"]) - skew:
        found.add("times")
    if any(t is not None and t > NOW + skew for t in (row["shown_at"], decided, row["received_at"])):
        found.add("future")
    match row["decision"]:
        case "ignore" if decided is not None:
            found.add("decision")
        case "accept" | "modify" | "reject" if decided is None and CLOCK_BACKWARDS not in row["reasons"]:
            found.add("decision")
        case "accept" | "modify" | "reject" | "ignore":
            pass
        case _:
            found.add("decision")
            if decided is None and CLOCK_BACKWARDS not in row["reasons"]:
                found.add("decision")
    text = row["final_text"]
    if row["decision"] in {"accept", "modify"}:
        if row["chosen"] not in known:
            found.add("chosen")
        taken = known.get(row["chosen"])
        if text is None:
            found.add("final_text")
        elif row["decision"] == "accept":
            found |= {"final_text"} if taken is not None and text != taken else set()
        elif text == taken or (text == "") != (DELETED in row["reasons"]):
            found.add("final_text")
    else:
        found |= {"chosen"} if row["chosen"] is not None else set()
        found |= {"final_text"} if text is not None else set()
    if any(row[p] is not None and not 0 < row[p] <= 1 for p in ("arm_propensity", "order_propensity")):
        found.add("propensity")
    found |= {"dwell"} if row["dwell_ms"] is not None and row["dwell_ms"] < 0 else set()
    found |= {"turn"} if row["turn"] is not None and row["turn"] < 0 else set()
    found |= {"purposes"} if set(row["purposes"]) - {"training", "evaluation"} else set()
    return found


TEXTS = st.sampled_from(["one", "two", "", "é\N{GRINNING FACE}"])
TIMES = st.sampled_from([SHOWN + n * SECOND for n in (-400, -1, 0, 1, 400)] + [NOW + n * SECOND for n in (299, 301)])
PROBABILITY = st.none() | st.sampled_from([-0.1, 0.0, 0.5, 1.0, 1.1])
ROW = st.fixed_dictionaries(
    {
        "workflow": st.sampled_from([*schema.WORKFLOWS, "hr", ""]),
        "shown_at": TIMES,
        "decided_at": st.none() | TIMES,
        "received_at": TIMES,
        "candidates": st.lists(
            st.fixed_dictionaries(
                {"position": st.integers(-1, 3), "text": TEXTS, "logprob": st.sampled_from([None, -2.0, 0.0, 0.1])}
            ),
            max_size=3,
        )
        | TEXTS.map(lambda text: [{"position": 0, "text": text, "logprob": None}]),
        "decision": st.sampled_from(["accept", "modify", "reject", "ignore", "maybe"]),
        "chosen": st.none() | st.integers(-1, 3),
        "final_text": st.none() | TEXTS,
        "reasons": st.lists(st.sampled_from([DELETED, CLOCK_BACKWARDS, "other"]), max_size=2),
        "arm_propensity": PROBABILITY,
        "order_propensity": PROBABILITY,
        "dwell_ms": st.none() | st.integers(-1, 1),
        "turn": st.none() | st.integers(-1, 1),
        "purposes": st.lists(st.sampled_from(["training", "evaluation", "sale"]), max_size=2),
    }
)


@settings(deadline=None, max_examples=25)
@given(st.lists(ROW | st.sampled_from([{}, EDITED, GONE, REJECTED, IGNORED]), max_size=60))
def test_the_contract_is_what_its_rules_say_and_loses_no_row(changes: list[dict[str, Any]]) -> None:
    rows = table(*changes)
    good, bad = contract.split(rows, now=NOW)
    expected = {f"e{i}": plain({**GOOD, **change}) for i, change in enumerate(changes)}
    found = dict(zip(bad["event_id"].to_pylist(), map(set, bad["breaches"].to_pylist()), strict=True))
    assert found == {event_id: broken for event_id, broken in expected.items() if broken}
    assert good["event_id"].to_pylist() == [event_id for event_id, broken in expected.items() if not broken]
    assert all(bad["explanation"].to_pylist())


def test_every_reason_is_machine_readable() -> None:
    assert all(reason.value == reason.name.lower() for reason in Reason)


def test_a_text_that_masking_made_longer_is_not_too_long() -> None:
    """The edge took it by the length that it had."""
    long = "<IP_ADDRESS_1> " * 2_000  # of 7 characters each before
    masked, honest = {"decision": "modify", "final_text": long}, {"decision": "modify", "final_text": "x" * 20_001}
    good, bad = contract.split(table(masked, honest), now=NOW)
    assert (good["event_id"].to_pylist(), bad["event_id"].to_pylist()) == (["e0"], ["e1"])
