"""The verdict on a batch: suite and drift, written where training reads it; and a person's word against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from loop.config import Settings
from loop.errors import BadInputError
from loop.lake import Lake
from loop.schema import BatchStatus
from loop.state import State
from loop.validate import drift, pages, suites
from loop.validate.batches import digest_of
from loop.validate.drift import Drift
from loop.validate.profiles import Profile, profile
from loop.validate.suites import BatchReport, Finding

TRAILING: Final = timedelta(days=14)
"""The reference window: how far back a day is compared with the accepted ones."""


@dataclass(frozen=True)
class Verdict:
    """What was found on one day of one workflow, and what follows from it."""

    day: date
    workflow: str
    attempt: int
    digest: str
    status: BatchStatus
    quarantined: int
    report: BatchReport
    drifts: tuple[Drift, ...]
    override: str | None = None
    """The person who let it through, and the reason."""
    page: Path | None = None
    """Its page in Data Docs."""

    @property
    def passed(self) -> bool:
        return self.status is not BatchStatus.HELD

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Suite first, then drift."""
        return (*self.report.findings, *(one.finding() for one in self.drifts))

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is held, or would be."""
        return tuple(f"{f.rule}: {f.observed}" for f in self.findings if f.blocking and not f.passed)

    def told(self) -> str:
        """In a sentence: why it is held, or who let it through in spite of what, or how many rules hold."""
        why = "; ".join(self.reasons)
        if self.override:
            return f"let through by {self.override} (would be held for {why})"
        return why or f"{sum(f.passed for f in self.findings)} of {len(self.findings)} rules hold"

    def markdown(self) -> str:
        """The whole verdict as a page."""
        by = self.report.suite.title if self.report.suite else "no suite: there are no rows"
        rows = f"{self.report.rows:,} rows, {self.quarantined:,} set aside"
        told = f"{rows}. Attempt {self.attempt}, batch `{self.digest}`, {by}."
        lines = [f"# {self.day} {self.workflow}: {self.status}", "", told]
        if self.override:
            lines += ["", f"Let through by {self.override}"]
        lines += ["", "## Suite", "", self.report.broken(), "", "## Drift", "", self.drift_table()]
        return "\n".join([*lines, "", "## Rules that hold", "", self.report.kept()])

    def drift_table(self) -> str:
        """A table for Dagster's metadata: what drifted first, each figure with its bound and the reason for it."""
        return suites.markdown(tuple(one.finding() for one in self.drifts), examples=False)


def judge(  # noqa: PLR0913 - the partition of a home
    settings: Settings, lake: Lake, state: State, day: date, workflow: str, *, run_id: str | None = None
) -> Verdict:
    """Run the suite over the partition as it stands in the lake, compare it with the days before, write the verdict.

    A batch that a person let through stays through while its content is the same.
    """
    before = reference(state, day, workflow)
    with lake.partition("interactions", day=day, workflow=workflow, view="batch", where="batch <> ''") as connection:
        digest = digest_of(connection, day, workflow)
        counts = profile(connection)
        report = suites.run(connection, workflow, history=before.days)
        sources = connection.execute("SELECT list(DISTINCT source) FROM batch").fetchall()[0][0] or []
    imported = bool(sources) and set(sources) <= suites.IMPORTS
    drifts = tuple(drift.compare(counts, before.profiles, imported=imported))
    holds = not report.passed or any(one.blocking for one in drifts)
    override = state.override(day, workflow, digest) if holds else None
    status = BatchStatus.OVERRIDDEN if override else BatchStatus.HELD if holds else BatchStatus.ACCEPTED
    quarantined = lake.read("quarantine", days=(day, day), workflows=[workflow], columns=["quarantine_id"]).num_rows
    verdict = Verdict(day, workflow, 0, digest, status, quarantined, report, drifts)
    by = report.suite.title if report.suite else f"suite interactions_{workflow}"
    attempt = state.record_batch(
        day=day,
        workflow=workflow,
        digest=digest,
        status=status,
        rows=report.rows,
        quarantined=quarantined,
        reasons=override["reasons"] if override else verdict.reasons,
        author=override["author"] if override else by,
        run_id=run_id,
    )
    _keep(state, day, workflow, digest, counts)
    told = replace(
        verdict,
        attempt=attempt,
        override=f"{override['author']}: {'; '.join(override['reasons'])}" if override else None,
    )
    page = pages.write(settings.data_docs, day, workflow, attempt, markdown=told.markdown(), result=report.result)
    return replace(told, page=page)


@dataclass(frozen=True)
class Reference:
    """The days before a day that had rows and were let through."""

    days: int
    profiles: tuple[Profile, ...]
    """Of those whose content is still what was let through."""


def reference(state: State, day: date, workflow: str) -> Reference:
    """What a day is compared with: at most a fortnight, whatever the history."""
    first, last = day - TRAILING, day - timedelta(days=1)
    batches = state.batches(first, last, [workflow])
    good = {batch["digest"] for batch in batches if batch["rows"] and batch["status"] != BatchStatus.HELD}
    table = state.tables["profiles"]
    query = (
        sa.select(table.c.digest, table.c.counts)
        .where(table.c.workflow == workflow, table.c.day.between(first, last))
        .order_by(table.c.day)
    )
    with state.engine.connect() as connection:
        found = [row.counts for row in connection.execute(query) if row.digest in good]
    return Reference(len(good), tuple(map(Profile.from_json, found)))


def held(state: State, workflows: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The batches whose last verdict is that they are held, in order."""
    every = state.batches(date.min, date.max, workflows)
    return [batch for batch in every if batch["status"] == BatchStatus.HELD]


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
        raise BadInputError(f"{day} {workflow}: expected a held batch, {found}; `loop hold list` lists what is held")
    kept = {name: last[0][name] for name in ("day", "workflow", "digest", "rows", "quarantined")}
    state.record_batch(**kept, status=BatchStatus.OVERRIDDEN, reasons=[reason], author=author, run_id=None)
    return state.batches(day, day, [workflow])[0]


def _keep(state: State, day: date, workflow: str, digest: str, counts: Profile) -> None:
    table = state.tables["profiles"]
    told = {"digest": digest, "rows": counts.rows, "counts": counts.to_json(), "made_at": datetime.now(UTC)}
    query = postgresql.insert(table).values(day=day, workflow=workflow, **told)
    with state.transaction() as connection:
        connection.execute(query.on_conflict_do_update(index_elements=["day", "workflow"], set_=told))
