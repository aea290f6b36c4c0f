"""Stages 4 and 5 in the graph: freeze, train, and set challenger and champion side by side."""

import dagster as dg

from assets.partitions import CYCLES, DAY_OF_BATCHES, cycle_of
from assets.resources import HomeResource, columns, described, mlflow_page
from loop import cycle

OWNERS = ["team:research"]


@dg.asset(
    deps=[
        dg.AssetDep(name, partition_mapping=DAY_OF_BATCHES)
        for name in ("demonstrations", "preferences", "label_tasks", "task_labels", "synthetic", "ablations")
    ],
    description=f"{described('training_sets')} Reads the window of days up to the cycle, accepted batches only.",
    group_name="training",
    kinds={"parquet"},
    owners=OWNERS,
    partitions_def=CYCLES,
    metadata=columns("training_sets"),
)
def training_set(context: dg.AssetExecutionContext, home: HomeResource) -> dg.MaterializeResult[None]:
    """Freeze what the cycle may learn from."""
    frozen = cycle.training_set(home.get(), cycle_of(context))
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": frozen.demonstrations + frozen.preferences,
            **frozen.told(),
        }
    )


@dg.asset(
    deps=[training_set],
    description="One row per model version: the challenger that the cycle trained from the champion.",
    group_name="training",
    kinds={"pytorch", "mlflow"},
    owners=OWNERS,
    partitions_def=CYCLES,
    metadata=columns("models"),
    pool="training",
)
def policy(context: dg.AssetExecutionContext, home: HomeResource) -> dg.MaterializeResult[None]:
    """Train the challenger: SFT on demonstrations, then DPO on preferences."""
    trained = cycle.policy(home.get(), cycle_of(context), run_id=context.run_id)
    link = mlflow_page(home.get(), trained.mlflow_page)
    return dg.MaterializeResult(metadata={"dagster/row_count": 1, **trained.told(), **link})


@dg.asset(
    deps=[policy],
    description=described("comparisons"),
    group_name="evaluation",
    kinds={"deltalake", "pytorch"},
    owners=OWNERS,
    partitions_def=CYCLES,
    metadata=columns("comparisons"),
)
def comparisons(context: dg.AssetExecutionContext, home: HomeResource) -> dg.MaterializeResult[None]:
    """Answer the benchmark's prompts with both models; ask the panel which answer is better."""
    asked = cycle.comparisons(home.get(), cycle_of(context))
    return dg.MaterializeResult(metadata={"dagster/row_count": asked.rows, **asked.told()})
