"""Stage 1 in the graph: what has landed becomes typed rows, or is set aside with its reasons."""

from collections.abc import Iterator

import dagster as dg

from assets.partitions import BATCHES, batch_key, batch_of
from assets.resources import HomeResource, columns, described
from loop.collect import outcomes as late_results
from loop.validate import batches, inflow

OWNERS = ["team:platform"]


@dg.asset(
    description="One row per event as it came in, in the files that imports and the gateway's spool bring.",
    group_name="collection",
    kinds={"parquet"},
    owners=OWNERS,
)
def landing(context: dg.AssetExecutionContext, home: HomeResource) -> dg.MaterializeResult[None]:
    """Move what the gateway acknowledged into the landing area and the partitions that it touches."""
    here = home.get()
    moved = inflow.drain(here.settings, here.lake, here.state)
    for key in sorted({batch_key(*partition) for one in moved for partition in one.partitions}):
        for name in ("interactions", "outcomes"):
            context.log_event(
                dg.AssetMaterialization(name, partition=key, description="Moved from the spool; not judged yet.")
            )
    return dg.MaterializeResult(metadata=inflow.told(moved))


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            name,
            deps=[landing],
            description=described(name),
            group_name="collection",
            kinds={"deltalake", "python"},
            owners=OWNERS,
            partitions_def=BATCHES,
            metadata=columns(name),
        )
        for name in ("interactions", "quarantine")
    ],
    name="collect",
)
def collect(context: dg.AssetExecutionContext, home: HomeResource) -> Iterator[dg.MaterializeResult[None]]:
    """Type the landed events of a day and workflow; set aside those that break the contract."""
    day, workflow = batch_of(context)
    here = home.get()
    batch = batches.build(here.settings, here.lake, here.state, day, workflow)
    counts = {"landed": batch.landed, "batch": batch.digest}
    yield dg.MaterializeResult("interactions", metadata={"dagster/row_count": batch.rows, **counts})
    yield dg.MaterializeResult("quarantine", metadata={"dagster/row_count": batch.quarantined, **counts})


@dg.asset(
    deps=["interactions"],
    description=described("outcomes"),
    group_name="collection",
    kinds={"deltalake", "python"},
    owners=OWNERS,
    partitions_def=BATCHES,
    metadata=columns("outcomes"),
)
def outcomes(context: dg.AssetExecutionContext, home: HomeResource) -> dg.MaterializeResult[None]:
    """Put late results down to the decisions that they follow from."""
    here = home.get()
    rows, attributed = late_results.build(here.settings, here.lake, here.state, *batch_of(context))
    return dg.MaterializeResult(metadata={"dagster/row_count": rows, "attributed": attributed})
