"""`loop tasks`: a day's questions chosen, listed and shown; nobody is named."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from loop.cli.app import app
from loop.home import Home
from loop.validate import batches, verdicts
from tests.rows import DAY, event, land, ordinary_day

RUN = CliRunner()


def told(*words: str) -> dict[str, object]:
    result = RUN.invoke(app, [*words, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def lived(home: Home) -> Home:
    land(home, [event(row) for row in ordinary_day(100)])
    batches.build(home.settings, home.lake, home.state, DAY, "comms")
    assert verdicts.judge(home.settings, home.lake, home.state, DAY, "comms").passed
    return home


def test_select_list_and_show(lived: Home) -> None:
    chosen = told("tasks", "select", str(DAY), "comms", "--budget", "10", "--red-team")
    assert (chosen["interactions"], chosen["asked"], chosen["asked for/random"]) == (100, 10, 10)
    assert chosen["red team"] == 9
    assert told("tasks", "select", str(DAY), "comms", "--budget", "10", "--red-team") == {
        **{k: v for k, v in chosen.items() if not k.startswith(("asked", "kind", "set aside"))},
        "asked": 0,
        "standing": 10,
        "red team": 0,
        "set aside/asked before": chosen["set aside/asked before"] + 10 if "set aside/asked before" in chosen else 10,
        **{k: v for k, v in chosen.items() if k.startswith("set aside") and k != "set aside/asked before"},
    }
    listed = told("tasks", "list", "--workflow", "comms")
    assert listed["total"] == 19
    assert sum(row["tasks"] for row in listed["tasks"] if row["reason"] == "random") == 10  # type: ignore[union-attr]
    rows = lived.lake.read("label_tasks").to_pylist()
    row = next(row for row in rows if row["kind"] == "preference")
    shown = told("tasks", "show", row["label_task_id"][:12])
    assert (shown["texts"], shown["prompt"]) == (row["texts"], row["prompt"])
    assert not {"employee", "event_id"} & set(shown)
    assert row["employee"] not in json.dumps(listed) + json.dumps(shown)


def test_what_cannot_be_meant_is_refused(home: Home) -> None:
    for words, message in (
        (("tasks", "show", "nothing"), "expected the id of one task"),
        (("tasks", "select", str(DAY), "nonsense"), "expected one of ads"),
        (("tasks", "select", str(DAY), "comms", "--acquisition", "best"), "acquisition"),
    ):
        result = RUN.invoke(app, list(words))
        assert result.exit_code != 0
        assert message in str(result.exception)
