"""Between labelling and the people who label in the graph: which of a day's decisions are asked about."""

import dagster as dg

from assets.partitions import BATCHES, batch_of
from assets.resources import HomeResource, columns, described
from loop.label.select import tasks_of_day


@dg.asset(
    deps=["interactions", "signals"],
    description=described("label_tasks"),
    group_name="labelling",
    kinds={"deltalake", "duckdb"},
    owners=["team:labelling"],
    partitions_def=BATCHES,
    metadata=columns("label_tasks"),
)
def label_tasks(context: dg.AssetExecutionContext, home: HomeResource) -> dg.MaterializeResult[None]:
    """Choose the questions of a day and workflow under the budget; what was asked stays asked."""
    here = home.get()
    chosen = tasks_of_day.build(here.settings, here.lake, here.state, *batch_of(context))
    return dg.MaterializeResult(metadata={"dagster/row_count": chosen.standing + chosen.asked, **chosen.told()})
