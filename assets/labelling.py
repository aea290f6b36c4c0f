"""Stage 3 in the graph: what the decisions of an accepted batch teach."""

from collections.abc import Iterator

import dagster as dg

from assets.partitions import BATCHES, batch_of
from assets.resources import HomeResource, columns, described
from loop.label import batches
from loop.label import rewards as late_results
from loop.label.derive import TABLES


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
        for name in TABLES
    ],
    name="label",
)
def label(context: dg.AssetExecutionContext, home: HomeResource) -> Iterator[dg.MaterializeResult[None]]:
    """Derive demonstrations, preferences, unpaired feedback and edits from the decisions of a day and workflow."""
    day, workflow = batch_of(context)
    here = home.get()
    labels = batches.build(here.settings, here.lake, here.state, day, workflow)
    told = {
        "interactions": labels.interactions,
        "taught": labels.taught,
        **{f"set aside/{reason}": count for reason, count in labels.set_aside.items()},
    }
    for name in TABLES:
        yield dg.MaterializeResult(name, metadata={"dagster/row_count": labels.rows[name], **told})


@dg.asset(
    deps=["interactions", "signals", "outcomes"],
    description=described("rewards"),
    group_name="labelling",
    kinds={"deltalake", "duckdb"},
    owners=["team:labelling"],
    partitions_def=BATCHES,
    metadata=columns("rewards"),
)
def rewards(context: dg.AssetExecutionContext, home: HomeResource) -> dg.MaterializeResult[None]:
    """Put what became of used texts to them, as their reward."""
    here = home.get()
    made = late_results.build(here.settings, here.lake, here.state, *batch_of(context))
    told = {f"set aside/{reason}": count for reason, count in made.set_aside.items()}
    return dg.MaterializeResult(metadata={"dagster/row_count": made.rewards, "outcomes": made.outcomes, **told})
