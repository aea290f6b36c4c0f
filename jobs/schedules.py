"""What runs by the clock; off until somebody turns it on."""

from collections.abc import Iterator
from datetime import UTC, timedelta
from typing import Final

import dagster as dg

from assets.partitions import batch_key
from jobs.jobs import daily_data, learn, retain, synthesize, tidy
from loop import config
from loop.collect import arrivals
from loop.cycle.reading import window
from loop.home import open_home
from loop.schema import WORKFLOWS

LATE_OUTCOMES: Final = [dg.AssetKey("outcomes"), dg.AssetKey("rewards")]
"""What a result that comes later than its decision was judged changes of a day."""
LATE_RUNS: Final = 28
"""Most runs a night for late outcomes alone: a week of four workflows. All that landed before it was noted what rewards
were made of waits at once, and each partition is a run of its own: hundreds would stand in the queue before the cycle.
"""


@dg.schedule(job=daily_data, cron_schedule="0 1 * * *", execution_timezone="UTC")
def daily_data_schedule(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
    """At one in the morning: the day before, and every earlier day for which something has landed late.

    Where only outcomes came, their rewards are all that is made anew, of the newest days first, and of the others in
    the nights that follow. Each workflow is a run of its own, so that one bad batch halts one run.
    """
    day = (context.scheduled_execution_time.astimezone(UTC) - timedelta(days=1)).date()
    with open_home(config.load()) as home:
        late = [(key, mark) for key, mark in arrivals.unread(home.state) if key[0] < day]
        outcomes = [key for key in arrivals.unrewarded(home.state) if key[0] < day and key not in dict(late)]
    for workflow in WORKFLOWS:
        yield dg.RunRequest(run_key=f"{day}|{workflow}", partition_key=batch_key(day, workflow))
    for key, mark in late:
        yield dg.RunRequest(run_key=f"{key[0]}|{key[1]}|{mark}", partition_key=batch_key(*key))
    for key in outcomes[: -LATE_RUNS - 1 : -1]:  # with the night in its key: what failed is tried again in the next
        yield dg.RunRequest(
            run_key=f"{key[0]}|{key[1]}|outcomes|{day}", partition_key=batch_key(*key), asset_selection=LATE_OUTCOMES
        )


@dg.schedule(job=learn, cron_schedule="0 2 * * *", execution_timezone="UTC")
def learn_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """At two in the morning, the cycle of the day before."""
    day = (context.scheduled_execution_time.astimezone(UTC) - timedelta(days=1)).date()
    return dg.RunRequest(run_key=f"{day}", partition_key=day.isoformat())


@dg.schedule(job=synthesize, cron_schedule="0 3 * * 0", execution_timezone="UTC")
def synthesize_schedule(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """At three on Sundays, each workflow of which anything was labelled in the window up to the day before."""
    day = (context.scheduled_execution_time.astimezone(UTC) - timedelta(days=1)).date()
    with open_home(config.load()) as home:
        first, last = window(home, day)
        labelled = {
            workflow for labelled_on, workflow in home.lake.partitions("demonstrations") if first <= labelled_on <= last
        }
    if not labelled:
        yield dg.SkipReason(f"nothing is labelled from {first} to {last}")
    for workflow in sorted(labelled):
        yield dg.RunRequest(run_key=f"{day}|{workflow}", partition_key=batch_key(day, workflow))


@dg.schedule(job=tidy, cron_schedule="0 4 * * 0", execution_timezone="UTC")
def tidy_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """At four on Sundays, the lake's replaced files."""
    return dg.RunRequest()


@dg.schedule(job=retain, cron_schedule="0 5 * * *", execution_timezone="UTC")
def retain_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """At five in the morning, what is older than it may be kept."""
    if not config.load().retention_days:
        return dg.SkipReason("no retention is set: everything is kept")
    return dg.RunRequest()
