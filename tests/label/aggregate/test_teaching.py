"""What annotators' answers teach: which rows, how heavy, from when on, and what teaches nothing and why."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow.compute as pc
import pytest

from loop import schema
from loop.home import Home
from loop.label import gold, outside, tasks
from loop.label.aggregate import partition, teaching
from loop.label.annotations import FUNCTION, Action, Annotation, record
from loop.label.derive import derive, split_of
from loop.label.tasks import Kind, Origin
from loop.lake import from_rows
from loop.schema import BatchStatus, Split
from tests.rows import DAY, NOON, decision, interactions

EVENING = NOON + timedelta(hours=8)
NIGHT = NOON + timedelta(hours=12)
ACCEPTED = decision(1, "accept", 0, "first")
EDITED = decision(2, "modify", 1, "second, better")
REJECTED = decision(3, "reject")


def lived(home: Home, *decisions: dict[str, Any]) -> None:
    """A day of decisions whose batch is accepted."""
    home.lake.overwrite("interactions", interactions(*decisions), day=DAY, workflow="comms")
    told = {"rows": len(decisions), "quarantined": 0, "reasons": [], "author": "suite", "run_id": None}
    home.state.record_batch(day=DAY, workflow="comms", digest="b", status=BatchStatus.ACCEPTED, **told)


def question(of: dict[str, Any], kind: Kind = Kind.PREFERENCE, *texts: str, **other: Any) -> dict[str, Any]:
    """A task about a decision."""
    plain = {"day": DAY, "workflow": "comms", "origin": Origin.DECISION, "reason": "random", "batch": of["batch"]}
    whose = {"event_id": of["event_id"], "employee": of["employee"], "prompt": of["prompt"]}
    return tasks.task(kind=kind, texts=texts or ("third", "first"), **plain | whose | other)


def said(home: Home, rows: list[dict[str, Any]], *answers: tuple[dict[str, Any], str, str]) -> None:
    """Answers of persons in the evening: a label, or for a rewrite a text."""
    tasks.add(home.lake, home.state, rows)
    about = {"source": "page", "workflows": ["comms"], "author": "lead"}
    given = []
    for row, person, word in answers:
        who = outside.enlist(home.settings, home.state, person=person, **about)
        told = {"content": json.dumps(word)} if row["kind"] == Kind.REWRITE else {"label": word}
        given.append(Annotation(row["label_task_id"], who, NOON, "page", recorded_at=EVENING, **told))
    assert record(home.state, from_rows(rows, schema.LABEL_TASKS), given).new == len(answers)


def labelled(home: Home, *beliefs: tuple[dict[str, Any], dict[str, float]]) -> None:
    """Soft labels of tasks, with what two people said who agree with them."""
    asked = [task for task, _ in beliefs]
    words = [max(belief, key=belief.__getitem__) for _, belief in beliefs]
    said(home, asked, *((task, who, word) for task, word in zip(asked, words, strict=True) for who in ("cat", "dan")))
    rows = [
        {
            "label_task_id": task["label_task_id"],
            "day": DAY,
            "workflow": "comms",
            "kind": task["kind"],
            "label": max(belief, key=belief.__getitem__),
            "confidence": max(belief.values()),
            "abstain": max(belief.values()) < 0.75,
            "probabilities": [{"label": name, "probability": p} for name, p in belief.items()],
            "answers": 2,
            "method": "stacked",
            "aggregated_at": EVENING,
        }
        for task, belief in beliefs
    ]
    home.lake.overwrite("task_labels", from_rows(rows, schema.TASK_LABELS), day=DAY, workflow="comms")


def taught(home: Home, **changed: Any) -> teaching.Taught:
    settings = home.settings.model_copy(update={"held_out_share": 0.0} | changed)
    return teaching.taught(settings, home.lake, home.state, (DAY, DAY), NIGHT)


SURE = {"first": 0.1, "second": 0.85, "tie": 0.05, "neither": 0.0}


def test_a_label_that_leans_is_a_preference_that_leads_back_to_its_decision(home: Home) -> None:
    lived(home, ACCEPTED | {"task_id": "t", "episode_id": "x"})
    asked = question(ACCEPTED)
    labelled(home, (asked, SURE))
    found = taught(home)
    [row] = found.preferences.drop_columns(["preference_id"]).to_pylist()
    assert row == {
        "kind": "judged",
        "prompt": ACCEPTED["prompt"],
        "chosen": "first",
        "rejected": "third",
        "chosen_position": 0,
        "rejected_position": 2,
        "chosen_logprob": -1.0,
        "rejected_logprob": -3.0,
        "event_id": "e1",
        "suggestion_id": "s1",
        "day": DAY,
        "workflow": "comms",
        "employee": "p_1",
        "episode_id": "x",
        "task_id": "t",
        "split": "train",
        "weight": pytest.approx(0.75),
        "received_at": EVENING,
        "superseded_at": None,
        "batch": "b",
    }
    assert (found.given, found.demonstrations.num_rows, found.set_aside) == (1, 0, Counter())
    assert taught(home).preferences.equals(found.preferences)


def test_a_text_that_nobody_was_served_has_the_place_of_what_it_was_made_of(home: Home) -> None:
    lived(home, EDITED)
    asked = question(EDITED, Kind.PREFERENCE, "second, better", "second")
    labelled(home, (asked, {"first": 0.9, "second": 0.1}))
    [row] = taught(home).preferences.to_pylist()
    names = ("chosen", "rejected", "chosen_position", "rejected_position", "chosen_logprob", "rejected_logprob")
    assert tuple(row[name] for name in names) == ("second, better", "second", 1, 1, None, -2.0)


def test_what_annotators_write_is_a_demonstration_and_preferred_over_what_stood(home: Home) -> None:
    lived(home, REJECTED)
    asked = question(REJECTED, Kind.REWRITE, "first")
    said(home, [asked], (asked, "ann", "much better"), (asked, "bob", "better still"), (asked, "eve", " first "))
    found = taught(home)
    rows = found.demonstrations.to_pylist()
    assert [(row["answer"], row["kind"], row["weight"], row["event_id"]) for row in rows] == [
        (row["answer"], "rewritten", 0.5, "e3") for row in rows
    ]
    assert {row["answer"] for row in rows} == {"much better", "better still"}
    pairs = {(row["chosen"], row["rejected"], row["kind"], row["weight"]) for row in found.preferences.to_pylist()}
    assert pairs == {(text, "first", "rewritten", 0.5) for text in ("much better", "better still")}
    assert found.demonstrations["demonstration_id"].to_pylist() == found.preferences["preference_id"].to_pylist()
    assert (found.given, found.set_aside) == (3, {"written as it stood": 1})


def test_of_two_texts_of_one_annotator_for_a_decision_the_later_counts(home: Home) -> None:
    lived(home, REJECTED)
    early, late = question(REJECTED, Kind.REWRITE, "first"), question(REJECTED, Kind.REWRITE, "second")
    said(home, [early, late], (early, "bob", "better still"), (early, "ann", "at first"))
    ann, bob = (
        outside.enlist(home.settings, home.state, person=who, source="page", author="lead") for who in ("ann", "bob")
    )
    at = EVENING + timedelta(hours=1)
    last = Annotation(late["label_task_id"], ann, at, "page", content=json.dumps("at last"))
    assert record(home.state, from_rows([late], schema.LABEL_TASKS), [last]).new == 1
    settings = home.settings.model_copy(update={"held_out_share": 0.0})
    found = teaching.taught(settings, home.lake, home.state, (DAY, DAY), datetime.max.replace(tzinfo=UTC))
    assert {row["demonstration_id"]: row["answer"] for row in found.demonstrations.to_pylist()} == {
        teaching.written_id("e3", ann): "at last",
        teaching.written_id("e3", bob): "better still",
    }
    assert set(found.preferences["rejected"].to_pylist()) == {"first", "second"}
    assert (found.given, dict(found.set_aside)) == (3, {"written again later": 1})


@pytest.mark.parametrize(
    ("asked", "belief", "reason"),
    [
        (question(ACCEPTED), {"first": 0.2, "second": 0.2, "tie": 0.6}, "a tie, or neither"),
        (question(ACCEPTED), {"first": 0.69, "second": 0.3, "tie": 0.01}, "too unsure"),
        (question(ACCEPTED, origin=Origin.BENCHMARK), SURE, "of the benchmark"),
        (question(ACCEPTED | {"event_id": None}, origin=Origin.IMPORT), SURE, "of no decision here"),
        (question(ACCEPTED | {"event_id": "e77"}), SURE, "of no decision here"),
        (question(ACCEPTED, Kind.RATING, "first", options=["1", "2"]), {"1": 0.9, "2": 0.1}, "no preference"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_preference_about_a_decision_teaches_nothing(
    home: Home, asked: dict[str, Any], belief: dict[str, float], reason: str
) -> None:
    lived(home, ACCEPTED)
    labelled(home, (asked, belief))
    found = taught(home)
    assert (found.given, found.preferences.num_rows, dict(found.set_aside)) == (1, 0, {reason: 1})


@pytest.mark.parametrize(
    ("changed", "reason"),
    [({"batch": "held"}, "the batch is not accepted"), ({"purposes": ["evaluation"]}, "no consent to training")],
)
def test_a_decision_that_may_not_be_learned_from_teaches_nothing_by_its_labels(
    home: Home, changed: dict[str, Any], reason: str
) -> None:
    lived(home, ACCEPTED | changed)
    asked = question(ACCEPTED)
    labelled(home, (asked, SURE))
    assert dict(taught(home).set_aside) == {reason: 1}


def test_whoever_is_held_out_is_so_from_annotators_too(home: Home) -> None:
    side = {True: 0, False: 0}
    people = [f"p_{n}" for n in range(40)]
    lived(home, *(decision(n, "accept", 0, "first", employee=who) for n, who in enumerate(people)))
    asked = [question(decision(n, "accept", 0, "first", employee=who)) for n, who in enumerate(people)]
    labelled(home, *((row, SURE) for row in asked))
    for who in people:
        side[split_of(who, 0.4, home.settings.seed) is Split.HELD_OUT] += 1
    found = taught(home, held_out_share=0.4)
    assert side[True] > 5
    assert (found.preferences.num_rows, dict(found.set_aside)) == (side[False], {"held out": side[True]})


def test_a_label_is_of_the_time_when_its_last_answer_came(home: Home) -> None:
    lived(home, ACCEPTED, REJECTED)
    asked, other = question(ACCEPTED), question(REJECTED, Kind.REWRITE, "first")
    labelled(home, (asked, SURE))
    said(home, [other], (other, "ann", "much better"))
    at = [found.preferences["received_at"].to_pylist() for found in [taught(home)]]
    assert at == [[EVENING, EVENING]]
    bob = outside.enlist(home.settings, home.state, person="bob", source="page", author="lead")
    late = [
        Annotation(row["label_task_id"], bob, NOON, "page", label=label, content=content, recorded_at=NIGHT)
        for row, label, content in ((asked, "first", None), (other, None, json.dumps("late")))
    ]
    assert record(home.state, from_rows([asked, other], schema.LABEL_TASKS), late).new == 2
    found = taught(home)
    assert (found.preferences["kind"].to_pylist(), dict(found.set_aside)) == (
        ["rewritten"],
        {"later than the cut-off": 1},
    )
    assert found.given == 2, "what was written later is not known yet"


def test_what_was_taken_back_and_what_is_known_teach_nothing(home: Home) -> None:
    lived(home, ACCEPTED, REJECTED)
    asked, other = question(ACCEPTED), question(REJECTED, Kind.REWRITE, "first")
    labelled(home, (asked, SURE))
    said(home, [other], (other, "ann", "much better"))
    gold.put(home.state, asked, label="first", reason="two experts", author="lead")
    ann = outside.enlist(home.settings, home.state, person="ann", source="page", author="lead")
    at = EVENING + timedelta(minutes=1)
    undone = Annotation(other["label_task_id"], ann, at, "page", Action.UNDO, recorded_at=at)
    assert record(home.state, from_rows([other], schema.LABEL_TASKS), [undone]).changed == 1
    found = taught(home)
    assert (found.given, found.preferences.num_rows, found.demonstrations.num_rows) == (1, 0, 0)
    assert dict(found.set_aside) == {"the right answer is known": 1}


def test_a_label_whose_answers_changed_is_to_be_made_anew(home: Home) -> None:
    lived(home, ACCEPTED)
    asked = question(ACCEPTED)
    labelled(home, (asked, SURE))
    who = outside.enlist(home.settings, home.state, person="cat", source="page", author="lead")
    at = EVENING + timedelta(minutes=1)
    other = Annotation(asked["label_task_id"], who, at, "page", label="first", recorded_at=at)
    assert record(home.state, from_rows([asked], schema.LABEL_TASKS), [other]).changed == 1
    assert dict(taught(home).set_aside) == {"to be aggregated anew": 1}
    undone = replace(other, action=Action.UNDO, label=None)
    assert record(home.state, from_rows([asked], schema.LABEL_TASKS), [undone]).changed == 1
    assert dict(taught(home).set_aside) == {"to be aggregated anew": 1}


def test_what_functions_say_alone_is_no_word_of_people(home: Home) -> None:
    lived(home, ACCEPTED)
    asked = question(ACCEPTED)
    tasks.add(home.lake, home.state, [asked])
    for n, source in enumerate((FUNCTION, FUNCTION, "page")):
        who = outside.enlist(home.settings, home.state, person=f"one {n}", source=source, author="lead")
        given = Annotation(asked["label_task_id"], who, NOON, source, label="second", recorded_at=EVENING)
        assert record(home.state, from_rows([asked], schema.LABEL_TASKS), [given]).new == 1
    assert partition.build(home.lake, home.state, DAY, "comms").labelled == 1
    found = taught(home)
    assert (found.preferences.num_rows, found.set_aside) == (0, {"answered by fewer than two people": 1})


def test_a_label_stands_in_the_place_of_the_click_on_the_same_two_texts(home: Home) -> None:
    lived(home, ACCEPTED, EDITED)
    clicks = derive(interactions(ACCEPTED, EDITED), held_out_share=0.0).preferences
    asked = question(ACCEPTED, Kind.PREFERENCE, "first", "third")
    labelled(home, (asked, SURE))
    judged = taught(home).preferences
    assert judged["chosen"].to_pylist() == ["third"]
    revised = clicks.set_column(0, clicks.schema.field(0), pc.binary_join_element_wise(clicks[0], "again", ""))
    revised = revised.set_column(revised.column_names.index("event_id"), "event_id", revised["preference_id"])
    assert teaching.instead_of(revised, judged).num_rows == clicks.num_rows - 1, "another decision on the same texts"
    left = teaching.instead_of(clicks, judged)
    gone = {tuple(r.values()) for r in clicks.select(["event_id", "rejected"]).to_pylist()} - {
        tuple(r.values()) for r in left.select(["event_id", "rejected"]).to_pylist()
    }
    assert gone == {("e1", "third")}
    assert left.num_rows == clicks.num_rows - 1
    assert teaching.instead_of(clicks, judged.slice(0, 0)).equals(clicks)


def test_nothing_asked_teaches_nothing(home: Home) -> None:
    found = taught(home)
    assert (found.given, found.preferences, found.demonstrations) == (
        0,
        schema.PREFERENCES.empty(),
        schema.DEMONSTRATIONS.empty(),
    )
