"""Weights of labels: what a signal says of a decision, and how likely its place was looked at."""

from __future__ import annotations

import pyarrow as pa
import pytest

from loop.label.derive import Labels, derive
from loop.lake import from_rows
from loop.schema import SIGNALS
from tests.rows import DAY, decision, interactions


def signal(number: int, weight: float, examination: float | None = None) -> dict[str, object]:
    return {
        "event_id": f"e{number}",
        "day": DAY,
        "workflow": "comms",
        "weight": weight,
        "reasons": [],
        "examination": examination,
        "batch": "b",
    }


def labels(signals: pa.Table | None) -> Labels:
    rows = decision(1, "accept", 0, "first"), decision(2, "modify", 2, "better"), decision(3, "accept", 1, "second")
    return derive(interactions(*rows), held_out_share=0.0, signals=signals)


def weights(table: pa.Table, **wanted: str) -> list[float]:
    return sorted(r["weight"] for r in table.to_pylist() if all(r[k] == v for k, v in wanted.items()))


def test_a_signal_multiplies_and_an_unlikely_place_counts_in_full() -> None:
    signals = from_rows([signal(1, 0.5, 1.0), signal(2, 1.0, 0.25), signal(3, 0.0, 0.5)], SIGNALS)
    found = labels(signals)
    assert weights(found.demonstrations) == [0.0, 0.5, 1.0]
    assert weights(found.preferences, event_id="e1") == [pytest.approx(0.5 * 0.25 / 2)] * 2
    assert weights(found.preferences, event_id="e2", kind="choice") == [0.5, 0.5]
    assert weights(found.preferences, event_id="e2", kind="edit") == [1.0]
    assert weights(found.preferences, event_id="e3") == [0.0, 0.0]


def test_nothing_is_deleted_for_its_weight() -> None:
    none = from_rows([signal(n, 0.0, 1.0) for n in (1, 2, 3)], SIGNALS)
    weighed, plain = labels(none), labels(None)
    for name in ("demonstrations", "preferences"):
        assert getattr(weighed, name).drop_columns("weight") == getattr(plain, name).drop_columns("weight")
    assert weighed.set_aside == plain.set_aside


def test_without_signals_every_decision_says_all() -> None:
    assert labels(None).preferences["weight"].to_pylist() == labels(SIGNALS.empty()).preferences["weight"].to_pylist()
    assert weights(labels(None).demonstrations) == [1.0, 1.0, 1.0]


def test_what_has_no_signal_yet_counts_in_full() -> None:
    found = labels(from_rows([signal(1, 0.2)], SIGNALS))
    assert weights(found.demonstrations) == [0.2, 1.0, 1.0]
