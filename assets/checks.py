"""The checks that stand between stages. The verdict is also data, in `batches`: a check binds only its own run."""

import dagster as dg

from assets.partitions import BATCHES, batch_of
from assets.resources import HomeResource
from loop.schema import BatchStatus
from loop.validate import batches


@dg.asset_check(
    asset="interactions",
    name="batch_suite",
    blocking=True,
    partitions_def=BATCHES,
    description="The batch passes its Great Expectations suite; if it does not, nothing is derived from it.",
)
def batch_suite(context: dg.AssetCheckExecutionContext, home: HomeResource) -> dg.AssetCheckResult:
    day, workflow = batch_of(context)
    here = home.get()
    report, status = batches.judge(here.lake, here.state, day, workflow, run_id=context.op_execution_context.run_id)
    return dg.AssetCheckResult(
        passed=status is not BatchStatus.HELD,
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(report.reasons) or f"{len(report.findings)} rules hold",
        metadata={
            "verdict": status.value,
            "rows": report.rows,
            "findings": sum(not f.passed for f in report.findings),
            "suite": dg.MetadataValue.md(report.markdown()),
        },
    )
