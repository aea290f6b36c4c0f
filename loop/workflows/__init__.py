"""The workflows that Loop knows, one file each. To add one: write its file, list it here and in `schema.WORKFLOWS`."""

from __future__ import annotations

from typing import Final

from loop import schema
from loop.workflows.ads import ADS
from loop.workflows.comms import COMMS
from loop.workflows.design import DESIGN
from loop.workflows.moderation import MODERATION
from loop.workflows.workflow import Parts, Rule, Workflow

__all__ = ["WORKFLOWS", "Parts", "Rule", "Workflow"]

WORKFLOWS: Final[dict[str, Workflow]] = {w.name: w for w in (ADS, MODERATION, DESIGN, COMMS)}
"""In the order of `schema.WORKFLOWS`."""

assert tuple(WORKFLOWS) == schema.WORKFLOWS
