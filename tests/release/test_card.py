"""The card tells every fact once, and says what was not measured."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

import pyarrow as pa

from loop.evaluate.amplification import Amplification, Gap
from loop.evaluate.diversity import Diversity
from loop.evaluate.evidence import Figures
from loop.evaluate.gate import AnswerEvidence, Evidence
from loop.evaluate.heldout import Guess, HeldOut
from loop.evaluate.panel import Panel, WorkflowPanel
from loop.evaluate.parting import Parting
from loop.evaluate.stats import Estimate, Interval, Share
from loop.release.card import Count, Facts, card, counts, evidence

BEFORE = Facts(
    version="m-2",
    parent="m-1",
    cycle=date(2026, 3, 2),
    seed=7,
    code="0.1.0",
    weights_digest="a" * 64,
    training_digest="d" * 64,
    cutoff=datetime(2026, 3, 3, tzinfo=UTC),
    demonstrations=(Count("comms", "edited", 5), Count("ads", "accepted", 40), Count("ads", "edited", 9)),
    preferences=(Count("ads", "choice", 50),),
    recipe={"sft": {"steps": 60}, "dpo": {"steps": 30, "beta": 0.1}},
)


def estimate(mean: float, n: int) -> Estimate:
    return Estimate(mean, n, n, 0.9, Interval(mean - 0.1, mean + 0.1, 0.9), None, 0.125)


def figures() -> Figures:
    ads = WorkflowPanel("ads", 200, 20, Share(180, 180), 90, 50, estimate(0.2, 200))
    panel = Panel((ads,), estimate(0.2, 200), Share(180, 180), 3, Share(80, 140), 0.15)
    new, old = Diversity(200, 0.5, 0.1, 5.0, 0.3, 0.4, 0.2), Diversity(200, 0.6, 0.05, 6.0, 0.3, 0.5, 0.2)
    answers = AnswerEvidence("ads", Share(198, 200), Share(200, 200), new, old)
    guesses = (Guess("earlier position", estimate(0.6, 90), ties=0), Guess("more probable when served", None, 0, 90))
    held = HeldOut("comms", 4, 90, guesses, 0, (), 30, -2.5, -2.75, estimate(0.25, 30))
    return Figures(Evidence("m-2", "m-1", False, panel, (answers,), ("ads", "design")), (held,))


def test_before_anything_is_known_the_card_says_so() -> None:
    text = card(BEFORE)
    assert text.startswith("# Model m-2\n\nNot decided on yet.\n")
    assert "\n- parent: m-1\n" in text
    assert "\n- events received before: 2026-03-03T00:00:00+00:00\n" in text
    assert "\n54 demonstrations, 50 preferences.\n" in text
    assert "\n| demonstrations | ads | accepted | 40 |\n| demonstrations | ads | edited | 9 |\n" in text
    assert '\n| dpo | {"beta": 0.1, "steps": 30} |\n' in text
    assert "\nNot evaluated yet.\n" in text


def test_a_decided_card_carries_figures_and_reasons() -> None:
    text = card(replace(BEFORE, figures=figures(), decision="promoted", reasons=("better on the whole", "no worse")))
    assert "\n**promoted**, for these reasons:\n\n- better on the whole\n- no worse\n" in text
    assert "\n| whole | 180 of 180 | +0.200 | +0.100 to +0.300 (90%) | 0.900 | 0.125 |\n" in text
    assert "\n| design | not measured | not measured | not measured | not measured | not measured |\n" in text
    assert (
        "The left answer was preferred in 80 of 140; the whole without the member who favours it most: +0.150." in text
    )
    assert "\n| ads | 198 of 200 / 200 of 200 | 5.00 / 6.00 | 0.400 / 0.500 | 10.0% / 5.0% |\n" in text
    assert "challenger -2.500, champion -2.750, difference +0.250 (+0.150 to +0.350 (90%))." in text
    assert "\n| earlier position | 60.0% | +0.500 to +0.700 (90%) | 90 | 0 | 0 |\n" in text
    assert "\n| more probable when served | not measured | not measured | 0 | 0 | 90 |\n" in text


def test_the_figures_stand_alone_too() -> None:
    alone = evidence(figures())
    assert alone.startswith("Challenger m-2 against champion m-1.\n\nBlind side-by-side by 3 people")
    assert alone in card(replace(BEFORE, figures=figures()))


def test_gaps_and_outcomes_are_shown_where_they_were_measured() -> None:
    gap = Gap("ads", "team", "north", "claim=unbeatable", 0.05, 0.45, 0.4, 0.12, (80, 60))
    seen = (Amplification("ads", 40, (gap,)), Amplification("design", 0, ()))
    parting = Parting("ads", "click", "m-0", "m-1", (400, 300), (0.5, 0.7), (0.3, 0.1), 0.1, -0.1)
    made = figures()
    text = evidence(replace(made, evidence=replace(made.evidence, amplified=seen, partings=(parting,))))
    assert "\n| ads | challenger | 40 compared |  |  |  |\n" in text
    widened = "0.40 (at least 0.12, **beyond the bound**)"
    assert f"\n| claim=unbeatable | team north | 80 / 60 rows | +0.05 | +0.45 | {widened} |\n" in text
    assert "\n| design | challenger | not measured |  |  |  |\n" in text
    assert "\n| ads | click | m-0 -> m-1 | 50.0% -> 70.0% | +0.300 -> +0.100 | **parted** |" in text


def test_labels_are_counted_by_workflow_and_kind() -> None:
    labels = pa.table({"workflow": ["ads", "ads", "comms"], "kind": ["edit", "edit", "edit"]})
    assert set(counts(labels)) == {Count("ads", "edit", 2), Count("comms", "edit", 1)}
    assert counts(labels.slice(0, 0)) == ()


def test_a_base_learned_from_no_decisions() -> None:
    base = replace(BEFORE, parent=None, training_digest=None, cutoff=None, demonstrations=(), preferences=())
    text = card(base)
    assert "\n- parent: none, it is a base\n" in text
    assert "\n- events received before: no events\n" in text
    assert "\n## Trained on\n\nNo decisions.\n" in text


def test_nobody_asked_is_not_measured() -> None:
    nobody = Figures(Evidence("m-2", "m-1", False, None, (), ("ads",)))
    assert "Blind side-by-side: not measured" in card(replace(BEFORE, figures=nobody))


def test_the_same_facts_give_the_same_card_and_text_breaks_no_table() -> None:
    shuffled = replace(BEFORE, demonstrations=tuple(reversed(BEFORE.demonstrations)))
    assert card(shuffled) == card(BEFORE)
    assert '| note | "a\\|b\\nc" |' in card(replace(BEFORE, recipe={"note": "a|b\nc"}))
