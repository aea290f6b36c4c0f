"""`loop import` of traces, as a program meets it: exit codes, the object on stdout, what must be said."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loop.cli import main
from loop.config import Settings
from tests.collect.sources.drawn import written
from tests.collect.sources.otlp import rated, request, span

Command = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def loop(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command with --json in this process: exit code, the object on stdout, stderr."""

    def run(*arguments: str) -> tuple[int, Any, str]:
        monkeypatch.setattr(sys, "argv", ["loop", "import", *arguments, "--json"])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, json.loads(out) if out.strip() else None, err

    return run


def test_traces_come_in_once_the_command_says_what_they_do_not(loop: Command, tmp_path: Path) -> None:
    spans = [span(rated(4.0, name="stars")), span(spanId="cccccccccccccccc")]
    path = str(written(tmp_path / "traces.jsonl", request(*spans)))
    code, done, _ = loop("otel", path)
    assert (code, done["read"], done["unrated"], done["skipped"]) == (0, 0, 2, {"judge": 1})
    code, done, err = loop("otel", path, "--score", "stars=2:4")
    assert (code, list(done), "give --workflow" in err) == (2, ["error"], True)
    code, done, _ = loop("otel", path, "--score", "stars=2:4", "--workflow", "comms")
    assert (code, done["read"], done["accepted"], done["unrated"], done["skipped"]) == (0, 1, 1, 1, {})
    code, done, _ = loop("otel", path, "--score", "stars=2:4", "--workflow", "comms")
    assert (code, done["accepted"], done["duplicates"], done["unchanged"]) == (0, 0, 1, True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("jsonl", "x", "--workflow", "ads"), "--workflow and --score go with otel, langfuse, mlflow, got jsonl"),
        (("coauthor", "x", "--score", "a=0:1"), "--workflow and --score go with otel, langfuse, mlflow, got coauthor"),
        (("otel", "x", "--workflow", "cooking"), "--workflow: expected one of ads, "),
        (("mlflow", "x", "--score", "stars"), "--score: expected NAME=DOWN:UP"),
        (("langfuse", "nowhere.json"), "nowhere.json: no such file or folder"),
    ],
)
def test_what_makes_no_sense_is_bad_input(loop: Command, arguments: tuple[str, ...], told: str) -> None:
    code, done, err = loop(*arguments)
    assert (code, told in done["error"], done["error"] in err) == (2, True, True)


def test_an_empty_file_is_bad_input(loop: Command, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    code, _, err = loop("langfuse", str(tmp_path / "empty.jsonl"))
    assert (code, "expected at least one event, got none" in err) == (2, True)
