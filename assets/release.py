"""Stages 5 and 6 in the graph: what is known of the challenger, and the decision."""

from typing import Any

import dagster as dg

from assets.learning import OWNERS
from assets.partitions import CYCLES, cycle_of
from assets.resources import HomeResource, columns, described, mlflow_page
from loop import cycle
from loop.evaluate import evidence
from loop.release import card, releases


@dg.asset(
    deps=["comparisons"],
    description=described("evaluations"),
    group_name="evaluation",
    kinds={"python"},
    owners=OWNERS,
    partitions_def=CYCLES,
    metadata=columns("evaluations"),
)
def evaluation(context: dg.AssetExecutionContext, home: HomeResource) -> dg.MaterializeResult[None]:
    """Figures per workflow: the panel's verdicts, held-out decisions, formats, diversity."""
    figures = cycle.evaluation(home.get(), cycle_of(context))
    metadata: dict[str, Any] = {"dagster/row_count": 1, **evidence.metrics(figures)}
    return dg.MaterializeResult(metadata=metadata | {"evidence": dg.MetadataValue.md(card.evidence(figures))})


@dg.asset(
    deps=[evaluation],
    description=described("releases"),
    group_name="release",
    kinds={"mlflow"},
    owners=OWNERS,
    partitions_def=CYCLES,
    metadata=columns("releases"),
)
def release(context: dg.AssetExecutionContext, home: HomeResource) -> dg.MaterializeResult[None]:
    """Promote the challenger, or refuse it, with reasons."""
    here = home.get()
    decided = cycle.release(here, cycle_of(context), run_id=context.run_id)
    run = releases.model_version(here.state, decided.challenger).mlflow_run if decided.challenger else None
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": 1,
            "challenger": decided.challenger or "",
            "champion before": decided.champion_before or "",
            "decision": decided.decision,
            "live": decided.live,
            "reasons": dg.MetadataValue.md("\n".join(f"- {reason}" for reason in decided.reasons)),
            **mlflow_page(here, run and here.registry.page(run)),
        }
    )
