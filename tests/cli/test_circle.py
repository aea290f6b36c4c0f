"""The closed circle, small: real services, real jobs, a real if tiny model, and the organisation that decides."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loop.train import dataset

pytestmark = pytest.mark.slow
PROGRAM = Path(sys.executable).with_name("loop")
SMALL = {
    "LOOP_BASE_STEPS": "60",
    "LOOP_SFT_STEPS": "6",
    "LOOP_DPO_STEPS": "3",
    "LOOP_BENCHMARK_ITEMS": "30",
}
STAGES = [
    "start-up",
    "services",
    "imports",
    "orchestration",
    "people",
    "base model",
    "serve",
    "collect",
    "validate",
    "weigh",
    "label",
    "ask",
    "aggregate",
    "freeze",
    "train",
    "compare",
    "evaluate",
    "release",
    "final",
    "rest",
]


def loop(home: Path, *arguments: str, code: int = 0) -> Any:
    if arguments[0] == "run":
        arguments = (*arguments, "--final-items", "40")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LOOP_", "DAGSTER_", "MLFLOW_"))}
    done = subprocess.run(
        [PROGRAM, *arguments, "--json"],
        env=environment | SMALL | {"LOOP_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A home in which two workflows have lived through two days: only the second has a champion and a panel's items."""
    home = tmp_path_factory.mktemp("circle") / "home"
    return home, loop(home, "run", "--days", "2", "--workflow", "ads", "--workflow", "comms", "--seed", "3")


def test_a_day_is_told_as_promised(lived: tuple[Path, Any]) -> None:
    _, told = lived
    assert [(row["day"], row["workflow"]) for row in told["days"]] == [
        (day, workflow) for day in ("2026-01-05", "2026-01-06") for workflow in ("ads", "comms")
    ]
    for row in told["days"]:
        assert row["interactions"] > 100
        assert 0 <= row["acceptance"] <= 1
        assert row["status"] == "accepted"
    first, second = told["releases"]
    assert first["champion_before"] == told["days"][0]["model_version"]
    assert second["champion_before"] == first["challenger" if first["decision"] == "promoted" else "champion_before"]
    assert {first["decision"], second["decision"]} <= {"promoted", "refused"}
    assert [(row["workflow"], row["items"]) for row in told["final"]] == [("ads", 40), ("comms", 40)]
    assert all({"base", "champion", "constant"} <= set(row) for row in told["final"])


def test_every_second_belongs_to_one_stage(lived: tuple[Path, Any]) -> None:
    seconds = dict(lived[1]["seconds"])
    total = seconds.pop("total")
    assert list(seconds) == STAGES
    for clock in ("wall", "cpu"):
        rounding = 0.005 * (len(seconds) + 1)
        assert sum(spent[clock] for spent in seconds.values()) == pytest.approx(total[clock], abs=rounding)
    assert seconds["rest"]["wall"] < 0.5
    assert min(seconds[stage]["wall"] for stage in ("base model", "serve", "train", "compare", "final")) > 0.1


def test_the_loop_tells_the_same_afterwards(lived: tuple[Path, Any]) -> None:
    home, told = lived
    status = loop(home, "status")
    assert {(b["day"], b["workflow"]): b["rows"] for b in status["batches"]} == {
        (row["day"], row["workflow"]): row["interactions"] for row in told["days"]
    }
    last = told["releases"][-1]
    serving = last["challenger" if last["decision"] == "promoted" else "champion_before"]
    assert status["champion"]["version"] == serving
    query = "SELECT count(DISTINCT employee) AS people, count(*) AS n FROM interactions WHERE employee ^@ 'p_'"
    [row] = loop(home, "sql", query)["rows"]
    assert row["n"] == sum(r["interactions"] for r in told["days"])
    assert row["people"] > 10


def test_truth_stays_out_of_the_lake(lived: tuple[Path, Any]) -> None:
    home, _ = lived
    assert (home / "truth" / "world.json").exists()
    assert (home / "truth" / "outcomes-2026-01-05.jsonl").read_text().count("\n") > 50
    ids = {person["id"] for person in json.loads((home / "truth" / "world.json").read_text())["employees"]}
    ids |= {person["id"] for person in json.loads((home / "truth" / "annotators.json").read_text())}
    query = "SELECT employee AS who FROM interactions UNION SELECT annotator FROM annotations"
    assert not ids & {row["who"] for row in loop(home, "sql", query)["rows"]}


def test_what_annotators_say_is_learned_from(lived: tuple[Path, Any]) -> None:
    home, _ = lived
    query = """SELECT t.workflow, count(DISTINCT t.label_task_id) AS tasks, count(*) AS answers,
        count(DISTINCT annotator) AS people FROM label_tasks t JOIN annotations USING (label_task_id)
        GROUP BY t.workflow ORDER BY t.workflow"""
    rows = loop(home, "sql", query)["rows"]
    [asked] = loop(home, "sql", "SELECT count(*) AS n FROM label_tasks")["rows"]
    assert [(row["workflow"], row["people"], row["answers"]) for row in rows] == [
        (name, 4, 2 * row["tasks"]) for name, row in zip(("ads", "comms"), rows, strict=True)
    ]
    assert sum(row["tasks"] for row in rows) == asked["n"] > 0
    for frozen in dataset.sets(home / "training_sets"):
        kinds = set(dataset.load(frozen.parent, frozen.name).preferences["kind"].to_pylist())
        assert {"choice", "edit", "judged", "rewritten"} == kinds


def test_another_world_needs_another_home(lived: tuple[Path, Any]) -> None:
    home, _ = lived
    told = loop(home, "run", "--days", "1", "--workflow", "ads", "--seed", "4", code=2)
    assert "set another LOOP_HOME" in told["error"]


def test_it_goes_on_where_it_stopped_and_frozen_trains_nothing(tmp_path: Path) -> None:
    for day in ("2026-01-05", "2026-01-06"):
        told = loop(tmp_path, "run", "--days", "1", "--workflow", "design", "--control", "frozen")
        assert [row["day"] for row in told["days"]] == [day]
        assert told["releases"] == []
    assert loop(tmp_path, "sql", "SELECT count(*) AS n FROM training_sets")["rows"] == [{"n": 0}]


def test_the_same_circle_closes_through_the_gateway(tmp_path: Path) -> None:
    told = loop(tmp_path, "run", "--days", "1", "--workflow", "ads", "--through-gateway", "--seed", "3")
    [day], [release] = told["days"], told["releases"]
    assert day["model_version"] == release["champion_before"]
    query = """SELECT source, count(*) AS n, count(revises) AS revisions, count(DISTINCT suggestion_id) AS suggestions,
        bool_and(arm_propensity = 1 AND order_propensity IN (0.5, 1) AND candidates[1].logprob < 0) AS propensities,
        bool_and(received_at >= shown_at AND shown_at::DATE = day) AS dated, bool_and(employee ^@ 'p_') AS pseudonyms
        FROM interactions GROUP BY source"""
    [row] = loop(tmp_path, "sql", query)["rows"]
    assert row["revisions"] > 0
    assert row == {
        "source": "gateway",
        "n": day["interactions"] + row["revisions"],
        "revisions": row["revisions"],
        "suggestions": day["interactions"],
        "propensities": True,
        "dated": True,
        "pseudonyms": True,
    }
    assert loop(tmp_path, "sql", "SELECT count(*) AS n FROM quarantine")["rows"] == [{"n": 0}]
    [learned] = loop(tmp_path, "sql", "SELECT demonstrations, preferences FROM training_sets")["rows"]
    assert min(learned.values()) > 0
    assert loop(tmp_path, "down") == {"stopped": []}
    assert loop(tmp_path, "sql", "SELECT count(*) AS n FROM tokens WHERE revoked_at IS NULL")["rows"] == [{"n": 0}]
