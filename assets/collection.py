"""Stage 1 in the graph: what has landed becomes typed rows, or is set aside with its reasons."""

from collections.abc import Iterator

import dagster as dg

from assets.partitions import BATCHES, batch_of
from assets.resources import HomeResource, columns, described
from loop.validate import batches

OWNERS = ["team:platform"]

landing = dg.AssetSpec(
    "landing",
    description="One row per event as it came in, in the files that imports write.",
    group_name="collection",
    kinds={"parquet"},
    owners=OWNERS,
)


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
