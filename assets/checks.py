"""The checks that stand between stages. The verdict is also data, in `batches`: a check binds only its own run."""

import dagster as dg

from assets.partitions import BATCHES, CYCLES, batch_of, cycle_of
from assets.resources import HomeResource
from loop import cycle
from loop.validate import verdicts


@dg.asset_check(
    asset="interactions",
    name="batch_suite",
    blocking=True,
    partitions_def=BATCHES,
    description="The batch passes its suite and is like the days before it; if not, nothing is derived from it.",
)
def batch_suite(context: dg.AssetCheckExecutionContext, home: HomeResource) -> dg.AssetCheckResult:
    day, workflow = batch_of(context)
    here = home.get()
    run_id = context.op_execution_context.run_id
    verdict = verdicts.judge(here.settings, here.lake, here.state, day, workflow, run_id=run_id)
    suite = verdict.report.suite
    return dg.AssetCheckResult(
        passed=verdict.passed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=verdict.told(),
        metadata={
            "verdict": verdict.status.value,
            "rows": verdict.report.rows,
            "set aside": verdict.quarantined,
            "findings": sum(not f.passed for f in verdict.findings),
            "suite": dg.MetadataValue.md(verdict.report.broken()),
            "drift": dg.MetadataValue.md(verdict.drift_table()),
            "rules that hold": dg.MetadataValue.md(verdict.report.kept()),
            "suite version": f"{suite.version} ({suite.digest})" if suite else "none: there are no rows",
            "batch": verdict.digest,
            "page": dg.MetadataValue.path(str(verdict.page)),
        },
    )


@dg.asset_check(
    asset="evaluation",
    name="flaws",
    partitions_def=CYCLES,
    description="No gap between groups has widened, and acceptance and outcomes go together; if not, the gate refuses.",
)
def flaws(context: dg.AssetCheckExecutionContext, home: HomeResource) -> dg.AssetCheckResult:
    found = cycle.halts(home.get(), cycle_of(context))
    return dg.AssetCheckResult(
        passed=not found,
        severity=dg.AssetCheckSeverity.ERROR,  # not blocking: that the challenger is refused, and why, is a release too
        description="; ".join(found) or "nothing was found, in what could be measured",
    )
