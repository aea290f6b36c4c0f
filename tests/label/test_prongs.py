"""What each source gave, cost and teaches, measured on people whom none of them knows."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from loop.home import Home
from loop.label import annotators, batches, gold, prongs, tasks
from loop.label.annotations import Annotation, record
from loop.label.derive import split_of
from loop.label.prongs import Source, compare, pairs_of_answers
from loop.label.tasks import Kind, Origin
from loop.schema import BatchStatus, Split
from tests.rows import DAY, decision, interactions

NOW = datetime(2026, 1, 6, tzinfo=UTC)
GOOD, POOR = "a calm and clear answer", "a hasty and rude answer"


def asked(number: int, **more: Any) -> dict[str, Any]:
    told: dict[str, Any] = {
        "day": DAY,
        "workflow": "comms",
        "kind": Kind.PREFERENCE,
        "origin": Origin.IMPORT,
        "reason": "random",
        "prompt": [{"role": "user", "content": f"question {number}"}],
        "texts": [GOOD, POOR] if number % 2 else [POOR, GOOD],
    }
    return tasks.task(**(told | more))


def test_answers_become_pairs_by_how_far_they_lean() -> None:
    rows = [
        (asked(1), ["first"]),
        (asked(2), ["second", "second", "first"]),
        (asked(3), ["first", "second"]),
        (asked(4), ["tie"]),
        (asked(5), ["first", "tie"]),
        (asked(6), []),
        (asked(7, kind=Kind.CATEGORY, texts=["x"], options=["first", "second"]), ["first"]),
    ]
    found = pairs_of_answers(rows).to_pylist()
    assert [(row["preferred"], row["weight"]) for row in found] == [
        (GOOD, 1.0),
        (GOOD, pytest.approx(1 / 3)),
        (GOOD, 0.5),
    ]
    assert [row["asked"] for row in found] == ["question 1", "question 2", "question 5"]


@pytest.fixture
def lived(home: Home) -> Home:
    """People of the floor take the good answer nine times of ten; held-out people always do. Thirty are rejected."""
    draw, rows = random.Random(0), [decision(n, "reject", employee=f"p_{n % 80}") for n in range(300, 330)]
    for n in range(300):
        who = f"p_{n % 80}"
        held = split_of(who, home.settings.held_out_share, home.settings.seed) is Split.HELD_OUT
        right = held or draw.random() < 0.9
        texts = [GOOD, POOR] if n % 2 else [POOR, GOOD]
        shown = [{"position": i, "text": text, "logprob": None} for i, text in enumerate(texts)]
        taken = texts.index(GOOD if right else POOR)
        rows.append(decision(n, "accept", taken, texts[taken], candidates=shown, employee=who))
    home.lake.overwrite("interactions", interactions(*rows), day=DAY, workflow="comms")
    told: dict[str, Any] = {"rows": 330, "quarantined": 0, "reasons": [], "author": "a", "run_id": None}
    home.state.record_batch(day=DAY, workflow="comms", digest="b", status=BatchStatus.ACCEPTED, **told)
    batches.build(home.settings, home.lake, home.state, DAY, "comms")
    return home


def of_training(home: Home) -> list[int]:
    """Numbers of the decisions of people of the training side."""
    side = {n: split_of(f"p_{n % 80}", home.settings.held_out_share, home.settings.seed) for n in range(330)}
    return [n for n, of in side.items() if of is Split.TRAIN]


def test_sources_are_priced_and_measured_on_the_same_people(lived: Home) -> None:
    questions = [asked(n) for n in range(40)]
    tasks.add(lived.lake, lived.state, questions)
    wise, _ = annotators.add(
        lived.settings, lived.state, person="ann", workflows=["comms"], pay_per_hour=36.0, author="me"
    )
    said = [
        Annotation(task["label_task_id"], wise.annotator, NOW, source, label=label, seconds=seconds)
        for n, task in enumerate(questions)
        for source, label, seconds in [
            ("page", "first" if n % 2 else "second", 10.0) if n < 30 else ("vendor", "first", None)
        ]
    ]
    assert record(lived.state, tasks.read(lived.lake), said).new == 40
    gold.put(lived.state, questions[39], label="first", hidden=True, reason="known", author="me")
    found = compare(lived.settings, lived.lake, lived.state, "comms", (DAY, DAY))
    by_name = {source.source: source for source in found.sources}
    assert set(by_name) == {"floor", "page", "vendor"}
    floor, page, vendor = by_name["floor"], by_name["page"], by_name["vendor"]
    assert floor.answers == len(of_training(lived))
    assert floor.pairs + found.held_out == 300
    assert floor.people + found.held_out_people == 80
    assert floor.cost == pytest.approx(floor.answers * lived.settings.decision_cost)
    assert floor.cost_of_pairs == pytest.approx(floor.cost)  # what was rejected is paid for too
    assert floor.gain_per_cost == pytest.approx(0.5 / floor.cost)
    assert (floor.agreement, floor.on_gold) == (1.0, 1.0)
    assert (page.answers, page.people, page.cost, page.assumed) == (30, 1, pytest.approx(3.0), 0.0)
    assert (page.pairs, page.agreement, page.low, page.high) == (30, 1.0, 1.0, 1.0)
    assert page.gain_per_cost == pytest.approx(0.5 / 3.0)
    assert (vendor.answers, vendor.cost, vendor.assumed) == (10, pytest.approx(1.0), 1.0)
    assert (vendor.pairs, vendor.cost_of_pairs) == (9, pytest.approx(0.9))  # one is gold
    assert (vendor.agreement, vendor.gain_per_cost) == (None, None)  # too few to learn from
    assert found.gold == 1


def answered(home: Home, person: str, said: list[tuple[dict[str, Any], str]], seconds: float = 10.0) -> None:
    tasks.add(home.lake, home.state, [task for task, _ in said])
    who, _ = annotators.add(
        home.settings, home.state, person=person, workflows=["comms"], pay_per_hour=36.0, author="me"
    )
    rows = [
        Annotation(t["label_task_id"], who.annotator, NOW, "page", label=label, seconds=seconds) for t, label in said
    ]
    assert record(home.state, tasks.read(home.lake), rows).new == len(rows)


def test_only_what_the_pairs_came_from_is_charged_for_what_they_teach(
    lived: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [(asked(n), "first" if n % 2 else "second") for n in range(30)]
    ties = [(asked(n), "tie") for n in range(30, 34)]
    sorted_ = [(asked(n, kind=Kind.CATEGORY, texts=["x"], options=["calm", "rude"]), "calm") for n in range(5)]
    public = [(asked(n, origin=Origin.BENCHMARK), "first") for n in range(40, 47)]
    known = [(asked(n), "first") for n in range(50, 53)]
    answered(lived, "ann", [*pairs, *ties, *sorted_, *public, *known])
    for task, label in known:
        gold.put(lived.state, task, label=label, hidden=True, reason="known", author="me")

    def page() -> Source:
        found = compare(lived.settings, lived.lake, lived.state, "comms", (DAY, DAY))
        return next(source for source in found.sources if source.source == "page")

    whole = page()
    assert (whole.answers, whole.cost, whole.pairs) == (49, pytest.approx(4.9), 30)
    assert whole.cost_of_pairs == pytest.approx(3.4)
    assert whole.gain_per_cost == pytest.approx(0.5 / 3.4)
    monkeypatch.setattr(prongs, "MOST", 24)
    part = page()
    assert (part.cost, part.pairs, part.cost_of_pairs) == (pytest.approx(4.9), 24, pytest.approx(3.4 * 24 / 30))
    assert part.gain_per_cost == pytest.approx(0.5 / part.cost_of_pairs)


def test_nobody_is_measured_on_a_decision_that_he_learned_from(lived: Home) -> None:
    days = (DAY, DAY)
    before = compare(lived.settings, lived.lake, lived.state, "comms", days).sources[0]
    mine = [n for n in of_training(lived) if n < 300][:5]
    known = [asked(n, origin=Origin.DECISION, event_id=f"e{n}") for n in mine]
    asked_again = [asked(1_000 + n, origin=Origin.DECISION, event_id=f"e{n}") for n in mine]
    answered(lived, "ann", [(task, "first") for task in [*known, *asked_again]])
    for task in known:
        gold.put(lived.state, task, label="first", hidden=True, reason="known", author="me")
    found = compare(lived.settings, lived.lake, lived.state, "comms", days)
    floor, page = found.sources
    assert found.gold == 5
    assert (before.pairs - floor.pairs, before.answers - floor.answers) == (5, 0)
    assert before.cost == floor.cost
    assert floor.cost - floor.cost_of_pairs == pytest.approx(5 * lived.settings.decision_cost)
    assert (page.answers, page.pairs, page.cost_of_pairs) == (10, 0, 0.0)


def test_an_answer_after_the_deadline_costs_nothing_and_takes_none_away(lived: Home) -> None:
    due = asked(1, due_at=NOW)
    tasks.add(lived.lake, lived.state, [due])
    who, _ = annotators.add(
        lived.settings, lived.state, person="ann", workflows=["comms"], pay_per_hour=36.0, author="me"
    )
    given = [(NOW, "first", 10.0), (NOW + timedelta(seconds=1), "second", 500.0)]
    said = [
        Annotation(due["label_task_id"], who.annotator, at, "page", label=label, seconds=seconds)
        for at, label, seconds in given
    ]
    assert record(lived.state, tasks.read(lived.lake), said).changed == 1
    found = compare(lived.settings, lived.lake, lived.state, "comms", (DAY, DAY))
    (page,) = (source for source in found.sources if source.source == "page")
    assert (page.answers, page.cost) == (1, pytest.approx(0.1))


def test_where_nothing_was_labelled_nothing_is_compared(home: Home) -> None:
    found = compare(home.settings, home.lake, home.state, "comms", (DAY, DAY))
    assert (found.held_out, found.gold, found.sources) == (0, 0, ())
