"""What runs when something has happened; off until somebody turns it on."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg

from assets.partitions import BATCHES, batch_key
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
    with open_home(config.load()) as home:  # a task of a day to come has no partition yet
        found = partition.marks(home.state, max(FIRST_DAY, now.date() - ANSWERED), now.date())
    marks = {batch_key(*key): mark for key, mark in sorted(found.items())}
    before = json.loads(context.cursor or "{}")
    asset = dg.AssetKey("task_labels")
    status = context.instance.get_status_by_partition(asset, list(marks), BATCHES) or {}
    broken = _broken_off(context.instance, asset, marks)
    requests = [
        dg.RunRequest(run_key=f"{key}|{mark}", partition_key=key)
        for key, mark in marks.items()
        if before.get(key) != mark
    ]
    # With the hour in its key what failed, was cancelled or never began is tried again, once an hour.
    requests += [
        dg.RunRequest(run_key=f"{key}|{mark}|{now:%Y-%m-%d %H}", partition_key=key)
        for key, mark in marks.items()
        if before.get(key) == mark and (key in broken or status.get(key) is None)
    ]
    if not requests:
        return dg.SkipReason("nothing was answered since the last look")
    return dg.SensorResult(requests, cursor=json.dumps(marks))


def _broken_off(instance: dg.DagsterInstance, asset: dg.AssetKey, keys: Iterable[str]) -> set[str]:
    """Partitions whose last run for the asset ended without it, whatever an earlier one had made.

    Dagster's status of a partition tells of a failure alone: one whose run was cancelled stays as it was before.
    """
    attempts = instance.event_log_storage.get_latest_asset_partition_materialization_attempts_without_materializations(
        asset
    )
    ran = {key: attempts[key][0] for key in keys if key in attempts}
    if not ran:  # no ids would mean all runs
        return set()
    ended = instance.get_runs(dg.RunsFilter(run_ids=sorted(set(ran.values())), statuses=_ENDED))
    without = {run.run_id for run in ended}
    return {key for key, run_id in ran.items() if run_id in without}
