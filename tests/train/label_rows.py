"""What the tests of training are about: a tiny network, things to paint, and label rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pyarrow as pa

from loop import schema
from loop.models import Messages
from loop.train import nano

SHAPE = nano.Shape(vocabulary=300, hidden=32, layers=1, heads=2, inner=64)
THINGS = ("door", "wall", "roof", "gate", "fence", "boat")
COLOURS = ("red", "green", "blue", "black")
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SOURCE = {
    "event_id": "e",
    "suggestion_id": "s",
    "day": NOON.date(),
    "workflow": "design",
    "employee": "p",
    "episode_id": None,
    "task_id": None,
    "split": "train",
    "weight": 1.0,
    "received_at": NOON,
    "superseded_at": None,
    "batch": "b",
}


def ask(text: str) -> Messages:
    return [{"role": "user", "content": text}]


def demonstrations(given: Sequence[tuple[str, str] | tuple[str, str, float]]) -> pa.Table:
    """Rows of (prompt, answer[, weight])."""
    rows = [
        {**SOURCE, "demonstration_id": f"d{i:05d}", "kind": "edited", "prompt": ask(prompt), "answer": answer}
        | ({"weight": rest[0]} if rest else {})
        for i, (prompt, answer, *rest) in enumerate(given)
    ]
    return pa.Table.from_pylist(rows, schema=schema.DEMONSTRATIONS.arrow)


def preferences(given: Sequence[tuple[str, str, str] | tuple[str, str, str, float]]) -> pa.Table:
    """Rows of (prompt, chosen, rejected[, weight])."""
    rows = [
        {**SOURCE, "preference_id": f"p{i:05d}", "kind": "choice", "prompt": ask(prompt), "chosen": chosen}
        | {"rejected": rejected, "chosen_position": 0, "rejected_position": 1}
        | {"chosen_logprob": None, "rejected_logprob": None}
        | ({"weight": rest[0]} if rest else {})
        for i, (prompt, chosen, rejected, *rest) in enumerate(given)
    ]
    return pa.Table.from_pylist(rows, schema=schema.PREFERENCES.arrow)
