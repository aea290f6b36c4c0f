"""The command `loop` run in the test's own process."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from loop.cli import main
from loop.config import Settings

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def loop(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command in this process: exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["loop", *arguments])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return (code, *capsys.readouterr())

    return run
