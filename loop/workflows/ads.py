"""Advertising: who to target, with which angle, tone and claim, and what to bid."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

from loop.workflows.workflow import BAD, Function, Parts, Rule, Workflow, half_of, mentions, mix

LEVELS: Final = ("tiny", "low", "medium", "high", "top")
"""Budgets and bids, ascending."""

EXAGGERATED: Final = "unbeatable"
"""A claim that nobody can prove."""

_BUDGET = re.compile(r"\bbudget (\w+)")


def _within_budget(prompt: str, parts: Parts) -> float | None:
    budget = _BUDGET.search(prompt)
    if not budget or budget[1] not in LEVELS or parts["bid"] not in LEVELS:
        return None
    return float(LEVELS.index(parts["bid"]) <= LEVELS.index(budget[1]))


def _provable(prompt: str, parts: Parts) -> float | None:
    return float(parts["claim"] != EXAGGERATED)


_BANNED: Final = mentions(
    *("guaranteed", "risk-free", "risk free", "miracle", "cures", "number one", "no. 1", "100 %", "100%"),
    *("best price ever", "cheapest", "free money", "act now or"),
)


def _unproven(prompt: str, text: str) -> str | None:
    return BAD if _BANNED(text) else None


ADS: Final = Workflow(
    name="ads",
    description="Media buyers turn a brief into an ad: segment, angle, tone, claim and bid.",
    parts={
        "segment": ("newcomers", "regulars", "lookalikes", "locals", "browsers", "lapsed"),
        "angle": ("price", "comfort", "status", "novelty", "safety", "speed"),
        "tone": ("playful", "plain", "urgent", "warm", "bold", "formal"),
        "claim": ("tested", "reviewed", "awarded", "certified", "handmade", EXAGGERATED),
        "bid": LEVELS,
    },
    form="target {segment} with {angle} angle, {tone} tone, claim {claim}, bid {bid}",
    rules=(
        Rule("within_budget", "the bid is no higher than the budget in the brief", _within_budget),
        Rule("provable", "no claim that cannot be proven", _provable),
    ),
    decision_mix=mix(),
    attribution_window=timedelta(days=7),
    margin=0.075,
    groups={"brand": half_of(r"\bby (\w+) to\b")},
    outcomes={"click": 1, "revenue": 1},
    functions=(Function("banned_claim", "claims that advertising law asks a proof of", _unproven),),
)
