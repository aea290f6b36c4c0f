"""The gate's rules as properties: whatever the evidence, nothing worse is let through."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from loop import schema
from loop.evaluate.gate import AnswerEvidence, Decision, Evidence, decide
from loop.evaluate.panel import Panel, WorkflowPanel
from loop.evaluate.stats import Estimate, Interval, Share
from tests.evaluate.evidences import POLICY, estimate, evidence, on, panel, variety

REAL = st.floats(-1.0, 1.0, allow_nan=False)
UNIT = st.floats(0.0, 1.0, allow_nan=False)


@st.composite
def intervals(draw: st.DrawFn, confidence: float) -> Estimate:
    low, high = sorted((draw(REAL), draw(REAL)))
    return estimate(low, high, n=draw(st.integers(0, 300)), confidence=confidence)


@st.composite
def workflow_panels(draw: st.DrawFn, name: str) -> WorkflowPanel:
    items = draw(st.sampled_from([0, 0, 40, 200]))
    identical = draw(st.integers(0, items))
    answered = draw(st.integers(0, items - identical) | st.just(items - identical))
    difference = draw(st.none() | intervals(POLICY.workflow_confidence)) if items else None
    return WorkflowPanel(name, items, identical, Share(answered, items - identical), 0, 0, difference)


@st.composite
def any_evidence(draw: st.DrawFn) -> Evidence:
    workflows = tuple(draw(workflow_panels(name)) for name in schema.WORKFLOWS)
    counted = Share(sum(w.answered.count for w in workflows), sum(w.answered.of for w in workflows))
    whole = draw(st.none() | intervals(POLICY.confidence))
    found = Panel(workflows, whole, counted, 3, Share(0, 0), None)
    measured = tuple(
        AnswerEvidence(
            name,
            Share(draw(st.integers(150, 200)), 200),
            Share(draw(st.integers(150, 200)), 200),
            variety(draw(st.floats(0, 8)), draw(UNIT), draw(UNIT)),
            variety(draw(st.floats(0, 8)), draw(UNIT), draw(UNIT)),
        )
        for name in schema.WORKFLOWS
        if draw(st.booleans())
    )
    return Evidence("m2", "m1", draw(st.booleans()), draw(st.just(found) | st.none()), measured, schema.WORKFLOWS)


@st.composite
def promotable(draw: st.DrawFn) -> Evidence:
    """Evidence that the gate accepts, with bounds anywhere inside what it allows."""
    workflows = tuple(on(name, draw(st.floats(-POLICY.margin(name) + 1e-6, 0.5)), 0.6) for name in schema.WORKFLOWS)
    kept = tuple(
        AnswerEvidence(
            name,
            Share(draw(st.integers(190, 200)), 200),
            Share(200, 200),
            variety(draw(st.floats(2.5, 8)), draw(st.floats(0.2, 1)), draw(st.floats(0, 0.5))),
            variety(),
        )
        for name in schema.WORKFLOWS
    )
    return evidence(panel(*workflows, low=draw(st.floats(1e-6, 0.2))), *kept)


@settings(max_examples=150, deadline=None)
@given(any_evidence() | promotable())
def test_never_promoted_unless_shown_better_and_nowhere_worse(found: Evidence) -> None:
    verdict = decide(found, POLICY)
    assert verdict.reasons
    assert all(verdict.reasons)
    if verdict.decision is Decision.PROMOTED:
        assert found.panel is not None
        assert found.panel.whole is not None
        assert found.panel.whole.bootstrap is not None
        assert found.panel.whole.bootstrap.low > 0
        assert not found.same_weights
        for workflow in found.panel.workflows:
            if workflow.items:
                assert workflow.difference is not None
                assert workflow.difference.bootstrap is not None
                assert workflow.difference.bootstrap.low > -POLICY.margin(workflow.workflow)
    else:
        assert not verdict.reasons[0].endswith("not measured"), "what was not measured refuses nobody"


@settings(max_examples=100, deadline=None)
@given(any_evidence() | promotable(), st.randoms(use_true_random=False))
def test_the_order_of_workflows_does_not_matter(found: Evidence, random: Random) -> None:
    shuffled = replace(found, answers=tuple(random.sample(found.answers, len(found.answers))))
    if found.panel is not None:
        workflows = tuple(random.sample(found.panel.workflows, len(found.panel.workflows)))
        shuffled = replace(shuffled, panel=replace(found.panel, workflows=workflows))
    assert decide(shuffled, POLICY) == decide(found, POLICY)


@settings(max_examples=100, deadline=None)
@given(any_evidence() | promotable(), st.sets(st.sampled_from(["hr", "legal"])))
def test_what_was_not_measured_never_changes_the_decision(found: Evidence, others: set[str]) -> None:
    more = replace(found, expected=(*found.expected, *sorted(others)))
    if found.panel is not None:
        empty = tuple(on(name, items=0) for name in sorted(others))
        more = replace(more, panel=replace(found.panel, workflows=(*found.panel.workflows, *empty)))
    before, after = decide(found, POLICY), decide(more, POLICY)
    assert after.decision is before.decision
    assert after.reasons == (*before.reasons, *(f"{name}: not measured" for name in sorted(others)))


def _lifted(found: Estimate | None, by: float) -> Estimate | None:
    if found is None or found.bootstrap is None:
        return found
    interval = found.bootstrap
    return replace(
        found, mean=found.mean + by, bootstrap=Interval(interval.low + by, interval.high + by, interval.confidence)
    )


@settings(max_examples=150, deadline=None)
@given(promotable(), UNIT, st.lists(UNIT, min_size=4, max_size=4), st.integers(0, 10), UNIT)
def test_better_evidence_never_loses_a_promotion(
    found: Evidence, whole: float, parts: list[float], parses: int, varied: float
) -> None:
    assert decide(found, POLICY).decision is Decision.PROMOTED
    assert found.panel is not None
    workflows = tuple(
        replace(w, difference=_lifted(w.difference, by)) for w, by in zip(found.panel.workflows, parts, strict=True)
    )
    better = replace(
        found,
        panel=replace(found.panel, whole=_lifted(found.panel.whole, whole), workflows=workflows),
        answers=tuple(
            replace(
                a,
                challenger_parses=Share(min(200, a.challenger_parses.count + parses), 200),
                challenger=replace(
                    a.challenger,
                    entropy=a.challenger.entropy + varied,
                    distinct_2=min(1.0, a.challenger.distinct_2 + varied),
                    most_common=a.challenger.most_common * (1 - varied),
                ),
            )
            for a in found.answers
        ),
    )
    assert decide(better, POLICY).decision is Decision.PROMOTED


@settings(max_examples=150, deadline=None)
@given(any_evidence(), UNIT)
def test_worse_evidence_never_gains_a_promotion(found: Evidence, by: float) -> None:
    if decide(found, POLICY).decision is Decision.PROMOTED or found.panel is None:
        return
    lowered = replace(found, panel=replace(found.panel, whole=_lifted(found.panel.whole, -by)))
    assert decide(lowered, POLICY).decision is Decision.REFUSED


@settings(max_examples=100, deadline=None)
@given(promotable(), st.sampled_from(schema.WORKFLOWS), st.floats(0.0, 0.5))
def test_one_workflow_beyond_its_margin_refuses_whatever_the_rest_says(
    found: Evidence, worse: str, beyond: float
) -> None:
    assert found.panel is not None
    low = -POLICY.margin(worse) - beyond
    workflows = tuple(on(worse, low, 0.6) if w.workflow == worse else w for w in found.panel.workflows)
    verdict = decide(replace(found, panel=replace(found.panel, workflows=workflows)), POLICY)
    assert verdict.decision is Decision.REFUSED
    assert verdict.reasons[0].startswith(f"{worse}: may be worse")
