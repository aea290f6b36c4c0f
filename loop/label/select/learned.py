"""What the committee of scorers learns from: preferences of accepted batches and labels, of the days before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from loop.config import Settings
from loop.label.aggregate.teaching import lean
from loop.label.select.questions import CHARS
from loop.label.select.scorers import Committee, Pairs, fit
from loop.label.tasks import Kind, Origin
from loop.lake import Lake
from loop.schema import Split
from loop.state import State

MOST: Final = 1_200
"""Pairs that are learned from, the newest days first: what keeps a day's cost independent of history."""
LEAST: Final = 20
"""Of fewer pairs nothing is learned."""

_COLUMNS: Final = ("asked", "preferred", "other", "weight", "who")


def committee_of(
    settings: Settings, lake: Lake, state: State, day: date, workflow: str
) -> tuple[Committee | None, int]:
    """A committee as of the beginning of a day, and how many pairs it learned from; None where these are too few."""
    first, last = day - timedelta(days=settings.window_days), day - timedelta(days=1)
    accepted = sorted(state.accepted_digests(first, last))
    labelled = _labelled(lake, (first, last), workflow, accepted)
    found = [labelled.slice(max(0, labelled.num_rows - MOST // 2))]
    there = MOST - found[0].num_rows
    for earlier in reversed(
        [d for d, name in lake.partitions("preferences") if name == workflow and first <= d <= last]
    ):
        if there <= 0:
            break
        found.append(_preferred(lake, earlier, workflow, accepted, there))
        there -= found[-1].num_rows
    rows = pa.concat_tables(found)
    if rows.num_rows < LEAST:
        return None, 0
    return fit(pairs_of(rows), seed=settings.seed), rows.num_rows


def pairs_of(rows: pa.Table) -> Pairs:
    """Pairs from a table of `asked`, `preferred`, `other`, `weight` and `who` said so."""
    columns = {name: rows[name].combine_chunks() for name in _COLUMNS}
    return Pairs(
        prompt=columns["asked"],
        preferred=columns["preferred"],
        other=columns["other"],
        weight=columns["weight"].to_numpy(),
        cluster=np.asarray(columns["who"].dictionary_encode().indices, np.int64),
    )


def _preferred(lake: Lake, day: date, workflow: str, accepted: Sequence[str], most: int) -> pa.Table:
    """At most so many pairs of a day's training side, drawn by the hash of their ids."""
    query = f"""
    SELECT coalesce(right(prompt[-1].content, {CHARS}), '') AS asked, left(chosen, {CHARS}) AS preferred,
        left(rejected, {CHARS}) AS other, weight, employee AS who
    FROM preferences JOIN accepted USING (batch)
    WHERE split = '{Split.TRAIN.value}' AND superseded_at IS NULL AND weight > 0
    ORDER BY md5_number_lower(preference_id) LIMIT {int(most)}
    """  # noqa: S608
    with lake.partition("preferences", day=day, workflow=workflow, view="preferences") as connection:
        connection.register("accepted", pa.table({"batch": pa.array(accepted, pa.string())}))
        return connection.sql(query).to_arrow_table().cast(PAIRS)


def _labelled(lake: Lake, days: tuple[date, date], workflow: str, accepted: Sequence[str]) -> pa.Table:
    """What annotators together hold of pairs, in the order of the days: a pair weighs by how far it leans."""
    labels = lake.read(
        "task_labels", days=days, workflows=[workflow], columns=["label_task_id", "kind", "probabilities"]
    )
    labels = labels.filter(pc.equal(labels["kind"], Kind.PREFERENCE.value))
    believed = {row["label_task_id"]: lean(row["probabilities"]) for row in labels.to_pylist()}
    rows: list[dict[str, Any]] = []
    if believed:
        asked = lake.read("label_tasks", days=days, workflows=[workflow]).sort_by([("day", "ascending")])
        known = set(accepted)
        for task in asked.to_pylist():
            leaning = believed.get(task["label_task_id"], 0.0)
            usable = task["origin"] != Origin.BENCHMARK and task["batch"] in {"", *known} and len(task["texts"]) == 2
            if not leaning or not usable:
                continue
            texts = task["texts"] if leaning > 0 else task["texts"][::-1]
            rows.append(
                {
                    "asked": (task["prompt"][-1]["content"] if task["prompt"] else "")[-CHARS:],
                    "preferred": texts[0][:CHARS],
                    "other": texts[1][:CHARS],
                    "weight": abs(leaning),
                    "who": task["label_task_id"],
                }
            )
    return pa.Table.from_pylist(rows, schema=PAIRS)


PAIRS: Final = pa.schema([(name, pa.float64() if name == "weight" else pa.string()) for name in _COLUMNS])
