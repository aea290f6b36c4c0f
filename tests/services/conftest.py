"""Homes with an embedded server of their own, quick to come by."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from loop.config import Settings
from loop.services import down, prepare, session


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose database has been made, and stopped."""
    home = tmp_path_factory.mktemp("made") / "home"
    with session(Settings(home=home)):
        return home


@pytest.fixture
def home(_made: Path, bare_settings: Settings) -> Iterator[Settings]:
    """A home with a database that does not run, made by copying one; whatever runs in the end is stopped."""
    subprocess.run(["cp", "-a", _made, bare_settings.home], check=True)
    yield bare_settings
    down(bare_settings)


@pytest.fixture(scope="session")
def _prepared(_made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in whose databases Dagster and MLflow have their tables."""
    home = tmp_path_factory.mktemp("prepared") / "home"
    subprocess.run(["cp", "-a", _made, home], check=True)
    with session(Settings(home=home)) as urls:
        prepare(Settings(home=home), urls)
    return home


@pytest.fixture
def prepared_home(_prepared: Path, bare_settings: Settings) -> Iterator[Settings]:
    """A home in which first-time migrations are done; whatever runs in the end is stopped."""
    subprocess.run(["cp", "-a", _prepared, bare_settings.home], check=True)
    yield bare_settings
    down(bare_settings)


WORKSPACE = """
load_from:
  - python_module:
      module_name: tiny
      working_directory: {folder}
      location_name: loop
"""
DEFINITIONS = """
import dagster as dg

@dg.asset
def one() -> int:
    return 1

defs = dg.Definitions(assets=[one])
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a workspace.yaml and one asset, in place of the repository."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "workspace.yaml").write_text(WORKSPACE.format(folder=folder))
    (folder / "tiny.py").write_text(DEFINITIONS)
    return folder
