"""From comparisons and answers to evidence, JSON and metrics."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime

import pyarrow as pa
import pytest

from loop import schema
from loop.evaluate import evidence, panel
from loop.evaluate.gate import Decision, GatePolicy, decide
from loop.lake import from_rows
from loop.workflows import WORKFLOWS

CYCLE = date(2026, 3, 2)
POLICY = GatePolicy(default_margin=0.3)
PARTS = {name: {part: values[0] for part, values in w.parts.items()} for name, w in WORKFLOWS.items()}


def compared(workflow: str, count: int, *, broken: int = 0) -> pa.Table:
    """Comparisons whose answers all parse but for the challenger's first `broken`; every answer is different."""
    first = next(iter(PARTS[workflow]))
    render = WORKFLOWS[workflow].render
    items = from_rows(
        [
            {
                "item_id": f"{workflow}{i}",
                "day": CYCLE,
                "workflow": workflow,
                "prompt": [{"role": "user", "content": "?"}],
            }
            for i in range(count)
        ],
        schema.BENCHMARK,
    )
    new, old = ([render({**PARTS[workflow], first: f"{who} {i}"}) for i in range(count)] for who in ("new", "old"))
    return panel.side_by_side(
        items,
        cycle=CYCLE,
        attempt=1,
        challenger="m2",
        champion="m1",
        challenger_answers=[answer if i >= broken else f"??? {i}" for i, answer in enumerate(new)],
        champion_answers=old,
        seed=0,
    )


def preferring_the_challenger(comparisons: pa.Table, share: float) -> pa.Table:
    rows = comparisons.to_pylist()
    return from_rows(
        [
            {
                "comparison_id": row["comparison_id"],
                "employee": f"e{i % 4}",
                "choice": row["challenger_side"] if i < share * len(rows) else "tie",
                "answered_at": datetime(2026, 3, 2, 12, tzinfo=UTC),
                "dwell_ms": None,
            }
            for i, row in enumerate(rows)
        ],
        schema.ANSWERS,
    )


def gathered(comparisons: pa.Table, answers: pa.Table, **given: object) -> evidence.Evidence:
    known = {"challenger": "m2", "champion": "m1", "same_weights": False, "policy": POLICY, "seed": 0, **given}
    return evidence.gather(comparisons, answers, **known)  # type: ignore[arg-type]


def test_the_whole_way_from_comparisons_to_a_promotion() -> None:
    comparisons = pa.concat_tables([compared("ads", 60, broken=2), compared("design", 40)])
    found = gathered(comparisons, preferring_the_challenger(comparisons, 0.7))
    assert [a.workflow for a in found.answers] == ["ads", "design"]
    ads = found.answers[0]
    assert (ads.challenger_parses.count, ads.champion_parses.count, ads.champion_parses.of) == (58, 60, 60)
    assert (ads.challenger.answers, ads.challenger.unique) == (60, 1.0)
    assert found.panel is not None
    assert found.panel.whole is not None
    assert found.panel.whole.mean == pytest.approx((1.0 + 0.25) / 2)
    verdict = decide(found, POLICY)
    assert verdict.decision is Decision.PROMOTED
    assert verdict.reasons[-2:] == ("moderation: not measured", "comms: not measured")


def test_without_items_there_is_no_panel() -> None:
    found = gathered(schema.COMPARISONS.empty(), schema.ANSWERS.empty())
    assert found.panel is None
    assert found.answers == ()
    assert decide(found, POLICY).reasons[0] == "no panel evidence"


def test_unanswered_comparisons_are_no_panel_evidence() -> None:
    found = gathered(compared("ads", 40), schema.ANSWERS.empty())
    assert found.panel is not None
    assert decide(found, POLICY).reasons[0] == "no panel evidence"


def test_comparisons_of_other_models_are_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError, match="hold others: \\['m2'\\]"):
        gathered(compared("ads", 2), schema.ANSWERS.empty(), challenger="m3")


def test_json_gives_back_the_same_figures() -> None:
    comparisons = compared("ads", 30)
    figures = evidence.Figures(gathered(comparisons, preferring_the_challenger(comparisons, 0.5)))
    text = evidence.to_json(figures)
    assert evidence.from_json(text) == figures
    assert json.loads(text)["evidence"]["panel"]["whole"]["mean"] == pytest.approx(0.5)
    empty = evidence.Figures(gathered(schema.COMPARISONS.empty(), schema.ANSWERS.empty()))
    assert evidence.from_json(evidence.to_json(empty)) == empty


def test_metrics_leave_out_what_was_not_measured() -> None:
    comparisons = compared("ads", 30)
    found = evidence.metrics(evidence.Figures(gathered(comparisons, preferring_the_challenger(comparisons, 0.5))))
    assert found["panel/whole"] == found["panel/ads"] == pytest.approx(0.5)
    assert found["panel/ads/low"] < 0.5 < found["panel/ads/high"]
    assert found["answers/ads/parse"] == 1.0
    assert not [name for name in found if "design" in name]
    unanswered = evidence.metrics(evidence.Figures(gathered(comparisons, schema.ANSWERS.empty())))
    assert set(unanswered) == {"answers/ads/entropy", "answers/ads/parse"}


def test_the_house_policy_states_every_workflow_on_the_scale_of_differences() -> None:
    policy = evidence.house_policy()
    assert set(policy.margins) == set(schema.WORKFLOWS)
    for name, workflow in WORKFLOWS.items():
        assert policy.margin(name) == 2 * workflow.margin
