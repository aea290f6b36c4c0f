"""How often a clean day counts as drift, and how much drift is seen: over simulated organisations.

    python -m benchmarks.drift [--worlds 4] [--days 60] [--requests 800] [--json]

Every world lives through its days with one and the same model (what changes from day to day are people, briefs and
campaigns), so whatever is found beyond a bound is a false alarm. Then a drift is planted into each clean day with a
full window before it, one at a time, and it is counted how often its own figure says so and how often the day is held.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from loop import schema
from loop.collect.events import decode, encode, to_table
from loop.lake import from_rows
from loop.simulate.corpus import answer, habits
from loop.simulate.organisation import Organisation, Suggestion
from loop.simulate.prompts import read
from loop.simulate.streams import stream
from loop.validate.drift import compare
from loop.validate.profiles import Profile, profile

FIRST = date(2026, 1, 5)
WINDOW = 14

Rows = list[dict[str, Any]]


def days(seed: int, count: int, requests: int) -> Iterator[dict[str, pa.Table]]:
    """The interactions of each day, by workflow: answers drawn from the organisation's old habits, two to a brief."""
    organisation = Organisation(seed, requests=requests, employees=120)
    known = {name: habits(organisation.world, name) for name in organisation.workflows}
    for n in range(count):
        events = []
        for request in organisation.requests(FIRST + timedelta(days=n)):
            rng, brief = stream("base", request.id), read(request.workflow, request.prompt)
            texts = tuple(answer(rng, known[request.workflow], brief) for _ in range(2))
            served = Suggestion(id=f"s-{request.id}", model_version="base", candidates=texts, order_propensity=0.5)
            events.append(decode(encode(organisation.decide(request, served))))
        rows = to_table(events, key=b"k" * 32, source="simulated", now=datetime.now(UTC))
        yield {w: rows.filter(pa.compute.equal(rows["workflow"], w)) for w in organisation.workflows}


# -- planted drifts: rows to rows, and the figure that should say so --------------------------------------------------


def _some(rows: Rows, share: float, seed: int = 1) -> set[int]:
    return set(np.random.default_rng(seed).permutation(len(rows))[: int(share * len(rows))].tolist())


def _rubber(share: float) -> Callable[[Rows], Rows]:
    """So many of all decisions become accepts of the first candidate."""

    def plant(rows: Rows) -> Rows:
        some = _some(rows, share)
        taken = {"decision": "accept", "chosen": 0}
        return [r | taken | {"final_text": r["candidates"][0]["text"]} if i in some else r for i, r in enumerate(rows)]

    return plant


def _one_team(rows: Rows) -> Rows:
    """The largest team accepts everything."""
    team = Counter(r["team"] for r in rows).most_common(1)[0][0]
    taken = {"decision": "accept", "chosen": 0}
    return [r | taken | {"final_text": r["candidates"][0]["text"]} if r["team"] == team else r for r in rows]


def _texts(share: float, change: Callable[[str], str], *fields: str) -> Callable[[Rows], Rows]:
    def plant(rows: Rows) -> Rows:
        some = _some(rows, share)
        changed = []
        for i, row in enumerate(rows):
            one = dict(row)
            if i in some and "prompt" in fields:
                one["prompt"] = [m | {"content": change(m["content"])} for m in row["prompt"]]
            if i in some and "final" in fields and row["final_text"]:
                one["final_text"] = change(row["final_text"])
            changed.append(one)
        return changed

    return plant


GERMAN = "Bitte schreiben Sie dem Kunden eine kurze Antwort, dass wir die Lieferung nicht vor der nächsten Woche haben"
MOJIBAKE = {ord(a): b for a, b in zip("aeiou", ("Ã¤", "Ã©", "Ã­", "Ã¶", "Ã¼"), strict=True)}

PLANTED: dict[str, tuple[str, Callable[[Rows], Rows]]] = {
    "20 % more accepts": ("decision mix", _rubber(0.2)),
    "half more accepts": ("decision mix", _rubber(0.5)),
    "all accepts": ("decision mix", _rubber(1.0)),
    "one team accepts all": ("mix of a team", _one_team),
    "half the prompts cut to 20 characters": ("length of prompts", _texts(0.5, lambda t: t[:20], "prompt")),
    "a tenth of the final texts in German": ("language", _texts(0.1, lambda _: GERMAN, "final")),
    "all final texts in German": ("language", _texts(1.0, lambda _: GERMAN, "final")),
    "a tenth of all words new": ("vocabulary", _texts(0.1, lambda t: t[::-1], "prompt", "final")),
    "a tenth of the prompts in a broken encoding": (
        "prompt n-grams",
        _texts(0.1, lambda t: t.translate(MOJIBAKE), "prompt"),
    ),
    "all prompts in a broken encoding": ("prompt n-grams", _texts(1.0, lambda t: t.translate(MOJIBAKE), "prompt")),
    "a quarter of the rows": ("volume", lambda rows: rows[: len(rows) // 4]),
    "everything four times": (
        "volume",
        lambda rows: [r | {"event_id": f"{n}{r['event_id']}"} for n in range(4) for r in rows],
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=4)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--requests", type=int, default=800, help="a day, over four workflows")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    alarms: dict[str, list[bool]] = defaultdict(list)
    held: list[bool] = []
    found: list[bool] = []
    seen: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for seed in range(given.worlds):
        before: dict[str, list[Profile]] = defaultdict(list)
        for n, batches in enumerate(days(seed, given.days, given.requests)):
            for workflow, rows in batches.items():
                one, window = profile(rows), before[workflow][-WINDOW:]
                if len(window) == WINDOW:
                    drifts = compare(one, window, imported=False)
                    for drift in drifts:
                        if drift.figure is not None:
                            alarms[drift.name].append(not drift.passed)
                    found.append(any(not d.passed for d in drifts))
                    held.append(any(d.blocking for d in drifts))
                    if n % 5 == 0:
                        _plant(rows, window, seen)
                before[workflow].append(one)
        print(f"world {seed}: {sum(found)} of {len(found)} clean days with a finding", file=sys.stderr)
    told = {
        "clean days": len(found),
        "with a finding": float(np.mean(found)),
        "held": float(np.mean(held)),
        "false alarms": {name: float(np.mean(each)) for name, each in alarms.items()},
        "planted": {
            name: {"seen": float(np.mean([a for a, _ in each])), "held": float(np.mean([b for _, b in each]))}
            for name, each in seen.items()
        },
    }
    print(json.dumps(told, indent=None if given.json else 2))


def _plant(rows: pa.Table, window: list[Profile], seen: dict[str, list[tuple[bool, bool]]]) -> None:
    plain = rows.to_pylist()
    for name, (figure, plant) in PLANTED.items():
        changed = profile(from_rows(plant(plain), schema.INTERACTIONS))
        drifts = {drift.name: drift for drift in compare(changed, window, imported=False)}
        seen[name].append((not drifts[figure].passed, any(d.blocking for d in drifts.values())))


if __name__ == "__main__":
    main()
