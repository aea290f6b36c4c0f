from __future__ import annotations

from datetime import timedelta
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from loop.label.derive import Labels, derive, split_of
from loop.schema import Decision, Split
from tests.rows import NOON, SHOWN, decision, interactions


def labels(*rows: dict[str, Any], share: float = 0.0) -> Labels:
    return derive(interactions(*rows), held_out_share=share)


def pairs(found: Labels) -> set[tuple[str, str, str, float]]:
    columns = ("kind", "chosen", "rejected", "weight")
    return set(zip(*(found.preferences[c].to_pylist() for c in columns), strict=True))


def test_an_accepted_text_demonstrates_and_is_preferred_over_the_others() -> None:
    found = labels(decision(1, "accept", 1, "second"))
    assert found.demonstrations.select(["kind", "answer", "weight"]).to_pylist() == [
        {"kind": "accepted", "answer": "second", "weight": 1.0}
    ]
    assert pairs(found) == {("choice", "second", "first", 0.5), ("choice", "second", "third", 0.5)}
    assert found.set_aside == {}


def test_an_edit_is_preferred_over_its_suggestion() -> None:
    found = labels(decision(1, "modify", 0, "first, but better"))
    assert found.demonstrations["answer"].to_pylist() == ["first, but better"]
    assert ("edit", "first, but better", "first", 1.0) in pairs(found)
    row = found.preferences.filter(pa.compute.equal(found.preferences["kind"], "edit")).to_pylist()[0]
    assert (row["chosen_position"], row["rejected_position"], row["chosen_logprob"], row["rejected_logprob"]) == (
        0,
        0,
        None,
        -1.0,
    )


def test_white_space_is_no_preference() -> None:
    found = labels(decision(1, "modify", 0, " first\n"))
    assert found.demonstrations["kind"].to_pylist() == ["edited"]
    assert set(found.preferences["kind"].to_pylist()) == {"choice"}


def test_what_was_deleted_never_demonstrates_but_was_chosen() -> None:
    found = labels(decision(1, "modify", 2, "", reasons=["deleted"]))
    assert found.demonstrations.num_rows == 0
    assert pairs(found) == {("choice", "third", "first", 0.5), ("choice", "third", "second", 0.5)}


def test_what_teaches_nothing_is_counted_by_reason() -> None:
    alone = [{"position": 0, "text": "only", "logprob": None}]
    blank = [{"position": 0, "text": " \n", "logprob": None}]
    found = labels(
        decision(1, "reject", candidates=blank),
        decision(2, "ignore", decided_at=None),
        decision(3, "accept", 0, "first", purposes=["evaluation"]),
        decision(4, "modify", 0, " \n", candidates=alone),
        decision(5, "accept", 0, "first"),
    )
    assert found.set_aside == {
        "rejected: nothing legible was shown": 1,
        "ignored": 1,
        "no consent to training": 1,
        "deleted: nothing stands and nothing else was shown": 1,
    }
    assert (found.interactions, found.taught) == (5, 1)


def test_the_same_text_shown_twice_is_no_preference() -> None:
    twins = [{"position": i, "text": "same", "logprob": None} for i in range(2)]
    found = labels(decision(1, "accept", 0, "same", candidates=twins))
    assert found.preferences.num_rows == 0
    assert found.demonstrations.num_rows == 1


def test_a_later_decision_ends_the_earlier_one() -> None:
    later = NOON + timedelta(hours=1)
    found = labels(
        decision(1, "accept", 0, "first", suggestion_id="s"),
        decision(2, "modify", 0, "changed", suggestion_id="s", received_at=later, revises="e1"),
    )
    ends = dict(
        zip(found.demonstrations["answer"].to_pylist(), found.demonstrations["superseded_at"].to_pylist(), strict=True)
    )
    assert ends == {"first": later, "changed": None}


def test_of_two_received_at_once_the_revision_counts() -> None:
    found = labels(
        decision(9, "accept", 0, "first", suggestion_id="s", received_at=NOON),
        decision(1, "modify", 0, "changed", suggestion_id="s", received_at=NOON, revises="e9"),
    )
    ends = dict(
        zip(
            found.demonstrations["answer"].to_pylist(),
            found.demonstrations["superseded_at"].to_pylist(),
            strict=True,
        )
    )
    assert ends == {"first": NOON, "changed": None}


def test_a_later_row_moves_nobody_to_the_other_side() -> None:
    held = next(f"p_{n}" for n in range(100) if split_of(f"p_{n}", 0.3, 0) is Split.HELD_OUT)
    trains = next(f"p_{n}" for n in range(100) if split_of(f"p_{n}", 0.3, 0) is Split.TRAIN)
    first = decision(1, "accept", 0, "first", employee=trains, episode_id="shared")
    second = decision(2, "accept", 0, "first", employee=held, episode_id="shared")
    alone = labels(first, share=0.3).demonstrations["split"].to_pylist()
    together = {r["event_id"]: r["split"] for r in labels(first, second, share=0.3).demonstrations.to_pylist()}
    assert alone == ["train"]
    assert together == {"e1": "train", "e2": "held_out"}


def test_a_writer_and_a_task_stand_on_one_side() -> None:
    writers = [f"p_{n}" for n in range(200)]
    rows = [decision(n, "accept", 0, "first", employee=w, task_id=f"t{n % 10}") for n, w in enumerate(writers)]
    found = labels(*rows, share=0.3)
    held = {w for w in writers if split_of(w, 0.3, 0) is Split.HELD_OUT}
    tasks = {f"t{n}" for n in range(10) if split_of(f"t{n}", 0.3, 0) is Split.HELD_OUT}
    assert 0.2 * len(writers) < len(held) < 0.4 * len(writers)
    for row in found.demonstrations.to_pylist():
        expected = row["employee"] in held or row["task_id"] in tasks
        assert (row["split"] == "held_out") is expected


def test_held_out_rows_need_consent_to_evaluation() -> None:
    held = next(f"p_{n}" for n in range(100) if split_of(f"p_{n}", 0.3, 0) is Split.HELD_OUT)
    found = labels(
        decision(1, "accept", 0, "first", employee=held, purposes=["training"]),
        decision(2, "accept", 0, "first", employee=held, purposes=["evaluation"]),
        share=0.3,
    )
    assert found.demonstrations["event_id"].to_pylist() == ["e2"]
    assert found.set_aside == {"no consent to evaluation": 1}


def test_no_rows_teach_nothing() -> None:
    found = labels()
    assert (found.interactions, found.demonstrations.num_rows, found.preferences.num_rows, found.set_aside) == (
        0,
        0,
        0,
        {},
    )


def test_what_was_changed_later_into_nobody_knows_what_is_no_demonstration() -> None:
    alone = [{"position": 0, "text": SHOWN[0], "logprob": None}]
    tagged = {"reasons": ["edited_later"]}
    found = labels(
        decision(0, "accept", 0, SHOWN[0], candidates=alone, **tagged), decision(1, "accept", 0, SHOWN[0], **tagged)
    )
    assert found.demonstrations.num_rows == 0
    assert found.preferences["event_id"].to_pylist() == ["e1", "e1"]  # it was still taken over what was shown beside it
    assert found.set_aside == {"edited later: what stands in the end is not known": 1}


def judged(found: Labels) -> list[tuple[str, str, int, float]]:
    columns = ("label", "answer", "position", "weight")
    return sorted(zip(*(found.unpaired[c].to_pylist() for c in columns), strict=True))


def test_what_was_dismissed_is_undesirable_and_what_was_taken_as_it_was_desirable() -> None:
    found = labels(
        decision(1, "reject"), decision(2, "accept", 1, "second"), decision(3, "modify", 0, "first, changed")
    )
    third = 1 / 3
    assert judged(found) == [
        ("desirable", "second", 1, 1.0),
        ("undesirable", "first", 0, third),
        ("undesirable", "second", 1, third),
        ("undesirable", "third", 2, third),
    ]
    assert (found.taught, found.set_aside) == (3, {})


def test_a_text_that_was_dismissed_twice_at_once_or_is_blank_counts_once_or_not() -> None:
    shown = [{"position": i, "text": t, "logprob": None} for i, t in enumerate(["same", " ", "same", "other"])]
    found = labels(decision(1, "reject", candidates=shown))
    assert judged(found) == [("undesirable", "other", 3, 0.5), ("undesirable", "same", 0, 0.5)]


def test_a_rejection_without_consent_teaches_nothing() -> None:
    found = labels(decision(1, "reject", purposes=["evaluation"]))
    assert found.unpaired.num_rows == 0
    assert found.set_aside == {"no consent to training": 1}


def test_of_an_edit_stands_what_was_changed() -> None:
    found = labels(decision(1, "modify", 1, "the second one"), decision(2, "modify", 0, "first", reasons=["deleted"]))
    [row] = found.edits.to_pylist()
    assert (row["event_id"], row["position"], row["kept"], row["exact"]) == ("e1", 1, 1.0, True)
    assert row["spans"] == [
        {"op": "insert", "start": 0, "end": 0, "final_start": 0, "final_end": 4, "removed": "", "added": "the "},
        {"op": "insert", "start": 6, "end": 6, "final_start": 10, "final_end": 14, "removed": "", "added": " one"},
    ]


def test_what_was_only_spaced_differently_is_an_edit_and_no_preference() -> None:
    found = labels(decision(1, "modify", 0, "first\n"))
    assert found.edits["kept"].to_pylist() == [1.0]
    assert "edit" not in found.preferences["kind"].to_pylist()


@st.composite
def _decisions(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from([d.value for d in Decision]))
    taken = kind in {"accept", "modify"}
    chosen = draw(st.integers(0, 2)) if taken else None
    final = None
    if chosen is not None:
        final = SHOWN[chosen] if kind == "accept" else draw(st.sampled_from(["", " ", "new", *SHOWN]))
    purposes = draw(st.lists(st.sampled_from(["training", "evaluation"]), unique=True))
    return decision(0, kind, chosen, final, purposes=purposes, employee=draw(st.sampled_from(["p_1", "p_2", "p_3"])))


@settings(max_examples=40, deadline=None)
@given(st.lists(_decisions(), max_size=12))
def test_no_interaction_is_lost(drawn: list[dict[str, Any]]) -> None:
    rows = [row | {"event_id": f"e{i}", "suggestion_id": f"s{i}"} for i, row in enumerate(drawn)]
    found = labels(*rows, share=0.4)
    taught = {
        event
        for rows in (found.demonstrations, found.preferences, found.unpaired)
        for event in rows["event_id"].to_pylist()
    }
    assert len(taught) == found.taught
    assert found.taught + sum(found.set_aside.values()) == len(rows)
    for column in ("chosen", "rejected"):
        assert found.preferences[column].null_count == 0
    assert all(
        c != r
        for c, r in zip(found.preferences["chosen"].to_pylist(), found.preferences["rejected"].to_pylist(), strict=True)
    )
