"""Trust and safety: what happens to a reported post, for which reason, how severe it is, and what follows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from loop.workflows.workflow import Function, Parts, Rule, Workflow, half_of, mentions, mix

UNATTENDED: Final = "close"
"""The next step that leaves nobody anything to do."""


def _proportionate(prompt: str, parts: Parts) -> float | None:
    return float(not (parts["decision"] == "keep" and parts["severity"] == "critical"))


def _attended(prompt: str, parts: Parts) -> float | None:
    if parts["severity"] not in ("high", "critical"):
        return None
    return float(parts["next"] != UNATTENDED)


_THREATS: Final = mentions("threats", "threatened", "i will kill", "will hurt you", "gonna kill", "going to kill you")
_SPAM: Final = mentions("spam", "buy now", "click here", "limited offer", "work from home", "crypto giveaway")
_DOXED: Final = mentions("leaks", "leaked", "home address", "phone number of", "doxx", "doxxed")


def _when(holds: Callable[[str], bool], category: str) -> Callable[[str, str], str | None]:
    return lambda prompt, text: category if holds(prompt) or holds(text) else None


MODERATION: Final = Workflow(
    name="moderation",
    description="Moderators decide on reported posts: decision, reason, severity and next step.",
    parts={
        "decision": ("keep", "label", "limit", "hide", "remove", "escalate"),
        "reason": ("harm", "deceit", "privacy", "hate", "nuisance", "taste"),
        "severity": ("none", "minor", "moderate", "serious", "high", "critical"),
        "next": ("warn", "watch", "mute", "verify", "consult", UNATTENDED),
    },
    form="{decision} for {reason}, severity {severity}, then {next}",
    rules=(
        Rule("proportionate", "what is critical is not kept", _proportionate),
        Rule("attended", "a severe case is not closed without a next step", _attended),
    ),
    decision_mix=mix(),
    attribution_window=timedelta(days=14),
    margin=0.075,
    groups={"reporter": half_of(r"\bby (\w+)\s*$")},
    outcomes={"appeal_overturned": -1},
    categories="decision",
    functions=(
        Function("threats_are_removed", "a post with a threat is removed", _when(_THREATS, "remove")),
        Function("spam_is_limited", "a post that sells is limited", _when(_SPAM, "limit")),
        Function("leaks_are_hidden", "a post with somebody's data is hidden", _when(_DOXED, "hide")),
    ),
    cues={"violence": ("threats", "gore"), "harassment": ("insults",), "privacy": ("leaks",)},
)
