"""From landed events to a batch with a verdict: `interactions`, `quarantine` and the row in `batches`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa

from loop import schema
from loop.collect import landing
from loop.config import Settings
from loop.lake import Lake
from loop.schema import BatchStatus
from loop.state import State
from loop.validate import contract, suites

TRAILING = timedelta(days=14)
"""How far back the usual volume of a workflow is looked for."""


@dataclass(frozen=True)
class Batch:
    """What one day of one workflow came to. `landed == rows + quarantined_here`, asserted."""

    day: date
    workflow: str
    digest: str
    landed: int
    rows: int
    quarantined: int
    """Rows of this partition in quarantine: set aside here and at the edge."""


def build(settings: Settings, lake: Lake, state: State, day: date, workflow: str) -> Batch:
    """Type the landed events of a partition, set aside those that break the contract, and write both partitions."""
    landed = landing.events(settings, state, day, workflow)
    good, bad = contract.split(landed, now=datetime.now(UTC))
    assert landed.num_rows == good.num_rows + bad.num_rows, "a row was lost by the contract"
    digest = digest_of(good, day, workflow)
    good = good.set_column(
        good.column_names.index("batch"), "batch", pa.array([digest] * good.num_rows, pa.string())
    ).sort_by([("shown_at", "ascending"), ("event_id", "ascending")])
    lake.overwrite("interactions", good, day=day, workflow=workflow)
    quarantined = landing.rebuild_quarantine(settings, lake, state, day, workflow, extra=bad)
    return Batch(day, workflow, digest, landed.num_rows, good.num_rows, quarantined)


def digest_of(rows: pa.Table, day: date, workflow: str) -> str:
    """The batch's content digest: over day, workflow and the sorted content digests of its rows (SHA-256, 32 hex)."""
    sha = hashlib.sha256(f"{day.isoformat()}|{workflow}|".encode())
    for event_id, content in sorted(zip(rows["event_id"].to_pylist(), rows["content"].to_pylist(), strict=True)):
        sha.update(f"{event_id}:{content}\n".encode())
    return sha.hexdigest()[:32]


def judge(
    lake: Lake, state: State, day: date, workflow: str, *, run_id: str | None = None
) -> tuple[suites.BatchReport, BatchStatus]:
    """Run the suite over the partition as it stands in the lake and write the verdict.

    A batch that a person let through stays through while its content is the same.
    """
    rows = lake.read("interactions", days=(day, day), workflows=[workflow])
    digest = digest_of(rows, day, workflow)
    history = state.batches(day - TRAILING, day - timedelta(days=1), [workflow])
    report = suites.run(rows, workflow, volumes=[b["rows"] for b in history if b["rows"]])
    last = state.batches(day, day, [workflow])
    overridden = bool(last) and last[0]["digest"] == digest and last[0]["status"] == BatchStatus.OVERRIDDEN
    status = BatchStatus.ACCEPTED if report.passed else BatchStatus.OVERRIDDEN if overridden else BatchStatus.HELD
    quarantined = lake.read("quarantine", days=(day, day), workflows=[workflow], columns=["quarantine_id"]).num_rows
    state.record_batch(
        day=day,
        workflow=workflow,
        digest=digest,
        status=status,
        rows=rows.num_rows,
        quarantined=quarantined,
        reasons=last[0]["reasons"] if overridden and last else report.reasons,
        author=last[0]["author"] if overridden and last else f"suite {schema.INTERACTIONS.name}_{workflow}",
        run_id=run_id,
    )
    return report, status
