"""What runs when something has happened; off until somebody turns it on."""

import json
from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg

from assets.partitions import batch_key
from jobs.jobs import aggregate_answers, decide, drain, learn
from loop import config, cycle
from loop.collect import spool
from loop.home import open_home
from loop.label.aggregate import partition
from loop.schema import FIRST_DAY

_COMING = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING]
_ENDED = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
ANSWERED: Final = timedelta(days=60)
"""Answers to older tasks are aggregated when somebody asks for it: what is looked at does not grow with history."""
NOTHING: Final = "nothing"
"""The mark of a partition whose answers are all gone."""


@dg.sensor(job=drain, minimum_interval_seconds=10, description="The lake, once the gateway has sealed a segment.")
def spooled(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    segments = spool.sealed(config.load().spool)
    if not segments:
        return dg.SkipReason("no sealed segment waits in the spool")
    if context.instance.get_runs_count(dg.RunsFilter(job_name=drain.name, statuses=_COMING)):
        return dg.SkipReason("a move is about to begin and takes these too")  # or runs that find nothing queue up
    # With the minute in its key a move that failed is tried again; one that is under way loses nothing by it.
    return dg.RunRequest(run_key=f"{segments[-1].name} {datetime.now(UTC):%Y-%m-%d %H:%M}")


@dg.sensor(job=learn, minimum_interval_seconds=30, description="A cycle once enough new preferences have come in.")
def enough_preferences(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    settings = config.load()
    with open_home(settings) as home:
        waiting = cycle.new_preferences(home)
    if waiting.count < settings.new_preferences:
        return dg.SkipReason(f"{waiting.count} new preferences of the {settings.new_preferences} that start a cycle")
    key = f"{waiting.newest}"
    if key == context.cursor:
        return dg.SkipReason(f"a cycle over these {waiting.count} preferences was asked for already")
    return dg.SensorResult([dg.RunRequest(run_key=key, partition_key=waiting.day.isoformat())], cursor=key)


@dg.sensor(job=decide, minimum_interval_seconds=30, description="A decision once the panel has answered a cycle.")
def panel_answered(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    with open_home(config.load()) as home:
        ready = cycle.awaiting_decision(home, now=datetime.now(UTC))
    if not ready:
        return dg.SkipReason("no cycle waits for a decision, or the panel is still answering")
    requests = [dg.RunRequest(run_key=f"{c.day}|{c.attempt}", partition_key=c.day.isoformat()) for c in ready]
    return dg.SensorResult(requests)


@dg.sensor(job=aggregate_answers, minimum_interval_seconds=600, description="Soft labels once people have answered.")
def tasks_answered(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    now = datetime.now(UTC)
    since = max(FIRST_DAY, now.date() - ANSWERED)
    with open_home(config.load()) as home:  # a task of a day to come has no partition yet
        found = partition.marks(home.state, since, now.date())
    before = json.loads(context.cursor or "{}")
    # What was erased to nothing loses its labels too. Keys begin with the day, and go as the days do.
    marks = {key: NOTHING for key in sorted(before) if key >= since.isoformat()}
    marks |= {str(batch_key(*key)): mark for key, mark in sorted(found.items())}
    coming, again = _attempts(context.instance, dg.AssetKey("task_labels"), set(marks))
    requests, asked = [], {}
    for key, mark in marks.items():
        asked[key] = mark
        if before.get(key) == mark:
            if key in again:  # with the hour in its key what failed or never began is tried again, once an hour
                requests.append(dg.RunRequest(run_key=f"{key}|{mark}|{now:%Y-%m-%d %H}", partition_key=key))
        elif key in coming:  # that run reads these too, if they came before it begins: looked at again then
            asked[key] = before.get(key, "")
        else:  # with the time in its key, for the same mark may come back
            requests.append(dg.RunRequest(run_key=f"{key}|{mark}|{now.isoformat()}", partition_key=key))
    if not requests:
        return dg.SkipReason("nothing was answered since the last look")
    return dg.SensorResult(requests, cursor=json.dumps(asked))


def _attempts(instance: dg.DagsterInstance, asset: dg.AssetKey, keys: set[str]) -> tuple[set[str], set[str]]:
    """Partitions of which a run for the asset is about to begin, and those of which the last ended without the asset,
    whatever an earlier one had made, or never was.

    Dagster's status of a partition tells of a failure alone: one whose run was cancelled stays as it was before. Events
    before the oldest of the partitions' last attempts are not read: what this costs does not grow with history.
    """
    if not keys:  # no partitions, as no ids below, would mean all
        return set(), set()
    log, planned_event = instance.event_log_storage, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    planned = log.get_latest_storage_id_by_partition(asset, planned_event, partitions=keys)
    if not planned:
        return set(), keys
    without = log.get_latest_asset_partition_materialization_attempts_without_materializations(
        asset, after_storage_id=min(planned.values()) - 1
    )
    ran = {key: without[key][0] for key in keys if key in without}
    runs = instance.get_runs(dg.RunsFilter(run_ids=sorted(set(ran.values())))) if ran else []
    status = {run.run_id: run.status for run in runs}
    coming = {key for key, run_id in ran.items() if status.get(run_id) in _COMING}
    ended = {key for key, run_id in ran.items() if status.get(run_id) in _ENDED}
    return coming, ended | (keys - planned.keys())
