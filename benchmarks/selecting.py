"""How fast people's questions are chosen: label tasks out of a day of interactions, and after days of history.

    python -m benchmarks.selecting [--rows 1000000] [--tasks 1000] [--acquisition mixed] [--json]
    python -m benchmarks.selecting --days 60 [--rows 2000] [--json]

The first makes a synthetic day of one workflow (`benchmarks.validation`: about 1 kB of text a row, two candidates),
brings it to the lake as an accepted batch with the day before, whose preferences the committee learns from, and
chooses the tasks in a process of its own, so that the peak of memory is its own. The second measures a day after so
many days like it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from benchmarks.validation import DAY, WORKFLOW, events, sentences
from loop import schema
from loop.config import Settings
from loop.home import Home, open_home
from loop.label import batches
from loop.label.select import tasks_of_day
from loop.lake import conform

PIECE = 100_000
BEFORE = 2_000
"""Interactions of each day before."""


def filled(home: Home, day: date, rows: int, seed: int) -> None:
    """A day in the lake: interactions, their signals, and the verdict that they are accepted."""
    digest = f"batch-{day}"
    which: dict[str, Any] = {"day": day, "workflow": WORKFLOW}
    home.lake.overwrite("interactions", interactions(day, rows, seed, digest), **which)
    home.lake.overwrite("signals", signals(home, day, seed), **which)
    verdict = {"status": schema.BatchStatus.ACCEPTED, "quarantined": 0, "reasons": [], "run_id": None}
    home.state.record_batch(**which, digest=digest, rows=rows, author="benchmark", **verdict)


def interactions(day: date, rows: int, seed: int, digest: str) -> Iterator[pa.Table]:
    """The events of `benchmarks.validation` as rows of the lake, in pieces."""
    with duckdb.connect(":memory:", config={"threads": 2}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("CREATE TABLE sentences AS SELECT ? AS told", [sentences()])
        columns = ", ".join(
            f"{column.name}::TIMESTAMPTZ AS {column.name}" if column.name.endswith("_at") else column.name
            for column in schema.INTERACTIONS.columns
        )
        query = f"""
        WITH told AS (
            SELECT *, DATE '{day}' AS day, NULL AS revises, 'gateway' AS source, event_id AS content,
                '{digest}' AS batch
            FROM ({events(rows, day, seed)})
        ) SELECT {columns} FROM told
        """
        for batch in connection.sql(query).to_arrow_reader(PIECE):
            yield conform(pa.table(batch), schema.INTERACTIONS)


def signals(home: Home, day: date, seed: int) -> pa.Table:
    """Weights as a day's are: nine of ten decisions are believed, the others little."""
    rows = home.lake.read("interactions", days=(day, day), columns=["event_id", "day", "workflow", "batch"])
    rng = np.random.default_rng(seed)
    weight = np.where(rng.random(rows.num_rows) < 0.9, 1.0, rng.random(rows.num_rows))
    nothing = pa.array([[]] * rows.num_rows, pa.list_(pa.string()))
    found = rows.append_column("weight", pa.array(weight)).append_column("reasons", nothing)
    return conform(found.append_column("examination", pa.nulls(rows.num_rows, pa.float64())), schema.SIGNALS)


def chosen(home: Home, day: date) -> dict[str, Any]:
    """Wall and CPU seconds, and this process's peak of memory, of choosing a day's tasks."""
    wall, cpu = time.perf_counter(), time.process_time()
    told = tasks_of_day.build(home.settings, home.lake, home.state, day, WORKFLOW)
    return {
        **told.told(),
        "seconds": round(time.perf_counter() - wall, 2),
        "cpu": round(time.process_time() - cpu, 2),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def child(home: Home, day: date) -> dict[str, Any]:
    words = ["--home", str(home.settings.home), "--day", day.isoformat(), "--tasks", str(home.settings.label_budget)]
    command = [sys.executable, "-m", "benchmarks.selecting", *words, "--acquisition", home.settings.acquisition]
    return dict(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))


def one_day(home: Home, rows: int) -> list[dict[str, Any]]:
    """A day after a small one whose preferences are learned from."""
    before = DAY - timedelta(days=1)
    filled(home, before, BEFORE, 1)
    batches.build(home.settings, home.lake, home.state, before, WORKFLOW)
    filled(home, DAY, rows, 0)
    return [child(home, DAY)]


def after(home: Home, days: int, rows: int) -> list[dict[str, Any]]:
    """Days one after the other, chosen on each; told of the second and of the last."""
    found = []
    for number in range(days):
        day = DAY + timedelta(days=number)
        filled(home, day, rows, number)
        batches.build(home.settings, home.lake, home.state, day, WORKFLOW)
        if number in {1, days // 2, days - 1}:
            found.append({"days before": number, **child(home, day)})
        else:
            tasks_of_day.build(home.settings, home.lake, home.state, day, WORKFLOW)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, help="interactions of a day; 1,000,000, or 2,000 with --days")
    parser.add_argument("--tasks", type=int, default=1_000)
    parser.add_argument("--acquisition", default="mixed")
    parser.add_argument("--days", type=int, help="days one after the other")
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--day", type=date.fromisoformat, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    options: dict[str, Any] = {"label_budget": given.tasks, "acquisition": given.acquisition}
    if given.home:  # a child
        with open_home(Settings(home=given.home, **options)) as home:
            print(json.dumps(chosen(home, given.day)))
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        open_home(Settings(home=Path(folder) / "home", **options)) as home,
    ):
        rows = given.rows or (2_000 if given.days else 1_000_000)
        found = after(home, given.days, rows) if given.days else one_day(home, rows)
    for one in found:
        print(json.dumps(one) if given.json else "\n".join(f"{name}: {value}" for name, value in one.items()))


if __name__ == "__main__":
    main()
