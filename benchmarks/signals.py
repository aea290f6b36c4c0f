"""How well misconduct is known from the logs, beside the detector that knows the simulator, and how fast.

    python benchmarks/signals.py --worlds 4                  # the test worlds, 200 and on: minutes a world
    python benchmarks/signals.py --first 1 --worlds 2        # development worlds, below 100
    python benchmarks/signals.py --speed 1000000             # interactions of one day

Every world is one workflow with some of every kind (`conduct.MIXED`), half of the worlds under a mediocre champion and
half under a good one (each part of an answer is the best one seven times in ten). Per person and kind: the area under
the ROC curve, that kind against all honest people, fast experts among them, after a person's first 10, 20 and 40
decisions. Three detectors: `optimal` knows the simulator (`loop/simulate/optimal.py`); `ours` has learned what is good
from all decisions of the world (8,000) and knows of the person the first n; `from scratch` has nothing but everybody's
first n. Priors and thresholds in `loop/validate/signal*.py` were set on worlds below 100; the test worlds were drawn
once, afterwards.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.stats import rankdata

from loop import schema
from loop.lake import from_rows
from loop.simulate import conduct as conducts
from loop.simulate import optimal
from loop.simulate.conduct import MIXED, Conduct, Kind
from loop.simulate.corpus import answer, habits
from loop.simulate.organisation import Event, Organisation, Suggestion
from loop.simulate.streams import stream
from loop.validate import signal, signal_features
from loop.validate import signal_evidence as judging
from loop.validate.signal_evidence import Way
from loop.workflows import BUILT_IN

MONDAY = date(2026, 1, 5)
AFTER = (10, 20, 40)
PEOPLE = 200
GOOD = 0.7
"""Share of the parts that a good champion gets right."""
DETECTORS = ("optimal", "ours", "from scratch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=4)
    parser.add_argument("--first", type=int, default=200, help="first world; those below 100 are for development")
    parser.add_argument("--people", type=int, default=PEOPLE)
    parser.add_argument("--without-optimal", action="store_true")
    parser.add_argument("--speed", type=int, help="only measure a day of that many interactions")
    parser.add_argument("--out", type=Path, help="keep every person's probabilities here, as JSON")
    given = parser.parse_args()
    if given.speed:
        print(json.dumps(speed(given.speed)))
        return
    people: list[dict[str, Any]] = []
    for seed in range(given.first, given.first + given.worlds):
        people += world(seed, given.people, with_optimal=not given.without_optimal)
        print(f"world {seed}", file=sys.stderr, flush=True)
    if given.out:
        given.out.write_text(json.dumps(people))
    for champion in ("mediocre", "good"):
        if mine := [p for p in people if p["champion"] == champion]:
            print(f"\n{champion} champion\n\n{table(mine)}")


def world(seed: int, people: int, *, with_optimal: bool) -> list[dict[str, Any]]:
    """What each detector makes of each person of one world: probabilities of misconduct after n decisions."""
    workflow, champion = list(BUILT_IN)[seed % len(BUILT_IN)], ("mediocre", "good")[seed // 2 % 2]
    conduct = Conduct(MIXED.shares)
    organisation = Organisation(
        seed, employees=people, workflows=(workflow,), requests=4 * 20 * people, conduct=conduct
    )
    events = first(days(organisation, 6, GOOD if champion == "good" else 0.0), max(AFTER))
    found: dict[str, dict[int, dict[str, float]]] = {name: {} for name in DETECTORS}
    if with_optimal:
        found["optimal"] = optimal.posteriors(organisation, events, AFTER)
    whole = signal.judge(table_of(events))
    for n in AFTER:
        ids = {event["event_id"] for event in first(events, n)}
        early = np.array([event["event_id"] in ids for event in events])
        evidence = judging.evidence(whole.facts, whole.choices, whole.quality, whole.gain, whole.peers, early)
        known = judging.ways(evidence.of_people(len(whole.facts.employees)))[Way.HONEST]
        found["ours"][n] = dict(zip(whole.facts.employees, 1.0 - known, strict=True))
        scratch = signal.judge(table_of(first(events, n)))
        found["from scratch"][n] = dict(zip(scratch.facts.employees, 1.0 - scratch.trust, strict=True))
    return [
        {"world": seed, "champion": champion, "kind": organisation.kinds[person].value}
        | {name: {n: float(by[person]) for n, by in given.items()} for name, given in found.items() if given}
        for person in found["ours"][AFTER[0]]
    ]


def days(organisation: Organisation, count: int, good: float) -> list[Event]:
    """What people do on some days with two answers each, of whose parts a share is the best, the rest by habit."""
    drawn = {name: habits(organisation.world, name) for name in organisation.workflows}
    events = []
    for request in (r for i in range(count) for r in organisation.requests(MONDAY + timedelta(days=i))):
        brief, rng = organisation.brief(request.workflow, request.prompt), stream("served", request.id)
        best, form = organisation.world.best(brief), BUILT_IN[request.workflow]
        texts = []
        for _ in range(2):
            parts = form.parse(answer(rng, drawn[request.workflow], brief)) or {}
            texts.append(form.render({p: best[p] if rng.random() < good else v for p, v in parts.items()}))
        suggestion = Suggestion(f"s-{request.id}", "m", tuple(texts), order_propensity=0.5)
        events.append(organisation.decide(request, suggestion))
    return events


def first(events: list[Event], n: int) -> list[Event]:
    """The first `n` decisions of each person, in order."""
    kept, count = [], dict.fromkeys((e["employee"] for e in events), 0)
    for event in sorted(events, key=lambda e: (e["shown_at"], e["event_id"])):
        if event["decision"] != "ignore" and count[event["employee"]] < n:
            count[event["employee"]] += 1
            kept.append(event)
    return kept


def table_of(events: list[Event]) -> pa.Table:
    """Events as `interactions`."""
    rows = []
    for event in events:
        times = {n: event[n] and datetime.fromisoformat(event[n]) for n in ("shown_at", "decided_at", "received_at")}
        edge = {"day": times["shown_at"].date(), "source": "simulated", "content": "", "batch": "b"}
        rows.append(event | times | edge)
    return from_rows(rows, schema.INTERACTIONS)


# -- figures --------------------------------------------------------------------------------------------------------


def table(people: list[dict[str, Any]]) -> str:
    """Markdown: AUC by kind and number of decisions; then of the honest, how many are held to be something else."""
    names = [name for name in DETECTORS if name in people[0]]
    header = [f"{name}, {n}" for n in AFTER for name in names]
    lines = [f"| AUC | people | {' | '.join(header)} |", "|---" * (len(header) + 2) + "|"]
    honest = [p for p in people if p["kind"] in {Kind.HONEST, Kind.EXPERT}]
    for kind in (*conducts.MISCONDUCT, None):
        guilty = [p for p in people if p["kind"] == kind or (kind is None and p not in honest)]
        cells = [
            f"{auc([p[name][n] for p in guilty], [p[name][n] for p in honest]):.3f}" for n in AFTER for name in names
        ]
        lines.append(f"| {kind or 'all'} | {len(guilty)} | {' | '.join(cells)} |")
    lines += ["", f"| distrusted (above 1/2) | people | {' | '.join(header)} |", "|---" * (len(header) + 2) + "|"]
    for kind in Kind:
        mine = [p for p in people if p["kind"] == kind]
        cells = [f"{np.mean([p[name][n] > 0.5 for p in mine]):.3f}" for n in AFTER for name in names]
        lines.append(f"| {kind} | {len(mine)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def auc(guilty: list[float], honest: list[float]) -> float:
    """Mann-Whitney: probability that the guilty score above the honest, ties counting half."""
    ranks = rankdata([*guilty, *honest])[: len(guilty)]
    return float((ranks.sum() - len(guilty) * (len(guilty) + 1) / 2) / (len(guilty) * len(honest)))


def speed(count: int) -> dict[str, Any]:
    """Seconds and memory of weighing one day of so many interactions, made of copies under other ids and people."""
    organisation = Organisation(1, employees=500, workflows=("ads",), requests=40_000, conduct=Conduct(MIXED.shares))
    rows = table_of(days(organisation, 1, 0.0))
    copies = []
    for i in range(-(-count // rows.num_rows)):
        ids = {
            n: pa.array([f"{v}-{i}" for v in rows[n].to_pylist()]) for n in ("event_id", "employee", "suggestion_id")
        }
        copy = rows
        for name, values in ids.items():
            copy = copy.set_column(copy.column_names.index(name), copy.schema.field(name), values)
        copies.append(copy)
    day = pa.concat_tables(copies).slice(0, count).combine_chunks()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    facts = signal_features.facts(day)
    features = time.perf_counter() - started
    found = signal.weigh(day, facts)
    seconds = time.perf_counter() - started
    return {
        "interactions": day.num_rows,
        "people": len(found.trust),
        "seconds": round(seconds, 1),
        "of_these_facts": round(features, 1),
        "rows_per_second": round(day.num_rows / seconds),
        "data_mb": round(day.nbytes / 2**20),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "rss_before_mb": round(before / 1024),
    }


if __name__ == "__main__":
    main()
