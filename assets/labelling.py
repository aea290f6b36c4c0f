"""Stage 3 in the graph: what the decisions of an accepted batch teach."""

from collections.abc import Iterator

import dagster as dg

from assets.partitions import BATCHES, batch_of
from assets.resources import HomeResource, columns, described
from loop.label import batches


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            name,
            deps=["interactions", "signals"],
            description=described(name),
            group_name="labelling",
            kinds={"deltalake", "duckdb"},
            owners=["team:labelling"],
            partitions_def=BATCHES,
            metadata=columns(name),
        )
        for name in ("demonstrations", "preferences")
    ],
    name="label",
)
def label(context: dg.AssetExecutionContext, home: HomeResource) -> Iterator[dg.MaterializeResult[None]]:
    """Derive demonstrations and preferences from the decisions of a day and workflow."""
    day, workflow = batch_of(context)
    here = home.get()
    labels = batches.build(here.settings, here.lake, here.state, day, workflow)
    told = {
        "interactions": labels.interactions,
        "taught": labels.taught,
        **{f"set aside/{reason}": count for reason, count in labels.set_aside.items()},
    }
    yield dg.MaterializeResult("demonstrations", metadata={"dagster/row_count": labels.demonstrations, **told})
    yield dg.MaterializeResult("preferences", metadata={"dagster/row_count": labels.preferences, **told})
