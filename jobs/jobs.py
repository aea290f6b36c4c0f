"""The jobs: a day's data, a learning cycle up to the questions it asks, and the decision on their answers."""

import dagster as dg

from assets.partitions import BATCHES, CYCLES

daily_data = dg.define_asset_job(
    "daily_data",
    selection=dg.AssetSelection.assets("interactions", "quarantine", "demonstrations", "preferences"),
    partitions_def=BATCHES,
    description="Collect, validate and label one day of one workflow. A batch that fails its suite is halted.",
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
