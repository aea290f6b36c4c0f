"""Between validation and labelling in the graph: how much the decisions of an accepted batch say."""

from collections.abc import Iterator

import dagster as dg

from assets.partitions import BATCHES, batch_of
from assets.resources import HomeResource, columns, described
from loop.validate import signal_days


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            name,
            deps=["interactions"],
            description=described(name),
            group_name="signals",
            kinds={"deltalake", "duckdb"},
            owners=["team:labelling"],
            partitions_def=BATCHES,
            metadata=columns(name),
        )
        for name in ("signals", "conduct")
    ],
    name="weigh",
)
def weigh(context: dg.AssetExecutionContext, home: HomeResource) -> Iterator[dg.MaterializeResult[None]]:
    """Weigh the decisions of a day and workflow; what is told is of groups of ten or more."""
    here = home.get()
    told = signal_days.build(here.lake, here.state, *batch_of(context))
    for group in told.groups:
        context.log.warning("carries no information: %s", group.told())
    yield dg.MaterializeResult("signals", metadata={"dagster/row_count": told.rows, **told.told()})
    yield dg.MaterializeResult("conduct")
