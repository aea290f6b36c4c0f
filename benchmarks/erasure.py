"""How long `loop erase` takes, by the size of the lake and by how many partitions the person is in.

    python benchmarks/erasure.py [--rows 20000 200000] [--touched 2 20] [--json]

A fresh home with twenty partitions of as many rows each; the person has 100 interactions spread over so many of them.
Everything is made by the pipeline itself (landing, building, labels, a frozen set), and erased by `loop.erase`; the
stages are those that it tells of, and the files that were written are counted from the lake.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import duckdb

from loop import schema
from loop.collect.events import LANDED, pseudonym
from loop.collect.files import Kind as Landed
from loop.collect.files import bringing
from loop.config import Settings
from loop.cycle import training_set
from loop.erase import Kind, run
from loop.erase.subject import subject
from loop.home import Home, open_home
from loop.label import batches as labelling
from loop.schema import BatchStatus
from loop.services import prepare, session
from loop.validate import batches

FIRST = date(2026, 3, 1)
DAYS, WORKFLOWS = 5, ("ads", "moderation", "design", "comms")
PERSON, OWN = "person-of-the-benchmark", 100
QUERY = """
SELECT 'e-{day}-{workflow}-' || i AS event_id, 's-{day}-{workflow}-' || i AS suggestion_id, NULL AS revises,
    NULL AS episode_id, NULL AS turn, NULL AS task_id, '{workflow}' AS workflow, DATE '{day}' AS day,
    TIMESTAMPTZ '{day} 08:00:00Z' + to_microseconds(i * 1000) AS shown_at,
    shown_at + INTERVAL 5 SECOND AS decided_at, shown_at + INTERVAL 6 SECOND AS received_at,
    CASE WHEN i < {own} THEN '{person}' ELSE 'p_' || md5((i % 500)::VARCHAR) END AS employee,
    'north' AS team, NULL AS region, []::VARCHAR[] AS visibility,
    [{{'role': 'user', 'content': 'a brief of some length about number ' || i || ', ' || md5(i::VARCHAR)}}] AS prompt,
    [{{'position': 0, 'text': 'one ' || md5(i::VARCHAR || 'a'), 'logprob': -1.0}},
     {{'position': 1, 'text': 'two ' || md5(i::VARCHAR || 'b'), 'logprob': -2.0}}] AS candidates,
    'm' AS model_version, 1.0 AS arm_propensity, 0.5 AS order_propensity, 'modify' AS decision, 0 AS chosen,
    'what stood in the end, number ' || i || ', ' || md5(i::VARCHAR || 'c') AS final_text, []::VARCHAR[] AS reasons,
    5000 AS dwell_ms, ['training', 'evaluation'] AS purposes, 'jsonl' AS source, md5('{day}{workflow}' || i) AS content,
    '' AS batch
FROM range({rows}) t(i)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--touched", type=int, nargs="+", default=[2, 20])
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    for rows in given.rows:
        for touched in given.touched:
            result = measure(rows, touched)
            print(json.dumps(result) if given.json else result, flush=True)


def measure(rows: int, touched: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder) / "home", held_out_share=0.0)
        with session(settings) as urls:
            prepare(settings, urls)
            with open_home(settings) as home:
                made = time.perf_counter()
                fill(home, rows, touched)
                made = time.perf_counter() - made
                return {"rows": rows, "touched": touched, "made_s": round(made, 1), **erased(home)}


def fill(home: Home, rows: int, touched: int) -> None:
    who = pseudonym(PERSON, home.settings.secret("pseudonym"))
    places = [(FIRST + timedelta(days=n), workflow) for n in range(DAYS) for workflow in WORKFLOWS]
    for number, (day, workflow) in enumerate(places):
        own = OWN // touched if number < touched else 0
        query = QUERY.format(day=day, workflow=workflow, own=own, person=who, rows=rows // len(places))
        with duckdb.connect(":memory:") as connection:
            connection.execute("SET TimeZone = 'UTC'")
            part = connection.sql(query).to_arrow_table().select(LANDED.names).cast(LANDED)
        with bringing(home.settings, home.state, source="jsonl", name="benchmark") as files:
            files.write(Landed.EVENTS, part, part["event_id"].to_pylist(), part["content"].to_pylist())
        made = batches.build(home.settings, home.lake, home.state, day, workflow)
        told = {"day": day, "workflow": workflow, "digest": made.digest, "rows": made.rows, "quarantined": 0}
        home.state.record_batch(**told, status=BatchStatus.ACCEPTED, reasons=[], author="benchmark", run_id=None)
        labelling.build(home.settings, home.lake, home.state, day, workflow)
    training_set(home, FIRST + timedelta(days=DAYS - 1))


def erased(home: Home) -> dict[str, object]:
    """Seconds by stage, and what was written."""
    seconds: Counter[str] = Counter()
    last = ["start", time.perf_counter()]

    def step(what: str) -> None:
        now = time.perf_counter()
        seconds[stage(str(last[0]))] += now - float(last[1])  # type: ignore[arg-type]
        last[:] = [what, now]

    files = {name: set(home.lake.files(name)) for name in schema.LAKE}
    report = run.erase(
        home, subject(home.settings, Kind.EMPLOYEE, PERSON), reason="a benchmark", author="benchmark", step=step
    )
    step("end")
    fresh = {name: len(set(home.lake.files(name)) - before) for name, before in files.items()}
    assert report.removed["lake/interactions"] == OWN, report.removed
    return {
        "seconds": round(report.seconds, 1),
        "stages": {name: round(spent, 2) for name, spent in seconds.most_common()},
        "files written": {name: count for name, count in fresh.items() if count},
        "bytes of the lake": sum(path.stat().st_size for path in home.settings.lake.rglob("*.parquet")),
    }


def stage(what: str) -> str:
    for name in ("looking", "partition", "rewriting", "removing", "training set", "tagging", "writing anew", "cutting"):
        if what.startswith(name):
            return {"partition": "landing and lake", "rewriting": "labels", "removing": "history"}.get(name, name)
    return "gateway and rest"


if __name__ == "__main__":
    main()
