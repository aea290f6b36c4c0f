"""Two prongs compared: feedback from the floor against professional labels, gain per cost, where the truth is known.

    nice python -m benchmarks.prongs [--worlds 10] [--decision-cost 0.02] [--pay 20] [--json]

In each world the floor decides on pairs of answers of the old habits (some edit, some reject, some take what stands
first unread), and annotators hired for it compare pairs of the same kind. A decision costs what the setting says; an
annotator's answer, the seconds that it took at the given pay. What either teaches is measured alike: a preference
scorer fitted to it picks the best of `CANDIDATES` answers to unseen prompts, and the truth says how much better that
is than a random one of them (0: no better; utility is 1 for the best answer there is). All sources of a world meet the
same unseen prompts, so differences are paired; intervals are Student's t over worlds.

`worth` is free of prices: how many decisions of the floor teach what one answer of an annotator does.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import stats

from benchmarks.signals import MONDAY, days, table_of
from loop.label import tasks
from loop.label.derive import derive
from loop.label.prongs import pairs_of_answers
from loop.label.select.learned import PAIRS, pairs_of
from loop.label.select.scorers import differences, fit
from loop.simulate import annotators
from loop.simulate.corpus import answer, habits
from loop.simulate.organisation import Organisation
from loop.simulate.prompts import Purpose, distinct, draw
from loop.simulate.streams import stream

NAMES = ("ads", "moderation", "design", "comms")
"""A world has one workflow: they take turns, so that ten worlds have each two or three times."""
BUDGETS = (5.0, 20.0, 80.0)
SOURCES = ("floor", "annotators", "annotators, three each", "half and half")
DECISIONS = 4_000
DAYS = 8
PROMPTS = 300
CANDIDATES = 16
GRID = (8, 16, 31, 62, 125, 250, 500, 1_000, 2_000, 4_000)
"""Decisions at which the floor's curve is known. Of what the fewest teach as well it is known only that it is less."""
ANSWERS = 250
"""Answers of annotators that are exchanged for decisions."""


class World:
    """One world and workflow: what the floor did, what annotators say, and what the truth says of a scorer."""

    def __init__(self, seed: int) -> None:
        self.seed, self.workflow = seed, NAMES[seed % len(NAMES)]
        self.organisation = Organisation(
            seed, workflows=[self.workflow], requests=4 * DECISIONS // DAYS * 5 // 4, employees=20
        )
        self.events = days(self.organisation, DAYS, 0.0)[:DECISIONS]
        assert len(self.events) == DECISIONS, len(self.events)
        self.staff = annotators.hire(seed, self.workflow, 15)
        self.drawn = habits(self.organisation.world, self.workflow)
        rng = stream(seed, "prongs", self.workflow)
        briefs = distinct(rng, self.workflow, Purpose.FINAL, PROMPTS)
        texts = [[answer(rng, self.drawn, brief) for _ in range(CANDIDATES)] for brief in briefs]
        self.worth = np.array(
            [
                [self.organisation.utility(self.workflow, brief.messages, text) for text in of]
                for brief, of in zip(briefs, texts, strict=True)
            ]
        )
        prompts = pa.array([brief.text for brief in briefs for _ in range(CANDIDATES)])
        flat = pa.array([text for of in texts for text in of])
        self.features = differences(prompts, flat, pa.array([""] * len(flat)))

    def gain(self, pairs: pa.Table) -> float:
        """True utility of the best of n under a scorer of the pairs, above that of a random one."""
        scorer = fit(pairs_of(pairs), seed=0, members=1).weights
        picked = (self.features @ scorer).reshape(self.worth.shape).argmax(axis=1)
        return float(self.worth[np.arange(PROMPTS), picked].mean() - self.worth.mean())

    def floor(self, decisions: int) -> pa.Table:
        """What so many decisions prefer."""
        found = derive(table_of(self.events[:decisions]), held_out_share=0.0, tables=("preferences",)).preferences
        asked = pa.array([messages[-1]["content"] for messages in found["prompt"].to_pylist()], pa.string())
        columns = {"preferred": found["chosen"], "other": found["rejected"], "who": found["employee"]}
        return pa.table({"asked": asked, "weight": found["weight"], **columns}).select(PAIRS.names).cast(PAIRS)

    def labels(self, each: int, enough: Callable[[int, float], bool]) -> tuple[pa.Table, int, float]:
        """What annotators prefer, `each` of them a task, until it is enough of answers and seconds; both at the end."""
        rng = stream(self.seed, "prongs asked", each)
        briefs = draw(stream(self.seed, "prongs briefs"), self.workflow, Purpose.TRAIN)
        rows, answers, seconds = [], 0, 0.0
        while not enough(answers, seconds):
            brief = next(briefs)
            task = tasks.task(
                day=MONDAY,
                workflow=self.workflow,
                kind=tasks.Kind.PREFERENCE,
                origin=tasks.Origin.DECISION,
                reason="random",
                prompt=brief.messages,
                texts=[answer(rng, self.drawn, brief) for _ in range(2)],
                event_id=f"{len(rows)}",
            )
            who = rng.choice(len(self.staff), each, replace=False)
            done = rng.integers(annotators.LOAD, size=each).tolist()
            world = self.organisation.world
            said = [annotators.answer(world, task, self.staff[i], done=n) for i, n in zip(who, done, strict=True)]
            rows += [(task, [one.label or "" for one in said])]
            answers, seconds = answers + each, seconds + sum(one.seconds for one in said)
        return pairs_of_answers(rows), answers, seconds


def measured(seed: int, decision_cost: float, pay: float) -> dict[str, Any]:
    """One world: the gain of each source at each budget, and what an annotator's answer is worth in decisions."""
    began = time.process_time()
    world = World(seed)
    gains: dict[str, list[float]] = {source: [] for source in SOURCES}
    counts: dict[str, list[int]] = {source: [] for source in SOURCES}

    def paid(budget: float) -> Callable[[int, float], bool]:
        return lambda _, seconds: seconds * pay / 3600 >= budget

    for budget in BUDGETS:
        decisions = min(DECISIONS, round(budget / decision_cost))
        half = world.floor(decisions // 2)
        one, answered, _ = world.labels(1, paid(budget))
        three, thrice, _ = world.labels(3, paid(budget))
        other, more, _ = world.labels(1, paid(budget / 2))
        found = (world.floor(decisions), one, three, pa.concat_tables([half, other]))
        for source, pairs, count in zip(
            SOURCES, found, (decisions, answered, thrice, decisions // 2 + more), strict=True
        ):
            gains[source].append(world.gain(pairs))
            counts[source].append(count)
    curve = [world.gain(world.floor(n)) for n in GRID]
    exchanged = world.gain(world.labels(1, lambda answers, _: answers >= ANSWERS)[0])
    worth = _decisions(curve, exchanged) / ANSWERS
    return {
        "seed": seed,
        "workflow": world.workflow,
        "gains": gains,
        "counts": counts,
        "curve": curve,
        "exchanged": exchanged,
        "worth": worth,
        "cpu": round(time.process_time() - began, 1),
    }


def _decisions(curve: Sequence[float], gain: float) -> float:
    """At how many decisions the floor's curve first reaches a gain, by the logarithm; the ends where it does not."""
    for (n, below), (m, above) in zip(
        zip(GRID, curve, strict=True), list(zip(GRID, curve, strict=True))[1:], strict=False
    ):
        if below >= gain:
            return float(n)
        if above >= gain:
            return float(np.exp(np.interp(gain, [below, above], np.log([n, m]))))
    return float(GRID[-1])


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and its 95 % interval, Student's t over worlds."""
    mean, error = float(np.mean(values)), float(stats.sem(values))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return mean, mean - half, mean + half


def table(found: Sequence[dict[str, Any]], decision_cost: float, pay: float) -> str:
    """Markdown: gains by source and budget; differences from the floor; the exchange rate."""

    def shown(values: Sequence[float]) -> str:
        mean, low, high = interval(values)
        return f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"

    lines = [
        f"{len(found)} worlds; a decision costs {decision_cost}, an annotator's hour {pay}",
        "",
        "| source | " + " | ".join(f"gain at {b:g}" for b in BUDGETS) + " | labels |",
        "|---" * (len(BUDGETS) + 2) + "|",
    ]
    for source in SOURCES:
        cells = [shown([one["gains"][source][i] for one in found]) for i in range(len(BUDGETS))]
        labels = ", ".join(f"{np.mean([one['counts'][source][i] for one in found]):.0f}" for i in range(len(BUDGETS)))
        lines.append(f"| {source} | {' | '.join(cells)} | {labels} |")
    for source in SOURCES[1:]:
        cells = [shown([o["gains"][source][i] - o["gains"]["floor"][i] for o in found]) for i in range(len(BUDGETS))]
        lines.append(f"| {source}, above the floor | {' | '.join(cells)} | |")
    rates = [one["worth"] for one in found]
    least = sum(rate <= GRID[0] / ANSWERS for rate in rates)
    mean, low, high = (float(np.exp(end)) for end in interval([float(np.log(rate)) for rate in rates]))
    # where a world's rate is only bounded from above, so is the mean, and an interval of it would be of nothing
    told = f"at most {mean:.2f} decisions" if least else f"{mean:.2f} decisions ({low:.2f} to {high:.2f})"
    lines += ["", f"One answer is worth {told}, median {np.median(rates):.2f},"]
    lines += [f"at {ANSWERS} answers; by world {', '.join(f'{rate:.2f}' for rate in rates)}."]
    lines += [f"In {least} worlds {GRID[0]} decisions, the fewest tried, teach as much already: there it is less."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=10)
    parser.add_argument("--decision-cost", type=float, default=0.02)
    parser.add_argument("--pay", type=float, default=20.0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = [measured(seed, given.decision_cost, given.pay) for seed in range(given.worlds)]
    print(json.dumps(found) if given.json else table(found, given.decision_cost, given.pay))


if __name__ == "__main__":
    main()
