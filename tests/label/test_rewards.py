"""Late results as rewards: whose they are, what sign they have, when they are mature, and what is set aside."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from loop import schema
from loop.home import Home
from loop.label import rewards
from loop.lake import from_rows
from tests.rows import DAY, NOON, decision, interactions

LATER = NOON + timedelta(days=1)


def outcome(number: int, event: str | None, name: str = "reply", value: float = 1.0) -> dict[str, Any]:
    return {
        "outcome_id": f"o{number}",
        "suggestion_id": f"s{number}",
        "event_id": event,
        "day": DAY,
        "workflow": "comms",
        "name": name,
        "value": value,
        "observed_at": LATER,
        "received_at": LATER + timedelta(hours=2),
        "source": "gateway",
        "content": f"c{number}",
    }


def build(home: Home, decisions: list[dict[str, Any]], outcomes: list[dict[str, Any]]) -> rewards.Rewarded:
    home.lake.overwrite("interactions", interactions(*decisions), day=DAY, workflow="comms")
    home.lake.overwrite("outcomes", from_rows(outcomes, schema.OUTCOMES), day=DAY, workflow="comms")
    return rewards.build(home.settings.model_copy(update={"held_out_share": 0.0}), home.lake, home.state, DAY, "comms")


def test_a_result_rewards_the_text_that_stood_in_the_end(home: Home) -> None:
    made = build(home, [decision(1, "modify", 0, "first, changed")], [outcome(1, "e1", value=2.0), outcome(2, "e1")])
    assert (made.outcomes, made.rewards, made.set_aside) == (2, 2, {})
    row = home.lake.read("rewards").sort_by("outcome_id").to_pylist()[0]
    told = ("outcome_id", "event_id", "name", "value", "reward", "answer", "split", "weight", "superseded_at")
    assert [row[name] for name in told] == ["o1", "e1", "reply", 2.0, 2.0, "first, changed", "train", 1.0, None]
    decided = NOON + timedelta(seconds=6)
    assert (row["matures_at"], row["known_at"]) == (decided + timedelta(days=3), LATER + timedelta(hours=2))


def test_what_rewards_nothing_is_counted_by_reason(home: Home) -> None:
    made = build(
        home,
        [
            decision(1, "reject"),
            decision(2, "accept", 0, "first", purposes=["evaluation"]),
            decision(3, "accept", 0, "first", batch=""),
            decision(4, "modify", 0, ""),
            decision(5, "accept", 0, "first"),
        ],
        [*(outcome(n, f"e{n}") for n in range(1, 6)), outcome(6, None), outcome(7, "e5", "laughter")],
    )
    assert made.rewards == 1
    assert made.set_aside == {
        "a result of what was not used": 1,
        "no consent to training": 1,
        "its decision is of no batch yet": 1,
        "what was used in the end is not known": 1,
        "put down to no decision: outside the attribution window, or unknown": 1,
        "a result that the workflow does not judge": 1,
    }


def test_less_is_better_where_the_workflow_says_so(home: Home) -> None:
    where: dict[str, Any] = {"workflow": "moderation"}
    home.lake.overwrite("interactions", interactions(decision(1, "accept", 0, "first", **where)), day=DAY, **where)
    told = outcome(1, "e1", "appeal_overturned") | where
    home.lake.overwrite("outcomes", from_rows([told], schema.OUTCOMES), day=DAY, **where)
    assert rewards.build(home.settings, home.lake, home.state, DAY, "moderation").rewards == 1
    assert home.lake.read("rewards")["reward"].to_pylist() == [-1.0]


def test_where_nothing_came_of_anything_nothing_is_written(home: Home) -> None:
    home.lake.overwrite("interactions", interactions(decision(1, "accept", 0, "first")), day=DAY, workflow="comms")
    assert rewards.build(home.settings, home.lake, home.state, DAY, "comms").outcomes == 0
    assert home.lake.partitions("rewards") == []


def test_a_result_that_was_taken_back_leaves_no_reward(home: Home) -> None:
    build(home, [decision(1, "accept", 0, "first")], [outcome(1, "e1")])
    assert build(home, [decision(1, "accept", 0, "first")], []).rewards == 0
    assert home.lake.read("rewards").num_rows == 0
