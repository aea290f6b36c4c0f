"""What an annotator wrote or chose goes with that person: from training sets, labels and logs, also meanwhile."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from loop import schema
from loop.erase import Kind, retain, run
from loop.erase.subject import subject
from loop.home import Home
from loop.label import annotations, outside, tasks
from loop.label.aggregate import partition, teaching
from loop.label.annotations import Annotation, record
from loop.label.tasks import Kind as Task
from loop.label.tasks import Origin
from loop.lake import from_rows
from loop.schema import BatchStatus
from loop.train import dataset
from tests.erase.labelled import ANNA, AT, BEN, EVE, erase, filled, held, name, question
from tests.rows import DAY, decision, interactions


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
