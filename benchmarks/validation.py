"""How fast a day becomes trusted data: rows a second of every stage from the contract to the labels.

    python -m benchmarks.validation [--rows 1000000] [--stage NAME ...] [--json]

A synthetic day of one workflow is made (texts of the simulated organisation's kind, a fifth of the final texts written
by hand), and every stage of `STAGES` runs over it in a process of its own, so that its peak of memory is its own. The
yardstick is a plain DuckDB scan that reads every byte of the same rows: `ratio` says how many such scans a stage costs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from loop import schema
from loop.lake import conform

DAY = date(2026, 1, 5)
WORKFLOW = "comms"


def made(rows: int, seed: int = 0) -> pa.Table:
    """A day of interactions, three candidates each; of ten decisions five accepts, two edits, two rejects, one ignored."""
    connection = duckdb.connect(":memory:", config={"threads": 2})
    connection.execute("SET TimeZone = 'UTC'")
    query = f"""
    WITH drawn AS (
        SELECT i, (hash(i + {seed}) >> 1)::BIGINT AS h, (hash(i * 7 + {seed}) >> 1)::BIGINT AS g, (hash(i * 13 + {seed}) % 10)::INT AS d
        FROM range({rows}) t(i)
    ), texts AS (
        SELECT *,
            'Hello, ' || ['good news', 'quick note', 'we regret', 'as agreed'][1 + h % 4] || ', '
            || ['please confirm', 'please call', 'please review'][1 + g % 3] || '. Regards' AS first,
            'Dear friend, thank you, ' || ['please visit', 'please wait'][1 + g % 2] || '. Cheers' AS second,
            'Good day, as agreed, please sign. ' || ['Yours', 'Warmly', 'Thanks'][1 + h % 3] AS third
        FROM drawn
    ), told AS (
        SELECT *, CASE WHEN d < 7 THEN (h % 3)::INT END AS chosen,
            TIMESTAMPTZ '{DAY.isoformat()} 00:00:00+00' + (i % 86000) * INTERVAL 1 SECOND AS shown
        FROM texts
    )
    SELECT 'e' || i AS event_id, 's' || i AS suggestion_id, NULL::VARCHAR AS revises,
        'episode ' || i // 4 AS episode_id, (i % 4)::INT AS turn, 'task ' || h % 500 AS task_id,
        '{WORKFLOW}' AS workflow, DATE '{DAY.isoformat()}' AS day, shown AS shown_at,
        CASE WHEN d < 9 THEN shown + (1 + g % 60) * INTERVAL 1 SECOND END AS decided_at,
        shown + INTERVAL 90 SECOND AS received_at, 'p_' || md5((h % 2000)::VARCHAR) AS employee,
        'team ' || h % 20 AS team, 'region ' || h % 5 AS region, []::VARCHAR[] AS visibility,
        [{{'role': 'user', 'content': 'Write to reader ' || h % 100000 || ' about matter ' || i
            || ': an answer to the letter of last week, short and kind, with one request.'}}] AS prompt,
        [{{'position': 0::INT, 'text': first, 'logprob': -1.0::DOUBLE}},
         {{'position': 1::INT, 'text': second, 'logprob': -2.0::DOUBLE}},
         {{'position': 2::INT, 'text': third, 'logprob': -3.0::DOUBLE}}] AS candidates,
        'm-' || h % 2 AS model_version, 0.5::DOUBLE AS arm_propensity, NULL::DOUBLE AS order_propensity,
        ['accept', 'accept', 'accept', 'accept', 'accept', 'modify', 'modify', 'reject', 'reject', 'ignore'][1 + d]
            AS decision,
        chosen,
        CASE WHEN d < 5 THEN [first, second, third][1 + chosen]
             WHEN d < 7 THEN [first, second, third][1 + chosen] || ', in the matter of number ' || i END AS final_text,
        []::VARCHAR[] AS reasons, CASE WHEN d < 9 THEN ((1 + g % 60) * 1000)::BIGINT END AS dwell_ms,
        ['training', 'evaluation'] AS purposes, 'gateway' AS source, md5(i::VARCHAR) AS content, 'b' AS batch
    FROM told
    """
    return conform(connection.sql(query).to_arrow_table(), schema.INTERACTIONS)


# -- the stages: one function each, which takes the rows; a new stage is a function and a line in STAGES ----------------


def scan(rows: duckdb.DuckDBPyConnection) -> None:
    """The yardstick: every byte of the rows goes through one aggregate."""
    columns = ", ".join(f"bit_xor(hash({c.name}))" for c in schema.INTERACTIONS.columns)
    rows.execute(f"SELECT {columns} FROM batch").fetchall()


def contract(rows: pa.Table) -> None:
    """The row contract."""
    from loop.validate import contract as row_contract

    good, bad = row_contract.split(rows, now=datetime.now(UTC))
    assert (good.num_rows, bad.num_rows) == (rows.num_rows, 0)


def measures(rows: duckdb.DuckDBPyConnection) -> None:
    """What the suite's rules speak of."""
    from loop.validate.suites.measures import measured

    with measured(rows, WORKFLOW) as connection:
        assert connection.execute("SELECT count(*) FROM measures").fetchall()[0][0] > 0


def suite(rows: duckdb.DuckDBPyConnection) -> None:
    """Measures and Great Expectations."""
    from loop.validate import suites

    report = suites.run(rows, WORKFLOW, history=suites.HISTORY)
    assert report.passed, report.reasons


def derive(rows: pa.Table) -> None:
    """Demonstrations and preferences."""
    from loop.label.derive import derive as labels

    assert labels(rows, held_out_share=0.2).interactions == rows.num_rows


STAGES: dict[str, Callable[[Any], None]] = {
    "scan": scan,
    "contract": contract,
    "measures": measures,
    "suite": suite,
    "derive": derive,
}
"""In the order in which a day goes through them; `measures` is part of `suite`."""
STREAMED = {"scan", "measures", "suite"}
"""Stages that read the day's files as they go; the others are handed a table in memory."""


def opened(path: Path) -> Any:
    """A connection in which the day's file is the view `batch`, as `Lake.scan` gives it."""
    connection = duckdb.connect(":memory:", config={"threads": 2})
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"CREATE VIEW batch AS FROM read_parquet('{path}')")
    return connection


def timed(name: str, path: Path, rows: int) -> dict[str, Any]:
    """One stage in this process: seconds, rows a second, and how much memory it took beside the rows."""
    table = opened(path) if name in STREAMED else pq.read_table(path, schema=schema.INTERACTIONS.arrow)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    STAGES[name](table)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "stage": name,
        "seconds": round(seconds, 2),
        "rows_per_second": round(rows / seconds),
        "rows_mb": before // 1024,
        "peak_mb": peak // 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--stage", action="append", choices=list(STAGES), help="only this one, and the scan")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    wanted = [name for name in STAGES if name == "scan" or not given.stage or name in given.stage]
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        context = multiprocessing.get_context("spawn")
        with context.Pool(1, maxtasksperchild=1) as pool:
            pool.apply(_write, (path, given.rows))
            for name in wanted:
                result = pool.apply(timed, (name, path, given.rows))
                result["ratio"] = round(
                    result["seconds"] / (results[0]["seconds"] if results else result["seconds"]), 1
                )
                results.append(result)
                told = (
                    "{stage:>12} {seconds:8.2f} s {rows_per_second:>12,} rows/s {ratio:6.1f} scans  peak {peak_mb:,} MB"
                )
                print(told.format(**result) + f" ({result['rows_mb']:,} before)", file=sys.stderr)
    if given.json:
        print(json.dumps(results))


def _write(path: Path, rows: int) -> None:
    pq.write_table(made(rows), path, row_group_size=100_000)


if __name__ == "__main__":
    main()
