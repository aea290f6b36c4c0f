"""CUPS: small sessions written here, and the whole file against what is known to be true of it."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from loop.collect.events import Event, Reason, decode
from loop.collect.record import Record, Source
from loop.collect.sources import cups
from loop.errors import BadInputError

FILE = Path(__file__).parents[4] / "shared" / "data" / "cups_copilot" / "derived_events.jsonl.gz"
START = datetime(2022, 8, 8, 16, tzinfo=UTC)


def line(state: str, second: float = 0, text: str = "x = 1", **other: Any) -> dict[str, Any]:
    return {
        "session": 3,
        "UserId": 7,
        "TimeGenerated": (START + timedelta(seconds=second)).isoformat().replace("+00:00", "Z"),
        "StateName": state,
        "CurrentSuggestion": json.dumps(text),
        "CurrentPrompt": json.dumps("def f():\n    "),
        "EditPercentage": [0, 0, 0, 0, 0],
        "LabeledState": "Thinking/Verifying Suggestion (A)",
        "Task": "Classes",
        "Measurements": {"numTokens": 3.0},
        **other,
    }


def opened(tmp_path: Path, *lines: dict[str, Any] | str) -> tuple[Source, list[Record]]:
    path = tmp_path / "events.jsonl"
    path.write_text("".join(f"{each if isinstance(each, str) else json.dumps(each)}\n" for each in lines))
    source = cups.read(path)
    return source, list(source.records)


def events(tmp_path: Path, *lines: dict[str, Any] | str) -> list[Event]:
    _, records = opened(tmp_path, *lines)
    assert [record.fault for record in records] == [None] * len(records)
    return [decode(record.raw) for record in records]


def test_an_accepted_suggestion_with_its_dwell(tmp_path: Path) -> None:
    source, [record] = opened(tmp_path, line("Shown"), line("Replay", 1), line("Accepted", 2.5))
    event = decode(record.raw)
    assert (event.decision, event.chosen, event.final_text, event.dwell_ms) == ("accept", 0, "x = 1", 2500)
    assert (event.employee, event.episode_id, event.task_id, event.turn) == ("cups:7", "cups:3", "Classes", 0)
    assert [m.content for m in event.prompt] == ["def f():\n    "]
    assert event.reasons == ["state:thinking_verifying_suggestion"]
    assert source.tally.skipped == {"replay": 1}


def test_a_showing_that_nobody_decided_on_was_ignored(tmp_path: Path) -> None:
    first, second = events(tmp_path, line("Shown"), line("Shown", 4, "y"), line("Rejected", 5, "y"))
    assert (first.decision, first.decided_at, first.dwell_ms, first.turn) == ("ignore", None, None, 0)
    assert (second.decision, second.dwell_ms, second.chosen, second.turn) == ("reject", 1000, None, 1)
    assert first.received_at == second.decided_at  # at the session's end


def test_browsing_shows_a_second_candidate(tmp_path: Path) -> None:
    [event] = events(tmp_path, line("Shown"), line("Browsing", 1, "y = 2"), line("Accepted", 2, "y = 2"))
    assert [(c.position, c.text) for c in event.candidates] == [(0, "x = 1"), (1, "y = 2")]
    assert (event.chosen, event.final_text, cups.BROWSED in event.reasons) == (1, "y = 2", True)


def test_a_session_that_begins_within_a_showing_has_no_dwell(tmp_path: Path) -> None:
    [event] = events(tmp_path, line("Replay"), line("Accepted", 3))
    assert (event.decision, event.dwell_ms, event.reasons[0]) == ("accept", None, cups.SHOWN_BEFORE)


@pytest.mark.parametrize(("shares", "edited"), [([0.5, 0.5, 0, 0, 0], False), ([0, 0, 0, 0, 0.2], True)])
def test_what_was_changed_in_the_end_is_tagged(tmp_path: Path, shares: list[float], edited: bool) -> None:
    both = [line(state, n, EditPercentage=shares) for n, state in enumerate(("Shown", "Accepted"))]
    [event] = events(tmp_path, *both)
    assert ("edited_later" in event.reasons) is edited


def test_the_prompt_is_taken_from_any_event_of_the_showing(tmp_path: Path) -> None:
    [event] = events(tmp_path, line("Shown", CurrentPrompt=""), line("Rejected", 1))
    assert [m.content for m in event.prompt] == ["def f():\n    "]
    _, [record] = opened(tmp_path, line("Shown", CurrentPrompt=""), line("Rejected", 1, CurrentPrompt='""'))
    assert record.fault is not None
    assert (record.fault.reason, record.fault.day, record.fault.workflow) == (Reason.PROMPT, START.date(), "design")


def test_a_line_that_cannot_be_read_puts_its_showing_aside_and_no_other(tmp_path: Path) -> None:
    _, records = opened(
        tmp_path,
        line("Shown"),
        '{"session": 3, "StateName": "Acc',
        line("Shown", 5),
        line("Accepted", 6),
        line("Shown", 7) | {"StateName": "Guessed"},
    )
    assert [record.fault and record.fault.reason for record in records] == [
        Reason.NOT_JSON,
        Reason.WRONG_TYPE,
        Reason.SESSION,
        None,
    ]
    assert "Invalid enum value" in str(records[1].fault)


def test_a_decision_on_nothing_and_a_clock_that_runs_back_are_set_aside(tmp_path: Path) -> None:
    _, [decided] = opened(tmp_path, line("Accepted"))
    assert decided.fault is not None
    assert "expected Shown before Accepted" in decided.fault.explanation
    _, [back] = opened(tmp_path, line("Shown", 5), line("Rejected", 4))
    assert back.fault is not None
    assert "do not run backwards" in back.fault.explanation


def test_another_file_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="expected events of CUPS"):
        opened(tmp_path, {"a": 1})
    with pytest.raises(BadInputError, match="no such file"):
        cups.read(tmp_path / "none")
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(gzip.compress(json.dumps(line("Shown")).encode() * 100)[:-20])
    with pytest.raises(BadInputError, match="cut short"):
        list(cups.read(cut).records)


@pytest.mark.skipif(not FILE.exists(), reason="the CUPS data are not beside the repository (../shared/data)")
def test_the_whole_file_is_what_is_known_of_it() -> None:
    """1,150 shown, 386 accepted, 710 rejected, 1,239 replay, 5 browsing: all 3,490 events are accounted for."""
    source = cups.read(FILE)
    records = list(source.records)
    rows = [json.loads(record.raw) for record in records]
    begun = sum(cups.SHOWN_BEFORE not in row["reasons"] for row in rows)
    decisions = Counter(row["decision"] for row in rows)
    assert (begun, decisions) == (1150, {"accept": 386, "reject": 710, "ignore": 55})
    assert source.tally.skipped == {"replay": 1239, "browsing": 5}
    assert begun + decisions["accept"] + decisions["reject"] + source.tally.skipped.total() == 3490
    # Of the ones that nobody decided on, the file mostly lacks the prompt; so of one that was accepted.
    faults = Counter((row["decision"], r.fault.reason) for row, r in zip(rows, records, strict=True) if r.fault)
    assert faults == {("ignore", Reason.PROMPT): 49, ("accept", Reason.PROMPT): 1}
    tags = Counter(tag for row in rows for tag in row["reasons"])
    assert (tags["edited_later"], tags[cups.BROWSED], tags[cups.SHOWN_BEFORE]) == (156, 5, 1)
    assert len({row["event_id"] for row in rows}) == len(rows) == 1151
    assert len({row["employee"] for row in rows}) == 21
