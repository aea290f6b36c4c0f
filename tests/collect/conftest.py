"""One good event, and how to change it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import msgspec
import pytest

from loop.config import Settings
from loop.services import ensure_postgres
from loop.state import State

hypothesis.settings.register_profile("loop", deadline=None)  # the machine is shared
hypothesis.settings.load_profile("loop")

GOOD: dict[str, Any] = {
    "event_id": "e1",
    "suggestion_id": "s1",
    "revises": None,
    "episode_id": "episode-1",
    "turn": 0,
    "task_id": None,
    "workflow": "ads",
    "shown_at": "2026-01-05T08:00:00Z",
    "decided_at": "2026-01-05T08:00:05Z",
    "received_at": "2026-01-05T08:00:06Z",
    "employee": "alice@example.org",
    "team": "north",
    "region": None,
    "visibility": [],
    "prompt": [{"role": "user", "content": "brief"}],
    "candidates": [{"position": 0, "text": "one", "logprob": -1.5}, {"position": 1, "text": "two", "logprob": None}],
    "model_version": "m1",
    "arm_propensity": 0.5,
    "order_propensity": 0.5,
    "decision": "accept",
    "chosen": 1,
    "final_text": "two",
    "reasons": [],
    "dwell_ms": 5000,
    "purposes": ["training", "evaluation"],
}


@pytest.fixture(scope="session")
def line() -> Callable[..., bytes]:
    """The good event as a line of JSON with some fields changed; a field set to `...` is left out."""

    def make(**changes: Any) -> bytes:
        return msgspec.json.encode({name: value for name, value in {**GOOD, **changes}.items() if value is not ...})

    return make


@pytest.fixture
def state(settings: Settings) -> Iterator[State]:
    opened = State.open(ensure_postgres(settings).loop)
    yield opened
    opened.close()
