"""Helpers: evidence that the gate accepts, and how to make other."""

from __future__ import annotations

from loop import schema
from loop.evaluate.diversity import Diversity
from loop.evaluate.gate import AnswerEvidence, Evidence, GatePolicy
from loop.evaluate.panel import Panel, WorkflowPanel
from loop.evaluate.stats import Estimate, Interval, Share

POLICY = GatePolicy(margins={"moderation": 0.05}, default_margin=0.15)


def estimate(low: float, high: float, *, n: int = 200, confidence: float = POLICY.workflow_confidence) -> Estimate:
    interval = Interval(low, high, confidence)
    return Estimate((low + high) / 2, n, n, 0.9, interval, interval, 0.12)


def on(workflow: str, low: float = -0.02, high: float = 0.2, *, items: int = 200, answered: int = 200) -> WorkflowPanel:
    if not items:
        return WorkflowPanel(workflow, 0, 0, Share(0, 0), 0, 0, None)
    return WorkflowPanel(workflow, items, 0, Share(answered, items), 60, 40, estimate(low, high, n=answered))


def panel(*workflows: WorkflowPanel, low: float = 0.05, high: float = 0.3) -> Panel:
    answered = Share(sum(w.answered.count for w in workflows), sum(w.answered.of for w in workflows))
    whole = estimate(low, high, n=max(answered.count, 1), confidence=POLICY.confidence) if answered.count else None
    return Panel(workflows, whole, answered, 4, Share(90, 200), 0.1)


def variety(entropy: float = 5.0, distinct_2: float = 0.4, most_common: float = 0.1) -> Diversity:
    return Diversity(200, 0.5, most_common, entropy, 0.3, distinct_2, 0.2)


def answers(workflow: str, parsed: int = 200, new: Diversity | None = None) -> AnswerEvidence:
    return AnswerEvidence(workflow, Share(parsed, 200), Share(196, 200), new or variety(), variety())


def evidence(found: Panel | None, *extra: AnswerEvidence) -> Evidence:
    return Evidence("m2", "m1", same_weights=False, panel=found, answers=extra, expected=schema.WORKFLOWS)


ALL = tuple(on(name) for name in schema.WORKFLOWS)
GOOD = evidence(panel(*ALL), *(answers(name) for name in schema.WORKFLOWS))
