"""Gathers what the gate reads, from comparisons and answers, and writes it as JSON. Decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from loop import schema
from loop.evaluate.amplification import Amplification
from loop.evaluate.diversity import diversity
from loop.evaluate.gate import AnswerEvidence, Evidence, GatePolicy
from loop.evaluate.heldout import HeldOut
from loop.evaluate.panel import answers_of_models, score
from loop.evaluate.parting import Parting
from loop.evaluate.stats import Estimate, Share
from loop.workflows import WORKFLOWS


@dataclass(frozen=True)
class Figures:
    """All that was found out about a challenger: what the gate reads, and what only informs."""

    evidence: Evidence
    held_out: tuple[HeldOut, ...] = ()
    """Of imported or held-out decisions; empty where there are none."""


def house_policy() -> GatePolicy:
    """The gate's policy with the margins of the workflows.

    A workflow states its margin as a win rate below 1/2 with ties counted half; as a difference of shares it is twice
    that.
    """
    return GatePolicy(margins={name: 2 * workflow.margin for name, workflow in WORKFLOWS.items()})


def gather(  # noqa: PLR0913 - one argument a fact
    comparisons: pa.Table,
    answers: pa.Table,
    *,
    challenger: str,
    champion: str,
    same_weights: bool,
    policy: GatePolicy,
    seed: int,
    expected: Sequence[str] = schema.WORKFLOWS,
    amplified: Sequence[Amplification] = (),
    partings: Sequence[Parting] = (),
) -> Evidence:
    """What the gate may know of the challenger.

    Args:
        comparisons: of one cycle and attempt, schema `comparisons`, all of these two models.
        answers: of the panel so far, schema `answers`.
        policy: at whose confidences the intervals are made.
        seed: of the bootstrap.
        amplified: what `amplification` found.
        partings: what `parting` found.
    """
    for column, version in (("challenger", challenger), ("champion", champion)):
        others = set(comparisons[column].unique().to_pylist()) - {version}
        assert not others, f"comparisons of {column} {version} hold others: {sorted(others)}"
    panel = None
    if comparisons.num_rows:
        panel = score(comparisons, answers, seed=seed, confidence=(policy.confidence, policy.workflow_confidence))
    present = set(comparisons["workflow"].to_pylist())
    return Evidence(
        challenger=challenger,
        champion=champion,
        same_weights=same_weights,
        panel=panel,
        answers=tuple(_answers(comparisons, name) for name in schema.WORKFLOWS if name in present),
        expected=tuple(expected),
        amplified=tuple(amplified),
        partings=tuple(partings),
    )


def to_json(figures: Figures) -> str:
    """For the column `evidence` of `releases`; `from_json` gives back an equal value."""
    return msgspec.json.encode(figures, order="deterministic").decode()


def from_json(text: str) -> Figures:
    return msgspec.json.decode(text, type=Figures)


def metrics(figures: Figures) -> dict[str, float]:
    """The figures worth a place beside the training curves, by name; what was not measured is left out."""
    found: dict[str, float | None] = {}
    if (panel := figures.evidence.panel) is not None:
        found["panel/left"] = panel.left.value
        for name, estimate in (("whole", panel.whole), *((w.workflow, w.difference) for w in panel.workflows)):
            found |= _interval(f"panel/{name}", estimate)
    for answers in figures.evidence.answers:
        found[f"answers/{answers.workflow}/entropy"] = answers.challenger.entropy
        found[f"answers/{answers.workflow}/parse"] = answers.challenger_parses.value
    for amplified in figures.evidence.amplified:
        widest = max((gap.widened for gap in amplified.widest), default=0.0)
        found[f"gaps/{amplified.workflow}/{amplified.of}/widest"] = widest if amplified.compared else None
    for parting in figures.evidence.partings:
        found[f"outcomes/{parting.workflow}/{parting.outcome}/rise"] = parting.value[1] - parting.value[0]
    for held in figures.held_out:
        found |= _interval(f"held_out/{held.workflow}/nats_gain", held.gain)
        for kind, guesses in (("choice", held.choice), ("edit", held.edit)):
            for guess in guesses:
                name = guess.name.replace(",", "").replace(" ", "_")
                found[f"held_out/{held.workflow}/{kind}/{name}"] = guess.accuracy.mean if guess.accuracy else None
    return {name: value for name, value in found.items() if value is not None}


def _interval(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    if estimate is None:
        return {}
    if estimate.bootstrap is None:
        return {name: estimate.mean}
    return {name: estimate.mean, f"{name}/low": estimate.bootstrap.low, f"{name}/high": estimate.bootstrap.high}


def _answers(comparisons: pa.Table, workflow: str) -> AnswerEvidence:
    new, old = answers_of_models(comparisons.filter(pc.equal(comparisons["workflow"], workflow)))
    new_variety, old_variety = diversity(new), diversity(old)
    assert new_variety is not None
    assert old_variety is not None
    return AnswerEvidence(workflow, _parses(workflow, new), _parses(workflow, old), new_variety, old_variety)


def _parses(workflow: str, answers: Sequence[str]) -> Share:
    parse = WORKFLOWS[workflow].parse
    return Share(sum(parse(answer) is not None for answer in answers), len(answers))
