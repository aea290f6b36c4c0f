"""A workflow that an installed package brings goes through the data job like any other; a bad one is named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loop.config import Settings

LEGAL = """
from datetime import timedelta
from loop.workflows import Workflow
from loop.workflows.workflow import mix
LEGAL = Workflow(
    name="legal",
    description="Lawyers take, change or drop a drafted clause.",
    parts={},
    form="",
    rules=(),
    decision_mix=mix(),
    attribution_window=timedelta(days=30),
    margin=0.05,
    free_text=True,
)
"""
A_DAY = """
import dagster as dg
from assets.partitions import batch_key
from jobs.definitions import defs
from loop import config
from loop.home import open_home
from tests.rows import DAY, event, land, ordinary_day
with open_home(config.load()) as home:
    land(home, (event(row, workflow="legal") for row in ordinary_day(60)))
    with dg.DagsterInstance.ephemeral() as instance:
        done = defs.resolve_job_def("daily_data").execute_in_process(
            partition_key=str(batch_key(DAY, "legal")), instance=instance
        )
    print(done.success, home.lake.read("demonstrations", workflows=["legal"]).num_rows)
"""


def installed(folder: Path, entry: str) -> None:
    """A package with an entry point, as an installer leaves it."""
    (folder / "our_loop.py").write_text(LEGAL)
    told = folder / "our_loop-1.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: our-loop\nVersion: 1.0\n")
    (told / "entry_points.txt").write_text(f"[loop.workflows]\n{entry}\n")


def python(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(root)])}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, cwd=root
    )


@pytest.mark.slow
def test_a_workflow_of_ones_own_is_learned_from(settings: Settings, tmp_path: Path) -> None:
    installed(tmp_path, "legal = our_loop:LEGAL")
    done = python(tmp_path, A_DAY)
    assert done.stdout.split()[-2:] == ["True", "42"], done.stderr[-2000:]


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("ads = our_loop:LEGAL", "entry point 'ads' of loop.workflows: expected up to 32 of a-z"),
        ("Legal = our_loop:LEGAL", "entry point 'Legal' of loop.workflows: expected up to 32 of a-z"),
        ("legal = our_loop:NOTHING", "entry point legal = 'our_loop:NOTHING' of loop.workflows cannot be loaded"),
        ("law = our_loop:LEGAL", "expected a Workflow named 'law'"),
    ],
)
def test_a_bad_one_is_named(tmp_path: Path, entry: str, says: str) -> None:
    installed(tmp_path, entry)
    done = python(tmp_path, "import loop.workflows")
    assert done.returncode == 1
    assert says in done.stderr
