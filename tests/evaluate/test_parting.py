"""Acceptance up and outcome down is told, and nothing else is."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from loop import schema
from loop.evaluate.parting import LEAST, partings
from loop.lake import from_rows
from loop.workflows import WORKFLOWS

NOW = datetime(2026, 3, 1, tzinfo=UTC)
OLD = NOW - WORKFLOWS["moderation"].attribution_window - timedelta(days=1)
N = 400


def decision(key: str, version: str, taken: bool, **changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {column.name: None for column in schema.INTERACTIONS.columns if column.nullable}
    row |= {
        "event_id": f"e-{key}",
        "suggestion_id": f"s-{key}",
        "workflow": "moderation",
        "day": OLD.date(),
        "shown_at": OLD,
        "received_at": OLD,
        "employee": "p_1",
        "visibility": [],
        "prompt": [],
        "candidates": [],
        "model_version": version,
        "decision": "accept" if taken else "reject",
        "reasons": [],
        "purposes": [],
        "source": "gateway",
        "content": "",
        "batch": "",
    }
    return row | changes


def outcome(key: str, value: float = 1.0, name: str = "appeal_overturned") -> dict[str, Any]:
    return {
        "outcome_id": f"o-{key}-{name}",
        "suggestion_id": f"s-{key}",
        "event_id": f"e-{key}",
        "day": date(2026, 1, 1),
        "workflow": "moderation",
        "name": name,
        "value": value,
        "observed_at": NOW,
        "received_at": NOW,
        "source": "gateway",
        "content": "",
    }


def served(version: str, taken: int, overturned: int, n: int = N, **changes: Any) -> tuple[list[Any], list[Any]]:
    keys = [f"{version}-{i}" for i in range(n)]
    rows = [decision(key, version, i < taken, **changes) for i, key in enumerate(keys)]
    return rows, [outcome(key) for key in keys[:overturned]]


def found(*parts: tuple[list[Any], list[Any]], versions: tuple[str, ...] = ("m1", "m2")) -> list[Any]:
    rows = from_rows([row for part, _ in parts for row in part], schema.INTERACTIONS)
    results = from_rows([row for _, part in parts for row in part], schema.OUTCOMES)
    return partings(rows, results, versions=versions, now=NOW)


def test_more_is_taken_and_more_of_it_overturned() -> None:
    [one] = found(served("m1", 200, 10), served("m2", 300, 90))
    assert (one.workflow, one.outcome, one.earlier, one.later) == ("moderation", "appeal_overturned", "m1", "m2")
    assert (one.suggestions, one.acceptance) == ((400, 400), (0.5, 0.75))
    assert one.value == (pytest.approx(-0.05), pytest.approx(-0.3))
    assert one.acceptance_low == pytest.approx(0.25 - 2.5758 * (0.25 / 400 + 0.7488 * 0.2512 / 400) ** 0.5, abs=1e-4)
    assert one.parted
    assert "part company since m2 serves: taken 50.0% -> 75.0%" in one.told()


@pytest.mark.parametrize(
    ("taken", "overturned"),
    [(300, 15), (200, 60), (100, 90), (210, 60)],
    ids=["taken more, no worse", "no more taken", "taken less", "hardly more taken"],
)
def test_either_alone_is_no_parting(taken: int, overturned: int) -> None:
    [one] = found(served("m1", 200, 10), served("m2", taken, overturned))
    assert not one.parted


def test_what_may_still_have_an_outcome_is_not_looked_at() -> None:
    young = {"shown_at": NOW - timedelta(days=2)}
    assert found(served("m1", 200, 10), served("m2", 300, 90, **young)) == []


def test_the_last_two_versions_that_served_enough() -> None:
    parts = (
        served("m0", 100, 5),
        served("m1", 200, 10),
        served("m2", LEAST - 1, 0, n=LEAST - 1),
        served("m3", 300, 90),
    )
    [one] = found(*parts, versions=("m0", "m1", "m2", "m3"))
    assert (one.earlier, one.later) == ("m1", "m3")


def test_without_outcomes_or_with_others_nothing_is_measured() -> None:
    quiet = (served("m1", 200, 0), served("m2", 300, 0))
    assert found(*quiet) == []
    rows, _ = served("m2", 300, 0)
    assert found(served("m1", 200, 0), (rows, [outcome("m2-1", name="applause")])) == []


def test_the_last_decision_on_a_suggestion_counts() -> None:
    first, results = served("m2", 300, 90)
    later = {"event_id": "again", "revises": "e-m2-0", "decision": "reject", "received_at": OLD + timedelta(hours=1)}
    [one] = found(served("m1", 200, 10), ([*first, {**first[0], **later}], results))
    assert one.acceptance[1] == 299 / 400


def test_empty_tables_are_nothing_measured() -> None:
    empty: pa.Table = schema.INTERACTIONS.empty()
    assert partings(empty, schema.OUTCOMES.empty(), versions=("m1", "m2"), now=NOW) == []
