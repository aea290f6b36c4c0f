from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from assets.partitions import batch_key
from jobs import sensors
from jobs.definitions import defs
from loop.home import Home
from loop.label import annotations, outside, tasks
from loop.label.aggregate import partition
from loop.label.annotations import Annotation
from loop.label.tasks import Kind, Origin

DAY = date(2026, 1, 5)


def test_the_answers_to_a_days_questions_become_soft_labels_and_the_rest_is_counted(home: Home) -> None:
    asked = [
        tasks.task(
            day=DAY,
            workflow="ads",
            kind=Kind.PREFERENCE,
            origin=Origin.IMPORT,
            reason="import",
            texts=[f"a{n}", f"b{n}"],
        )
        for n in range(3)
    ]
    asked.append(
        tasks.task(day=DAY, workflow="ads", kind=Kind.REWRITE, origin=Origin.IMPORT, reason="import", texts=["c"])
    )
    tasks.add(home.lake, home.state, asked)
    people = [
        outside.enlist(home.settings, home.state, person=f"w{n}", source="import", author="test") for n in range(3)
    ]
    at = datetime(2026, 1, 6, tzinfo=UTC)
    said = {0: "first first first", 1: "first second tie"}
    given = [
        Annotation(asked[n]["label_task_id"], person, answered_at=at, source="import", label=label)
        for n, labels in said.items()
        for person, label in zip(people, labels.split(), strict=True)
    ]
    annotations.record(home.state, tasks.read(home.lake), given)
    with dg.DagsterInstance.ephemeral() as instance:
        job = defs.resolve_job_def("aggregate_answers")
        result = job.execute_in_process(partition_key=str(batch_key(DAY, "ads")), instance=instance)
    (event,) = result.get_asset_materialization_events()
    told = {name: value.value for name, value in event.materialization.metadata.items()}
    assert (told["dagster/row_count"], told["tasks"], told["answers"]) == (2, 4, 6)
    assert told["set aside/not answered"] == 1
    assert told["set aside/answered with content, which is not aggregated"] == 1
    rows = {row["label_task_id"]: row for row in home.lake.read("task_labels").to_pylist()}
    agreed, divided = (rows[asked[n]["label_task_id"]] for n in (0, 1))
    assert agreed["label"] == "first"
    assert (divided["abstain"], told["waiting for adjudication"]) == (True, 1 + agreed["abstain"])
    assert [pair["label"] for pair in divided["probabilities"]] == ["first", "second", "tie", "neither"]


def test_answers_are_aggregated_once_there_are_more_of_them(home: Home) -> None:
    today = datetime.now(UTC).date()
    made = {"day": today, "workflow": "ads", "kind": Kind.PREFERENCE, "origin": Origin.IMPORT, "reason": "import"}
    asked = tasks.task(**made, texts=["a", "b"])
    tasks.add(home.lake, home.state, [asked])

    def say(person: str) -> None:
        who = outside.enlist(home.settings, home.state, person=person, source="import", author="test")
        told = Annotation(asked["label_task_id"], who, answered_at=datetime.now(UTC), source="import", label="first")
        annotations.record(home.state, tasks.read(home.lake), [told])

    job, key = defs.resolve_job_def("aggregate_answers"), batch_key(today, "ads")
    with dg.DagsterInstance.ephemeral() as instance:

        def look(cursor: str | None) -> dg.SensorResult | dg.SkipReason:
            return sensors.tasks_answered(dg.build_sensor_context(instance, cursor))  # type: ignore[return-value]

        assert isinstance(look(None), dg.SkipReason)
        say("w1")
        first = look(None)
        assert isinstance(first, dg.SensorResult)
        assert [request.partition_key for request in first.run_requests or ()] == [str(key)]
        assert job.execute_in_process(partition_key=key, instance=instance).success
        assert isinstance(look(first.cursor), dg.SkipReason)
        say("w2")
        second = look(first.cursor)
        assert isinstance(second, dg.SensorResult)
    keys = [request.run_key for told in (first, second) for request in told.run_requests or ()]
    assert len(set(keys)) == 2


def test_what_was_cancelled_or_never_began_is_asked_for_again_once_an_hour(home: Home) -> None:
    today = datetime.now(UTC).date()
    made = {"day": today, "workflow": "ads", "kind": Kind.PREFERENCE, "origin": Origin.IMPORT, "reason": "import"}
    asked = tasks.task(**made, texts=["a", "b"])
    tasks.add(home.lake, home.state, [asked])
    who = outside.enlist(home.settings, home.state, person="w", source="import", author="test")
    said = {"answered_at": datetime.now(UTC), "source": "import", "label": "first"}
    annotations.record(home.state, tasks.read(home.lake), [Annotation(asked["label_task_id"], who, **said)])
    key = batch_key(today, "ads")
    job = defs.resolve_job_def("aggregate_answers")
    with dg.DagsterInstance.ephemeral() as instance:

        def look(cursor: str | None) -> list[str | None]:
            told = sensors.tasks_answered(dg.build_sensor_context(instance, cursor))
            return [request.run_key for request in told.run_requests or ()] if isinstance(told, dg.SensorResult) else []

        def begun() -> dg.DagsterRun:
            return instance.create_run_for_job(job, tags={"dagster/partition": key}, status=dg.DagsterRunStatus.STARTED)

        first = sensors.tasks_answered(dg.build_sensor_context(instance))
        assert isinstance(first, dg.SensorResult)
        (once,), (twice,) = look(first.cursor), look(first.cursor)  # its run never began
        assert once not in {None, (first.run_requests or ())[0].run_key}
        assert (once or "")[:-2] == (twice or "")[:-2]
        run = begun()
        assert look(first.cursor) == []  # it is under way
        instance.report_run_canceled(run)
        assert look(first.cursor)
        assert job.execute_in_process(partition_key=key, instance=instance).success
        assert look(first.cursor) == []
        again = begun()  # of more answers, and what was made of the fewer does not hide that it came to nothing
        instance.report_run_canceled(again)
        assert look(first.cursor)
        assert job.execute_in_process(partition_key=key, instance=instance).success
        assert look(first.cursor) == []


def test_what_failed_is_asked_for_again_and_a_day_to_come_waits(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    today = datetime.now(UTC).date()
    made = {"workflow": "ads", "kind": Kind.PREFERENCE, "origin": Origin.IMPORT, "reason": "import"}
    asked = [tasks.task(**made, day=today + timedelta(days=n), texts=["a", "b"]) for n in (0, 3)]
    tasks.add(home.lake, home.state, asked)
    who = outside.enlist(home.settings, home.state, person="w", source="import", author="test")
    said = {"answered_at": datetime.now(UTC), "source": "import", "label": "first"}
    given = [Annotation(row["label_task_id"], who, **said) for row in asked]
    annotations.record(home.state, tasks.read(home.lake), given)
    key = batch_key(today, "ads")
    job = defs.resolve_job_def("aggregate_answers")
    with dg.DagsterInstance.ephemeral() as instance:

        def look(cursor: str | None) -> dg.SensorResult | dg.SkipReason:
            return sensors.tasks_answered(dg.build_sensor_context(instance, cursor))  # type: ignore[return-value]

        first = look(None)
        assert isinstance(first, dg.SensorResult)
        assert [request.partition_key for request in first.run_requests or ()] == [str(key)]  # not the day to come
        with monkeypatch.context() as broken:
            broken.setattr(partition, "build", lambda *_: 1 / 0)
            assert not job.execute_in_process(partition_key=key, instance=instance, raise_on_error=False).success
        again, soon = look(first.cursor), look(first.cursor)
        assert isinstance(again, dg.SensorResult)
        assert isinstance(soon, dg.SensorResult)
        (once,), (twice,) = again.run_requests or (), soon.run_requests or ()
        assert once.partition_key == str(key)
        assert once.run_key != (first.run_requests or ())[0].run_key
        assert (once.run_key or "")[:-2] == (twice.run_key or "")[:-2]  # the hour alone differs: once an hour
        assert job.execute_in_process(partition_key=key, instance=instance).success
        assert isinstance(look(first.cursor), dg.SkipReason)


def test_only_what_ended_without_its_labels_is_asked_for_again_and_not_what_waits_or_runs(home: Home) -> None:
    asked, say = answering(home)
    say("w")
    key = batch_key(asked["day"], "ads")
    job = defs.resolve_job_def("aggregate_answers")
    with dg.DagsterInstance.ephemeral() as instance:
        cursor = requested(instance, None)[1]
        run = instance.create_run_for_job(job, tags={"dagster/partition": key}, status=dg.DagsterRunStatus.STARTING)
        assert requested(instance, cursor)[0] == []  # it is about to begin
        say("v")
        assert requested(instance, cursor)[0] == []  # and reads that too
        instance.report_run_canceled(run)
        assert len(requested(instance, cursor)[0]) == 1
        assert requested(instance, None)[0] != []


def test_answers_that_go_and_come_are_others_also_where_they_are_as_many(home: Home) -> None:
    asked, say = answering(home)
    say("w")
    key, job = str(batch_key(asked["day"], "ads")), defs.resolve_job_def("aggregate_answers")
    said = home.state.tables["annotations"]
    with dg.DagsterInstance.ephemeral() as instance:

        def aggregated(cursor: str | None) -> str:
            (run_key,), cursor = requested(instance, cursor)
            assert job.execute_in_process(partition_key=key, instance=instance).success
            assert requested(instance, cursor)[0] == []
            known.append(run_key)
            return cursor

        known: list[str | None] = []
        cursor = aggregated(None)
        with home.state.transaction() as connection:
            rows = [dict(row) for row in connection.execute(said.select()).mappings()]
            connection.execute(said.delete())
        say("v")  # as many as before
        cursor = aggregated(cursor)
        with home.state.transaction() as connection:
            connection.execute(said.delete())
        cursor = aggregated(cursor)  # none are left, and no labels
        assert home.lake.read("task_labels").num_rows == 0
        with home.state.transaction() as connection:
            connection.execute(said.insert().values(rows))  # the very same as at first
        aggregated(cursor)
    assert len(set(known)) == 4


def test_what_is_looked_at_does_not_grow_with_history(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, say = answering(home)
    say("w")
    key, job = batch_key(asked["day"], "ads"), defs.resolve_job_def("aggregate_answers")
    with dg.DagsterInstance.ephemeral() as instance:
        for old in (DAY, DAY + timedelta(days=1)):  # whose runs came to nothing, long ago
            instance.report_run_canceled(
                instance.create_run_for_job(job, tags={"dagster/partition": batch_key(old, "ads")})
            )
        cursor = requested(instance, None)[1]
        assert job.execute_in_process(partition_key=key, instance=instance).success
        log, read = type(instance.event_log_storage), []
        name = "get_latest_asset_partition_materialization_attempts_without_materializations"
        told = getattr(log, name)

        def counted(self: object, *given: object, **named: object) -> dict[str, object]:
            read.append(told(self, *given, **named))
            return read[-1]

        monkeypatch.setattr(log, name, counted)
        assert requested(instance, cursor)[0] == []
        assert read == [{}]
        passed = json.dumps(json.loads(cursor) | {str(batch_key(DAY, "ads")): "1 1 2026"})
        assert requested(instance, passed)[0] == []  # a day that has left the window is not one of which all is gone


def answering(home: Home) -> tuple[dict[str, Any], Callable[[str], None]]:
    """A task of today, and what lets a person answer it."""
    made = {"workflow": "ads", "kind": Kind.PREFERENCE, "origin": Origin.IMPORT, "reason": "import"}
    asked = tasks.task(**made, day=datetime.now(UTC).date(), texts=["a", "b"])
    tasks.add(home.lake, home.state, [asked])

    def say(person: str) -> None:
        who = outside.enlist(home.settings, home.state, person=person, source="import", author="test")
        told = Annotation(asked["label_task_id"], who, answered_at=datetime.now(UTC), source="import", label="first")
        assert annotations.record(home.state, tasks.read(home.lake), [told]).new == 1

    return asked, say


def requested(instance: dg.DagsterInstance, cursor: str | None) -> tuple[list[str | None], str]:
    """Keys of the runs that the sensor asks for, and its cursor then."""
    told = sensors.tasks_answered(dg.build_sensor_context(instance, cursor))
    if isinstance(told, dg.SkipReason):
        return [], cursor or ""
    assert isinstance(told, dg.SensorResult)
    return [request.run_key for request in told.run_requests or ()], told.cursor or ""
