"""`loop privacy scan` as a program meets it, and what the doctor says of names."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from pathlib import Path

import pytest

from loop.cli import main
from loop.config import Settings
from loop.services.doctor import _privacy


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["loop", "privacy", "scan", *arguments])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_it_writes_the_file_and_tells_how_much_by_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"id": 1, "text": "to jane@example.org"}\n')
    assert run(monkeypatch, "--input", str(source), "--output", str(target), "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "lines": 1,
        "personal": 1,
        "spans": {"EMAIL_ADDRESS": 1},
        "recognisers": "patterns",
        "model": None,
    }
    span = {"start": 3, "end": 19, "type": "EMAIL_ADDRESS"}
    assert json.loads(target.read_text()) == {"id": 1, "spans": [span], "masked": "to <EMAIL_ADDRESS_1>"}
    assert not (tmp_path / "home").exists()


def test_a_bad_line_is_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(b'{"id": 1, "text": "ok"}\n{"id": 2, "text": "\xff"}\n')
    assert run(monkeypatch, "--input", str(source), "--output", str(tmp_path / "out.jsonl")) == 2
    assert "line 2: expected UTF-8" in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("privacy", "model", "ok", "told"),
    [
        ("patterns", False, True, "names are not looked for (spaCy models: none)"),
        ("full", True, True, "and names (spaCy models: xx_names)"),
        ("full", False, False, "no model finds names"),
        ("off", True, True, "nothing is masked"),
    ],
)
def test_the_doctor_says_whether_names_are_found(  # noqa: PLR0917
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, privacy: str, model: bool, ok: bool, told: str
) -> None:
    found = [importlib.metadata.EntryPoint("xx_names", "xx_names", "spacy_models")] if model else []
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: found)
    (finding,) = _privacy(Settings(home=tmp_path, privacy=privacy))  # type: ignore[arg-type]
    assert finding.ok is ok
    assert told in finding.detail
    assert (finding.mend is None) is ok
