"""The side-by-side: blindness, scoring by hand, and conservation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop import schema
from loop.errors import BadInputError
from loop.evaluate import panel
from loop.evaluate.panel import Answer, Choice
from loop.lake import from_rows
from loop.state import State

CYCLE = date(2026, 3, 2)
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
CONFIDENCE = (0.99, 0.9)


def items(**per_workflow: int) -> pa.Table:
    rows = [
        {
            "item_id": f"{workflow}-{i}",
            "day": CYCLE,
            "workflow": workflow,
            "prompt": [{"role": "user", "content": f"{workflow} brief {i}"}],
        }
        for workflow, count in per_workflow.items()
        for i in range(count)
    ]
    return from_rows(rows, schema.BENCHMARK)


def compare(asked: pa.Table, *, same: int = 0, attempt: int = 1, seed: int = 0) -> pa.Table:
    """Comparisons of which the first `same` have identical answers."""
    n = asked.num_rows
    return panel.side_by_side(
        asked,
        cycle=CYCLE,
        attempt=attempt,
        challenger="m2",
        champion="m1",
        challenger_answers=[f"new {i}" if i >= same else "alike" for i in range(n)],
        champion_answers=[f"old {i}" if i >= same else "alike" for i in range(n)],
        seed=seed,
    )


def answer(comparisons: pa.Table, prefer: Callable[[int], str], employees: Sequence[str] = ("e1",)) -> pa.Table:
    """Everyone answers each comparison as `prefer` says by its row: new, old, tie, neither, or '' for no answer."""
    rows = []
    for i, row in enumerate(comparisons.to_pylist()):
        wanted = prefer(i)
        if wanted in {"new", "old"}:
            new_is_left = row["challenger_side"] == "left"
            wanted = "left" if (wanted == "new") == new_is_left else "right"
        rows += [
            {
                "comparison_id": row["comparison_id"],
                "employee": employee,
                "choice": wanted,
                "answered_at": NOON,
                "dwell_ms": None,
            }
            for employee in employees
            if wanted
        ]
    return from_rows(rows, schema.ANSWERS)


def score(comparisons: pa.Table, answers: pa.Table) -> panel.Panel:
    return panel.score(comparisons, answers, seed=0, confidence=CONFIDENCE)


# -- posing ---------------------------------------------------------------------------------------------------------


def test_sides_are_drawn_by_lot_and_repeat_with_the_seed() -> None:
    asked = items(ads=400)
    first, again, other = compare(asked), compare(asked), compare(asked, seed=1)
    assert first.equals(again)
    sides = Counter(first["challenger_side"].to_pylist())
    assert 160 < sides["left"] < 240  # four standard deviations
    agree = sum(
        a == b for a, b in zip(first["challenger_side"].to_pylist(), other["challenger_side"].to_pylist(), strict=False)
    )
    assert 160 < agree < 240, "another seed draws afresh"
    assert first["comparison_id"].equals(other["comparison_id"]), "an id does not depend on the draw"


def test_each_attempt_poses_its_own_questions() -> None:
    asked = items(ads=5)
    ids = {*compare(asked)["comparison_id"].to_pylist(), *compare(asked, attempt=2)["comparison_id"].to_pylist()}
    assert len(ids) == 10


def test_answers_stand_on_the_side_that_the_lot_says() -> None:
    compared = compare(items(ads=50))
    new, old = panel.answers_of_models(compared)
    assert new == [f"new {i}" for i in range(50)]
    assert old == [f"old {i}" for i in range(50)]


def test_the_panel_sees_neither_models_nor_sides_nor_identical_answers() -> None:
    shown = panel.to_ask(compare(items(ads=10, comms=10), same=4))
    assert shown.column_names == ["comparison_id", "workflow", "prompt", "left", "right"]
    assert shown.num_rows == 16
    assert "alike" not in shown["left"].to_pylist()


def test_one_answer_an_item_is_needed() -> None:
    with pytest.raises(AssertionError, match="one answer an item"):
        panel.side_by_side(
            items(ads=2),
            cycle=CYCLE,
            attempt=1,
            challenger="m2",
            champion="m1",
            challenger_answers=["a"],
            champion_answers=["a", "b"],
            seed=0,
        )


# -- scoring --------------------------------------------------------------------------------------------------------


def test_a_panel_by_hand() -> None:
    """10 ads: 2 identical, 5 prefer the new, 2 the old, 1 tie. 4 comms: 2 new, 1 old, 1 neither."""
    compared = compare(items(ads=10, comms=4), same=2)
    choices = {**dict.fromkeys(range(2, 7), "new"), 7: "old", 8: "old", 9: "tie", 10: "new", 11: "new", 12: "old"}
    found = score(compared, answer(compared, lambda i: choices.get(i, "neither" if i >= 10 else "")))
    ads, comms = found.workflows
    assert (ads.workflow, ads.items, ads.identical, ads.wins, ads.losses) == ("ads", 10, 2, 5, 2)
    assert (ads.answered.count, ads.answered.of) == (8, 8)
    assert ads.difference is not None
    assert comms.difference is not None
    assert found.whole is not None
    assert (ads.difference.mean, ads.difference.n) == (pytest.approx(0.3), 10)
    assert (comms.difference.mean, comms.difference.n) == (pytest.approx(0.25), 4)
    assert found.whole.mean == pytest.approx((0.3 + 0.25) / 2)
    assert found.whole.bootstrap is not None
    assert found.whole.bootstrap.confidence == 0.99
    assert ads.difference.bootstrap is not None
    assert ads.difference.bootstrap.confidence == 0.9
    assert (found.answered.count, found.answered.of, found.left.of, found.members) == (12, 12, 10, 1)
    assert found.least_without_one is None


def test_swapping_the_models_turns_the_sign() -> None:
    compared = compare(items(ads=40, design=40))
    rows = compared.to_pylist()
    swapped = from_rows(
        [{**row, "challenger_side": "right" if row["challenger_side"] == "left" else "left"} for row in rows],
        schema.COMPARISONS,
    )
    given_answers = answer(compared, lambda i: ("new", "new", "old", "tie")[i % 4])
    one, two = score(compared, given_answers), score(swapped, given_answers)
    assert one.whole is not None
    assert two.whole is not None
    assert one.whole.mean == pytest.approx(0.25) == -two.whole.mean
    assert (one.workflows[0].wins, one.workflows[0].losses) == (two.workflows[0].losses, two.workflows[0].wins)


def test_a_panel_that_always_says_left_favours_neither_model() -> None:
    compared = compare(items(ads=400))
    found = score(compared, answer(compared, lambda _: "left"))
    assert found.left.value == 1.0
    assert found.whole is not None
    assert found.whole.bootstrap is not None
    assert found.whole.bootstrap.low < 0 < found.whole.bootstrap.high


def test_half_answered_keeps_the_proportion_of_identical_ones() -> None:
    compared = compare(items(ads=20), same=8)
    found = score(compared, answer(compared, lambda i: "new" if 8 <= i < 14 else ""))
    ads = found.workflows[0]
    assert ads.difference is not None
    assert (ads.answered.count, ads.answered.of) == (6, 12)
    assert (ads.difference.mean, ads.difference.n) == (pytest.approx(0.6), 10)  # as 12 of 20 would be


def test_nothing_answered_is_not_measured() -> None:
    compared = compare(items(ads=5), same=1)
    found = score(compared, schema.ANSWERS.empty())
    assert found.whole is None
    assert found.left.value is None
    assert found.workflows[0].difference is None
    assert (found.answered.count, found.answered.of) == (0, 4)


def test_no_items_no_workflow() -> None:
    found = score(schema.COMPARISONS.empty(), schema.ANSWERS.empty())
    assert found == panel.Panel((), None, panel.Share(0, 0), 0, panel.Share(0, 0), None)


def test_all_identical_is_a_tie_without_a_spread() -> None:
    found = score(compare(items(ads=50), same=50), schema.ANSWERS.empty())
    assert found.workflows[0].difference is not None
    assert (found.workflows[0].difference.mean, found.workflows[0].difference.sd) == (0.0, 0.0)
    assert found.workflows[0].answered.value is None


def test_several_members_on_one_item_are_one_item() -> None:
    compared = compare(items(ads=30))
    two = answer(compared, lambda _: "new", ["e1", "e2"])
    against = answer(compared, lambda _: "old", ["e3"])
    found = score(compared, pa.concat_tables([two, against]))
    ads = found.workflows[0]
    assert ads.difference is not None
    assert (ads.difference.n, ads.wins, ads.losses) == (30, 30, 0)
    assert ads.difference.mean == pytest.approx(1 / 3)
    assert found.members == 3
    assert found.least_without_one == pytest.approx(0.0)  # without e1: one for, one against


def test_answers_to_other_questions_and_to_identical_pairs_do_not_count() -> None:
    compared = compare(items(ads=10), same=5)
    stray = answer(compare(items(ads=10), attempt=2), lambda _: "old")
    identical = answer(compared, lambda i: "old" if i < 5 else "")
    found = score(compared, pa.concat_tables([stray, identical]))
    assert found.whole is None
    assert found.members == 0


def test_an_unknown_choice_is_refused_and_not_counted_for_a_side() -> None:
    compared = compare(items(ads=1))
    with pytest.raises(ValueError, match="maybe"):
        score(compared, answer(compared, lambda _: "maybe"))


@settings(max_examples=40, deadline=None)
@given(
    votes=st.lists(st.sampled_from(["new", "old", "tie", "neither", ""]), min_size=1, max_size=40),
    same=st.integers(0, 10),
)
def test_every_item_is_accounted_for(votes: list[str], same: int) -> None:
    compared = compare(items(ads=len(votes) + same), same=same)
    found = panel.score(
        compared, answer(compared, lambda i: votes[i - same] if i >= same else ""), seed=0, confidence=CONFIDENCE
    ).workflows[0]
    counted = Counter(votes)
    assert found.items == found.identical + found.answered.of == len(votes) + same
    assert (found.wins, found.losses) == (counted["new"], counted["old"])
    assert found.answered.count == len(votes) - counted[""]


# -- the table of answers -------------------------------------------------------------------------------------------


def test_naive_times_and_empty_ids_are_refused() -> None:
    with pytest.raises(BadInputError, match="aware time"):
        panel.record_answers(None, [Answer("c", "e", Choice.LEFT, datetime(2026, 3, 2))])  # type: ignore[arg-type]  # noqa: DTZ001
    with pytest.raises(BadInputError, match="comparison and an employee"):
        panel.record_answers(None, [Answer("c", "", Choice.LEFT, NOON)])  # type: ignore[arg-type]


def test_a_first_answer_stands_and_a_second_is_not_new(state: State) -> None:
    compared = compare(items(ads=3, comms=1))
    ids = compared["comparison_id"].to_pylist()
    given_answers = [Answer(i, "e1", Choice.LEFT, NOON, 900) for i in ids]
    assert panel.record_answers(state, given_answers) == 4
    changed = [Answer(ids[0], "e1", Choice.RIGHT, NOON), Answer(ids[0], "e2", Choice.NEITHER, NOON)]
    assert panel.record_answers(state, changed) == 1
    assert panel.record_answers(state, []) == 0
    kept = panel.read_answers(state, compared)
    assert kept.schema.equals(schema.ANSWERS.arrow)
    assert Counter(kept["choice"].to_pylist()) == {"left": 4, "neither": 1}
    assert set(kept["dwell_ms"].to_pylist()) == {900, None}


def test_answers_to_other_comparisons_are_not_read(state: State) -> None:
    first, second = compare(items(ads=2)), compare(items(ads=2), attempt=2)
    panel.record_answers(state, [Answer(i, "e1", Choice.TIE, NOON) for i in first["comparison_id"].to_pylist()])
    assert panel.read_answers(state, second).num_rows == 0
    assert panel.read_answers(state, schema.COMPARISONS.empty()).num_rows == 0
    assert panel.read_answers(state, first).num_rows == 2
