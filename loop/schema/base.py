"""What a table and a column are, the words that their values are taken from, and the types they share."""

from __future__ import annotations

import importlib.metadata
import re
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from functools import cached_property
from typing import Final

import pyarrow as pa

from loop.errors import BadInputError


class Privacy(StrEnum):
    """What a column may reveal about a person; erasure and export follow it."""

    NONE = "none"
    PSEUDONYM = "pseudonym"
    """A keyed hash that stands for one employee."""
    TEXT = "text"
    """Free text that people wrote or read; may hold personal data."""
    CONDUCT = "conduct"
    """How fast those work who are asked (panel members, annotators) and how far decisions are trusted: whoever it is
    about may see it of themselves, nobody of another; `loop sql` has it not. The times of `interactions` are none of
    it: they are part of the decision as it came, and stand in `loop sql` under pseudonyms."""


class Origin(StrEnum):
    """Who supplies the value of a column of `interactions`."""

    CLIENT = "client"
    """Part of the event as a tool sends it."""
    EDGE = "edge"
    """Made where the event enters: the pseudonym, the time of receipt, digests."""


class Decision(StrEnum):
    """What a person did with a suggestion."""

    ACCEPT = "accept"
    MODIFY = "modify"
    REJECT = "reject"
    IGNORE = "ignore"


class BatchStatus(StrEnum):
    """The verdict on one attempt at one day and workflow."""

    ACCEPTED = "accepted"
    HELD = "held"
    OVERRIDDEN = "overridden"


class Split(StrEnum):
    """The side of the wall on which a person's whole sessions stand."""

    TRAIN = "train"
    HELD_OUT = "held_out"


FIRST_DAY: Final = date(2021, 1, 1)
"""The first day that data can be of: where the partitions begin."""

BUILT_IN: Final = ("ads", "moderation", "design", "comms")
"""The workflows that Loop brings along; the simulated organisation has them and no other."""

WORKFLOW_PLUGINS: Final = "loop.workflows"
"""The group of entry points by which an installed package brings workflows of its own: name = "module:WORKFLOW"."""


def _own() -> tuple[str, ...]:
    """Names of the workflows that installed packages bring, in order; none of their code is run here."""
    names = {found.name for found in importlib.metadata.entry_points(group=WORKFLOW_PLUGINS)}
    for name in names:
        if name in BUILT_IN or not re.fullmatch(r"[a-z][a-z0-9_-]{0,31}", name):
            raise BadInputError(
                f"entry point {name!r} of {WORKFLOW_PLUGINS}: expected up to 32 of a-z, 0-9, _ and -, and none of "
                f"{', '.join(BUILT_IN)}; rename it in the package that brings it"
            )
    return tuple(sorted(names))


WORKFLOWS: Final = (*BUILT_IN, *_own())
"""The workflows that partition the data, in the order in which they are shown."""


class Store(StrEnum):
    LAKE = "lake"
    """A Delta table, partitioned by day and workflow."""
    STATE = "state"
    """A Postgres table: small, transactional, changing row by row."""


@dataclass(frozen=True)
class Column:
    """One column: what it is called, what it holds, and what it may reveal."""

    name: str
    type: pa.DataType
    meaning: str
    privacy: Privacy = Privacy.NONE
    nullable: bool = False
    origin: Origin = Origin.EDGE


@dataclass(frozen=True)
class Table:
    """One table. `row` says what one row stands for; `key` is unique (within a partition, for the lake)."""

    name: str
    store: Store
    row: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    index: tuple[tuple[str, ...], ...] = field(default=())

    @cached_property
    def arrow(self) -> pa.Schema:
        """The Arrow schema, meanings attached as field metadata."""
        return pa.schema(
            [pa.field(c.name, c.type, nullable=c.nullable, metadata={"meaning": c.meaning}) for c in self.columns]
        )

    def empty(self) -> pa.Table:
        return self.arrow.empty_table()


TEXT: Final = pa.string()
TIME: Final = pa.timestamp("us", tz="UTC")
DAY: Final = pa.date32()
INT: Final = pa.int64()
SHORT: Final = pa.int32()
REAL: Final = pa.float64()
FLAG: Final = pa.bool_()
TEXTS: Final = pa.list_(TEXT)
