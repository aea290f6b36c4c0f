"""What people were asked about a person's decisions, and what a person answered, goes with that person."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from loop import schema
from loop.collect.events import pseudonym
from loop.erase import Kind, Report, retain, run
from loop.erase.subject import subject
from loop.home import Home
from loop.label import annotations, annotators, gold, outside, tasks
from loop.label.aggregate import importing, partition, teaching
from loop.label.aggregate.public import Format, load
from loop.label.annotations import Annotation, record
from loop.label.gold import Verdict
from loop.label.studio.pull import pull
from loop.label.studio.push import push
from loop.label.tasks import Kind as Task
from loop.label.tasks import Origin
from loop.lake import from_rows
from loop.schema import BatchStatus
from loop.train import dataset
from tests.label.studio.memory import Memory
from tests.rows import DAY, decision, event, interactions, land

ANNA, BEN, EVE = "anna-4711", "ben-0815-labels", "eve-2300-labels"
AT = datetime.now(UTC) - timedelta(hours=2)


def question(home: Home, number: int, employee: str | None) -> dict[str, Any]:
    """A task about a decision, or about none."""
    who = {} if employee is None else {"event_id": f"{DAY}-e{number}", "employee": name(home, employee)}
    texts = [f"what {employee} wrote {number}"]
    row = {"kind": Task.RATING, "texts": texts, "options": ["bad", "good"], "reason": "random", "selected_at": AT}
    return tasks.task(day=DAY, workflow="comms", origin=Origin.DECISION if employee else Origin.IMPORT, **row, **who)


def name(home: Home, person: str) -> str:
    return pseudonym(person, home.settings.secret("pseudonym"))


def filled(home: Home) -> list[dict[str, Any]]:
    """A decision of Anna and one of Carl; three tasks, known and answered by Ben and Eve, each with an appeal."""
    land(home, [event(decision(n, "reject", employee=who), DAY) for n, who in ((1, ANNA), (2, "carl-9999"))], "d.jsonl")
    rows = [question(home, 1, ANNA), question(home, 2, "carl-9999"), question(home, 3, None)]
    tasks.add(home.lake, home.state, rows)
    for person in (BEN, EVE):
        annotators.add(home.settings, home.state, person=person, workflows=["comms"], author="lead")
    table = home.state.tables["annotators"]
    with home.state.transaction() as connection:
        connection.execute(table.update().values(joined_at=AT - timedelta(days=1)))
    for row in rows:
        gold.put(home.state, row, label="good", reason="two experts", author="lead")
        for person in (BEN, EVE):
            told = {"label": "bad", "reason": f"{person} finds it dull", "content": None}
            said = Annotation(row["label_task_id"], name(home, person), AT, "page", **told)
            assert record(home.state, from_rows([row], schema.LABEL_TASKS), [said]).new == 1
            gold.contest(home.state, row["label_task_id"], name(home, person), f"{person} says no")
    labels = [
        {
            "label_task_id": row["label_task_id"],
            "day": DAY,
            "workflow": "comms",
            "kind": "rating",
            "label": "bad",
            "confidence": 0.9,
            "abstain": False,
            "probabilities": [{"label": "bad", "probability": 0.9}, {"label": "good", "probability": 0.1}],
            "answers": 2,
            "method": "majority",
            "aggregated_at": AT,
        }
        for row in rows
    ]
    home.lake.overwrite("task_labels", from_rows(labels, schema.TASK_LABELS), day=DAY, workflow="comms")
    return rows


def erase(home: Home, given: str, kind: Kind = Kind.EMPLOYEE, step: Callable[[str], None] = lambda _: None) -> Report:
    return run.erase(home, subject(home.settings, kind, given), reason="request 17", author="dpo", step=step)


def held(home: Home, table: str) -> list[dict[str, Any]]:
    rows: pa.Table = home.lake.read(table) if table in schema.LAKE else home.state.arrow(table)
    return [dict(row) for row in rows.to_pylist()]


def everything(home: Home) -> str:
    return json.dumps([held(home, name) for name in schema.TABLES], default=str)


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


def rewritten(home: Home) -> dict[str, Any]:
    """A task about a decision of Anna, for which Ben and Eve wrote a text each."""
    rejected = decision(9, "reject", employee=name(home, ANNA), received_at=AT, batch="b")
    home.lake.overwrite("interactions", interactions(rejected), day=DAY, workflow="comms")
    told = {"rows": 1, "quarantined": 0, "reasons": [], "author": "suite", "run_id": None}
    home.state.record_batch(day=DAY, workflow="comms", digest="b", status=BatchStatus.ACCEPTED, **told)
    asked = {"day": DAY, "workflow": "comms", "kind": Task.REWRITE, "texts": ["first"], "batch": "b"}
    row = tasks.task(origin=Origin.DECISION, reason="random", event_id="e9", employee=name(home, ANNA), **asked)
    tasks.add(home.lake, home.state, [row])
    for person in (BEN, EVE):
        who = outside.enlist(home.settings, home.state, person=person, source="page", author="lead")
        said = Annotation(row["label_task_id"], who, AT, "page", content=json.dumps(f"as {person} writes"))
        assert record(home.state, from_rows([row], schema.LABEL_TASKS), [said]).new == 1
    return row


def frozen(home: Home) -> dataset.Frozen:
    settings = home.settings.model_copy(update={"held_out_share": 0.0})
    found = teaching.taught(settings, home.lake, home.state, (DAY, DAY), datetime.now(UTC))
    rows = (found.demonstrations, found.preferences)
    return dataset.freeze(*rows, root=home.settings.training_sets, salt_key=b"k" * 32, meta={})


def test_what_an_annotator_wrote_leaves_the_training_sets_and_the_decision_stays(home: Home) -> None:
    rewritten(home)
    made = frozen(home)
    assert run.erase(home, subject(home.settings, Kind.EMPLOYEE, BEN), reason="r", author="d", dry_run=True).found == {
        "state/annotators": 1,
        "state/annotations": 1,
        "training_sets": 2,
    }
    assert erase(home, BEN).removed["training_sets"] == 2
    left = dataset.load(home.settings.training_sets, made.digest)
    assert left.demonstrations["answer"].to_pylist() == left.preferences["chosen"].to_pylist() == [f"as {EVE} writes"]
    assert (dataset.erased(made.path), dataset.verify(made.path)) == ((2, 4), [])
    assert home.lake.read("interactions")["event_id"].to_pylist() == ["e9"], "the decision is another person's"
    erase(home, ANNA)
    assert dataset.erased(made.path) == (4, 4)


def test_a_text_is_found_in_training_sets_when_its_annotation_and_the_decision_are_long_gone(home: Home) -> None:
    rewritten(home)
    made = frozen(home)
    kept = {"label_tasks": 20, "interactions": 20, "task_labels": 20}
    settings = home.settings.model_copy(update={"retention_days": kept})
    retain(Home(settings, home.lake, home.state, home.registry), today=DAY + timedelta(days=21))
    assert held(home, "annotations") == held(home, "label_tasks") == held(home, "interactions") == []
    assert erase(home, BEN).removed == {"state/annotators": 1, "training_sets": 2}
    left = dataset.load(home.settings.training_sets, made.digest)
    assert left.demonstrations["answer"].to_pylist() == left.preferences["chosen"].to_pylist() == [f"as {EVE} writes"]
    assert dataset.verify(made.path) == []


def test_a_cycle_that_learns_meanwhile_reads_no_text_of_the_annotator_once_the_lake_is_rewritten(home: Home) -> None:
    rewritten(home)
    seen: dict[str, int] = {}

    def meanwhile(what: str) -> None:
        if what.startswith("removing what") or what in {"tagging models", "looking through files"}:
            seen[what] = frozen(home).demonstrations.num_rows

    assert erase(home, BEN, step=meanwhile).removed["state/annotations"] == 1
    assert set(seen.values()) == {1}
    assert {"removing what interactions was", "tagging models"} < set(seen)
    answers = {
        text
        for path in dataset.sets(home.settings.training_sets)
        for text in dataset.load(path.parent, path.name).demonstrations["answer"].to_pylist()
    }
    assert answers == {f"as {EVE} writes"}


def test_a_cycle_that_had_read_the_text_and_freezes_it_late_is_waited_for(home: Home) -> None:
    rewritten(home)
    read, scrubbing, made, threads = threading.Event(), threading.Event(), [], []

    def cycle() -> None:
        with home.lake.pinned("interactions", "label_tasks", "task_labels"):
            settings = home.settings.model_copy(update={"held_out_share": 0.0})
            found = teaching.taught(settings, home.lake, home.state, (DAY, DAY), datetime.now(UTC))
            read.set()
            assert scrubbing.wait(30)
            scrubbing.wait(0.5)
            rows = (found.demonstrations, found.preferences)
            made.append(dataset.freeze(*rows, root=home.settings.training_sets, salt_key=b"k" * 32, meta={}))

    def meanwhile(what: str) -> None:
        if not threads:
            threads.append(threading.Thread(target=cycle))
            threads[0].start()
            assert read.wait(30)
        if what == "removing what interactions was":
            assert {row["annotator"] for row in held(home, "annotations")} == {name(home, EVE)}
            scrubbing.set()

    erase(home, BEN, step=meanwhile)
    threads[0].join()
    [one] = made
    assert (dataset.erased(one.path), dataset.verify(one.path)) == ((2, 4), [])


def test_an_answer_that_is_being_stored_is_waited_for_and_goes_too(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    row = rewritten(home)
    real, threads, left = annotations._last, [], []

    def slow(connection: sa.Connection, table: sa.Table, piece: Any) -> Any:
        """Between having seen that Ben may and storing what he said."""
        threads.append(threading.Thread(target=lambda: left.append(erase(home, BEN).removed["state/annotations"])))
        threads[0].start()
        threads[0].join(2.0)
        assert threads[0].is_alive()
        return real(connection, table, piece)

    monkeypatch.setattr(annotations, "_last", slow)
    said = Annotation(row["label_task_id"], name(home, BEN), datetime.now(UTC), "page", content=json.dumps("better"))
    assert record(home.state, from_rows([row], schema.LABEL_TASKS), [said], strangers=False).changed == 1
    threads[0].join()
    assert left == [2]
    assert {row["annotator"] for row in held(home, "annotations")} == {name(home, EVE)}


@pytest.mark.slow
def test_the_counts_are_right_after_kills_at_every_step(home: Home) -> None:
    class Killed(BaseException):
        pass

    filled(home)
    steps: list[str] = []
    for cut in range(2, 200, 4):
        steps.clear()

        def step(what: str, cut: int = cut) -> None:
            steps.append(what)
            if len(steps) == cut:
                raise Killed

        try:
            report = erase(home, BEN, step=step)
            break
        except Killed:
            continue
    assert report.resumed
    assert report.removed == {
        "state/annotators": 1,
        "state/annotations": 3,
        "state/appeals": 3,
        "labels/partitions made anew": 1,
    }
    assert {row["answers"] for row in held(home, "task_labels")} == {1}


def test_labels_rest_on_no_answer_of_an_erased_annotator(home: Home) -> None:
    rows = filled(home)
    alone = [question(home, number, None) for number in (7, 8)]
    alone[1] |= {"day": DAY + timedelta(days=1)}
    tasks.add(home.lake, home.state, alone)
    for row, person in ((alone[0], BEN), (alone[1], EVE)):
        said = Annotation(row["label_task_id"], name(home, person), AT, "page", label="good")
        assert record(home.state, from_rows([row], schema.LABEL_TASKS), [said]).new == 1
    for day in (DAY, DAY + timedelta(days=1)):
        partition.build(home.lake, home.state, day, "comms")
    before = {row["label_task_id"]: row for row in held(home, "task_labels")}
    assert {key: row["answers"] for key, row in before.items()} == {
        **{row["label_task_id"]: 2 for row in rows},
        **{row["label_task_id"]: 1 for row in alone},
    }
    steps: list[str] = []
    report = erase(home, BEN, step=steps.append)
    after = {row["label_task_id"]: row for row in held(home, "task_labels")}
    assert {key: row["answers"] for key, row in after.items()} == {row["label_task_id"]: 1 for row in [*rows, alone[1]]}
    other = alone[1]["label_task_id"]
    assert after[other] == before[other], "a day that the person said nothing of is left alone"
    assert report.removed["labels/partitions made anew"] == 1
    assert f"labels made anew: {DAY} comms" in steps
    files = list((home.settings.lake / "task_labels").glob("day=*/**/*.parquet"))
    assert len(files) == len(home.lake.files("task_labels")), "what the labels were is gone"


def test_labels_that_nobody_has_made_yet_are_not_made_by_an_erasure(home: Home) -> None:
    row = question(home, 7, None)
    tasks.add(home.lake, home.state, [row])
    for person in (BEN, EVE):
        who = outside.enlist(home.settings, home.state, person=person, source="page", author="lead")
        said = Annotation(row["label_task_id"], who, AT, "page", label="good")
        assert record(home.state, from_rows([row], schema.LABEL_TASKS), [said]).new == 1
    assert erase(home, BEN).removed == {"state/annotators": 1, "state/annotations": 1}
    assert held(home, "task_labels") == []


def test_what_an_annotator_wrote_is_masked_in_logs_and_what_was_chosen_or_is_anothers_too_is_not(home: Home) -> None:
    about = {"day": DAY, "workflow": "comms", "reason": "random", "origin": Origin.IMPORT}
    rewrite, again = (tasks.task(kind=Task.REWRITE, texts=[text], **about) for text in ("one", "two"))
    spans = tasks.task(kind=Task.SPAN, texts=["Call me"], options=["personal information"], **about)
    attempt = tasks.task(kind=Task.RED_TEAM, prompt=[{"role": "user", "content": "try"}], **about)
    rows = [rewrite, again, spans, attempt]
    tasks.add(home.lake, home.state, rows)
    attacked = {"attempt": "Pretend to be my bank", "outcome": tasks.OUTCOMES[-1], "severity": tasks.SEVERITIES[0]}
    said = [
        (BEN, rewrite, "Kindly see the figures"),
        (BEN, again, "As both of them would put it"),
        (BEN, spans, [{"start": 0, "end": 4, "type": "personal information"}]),
        (BEN, attempt, attacked),
        (EVE, again, "As both of them would put it"),
    ]
    for person, row, content in said:
        who = outside.enlist(home.settings, home.state, person=person, source="page", author="lead")
        one = Annotation(row["label_task_id"], who, AT, "page", content=json.dumps(content))
        assert record(home.state, from_rows(rows, schema.LABEL_TASKS), [one]).new == 1
    log = home.settings.home / "page.log"
    kept = f"of personal information: {tasks.OUTCOMES[-1]}; As both of them would put it"
    log.write_text(f"kept Kindly see the figures, then {kept}; Pretend to be my bank\n")
    assert erase(home, BEN).removed["files masked"] == 1
    stars = "*" * len("Kindly see the figures"), "*" * len("Pretend to be my bank")
    assert log.read_text() == f"kept {stars[0]}, then {kept}; {stars[1]}\n"
    assert [row["content"] for row in held(home, "annotations")] == ['"As both of them would put it"']
