"""The workflows that Loop knows: its own, one file each, and those that installed packages bring.

A package brings one by an entry point in the group `loop.workflows`, whose value is a `Workflow` of the same name:

    [project.entry-points."loop.workflows"]
    legal = "our_loop:LEGAL"
"""

from __future__ import annotations

import importlib.metadata
from typing import Final

from loop import schema
from loop.errors import BadInputError
from loop.schema.base import WORKFLOW_PLUGINS
from loop.workflows.ads import ADS
from loop.workflows.comms import COMMS
from loop.workflows.design import DESIGN
from loop.workflows.moderation import MODERATION
from loop.workflows.workflow import BAD, GOOD, Function, Parts, Rule, Workflow

__all__ = ["BAD", "BUILT_IN", "GOOD", "WORKFLOWS", "Function", "Parts", "Rule", "Workflow"]

BUILT_IN: Final[dict[str, Workflow]] = {w.name: w for w in (ADS, MODERATION, DESIGN, COMMS)}
"""In the order of `schema.BUILT_IN`."""


def _own() -> dict[str, Workflow]:
    """What packages bring.

    Raises:
        BadInputError: an entry point cannot be loaded, or is no workflow of its name.
    """
    found = {}
    for point in importlib.metadata.entry_points(group=WORKFLOW_PLUGINS):
        where = f"entry point {point.name} = {point.value!r} of {WORKFLOW_PLUGINS}"
        try:
            workflow = point.load()
        except Exception as error:  # whatever somebody's module raises
            raise BadInputError(f"{where} cannot be loaded: {error}") from error
        if not isinstance(workflow, Workflow) or workflow.name != point.name:
            raise BadInputError(f"{where}: expected a Workflow named {point.name!r}, got {workflow!r:.80}")
        found[point.name] = workflow
    return found


WORKFLOWS: Final[dict[str, Workflow]] = BUILT_IN | dict(sorted(_own().items()))
"""In the order of `schema.WORKFLOWS`."""

assert tuple(BUILT_IN) == schema.BUILT_IN
assert tuple(WORKFLOWS) == schema.WORKFLOWS
