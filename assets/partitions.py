"""How the graph is cut: data by day and workflow, learning by daily cycle."""

from datetime import date

import dagster as dg

from loop.schema import FIRST_DAY, WORKFLOWS

DAYS = dg.DailyPartitionsDefinition(
    start_date=FIRST_DAY.isoformat(), end_offset=1
)  # today exists, for its data comes in today
BATCHES = dg.MultiPartitionsDefinition({"day": DAYS, "workflow": dg.StaticPartitionsDefinition(list(WORKFLOWS))})
CYCLES = DAYS
DAY_OF_BATCHES = dg.MultiToSingleDimensionPartitionMapping("day")


def batch_key(day: date, workflow: str) -> dg.MultiPartitionKey:
    return dg.MultiPartitionKey({"day": day.isoformat(), "workflow": workflow})


def batch_of(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> tuple[date, str]:
    """Day and workflow of the partition that a run is about."""
    key = context.partition_key
    assert isinstance(key, dg.MultiPartitionKey)
    return date.fromisoformat(key.keys_by_dimension["day"]), key.keys_by_dimension["workflow"]


def cycle_of(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> date:
    return date.fromisoformat(context.partition_key)
