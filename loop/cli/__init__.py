"""The command `loop`: edges only. A command reads its arguments, calls the stages or Dagster, and shows the result.

This is the only room that may import the jobs and, for `loop run`, the simulation.
"""

from __future__ import annotations

from loop.cli import stopwatch as stopwatch  # first: its clock starts when it is imported
from loop.cli.app import main

__all__ = ["main"]
