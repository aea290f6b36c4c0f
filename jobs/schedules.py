"""What runs by the clock; off until somebody turns it on."""

from collections.abc import Iterator
from datetime import UTC, timedelta

import dagster as dg

from assets.partitions import batch_key
from jobs.jobs import daily_data, learn
from loop.schema import WORKFLOWS


@dg.schedule(job=daily_data, cron_schedule="0 1 * * *", execution_timezone="UTC")
def daily_data_schedule(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
    """At one in the morning, the day before, each workflow in a run of its own: one bad batch halts one run."""
    day = (context.scheduled_execution_time.astimezone(UTC) - timedelta(days=1)).date()
    for workflow in WORKFLOWS:
        yield dg.RunRequest(run_key=f"{day}|{workflow}", partition_key=batch_key(day, workflow))


@dg.schedule(job=learn, cron_schedule="0 2 * * *", execution_timezone="UTC")
def learn_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """At two in the morning, the cycle of the day before."""
    day = (context.scheduled_execution_time.astimezone(UTC) - timedelta(days=1)).date()
    return dg.RunRequest(run_key=f"{day}", partition_key=day.isoformat())
