"""How fast and how small is the gateway, beside what the disk can do and beside MLflow's and Phoenix's servers?

    python -m benchmarks.gateway [--json] [--only PASS...] [--peers DIR] [--seconds 8] [--events 4000000]

Each pass runs in a process of its own and in a folder of its own below TMPDIR, so on the same disk; what it starts
listens on 127.0.0.1 and is stopped by its process id. The load comes from the same machine. Passes:

    reference  the same events of about 1 kB appended to a file, with one fdatasync an event or for 1,000; and decoded
    single     POST /v1/feedback, one whole event a request, 128 connections: as fast as they go, and paced at 3,000/s
    batch      POST /v1/feedback/batch, 1,000 whole events a request, 4 connections: plain NDJSON, and zstd
    suggest    32 users ask a nano champion for two candidates, on both routes; tokens against the model in a bare loop;
               then feedback at 200/s alone, and while they ask
    mlflow     MLflow's server: REST logging of a trace with its assessment, on SQLite and on Postgres
    phoenix    Phoenix's server, in an environment of its own: annotations of spans, one at a time and batched
    memory     what the front holds in memory over some million events, while sealed segments are removed

Collecting passes run without a generator. What lies in the spool when the gateway has ended must be as many events as
were acknowledged. `cpu` figures are CPU time an item, of a server with its database and children: other work
on the machine disturbs them less than the clock, and `load` is the machine's load average when a pass begins and ends.
A pass fails if a single reply is not as it should be. Names of peers' figures: the best of several concurrencies, or
sizes by concurrencies, counts.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gateway import running

PASSES = ("reference", "single", "batch", "suggest", "mlflow", "phoenix", "memory")


@dataclass(frozen=True)
class Aim:
    """A figure that is aimed at: at least so much, or at most."""

    what: str
    figure: Callable[[dict[str, Any]], float]
    """Of the passes' figures; KeyError where a pass was not run."""
    least: float | None = None
    most: float | None = None


def _mlflow(found: dict[str, Any], name: str = "per_s") -> float:
    """The better of its databases."""
    choose = max if name == "per_s" else min
    return float(choose(found["mlflow"][database][name] for database in ("sqlite", "postgres")))


AIMS = (
    Aim("single events a second", lambda f: f["single"]["free"]["per_s"], least=3_000),
    Aim("their p99, ms", lambda f: f["single"]["free"]["p99_ms"], most=60),
    Aim("p99 of single events at 3,000/s, ms", lambda f: f["single"]["paced"]["p99_ms"], most=60),
    Aim(
        "single events per append with fdatasync",
        lambda f: f["single"]["free"]["per_s"] / f["reference"]["single_per_s"],
    ),
    Aim("events a second in plain batches", lambda f: f["batch"]["plain"]["events_per_s"], least=50_000),
    Aim("events a second in zstd batches", lambda f: f["batch"]["zstd"]["events_per_s"], least=50_000),
    Aim(
        "tokens of /v1/suggestions per token of a bare loop",
        lambda f: f["suggest"]["suggestions"]["of_bare"],
        least=0.8,
    ),
    Aim("tokens of /v1/chat/completions per token of it", lambda f: f["suggest"]["chat"]["of_bare"], least=0.8),
    Aim(
        "p99 of feedback while the model generates, ms", lambda f: f["suggest"]["feedback_meanwhile"]["p99_ms"], most=60
    ),
    Aim("single events per trace in MLflow", lambda f: f["single"]["free"]["per_s"] / _mlflow(f), least=30),
    Aim("the same by CPU time", lambda f: _mlflow(f, "cpu_ms") * 1e3 / f["single"]["free"]["front_cpu_us"]),
    Aim(
        "single events per annotation in Phoenix",
        lambda f: f["single"]["free"]["per_s"] / f["phoenix"]["single"]["per_s"],
        least=30,
    ),
    Aim("the same by CPU time", lambda f: f["phoenix"]["single"]["cpu_ms"] * 1e3 / f["single"]["free"]["front_cpu_us"]),
    Aim(
        "batched events per batched annotation",
        lambda f: f["batch"]["plain"]["events_per_s"] / f["phoenix"]["batched"]["per_s"],
        least=100,
    ),
    Aim(
        "the same by CPU time", lambda f: f["phoenix"]["batched"]["cpu_ms"] * 1e3 / f["batch"]["plain"]["front_cpu_us"]
    ),
    Aim("bytes of memory an event, upper end", lambda f: f["memory"]["rss_bytes_an_event"]["high"], most=10),
)
"""The last: ten million events more, 100 MB more at most."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gateway", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--only", nargs="+", choices=PASSES, default=PASSES, metavar="PASS", help="these passes alone")
    parser.add_argument(
        "--peers", type=Path, help="folder in which Phoenix is installed, once; else installed each time"
    )
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement; of a peer's, a third")
    parser.add_argument(
        "--events", type=int, default=4_000_000, help="of the pass memory, of which the second half counts"
    )
    parser.add_argument("--one", metavar="FOLDER", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped on the way out
    if given.one:
        print(json.dumps(measured(given.only[0], given.one, given)))
        return
    found = {}
    for name in [name for name in PASSES if name in given.only]:
        print(name, file=sys.stderr, flush=True)
        found[name] = apart(name, given)
    result = {"cores": os.cpu_count(), **found, "aims": judged(found)}
    print(json.dumps(result, indent=2) if given.json else shown(result))


def apart(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """Run one pass in a process and a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="loop-gateway-") as folder:
        peers = given.peers.absolute() if given.peers else Path(folder) / "peers"
        command = [sys.executable, "-m", "benchmarks.gateway", "--only", name, "--one", f"{folder}/{name}"]
        command += ["--peers", str(peers), "--seconds", str(given.seconds), "--events", str(given.events)]
        began = running.load_average()
        # A session of its own, so that Ctrl-C is ours alone and the pass gets to stop what it started.
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
            try:
                told, _ = process.communicate()
            finally:
                process.terminate()
        if process.returncode:
            sys.exit(f"the pass {name} failed")
    return json.loads(told.splitlines()[-1]) | {"load": [began, running.load_average()]}


def measured(name: str, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Run one pass here."""
    from benchmarks.gateway import collecting, peers, suggesting

    folder.mkdir()
    passes = {
        "reference": lambda: collecting.reference(folder, given.seconds),
        "single": lambda: collecting.single(folder, given.seconds),
        "batch": lambda: collecting.batch(folder, given.seconds),
        "suggest": lambda: suggesting.suggest(folder, given.seconds),
        "mlflow": lambda: peers.mlflow(folder, given.seconds / 3),
        "phoenix": lambda: peers.phoenix(folder, given.seconds / 3, given.peers),
        "memory": lambda: collecting.memory(folder, given.events),
    }
    return passes[name]()


def judged(found: dict[str, Any]) -> list[dict[str, Any]]:
    """What is aimed at and what came, of the passes that were run."""
    rows = []
    for aim in AIMS:
        try:
            value = round(aim.figure(found), 3)
        except KeyError:
            continue
        met = None if aim.least is aim.most is None else value >= (aim.least or value) and value <= (aim.most or value)
        rows.append({"what": aim.what, "value": value, "least": aim.least, "most": aim.most, "met": met})
    return rows


def shown(result: dict[str, Any]) -> str:
    """The figures of each pass, then the aims."""
    lines = []
    for name in PASSES:
        if name in result:
            lines += [name, *_indented(result[name], 2)]
    lines.append("aims")
    for row in result["aims"]:
        aim = f"at least {row['least']:,}" if row["least"] else f"at most {row['most']:,}" if row["most"] else ""
        verdict = {True: "met", False: "MISSED", None: ""}[row["met"]]
        lines.append(f"  {row['what']:52}{row['value']:>14,}  {aim:18}{verdict}")
    return "\n".join(lines)


def _indented(figures: dict[str, Any], depth: int) -> list[str]:
    lines = []
    for name, value in figures.items():
        if isinstance(value, dict):
            lines += [f"{' ' * depth}{name}", *_indented(value, depth + 2)]
        else:
            lines.append(
                f"{' ' * depth}{name:{30 - depth}}{value:>14,}"
                if isinstance(value, int | float)
                else f"{' ' * depth}{name:{30 - depth}}{value!s:>14}"
            )
    return lines


if __name__ == "__main__":
    main()
