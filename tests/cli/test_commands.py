"""The command as a person and a program meet it: one JSON object on stdout, exit codes 0, 1, 2, errors that help."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loop import schema
from loop.cli import main
from loop.cli.output import emit_json
from loop.config import Settings
from loop.home import open_home
from loop.schema import BatchStatus
from tests.rows import DAY, decision, event, ordinary_day

Command = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def loop(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command with --json in this process: exit code, the object on stdout, stderr."""

    def run(*arguments: str) -> tuple[int, Any, str]:
        monkeypatch.setattr(sys, "argv", ["loop", *arguments, "--json"])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, json.loads(out) if out.strip() else None, err

    return run


def written(folder: Path, *events: dict[str, Any], name: str = "events.jsonl") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(e) + "\n" for e in events))
    return str(path)


def test_a_fresh_home_answers_zero_rows(loop: Command) -> None:
    for table in schema.TABLES:
        assert loop("sql", f"SELECT * FROM {table}") == (0, {"rows": []}, "")


def test_importing_twice_changes_nothing_and_says_so(loop: Command, tmp_path: Path) -> None:
    path = written(tmp_path, *(event(row) for row in ordinary_day(20)))
    code, first, _ = loop("import", "jsonl", path)
    assert (code, first["read"], first["accepted"], first["unchanged"]) == (0, 20, 20, False)
    assert (first["first_day"], first["last_day"]) == (DAY.isoformat(), DAY.isoformat())
    code, again, _ = loop("import", "jsonl", path)
    assert (code, again["accepted"], again["duplicates"], again["unchanged"]) == (0, 0, 20, True)


def test_what_breaks_is_quarantined_with_its_reason(loop: Command, tmp_path: Path) -> None:
    good = event(decision(1, "reject"))
    path = Path(
        written(
            tmp_path,
            good,
            good | {"mood": "fine"},
            good | {"decision": "accept", "event_id": "other", "suggestion_id": "s9"},
            good | {"dwell_ms": 17},
        )
    )
    path.write_bytes(path.read_bytes() + b"{not json\n" + b'{"event_id": "\xff"}\n')
    code, done, _ = loop("import", "jsonl", str(path))
    assert code == 0
    assert done["read"] == 6 == done["accepted"] + done["duplicates"] + done["quarantined"]
    assert (done["accepted"], done["quarantined"]) == (1, 5)
    code, found, _ = loop("sql", "SELECT reasons[1] AS reason FROM quarantine ORDER BY line")
    assert [row["reason"] for row in found["rows"]] == [
        "unknown_field",
        "chosen",
        "conflict",
        "not_json",
        "not_utf8",
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("import", "jsonl", "nowhere.jsonl"), "no such file"),
        (("import", "coauthor", "nowhere.tar.xz"), "nowhere.tar.xz"),
        (("import", "jsonl", "x.jsonl", "--sessions", "y.csv"), "--sessions goes with coauthor"),
        (("sql", "DROP TABLE interactions"), "expected one SELECT, got DROP"),
        (("sql", "SELECT 1; SELECT 2"), "expected one SELECT, got SELECT, SELECT"),
        (("sql", "SELEC 1"), "expected one SELECT"),
        (("sql", "SELECT * FROM read_text('/etc/passwd')"), "disabled by configuration"),
        (("sql", "SELECT * FROM nothing"), "nothing"),
        (("cycle", "--from", "2026-01-06", "--to", "2026-01-05"), "is after --to"),
        (("cycle", "--from", "2026-01-05", "--to", "2026-01-05"), "nothing has landed"),
        (("cycle", "--from", "2026-01-05", "--to", "2026-01-05", "--workflow", "cooking"), "expected one of ads"),
        (("run", "--workflow", "cooking"), "expected one of ads"),
        (("hold", "release", "2026-01-05", "cooking", "--reason", "r"), "WORKFLOW: expected one of ads"),
        (("hold", "release", "2026-01-05", "ads", "--reason", "r"), "it was never judged; `loop hold list` lists"),
        (("hold", "release", "2026-01-05", "ads", "--reason", " "), "expected a sentence"),
    ],
)
def test_bad_input_ends_with_2_and_says_what_to_do(loop: Command, arguments: tuple[str, ...], says: str) -> None:
    code, out, err = loop(*arguments)
    assert code == 2
    assert says in out["error"]
    assert err.startswith("loop: ")
    assert "Traceback" not in err


def test_a_wrong_setting_is_named(loop: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOP_WINDOW_DAY", "3")
    code, out, _ = loop("status")
    assert code == 2
    assert "LOOP_WINDOW_DAY" in out["error"]
    assert "LOOP_WINDOW_DAYS" in out["error"]


def test_status_tells_what_is_held_and_why(loop: Command, settings: Settings) -> None:
    with open_home(settings) as home:
        home.state.record_batch(
            day=DAY,
            workflow="ads",
            digest="d",
            status=BatchStatus.HELD,
            rows=3,
            quarantined=1,
            reasons=["too quiet"],
            author="suite",
            run_id=None,
        )
    code, told, _ = loop("status")
    assert (code, told["champion"], told["releases"]) == (0, None, [])
    assert [(b["day"], b["workflow"], b["reasons"]) for b in told["held"]] == [("2026-01-05", "ads", ["too quiet"])]


def test_usage_errors_end_with_2() -> None:
    program = Path(sys.executable).with_name("loop")
    done = subprocess.run([program, "nonsense"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "nonsense" in done.stderr


def test_json_has_no_numbers_that_json_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    emit_json({"a": float("nan"), "b": [float("inf"), 1.5], "day": DAY, "t": (1,)})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5], "day": "2026-01-05", "t": [1]}
