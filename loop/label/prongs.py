"""Two prongs compared: what feedback from the floor and what annotators' answers teach, and what either costs.

Each source teaches a preference scorer of its own, and all are asked the same: which text did people prefer whom no
source knows (held-out decisions), and where it is known, what is right (gold). The measure is of a scorer, not of a
model trained on it; benchmarks/prongs.py measures true utility, in a world where it is known.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from loop.config import Settings
from loop.label import gold, tasks
from loop.label.annotations import FUNCTION, standing
from loop.label.derive import split_of
from loop.label.select.learned import LEAST, MOST, PAIRS, pairs_of
from loop.label.select.questions import CHARS
from loop.label.select.scorers import Committee, fit
from loop.label.synthesize.ablation import LEAST_PEOPLE, interval
from loop.label.tasks import Kind, Origin
from loop.label.vendor import ledger
from loop.label.vendor.deliver import SOURCE
from loop.lake import Lake
from loop.schema import Split
from loop.state import State

FLOOR: Final = "floor"
"""The source of decisions at work."""


@dataclass(frozen=True)
class Source:
    """What one source gave, cost and taught."""

    source: str
    """floor, or a source of annotations: page, studio, vendor, import, adjudication,
    function."""
    answers: int
    """Decisions of the training side, whatever they teach, or answers that count, of all kinds."""
    people: int
    cost: float
    """Of all of these, in `pay_currency`."""
    assumed: float
    """Share of the answers whose cost is the setting's, because time or pay is not known."""
    pairs: int
    """Preferences that a scorer was fitted to, at most `MOST`."""
    cost_of_pairs: float
    """What was paid for them: for all decisions, or all answers to questions of preference, ties too; of more than
    `MOST` pairs their part of it. Known answers (gold) and benchmark questions teach nothing here and are not in it."""
    agreement: float | None
    """Share of the held-out decisions' preferences that the scorer agrees with; None where it could not be measured."""
    low: float | None
    high: float | None
    """95 % interval, over people; None of fewer than five."""
    on_gold: float | None
    """Share of the gold preferences."""
    gain_per_cost: float | None
    """Agreement above chance, for each unit of `cost_of_pairs`; None where that is 0."""


@dataclass(frozen=True)
class Compared:
    """All sources of a workflow, and on what they were measured."""

    held_out: int
    """Preferences of held-out decisions."""
    held_out_people: int
    gold: int
    sources: tuple[Source, ...]


def compare(settings: Settings, lake: Lake, state: State, workflow: str, days: tuple[date, date]) -> Compared:
    """What each source of a workflow gave in some days, what it cost, and what a scorer that learned of it predicts."""
    accepted = pa.array(sorted(state.accepted_digests(*days)), pa.string())
    asked = {row["label_task_id"]: row for row in tasks.read(lake, days=days, workflows=[workflow]).to_pylist()}
    with state.engine.connect() as connection:
        known = {task: g.label for task, g in gold.latest(connection, state).items() if g.label and task in asked}
    right = pairs_of_answers([(asked[task], [label]) for task, label in known.items()])
    # what is known of a decision is no test of who learned from that decision
    judged = {asked[task]["event_id"] for task in known} - {None}
    sides = _floor(lake, workflow, days, accepted, judged)
    measure = _Measure(sides[Split.HELD_OUT], right)

    found = []
    made = _decisions(settings, lake, workflow, days, accepted)
    if made.num_rows:
        people = pc.count_distinct(made["employee"]).as_py()
        cost, learned = (n * settings.decision_cost for n in (made.num_rows, _without(made, judged).num_rows))
        floor = _Given(FLOOR, made.num_rows, people, cost, 1.0, sides[Split.TRAIN], learned)
        found.append(measure.source(floor))
    prices = ledger.prices(settings)
    for source, said in sorted(_answers(state, workflow, days).items()):
        costs = [_cost(settings, prices, row) for row in said]
        votes: dict[str, list[str]] = defaultdict(list)
        learned = 0.0
        for row, (price, _) in zip(said, costs, strict=True):
            task = asked.get(row["label_task_id"])
            if task and _teaches(task, known, judged):
                votes[row["label_task_id"]].append(row["label"] or "")
                learned += price
        pairs = pairs_of_answers([(asked[task], labels) for task, labels in votes.items()])
        paid, assumed = sum(c for c, _ in costs), sum(a for _, a in costs) / len(costs)
        people = len({row["annotator"] for row in said})
        found.append(measure.source(_Given(source, len(said), people, paid, assumed, pairs, learned)))
    counts = sides[Split.HELD_OUT]
    return Compared(counts.num_rows, len(set(counts["who"].to_pylist())), right.num_rows, tuple(found))


def pairs_of_answers(rows: Sequence[tuple[Mapping[str, Any], Sequence[str]]]) -> pa.Table:
    """Pairs (schema `learned.PAIRS`) from preference tasks and what was said of each; a pair weighs by its lean."""
    found = []
    for task, labels in rows:
        lean = (labels.count("first") - labels.count("second")) / len(labels) if labels else 0.0
        if task["kind"] != Kind.PREFERENCE or len(task["texts"]) != 2 or not lean:
            continue
        texts = task["texts"] if lean > 0 else task["texts"][::-1]
        asked = task["prompt"][-1]["content"][-CHARS:] if task["prompt"] else ""
        pair = {"asked": asked, "preferred": texts[0][:CHARS], "other": texts[1][:CHARS]}
        found.append(pair | {"weight": abs(lean), "who": task["label_task_id"]})
    return pa.Table.from_pylist(found, schema=PAIRS)


# -- inside -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Given:
    """What a source gave, before anything is learned of it."""

    source: str
    answers: int
    people: int
    cost: float
    assumed: float
    pairs: pa.Table
    learned: float
    """What was paid for all of the pairs."""


@dataclass(frozen=True)
class _Measure:
    """On what every source is measured."""

    held_out: pa.Table
    right: pa.Table

    def source(self, given: _Given) -> Source:
        pairs = _some(given.pairs, MOST)
        cost = given.learned * pairs.num_rows / given.pairs.num_rows if pairs.num_rows else 0.0
        agreement = low = high = on_gold = None
        if pairs.num_rows >= LEAST:
            scorer = fit(pairs_of(pairs), seed=0, members=1)
            hits = _hits(scorer, self.held_out)
            agreement = float(hits.mean()) if len(hits) else None
            who = self.held_out["who"].to_pylist()
            if len(set(who)) >= LEAST_PEOPLE:
                low, high = interval(hits, who)
            on_gold = float(_hits(scorer, self.right).mean()) if self.right.num_rows else None
        gain = (agreement - 0.5) / cost if agreement is not None and cost else None
        plain = (given.source, given.answers, given.people, given.cost, given.assumed)
        return Source(*plain, pairs.num_rows, cost, agreement, low, high, on_gold, gain)


def _hits(scorer: Committee, pairs: pa.Table) -> np.ndarray:
    """1 where the scorer prefers what people did, 0 where it does not, 1/2 where it does not know."""
    texts = (pairs[name].combine_chunks() for name in ("asked", "preferred", "other"))
    probability = scorer.opinion(*texts).probability
    return np.where(probability == 0.5, 0.5, probability > 0.5).astype(np.float64)


def _floor(
    lake: Lake, workflow: str, days: tuple[date, date], accepted: pa.Array, judged: AbstractSet[str]
) -> dict[Split, pa.Table]:
    """Preferences of decisions as pairs, by side; of the training side without those of the judged decisions."""
    columns = ["event_id", "prompt", "chosen", "rejected", "weight", "employee", "split", "superseded_at", "batch"]
    rows = lake.read("preferences", days=days, workflows=[workflow], columns=columns)
    rows = rows.filter(pc.and_(pc.is_in(rows["batch"], accepted), pc.is_null(rows["superseded_at"])))
    sides = {side: rows.filter(pc.equal(rows["split"], side.value)) for side in Split}
    sides[Split.TRAIN] = _without(sides[Split.TRAIN], judged)
    return {side: _pairs(of) for side, of in sides.items()}


def _pairs(rows: pa.Table) -> pa.Table:
    """Rows of `preferences` as pairs."""
    asked = [(messages[-1]["content"] if messages else "")[-CHARS:] for messages in rows["prompt"].to_pylist()]
    texts = {
        new: pc.utf8_slice_codeunits(rows[old], 0, CHARS)
        for new, old in (("preferred", "chosen"), ("other", "rejected"))
    }
    told = {"asked": pa.array(asked, pa.string()), **texts, "weight": rows["weight"], "who": rows["employee"]}
    return pa.table(told).select(PAIRS.names).cast(PAIRS)


def _decisions(settings: Settings, lake: Lake, workflow: str, days: tuple[date, date], accepted: pa.Array) -> pa.Table:
    """Every decision of the training side, those too that teach no preference: they are paid for all the same."""
    columns = ["event_id", "employee", "task_id", "decision", "batch"]
    rows = lake.read("interactions", days=days, workflows=[workflow], columns=columns)
    rows = rows.filter(pc.and_(pc.is_in(rows["batch"], accepted), pc.not_equal(rows["decision"], "ignore")))
    for name in ("employee", "task_id"):
        held = [
            value
            for value in pc.unique(rows[name]).to_pylist()
            if split_of(value, settings.held_out_share, settings.seed) is Split.HELD_OUT
        ]
        rows = rows.filter(pc.invert(pc.is_in(rows[name], pa.array(held, pa.string()))))
    return rows


def _without(rows: pa.Table, events: AbstractSet[str]) -> pa.Table:
    return rows.filter(pc.invert(pc.is_in(rows["event_id"], pa.array(sorted(events), pa.string()))))


def _teaches(task: Mapping[str, Any], known: Mapping[str, Any], judged: AbstractSet[str]) -> bool:
    """Whether an answer to the task is one to learn a preference from, and none of what sources are measured on."""
    asks = task["kind"] == Kind.PREFERENCE and task["origin"] != Origin.BENCHMARK
    return asks and task["label_task_id"] not in known and task["event_id"] not in judged


def _some(pairs: pa.Table, most: int) -> pa.Table:
    """At most so many, drawn at random."""
    if pairs.num_rows <= most:
        return pairs
    return pairs.take(pa.array(np.sort(np.random.default_rng(0).permutation(pairs.num_rows)[:most])))


def _answers(state: State, workflow: str, days: tuple[date, date]) -> dict[str, list[dict[str, Any]]]:
    """By source, the answers that stand and count, with what is known of the annotator's pay."""
    said, who = state.tables["annotations"], state.tables["annotators"]
    last = standing(said, said.c.workflow == workflow, said.c.day.between(*days))
    query = sa.select(last, who.c.pay_per_hour).outerjoin(who, who.c.annotator == last.c.annotator)
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    with state.engine.connect() as connection:
        for row in connection.execute(query).mappings():
            found[row["source"]].append(dict(row))
    return dict(found)


def _cost(settings: Settings, prices: Mapping[str, float], row: Mapping[str, Any]) -> tuple[float, bool]:
    """What an answer cost, and whether that is assumed. A labelling function's answer costs nothing more, a vendor's
    what was agreed on for its batch.
    """
    if row["source"] == FUNCTION:
        return 0.0, False
    batch = (row["source_id"] or "").partition("/")[0] if row["source"] == SOURCE else ""
    if batch in prices:
        return prices[batch], False
    if row["pay_per_hour"] is None or row["seconds"] is None:
        return settings.answer_cost, True
    return row["seconds"] / 3600 * row["pay_per_hour"], False
