"""The label tasks of a day: the same however often it is run, none lost, every decision accounted for."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from loop.home import Home
from loop.label import batches as labels
from loop.label import tasks
from loop.label.derive import split_of
from loop.label.select import tasks_of_day
from loop.label.select.tasks_of_day import Selected
from loop.schema import BatchStatus, Split
from loop.validate import batches, signal_days
from tests.rows import DAY, decision, event, land, ordinary_day

WORDS = [
    f"{a} {b}" for a in ("budget", "parking", "travel", "lunch", "hiring") for b in ("note", "plan", "draft", "call")
]


def varied(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """A believable day on which hardly two prompts are alike."""
    rows = ordinary_day(count)
    for n, row in enumerate(rows):
        parts = [WORDS[(n * 7 + k * (seed + 3) + n // 20) % len(WORDS)] for k in range(4)]
        row["prompt"] = [{"role": "user", "content": f"{' '.join(parts)} number {n} of {seed}"}]
    return rows


def lived(home: Home, rows: list[dict[str, Any]], day: date = DAY, name: str = "test.jsonl") -> None:
    """A day through the stages before selection."""
    land(home, [event(row, day) for row in rows], name)
    batch = batches.build(home.settings, home.lake, home.state, day, "comms")
    accepted = {"status": BatchStatus.ACCEPTED, "quarantined": 0, "reasons": [], "author": "test", "run_id": None}
    home.state.record_batch(day=day, workflow="comms", digest=batch.digest, rows=batch.rows, **accepted)
    signal_days.build(home.lake, home.state, day, "comms")
    labels.build(home.settings, home.lake, home.state, day, "comms")


def select(home: Home, day: date = DAY, **other: Any) -> Selected:
    settings = home.settings.model_copy(update={"label_budget": 20, **other})
    return tasks_of_day.build(settings, home.lake, home.state, day, "comms")


def there(home: Home) -> pa.Table:
    return home.lake.read("label_tasks").sort_by("label_task_id")


def test_a_day_is_chosen_once_however_often_it_is_run(home: Home) -> None:
    lived(home, varied(200))
    first = select(home)
    assert (first.interactions, first.asked, first.standing) == (200, 20, 0)
    assert first.asked + first.left + first.set_aside.total() == 200
    rows = there(home)
    again = select(home)
    assert (again.asked, again.standing) == (0, 20)
    assert again.set_aside["asked before"] >= 20
    assert again.left + again.set_aside.total() == 200
    assert there(home).equals(rows)
    home.lake.overwrite("label_tasks", rows.slice(0, 0), day=DAY, workflow="comms")
    select(home)
    assert there(home).drop_columns(["selected_at"]).equals(rows.drop_columns(["selected_at"]))


def test_tasks_carry_where_they_come_from_and_with_which_chance(home: Home) -> None:
    lived(home, varied(200))
    told = select(home)
    [batch] = home.state.batches(DAY, DAY)
    of = {row["event_id"]: row for row in home.lake.read("interactions").to_pylist()}
    for row in there(home).to_pylist():
        source = of[row["event_id"]]
        assert (row["employee"], row["batch"], row["reason"]) == (source["employee"], batch["digest"], "random")
        assert row["propensity"] == pytest.approx(20 / (20 + told.left))
        assert row["prompt"] == source["prompt"]
        assert row["kind"] in {"preference", "rewrite"}


def test_a_late_decision_makes_another_batch_and_takes_no_task_away(home: Home) -> None:
    lived(home, varied(200))
    select(home, label_budget=10)
    before = there(home)
    late = [row | {"event_id": f"l{n}", "suggestion_id": f"sl{n}"} for n, row in enumerate(varied(40, 1))]
    lived(home, late, name="late.jsonl")
    told = select(home, label_budget=15)
    assert (told.standing, told.asked) == (10, 5)
    after = there(home)
    assert set(before["label_task_id"].to_pylist()) < set(after["label_task_id"].to_pylist())
    [batch] = home.state.batches(DAY, DAY)
    assert after["batch"].unique().to_pylist() == [batch["digest"]]
    assert before["batch"].unique().to_pylist() != [batch["digest"]]


def test_a_rerun_draws_afresh_from_what_was_left(home: Home) -> None:
    """Those left over all have high draws: beside late decisions, drawn by the same hash, they would have no chance."""
    lived(home, varied(200))
    select(home, label_budget=40)
    at_once = set(there(home)["label_task_id"].to_pylist())
    home.lake.overwrite("label_tasks", there(home).slice(0, 0), day=DAY, workflow="comms")
    select(home)
    first = set(there(home)["label_task_id"].to_pylist())
    told = select(home, label_budget=40)
    both = set(there(home)["label_task_id"].to_pylist())
    assert (told.standing, told.asked) == (20, 20)
    assert first < at_once
    assert first < both
    assert both != at_once


def test_tasks_of_others_stand_beside_and_count_for_nothing(home: Home) -> None:
    lived(home, varied(100))
    own = tasks.task(
        day=DAY, workflow="comms", kind=tasks.Kind.REWRITE, origin=tasks.Origin.IMPORT, reason="gold", texts=["a text"]
    )
    tasks.add(home.lake, home.state, [own])
    told = select(home)
    assert (told.asked, told.standing) == (20, 0)
    assert own["label_task_id"] in there(home)["label_task_id"].to_pylist()


def test_nothing_is_asked_of_a_batch_that_is_not_accepted(home: Home) -> None:
    land(home, [event(row) for row in varied(50)])
    batches.build(home.settings, home.lake, home.state, DAY, "comms")
    told = select(home)
    assert (told.asked, dict(told.set_aside)) == (0, {"the batch is not accepted": 50})


def test_near_duplicates_are_asked_once_on_a_day_and_on_later_ones(home: Home) -> None:
    text = "Dear all, the parking lot is closed on Monday, please take the train. Regards"
    asked = "write to everybody about the parking lot that is closed, take"
    same = [
        decision(
            n, "modify", 0, text, prompt=[{"role": "user", "content": f"{asked} {n}"}], employee=f"person {n % 30}"
        )
        for n in range(300, 310)
    ]
    lived(home, [*varied(100), *same])
    told = select(home, label_budget=200)
    assert told.set_aside["near-duplicate"] >= 9
    about = [m[0]["content"] for m in there(home)["prompt"].to_pylist() if "everybody" in m[0]["content"]]
    assert len(about) == 1
    lived(home, [*varied(100, 5), *same], DAY + timedelta(days=1), "next.jsonl")
    later = select(home, DAY + timedelta(days=1), label_budget=200)
    assert later.set_aside["asked before"] >= 10


def test_the_held_out_are_asked_about_for_evaluation_and_at_random_alone(home: Home) -> None:
    lived(home, varied(300))
    lived(home, varied(300, 3), DAY + timedelta(days=1), "next.jsonl")
    select(home, held_out_share=0.4)
    told = select(home, DAY + timedelta(days=1), acquisition="mixed", label_budget=60, held_out_share=0.4)
    assert told.learned_from >= 100
    assert set(told.reasons) > {"random"}
    held = 0
    for row in there(home).to_pylist():
        side = split_of(row["employee"], 0.4, home.settings.seed)
        assert (row["origin"] == "benchmark") == (side is Split.HELD_OUT)
        if side is Split.HELD_OUT:
            held += 1
            assert row["reason"] == "random"
    assert held


def test_reasons_are_recorded_and_what_they_took_was_sure(home: Home) -> None:
    lived(home, varied(200))
    select(home)
    lived(home, varied(200, 3), DAY + timedelta(days=1), "next.jsonl")
    told = select(home, DAY + timedelta(days=1), acquisition="novelty", label_exploration=0.5)
    assert told.reasons == {"novelty": 10, "random": 10}
    rows = there(home)
    sure = rows.filter(pc.equal(rows["reason"], "novelty"))
    assert sure["propensity"].to_pylist() == [1.0] * 10


def test_a_day_without_anything_asks_nothing(home: Home) -> None:
    told = select(home)
    assert told == Selected()
    assert told.told()["interactions"] == 0
