from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from loop.cli import main
from loop.collect.events import pseudonym
from loop.config import Settings
from loop.home import open_home
from loop.label import gold, tasks
from loop.label.aggregate import partition

Command = Callable[..., tuple[int, Any, str]]
DAY = "2026-01-05"
ROWS = "".join(
    f"w{w},t{t},{label},{gold},5\n" for t, gold in enumerate("xyxyx") for w, label in enumerate(gold * 2 + "z")
)


@pytest.fixture
def loop(bare_settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: str, json_: bool = True) -> tuple[int, Any, str]:
        monkeypatch.setattr(sys, "argv", ["loop", "answers", *arguments, *(["--json"] if json_ else [])])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, json.loads(out) if json_ and out.strip() else out, err

    return run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "answers.csv"
    made.write_text(ROWS)
    return made


def test_a_file_becomes_soft_labels_without_a_home(loop: Command, path: Path, tmp_path: Path) -> None:
    target = tmp_path / "labels.parquet"
    code, told, _ = loop("aggregate", "--input", str(path), "--output", str(target))
    assert code == 0
    assert list(told) == ["answers", "duplicates", "tasks", "workers", "method", "alpha", "accuracy"]
    assert [told[k] for k in ("answers", "duplicates", "tasks", "workers", "accuracy")] == [15, 0, 5, 3, 1.0]
    rows = pq.read_table(target).to_pylist()
    assert [row["task"] for row in rows] == ["t0", "t1", "t2", "t3", "t4"]
    for row in rows:
        believed = {pair["label"]: pair["probability"] for pair in row["probabilities"]}
        assert row["label"] == max(believed, key=lambda label: believed[label])
        assert row["confidence"] == believed[row["label"]]
        assert sum(believed.values()) == pytest.approx(1)
        assert row["abstain"] == (row["confidence"] < 0.8)
    assert not list(tmp_path.glob(".*"))


def test_without_gold_there_is_no_accuracy_and_what_is_broken_is_on_stderr(loop: Command, tmp_path: Path) -> None:
    made = tmp_path / "odd.csv"
    made.write_bytes(b"worker,task,label\na,t,x\nb,t,x\nb,t,y\na,t,x\na,u\nb,\xff,x\nc,v,y\n")
    code, told, err = loop("aggregate", "--input", str(made), "--output", str(tmp_path / "o.parquet"))
    assert (code, list(told)) == (0, ["answers", "duplicates", "tasks", "workers", "method", "alpha"])
    assert [told[k] for k in ("answers", "duplicates", "tasks", "workers")] == [5, 2, 2, 3]
    assert "line 6: number of columns: expected 3, got 2" in err
    assert "line 7: not UTF-8" in err
    assert "1 answers contradict" in err
    assert "1 tasks have one answer: they abstain" in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("aggregate",), "expected --input FILE with --output FILE"),
        (("aggregate", "--input", "x.csv"), "expected --output FILE.parquet"),
        (("agreement",), "expected --input FILE, or --workflow"),
        (("benchmark", "FILE"), "expected a judge"),
        (("import", "FILE", "--kind", "span"), "--kind: expected one of preference, rating, category"),
        (("import", "FILE", "--day", "2062-01-05"), "--day: expected one that has begun, got 2062-01-05"),
        (
            ("import", "FILE", "--answered-at", "noon"),
            "--answered-at: expected a time such as 2026-01-05T12:00Z, got 'n",
        ),
        (
            ("import", "FILE", "--answered-at", "2062-01-05"),
            "expected a time from 1970 to now, got 2062-01-05T00:00:00+",
        ),
        (("import", "FILE", "--answered-at", "0001-01-01T00:00+14:00"), "--answered-at: expected a time from 1970 to"),
        (("import", "FILE", "--kind", "preference"), "columns called first and second"),
        (("agreement", "--input", "FILE", "--slice", "page"), "--slice: expected a column of the file"),
        (("agreement", "--input", "FILE", "--level", "ordinal"), "--options, the labels in their order, for x, y, z"),
        (("agreement", "--input", "FILE", "--options", "x,y"), "expected every label that was answered, got none c"),
    ],
)
def test_what_makes_no_sense_is_bad_input(loop: Command, path: Path, arguments: tuple[str, ...], told: str) -> None:
    code, result, _ = loop(*(str(path) if word == "FILE" else word for word in arguments))
    assert (code, told in result["error"]) == (2, True)


def test_agreement_names_people_by_pseudonym_with_intervals_and_in_no_order_of_merit(loop: Command, path: Path) -> None:
    code, told, _ = loop("agreement", "--input", str(path))
    assert code == 0
    (one,) = told["questions"]
    assert list(one["annotators"]) == sorted(one["annotators"])
    assert all(name.startswith("p_") for name in one["annotators"])
    assert {person["gold"]["n"] for person in one["annotators"].values()} == {5}
    assert all(person["gold"]["low"] < person["gold"]["high"] for person in one["annotators"].values())
    code, told, _ = loop("agreement", "--input", str(path), "--level", "ordinal", "--options", "z,y,x")
    assert (code, told["questions"][0]["labels"]) == (0, ["z", "y", "x"])
    code, shown, _ = loop("agreement", "--input", str(path), json_=False)
    assert (code, "no order of merit" in shown, "w0" in shown) == (0, True, False)


def test_a_judge_from_a_file_stands_beside_people(loop: Command, path: Path, tmp_path: Path) -> None:
    judge = tmp_path / "judge.csv"
    judge.write_text("robot,t0,x\nrobot,t1,x\n")
    code, told, _ = loop("benchmark", str(path), "--judge", str(judge))
    assert (code, [j["judge"] for j in told["judges"]]) == (0, ["robot"])
    assert (told["judges"][0]["tasks"], told["judges"][0]["without_verdict"]) == (2, 3)
    assert told["judges"][0]["with_a_person"]["value"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("told", "at"),
    [
        ("2026-01-06T09:30", datetime(2026, 1, 6, 9, 30, tzinfo=UTC)),
        ("2026-01-06T09:30:00+02:00", datetime(2026, 1, 6, 7, 30, tzinfo=UTC)),
        ("2026-01-06", datetime(2026, 1, 6, tzinfo=UTC)),
    ],
)
def test_answers_that_carry_no_time_have_the_one_that_is_told(
    settings: Settings, loop: Command, tmp_path: Path, told: str, at: datetime
) -> None:
    made = tmp_path / "timed.csv"
    made.write_text("worker,task,label,answered_at\na,t,x,2026-01-07T00:00Z\nb,t,y,\n")
    code, done, _ = loop("import", str(made), "--day", DAY, "--answered-at", told)
    assert (code, done["new"]) == (0, 2)
    with open_home(settings) as home:
        rows = {row["label"]: row["answered_at"] for row in home.state.arrow("annotations").to_pylist()}
    assert rows == {"x": datetime(2026, 1, 7, tzinfo=UTC), "y": at}


def test_imported_once_answers_are_aggregated_in_the_home(settings: Settings, loop: Command, path: Path) -> None:
    with path.open("a") as more:
        more.write("w0,t0\nw0,t0,z,x,5\nw1,t1,y,y,5\n")
    arguments = ("import", str(path), "--day", DAY, "--workflow", "moderation", "--options", "x,y,z")
    code, told, _ = loop(*arguments)
    assert code == 0
    assert {k: told[k] for k in ("rows", "new", "repeated", "changed", "refused")} == {
        "rows": 18,
        "new": 15,
        "repeated": 1,
        "changed": 1,
        "refused": 1,
    }
    assert (told["tasks"], told["annotators"], told["gold"], told["uncounted"]) == ({"new": 5, "known": 0}, 3, 5, {})
    assert told["problems"] == [{"line": 16, "reason": "number of columns: expected 5, got 2"}]
    code, again, _ = loop(*arguments)
    assert [again[k] for k in ("rows", "new", "repeated", "changed", "refused")] == [18, 0, 17, 0, 1]
    assert again["tasks"] == {"new": 0, "known": 5}

    with open_home(settings) as home:  # an appeal is upheld: the file does not take that back
        asked = {row["texts"][0]: row for row in tasks.read(home.lake).to_pylist()}
        gold.put(home.state, asked["t0"], label="z", reason="appeal 1: look again", author="lead", hidden=False)
    code, again, _ = loop(*arguments)
    assert (code, again["gold"]) == (0, 4)
    with open_home(settings) as home:
        assert [one.label for one in gold.history(home.state, asked["t0"]["label_task_id"])] == ["x", "z"]

    code, made, _ = loop("aggregate", "--workflow", "moderation", "--day", DAY)
    assert (code, made["tasks"], made["labelled"], made["answers"]) == (0, 5, 5, 15)
    assert made["temperatures"].keys() == made["weights"].keys() == {"category, 3 labels"}
    assert made["temperatures"]["category, 3 labels"] >= 1
    with open_home(settings) as home:
        rows = home.lake.read("task_labels").to_pylist()
        people = {row["annotator"] for row in home.state.arrow("annotations").to_pylist()}
        waiting = partition.to_adjudicate(home.lake, date.fromisoformat(DAY), "moderation").to_pylist()
    assert people == {pseudonym(f"w{i}", settings.secret("pseudonym")) for i in range(3)}
    assert [row["label_task_id"] for row in waiting] == [row["label_task_id"] for row in made["to_adjudicate"]]
    assert {row["label_task_id"] for row in waiting} == {row["label_task_id"] for row in rows if row["abstain"]}
    assert {pair["label"] for row in rows for pair in row["probabilities"]} == {"x", "y", "z"}

    with open_home(settings) as home:
        asked = {**asked["t0"], "label_task_id": "f" * 32}
        tasks.add(home.lake, home.state, [asked])
    code, made, err = loop("aggregate", "--workflow", "moderation", "--day", DAY)
    assert (code, made["tasks"], made["labelled"], made["set_aside"]) == (0, 6, 5, {"not answered": 1}), err

    code, told, _ = loop("agreement", "--workflow", "moderation", "--day", DAY)
    (one,) = told["questions"]
    assert (one["question"], one["tasks"], one["answers"]) == ("category: x, y, z", 5, 15)
    assert [a["evidence"]["tasks"] for a in one["anomalies"] if a["what"] == "contradicts the own answer"] == [1]
    code, told, _ = loop("adjudicate", rows[0]["label_task_id"][:16], "w", "--reason", "it says so")
    assert (code, told) == (2, {"error": "label: expected one of x, y, z, got 'w'"})
    code, told, _ = loop("adjudicate", rows[0]["label_task_id"][:16], "z", "--reason", "it says so")
    assert (code, told) == (0, {"label_task_id": rows[0]["label_task_id"], "label": "z"})
    with open_home(settings) as home:
        decided = {row["label_task_id"]: row for row in home.lake.read("task_labels").to_pylist()}
    assert (decided[rows[0]["label_task_id"]]["label"], len(decided)) == ("z", 5)
