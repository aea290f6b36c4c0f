"""From landed events to a batch with a verdict: `interactions`, `quarantine` and the row in `batches`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from loop import schema
from loop.collect import landing, outcomes
from loop.collect.files import Kind, claim, put
from loop.config import Settings
from loop.errors import BadInputError
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
    """Type the landed events of a partition, set aside those that break the contract, and write both partitions.

    What stands there then is a batch: each row bears its digest.
    """
    with state.building(day, workflow):
        landing.merge_files(settings, lake, state, day, workflow)
        fresh = claim(lake, state, Kind.EVENTS, (day, workflow))
        landed = landing.events(settings, state, day, workflow, until=fresh.write)
        good, bad = contract.split(landed, now=datetime.now(UTC))
        assert landed.num_rows == good.num_rows + bad.num_rows, "a row was lost by the contract"
        digest = digest_of(good, day, workflow)
        good = good.set_column(
            good.column_names.index("batch"), "batch", pa.array([digest] * good.num_rows, pa.string())
        )
        lake.overwrite("interactions", good, day=day, workflow=workflow, write=fresh.write)
        quarantined = landing.rebuild_quarantine(settings, lake, state, day, workflow, extra=bad)
        state.record_build(day, workflow, landed=landed.num_rows, digest=digest)
    return Batch(day, workflow, digest, landed.num_rows, good.num_rows, quarantined)


def extend(settings: Settings, lake: Lake, state: State, day: date, workflow: str) -> None:
    """Bring to the lake what has landed in a partition since it was last written; the cost is that of the new rows.

    The rows are those that `build` would make, but that their `batch` is empty: they can be read, and wait to be made
    a batch of with the others. `interactions` is written last, for its number says that the rest is done too.
    """
    with state.building(day, workflow):
        fresh = claim(lake, state, Kind.EVENTS, (day, workflow))
        landed = landing.events(settings, state, day, workflow, since=fresh.since)
        good, bad = contract.split(landed, now=datetime.now(UTC))
        landing.extend_quarantine(settings, lake, state, day, workflow, extra=bad)
        outcomes.extend(settings, lake, state, day, workflow, decisions=good)
        if landed.num_rows:
            put(lake, Kind.EVENTS, (day, workflow), good, fresh)


def rows_of(lake: Lake, day: date, workflow: str) -> pa.Table:
    """The rows of a partition as the batch that was last made of it has them; what was brought since is left out."""
    rows = lake.read("interactions", days=(day, day), workflows=[workflow])
    return rows.filter(pc.not_equal(rows["batch"], ""))


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
    rows = rows_of(lake, day, workflow)
    digest = digest_of(rows, day, workflow)
    history = state.batches(day - TRAILING, day - timedelta(days=1), [workflow])
    report = suites.run(
        rows, workflow, volumes=[b["rows"] for b in history if b["rows"] and b["status"] != BatchStatus.HELD]
    )
    override = None if report.passed else state.override(day, workflow, digest)
    status = BatchStatus.ACCEPTED if report.passed else BatchStatus.OVERRIDDEN if override else BatchStatus.HELD
    quarantined = lake.read("quarantine", days=(day, day), workflows=[workflow], columns=["quarantine_id"]).num_rows
    state.record_batch(
        day=day,
        workflow=workflow,
        digest=digest,
        status=status,
        rows=rows.num_rows,
        quarantined=quarantined,
        reasons=override["reasons"] if override else report.reasons,
        author=override["author"] if override else f"suite {schema.INTERACTIONS.name}_{workflow}",
        run_id=run_id,
    )
    return report, status


def release(state: State, day: date, workflow: str, *, reason: str, author: str) -> dict[str, Any]:
    """Let a held batch through on a person's word, which stays with it; the verdict as it then stands.

    It holds for this content: a batch that changes is judged anew. What is derived from it is made by running the data
    job again.

    Raises:
        BadInputError: the batch is not held, or there is no reason.
    """
    if not reason.strip():
        raise BadInputError("--reason: expected a sentence that a colleague understands in a year, got nothing")
    last = state.batches(day, day, [workflow])
    if not last or last[0]["status"] != BatchStatus.HELD:
        found = f"it is {last[0]['status']}" if last else "it was never judged"
        raise BadInputError(f"{day} {workflow}: expected a held batch, {found}; `loop status` lists what is held")
    kept = {name: last[0][name] for name in ("day", "workflow", "digest", "rows", "quarantined")}
    state.record_batch(**kept, status=BatchStatus.OVERRIDDEN, reasons=[reason], author=author, run_id=None)
    return state.batches(day, day, [workflow])[0]
