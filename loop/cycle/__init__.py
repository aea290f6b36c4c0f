"""The learning cycle: what an asset of the learning graph does, stage by stage.

Each function reads what earlier stages wrote, calls the stages, and writes its own rows. A cycle reads only what had
been received by its cut-off and asks the dated releases who was champion when its day began, so that running a past
cycle again meets the past.
"""

from __future__ import annotations

from loop.cycle.deciding import comparisons, evaluation, halts, release
from loop.cycle.freezing import training_set
from loop.cycle.learning import base, policy
from loop.cycle.reading import latest
from loop.cycle.waiting import awaiting_decision, new_preferences

__all__ = [
    "awaiting_decision",
    "base",
    "comparisons",
    "evaluation",
    "halts",
    "latest",
    "new_preferences",
    "policy",
    "release",
    "training_set",
]
