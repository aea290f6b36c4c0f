"""The gate: from evidence and a policy to promoted or refused, with reasons. A pure function and its types.

Nothing here reads a table, a clock, a file or a model; what is not in `Evidence` cannot move the decision, and truth
is not in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from loop.evaluate.amplification import Amplification
from loop.evaluate.diversity import Diversity
from loop.evaluate.panel import Panel, WorkflowPanel
from loop.evaluate.parting import Parting
from loop.evaluate.stats import Estimate, Interval, Share


class Decision(StrEnum):
    """What the gate says of a challenger."""

    PROMOTED = "promoted"
    REFUSED = "refused"


@dataclass(frozen=True)
class AnswerEvidence:
    """What the answers of both models to one workflow's items show without anybody being asked."""

    workflow: str
    challenger_parses: Share
    champion_parses: Share
    challenger: Diversity
    champion: Diversity


@dataclass(frozen=True)
class Evidence:
    """Everything that the gate may know of a challenger."""

    challenger: str
    champion: str
    same_weights: bool
    """Whether both have the same weights digest."""
    panel: Panel | None
    """None where nobody could be asked."""
    answers: tuple[AnswerEvidence, ...] = ()
    """One for each workflow that has items."""
    expected: tuple[str, ...] = ()
    """Workflows that the organisation has; those without items are told as not measured."""
    amplified: tuple[Amplification, ...] = ()
    """Gaps between groups, of the challenger and of the champion that it was trained from, by workflow."""
    partings: tuple[Parting, ...] = ()
    """Acceptance and outcomes of what people were shown of the last champions."""
    champion_tainted: bool = False
    """Whether the champion learned from rows that were erased since, and so is to be replaced."""


@dataclass(frozen=True)
class GatePolicy:
    """The bounds. A difference is share of wins minus share of losses, from -1 to 1."""

    margins: Mapping[str, float] = field(default_factory=dict)
    """Workflow to how far below 0 its difference may lie; `default_margin` where a workflow is not named."""
    default_margin: float = 0.1
    tainted_margin: float = 0.1
    """How far below 0 the whole may lie where the champion is tainted: it is to go, so what comes after it need not be
    better, only not worse."""
    confidence: float = 0.99
    """Of the interval on the whole: one chance in 200 to promote what is not better, for the gate is asked daily."""
    workflow_confidence: float = 0.9
    """Of each workflow's interval, a one-sided 5 % test. No correction for several: all must pass, so the chance to
    pass one that is worse is no greater (intersection-union test, Berger, Technometrics 24 (1982) 295-300)."""
    least_answered: float = 0.5
    """Share of the asked items of each workflow that must have an answer."""
    least_items: int = 30
    """Scored items that each workflow with items must have: fewer make an interval look narrower than it is."""
    format_margin: float = 0.05
    """How far the challenger's share of answers that parse may lie below the champion's."""
    least_entropy: float = 0.5
    """Least entropy, and distinct-2, of the challenger's answers as a fraction of the champion's."""
    most_common: float = 0.5
    """Greatest share of one and the same answer, unless the champion's is greater yet."""

    def margin(self, workflow: str) -> float:
        return self.margins.get(workflow, self.default_margin)


@dataclass(frozen=True)
class Verdict:
    """The decision and why, the weightiest reason first."""

    decision: Decision
    reasons: tuple[str, ...]
    """What decided; after it what did not and is worth knowing, such as a workflow that was not measured."""

    def __post_init__(self) -> None:
        assert self.reasons, "a decision carries its reasons"


def decide(evidence: Evidence, policy: GatePolicy) -> Verdict:
    """Promote only a challenger that is better on the whole and not worse by more than the margin in any workflow.

    Where the champion is tainted it is enough that the challenger is not worse by more than a margin on the whole.

    It must also keep the format and the variety of its answers, and neither it nor what served before it may have
    widened a gap between groups, or have been accepted more and done worse. A workflow without items neither passes
    nor fails.

    Raises:
        AssertionError: an interval in the evidence was made at another confidence than the policy asks for.
    """
    against = tuple(_against(evidence, policy))
    if against:
        return Verdict(Decision.REFUSED, (*against, *_not_measured(evidence)))
    panel = evidence.panel
    assert panel is not None
    assert panel.whole is not None
    assert panel.whole.bootstrap is not None
    assert panel.whole.bootstrap.low > -_slack(evidence, policy)
    better = f"better on the whole: {_told(panel.whole, panel.whole.bootstrap)}"
    if panel.whole.bootstrap.low <= 0:
        told = _told(panel.whole, panel.whole.bootstrap)
        better = f"the champion is tainted, and this is not worse by more than {policy.tainted_margin:.2f}: {told}"
    kept = f"not worse by more than the margin in {', '.join(w.workflow for w in _measured(panel))}"
    return Verdict(Decision.PROMOTED, (better, kept, *_not_measured(evidence)))


# -- reasons to refuse ----------------------------------------------------------------------------------------------


def _against(evidence: Evidence, policy: GatePolicy) -> Iterator[str]:
    """Every reason against the challenger; one that makes the others moot stands alone."""
    panel = evidence.panel
    if evidence.same_weights or evidence.challenger == evidence.champion:
        yield "nothing learned: the challenger has the champion's weights"
    elif panel is None or not (measured := _measured(panel)) or (panel.answered.of and not panel.answered.count):
        yield "no panel evidence"
        yield from _answers(evidence, policy)
    elif not panel.answered.of:
        yield "nothing learned: every answer is the champion's"
    else:
        yield from _whole(panel.whole, policy, _slack(evidence, policy))
        for workflow in measured:
            yield from _workflow(workflow, policy)
        yield from _answers(evidence, policy)
    yield from halts(evidence)


def halts(evidence: Evidence) -> Iterator[str]:
    """What halts a cycle however good its challenger looks: a flaw that grows, or a reward that has gone astray."""
    for found in evidence.amplified:
        yield from (f"{gap.told()}, {found.of}" for gap in found.beyond)
    yield from (parting.told() for parting in evidence.partings if parting.parted)


def _measured(panel: Panel) -> tuple[WorkflowPanel, ...]:
    return tuple(sorted((w for w in panel.workflows if w.items), key=lambda w: w.workflow))


def _slack(evidence: Evidence, policy: GatePolicy) -> float:
    """How far below 0 the whole may lie."""
    return policy.tainted_margin if evidence.champion_tainted else 0.0


def _whole(whole: Estimate | None, policy: GatePolicy, slack: float) -> Iterator[str]:
    if whole is None or whole.bootstrap is None:
        yield "too few answers to say anything of the whole"
        return
    assert whole.bootstrap.confidence == policy.confidence, "the whole's interval is of another confidence"
    if whole.bootstrap.high < -slack:
        yield f"worse on the whole: {_told(whole, whole.bootstrap)}"
    elif whole.bootstrap.low <= -slack:
        found = f"; {whole.detectable:.3f} could have been found" if whole.detectable is not None else ""
        shown = f"not to be worse by more than {slack:.2f}" if slack else "to be better"
        yield f"not shown {shown} on the whole: {_told(whole, whole.bootstrap)}{found}"


def _workflow(found: WorkflowPanel, policy: GatePolicy) -> Iterator[str]:
    """A workflow that has items must have been answered, and not be worse by more than its margin."""
    name, margin = found.workflow, policy.margin(found.workflow)
    answered, difference = found.answered, found.difference
    if answered.value is not None and answered.value < policy.least_answered:
        yield (
            f"{name}: {answered.count} of {answered.of} comparisons answered, expected at least "
            f"{policy.least_answered:.0%}"
        )
    if difference is None or difference.bootstrap is None or difference.n < policy.least_items:
        scored = 0 if difference is None else difference.n
        yield f"{name}: {scored} items scored, expected at least {policy.least_items}"
        return
    interval = difference.bootstrap
    assert interval.confidence == policy.workflow_confidence, f"{name}: the interval is of another confidence"
    if interval.high < -margin:
        yield f"{name}: worse by more than {margin:.2f}: {_told(difference, interval)}"
    elif interval.low <= -margin:
        yield f"{name}: may be worse by more than {margin:.2f}, too few to say: {_told(difference, interval)}"


def _answers(evidence: Evidence, policy: GatePolicy) -> Iterator[str]:
    for found in sorted(evidence.answers, key=lambda a: a.workflow):
        new, old = found.challenger_parses.value, found.champion_parses.value
        if new is not None and old is not None and new < old - policy.format_margin:
            yield f"{found.workflow}: {new:.1%} of the answers parse, of the champion's {old:.1%}"
        yield from _collapse(found, policy)


def _collapse(found: AnswerEvidence, policy: GatePolicy) -> Iterator[str]:
    name, new, old = found.workflow, found.challenger, found.champion
    if new.entropy < policy.least_entropy * old.entropy:
        yield f"{name}: answers have collapsed: entropy {new.entropy:.2f} bits, the champion's {old.entropy:.2f}"
    if new.distinct_2 < policy.least_entropy * old.distinct_2:
        yield f"{name}: answers have collapsed: distinct-2 {new.distinct_2:.3f}, the champion's {old.distinct_2:.3f}"
    if new.most_common > max(policy.most_common, old.most_common):
        yield f"{name}: one answer makes up {new.most_common:.0%}, of the champion's {old.most_common:.0%}"


def _not_measured(evidence: Evidence) -> tuple[str, ...]:
    measured = {w.workflow for w in evidence.panel.workflows if w.items} if evidence.panel else set()
    return tuple(f"{name}: not measured" for name in evidence.expected if name not in measured)


def _told(estimate: Estimate, interval: Interval) -> str:
    return (
        f"{estimate.mean:+.3f} ({interval.confidence:.0%} interval {interval.low:+.3f} to {interval.high:+.3f}, "
        f"{estimate.n} items)"
    )
