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
from loop.label.derive import TABLES, TAUGHT, pieces, prepare, set_aside_of
from loop.lake import Lake
from loop.state import State


@dataclass
class Made:
    """What was derived from a partition: `interactions == taught + set_aside.total()`."""

    interactions: int = 0
    taught: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    """By table."""
    set_aside: Counter[str] = field(default_factory=Counter)


def build(settings: Settings, lake: Lake, state: State, day: date, workflow: str) -> Made:
    """Derive and write the labels of one day and workflow. Each carries the digest of the batch that it came from.

    The batch is passed over once for each table, as far as the table needs it, and held in memory not at all.
    """
    made = Made()
    which: dict[str, Any] = {"day": day, "workflow": workflow}
    with (
        state.building(day, workflow),  # before the lake's own locks: whoever has it may want these
        lake.pinned("interactions"),  # an erasure waits until what was read of it stands where it looks next
        lake.partition("interactions", **which, view="interactions", where="batch <> ''") as connection,
    ):
        connection.register("signals", signals_of(settings, lake, day, workflow))
        prepare(connection, held_out_share=settings.held_out_share, seed=settings.seed)
        made.set_aside = set_aside_of(connection)
        made.interactions, made.taught = made.set_aside.total(), made.set_aside.pop(TAUGHT, 0)

        def labels(table: str) -> Iterator[pa.Table]:
            for rows in pieces(connection, table):
                made.rows[table] += rows.num_rows
                yield rows

        for table in TABLES:
            lake.overwrite(table, labels(table), **which)
    return made


def signals_of(settings: Settings, lake: Lake, day: date, workflow: str) -> pa.Table:
    """How much each decision of a partition says; nothing where the setting is that all say the same."""
    columns = ["event_id", "weight", "examination"]
    if not settings.signals:
        return schema.SIGNALS.empty().select(columns)
    return lake.read("signals", days=(day, day), workflows=[workflow], columns=columns)
