"""The label tasks of a day and workflow: from its accepted decisions into `label_tasks`, and what may be told of it.

What was asked stays asked: a rerun finds the tasks that are there and only fills what is left of the budget, so that
no answer loses its task and no day is asked twice. The cost is that of the day's rows: of earlier days at most `MOST`
pairs are learned from, and the tasks of `MEMORY` are not asked again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from loop import schema
from loop.config import Settings
from loop.label import tasks
from loop.label.select import questions, risk
from loop.label.select.budget import Reason, choose
from loop.label.select.learned import committee_of
from loop.label.select.scores import distinct, measure, pooled, scores, seen, sketched
from loop.label.select.words import Hashes
from loop.label.tasks import Kind, Origin
from loop.lake import Lake, from_rows
from loop.state import State
from loop.workflows import WORKFLOWS, Workflow

if TYPE_CHECKING:
    import duckdb

MEMORY: Final = timedelta(days=28)
"""Questions of so many days are not asked again, nor are near-duplicates of them."""
REASONS: Final = tuple(reason.value for reason in Reason)


@dataclass
class Selected:
    """What became of a partition: `interactions == asked + left + set_aside.total()`."""

    interactions: int = 0
    asked: int = 0
    """New tasks."""
    standing: int = 0
    """Tasks that were there before, and stay."""
    left: int = 0
    """Questions that the budget did not reach."""
    learned_from: int = 0
    """Pairs of the committee; 0: there was none, and what it measures was not measured."""
    set_aside: Counter[str] = field(default_factory=Counter)
    """Decisions that ask nothing, or nothing new, by reason."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Of the new tasks."""
    kinds: Counter[str] = field(default_factory=Counter)

    def told(self) -> dict[str, Any]:
        counts = {"interactions": self.interactions, "asked": self.asked, "standing": self.standing, "left": self.left}
        return {
            **counts,
            "pairs learned from": self.learned_from,
            **{f"set aside/{reason}": count for reason, count in sorted(self.set_aside.items())},
            **{f"asked for/{reason}": count for reason, count in sorted(self.reasons.items())},
            **{f"kind/{kind}": count for kind, count in sorted(self.kinds.items())},
        }


def build(settings: Settings, lake: Lake, state: State, day: date, workflow: str) -> Selected:
    """Choose the questions of a day and workflow and write them as tasks.

    Read are the batch, in pieces; its signals; of days before, the tasks, and pairs that were preferred.
    """
    which: dict[str, Any] = {"day": day, "workflow": workflow}
    accepted = sorted(state.accepted_digests(day, day))
    listed = ", ".join(f"'{digest}'" for digest in accepted) or "''"
    with (
        state.building(day, workflow),  # before the lake's own locks: whoever has it may want these
        lake.pinned("interactions", "label_tasks"),  # an erasure waits until what was read stands where it looks next
        lake.partition("interactions", **which, view="every", where="batch <> ''") as connection,
    ):
        connection.execute(f"CREATE TEMP VIEW interactions AS FROM every WHERE batch IN ({listed})")
        columns = ["event_id", "weight"]
        weights = (
            lake.read("signals", days=(day, day), workflows=[workflow], columns=columns) if settings.signals else None
        )
        connection.register("signals", schema.SIGNALS.empty().select(columns) if weights is None else weights)
        questions.prepare(
            connection, held_out_share=settings.held_out_share, seed=settings.seed, workflow=WORKFLOWS[workflow]
        )
        told = Selected(interactions=_count(connection, "every"))
        if held := told.interactions - _count(connection, "interactions"):
            told.set_aside["the batch is not accepted"] = held
        found = lake.read("label_tasks", days=(day, day), workflows=[workflow])
        there, standing = _standing(connection, found)
        told.standing = int(standing.sum())
        fresh = _chosen(settings, lake, state, connection, there, told, which)
        if fresh or not there.equals(found):
            together = pa.concat_tables([there, from_rows(fresh, schema.LABEL_TASKS)])
            lake.overwrite("label_tasks", together, **which)
    accounted = told.asked + told.left + told.set_aside.total()
    assert told.interactions == accounted, f"{told.interactions} interactions, {accounted} accounted for"
    return told


def _chosen(  # noqa: PLR0913, PLR0917 - what is read, and what is told of it
    settings: Settings,
    lake: Lake,
    state: State,
    connection: duckdb.DuckDBPyConnection,
    there: pa.Table,
    told: Selected,
    which: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """New tasks, as rows; what becomes of the questions is added to `told`."""
    day, workflow = which["day"], WORKFLOWS[which["workflow"]]
    before = lake.read("label_tasks", days=(day - MEMORY, day - timedelta(days=1)), workflows=[workflow.name])
    asked = pa.concat_tables([before, there])
    prompts = lake.read("benchmark", days=(date.min, day), workflows=[workflow.name], columns=["prompt"])
    batch = measure(
        questions.pieces(connection, told.set_aside),
        asked=seen(*texts_of(asked)),
        benchmark=seen(last_of(prompts["prompt"])),
        workflow=workflow,
    )
    places, known = distinct(batch, sketched(*texts_of(asked)))
    for reason, count in (("asked before", known), ("near-duplicate", len(batch) - known - len(places))):
        if count:
            told.set_aside[reason] += count
    batch = batch.take(places)
    budget = max(0, settings.label_budget - told.standing)
    found = {reason: np.full(len(batch), np.nan) for reason in Reason}
    if budget and settings.acquisition != "random":
        pool = pooled(batch)
        committee, told.learned_from = committee_of(settings, lake, state, day, workflow.name)
        texts = questions.whole(connection, batch.draw[pool].tolist())
        found = scores(batch, pool, texts, committee, workflow)
    taken = choose(
        batch.draw,
        found,
        budget=budget,
        acquisition=settings.acquisition,
        exploration=settings.label_exploration,
        informed=~batch.held_out,  # what evaluates is drawn at random alone
        salt=salt_of(batch.draw),
    )
    rows = questions.whole(connection, batch.draw[taken.place].tolist()).to_pylist()
    reasons = [reason.value for reason in taken.reason]
    told.asked, told.left = len(rows), len(batch) - len(rows)
    told.reasons.update(reasons)
    told.kinds.update(row["kind"] for row in rows)
    now = datetime.now(UTC)
    return [
        _task(settings, workflow, day, row, reason, propensity, now)
        for row, reason, propensity in zip(rows, reasons, taken.propensity.tolist(), strict=True)
    ]


def _task(  # noqa: PLR0913, PLR0917 - where it comes from, and why
    settings: Settings,
    workflow: Workflow,
    day: date,
    row: Mapping[str, Any],
    reason: str,
    propensity: float,
    now: datetime,
) -> dict[str, Any]:
    kind = Kind(row["kind"])
    texts = [row["first"], *([row["second"]] if kind is Kind.PREFERENCE else [])]
    return tasks.task(
        day=day,
        workflow=workflow.name,
        kind=kind,
        origin=Origin.BENCHMARK if row["is_held_out"] else Origin.DECISION,
        reason=reason,
        prompt=[] if kind is Kind.CATEGORY else row["prompt"],
        texts=texts,
        options=workflow.parts[workflow.categories] if kind is Kind.CATEGORY and workflow.categories else (),
        propensity=propensity,
        wanted=settings.label_answers,
        harm=risk.harm(workflow, row["asked"], *texts),
        event_id=row["event_id"],
        employee=row["employee"],
        batch=row["batch"],
        selected_at=now,
    )


def _standing(connection: duckdb.DuckDBPyConnection, there: pa.Table) -> tuple[pa.Table, Any]:
    """The tasks of the partition, and which of them were chosen from decisions that the batch still has.

    These bear the digest of the batch as it is now: a decision that came late makes another batch of the same
    decisions, and takes no task away. A task whose decision is gone stays, with the digest of a batch that is not
    accepted: nothing is learned from its answers.
    """
    connection.register("there", there.select(["label_task_id", "event_id", "reason"]))
    query = """
    SELECT t.label_task_id, i.batch FROM there t JOIN interactions i USING (event_id)
    WHERE t.reason IN (SELECT unnest(?))
    """
    now = dict(connection.execute(query, [list(REASONS)]).fetchall())
    ids = there["label_task_id"].to_pylist()
    batches = [now.get(i, was) for i, was in zip(ids, there["batch"].to_pylist(), strict=True)]
    place = there.column_names.index("batch")
    renewed = there.set_column(place, there.schema.field("batch"), pa.array(batches, pa.string()))
    return renewed, np.array([i in now for i in ids], bool)


def salt_of(draw: Hashes) -> int:
    """64 bits that are others for other questions, so that what a selection left over is drawn from afresh.

    Not of the tasks that stand: once all of a day are erased there are none again, as before the first selection. By
    the salt of that the left over would have high draws and whoever came since would be preferred to them.
    """
    return int.from_bytes(hashlib.sha256(np.sort(draw).astype("<u8").tobytes()).digest()[:8], "big")


def texts_of(asked: pa.Table) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Prompt and texts of tasks, cut as those of questions are: the last of a prompt, the first of a text."""
    texts = asked["texts"].to_pylist()
    first, second = (pa.array([(t[n] if len(t) > n else "") for t in texts], pa.string()) for n in (0, 1))
    prompt = last_of(asked["prompt"])
    alone = pc.equal(prompt, "")  # a category is asked of a prompt that stands as the text
    return (
        pc.utf8_slice_codeunits(pc.if_else(alone, first, prompt), -questions.CHARS),
        pc.utf8_slice_codeunits(first, 0, questions.CHARS),
        pc.utf8_slice_codeunits(second, 0, questions.CHARS),
    )


def last_of(prompts: pa.ChunkedArray) -> pa.Array:
    """The last message of each conversation; empty where there is none."""
    said: Sequence[Any] = prompts.to_pylist()
    return pa.array([messages[-1]["content"] if messages else "" for messages in said], pa.string())


def _count(connection: duckdb.DuckDBPyConnection, view: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {view}").fetchall()[0][0])  # noqa: S608
