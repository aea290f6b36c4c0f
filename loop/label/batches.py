"""The labels of a partition, written where `training_set` finds them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pyarrow as pa

from loop import schema
from loop.config import Settings
from loop.label.derive import pieces
from loop.lake import Lake
from loop.state import State


@dataclass
class Made:
    """What was derived from a partition: `interactions == taught + set_aside.total()`."""

    interactions: int = 0
    taught: int = 0
    demonstrations: int = 0
    preferences: int = 0
    set_aside: Counter[str] = field(default_factory=Counter)


def build(settings: Settings, lake: Lake, state: State, day: date, workflow: str) -> Made:
    """Derive and write the labels of one day and workflow. Each carries the digest of the batch that it came from.

    The batch is passed over once for each table, and held in memory not at all.
    """
    made = Made()
    which: dict[str, Any] = {"day": day, "workflow": workflow}
    with (
        state.building(day, workflow),  # before the lake's own locks: whoever has it may want these
        lake.pinned("interactions"),  # an erasure waits until what was read of it stands where it looks next
        lake.partition("interactions", **which, view="interactions", where="batch <> ''") as connection,
    ):
        days, columns = (day, day), ["event_id", "weight", "examination"]
        weights = lake.read("signals", days=days, workflows=[workflow], columns=columns) if settings.signals else None
        connection.register("signals", schema.SIGNALS.empty() if weights is None else weights)

        def labels(table: str) -> Iterator[pa.Table]:
            for piece in pieces(
                connection, held_out_share=settings.held_out_share, seed=settings.seed, tables=(table,)
            ):
                rows = getattr(piece, table)
                setattr(made, table, getattr(made, table) + rows.num_rows)
                if table == "demonstrations":
                    made.interactions += piece.interactions
                    made.taught += piece.taught
                    made.set_aside.update(piece.set_aside)
                yield rows

        for table in ("demonstrations", "preferences"):
            lake.overwrite(table, labels(table), **which)
    return made
