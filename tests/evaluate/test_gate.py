"""The gate's rules, one by one."""

from __future__ import annotations

import ast
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop import schema
from loop.evaluate import gate
from loop.evaluate.amplification import Amplification, Gap
from loop.evaluate.gate import AnswerEvidence, Decision, Evidence, decide
from loop.evaluate.panel import WorkflowPanel
from loop.evaluate.parting import Parting
from loop.evaluate.stats import Share
from tests.evaluate.evidences import ALL, GOOD, POLICY, answers, estimate, evidence, on, panel, variety


def test_better_and_nowhere_worse_is_promoted() -> None:
    verdict = decide(GOOD, POLICY)
    assert verdict.decision is Decision.PROMOTED
    assert verdict.reasons == (
        "better on the whole: +0.175 (99% interval +0.050 to +0.300, 800 items)",
        "not worse by more than the margin in ads, comms, design, moderation",
    )


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (replace(GOOD, panel=None), "no panel evidence"),
        (replace(GOOD, panel=panel()), "no panel evidence"),
        (replace(GOOD, panel=panel(on("ads", items=0))), "no panel evidence"),
        (replace(GOOD, panel=panel(on("ads", answered=0))), "no panel evidence"),
        (replace(GOOD, same_weights=True), "nothing learned: the challenger has the champion's weights"),
        (replace(GOOD, challenger="m1"), "nothing learned: the challenger has the champion's weights"),
        (
            replace(GOOD, panel=panel(WorkflowPanel("ads", 9, 9, Share(0, 0), 0, 0, estimate(0, 0, n=9)))),
            "nothing learned: every answer is the champion's",
        ),
        (
            replace(GOOD, panel=panel(*ALL, low=0.0)),
            (
                "not shown to be better on the whole: +0.150 (99% interval +0.000 to +0.300, 800 items); "
                "0.120 could have been found"
            ),
        ),
        (
            replace(GOOD, panel=panel(*ALL, low=-0.3, high=-0.1)),
            "worse on the whole: -0.200 (99% interval -0.300 to -0.100, 800 items)",
        ),
        (
            replace(GOOD, panel=panel(on("ads"), on("moderation", -0.2, -0.06))),
            "moderation: worse by more than 0.05: -0.130 (90% interval -0.200 to -0.060, 200 items)",
        ),
        (
            replace(GOOD, panel=panel(on("comms", -0.15, 0.2))),
            "comms: may be worse by more than 0.15, too few to say: +0.025 (90% interval -0.150 to +0.200, 200 items)",
        ),
        (
            replace(GOOD, panel=panel(on("ads"), on("design", items=200, answered=90))),
            "design: 90 of 200 comparisons answered, expected at least 50%",
        ),
        (
            replace(GOOD, panel=panel(on("ads"), on("design", items=29, answered=29))),
            "design: 29 items scored, expected at least 30",
        ),
        (
            replace(GOOD, answers=(answers("ads", parsed=185),)),
            "ads: 92.5% of the answers parse, of the champion's 98.0%",
        ),
        (
            replace(GOOD, answers=(answers("ads", new=variety(entropy=2.4)),)),
            "ads: answers have collapsed: entropy 2.40 bits, the champion's 5.00",
        ),
        (
            replace(GOOD, answers=(answers("ads", new=variety(distinct_2=0.1)),)),
            "ads: answers have collapsed: distinct-2 0.100, the champion's 0.400",
        ),
        (
            replace(GOOD, answers=(answers("ads", new=variety(most_common=0.6)),)),
            "ads: one answer makes up 60%, of the champion's 10%",
        ),
    ],
)
def test_each_ground_for_refusal_is_told(changed: Evidence, reason: str) -> None:
    verdict = decide(changed, POLICY)
    assert verdict.decision is Decision.REFUSED
    assert verdict.reasons[0] == reason


def tainted(low: float, high: float = 0.3) -> Evidence:
    """Of a champion that has to go."""
    found = evidence(panel(*ALL, low=low, high=high), *(answers(name) for name in schema.WORKFLOWS))
    return replace(found, champion_tainted=True)


@pytest.mark.parametrize(("low", "high"), [(-0.09, 0.2), (-0.09, -0.01), (0.0, 0.0)])
def test_what_follows_a_tainted_champion_need_not_be_better_only_not_worse(low: float, high: float) -> None:
    verdict = decide(tainted(low, high), POLICY)
    assert verdict.decision is Decision.PROMOTED
    assert verdict.reasons[0].startswith("the champion is tainted, and this is not worse by more than 0.10: ")
    assert decide(replace(tainted(low, high), champion_tainted=False), POLICY).decision is Decision.REFUSED


def test_what_is_worse_does_not_follow_even_a_tainted_champion() -> None:
    assert decide(tainted(-0.1), POLICY).reasons[0] == (
        "not shown not to be worse by more than 0.10 on the whole: +0.100 (99% interval -0.100 to +0.300, 800 items); "
        "0.120 could have been found"
    )
    assert decide(tainted(-0.4, -0.11), POLICY).reasons[0].startswith("worse on the whole: -0.255")


@settings(max_examples=200, deadline=None)
@given(low=st.floats(-1, 1), width=st.floats(0, 1))
def test_whom_a_sound_champion_lets_pass_a_tainted_one_does(low: float, width: float) -> None:
    found = tainted(low, min(1.0, low + width))
    sound = decide(replace(found, champion_tainted=False), POLICY)
    assert sound.decision is Decision.REFUSED or decide(found, POLICY) == sound


def test_what_the_champion_did_already_is_no_collapse() -> None:
    narrow = AnswerEvidence("ads", Share(0, 0), Share(0, 0), variety(most_common=0.65), variety(most_common=0.7))
    assert decide(replace(GOOD, answers=(narrow,)), POLICY).decision is Decision.PROMOTED


def test_the_least_that_is_asked_for_suffices() -> None:
    least = panel(on("ads", items=POLICY.least_items, answered=POLICY.least_items), on("comms", items=100, answered=50))
    assert decide(replace(GOOD, panel=least), POLICY).decision is Decision.PROMOTED


def test_a_workflow_without_items_is_told_and_decides_nothing() -> None:
    verdict = decide(evidence(panel(on("ads"), on("design", items=0))), POLICY)
    assert verdict.decision is Decision.PROMOTED
    assert verdict.reasons[1:] == (
        "not worse by more than the margin in ads",
        "moderation: not measured",
        "design: not measured",
        "comms: not measured",
    )


def test_a_widened_gap_halts_the_best_challenger() -> None:
    gap = Gap("moderation", "team", "north", "decision=remove", 0.05, 0.45, 0.4, 0.12, (80, 60))
    narrow = replace(gap, widened=0.09)
    unsure = replace(gap, low=-0.01)
    found = Amplification("moderation", 40, (gap, narrow, unsure), "champion as served")
    verdict = decide(replace(GOOD, amplified=(found,)), POLICY)
    assert verdict.decision is Decision.REFUSED
    assert verdict.reasons == (
        (
            "moderation: widens a gap: decision=remove for team north, +0.05 in what went in, +0.45 in what comes out, "
            "wider by 0.40 (at least 0.12), champion as served"
        ),
    )
    harmless = replace(found, widest=(narrow, unsure))
    assert decide(replace(GOOD, amplified=(harmless,)), POLICY).decision is Decision.PROMOTED


def test_acceptance_without_outcome_halts_the_best_challenger() -> None:
    parting = Parting("ads", "click", "m0", "m1", (400, 400), (0.5, 0.7), (0.3, 0.1), 0.1, -0.1)
    verdict = decide(replace(GOOD, partings=(parting,)), POLICY)
    assert verdict.decision is Decision.REFUSED
    assert verdict.reasons == (
        (
            "ads: acceptance and click part company since m1 serves: taken 50.0% -> 70.0%, outcome +0.300 -> +0.100 a "
            "taken suggestion"
        ),
    )
    for change in ({"acceptance_low": -0.01}, {"value_high": 0.01}):
        assert decide(replace(GOOD, partings=(replace(parting, **change),)), POLICY).decision is Decision.PROMOTED


def test_evidence_at_another_confidence_is_a_mistake_of_ours() -> None:
    wrong = replace(POLICY, confidence=0.95)
    with pytest.raises(AssertionError, match="another confidence"):
        decide(GOOD, wrong)


def test_a_decision_without_reasons_cannot_be_made() -> None:
    with pytest.raises(AssertionError, match="carries its reasons"):
        gate.Verdict(Decision.PROMOTED, ())


def test_truth_is_out_of_reach() -> None:
    """The gate imports only figures, and the evidence has no place for truth."""
    tree = ast.parse(Path(gate.__file__).read_text())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert modules == {
        "__future__",
        "collections.abc",
        "dataclasses",
        "enum",
        "loop.evaluate.amplification",
        "loop.evaluate.diversity",
        "loop.evaluate.panel",
        "loop.evaluate.parting",
        "loop.evaluate.stats",
    }
    assert {f.name for f in fields(Evidence)} == {
        "challenger",
        "champion",
        "same_weights",
        "panel",
        "answers",
        "expected",
        "amplified",
        "partings",
        "champion_tainted",
    }
