"""What people were asked about a person's decisions, and what a person answered, goes with that person."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from loop.erase import Kind, retain
from loop.home import Home
from loop.label import gold, outside, tasks
from loop.label.aggregate import importing
from loop.label.aggregate.public import Format, load
from loop.label.gold import Verdict
from loop.label.studio.pull import pull
from loop.label.studio.push import push
from tests.erase.labelled import ANNA, BEN, EVE, erase, everything, filled, held, name, question
from tests.label.studio.memory import Memory
from tests.rows import DAY


def test_the_author_of_a_decision_takes_along_what_was_asked_and_answered_about_it(home: Home) -> None:
    rows = filled(home)
    report = erase(home, ANNA)
    counts = {store: n for store, n in report.removed.items() if "label" in store or "state" in store}
    assert counts == {
        "lake/label_tasks": 1,
        "lake/task_labels": 1,
        "state/annotations": 2,
        "state/gold": 1,
        "state/appeals": 2,
    }
    left = {row["label_task_id"] for row in rows[1:]}
    for table, of in (("label_tasks", 2), ("task_labels", 2), ("annotations", 4), ("gold", 2), ("appeals", 4)):
        assert len(held(home, table)) == of, table
        assert {row["label_task_id"] for row in held(home, table)} == left
    assert len(held(home, "annotators")) == 2
    assert rows[0]["label_task_id"] not in everything(home)
    assert f"what {ANNA} wrote" not in everything(home)


def test_one_interaction_takes_along_its_task_alone(home: Home) -> None:
    rows = filled(home)
    erase(home, f"{DAY}-e2", Kind.INTERACTION)
    assert {row["label_task_id"] for row in held(home, "annotations")} == {
        rows[0]["label_task_id"],
        rows[2]["label_task_id"],
    }


def test_a_person_who_labelled_takes_along_answers_appeals_and_the_way_in(home: Home) -> None:
    filled(home)
    first = held(home, "appeals")[0]["appeal_id"]
    gold.decide(home.state, first, Verdict.DISMISSED, answer=f"Dear {EVE}, as you and {BEN} know: no.", author="lead")
    report = erase(home, BEN)
    counts = {store: n for store, n in report.removed.items() if store.startswith("state/")}
    assert counts == {"state/annotators": 1, "state/annotations": 3, "state/appeals": 3}
    assert {row["annotator"] for table in ("annotators", "annotations", "appeals") for row in held(home, table)} == {
        name(home, EVE)
    }
    assert len(held(home, "label_tasks")) == 3, "what was asked is nobody's"
    assert len(held(home, "gold")) == 3
    text = everything(home)
    assert BEN not in text
    assert name(home, BEN) not in text
    assert f"{EVE} finds it dull" in text


def test_a_task_that_outlived_its_decision_is_known_by_its_author(home: Home) -> None:
    rows = filled(home)
    row = question(home, 70, ANNA)  # of a decision that nothing else has
    tasks.add(home.lake, home.state, [row])
    assert erase(home, ANNA).removed["lake/label_tasks"] == 2
    assert {r["label_task_id"] for r in held(home, "label_tasks")} == {r["label_task_id"] for r in rows[1:]}


def test_what_is_older_than_it_may_be_kept_takes_along_what_was_said_of_it(home: Home) -> None:
    rows = filled(home)
    later = {**rows[2], "day": DAY + timedelta(days=30), "label_task_id": "f" * 32}
    tasks.add(home.lake, home.state, [later])
    gold.put(home.state, later, label="good", reason="experts", author="lead")
    settings = home.settings.model_copy(update={"retention_days": {"label_tasks": 20}})
    other = Home(settings, home.lake, home.state, home.registry)
    assert retain(other, today=DAY + timedelta(days=31))["label_tasks"] == 1
    assert [row["label_task_id"] for row in held(home, "label_tasks")] == ["f" * 32]
    assert [row["label_task_id"] for row in held(home, "gold")] == ["f" * 32]
    assert held(home, "annotations") == held(home, "appeals") == []
    assert len(held(home, "annotators")) == 2


def test_who_was_erased_does_not_come_back_from_a_label_studio_that_has_the_answers_still(home: Home) -> None:
    there = Memory()
    there.people = {1: BEN, 2: EVE}
    tasks.add(home.lake, home.state, [question(home, 5, None)])
    push(home.settings, home.lake, home.state, there, now=datetime.now(UTC))
    ((task,),) = there.held.values()
    for person in (1, 2):
        outside.enlist(home.settings, home.state, person=there.people[person], source="studio", author="lead")
        there.answer(task, person, datetime.now(UTC), choices=["bad"])
    assert pull(home.settings, home.lake, home.state, there).recorded.new == 2
    assert erase(home, BEN).removed["state/annotations"] == 1
    for _ in range(2):
        again = pull(home.settings, home.lake, home.state, there, whole=True)
        assert (again.answers, again.set_aside, again.recorded.repeated) == (2, {"erased": 1}, 1)
    assert [row["annotator"] for row in held(home, "annotations")] == [name(home, EVE)]
    outside.enlist(home.settings, home.state, person=BEN, source="studio", author="lead")  # asked in anew
    assert pull(home.settings, home.lake, home.state, there, whole=True).set_aside == {"erased": 1}
    there.answer(task, 1, datetime.now(UTC), choices=["good"])
    fresh = pull(home.settings, home.lake, home.state, there, whole=True)
    assert (fresh.recorded.new, fresh.older, +fresh.recorded.uncounted) == (1, 1, {})


def test_who_was_erased_does_not_come_back_with_the_old_file(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    path.write_text(f"worker,task,label\n{BEN},t1,bad\n{EVE},t1,good\n{BEN},t2,good\n")
    told = {"day": DAY, "workflow": "comms", "options": ["bad", "good"], "author": "lead"}
    for new, refused in ((3, {}), (0, {"erased": 2})):
        done = importing.store(home.settings, home.lake, home.state, load(path, Format.ANSWERS), **told)
        assert (done.new, done.refused, done.rows) == (new, refused, 3)
        assert [line for line, why in done.problems if why == "erased"] == ([2, 4] if refused else [])
        if not refused:
            erase(home, BEN)
    assert {row["annotator"] for row in [*held(home, "annotators"), *held(home, "annotations")]} == {name(home, EVE)}
