"""Late results: landed once, put down to the decision on their suggestion, inside the workflow's window only."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from loop.collect import outcomes
from loop.collect.outcomes import Outcome
from loop.collect.record import Record
from loop.home import Home
from loop.validate import batches
from loop.workflows import WORKFLOWS
from tests.rows import DAY, NOON, decision, event, land

WINDOW = WORKFLOWS["comms"].attribution_window


def outcome(number: int, **other: Any) -> Outcome:
    """A click on the suggestion of decision `number`, an hour after noon."""
    values = {
        "outcome_id": f"o{number}",
        "suggestion_id": f"{DAY}-s{number}",
        "workflow": "comms",
        "day": DAY,
        "name": "click",
        "value": 1.0,
        "observed_at": NOON + timedelta(hours=1),
        "received_at": NOON + timedelta(hours=2),
    }
    return Outcome(**(values | other))


def brought(home: Home, *given: Outcome) -> outcomes.Landed:
    records = [Record(1, msgspec.json.encode(one), path="segment") for one in given]
    return outcomes.land(home.settings, home.state, records, source="gateway", name="test")


@pytest.fixture
def decided(home: Home) -> Home:
    """A home with two decisions, the first of which was revised an hour later."""
    first = decision(1, "accept", 0, "first")
    later = decision(1, "modify", 0, "first, changed", event_id="e1b", revises=f"{DAY}-e1")
    later |= {"received_at": NOON + timedelta(hours=1), "decided_at": NOON + timedelta(hours=1)}
    land(home, [event(first), event(later), event(decision(2, "reject"))])
    batches.build(home.settings, home.lake, home.state, DAY, "comms")
    return home


def test_sent_again_it_is_a_duplicate_with_other_content_a_conflict_that_is_kept(home: Home) -> None:
    assert brought(home, outcome(1), outcome(2)) == outcomes.Landed(2, 2, 0, 0, ((DAY, "comms"),))
    assert brought(home, outcome(1), outcome(2, value=3.0)) == outcomes.Landed(2, 0, 1, 1, ((DAY, "comms"),))
    assert brought(home, outcome(2, value=3.0)) == outcomes.Landed(1, 0, 0, 1, ())
    batches.build(home.settings, home.lake, home.state, DAY, "comms")
    [kept] = home.lake.read("quarantine").to_pylist()
    assert (kept["reasons"], kept["workflow"], kept["day"]) == (["conflict"], "comms", DAY)
    assert '"value":3.0' in kept["raw"]


def test_one_id_twice_in_a_batch_counts_once(home: Home) -> None:
    assert brought(home, outcome(1), outcome(1)) == outcomes.Landed(2, 1, 1, 0, ((DAY, "comms"),))


def test_when_it_was_received_is_no_content(home: Home) -> None:
    brought(home, outcome(1))
    assert brought(home, outcome(1, received_at=NOON + timedelta(days=1))).duplicates == 1


def test_it_is_put_down_to_the_last_decision(decided: Home) -> None:
    brought(decided, outcome(1), outcome(2))
    assert outcomes.build(decided.settings, decided.lake, decided.state, DAY, "comms") == (2, 2)
    rows = decided.lake.read("outcomes").to_pylist()
    assert {row["outcome_id"]: row["event_id"] for row in rows} == {"o1": f"{DAY}-e1b", "o2": f"{DAY}-e2"}


@pytest.mark.parametrize(
    ("observed", "attributed"),
    [
        (NOON + timedelta(seconds=1), False),  # before it was shown
        (NOON + timedelta(seconds=2), True),
        (NOON + timedelta(seconds=7) + WINDOW, True),
        (NOON + timedelta(seconds=7) + WINDOW + timedelta(microseconds=1), False),
    ],
)
def test_only_inside_the_window(decided: Home, observed: Any, attributed: bool) -> None:
    brought(decided, outcome(2, observed_at=observed))
    assert outcomes.build(decided.settings, decided.lake, decided.state, DAY, "comms") == (1, int(attributed))


def test_one_that_comes_before_its_decision_waits_for_it(home: Home) -> None:
    brought(home, outcome(2))
    assert outcomes.build(home.settings, home.lake, home.state, DAY, "comms") == (1, 0)
    land(home, [event(decision(2, "reject"))])
    batches.build(home.settings, home.lake, home.state, DAY, "comms")
    assert outcomes.build(home.settings, home.lake, home.state, DAY, "comms") == (1, 1)


def test_a_partition_without_any_is_not_made(decided: Home) -> None:
    assert outcomes.build(decided.settings, decided.lake, decided.state, DAY, "comms") == (0, 0)
    assert decided.lake.partitions("outcomes") == []
