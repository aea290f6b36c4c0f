"""How fast a day becomes trusted data: what every stage from the landing area to the labels costs, and a year later.

    python -m benchmarks.validation [--rows 1000000] [--stage NAME ...] [--json]
    python -m benchmarks.validation --days 365 [--rows 2000] [--json]

The first makes a synthetic day of one workflow (about 1 kB of text a row, personal data in a few, 3,000 employees) and
takes it through a home, every stage of `STAGES` in a process of its own, so that its peak of memory is its own. The
yardstick is a plain DuckDB scan that reads every byte of the same rows in the lake: `ratio` says how many such scans a
stage costs. CPU seconds are those of the process; of Postgres, those meanwhile.

The second fills a home with one such day after another, and measures whole days as the history grows (`--at`).
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from benchmarks.gateway import running
from loop import schema
from loop.collect.record import Record
from loop.config import Settings
from loop.home import Home, open_home
from loop.lake import conform

DAY = date(2025, 1, 6)
WORKFLOW = "comms"
PEOPLE = 3_000


# -- what comes in ----------------------------------------------------------------------------------------------------


def sentences(count: int = 2_000) -> list[str]:
    """Sentences of an office, about 70 characters each."""
    rng = random.Random(0)
    who = (
        "the team",
        "our office",
        "the reader",
        "your manager",
        "the board",
        "a colleague",
        "the agency",
        "the client",
    )
    does = ("has asked for", "will send", "is waiting for", "has found", "would like to see", "no longer needs")
    what = ("the second draft", "a short reply", "the new figures", "an answer", "the form", "last year's plan")
    when = ("by Friday", "before the meeting", "as agreed", "this week", "in the spring", "after the holidays")
    why = ("because the date has moved", "so that nobody waits", "as the law asks", "and thanks everybody for it")
    lists = (who, does, what, when, why)
    return [" ".join(rng.choice(words) for words in lists).capitalize() + f", see page {n}." for n in range(count)]


def events(rows: int, day: date = DAY, seed: int = 0) -> str:
    """SQL for a day's events as a tool sends them: of ten, five accepts, two edits, two rejects, one ignored.

    Two candidates each; one prompt in fifty and one edit in ten hold an address, a telephone number or an account.
    """

    def drawn(salt: int, size: int) -> str:
        return f"(hash(i * 64 + {salt} + {seed}::BIGINT * 1000003) % {size})::INT"

    def text(salt: int, count: int) -> str:
        return " || ' ' || ".join(f"list_extract(told, 1 + {drawn(salt + k, 2000)})" for k in range(count))

    kinds = "['accept', 'accept', 'accept', 'accept', 'accept', 'modify', 'modify', 'reject', 'reject', 'ignore']"
    personal = (
        f"['Write to jane.' || {drawn(30, 900)} || '@example.org.', 'Call +44 20 7946 0' || "
        f"{drawn(31, 900)} + 100 || '.', 'Pay to DE89 3704 0044 0532 0130 00.'][1 + {drawn(32, 3)}]"
    )
    start = f"TIMESTAMPTZ '{day.isoformat()} 06:00:00+00'"
    return f"""
    WITH texts AS (
        SELECT i, {drawn(0, 10)} AS d, {drawn(1, 60)} + 5 AS seconds, {drawn(2, PEOPLE)} AS person,
            'Hello, ' || ['good news', 'quick note', 'as agreed'][1 + {drawn(3, 3)}] || '. ' || {text(10, 3)}
                || ' Regards' AS first,
            'Dear friend, thank you. ' || {text(14, 3)} || ' Cheers' AS second,
            'Write to reader ' || {drawn(4, 100000)} || ' of team ' || {drawn(5, 50)} || '. ' || {text(18, 3)}
                || CASE WHEN {drawn(6, 50)} = 0 THEN ' ' || {personal} ELSE '' END AS asked,
            {text(24, 1)} || CASE WHEN {drawn(7, 10)} = 0 THEN ' ' || {personal} ELSE '' END AS added,
            {drawn(8, 2)} AS place, {start} + to_microseconds(i * 50400000000 // {rows}) AS shown
        FROM range({rows}) t(i), sentences
    ), timed AS (
        SELECT *, {kinds}[1 + d] AS decision, CASE WHEN d < 7 THEN place END AS chosen,
            strftime(shown, '%Y-%m-%dT%H:%M:%S.%fZ') AS shown_at, [first, second][1 + place] AS taken,
            strftime(shown + seconds * INTERVAL 1 SECOND, '%Y-%m-%dT%H:%M:%S.%fZ') AS answered
        FROM texts
    )
    SELECT md5('{day} ' || i || ' {seed}') AS event_id, md5('s {day} ' || i || ' {seed}') AS suggestion_id,
        'episode-{day}-' || i // 4 AS episode_id, (i % 4)::INT AS turn, 'task ' || {drawn(9, 500)} AS task_id,
        '{WORKFLOW}' AS workflow, shown_at, CASE WHEN d < 9 THEN answered END AS decided_at,
        strftime(shown + INTERVAL 90 SECOND, '%Y-%m-%dT%H:%M:%S.%fZ') AS received_at, 'person ' || person AS employee,
        'team ' || person % 40 AS team, 'region ' || person % 5 AS region, []::VARCHAR[] AS visibility,
        [{{'role': 'user', 'content': asked}}] AS prompt,
        [{{'position': 0, 'text': first, 'logprob': -1.0 - {drawn(40, 900)} / 100}},
         {{'position': 1, 'text': second, 'logprob': -1.0 - {drawn(41, 900)} / 100}}] AS candidates,
        'm-' || {drawn(42, 2)} AS model_version, 0.5::DOUBLE AS arm_propensity, 0.5::DOUBLE AS order_propensity,
        decision, chosen, CASE WHEN d < 5 THEN taken WHEN d < 7 THEN taken || ' ' || added END AS final_text,
        []::VARCHAR[] AS reasons, CASE WHEN d < 9 THEN seconds * 1000 END AS dwell_ms,
        ['training', 'evaluation'] AS purposes
    FROM timed
    """


def written(path: Path, rows: int, day: date = DAY, seed: int = 0) -> None:
    """A day's events as lines of JSON."""
    with duckdb.connect(":memory:", config={"threads": 2}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("CREATE TABLE sentences AS SELECT ? AS told", [sentences()])
        connection.execute(f"COPY ({events(rows, day, seed)}) TO '{path}' (FORMAT JSON)")


def records(path: Path) -> Iterator[Record]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            yield Record(number, line.rstrip(b"\n"))


# -- the stages: one function each, in the order in which a day goes through them -------------------------------------


def land(home: Home, day: date) -> int:
    """Decoded, known again, masked with patterns, the contract at the edge, into the landing area."""
    from loop.collect import landing
    from loop.validate import contract

    path = home.settings.home / f"{day}.json"
    done = landing.land(
        home.settings,
        home.lake,
        home.state,
        source="gateway",
        name=path.name,
        records=records(path),
        contract=contract.split,
    )
    assert done.read == done.accepted, done
    assert done.masked, done
    return done.accepted


def build(home: Home, day: date) -> int:
    """The contract over what has landed, into the lake as a batch."""
    from loop.validate import batches

    return batches.build(home.settings, home.lake, home.state, day, WORKFLOW).rows


def scan(home: Home, day: date) -> int:
    """The yardstick: every byte of the rows goes through one aggregate."""
    columns = ", ".join(f"bit_xor(hash({c.name}))" for c in schema.INTERACTIONS.columns)
    with home.lake.partition("interactions", day=day, workflow=WORKFLOW, view="batch") as connection:
        return int(connection.execute(f"SELECT count(*), {columns} FROM batch").fetchall()[0][0])


def judge(home: Home, day: date) -> int:
    """Suite and drift, and the verdict with its page."""
    from loop.validate import verdicts

    verdict = verdicts.judge(home.settings, home.lake, home.state, day, WORKFLOW)
    assert verdict.passed, verdict.reasons
    return verdict.report.rows


def weigh(home: Home, day: date) -> int:
    """Signal weights with their reasons."""
    from loop.validate import signal_days

    return signal_days.build(home.lake, home.state, day, WORKFLOW).rows


def label(home: Home, day: date) -> int:
    """Demonstrations and preferences."""
    from loop.label import batches

    return batches.build(home.settings, home.lake, home.state, day, WORKFLOW).interactions


STAGES: dict[str, Callable[[Home, date], int]] = {
    "land": land,
    "build": build,
    "scan": scan,
    "judge": judge,
    "weigh": weigh,
    "label": label,
}


# -- one day, stage by stage ------------------------------------------------------------------------------------------


def measured(home: Home, name: str, day: date = DAY) -> dict[str, Any]:
    """One stage in this process: wall and CPU seconds, those of Postgres meanwhile, and this process's peak memory."""
    server = running.service(home.settings.home, "postgres")
    wall, own, its = time.perf_counter(), time.process_time(), running.cpu_seconds(server)
    rows = {**STAGES, "unread": unread}[name](home, day)
    seconds = time.perf_counter() - wall
    return {
        "stage": name,
        "rows": rows,
        "seconds": round(seconds, 3),
        "cpu": round(time.process_time() - own, 3),
        "postgres_cpu": round(running.cpu_seconds(server) - its, 3),
        "rows_per_second": round(rows / seconds),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def child(home: Path, *words: str) -> Any:
    """What a process of its own measured in a home."""
    command = [sys.executable, "-m", "benchmarks.validation", "--home", str(home), *words]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def one_day(home: Home, rows: int, wanted: Sequence[str]) -> list[dict[str, Any]]:
    """Stages over one day of so many rows, one after the other."""
    written(home.settings.home / f"{DAY}.json", rows)
    found = {}
    for name in STAGES:
        if name in {*wanted, "land", "build", "scan"}:  # without which there is nothing to measure
            found[name] = child(home.settings.home, "--stage", name)
            assert found[name]["rows"] == rows, found[name]
            print(found[name], file=sys.stderr)
    for one in found.values():
        one["ratio"] = round(one["cpu"] / found["scan"]["cpu"], 1)
    return list(found.values())


# -- one day after another --------------------------------------------------------------------------------------------

POINTS = (1, 30, 180, 365)
REPEATS = 3
COPIED = ("interactions", "signals", "conduct", "demonstrations", "preferences")


def year(home: Home, rows: int, points: Sequence[int]) -> list[dict[str, Any]]:
    """What whole days cost with so many days before them: of `REPEATS` in a row the median, CPU seconds by stage.

    The days between are copies of the last one that was really gone through, at other times and under other ids, and
    stand wherever that one stands: landed file and index, tables of the lake, verdict, profile.
    """
    there = 0
    results: list[dict[str, Any]] = []
    for point in points:
        copied(home, there, point)
        there = point + REPEATS + 1
        for number in range(point, there):
            day = DAY + timedelta(days=number)
            written(home.settings.home / f"{day}.json", rows, day, number)
        days = child(home.settings.home, "--days", str(point))
        result: dict[str, Any] = {"days before": point}
        for name in (*STAGES, "unread"):
            spent = [day[name]["cpu"] + day[name]["postgres_cpu"] for day in days if name in day]
            result[name] = round(statistics.median(spent), 3)
        result["all"] = round(sum(result[name] for name in STAGES if name != "scan"), 3)
        result["all but weigh"] = round(result["all"] - result["weigh"], 3)
        for name in ("all", "all but weigh"):
            result[f"ratio of {name}"] = round(result[name] / (results or [result])[0][name], 3)
        results.append(result)
        print(result, file=sys.stderr)
    return results


def whole_days(home: Home, first: int) -> list[dict[str, dict[str, Any]]]:
    """Days in a row, every stage; the first of them warms the process up and is not told.

    Signals are weighed on the last of them alone: that takes longer than all else together, and warms up by itself.
    """
    found = []
    for number in range(first, first + REPEATS + 1):
        wanted = [name for name in (*STAGES, "unread") if name != "weigh" or number == first + REPEATS]
        found.append({name: measured(home, name, DAY + timedelta(days=number)) for name in wanted})
    return found[1:]


def copied(home: Home, there: int, until: int) -> None:
    """Fill the days from `there` up to `until` with copies of the day before; of no day, with a day gone through."""
    from loop.collect.files import Kind, bringing
    from loop.collect.landed import claim
    from loop.validate.batches import digest_of

    if not there:
        written(home.settings.home / f"{DAY}.json", 1_000)
        for stage in STAGES.values():
            stage(home, DAY)
        there = 1
    last = DAY + timedelta(days=there - 1)
    kept = {name: home.lake.read(name, days=(last, last), workflows=[WORKFLOW]) for name in COPIED}
    [profile] = [row for row in home.state.arrow("profiles").to_pylist() if row["day"] == last]
    for number in range(there, until):
        day = DAY + timedelta(days=number)
        rows = shifted("interactions", kept["interactions"], day, "")
        digest = digest_of(rows, day, WORKFLOW)
        with bringing(home.settings, home.state, source="gateway", name=f"{day}") as files:
            ids, contents = (rows[name].to_pylist() for name in ("event_id", "content"))
            files.write(Kind.EVENTS, rows, ids, contents)
        fresh = claim(home.lake, home.state, Kind.EVENTS, (day, WORKFLOW))
        for name in COPIED:
            write = fresh.write if name == "interactions" else None
            moved = shifted(name, kept[name], day, digest)
            home.lake.overwrite(name, moved, day=day, workflow=WORKFLOW, write=write)
        home.state.record_build(day, WORKFLOW, landed=rows.num_rows, digest=digest)
        verdict = {"status": schema.BatchStatus.ACCEPTED, "quarantined": 0, "reasons": [], "run_id": None}
        home.state.record_batch(
            day=day, workflow=WORKFLOW, digest=digest, rows=rows.num_rows, author="benchmark", **verdict
        )
        home.state.insert("profiles", [{**profile, "day": day, "digest": digest}])


def shifted(table: str, rows: pa.Table, day: date, batch: str) -> pa.Table:
    """Rows of a table as another day's, under ids of their own."""
    told = []
    for column in schema.LAKE[table].columns:
        name = column.name
        if name == "day":
            told.append(f"DATE '{day}' AS day")
        elif name == "batch":
            told.append(f"'{batch}' AS batch")
        elif name == "content" or (name.endswith("_id") and name not in {"episode_id", "task_id"}):
            told.append(f"md5({name} || '{day}') AS {name}")
        elif name.endswith("_at"):
            told.append(f"{name} + to_days(date_diff('day', day, DATE '{day}')::INT) AS {name}")
        else:
            told.append(name)
    with duckdb.connect(":memory:", config={"threads": 2}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("rows", rows)
        return conform(connection.sql(f"SELECT {', '.join(told)} FROM rows").to_arrow_table(), schema.LAKE[table])


def unread(home: Home, day: date) -> int:
    """What the sensor asks all the time: is there anything to build or to judge."""
    from loop.collect import arrivals

    return len(arrivals.unread(home.state)) + 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, help="a day; 1,000,000, or 2,000 with --days")
    parser.add_argument("--stage", action="append", choices=list(STAGES), help="this one, and what it needs")
    parser.add_argument("--days", type=int, help="whole days after 1, 30, 180 and so many days of history")
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.home:  # a child
        with open_home(Settings(home=given.home)) as home:
            print(json.dumps(whole_days(home, given.days) if given.days else measured(home, *given.stage)))
        return
    with tempfile.TemporaryDirectory() as folder, open_home(Settings(home=Path(folder) / "home")) as home:
        if given.days:
            results = year(home, given.rows or 2_000, [p for p in POINTS if p < given.days] + [given.days])
        else:
            results = one_day(home, given.rows or 1_000_000, given.stage or list(STAGES))
    if given.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
