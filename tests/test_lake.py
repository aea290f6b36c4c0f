from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import pytest
from deltalake import DeltaTable

from loop import lake, schema
from loop.errors import BadInputError
from loop.lake import Lake, from_rows
from loop.schema import Privacy

DAY = date(2026, 1, 5)
NEXT = date(2026, 1, 6)


def items(day: date, workflow: str, count: int, text: str = "hello") -> lake.pa.Table:
    rows = [
        {
            "item_id": f"{workflow}-{day}-{i}",
            "day": day,
            "workflow": workflow,
            "prompt": [{"role": "user", "content": text}],
        }
        for i in range(count)
    ]
    return lake.from_rows(rows, schema.BENCHMARK)


def test_a_meaning_that_is_worded_anew_breaks_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Lake(tmp_path)
    store.overwrite("benchmark", items(DAY, "ads", 2), day=DAY, workflow="ads")
    columns = tuple(replace(c, meaning=f"{c.meaning}, said otherwise") for c in schema.BENCHMARK.columns)
    monkeypatch.setitem(schema.LAKE, "benchmark", replace(schema.BENCHMARK, columns=columns))
    store.overwrite("benchmark", items(DAY, "ads", 3), day=DAY, workflow="ads")
    store.append("benchmark", items(NEXT, "ads", 1), day=NEXT, workflow="ads", write=1)
    assert store.read("benchmark").num_rows == 4


def test_a_write_replaces_its_partition_and_no_other(tmp_path: Path) -> None:
    store = Lake(tmp_path)
    store.overwrite("benchmark", items(DAY, "ads", 3), day=DAY, workflow="ads")
    store.overwrite("benchmark", items(DAY, "comms", 2), day=DAY, workflow="comms")
    store.overwrite("benchmark", items(NEXT, "ads", 4), day=NEXT, workflow="ads")
    store.overwrite("benchmark", items(DAY, "ads", 1), day=DAY, workflow="ads")

    assert store.read("benchmark").num_rows == 1 + 2 + 4
    assert store.read("benchmark", days=(DAY, DAY), workflows=["ads"])["item_id"].to_pylist() == ["ads-2026-01-05-0"]
    assert store.read("benchmark", days=(NEXT, NEXT)).num_rows == 4
    assert store.partitions("benchmark") == [(DAY, "ads"), (DAY, "comms"), (NEXT, "ads")]


def test_writing_no_rows_empties_the_partition(tmp_path: Path) -> None:
    store = Lake(tmp_path)
    store.overwrite("benchmark", items(DAY, "ads", 3), day=DAY, workflow="ads")
    store.overwrite("benchmark", items(DAY, "ads", 0), day=DAY, workflow="ads")
    assert store.read("benchmark").num_rows == 0
    assert store.partitions("benchmark") == []


def test_a_fresh_lake_reads_as_no_rows(tmp_path: Path) -> None:
    store = Lake(tmp_path)
    rows = store.read("interactions", columns=["event_id", "day"])
    assert (rows.num_rows, rows.column_names) == (0, ["event_id", "day"])
    assert store.version("interactions") is None
    assert store.files("interactions") == []


def test_an_older_version_can_be_read(tmp_path: Path) -> None:
    store = Lake(tmp_path)
    first = store.overwrite("benchmark", items(DAY, "ads", 3), day=DAY, workflow="ads")
    second = store.overwrite("benchmark", items(DAY, "ads", 5), day=DAY, workflow="ads")
    assert second == store.version("benchmark") == first + 1
    assert store.read("benchmark", version=first).num_rows == 3


def test_a_row_of_another_partition_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="2 rows do not belong to day 2026-01-06"):
        Lake(tmp_path).overwrite("benchmark", items(DAY, "ads", 2), day=NEXT, workflow="ads")


def test_a_missing_column_or_value_is_refused(tmp_path: Path) -> None:
    rows = items(DAY, "ads", 2)
    with pytest.raises(AssertionError, match=r"columns differ: \['prompt'\]"):
        lake.conform(rows.drop_columns("prompt"), schema.BENCHMARK)
    nulls = rows.set_column(0, "item_id", lake.pa.array([None, "b"], lake.pa.string()))
    with pytest.raises(AssertionError, match=r"benchmark\.item_id: null"):
        lake.conform(nulls, schema.BENCHMARK)


def test_a_workflow_cannot_smuggle_a_predicate(tmp_path: Path) -> None:
    rows = items(DAY, "ads' OR '1'='1", 1)
    with pytest.raises(BadInputError, match="expected letters"):
        Lake(tmp_path).overwrite("benchmark", rows, day=DAY, workflow="ads' OR '1'='1")


def test_the_log_keeps_no_text(tmp_path: Path) -> None:
    store = Lake(tmp_path)
    for text in ("a secret thought", "another secret"):
        store.overwrite("benchmark", items(DAY, "ads", 3, text), day=DAY, workflow="ads")
    logged = "\n".join(p.read_text() for p in (tmp_path / "benchmark" / "_delta_log").glob("*.json"))
    assert "secret" not in logged
    stats = [json.loads(a["add"]["stats"]) for a in map(json.loads, filter(None, logged.splitlines())) if "add" in a]
    assert {column for s in stats for column in s["minValues"]} == {"item_id"}


def _write(job: tuple[Path, int]) -> None:
    root, number = job
    day = date(2026, 1, 1 + number)
    for count in range(1, 4):
        Lake(root).overwrite("benchmark", items(day, "ads", count), day=day, workflow="ads")


def test_processes_that_write_different_partitions_do_not_conflict(tmp_path: Path) -> None:
    Lake(tmp_path).overwrite("benchmark", items(DAY, "comms", 1), day=DAY, workflow="comms")
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(_write, [(tmp_path, n) for n in range(4)]))
    assert Lake(tmp_path).read("benchmark", workflows=["ads"]).num_rows == 4 * 3


def test_tidying_loses_no_row(tmp_path: Path) -> None:
    store = Lake(tmp_path)
    for count in (3, 5):
        store.overwrite("benchmark", items(DAY, "ads", count), day=DAY, workflow="ads")
    store.tidy("benchmark")
    store.tidy("interactions")  # nothing there: nothing to do
    assert store.read("benchmark").num_rows == 5


def test_the_log_is_summed_up_often_and_in_older_tables_from_their_next_upkeep_on(tmp_path: Path) -> None:
    def commits_since_the_last_sum(table: str) -> int:
        log = tmp_path / table / "_delta_log"
        newest = json.loads((log / "_last_checkpoint").read_text())["version"]
        return sum(int(path.stem) > newest for path in log.glob("*.json"))

    store = Lake(tmp_path)
    for day in range(1, 26):
        store.overwrite("benchmark", items(date(2026, 1, day), "ads", 1), day=date(2026, 1, day), workflow="ads")
    assert commits_since_the_last_sum("benchmark") < lake.CHECKPOINT_EVERY
    told = schema.BENCHMARK.arrow
    older = DeltaTable.create(tmp_path / "comparisons", told, partition_by=["day", "workflow"])
    assert "delta.checkpointInterval" not in older.metadata().configuration
    for _ in range(2):
        store.tidy("comparisons")
    kept = DeltaTable(tmp_path / "comparisons")
    assert kept.metadata().configuration == {"delta.checkpointInterval": str(lake.CHECKPOINT_EVERY)}
    assert kept.version() == 1  # set once
    assert commits_since_the_last_sum("comparisons") == 0


class TestAppend:
    """Rows are added to a partition, under a number that stands in the same commit."""

    def test_the_number_of_the_last_write_is_the_partitions_own_and_outlives_upkeep(self, tmp_path: Path) -> None:
        store = Lake(tmp_path)
        assert store.written("benchmark", day=DAY, workflow="ads") is None
        store.overwrite("benchmark", items(DAY, "ads", 3), day=DAY, workflow="ads", write=1)
        store.append("benchmark", items(NEXT, "ads", 2), day=NEXT, workflow="ads", write=1)
        store.append("benchmark", items(DAY, "ads", 2), day=DAY, workflow="ads", write=2)
        store.append("benchmark", items(DAY, "ads", 0), day=DAY, workflow="ads", write=3)  # nothing, and yet a write
        store.overwrite("benchmark", items(DAY, "ads", 5), day=DAY, workflow="ads")  # without a number: it stays
        assert store.read("benchmark").num_rows == 2 + 5
        for upkeep in (store.tidy, store.scrub):
            upkeep("benchmark")
            assert store.written("benchmark", day=DAY, workflow="ads") == 3
            assert store.written("benchmark", day=NEXT, workflow="ads") == 1
            assert store.written("benchmark", day=DAY, workflow="comms") is None

    def test_many_small_files_become_few_and_those_of_other_partitions_are_left(self, tmp_path: Path) -> None:
        store = Lake(tmp_path)
        for write in (1, 2):
            store.append("benchmark", items(NEXT, "ads", 1), day=NEXT, workflow="ads", write=write)
        for write in range(1, lake.COMPACT_EVERY + 2):
            store.append("benchmark", items(DAY, "ads", 2), day=DAY, workflow="ads", write=write)
        assert len(store.files("benchmark", (DAY, DAY))) == 2
        assert len(store.files("benchmark", (NEXT, NEXT))) == 2
        assert store.read("benchmark").num_rows == 2 + 2 * (lake.COMPACT_EVERY + 1)

    def test_rows_of_another_partition_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(AssertionError, match="2 rows do not belong to day 2026-01-06"):
            Lake(tmp_path).append("benchmark", items(DAY, "ads", 2), day=NEXT, workflow="ads", write=1)

    def test_the_log_names_the_partition_and_no_row(self, tmp_path: Path) -> None:
        store = Lake(tmp_path)
        for write in range(1, lake.COMPACT_EVERY + 1):
            store.append("benchmark", items(DAY, "ads", 1, "secret"), day=DAY, workflow="ads", write=write)
        logged = "\n".join(p.read_text() for p in (tmp_path / "benchmark" / "_delta_log").glob("*.json"))
        told = [json.loads(line)["commitInfo"] for line in logged.splitlines() if "commitInfo" in line]
        predicates = [one["operationParameters"].get("predicate") for one in told]
        assert sorted(filter(None, predicates)) == ["""["day = '2026-01-05'","workflow = 'ads'"]"""]  # the compaction's
        assert "secret" not in logged

    def test_rows_are_found_by_the_values_of_a_column(self, tmp_path: Path) -> None:
        store = Lake(tmp_path)
        where = {"day": DAY, "workflow": "ads"}
        wanted = lake.pa.array(["ads-2026-01-05-1", "ads-2026-01-06-0", "none"])
        assert store.matching("benchmark", "item_id", wanted, **where, columns=["day"]).num_rows == 0
        store.append("benchmark", items(NEXT, "ads", 3), day=NEXT, workflow="ads", write=1)
        store.append("benchmark", items(DAY, "ads", 3), **where, write=1)
        found = store.matching("benchmark", "item_id", wanted, **where, columns=["prompt", "item_id", "day"])
        assert found.to_pylist() == [
            {"prompt": [{"role": "user", "content": "hello"}], "item_id": "ads-2026-01-05-1", "day": DAY}
        ]


class TestConnect:
    """DuckDB over everything, read-only."""

    def test_every_table_is_there_from_the_start(self, tmp_path: Path) -> None:
        state = {name: table.empty() for name, table in schema.STATE.items()}
        with lake.connect(Lake(tmp_path), state) as connection:
            for name, table in schema.TABLES.items():
                assert connection.execute(f"SELECT count(*) FROM {name}").fetchall() == [(0,)]
                columns = connection.execute(f"DESCRIBE {name}").fetchall()
                assert [c[0] for c in columns] == [c.name for c in table.columns if c.privacy is not Privacy.CONDUCT]

    def test_nobody_is_shown_how_far_somebody_is_trusted(self, tmp_path: Path) -> None:
        hidden = {(t.name, c.name) for t in schema.LAKE.values() for c in t.columns if c.privacy is Privacy.CONDUCT}
        assert {("signals", "weight"), ("conduct", "trust"), ("demonstrations", "weight")} <= hidden
        with lake.connect(Lake(tmp_path), {}) as connection, pytest.raises(duckdb.BinderException):
            connection.execute("SELECT employee, avg(weight) FROM demonstrations GROUP BY employee")

    @pytest.mark.parametrize("column", ["seconds", "shown_at", "answered_at", "recorded_at"])
    def test_nobody_is_shown_how_fast_somebody_works(self, tmp_path: Path, column: str) -> None:
        at = datetime(2026, 1, 5, 12, tzinfo=UTC)
        row: dict[str, Any] = {"label_task_id": "t", "annotator": "p-1", "version": 1, "day": DAY, "workflow": "ads"}
        row |= {"action": "answer", "label": "first", "swapped": False, "counts": True, "source": "page"}
        row |= {"shown_at": at, "answered_at": at, "recorded_at": at, "seconds": 0.5}
        rows = from_rows([row], schema.ANNOTATIONS)
        with lake.connect(Lake(tmp_path), {"annotations": rows}) as connection:
            query = "SELECT annotator, label, count(*) FROM annotations GROUP BY ALL"
            assert connection.execute(query).fetchall() == [("p-1", "first", 1)]
            with pytest.raises(duckdb.BinderException):
                connection.execute(f"SELECT annotator, min({column}) FROM annotations GROUP BY ALL")

    @pytest.mark.parametrize("column", ["answered_at", "dwell_ms"])
    def test_nobody_is_shown_how_fast_a_member_of_the_panel_works(self, tmp_path: Path, column: str) -> None:
        at = datetime(2026, 1, 5, 12, tzinfo=UTC)
        row = {"comparison_id": "c", "employee": "p-1", "choice": "left", "answered_at": at, "dwell_ms": 900}
        with lake.connect(Lake(tmp_path), {"answers": from_rows([row], schema.ANSWERS)}) as connection:
            assert connection.execute("SELECT * FROM answers").fetchall() == [("c", "p-1", "left")]
            with pytest.raises(duckdb.BinderException):
                connection.execute(f"SELECT employee, min({column}) FROM answers GROUP BY ALL")

    def test_rows_come_with_their_partition_and_their_zone(self, tmp_path: Path) -> None:
        home = tmp_path / "it's a=b é"
        store = Lake(home)
        store.overwrite("benchmark", items(DAY, "ads", 2), day=DAY, workflow="ads")
        query = "SELECT day, workflow, count(*), prompt[1].content FROM benchmark GROUP BY ALL"
        with lake.connect(store, {}) as connection:
            assert connection.execute(query).fetchall() == [(DAY, "ads", 2, "hello")]
        assert quote("it's a=b") != "it's a=b"  # what Delta makes of such a path; `files` undoes it

    def test_times_are_utc(self, tmp_path: Path) -> None:
        now = datetime(2026, 1, 5, 12, tzinfo=UTC)
        row = {"label_task_id": "t", "version": 1, "label": "x", "hidden": True, "reason": "r", "author": "a"}
        rows = lake.pa.Table.from_pylist([row | {"changed_at": now}], schema=schema.GOLD.arrow)
        with lake.connect(Lake(tmp_path), {"gold": rows}) as connection:
            got = connection.execute("SELECT changed_at FROM gold").fetchone()
        assert got is not None
        assert got[0] == now

    @pytest.mark.parametrize(
        "query",
        [
            "SELECT * FROM read_text('/etc/passwd')",
            "SELECT * FROM read_csv('/etc/passwd')",
            "SET enable_external_access = true",
            "SET allowed_directories = ['/']",
            "ATTACH '/nowhere/x.db'",
            "INSTALL httpfs",
            "COPY (SELECT 1) TO '/nowhere/y.csv'",
        ],
    )
    def test_nothing_else_can_be_reached(self, tmp_path: Path, query: str) -> None:
        with lake.connect(Lake(tmp_path), {}) as connection, pytest.raises(duckdb.Error):
            connection.execute(query)


class TestScrub:
    """A table loses its past, and waits for those who are at it."""

    def test_nothing_of_what_a_table_was_is_left(self, tmp_path: Path) -> None:
        store = Lake(tmp_path)
        for text in ("before", "meanwhile", "now"):
            store.overwrite("benchmark", items(DAY, "ads", 2, text), day=DAY, workflow="ads")
        (tmp_path / "benchmark" / "orphan.parquet").write_bytes(b"of a killed writer")
        assert store.scrub("benchmark") == 3
        assert store.read("benchmark").num_rows == 2
        left = sorted(path.name for path in (tmp_path / "benchmark").rglob("*") if path.is_file())
        assert len([name for name in left if name.endswith("snappy.parquet")]) == 1
        assert [name for name in left if name[:1] == "0"] == [
            f"{store.version('benchmark'):020d}.checkpoint.parquet",
            f"{store.version('benchmark'):020d}.json",
        ]
        store.overwrite("benchmark", items(DAY, "ads", 3, "then"), day=DAY, workflow="ads")
        assert store.read("benchmark").num_rows == 3
        assert store.scrub("outcomes") == 0, "there is no such table yet"

    def test_it_waits_for_readers_and_readers_that_overlap_do_not_keep_it_waiting(self, tmp_path: Path) -> None:
        store = Lake(tmp_path)
        store.overwrite("benchmark", items(DAY, "ads", 2), day=DAY, workflow="ads")
        done = threading.Event()

        def overlap() -> None:
            while not done.is_set():
                with Lake(tmp_path).pinned("benchmark"):
                    time.sleep(0.02)

        readers = [threading.Thread(target=overlap) for _ in range(4)]
        with store.pinned("benchmark"):
            version = store.version("benchmark")
            store.overwrite("benchmark", items(DAY, "ads", 3), day=DAY, workflow="ads")
            scrub = threading.Thread(target=lambda: Lake(tmp_path).scrub("benchmark"))
            scrub.start()
            time.sleep(0.2)
            assert scrub.is_alive()
            assert store.read("benchmark", version=version).num_rows == 2, "who has it enters again"
        for reader in readers:
            reader.start()
        scrub.join(20)
        done.set()
        assert not scrub.is_alive()
        for reader in readers:
            reader.join()

    def test_a_table_is_scanned_to_its_end_and_what_old_files_lack_is_null(self, tmp_path: Path) -> None:
        store = Lake(tmp_path)
        for n, workflow in enumerate(("ads", "comms"), 1):
            store.overwrite("benchmark", items(DAY, workflow, n), day=DAY, workflow=workflow)
        rows = [row for part in store.scan("benchmark", ["item_id", "workflow"]) for row in part.to_pylist()]
        assert sorted(row["workflow"] for row in rows) == ["ads", "comms", "comms"]
        assert list(store.scan("outcomes", ["outcome_id"])) == []


def test_a_partition_is_asked_without_being_read_whole(tmp_path: Path) -> None:
    store = Lake(tmp_path)
    with store.partition("benchmark", day=DAY, workflow="ads", view="batch") as connection:
        assert connection.execute("SELECT count(*) FROM batch").fetchall() == [(0,)]
    store.overwrite("benchmark", items(DAY, "ads", 3), day=DAY, workflow="ads")
    store.overwrite("benchmark", items(NEXT, "ads", 4), day=NEXT, workflow="ads")
    where = "item_id <> 'ads-2026-01-05-1'"
    with store.partition("benchmark", day=DAY, workflow="ads", view="batch", where=where) as connection:
        found = connection.execute("SELECT item_id, day, prompt[1].content FROM batch ORDER BY 1").fetchall()
    assert found == [(f"ads-2026-01-05-{n}", DAY, "hello") for n in (0, 2)]


def test_nobody_is_alone_with_a_table_within_what_he_shares(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    with lake.pinned("interactions"):
        lake.read("interactions")
        with pytest.raises(AssertionError, match="alone is wanted"):
            lake.scrub("interactions")
    assert lake.scrub("interactions") == 0
