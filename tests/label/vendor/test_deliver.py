"""What comes back: every line accounted for, nothing stored twice, nothing counted before it is accepted."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from loop.collect.events import pseudonym
from loop.erase import Kind as Subject
from loop.erase import run
from loop.erase.subject import subject
from loop.errors import BadInputError
from loop.home import Home
from loop.label import acceptance, annotations, tasks
from loop.label.tasks import Kind
from loop.label.vendor import deliver as delivering
from loop.label.vendor import ledger
from loop.label.vendor.deliver import Delivered, deliver
from loop.label.vendor.ledger import Batch, Item
from tests.label.vendor.batches import DAY, DUE, NOW, OPTIONS, PLAN, answered, exported, filled, known, preference


def take(home: Home, batch: Batch, path: Path, now: datetime = NOW) -> dict[str, int]:
    done = deliver(home.settings, home.lake, home.state, batch.batch_id, path, now=now, author="lead")
    return {name: value for name, value in vars(done).items() if isinstance(value, int) and value}


def stored(home: Home) -> list[dict[str, Any]]:
    table = home.state.tables["annotations"]
    with home.state.engine.connect() as connection:
        query = sa.select(table).order_by(table.c.label_task_id, table.c.annotator, table.c.version)
        return [dict(row) for row in connection.execute(query).mappings()]


def test_answers_are_stored_once_and_count_only_once_accepted(home: Home, tmp_path: Path) -> None:
    filled(home)
    done, batch, _ = exported(home, tmp_path / "out")
    path = answered(batch, tmp_path / "answers.csv")
    assert take(home, batch, path) == {"rows": done.sent, "new": done.sent}
    assert take(home, batch, path) == {"rows": done.sent, "repeated": done.sent}
    rows = stored(home)
    assert len(rows) == done.sent
    assert {row["annotator"] for row in rows} == {pseudonym("acme/w1", home.settings.secret("pseudonym"))}
    assert {(row["source"], row["counts"], row["label"], row["seconds"]) for row in rows} == {
        ("vendor", False, "fine", 3.5)
    }
    assert annotations.latest(home.state, DAY, "moderation").num_rows == 0
    (first, second) = ledger.load(home.settings, batch.batch_id).deliveries
    assert (first.rows, first.late, first.sha256) == (done.sent, False, second.sha256)


def test_every_line_is_something(home: Home, tmp_path: Path) -> None:
    filled(home)
    _, batch, _ = exported(home, tmp_path / "out")
    a, b, *_ = batch.items
    lines = [
        b"item,worker,label,seconds,answered_at",
        f"{a},w1,spam,1,2026-01-06T08:00:00Z".encode(),
        f"{a},w1,spam,2,".encode(),  # repeated
        f"{a},w1,hate,,".encode(),  # contradicts itself
        f'"{b}",w2,"fine",,\r'.encode(),
        b"",
        b"nothing,w1,spam,,",  # unknown
        f"{b},w1,ham,,".encode(),
        f"{b},,spam,,".encode(),
        f"{b},w1,spam,-1,".encode(),
        f"{b},w1,spam,,2026-01-06".encode(),
        f"{b},w1,spam".encode(),
        f'{b},"w1,spam,,'.encode(),
        b"\xff,w1,spam,,",
        f"{b},w1,spam,,{'x' * delivering.LINE_BYTES}".encode(),
        f"{b},w1,{chr(0)}spam,,".encode(),
    ]
    path = tmp_path / "answers.csv"
    path.write_bytes(b"\xef\xbb\xbf" + b"\n".join(lines))
    done = deliver(home.settings, home.lake, home.state, batch.batch_id, path, now=NOW, author="lead")
    assert (done.rows, done.new, done.repeated, done.changed, done.unknown, done.broken) == (14, 2, 1, 1, 1, 9)
    assert [line for line, _ in done.problems] == [7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
    assert dict(done.problems) == {
        7: "no item of this batch",
        8: "label: expected one of spam, hate, fine, got 'ham'",
        9: "worker: expected 1 to 200 printable characters",
        10: "seconds: expected 0 to 86,400",
        11: "answered_at: expected ISO 8601 with a zone, as 2026-01-31T09:00:00Z",
        12: "expected 5 columns, got 3",
        13: "expected CSV: unexpected end of data",
        14: "expected UTF-8",
        15: "expected at most 1,048,576 bytes",
        16: "label: expected 1 to 200 printable characters",
    }
    said = [
        (row["version"], row["label"], row["answered_at"]) for row in stored(home) if row["version"] or row["label"]
    ]
    assert sorted(said) == [(1, "fine", NOW), (1, "spam", NOW - timedelta(hours=1)), (2, "hate", NOW)]


def test_json_lines_say_the_same(home: Home, tmp_path: Path) -> None:
    filled(home)
    _, batch, _ = exported(home, tmp_path / "out")
    a, b, *_ = batch.items
    lines = [
        {"item": a, "worker": "w1", "label": "spam", "seconds": 1.5},
        {"item": b, "worker": "w1", "label": "spam", "comment": "?"},
        {"item": b, "worker": 7, "label": "spam"},
        {"item": b, "worker": "w1", "label": "spam", "seconds": True},
        [a, "w1", "spam"],
    ]
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + "{\n" + "[" * 100_000 + "\n")
    assert take(home, batch, path) == {"rows": 7, "new": 1, "broken": 6}


def test_a_side_is_the_tasks_own_again(home: Home, tmp_path: Path) -> None:
    rows = [preference(n) for n in range(40)]
    tasks.add(home.lake, home.state, rows)
    known(home, rows[: PLAN.inspected], "first")
    _, batch, _ = exported(home, tmp_path / "out", workflow="ads", kind=Kind.PREFERENCE)
    path = tmp_path / "answers.csv"
    path.write_text("item,worker,label\n" + "".join(f"{name},w1,first\n" for name in batch.items))
    take(home, batch, path)
    swapped = {item.label_task_id: item.swapped for item in batch.items.values()}
    told = {row["label_task_id"]: (row["label"], row["swapped"]) for row in stored(home)}
    assert told == {task: ("second" if flipped else "first", flipped) for task, flipped in swapped.items()}


def test_what_comes_late_is_kept_and_says_so(home: Home, tmp_path: Path) -> None:
    filled(home)
    done, batch, _ = exported(home, tmp_path / "out")
    late = take(home, batch, answered(batch, tmp_path / "answers.csv"), DUE + timedelta(seconds=1))
    assert late == {"rows": done.sent, "late": done.sent}
    assert ledger.load(home.settings, batch.batch_id).deliveries[0].late
    assert len(stored(home)) == done.sent


def test_answers_to_a_task_that_was_erased_are_unknown(home: Home, tmp_path: Path) -> None:
    filled(home)
    done, batch, _ = exported(home, tmp_path / "out")
    rows = tasks.read(home.lake)
    home.lake.overwrite("label_tasks", rows.slice(0, 3), day=DAY, workflow="moderation")
    there = set(rows.slice(0, 3)["label_task_id"].to_pylist())
    kept = sum(item.label_task_id in there for item in batch.items.values())
    told = take(home, batch, answered(batch, tmp_path / "answers.csv"))
    assert Counter(told) == Counter({"rows": done.sent, "new": kept, "unknown": done.sent - kept})


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", "", "first line names at least item, worker, label"),
        ("a.csv", "item,label\n1,spam\n", "first line names at least item, worker, label"),
        ("a.csv", "item,worker,label,label\n", "each column once"),
        ("none.csv", None, "cannot be read"),
    ],
)
def test_a_file_that_is_none_is_refused_whole(
    home: Home, tmp_path: Path, name: str, content: str | None, told: str
) -> None:
    filled(home)
    _, batch, _ = exported(home, tmp_path / "out")
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(BadInputError, match=told):
        take(home, batch, tmp_path / name)
    assert ledger.load(home.settings, batch.batch_id).deliveries == []


def test_a_batch_is_one_of_this_home(home: Home, tmp_path: Path) -> None:
    (tmp_path / "answers.csv").write_text("item,worker,label\n")
    for name in ("../x", "b0123456789ab", ""):
        with pytest.raises(BadInputError, match="expected the id of a batch"):
            deliver(home.settings, home.lake, home.state, name, tmp_path / "answers.csv", now=NOW, author="lead")


# -- properties -------------------------------------------------------------------------------------------------------

ITEMS = {f"{n:020x}": Item(f"t{n % 3}", swapped=False, known=False) for n in range(4)}
BATCH = Batch(
    batch_id="b" + "0" * 12,
    vendor="acme",
    workflow="moderation",
    kind="category",
    exported_at=NOW,
    due_at=DUE,
    sha256="",
    plan=acceptance.Plan(1, 0, 0.1, 0.2, 0.1, 0.1),
    price=None,
    items=ITEMS,
)
TASKS = {"t0": OPTIONS, "t1": OPTIONS}
CELL = st.one_of(
    st.sampled_from([*ITEMS, *OPTIONS, "w1", "", "1", "2026-01-06T08:00:00Z"]), st.text(max_size=8), st.just('"')
)


@given(st.lists(st.lists(CELL, min_size=1, max_size=6), max_size=12))
def test_no_csv_loses_a_line(rows: list[list[str]]) -> None:
    lines = [",".join(cells).replace("\n", " ").replace("\r", " ") for cells in rows]
    content = "\n".join(["item,worker,label,seconds,answered_at", *lines]).encode("utf-8", "surrogatepass")
    accounted(content, ".csv", sum(bool(line.encode("utf-8", "surrogatepass").strip()) for line in lines))


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=30),
            st.dictionaries(st.sampled_from(["item", "worker", "label", "x"]), CELL).map(
                lambda row: json.dumps(row).encode()
            ),
        ),
        max_size=12,
    )
)
def test_no_json_lines_lose_a_line(lines: list[bytes]) -> None:
    accounted(b"\n".join(lines), ".jsonl")


@given(st.lists(st.tuples(st.sampled_from(list(ITEMS)), st.sampled_from(OPTIONS)), max_size=12))
def test_what_is_well_said_is_understood(rows: list[tuple[str, str]]) -> None:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["worker", "label", "item"])
    writer.writerows([("w,1", label, item) for item, label in rows])
    good, done = accounted(out.getvalue().encode(), ".csv", len(rows))
    assert [(line.item, line.label) for line in good] == [row for row in rows if ITEMS[row[0]].label_task_id in TASKS]
    assert done.broken == 0


def accounted(content: bytes, suffix: str, rows: int | None = None) -> tuple[list[Any], Delivered]:
    done = Delivered()
    good = list(delivering._good(content, suffix, BATCH, TASKS, done))
    expected = sum(bool(line.strip()) for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n"))
    assert done.rows == (expected if rows is None else rows)
    assert done.rows == len(good) + done.unknown + done.broken
    assert len(done.problems) == done.unknown + done.broken
    assert all(line.label in OPTIONS and line.item in ITEMS for line in good)
    assert all(line.answered_at is None or line.answered_at.tzinfo is UTC for line in good)
    return good, done


def test_a_worker_who_was_erased_does_not_come_back_with_the_file(home: Home, tmp_path: Path) -> None:
    filled(home, others=2)
    done, batch, _ = exported(home, tmp_path / "out")
    path = answered(batch, tmp_path / "answers.csv")
    assert take(home, batch, path) == {"rows": done.sent, "new": done.sent}
    run.erase(home, subject(home.settings, Subject.EMPLOYEE, "acme/w1"), reason="request 17", author="dpo")
    assert take(home, batch, path) == {"rows": done.sent, "erased": done.sent}
    assert stored(home) == []
    assert home.state.arrow("annotators").num_rows == 0
