from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import typer.main

from loop.cli.app import app

ROOT = Path(__file__).parents[1]


def commands() -> list[str]:
    group = typer.main.get_command(app)
    return sorted(group.commands)  # type: ignore[attr-defined]


def test_the_table_reference_is_the_schema() -> None:
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.TARGET.read_text() == module.page(), "run `make docs`"


@pytest.mark.parametrize("command", commands())
def test_every_command_is_documented(command: str) -> None:
    assert f"`loop {command}" in (ROOT / "README.md").read_text()


def test_every_make_target_of_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)", (ROOT / "README.md").read_text()))
    assert named <= targets
    assert {"run", "test", "up"} <= named


def test_no_path_of_a_machine_and_no_address_of_an_index_is_committed() -> None:
    found = [
        path.relative_to(ROOT)
        for folder in ("loop", "assets", "jobs", "docs", "benchmarks", ".ci")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".md", ".yaml", ".toml", ""}
        and path.is_file()
        and re.search(r"(?<![\w.])/(?:work|farm|root|home)/", path.read_text(errors="ignore"))
    ]
    assert found == []
    for name in ("constraints.txt", "Makefile", "pyproject.toml"):
        assert "://" not in (ROOT / name).read_text()
