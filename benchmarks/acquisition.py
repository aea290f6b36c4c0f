"""What choosing is worth: true utility against labelled items, by how they are chosen; soft labels against votes.

    nice python -m benchmarks.acquisition --out results/     # eight worlds, resumable
    python -m benchmarks.acquisition --out results/ --table  # only the tables

Each world and workflow lives through days of decisions on what an untrained base serves (answers of the old habits).
Every day but the first, `BUDGET` of its pairs are chosen by the functions that `label_tasks` is made with, and answered
by `ANSWERS` annotators of known skill each. The arms meet the same days, candidates and people: they differ in what is
asked. The committee learns from the preferences of the floor and from the labels of the days before, as in the loop.

The measure stands for a trained policy: a reward model, which is the same kind of scorer fitted to the labels alone,
picks the best of `CANDIDATES` answers of the base to each of `PROMPTS` unseen prompts, and the truth says what that is
worth (0 a random answer, 1 the best there is). Best of n is the policy that the reward asks for, within a known
distance of the base (Stiennon et al. 2020, arXiv:2009.01325; Gao et al. 2023, arXiv:2210.10760): it says what labels
teach, and not what a small network makes of them in so many steps. Intervals are Student's t over worlds, paired; those
of the share of labels are a bootstrap over worlds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import stats
from scipy.sparse import csr_matrix

from benchmarks.signals import MONDAY, days, table_of
from loop import schema
from loop.label import tasks
from loop.label.aggregate.answers import sort
from loop.label.aggregate.stacking import Method, aggregate
from loop.label.derive import derive
from loop.label.select import questions
from loop.label.select.budget import SHARES, Reason, choose
from loop.label.select.learned import PAIRS, pairs_of
from loop.label.select.scorers import differences, fit
from loop.label.select.scores import Batch, distinct, measure, scores, seen, sketched
from loop.simulate import annotators
from loop.simulate.corpus import answer, habits
from loop.simulate.organisation import Organisation
from loop.simulate.prompts import Purpose
from loop.simulate.prompts import distinct as distinct_briefs
from loop.simulate.streams import stream
from loop.workflows import WORKFLOWS

ARMS = ("random", "disagreement", "conflict", "novelty", "mixed")
LABELS = ("majority", "votes", "one-coin", "stacked")
"""How answers become labels: the side with more votes; the shares of votes; posteriors of the aggregations."""
NAMES = ("ads", "moderation")
DAYS = 7
DECISIONS = 500
"""A day and workflow."""
BUDGET = 80
EXPLORATION = 0.3
ANSWERS = 3
ANNOTATORS = 15
FLOOR = 1_000
"""Preferences of the floor that the committee learns from."""
PROMPTS = 300
CANDIDATES = 16


@dataclass(frozen=True)
class Life:
    """What every arm of a world and workflow meets."""

    seed: int
    workflow: str
    organisation: Organisation
    asked: Sequence[pa.Table]
    """By day, the questions that are pairs; see `questions.whole`."""
    floor: Sequence[pa.Table]
    """By day, what the decisions prefer; see `learned.pairs_of`."""

    @classmethod
    def of(cls, seed: int, workflow: str) -> Life:
        organisation = Organisation(seed, workflows=[workflow], requests=4 * DECISIONS, employees=20)
        rows = table_of(days(organisation, DAYS, 0.0))
        parts = [rows.filter(pc.equal(rows["day"], pa.scalar(MONDAY + timedelta(days=i)))) for i in range(DAYS)]
        floor = [_preferred(part, seed + i) for i, part in enumerate(parts)]
        return cls(seed, workflow, organisation, [_pairs(part, seed, workflow) for part in parts], floor)

    @cached_property
    def staff(self) -> list[Any]:
        return annotators.hire(self.seed, self.workflow, ANNOTATORS)

    @cached_property
    def unseen(self) -> tuple[np.ndarray, csr_matrix]:
        """True utility of the candidates (prompts by candidates), and their features."""
        rng = stream(self.seed, "acquisition", self.workflow)
        drawn = habits(self.organisation.world, self.workflow)
        briefs = distinct_briefs(rng, self.workflow, Purpose.FINAL, PROMPTS)
        texts = [[answer(rng, drawn, brief) for _ in range(CANDIDATES)] for brief in briefs]
        worth = [
            [self.organisation.utility(self.workflow, b.messages, text) for text in of]
            for b, of in zip(briefs, texts, strict=True)
        ]
        prompts = pa.array([brief.text for brief in briefs for _ in range(CANDIDATES)])
        flat = pa.array([text for of in texts for text in of])
        return np.array(worth), differences(prompts, flat, pa.array([""] * len(flat)))

    def answers(self, row: dict[str, Any]) -> list[tuple[str, str]]:
        """Annotator and label, of each person who is asked: the same people whoever chose the question."""
        task = tasks.task(
            day=MONDAY,
            workflow=self.workflow,
            kind=tasks.Kind.PREFERENCE,
            origin=tasks.Origin.DECISION,
            reason="",
            prompt=row["prompt"],
            texts=[row["first"], row["second"]],
            event_id=row["event_id"],
        )
        rng = stream(self.seed, "asked", row["event_id"])
        asked = rng.choice(len(self.staff), ANSWERS, replace=False)
        done = rng.integers(annotators.LOAD, size=ANSWERS).tolist()
        world = self.organisation.world
        said = [annotators.answer(world, task, self.staff[i], done=n) for i, n in zip(asked, done, strict=True)]
        return [(one.annotator, str(one.label)) for one in said]

    def utility(self, taught: pa.Table) -> float:
        """What the best of n is worth under a reward model that learned from the pairs."""
        worth, features = self.unseen
        if not taught.num_rows:
            return float(worth.mean())
        reward = fit(pairs_of(taught), seed=0, members=1).weights
        picked = (features @ reward).reshape(worth.shape).argmax(axis=1)
        return float(worth[np.arange(len(picked)), picked].mean())


def _pairs(rows: pa.Table, seed: int, workflow: str) -> pa.Table:
    with duckdb.connect(":memory:", config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("interactions", rows)
        connection.register("signals", schema.SIGNALS.empty().select(["event_id", "weight"]))
        questions.prepare(connection, held_out_share=0.0, seed=seed, workflow=WORKFLOWS[workflow])
        query = "SELECT draw FROM questions WHERE no_question IS NULL AND kind = 'preference' ORDER BY draw"
        return questions.whole(connection, connection.sql(query).to_arrow_table()["draw"].to_pylist())


def _preferred(rows: pa.Table, seed: int) -> pa.Table:
    """An even part of `FLOOR` from a day's preferences."""
    found = derive(rows, held_out_share=0.0).preferences
    order = np.random.default_rng(seed).permutation(found.num_rows)[: FLOOR // (DAYS - 1)]
    found = found.take(pa.array(np.sort(order)))
    asked = pa.array([messages[-1]["content"] for messages in found["prompt"].to_pylist()], pa.string())
    columns = {"preferred": found["chosen"], "other": found["rejected"], "who": found["employee"]}
    return pa.table({"asked": asked, "weight": found["weight"], **columns}).select(PAIRS.names).cast(PAIRS)


# -- one arm -----------------------------------------------------------------------------------------------------------


def live(life: Life, arm: str) -> dict[str, Any]:
    """Utility after each day of asking, and what was asked."""
    rows: list[dict[str, Any]] = []
    said: list[list[tuple[str, str]]] = []
    utilities, reasons = [], []
    for day in range(1, DAYS):
        table, batch, found = _scored(life, day, rows, said, arm)
        taken = choose(batch.draw, found, budget=BUDGET, acquisition=arm, exploration=EXPLORATION)
        places = {draw: place for place, draw in enumerate(table["draw"].to_pylist())}
        fresh = table.take(pa.array([places[draw] for draw in batch.draw[taken.place].tolist()])).to_pylist()
        rows += fresh
        said += [life.answers(row) for row in fresh]
        reasons += [reason.value for reason in taken.reason]
        utilities.append(life.utility(taught(rows, said, "votes")))
    truths = [
        annotators.truth(
            life.organisation.world,
            {**row, "kind": "preference", "texts": [row["first"], row["second"]]} | {"workflow": life.workflow},
        )
        for row in rows
    ]
    right = [label == truth for labels, truth in zip(said, truths, strict=True) if truth for _, label in labels]
    return {
        "utility": utilities,
        "right": float(np.mean(right)),
        "reasons": {name: reasons.count(name) for name in sorted(set(reasons))},
        "by labels": {how: life.utility(taught(rows, said, how)) for how in LABELS} if arm == "random" else None,
    }


def _scored(
    life: Life, day: int, rows: list[dict[str, Any]], said: list[list[tuple[str, str]]], arm: str
) -> tuple[pa.Table, Batch, dict[Reason, np.ndarray]]:
    """A day's questions, measured and scored as `tasks_of_day` does, all of them in the pool."""
    workflow = WORKFLOWS[life.workflow]
    before = [pa.array([row[name] for row in rows], pa.string()) for name in ("asked", "first", "second")]
    table = life.asked[day].rename_columns(
        ["held_out" if name == "is_held_out" else name for name in life.asked[day].column_names]
    )
    batch = measure([table], asked=seen(*before), benchmark=seen(), workflow=workflow)
    places, _ = distinct(batch, sketched(*before))
    batch = batch.take(places)
    if not SHARES[arm]:
        return table, batch, {}
    known = pa.concat_tables([taught(rows, said, "votes"), *life.floor[:day]])
    committee = fit(pairs_of(known), seed=life.seed)
    pool = np.arange(len(batch))
    return table, batch, scores(batch, pool, table.take(pa.array(places)), committee, workflow)


def taught(rows: list[dict[str, Any]], said: list[list[tuple[str, str]]], how: str) -> pa.Table:
    """Labelled pairs: either side preferred, with what is believed of that; ties and neither teach nothing.

    An item that is believed both ways is two mirrored pairs of one `who`, which `scorers.fit` counts as one item.
    """
    belief = _beliefs(said, how)
    found = [
        {"asked": row["asked"], "preferred": row[one], "other": row[other], "weight": believed[one]}
        | {"who": row["event_id"]}
        for row, believed in zip(rows, belief, strict=True)
        for one, other in (("first", "second"), ("second", "first"))
        if believed[one] > 0
    ]
    return pa.Table.from_pylist(found, schema=PAIRS)


def _beliefs(said: list[list[tuple[str, str]]], how: str) -> list[dict[str, float]]:
    shares = [{side: sum(label == side for _, label in of) / len(of) for side in tasks.SIDES} for of in said]
    match how:
        case "votes":
            return shares
        case "majority":
            best = [max(of.values()) for of in shares]
            return [
                {side: float(share == top and list(of.values()).count(top) == 1) for side, share in of.items()}
                for of, top in zip(shares, best, strict=True)
            ]
        case _:
            who, what, label = zip(*((w, i, one) for i, of in enumerate(said) for w, one in of), strict=True)
            soft = aggregate(sort(who, what, label, tasks.SIDES).answers, Method(how))
            order = {task: place for place, task in enumerate(soft.answers.tasks)}
            return [
                dict(zip(tasks.SIDES, soft.probabilities[order[i]].tolist(), strict=True)) for i in range(len(said))
            ]


# -- all of them -------------------------------------------------------------------------------------------------------


def run(seed: int, workflow: str, out: Path) -> None:
    file = out / f"acquisition-{workflow}-{seed}.json"
    if file.exists():
        return
    started = time.process_time()
    life = Life.of(seed, workflow)
    worth = life.unseen[0]
    result = {"base": float(worth.mean()), "best": float(worth.max(axis=1).mean())}
    result |= {
        "floor": life.utility(pa.concat_tables(life.floor)),
        "arms": {arm: live(life, arm) for arm in ARMS},
        "seconds": time.process_time() - started,
    }
    file.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{workflow}, world {seed}: {result['seconds']:.0f} s of CPU", file=sys.stderr, flush=True)


def results(out: Path) -> list[list[dict[str, Any]]]:
    """Of each world that is complete, a result a workflow."""
    seeds = sorted({int(file.stem.rpartition("-")[2]) for file in out.glob("acquisition-*.json")})
    files = [[out / f"acquisition-{name}-{seed}.json" for name in NAMES] for seed in seeds]
    return [[json.loads(file.read_text()) for file in of] for of in files if all(file.exists() for file in of)]


def table(out: Path) -> str:
    """Markdown: the curves, what they are to random's, and labels by aggregation."""
    found = results(out)
    if not found:
        return "no world is complete yet"
    curves = {arm: np.array([np.mean([r["arms"][arm]["utility"] for r in of], axis=0) for of in found]) for arm in ARMS}
    counts = BUDGET * np.arange(1, DAYS)
    means = {name: np.mean([[r[name] for r in of] for of in found]) for name in ("base", "best", "floor")}
    right = {arm: np.mean([[r["arms"][arm]["right"] for r in of] for of in found]) for arm in ARMS}
    lines = [
        f"{len(found)} worlds, {', '.join(NAMES)}; base {means['base']:.3f}; best of {CANDIDATES} {means['best']:.3f}",
        f"under a reward from {FLOOR} preferences of the floor: {means['floor']:.3f}",
        "",
        f"| acquisition | {' | '.join(map(str, counts))} | answers that are right |",
        "|---" * (len(counts) + 2) + "|",
        *(f"| {a} | {' | '.join(f'{u:.3f}' for u in curves[a].mean(axis=0))} | {right[a]:.3f} |" for a in ARMS),
        "",
        "| less random, 95 % | at the end | over the curve | labels for what random reaches with all, share |",
        "|---|---|---|---|",
    ]
    for arm in ARMS[1:]:
        gain = curves[arm] - curves["random"]
        cells = [interval(gain[:, -1]), interval(gain.mean(axis=1)), share(curves[arm], curves["random"], counts)]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    labels = {
        how: np.array([np.mean([r["arms"]["random"]["by labels"][how] for r in of]) for of in found]) for how in LABELS
    }
    lines += [
        "",
        "| labels of the random arm | utility | less majority, 95 % | less votes, 95 % |",
        "|---|---|---|---|",
    ]
    for how, u in labels.items():
        less = " | ".join(interval(u - labels[other]) for other in ("majority", "votes"))
        lines.append(f"| {how} | {u.mean():.3f} | {less} |")
    return "\n".join(lines)


def interval(values: np.ndarray) -> str:
    if len(values) < 2 or not values.any():
        return f"{values.mean():+.3f}"
    half = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
    return f"{values.mean():+.3f} ({values.mean() - half:+.3f} to {values.mean() + half:+.3f})"


def share(curve: np.ndarray, by: np.ndarray, counts: np.ndarray) -> str:
    """Labels after which the mean curve reaches the end of the other's, as a share of all; above 1: it does not."""
    rng = np.random.default_rng(0)
    drawn = [rng.integers(len(curve), size=len(curve)) for _ in range(2_000)]
    found = sorted(_reached(curve[i].mean(axis=0), by[i].mean(axis=0), counts) for i in drawn)
    low, high = found[50], found[1949]
    return f"{_said(_reached(curve.mean(axis=0), by.mean(axis=0), counts))} ({_said(low)} to {_said(high)})"


def _reached(curve: np.ndarray, by: np.ndarray, counts: np.ndarray) -> float:
    rising = np.maximum.accumulate(np.concatenate([[0.0], curve]))
    if rising[-1] < by[-1]:
        return float("inf")
    return float(np.interp(by[-1], rising, np.concatenate([[0], counts])) / counts[-1])


def _said(value: float) -> str:
    return "over 1" if value > 1 else f"{value:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=8)
    parser.add_argument("--first", type=int, default=300, help="first world; those below 100 were looked at")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="only print the tables of what is there")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if not given.table:
        for seed in range(given.first, given.first + given.worlds):
            for workflow in NAMES:
                run(seed, workflow, given.out)
    print(table(given.out))


if __name__ == "__main__":
    main()
