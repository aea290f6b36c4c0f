"""`loop quarantine`, `loop hold` and `loop suites` as a program meets them: exit codes, the object on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from loop.cli import main
from loop.home import Home
from loop.validate import batches, verdicts
from tests.rows import DAY, decision, event, land

Command = Callable[..., tuple[int, Any]]
BLANK = [{"position": i, "text": " ", "logprob": None} for i in range(2)]


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command with --json in this process: exit code and the object on stdout."""

    def run(*arguments: str) -> tuple[int, Any]:
        monkeypatch.setattr(sys, "argv", ["loop", *arguments, "--json"])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out = capsys.readouterr().out
        return code, json.loads(out) if out.strip() else None

    return run


def broken(number: int) -> dict[str, Any]:
    return event(decision(number, "accept", 0, "first")) | {"dwell_ms": -5}


def test_quarantine_from_list_to_drop(home: Home, loop: Command) -> None:
    land(home, [broken(1), broken(2)])
    code, told = loop("quarantine", "list", "--breach", "dwell", "--limit", "1")
    assert (code, told["rows"], told["reasons"], len(told["shown"])) == (0, 2, {"dwell": 2}, 1)
    assert "raw" not in told["shown"][0]
    code, told = loop("quarantine", "show", broken(1)["event_id"])
    assert (code, json.loads(told["rows"][0]["raw"])["dwell_ms"]) == (0, -5)

    name = broken(1)["event_id"]
    code, told = loop("quarantine", "replay", name, "--set", "dwell_ms=900", "--reason", "the clock was in seconds")
    assert (code, told["replayed"], told["partitions"]) == (0, 1, [{"day": str(DAY), "workflow": "comms"}])
    code, told = loop("quarantine", "replay", name, "--reason", "again")
    assert (code, "replayed by" in told["error"]) == (2, True)
    code, told = loop("quarantine", "replay", "--day", str(DAY), "--workflow", "comms", "--reason", "try again")
    assert (code, told["replayed"], [s["reason"] for s in told["stayed"]]) == (0, 0, ["dwell"])
    assert loop("quarantine", "drop", "--breach", "dwell", "--reason", "a test of theirs") == (0, {"dropped": 1})
    assert loop("quarantine", "list") == (0, {"rows": 0, "reasons": {}, "shown": []})


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("show", "q_none"), "q_none: expected the id of a row in quarantine"),
        (("replay", "q_none", "--reason", "x"), "expected the id of a row in quarantine"),
        (("replay", "--reason", "x"), "expected an ID, or one of --day, --workflow and --breach"),
        (("drop", "q", "--workflow", "ads", "--reason", "x"), "expected an ID or filters, got both"),
        (("drop", "--workflow", "ads", "--reason", "x"), "expected rows in quarantine that fit, got none"),
        (("list", "--workflow", "cooking"), "--workflow: expected one of ads"),
        (("replay", "q", "--set", "dwell_ms", "--reason", "x"), "--set: expected FIELD=JSON"),
        (("replay", "q", "--set", "decision=accept", "--reason", "x"), "expected JSON, a text in quotes"),
    ],
)
def test_what_makes_no_sense_is_bad_input(home: Home, loop: Command, arguments: tuple[str, ...], told: str) -> None:
    code, answer = loop("quarantine", *arguments)
    assert (code, told in answer["error"]) == (2, True)


@pytest.mark.parametrize("command", [("replay", "q"), ("drop", "q")])
def test_nothing_is_overridden_without_a_reason(home: Home, loop: Command, command: tuple[str, ...]) -> None:
    assert loop("quarantine", *command)[0] == 2


def test_what_is_held_is_listed_and_let_through(home: Home, loop: Command) -> None:
    assert loop("hold", "list") == (0, {"held": []})
    land(home, (event(decision(n, "reject", candidates=BLANK)) for n in range(30)))
    batches.build(home.settings, home.lake, home.state, DAY, "comms")
    verdicts.judge(home.settings, home.lake, home.state, DAY, "comms")
    code, told = loop("hold", "list")
    assert (code, [(b["day"], b["workflow"]) for b in told["held"]]) == (0, [(str(DAY), "comms")])
    assert told["held"][0]["reasons"] == ["empty candidates: at most 5 in 100 rows: 2"]
    code, told = loop("hold", "release", str(DAY), "comms", "--reason", "blanks are what they saw")
    assert (code, told["status"], told["reasons"]) == (0, "overridden", ["blanks are what they saw"])
    assert loop("hold", "list") == (0, {"held": []})
    code, told = loop("hold", "release", str(DAY), "comms", "--reason", "again")
    assert (code, "expected a held batch, it is overridden" in told["error"]) == (2, True)


def test_suites_are_listed_shown_and_in_step(loop: Command) -> None:
    code, told = loop("suites", "list")
    assert (code, [s["workflow"] for s in told["suites"]]) == (0, ["ads", "moderation", "design", "comms"])
    code, told = loop("suites", "show", "ads")
    assert code == 0
    assert {"rule": "event_id: unique", "severity": "critical"}.items() <= told["rules"][11].items()
    assert loop("suites", "write", "--check") == (
        0,
        {"suites": dict.fromkeys(("ads", "moderation", "design", "comms"), "unchanged")},
    )
    assert loop("suites", "show", "cooking")[0] == 2
