"""Beside labelling in the graph: answers that a model writes where those of people are few, and whether they help."""

from collections.abc import Iterator

import dagster as dg
from pydantic import Field

from assets.partitions import BATCHES, batch_of
from assets.resources import HomeResource, columns, described
from loop.cycle import synthesising
from loop.cycle.reading import window
from loop.label.synthesize.thin import BY

READ = ("interactions", "demonstrations", "unpaired", "preferences", "label_tasks", "task_labels")
WHERE = {
    "synthetic": "A run reads the window of days up to its partition, and its rows stand in those of the decisions "
    "whose prompts they answer.",
    "ablations": "A run's stands in the partition of the day on which it ran; none where nothing was kept.",
}


class Synthesis(dg.Config):
    """What may be asked of a run, as `loop label synthesize` has it."""

    by: str = Field("team", description=f"What cuts the workflow into slices: {', '.join(BY)}.")
    answers: int = Field(4, ge=1, description="Answers to each prompt, of which at most one is kept.")
    most: int = Field(200, ge=1, description="Most prompts that are answered.")


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            name,
            deps=deps,
            description=f"{described(name)} {WHERE[name]}",
            group_name="labelling",
            kinds={"deltalake", "pytorch"},
            owners=["team:labelling"],
            partitions_def=BATCHES,
            metadata=columns(name),
        )
        for name, deps in (("synthetic", READ), ("ablations", ("synthetic", "demonstrations")))
    ],
    name="write_answers",
    pool="training",
)
def write_answers(
    context: dg.AssetExecutionContext, config: Synthesis, home: HomeResource
) -> Iterator[dg.MaterializeResult[None]]:
    """Let a model write answers for a workflow's thin slices, keep what passes, and measure whether that helps."""
    day, workflow = batch_of(context)
    here = home.get()
    done = synthesising.synthesise(here, workflow, window(here, day), by=config.by, n=config.answers, most=config.most)
    plain = {name: getattr(done, name) for name in ("run", "parents", "answered", "written", "kept", "dropped", "gone")}
    plain |= {f"thin/{name}": count for name, count in done.thin.items()}
    plain |= {f"dropped/{reason}": count for reason, count in done.reasons.items()}
    plain |= {f"raised/{function}": count for function, count in done.raised.items()}
    told = {"dagster/row_count": done.kept + done.dropped, "model version": done.model_version, **plain}
    yield dg.MaterializeResult("synthetic", metadata=told)
    figures = done.told()["ablation"] or {}
    measured = {name: value for name, value in figures.items() if value is not None}
    told = {"dagster/row_count": int(bool(figures)), "run": done.run, **measured}
    yield dg.MaterializeResult("ablations", metadata=told)
