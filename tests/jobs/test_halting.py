"""Halt, replay, release, through the commands and Dagster's own job: what an operator does on a bad day."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from assets.partitions import batch_key
from jobs.definitions import defs
from loop.cli import main
from loop.home import Home
from loop.schema import BatchStatus
from tests.rows import DAY, decision, event, land, ordinary_day

Command = Callable[..., Any]
BLANK = [{"position": i, "text": " ", "logprob": None} for i in range(2)]
WHY = "blanks are what they saw that morning"


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The object on stdout of a command that succeeds."""

    def run(*arguments: str) -> Any:
        monkeypatch.setattr(sys, "argv", ["loop", *arguments, "--json"])
        capsys.readouterr()
        main_raised = None
        try:
            main()
        except SystemExit as stop:
            main_raised = stop.code
        assert not main_raised, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    return run


def run(instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    return defs.resolve_job_def("daily_data").execute_in_process(
        partition_key=str(batch_key(DAY, "comms")), instance=instance, raise_on_error=False
    )


def check(result: dg.ExecuteInProcessResult) -> tuple[bool, dict[str, Any]]:
    [evaluation] = result.get_asset_check_evaluations()
    return evaluation.passed, {name: value.value for name, value in evaluation.metadata.items()}


def labels(home: Home) -> set[str]:
    return set(home.lake.read("demonstrations", columns=["event_id"])["event_id"].to_pylist())


def test_a_bad_day_is_halted_replayed_and_let_through_on_a_persons_word(home: Home, loop: Command) -> None:
    late = event(decision(500, "accept", 0, "first")) | {"dwell_ms": -1}
    blank = [event(decision(n, "reject", candidates=BLANK)) for n in range(100, 130)]
    land(home, [*(event(row) for row in ordinary_day(60)), *blank, late])
    with dg.DagsterInstance.ephemeral() as instance:
        halted = run(instance)
        passed, told = check(halted)
        assert (halted.success, passed, told["verdict"], told["rows"], told["set aside"]) == (
            False,
            False,
            "held",
            90,
            1,
        )
        assert f"{DAY}-e100, {DAY}-e101" in told["suite"]
        assert "first" not in told["suite"] + told["drift"] + told["rules that hold"]  # ids, no texts
        assert labels(home) == set()
        assert [batch["day"] for batch in loop("hold", "list")["held"]] == [str(DAY)]

        done = loop("quarantine", "replay", "--breach", "dwell", "--set", "dwell_ms=1", "--reason", "a clock")
        assert done["replayed"] == 1
        assert not run(instance).success  # another content, and the blanks are still in it

        assert loop("hold", "release", str(DAY), "comms", "--reason", WHY)["more_has_landed"] is False
        through = run(instance)
        passed, told = check(through)
        assert (through.success, passed, told["verdict"], told["rows"], told["set aside"]) == (
            True,
            True,
            "overridden",
            91,
            0,
        )
    assert late["event_id"] in labels(home)
    [batch] = home.state.batches(DAY, DAY)
    assert (batch["status"], batch["reasons"]) == (BatchStatus.OVERRIDDEN, [WHY])
    assert loop("hold", "list")["held"] == []
    every = home.lake.read("interactions", columns=["event_id"])["event_id"].to_pylist()
    assert len(every) == len(set(every)) == 91
    [resolution] = home.state.arrow("resolutions").to_pylist()
    assert (resolution["event_id"], resolution["reason"]) == (late["event_id"], "a clock")
