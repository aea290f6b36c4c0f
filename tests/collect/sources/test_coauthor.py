"""CoAuthor: what a session says, of small ones that are written here."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.collect.events import Reason, decode
from loop.collect.sources import coauthor
from loop.collect.sources.replay import inserted_at
from tests.collect.sources.coauthor_sessions import START, Session


def outcome(session: Session) -> tuple[str, str | None, list[str]]:
    """Decision, final text and reason tags of the session's first opening."""
    event = session.events()[0]
    return event.decision, event.final_text, [r for r in event.reasons if r != "writer_unknown"]


# -- one opening ------------------------------------------------------------------------------------------------------


def test_an_opening_becomes_one_event() -> None:
    session = Session("Essay.\n\n").type("Because ").open("cats", " dogs").take(" dogs", index=1).type(" are.")
    (record,) = session.records(coauthor.Told("w1", "animal", 1, 1, len(session.log)))
    assert (record.line, record.path) == (3, "set/s1.jsonl")
    event = decode(record.raw)
    shown = datetime.fromtimestamp(START / 1000, UTC) + timedelta(seconds=2)
    assert (event.event_id, event.suggestion_id) == ("coauthor:s1:2", "coauthor:s1:2")
    assert (event.episode_id, event.turn, event.task_id) == ("coauthor:s1", 0, "animal")
    assert (event.workflow, event.employee, event.team, event.region) == ("comms", "w1", None, None)
    assert (event.shown_at, event.decided_at, event.dwell_ms) == (shown, shown + timedelta(seconds=1), 1000)
    assert event.received_at == shown + timedelta(seconds=4)
    assert [(m.role, m.content) for m in event.prompt] == [("user", "Essay.\nBecause ")]
    assert [(c.position, c.text, c.logprob) for c in event.candidates] == [
        (0, "cats", math.log(1e-3)),
        (1, " dogs", math.log(1e-3)),
    ]
    assert event.model_version == "gpt-3 davinci temperature=0.9,frequency_penalty=0.5"
    assert (event.arm_propensity, event.order_propensity) == (None, None)
    assert (event.decision, event.chosen, event.final_text, event.reasons) == ("accept", 1, " dogs", [])
    assert (event.purposes, event.visibility) == (["training", "evaluation"], [])


def test_without_a_csv_the_session_stands_for_writer_and_task() -> None:
    one, other = Session().open("a").events()[0], Session("Other.\n").open("a").events()[0]
    assert (one.employee, one.reasons) == ("s1", ["left_open", "writer_unknown"])
    assert one.task_id.startswith("document-")
    assert one.task_id != other.task_id


@pytest.mark.parametrize("probability", [0.0, 1.5, None])
def test_what_is_no_probability_has_no_logarithm(probability: float | None) -> None:
    (event,) = Session().open("a", probability=probability).events()  # type: ignore[arg-type]
    assert event.candidates[0].logprob is None


# -- what became of it ------------------------------------------------------------------------------------------------

SAID = "It is a big dog."


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda s: s, ("accept", SAID, [])),
        (lambda s: s.type(" More."), ("accept", SAID, [])),
        (lambda s: s.edit(0, 0, "Title\n").replace("Essay", "Story"), ("accept", SAID, [])),
        (lambda s: s.replace("dog.", "dog.", by_keys=True), ("accept", SAID, [])),
        (lambda s: s.replace("big", "small"), ("modify", "It is a small dog.", [])),
        (lambda s: s.replace("big", "small", by_keys=True), ("modify", "It is a small dog.", [])),
        (lambda s: s.replace("dog.", "cat."), ("modify", "It is a big cat.", [])),
        (lambda s: s.replace("dog.", "cat.", by_keys=True), ("modify", "It is a big cat.", [])),
        (lambda s: s.replace("dog.", "cat. It bites", by_keys=True), ("modify", "It is a big cat.", [])),
        (lambda s: s.replace("dog.", "cat\nNext", by_keys=True), ("modify", "It is a big cat", [])),
        (lambda s: s.replace(" dog.", "", by_keys=True), ("modify", "It is a big", [])),
        (lambda s: s.replace("It", "Yes, it", by_keys=True), ("modify", "Yes, it is a big dog.", [])),
        (lambda s: s.replace("It", "No. It", by_keys=True), ("accept", SAID, [])),
        (lambda s: s.replace("It", "No. That", by_keys=True), ("modify", "That is a big dog.", [])),
        (lambda s: s.replace("It is", "There is", by_keys=True), ("modify", "There is a big dog.", [])),
        (lambda s: s.replace("It is", "it  is"), ("modify", "it  is a big dog.", [])),
        (lambda s: s.replace("a big", "a  big"), ("modify", "It is a  big dog.", ["layout_only"])),
        (lambda s: s.replace(SAID, ""), ("modify", "", ["deleted"])),
        (lambda s: s.replace(SAID, "", by_keys=True).type("I wrote this."), ("modify", "", ["deleted"])),
    ],
)
def test_what_stands_at_the_end_decides(
    edit: Callable[[Session], Session], expected: tuple[str, str, list[str]]
) -> None:
    assert outcome(edit(Session("Essay.\n\n").open(SAID).take(SAID))) == expected


def test_an_edit_that_was_undone_leaves_an_accept() -> None:
    session = Session().open(SAID).take(SAID)
    assert outcome(session.replace("big", "small").replace("small", "big")) == ("accept", SAID, [])


def test_what_stood_there_before_is_no_part_of_a_suggestion_whose_edge_was_cut() -> None:
    session = Session("One  two.\n")
    session.cursor = 4
    session.open("big dog").take("big dog").replace(" dog", "")
    assert session.text == "One big two.\n"
    assert outcome(session) == ("modify", "big", [])


def test_another_suggestion_is_no_part_of_one_whose_edge_was_cut() -> None:
    session = Session().open("big dog").take("big dog").replace("dog", "", by_keys=True).open("cat.").take("cat.")
    first, second = session.events()
    assert (first.decision, first.final_text) == ("modify", "big")
    assert (second.decision, second.final_text) == ("accept", "cat.")


def test_the_text_says_what_was_taken_not_the_logged_index() -> None:
    (event,) = Session().open("one", "two", "three").take("two", index=0).events()
    assert (event.decision, event.chosen, event.final_text) == ("accept", 1, "two")


def test_a_difference_that_slid_over_a_line_break_is_the_same_insertion() -> None:
    session = Session("Essay.\n").open("\n\nYes.")
    session.then("suggestion-select").edit(session.cursor + 1, 0, "\nYes.\n", "api")
    assert session.text == "Essay.\n\nYes.\n"
    assert outcome(session) == ("accept", "\n\nYes.", [])


@given(st.text("ab\n", max_size=8), st.text("ab\n", min_size=1, max_size=4), st.integers(0, 8), st.integers(-4, 4))
def test_an_insertion_is_found_where_it_was_made_or_where_it_comes_to_the_same(
    before: str, text: str, at: int, off: int
) -> None:
    at = min(at, len(before))
    after = before[:at] + text + before[at:]
    assert inserted_at(before, after, text, near=at) == at
    near = max(0, min(at + off, at + len(text)))
    found = inserted_at(before, after, text, near=near)
    if abs(near - at) <= len(text):
        assert found is not None
        assert before[:found] + text + before[found:] == after
    assert inserted_at(before, after, f"{text}c", near=at) is None


def test_emoji_count_as_two_units() -> None:
    face = "\N{GRINNING FACE}"
    session = Session(f"{face}.\n")
    session.cursor = 3
    session.open(f"a{face}b")
    session.then("suggestion-select").then(
        "text-insert", "api", textDelta={"ops": [{"retain": 3}, {"insert": f"a{face}b"}]}
    )
    session.then("text-insert", textDelta={"ops": [{"retain": 6}, {"insert": face}]})
    (event,) = session.events()
    assert event.prompt[0].content == f"{face}."
    assert (event.decision, event.final_text) == ("modify", f"a{face}{face}b")


# -- openings that were not taken, and those taken twice --------------------------------------------------------------


def test_a_dismissed_opening_is_a_reject_and_one_left_open_is_ignored() -> None:
    session = Session().open("a").then("suggestion-close").open("b").open("c").then("suggestion-get")
    session.then("suggestion-close", "api").open("d")
    found = [(e.decision, e.dwell_ms, e.decided_at is None, e.final_text, e.reasons[0]) for e in session.events()]
    assert found == [
        ("reject", 1000, False, None, "writer_unknown"),
        ("ignore", None, True, None, "left_open"),
        ("reject", 2000, False, None, "asked_again"),
        ("ignore", None, True, None, "left_open"),
    ]


def test_an_opening_that_was_dismissed_and_opened_again_counts_by_what_was_taken() -> None:
    session = Session().open("a", "b").then("suggestion-close").then("suggestion-reopen").take("b")
    assert outcome(session) == ("accept", "b", [])


def test_the_last_of_two_picks_counts() -> None:
    session = Session().open("one", "two").take("one").replace("one", "").then("suggestion-reopen").take("two")
    (event,) = session.events()
    assert (event.decision, event.chosen, event.final_text) == ("accept", 1, "two")
    assert event.reasons == ["picked_again", "writer_unknown"]
    assert event.dwell_ms == 6000


def test_a_clock_that_runs_backwards_is_told_and_nothing_is_reordered() -> None:
    session = Session().open("one")
    session.now -= 60_000
    session.take("one").open("two")
    session.then("suggestion-close")
    first, second = session.events()
    assert [e.event_id for e in (first, second)] == ["coauthor:s1:1", "coauthor:s1:5"]
    assert first.shown_at > second.shown_at
    assert (first.decision, first.decided_at, first.dwell_ms) == ("accept", None, None)
    assert (second.decision, second.dwell_ms) == ("reject", 1000)
    assert all("clock_backwards" in e.reasons for e in (first, second))
    assert first.received_at == second.received_at == first.shown_at


# -- sessions that are not whole --------------------------------------------------------------------------------------


def broken(content: bytes, told: coauthor.Told | None = None) -> list[tuple[int, str, date | None]]:
    records = list(coauthor.openings(content, session="s1", member="s1.jsonl", told=told))
    lines = content.split(b"\n")
    assert all(record.fault and record.fault.reason is Reason.SESSION for record in records)
    assert all(record.raw == lines[record.line - 1] for record in records)
    return [(r.line, r.fault.explanation, r.fault.day) for r in records if r.fault]


DAY = date(2021, 8, 18)


def test_every_opening_of_a_session_that_cannot_be_replayed_is_kept_with_what_broke_it() -> None:
    session = Session().open("one").take("one").open("two")
    garbage = session.content.replace(b'"suggestion-select"', b'"suggestion\xff-select"')
    why = "session s1: line 3: expected a log line of CoAuthor: "
    found = broken(garbage)
    assert [(line, day) for line, _, day in found] == [(2, DAY), (3, None), (6, DAY)]
    assert all(explanation.startswith(why) for _, explanation, _ in found)


@pytest.mark.parametrize(
    ("session", "why"),
    [
        (
            Session().open("one").then("text-insert", textDelta={"ops": [{"retain": 99}]}),
            (
                "line 3: expected a delta within the 7 units of the document, got "
                "Op(retain=99, insert=None, delete=None) at 0"
            ),
        ),
        (Session().open("one").then("text-insert"), "line 3: expected a delta, got ''"),
        (
            Session().open("one").take("two"),
            "line 5: expected one of the shown suggestions to be inserted, got another text",
        ),
        (Session().then("suggestion-open", currentCursor=99), "line 2: expected a cursor within the document, got 99"),
        (
            Session().open("one").then("suggestion-select"),
            "expected the insertion of what was selected last, got the session's end",
        ),
    ],
)  # fmt: skip
def test_a_session_that_contradicts_itself_is_set_aside(session: Session, why: str) -> None:
    assert broken(session.content) == [(2, f"session s1: {why}", DAY)]


def test_a_session_without_a_beginning_or_with_an_impossible_time_is_set_aside() -> None:
    first, rest = Session().open("one").content.split(b"\n", 1)
    assert broken(rest)[0][1] == "session s1: line 1: expected system-initialize first, got suggestion-open"
    assert broken(b"")[0] == (1, "session s1: expected a session that begins with system-initialize, got none", None)
    late = first.replace(str(START).encode(), b"99999999999999")
    assert broken(late)[0][1] == "session s1: line 1: expected milliseconds since 1970, got 99999999999999"


def test_a_session_of_which_lines_are_missing_is_set_aside_where_the_csv_tells() -> None:
    session = Session().open("one").take("one")
    told = coauthor.Told("w1", "animal", 1, 1, len(session.log) + 1)
    ((_, why, _),) = broken(session.content, told)
    assert why == (
        "session s1: expected 1 openings, 1 selections and 6 lines, as the CSV of sessions says, got 1, 1 and 5: the "
        "file is not whole"
    )
