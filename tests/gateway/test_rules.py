"""What the edge says of an event is what the row contract says when it lands."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from loop.collect.events import Event, to_table
from loop.gateway import rules
from loop.validate import contract
from tests.gateway.fronts import whole

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
SHOWN = NOW - timedelta(minutes=30)
_TIME = st.sampled_from(
    [
        None,
        SHOWN,
        SHOWN - timedelta(seconds=1),
        SHOWN + timedelta(minutes=4),
        NOW,
        NOW + timedelta(minutes=5),
        NOW + timedelta(minutes=5, microseconds=1),
        datetime(2020, 12, 31, 23, 59, 59, tzinfo=UTC),
        datetime(2021, 1, 1, tzinfo=UTC),
    ]
)
_ID = st.sampled_from([None, "", "a", "x" * 200, "x" * 201, "a\x00", "a\x7f", "\x80", "á é", "\u200b", "e-1"])
_TEXT = st.sampled_from([None, "", "target newcomers", "target regulars", "other", "x" * 20_000, "x" * 20_001])
_TAGS = st.sampled_from([[], ["a"], ["deleted"], ["clock_backwards"], ["x" * 201], ["a"] * 101, [""]])
_REAL = st.sampled_from([None, 0.0, -0.1, 0.5, 1.0, 1.0000001, float("nan"), float("inf")])
_LOGPROB = st.sampled_from([None, 0.0, -3.0, 1e-7, 1e-5, float("-inf"), float("inf"), float("nan")])
_CANDIDATE = st.fixed_dictionaries(
    {
        "position": st.sampled_from([0, 0, 1, 1, 2, -1]),
        "text": st.sampled_from(["target newcomers", "target regulars", "x" * 20_001]),
        "logprob": _LOGPROB,
    }
)
_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "event_id": _ID.filter(lambda text: text is not None),
    "suggestion_id": _ID.filter(lambda text: text is not None),
    "model_version": _ID.filter(lambda text: text is not None),
    "revises": _ID,
    "episode_id": _ID,
    "task_id": _ID,
    "team": _ID,
    "region": _ID,
    "workflow": st.sampled_from(["ads", "comms", "poetry", ""]),
    "shown_at": _TIME.filter(lambda time: time is not None),
    "decided_at": _TIME,
    "received_at": _TIME,
    "decision": st.sampled_from(["accept", "modify", "reject", "ignore", "maybe"]),
    "chosen": st.sampled_from([None, 0, 1, 2, -1]),
    "final_text": _TEXT,
    "reasons": _TAGS,
    "visibility": _TAGS,
    "purposes": st.sampled_from([[], ["training"], ["training", "evaluation"], ["spying"], ["training"] * 101]),
    "dwell_ms": st.sampled_from([None, 0, -1, 2**62]),
    "turn": st.sampled_from([None, 0, -1, 7]),
    "arm_propensity": _REAL,
    "order_propensity": _REAL,
    "prompt": st.lists(
        st.fixed_dictionaries(
            {
                "role": st.sampled_from(["user", "user", "tool", "poet"]),
                "content": st.sampled_from(["", "a", "x" * 2_000, "x" * 2_001]),
            }
        ),
        max_size=3,
    ),
    "candidates": st.lists(_CANDIDATE, max_size=3),
}


@st.composite
def events(draw: Callable[..., Any]) -> Event:
    """An event that breaks no rule, but for up to three of its fields."""
    sound = whole(shown_at=SHOWN, decided_at=SHOWN + timedelta(seconds=9), event_id="e-1")
    names = draw(st.lists(st.sampled_from(sorted(_FIELDS)), max_size=3, unique=True))
    return msgspec.convert(sound | {name: draw(_FIELDS[name]) for name in names}, Event)


@limits(max_examples=25, deadline=None)
@given(st.lists(events(), min_size=20, max_size=60))
def test_the_edge_and_the_contract_agree(given: list[Event]) -> None:
    rows = to_table(given, key=None, source="gateway", now=NOW)
    good, bad = contract.split(rows, now=NOW)
    told = [rules.breach(event, NOW) for event in given]
    assert [breach is None for breach in told].count(True) == good.num_rows
    breaches = iter(bad["breaches"].to_pylist())
    for breach in told:
        if breach is not None:
            assert breach[0].value in next(breaches)
    assert next(breaches, None) is None


def test_every_rule_of_the_contract_can_be_broken_by_what_is_drawn() -> None:
    """Or the agreement would be an agreement on nothing."""
    reasons: set[str] = set()

    @limits(max_examples=60, deadline=None, derandomize=True)
    @given(st.lists(events(), min_size=60, max_size=60))
    def drawn(given: list[Event]) -> None:
        reasons.update(breach[0].value for breach in (rules.breach(event, NOW) for event in given) if breach)

    drawn()
    assert reasons == {rule.reason.value for rule in contract.RULES}
