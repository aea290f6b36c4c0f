"""Design review: what to fix in a piece, by which action, for which principle, and the verdict on it."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from loop.workflows.workflow import BAD, Function, Parts, Rule, Workflow, half_of, mentions, mix

FLATTERING: Final = "brilliant"
"""A verdict that says nothing."""


def _candid(prompt: str, parts: Parts) -> float | None:
    return float(parts["verdict"] != FLATTERING)


_PRAISE: Final = mentions("perfect", "flawless", "stunning", "amazing", "love it", FLATTERING)
_REMEDY: Final = mentions("fix", "change", "move", "try", "increase", "reduce", "align", "instead", "should")


def _praise_alone(prompt: str, text: str) -> str | None:
    return BAD if _PRAISE(text) and not _REMEDY(text) else None


DESIGN: Final = Workflow(
    name="design",
    description="Designers get a critique that fits the brief: verdict, what to fix, action and principle.",
    parts={
        "verdict": (FLATTERING, "solid", "promising", "uneven", "unclear", "cluttered"),
        "fix": ("contrast", "spacing", "type", "color", "layout", "imagery"),
        "action": ("enlarge", "simplify", "align", "group", "soften", "crop"),
        "principle": ("hierarchy", "balance", "rhythm", "unity", "focus", "restraint"),
    },
    form="{verdict} work; fix {fix}: {action} for {principle}",
    rules=(Rule("candid", "no verdict that only flatters", _candid),),
    decision_mix=mix(),
    attribution_window=timedelta(days=30),
    margin=0.075,
    groups={"designer": half_of(r"\bby (\w+), readers\b")},
    outcomes={"conversion": 1},
    functions=(Function("praise_alone", "praise that names nothing to do", _praise_alone),),
)
