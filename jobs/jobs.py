"""The jobs: a day's data, a learning cycle up to the questions it asks, the decision on their answers, and upkeep."""

import dagster as dg

from assets.partitions import BATCHES, CYCLES
from assets.resources import HomeResource
from loop import erase
from loop.schema import LAKE

drain = dg.define_asset_job(
    "drain",
    selection=dg.AssetSelection.assets("landing"),
    description="Move what the gateway acknowledged from its spool into the lake.",
)

daily_data = dg.define_asset_job(
    "daily_data",
    selection=dg.AssetSelection.assets(
        *("interactions", "quarantine", "outcomes", "signals", "conduct"),
        *("demonstrations", "preferences", "unpaired", "edits", "rewards"),
        "label_tasks",
    ),
    partitions_def=BATCHES,
    description="Collect, validate, weigh and label one day of one workflow. A batch that fails its suite is halted.",
)

aggregate_answers = dg.define_asset_job(
    "aggregate_answers",
    selection=dg.AssetSelection.assets("task_labels"),
    partitions_def=BATCHES,
    description="Make soft labels of what people have answered to a day's questions by now.",
)

synthesize = dg.define_asset_job(
    "synthesize",
    selection=dg.AssetSelection.assets("synthetic", "ablations"),
    partitions_def=BATCHES,
    description="Let a model write answers for a workflow's thin slices, and note whether learning from them helps.",
)

learn = dg.define_asset_job(
    "learn",
    selection=dg.AssetSelection.assets("training_set", "policy", "comparisons"),
    partitions_def=CYCLES,
    description="Freeze the training set of a cycle, train a challenger, and set it beside the champion.",
)

decide = dg.define_asset_job(
    "decide",
    selection=dg.AssetSelection.assets("evaluation", "release"),
    partitions_def=CYCLES,
    description="Weigh what is known of the challenger, the panel's answers included, and promote or refuse it.",
)


@dg.op
def tidy_lake(context: dg.OpExecutionContext, home: HomeResource) -> None:
    """Compact small files, drop what was replaced more than a day ago, write checkpoints."""
    for table in LAKE:
        home.get().lake.tidy(table)
        context.log.info("%s is tidy", table)


@dg.job(description="Upkeep of the lake; loses no row and no version younger than a day.")
def tidy() -> None:
    tidy_lake()


@dg.op
def drop_expired(context: dg.OpExecutionContext, home: HomeResource) -> None:
    """Drop partitions that are older than `retention_days` allows."""
    dropped = erase.retain(home.get(), step=context.log.info)
    context.log.info("dropped partitions: %s", dict(dropped) or "none")


@dg.job(description="Drops what is older than its table may keep it; nothing where no retention is set.")
def retain() -> None:
    drop_expired()
