"""What Dagster loads: every asset, check, job, schedule and sensor, as a person meets them in the UI."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
import msgspec
import pytest

from jobs import schedules, sensors
from jobs.definitions import defs
from loop.collect.spool import Spool
from loop.evaluate import answers
from loop.home import Home
from tests.rows import DAY, decision, event, land

GRAPH = defs.resolve_asset_graph()
EXPECTED = {
    "landing": ("collection", set()),
    "interactions": ("collection", {"landing"}),
    "quarantine": ("collection", {"landing"}),
    "outcomes": ("collection", {"interactions"}),
    "signals": ("signals", {"interactions"}),
    "conduct": ("signals", {"interactions"}),
    "demonstrations": ("labelling", {"interactions", "signals"}),
    "preferences": ("labelling", {"interactions", "signals"}),
    "unpaired": ("labelling", {"interactions", "signals"}),
    "edits": ("labelling", {"interactions", "signals"}),
    "rewards": ("labelling", {"interactions", "signals", "outcomes"}),
    "label_tasks": ("labelling", {"interactions", "signals"}),
    "task_labels": ("labelling", {"label_tasks"}),
    "synthetic": (
        "labelling",
        {"interactions", "demonstrations", "unpaired", "preferences", "label_tasks", "task_labels"},
    ),
    "ablations": ("labelling", {"synthetic", "demonstrations"}),
    "training_set": (
        "training",
        {"demonstrations", "preferences", "label_tasks", "task_labels", "synthetic", "ablations"},
    ),
    "policy": ("training", {"training_set"}),
    "comparisons": ("evaluation", {"policy"}),
    "evaluation": ("evaluation", {"comparisons"}),
    "release": ("release", {"evaluation"}),
}


def test_the_graph_is_the_design() -> None:
    found = {
        key.to_user_string(): (
            GRAPH.get(key).group_name,
            {parent.to_user_string() for parent in GRAPH.get(key).parent_keys},
        )
        for key in GRAPH.get_all_asset_keys()
    }
    assert found == EXPECTED


@pytest.mark.parametrize("name", EXPECTED)
def test_every_asset_says_what_a_row_is_and_whose_it_is(name: str) -> None:
    node = GRAPH.get(dg.AssetKey(name))
    assert node.description is not None
    assert node.description.startswith("One row per ")
    assert node.owners
    assert node.kinds
    if name != "landing":
        assert "dagster/column_schema" in node.metadata
        assert node.partitions_def is not None


def test_checks_are_of_a_partition_and_only_that_on_batches_blocks() -> None:
    found = {(key.name, *key.asset_key.path): GRAPH.get(key) for key in GRAPH.asset_check_keys}
    assert {key: node.blocking for key, node in found.items()} == {
        ("batch_suite", "interactions"): True,
        ("flaws", "evaluation"): False,
    }
    for (_, asset), node in found.items():
        assert node.partitions_def == GRAPH.get(dg.AssetKey(asset)).partitions_def


def test_jobs_cover_the_graph() -> None:
    covered = {
        key.path[-1]
        for name in ("drain", "daily_data", "aggregate_answers", "synthesize", "learn", "decide")
        for key in defs.resolve_job_def(name).asset_layer.executable_asset_keys
    }
    assert covered == set(EXPECTED)


def test_nothing_starts_by_itself() -> None:
    repository = defs.get_repository_def()
    assert {s.name: s.default_status.value for s in repository.schedule_defs} == {
        "daily_data_schedule": "STOPPED",
        "synthesize_schedule": "STOPPED",
        "learn_schedule": "STOPPED",
        "tidy_schedule": "STOPPED",
        "retain_schedule": "STOPPED",
    }
    assert {s.name: s.default_status.value for s in repository.sensor_defs} == {
        "spooled": "STOPPED",
        "enough_preferences": "STOPPED",
        "panel_answered": "STOPPED",
        "tasks_answered": "STOPPED",
    }


def test_the_schedule_asks_for_the_day_before_and_for_what_came_late(home: Home) -> None:
    land(home, [event(decision(1, "reject"))])
    context = dg.build_schedule_context(scheduled_execution_time=datetime(2026, 3, 2, 1, tzinfo=UTC))
    asked = list(schedules.daily_data_schedule(context))  # type: ignore[call-overload]
    assert [r.partition_key for r in asked] == [
        *(f"2026-03-01|{workflow}" for workflow in ("ads", "moderation", "design", "comms")),
        "2026-01-05|comms",
    ]
    assert schedules.learn_schedule(context).partition_key == "2026-03-01"  # type: ignore[union-attr]


def test_upkeep_loses_no_row(home: Home) -> None:
    for count in (2, 3):
        answers.add_items(home.lake, DAY, "ads", [[{"role": "user", "content": f"{count}-{n}"}] for n in range(count)])
    with dg.DagsterInstance.ephemeral() as instance:
        assert defs.resolve_job_def("tidy").execute_in_process(instance=instance).success
    assert home.lake.read("benchmark").num_rows == 5


def test_today_is_a_partition() -> None:
    keys = GRAPH.get(dg.AssetKey("training_set")).partitions_def.get_partition_keys()  # type: ignore[union-attr]
    assert keys[0] == "2021-01-01"
    assert keys[-1] == datetime.now(UTC).date().isoformat()


def test_the_spool_is_moved_when_a_segment_was_sealed_and_its_partitions_are_told(home: Home) -> None:
    instance = dg.DagsterInstance.ephemeral()
    context = dg.build_sensor_context(instance=instance)
    assert isinstance(sensors.spooled(context), dg.SkipReason)
    spool = Spool(home.settings.spool, segment_bytes=1 << 20, segment_seconds=60, limit_bytes=1 << 30)
    told = event(decision(1, "reject", employee=f"p_{'0' * 32}"))
    spool.append([msgspec.json.encode({"kind": "event", "event": told, "received_at": told["received_at"]})])
    spool.seal()
    spool.close()
    assert isinstance(sensors.spooled(context), dg.RunRequest)
    coming = instance.create_run_for_job(defs.resolve_job_def("drain"), status=dg.DagsterRunStatus.STARTING)
    assert isinstance(sensors.spooled(context), dg.SkipReason)
    instance.delete_run(coming.run_id)
    assert isinstance(sensors.spooled(context), dg.RunRequest)
    done = defs.resolve_job_def("drain").execute_in_process(instance=instance)
    assert done.success
    [landed] = done.asset_materializations_for_node("landing")[-1:]
    assert landed.metadata["events"].value == 1
    assert instance.get_materialized_partitions(dg.AssetKey("interactions")) == {f"{DAY}|comms"}
    assert home.lake.read("interactions").num_rows == 1
    assert isinstance(sensors.spooled(context), dg.SkipReason)


def test_the_stopwatch_of_a_run_knows_every_step() -> None:
    from loop.cli.dagster import _STAGES

    names = ("drain", "daily_data", "learn", "decide")
    steps = {step for name in names for step in defs.resolve_job_def(name).graph.node_dict}
    assert steps <= set(_STAGES)
