"""What detection is worth: how much of the gain that contamination takes from the loop it gives back.

    python benchmarks/worth.py --out results/               # eight worlds: about 7 minutes of two cores each
    python benchmarks/worth.py --out results/ --table       # only the table

Each world is lived through three times, with the same people, briefs and seeds, by `loop run` in a home of its own:
`clean`, everybody honest; `off`, half of the employees not (`conduct.CONTAMINATED`) and every decision weighed alike
(`LOOP_SIGNALS=false`); `on`, the same with the weights. The gain is the true utility of the last champion on unseen
prompts less the base's, mean over workflows; base, panel and gate are the same in all three. Told are the gains as
shares of the clean gain, paired within worlds: Fieller's interval, for the mean clean gain is estimated too. What is
asked for: `off` loses at least a quarter, and `on` gives back at least half of that. Resumable.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import stats

RUNS = {
    "clean": ([], {}),
    "off": (["--conduct", "contaminated"], {"LOOP_SIGNALS": "false"}),
    "on": (["--conduct", "contaminated"], {"LOOP_SIGNALS": "true"}),
}
"""Name in the table to options and environment of `loop run`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=8)
    parser.add_argument("--first", type=int, default=200, help="first world; those below 100 were looked at")
    parser.add_argument("--days", type=int, default=5)
    parser.add_argument("--workflows", nargs="*", default=[], help="only these")
    parser.add_argument("--final-items", type=int, default=300)
    parser.add_argument("--runs", nargs="+", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="only print the table of what is there")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    options = ["--days", str(given.days), "--final-items", str(given.final_items)]
    options += [part for name in given.workflows for part in ("--workflow", name)]
    if not given.table:
        for seed in range(given.first, given.first + given.worlds):
            for name in given.runs:
                run(name, seed, options, given.out)
    print(table(given.out))


def run(name: str, seed: int, options: list[str], out: Path) -> None:
    """One `loop run`, its JSON kept as a file."""
    file = out / f"{name}-{seed}.json"
    if file.exists():
        return
    started = time.perf_counter()
    own, environment = RUNS[name]
    with tempfile.TemporaryDirectory() as folder:
        loop = str(Path(sys.executable).with_name("loop"))
        done = subprocess.run(
            [loop, "run", "--seed", str(seed), "--annotators", "0", "--json", *options, *own],
            env={**os.environ, **environment, "LOOP_HOME": f"{folder}/home"},
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
    file.write_text(json.dumps(json.loads(done.stdout), indent=1) + "\n")
    print(f"{name}, world {seed}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)


def gains(out: Path) -> dict[str, np.ndarray]:
    """Mean gain over workflows by run, over the worlds that have all three."""
    found: dict[str, dict[int, float]] = {name: {} for name in RUNS}
    for name, by_seed in found.items():
        for file in out.glob(f"{name}-*.json"):
            rows = json.loads(file.read_text())["final"]
            by_seed[int(file.stem.rpartition("-")[2])] = float(np.mean([r["champion"] - r["base"] for r in rows]))
    worlds = sorted(set.intersection(*(set(by_seed) for by_seed in found.values())))
    return {name: np.array([by_seed[seed] for seed in worlds]) for name, by_seed in found.items()}


def table(out: Path) -> str:
    """Markdown: gains, and what of the clean gain is left, lost and recovered."""
    found = gains(out)
    count = len(found["clean"])
    if not count:
        return "no world has all three runs yet"
    clean, off, on = (found[name] for name in RUNS)
    better = int((on > off).sum())
    p = stats.binomtest(better, count, alternative="greater").pvalue
    lines = [
        f"{count} worlds",
        "",
        "| | gain | share of the clean gain (95 % interval) |",
        "|---|---|---|",
        *(f"| {name} | {g.mean():+.3f} | {_share(g, clean)} |" for name, g in found.items()),
        "",
        f"lost with detection off: {_share(clean - off, clean)} of the clean gain (asked: at least 0.25)",
        f"recovered by detection: {_share(on - off, clean - off)} of the loss (asked: at least 0.5)",
        f"worlds in which detection gains: {better} of {count}, sign test p = {p:.3f}",
    ]
    return "\n".join(lines)


def _share(part: np.ndarray, whole: np.ndarray) -> str:
    """Ratio of the means with Fieller's 95 % interval (1954), paired over worlds."""
    ratio = float(part.mean() / whole.mean())
    if len(part) < 3:
        return f"{ratio:.2f}"
    t = stats.t.ppf(0.975, len(part) - 1)
    cov = np.cov(part, whole) / len(part)
    a = whole.mean() ** 2 - t**2 * cov[1, 1]
    b = part.mean() * whole.mean() - t**2 * cov[0, 1]
    root = b**2 - a * (part.mean() ** 2 - t**2 * cov[0, 0])
    if a <= 0 or root < 0:
        return f"{ratio:.2f} (no bounded interval)"
    return f"{ratio:.2f} ({(b - root**0.5) / a:.2f} to {(b + root**0.5) / a:.2f})"


if __name__ == "__main__":
    main()
