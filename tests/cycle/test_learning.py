"""The learning cycle on a real lake, a real database, real MLflow and a real, tiny model."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pyarrow.compute as pc
import pytest

from loop import cycle, schema
from loop.config import Settings
from loop.cycle import versions
from loop.cycle.reading import cutoff_of
from loop.cycle.waiting import PATIENCE
from loop.errors import LoopError
from loop.evaluate import answers, panel
from loop.home import Home, open_home
from loop.label import batches as labelling
from loop.label import outside, tasks
from loop.label.aggregate import partition
from loop.label.annotations import Annotation, record
from loop.lake import from_rows
from loop.release import releases
from loop.services import prepare, session
from loop.train import dataset
from loop.validate import batches, verdicts
from tests.rows import NOON, decision, event, land, ordinary_day

FIRST = NOON.date()
DAYS = [FIRST + timedelta(days=n) for n in range(5)]
pytestmark = pytest.mark.slow


@pytest.fixture
def home(prepared: Settings) -> Home:
    small = prepared.model_copy(
        update={"base_steps": 4, "sft_steps": 3, "dpo_steps": 2, "benchmark_items": 30, "held_out_share": 0.0}
    )
    with session(small) as urls:
        prepare(small, urls)
        with open_home(small) as opened:
            yield opened


def with_held_out(home: Home) -> Home:
    return replace(home, settings=home.settings.model_copy(update={"held_out_share": 0.3}))


def live(home: Home, day: date, count: int = 40) -> None:
    """One day of comms, through the functions that the data assets call."""
    land(home, (event(row, day) for row in ordinary_day(count)), f"{day}.jsonl")
    data(home, day)


def data(home: Home, day: date) -> None:
    batches.build(home.settings, home.lake, home.state, day, "comms")
    verdicts.judge(home.settings, home.lake, home.state, day, "comms")
    labelling.build(home.settings, home.lake, home.state, day, "comms")


def test_what_annotators_say_is_learned_from_in_the_place_of_clicks(home: Home) -> None:
    live(home, FIRST)
    before = cycle.training_set(home, FIRST)
    assert (before.from_annotators, before.replaced) == (0, 0)
    pair = home.lake.read("preferences").filter(pc.field("kind") == "choice").slice(0, 1).to_pylist()[0]
    told = {"day": FIRST, "workflow": "comms", "prompt": pair["prompt"], "batch": pair["batch"], "reason": "random"}
    asked = tasks.task(
        kind=tasks.Kind.PREFERENCE,
        origin=tasks.Origin.DECISION,
        texts=[pair["chosen"], pair["rejected"]],
        event_id=pair["event_id"],
        employee=pair["employee"],
        **told,
    )
    tasks.add(home.lake, home.state, [asked])
    at = pair["received_at"] + timedelta(minutes=1)
    given = [
        Annotation(
            asked["label_task_id"],
            outside.enlist(home.settings, home.state, person=f"annotator {n}", source="page", author="lead"),
            at,
            "page",
            label="second",
            recorded_at=at,
        )
        for n in range(4)
    ]
    assert record(home.state, from_rows([asked], schema.LABEL_TASKS), given).new == 4
    assert partition.build(home.lake, home.state, FIRST, "comms").labelled == 1
    after = cycle.training_set(home, FIRST)
    assert (after.from_annotators, after.replaced, after.annotators_aside) == (1, 1, {})
    assert (after.demonstrations, after.preferences) == (before.demonstrations, before.preferences)
    rows = dataset.load(home.settings.training_sets, after.digest).preferences.to_pylist()
    [judged] = [row for row in rows if row["kind"] == "judged"]
    assert (judged["event_id"], judged["chosen"]) == (pair["event_id"], pair["rejected"])
    both = {pair["chosen"], pair["rejected"]}
    assert [r["kind"] for r in rows if r["event_id"] == pair["event_id"] and {r["chosen"], r["rejected"]} == both] == [
        "judged"
    ]


def test_a_past_cycle_run_again_meets_the_past(home: Home) -> None:
    digests = []
    for day in DAYS:
        live(home, day)
        digests.append(cycle.training_set(home, day).digest)
    assert len(set(digests)) == len(digests)
    again = cycle.training_set(home, DAYS[2])
    assert (again.attempt, again.digest) == (2, digests[2])
    assert again.cutoff == cutoff_of(DAYS[2])


def test_what_was_received_after_the_cut_off_enters_the_next_cycle(home: Home) -> None:
    late = ordinary_day(10)
    for row in late:
        row["received_at"] += timedelta(days=1)
    land(home, [*(event(row) for row in ordinary_day(20, episode_id=None)[10:]), *(event(row) for row in late)])
    data(home, FIRST)
    first = cycle.training_set(home, FIRST)
    second = cycle.training_set(home, DAYS[1])
    assert (first.demonstrations, first.preferences) == (7, 16)
    assert (second.demonstrations, second.preferences) == (14, 32)
    assert (first.fresh, second.fresh) == (7 + 16, 14 + 32), "no champion has learned from any of it"


def test_a_later_revision_replaces_the_earlier_decision_from_its_time_on(home: Home) -> None:
    before = decision(1, "accept", 0, "first")
    after = decision(2, "modify", 0, "changed my mind", suggestion_id="s1")
    after["received_at"] += timedelta(days=1)
    land(home, [event(before), event(after) | {"revises": f"{FIRST}-e1"}])
    data(home, FIRST)

    def taught(day: date) -> list[str]:
        digest = cycle.training_set(home, day).digest
        return dataset.load(home.settings.training_sets, digest).demonstrations["answer"].to_pylist()

    assert taught(FIRST) == ["first"]
    assert taught(DAYS[1]) == ["changed my mind"]


def test_only_the_training_side_is_trained_on(home: Home) -> None:
    home = with_held_out(home)
    land(home, (event(row) for row in ordinary_day(200)))
    data(home, FIRST)
    frozen = dataset.load(home.settings.training_sets, cycle.training_set(home, FIRST).digest)
    held = home.lake.read("demonstrations").to_pylist()
    sides = {row["employee"]: row["split"] for row in held}
    assert set(sides.values()) == {"train", "held_out"}
    assert {sides[who] for who in frozen.demonstrations["employee"].to_pylist()} == {"train"}


def test_a_cycle_ends_in_a_decision_that_stands_everywhere(home: Home) -> None:
    live(home, FIRST)
    prompts = [[{"role": "user", "content": f"benchmark draft {n}"}] for n in range(40)]
    answers.add_items(home.lake, FIRST, "comms", prompts)
    frozen = cycle.training_set(home, FIRST)
    made = cycle.policy(home, FIRST, run_id="run")
    assert (made.reused, made.training_digest, set(made.losses)) == (False, frozen.digest, {"sft", "dpo"})
    base = releases.champion_now(home.state)
    assert made.parent == base

    asked = cycle.comparisons(home, FIRST)
    assert (asked.items, asked.challenger, asked.champion) == ({"comms": 30}, made.version, base)
    rows = home.lake.read("comparisons")
    assert rows.num_rows == 30

    # A panel that always prefers the challenger: the gate has nothing against it but what it measures itself.
    to_ask = {row["comparison_id"] for row in panel.to_ask(rows).to_pylist()}
    given = [
        panel.Answer(row["comparison_id"], "p_panel", panel.Choice(row["challenger_side"]), NOON, 900)
        for row in rows.to_pylist()
        if row["comparison_id"] in to_ask
    ]
    panel.record_answers(home.state, given)
    figures = cycle.evaluation(home, FIRST)
    assert figures.evidence.panel is not None
    decided = cycle.release(home, FIRST, run_id="run")
    assert releases.champion_now(home.state) == (made.version if decided.live else base)
    assert home.registry.champion() == releases.champion_now(home.state)
    run = home.registry.client.get_run(releases.model_version(home.state, made.version).mlflow_run)
    assert run.data.tags["decision"] == decided.decision
    assert run.data.params["training_digest"] == frozen.digest

    # With everybody for it, the challenger is promoted; a rerun of its cycle changes nothing for those who are served.
    assert (decided.decision, decided.live) == ("promoted", True)
    assert cycle.training_set(home, FIRST).attempt == 2
    again = cycle.policy(home, FIRST)
    assert (again.version, again.reused) == (made.version, True)
    cycle.comparisons(home, FIRST)
    assert home.lake.read("comparisons").num_rows == 60, "the answered comparisons of the first attempt are kept"
    cycle.evaluation(home, FIRST)
    rerun = cycle.release(home, FIRST)
    assert (rerun.decision, rerun.live, rerun.reasons[0]) == ("refused", False, "no panel evidence")
    assert releases.champion_now(home.state) == made.version == home.registry.champion()
    tags = home.registry.client.get_run(run.info.run_id).data.tags
    assert (tags["decision"], tags["live"]) == ("promoted", "true")


def test_other_code_makes_another_challenger_which_is_decided_on_its_own_comparisons(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    live(home, FIRST)
    answers.add_items(home.lake, FIRST, "comms", [[{"role": "user", "content": "benchmark draft"}]])
    cycle.training_set(home, FIRST)
    before = cycle.policy(home, FIRST).version
    cycle.comparisons(home, FIRST)
    monkeypatch.setattr(versions, "code", lambda: "another")
    with pytest.raises(LoopError, match=r"has no challenger that this version .*: materialise its policy first"):
        cycle.evaluation(home, FIRST)
    after = cycle.policy(home, FIRST).version
    assert after != before
    # Not asked yet, for its comparisons are still to be made; those of the one before are not its own.
    late = datetime.now(UTC) + PATIENCE * 2
    assert cycle.awaiting_decision(home, now=late) == []
    cycle.comparisons(home, FIRST)
    assert [c.day for c in cycle.awaiting_decision(home, now=late)] == [FIRST]
    cycle.evaluation(home, FIRST)
    assert cycle.release(home, FIRST).challenger == after


def test_without_a_panel_the_challenger_is_refused_and_held_out_people_speak(home: Home) -> None:
    home = with_held_out(home)
    land(home, (event(row) for row in ordinary_day(150)))
    data(home, FIRST)
    cycle.training_set(home, FIRST)
    cycle.policy(home, FIRST)
    cycle.comparisons(home, FIRST)
    [held] = cycle.evaluation(home, FIRST).held_out
    assert held.workflow == "comms"
    assert held.choice_pairs > 0
    decided = cycle.release(home, FIRST)
    assert (decided.decision, decided.live) == ("refused", False)
    assert decided.reasons[0] == "no panel evidence"
    assert {"ads: not measured", "moderation: not measured", "design: not measured"} <= set(decided.reasons)


def test_a_stage_without_the_one_before_it_says_so(home: Home) -> None:
    with pytest.raises(LoopError, match="has no row in training_sets: materialise the assets before it first"):
        cycle.policy(home, FIRST)


def test_sensors_ask_for_a_cycle_and_for_its_decision(home: Home) -> None:
    live(home, FIRST)
    waiting = cycle.new_preferences(home)
    assert (waiting.count > 0, waiting.day) == (True, FIRST)
    cycle.training_set(home, FIRST)
    cycle.policy(home, FIRST)
    cycle.comparisons(home, FIRST)
    assert cycle.new_preferences(home).count == 0
    [ready] = cycle.awaiting_decision(home, now=datetime.now(UTC))  # no benchmark, nobody to ask
    assert (ready.day, ready.attempt) == (FIRST, 1)
    cycle.evaluation(home, FIRST)
    cycle.release(home, FIRST)
    assert cycle.awaiting_decision(home, now=datetime.now(UTC)) == []


def test_rows_that_came_after_the_cut_off_are_counted(home: Home) -> None:
    late = [row | {"received_at": NOON + timedelta(days=3)} for row in ordinary_day(10)]
    land(home, (event(row) for row in late))
    data(home, FIRST)
    frozen = cycle.training_set(home, FIRST)
    assert (frozen.demonstrations, frozen.preferences) == (0, 0)
    assert frozen.received_later == home.lake.read("demonstrations").num_rows + home.lake.read("preferences").num_rows
    with pytest.raises(LoopError, match="received before 2026-01-06 00:00"):
        cycle.policy(home, FIRST)


def test_a_base_made_of_what_was_shown_does_not_serve_its_own_past(home: Home) -> None:
    for day in DAYS[:2]:
        live(home, day)
    cycle.training_set(home, DAYS[1])
    cycle.policy(home, DAYS[1])
    cycle.training_set(home, FIRST)
    with pytest.raises(LoopError, match="would know its future"):
        cycle.policy(home, FIRST)
