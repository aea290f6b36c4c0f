"""After people have labelled in the graph: what their answers say together."""

import dagster as dg

from assets.partitions import BATCHES, batch_of
from assets.resources import HomeResource, columns, described
from loop.label.aggregate import partition


@dg.asset(
    deps=["label_tasks"],
    description=described("task_labels"),
    group_name="labelling",
    kinds={"deltalake", "numpy"},
    owners=["team:labelling"],
    partitions_def=BATCHES,
    metadata=columns("task_labels"),
)
def task_labels(context: dg.AssetExecutionContext, home: HomeResource) -> dg.MaterializeResult[None]:
    """Aggregate the answers to a day's questions into soft labels; what is too unsure waits for adjudication."""
    here = home.get()
    made = partition.build(here.lake, here.state, *batch_of(context))
    told = {f"set aside/{reason}": count for reason, count in made.set_aside.items()}
    told |= {"tasks": made.tasks, "answers": made.answers, "waiting for adjudication": made.abstained}
    return dg.MaterializeResult(metadata={"dagster/row_count": made.labelled, **told})
