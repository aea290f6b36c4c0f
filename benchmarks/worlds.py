"""The experiment on which the claim of a closed loop stands: gain over the base in several worlds, and its controls.

    python benchmarks/worlds.py --worlds 5 --out results/   # resumable: a run whose result stands is not run again
    python benchmarks/worlds.py --out results/ --table      # only the table

Each run is `loop run` in a home of its own. Utility is the simulation's truth: 0 a random answer, 1 the best one. Base
and last champion answer the same 500 unseen prompts per workflow; the interval is Student's t over worlds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

KINDS: dict[str, tuple[list[str], dict[str, str]]] = {
    "clean": (["--annotators", "0"], {}),
    "without edits": (["--annotators", "0", "--no-edits"], {}),
    "annotators": ([], {}),
    "annotators, four times the questions": ([], {"LOOP_LABEL_BUDGET": "200"}),
    "annotators, mixed acquisition": ([], {"LOOP_ACQUISITION": "mixed"}),
    "control frozen": (["--control", "frozen"], {}),
    "control shuffled": (["--control", "shuffled"], {}),
}
"""Name in the table to the options of `loop run`, and settings."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=5)
    parser.add_argument("--first", type=int, default=100, help="first world; 0 to 9 were looked at while tuning")
    parser.add_argument("--days", type=int, default=5)
    parser.add_argument("--workflows", nargs="*", default=[], help="only these")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="only print the table of what is there")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    stays = given.out / "worlds.json"  # what is not of the same worlds is no row of the same table
    told = {"days": given.days, "workflows": given.workflows}
    if not given.table and stays.exists() and json.loads(stays.read_text()) != told:
        parser.error(f"{given.out} holds runs of {stays.read_text()}, asked for {told}: name another folder")
    only = [part for name in given.workflows for part in ("--workflow", name)]
    if not given.table:
        stays.write_text(json.dumps(told))
        for seed in range(given.first, given.first + given.worlds):
            for kind in given.kinds:
                run(kind, seed, ["--days", str(given.days), *only], given.out)
    print(table(given.out), by_workflow(given.out), sep="\n\n")


def run(kind: str, seed: int, world: list[str], out: Path) -> None:
    """One `loop run`, its JSON kept as a file."""
    file = out / f"{kind.replace(' ', '-')}-{seed}.json"
    if file.exists():
        return
    print(f"{kind}, world {seed}", file=sys.stderr, flush=True)
    options, settings = KINDS[kind]
    with tempfile.TemporaryDirectory() as folder:
        loop = str(Path(sys.executable).with_name("loop"))
        done = subprocess.run(
            [loop, "run", "--seed", str(seed), "--json", *world, *options],
            env={**os.environ, **settings, "LOOP_HOME": f"{folder}/home"},
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
    file.write_text(json.dumps(json.loads(done.stdout), indent=1) + "\n")


def table(out: Path) -> str:
    """Markdown: a row per kind, means over worlds with 95 % t-intervals."""
    columns = ("run", "worlds", "base", "last champion", "gain (95 % interval)", "best constant")
    columns = (*columns, "above the constant", "more than clean, world by world", "promoted", "refused")
    clean = _results(out, "clean")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for kind in KINDS:
        by_world = _results(out, kind)
        if not by_world:
            continue
        results = list(by_world.values())
        means = {key: np.array([_mean(r, key) for r in results]) for key in ("base", "champion", "constant")}
        both = [seed for seed in by_world if seed in clean and kind != "clean"]
        more = np.array([_mean(by_world[seed], "champion") - _mean(clean[seed], "champion") for seed in both])
        decisions = [release["decision"] for r in results for release in r["releases"]]
        cells = [
            kind,
            len(results),
            f"{means['base'].mean():.3f}",
            f"{means['champion'].mean():.3f}",
            _interval(means["champion"] - means["base"]),
            f"{means['constant'].mean():.3f}",
            _interval(means["champion"] - means["constant"]),
            _interval(more) if both else "",
            decisions.count("promoted"),
            decisions.count("refused"),
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def by_workflow(out: Path) -> str:
    """Markdown: the gain of each kind of run in each workflow, means over worlds with 95 % t-intervals."""
    lines: list[str] = []
    for kind in KINDS:
        results = list(_results(out, kind).values())
        if not results:
            continue
        names = [row["workflow"] for row in results[0]["final"]]
        if not lines:
            lines = [f"| gain in | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
        gains = np.array([[row["champion"] - row["base"] for row in result["final"]] for result in results])
        lines.append(f"| {kind} | " + " | ".join(_interval(gains[:, i]) for i in range(len(names))) + " |")
    return "\n".join(lines)


def _results(out: Path, kind: str) -> dict[int, dict[str, Any]]:
    """What stands of a kind, by world."""
    name = kind.replace(" ", "-")
    found = {int(p.stem.removeprefix(f"{name}-")): p for p in out.glob(f"{name}-[0-9]*.json")}
    return {seed: json.loads(found[seed].read_text()) for seed in sorted(found)}


def _mean(result: dict[str, Any], key: str) -> float:
    return float(np.mean([row[key] for row in result["final"]]))


def _interval(values: np.ndarray) -> str:
    if len(values) < 2:
        return f"{values.mean():+.3f}"
    half = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
    return f"{values.mean():+.3f} ({values.mean() - half:+.3f} to {values.mean() + half:+.3f})"


if __name__ == "__main__":
    main()
