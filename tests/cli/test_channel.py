"""The gateway that `loop run --through-gateway` starts for itself; a stand-in of three lines takes its place."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from loop.cli import channel
from loop.errors import LoopError
from loop.home import Home


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    path = folder / "loop"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setattr(channel, "_await_suggestions", lambda _: None)


def test_a_gateway_that_says_much_is_not_stopped_by_it(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    much = "head -c 1000000 /dev/zero | tr '\\0' w >&2"  # a pipe holds 64 KiB
    stand_in(tmp_path, monkeypatch, f"""{much}; echo '{{"Gateway": "http://127.0.0.1:9"}}'; exec sleep 60""")
    with channel._gateway(home) as url:
        assert url == "http://127.0.0.1:9"


def test_a_gateway_that_does_not_start_says_why(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "echo 'the port is taken' >&2; exit 1")
    with pytest.raises(LoopError, match="did not start: the port is taken"), channel._gateway(home):
        pass
