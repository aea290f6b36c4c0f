"""What every source yields: records, each a line in the wire format, or one that could not be turned into any."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from loop.collect.events import Reason

Progress = Callable[[int, int | None], None]
"""Called with how much of the source was read and how much there is, in one unit of the source's choice."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a record cannot be an event, known already to the source."""

    reason: Reason
    explanation: str
    day: date | None = None
    """The day it belongs to, where the source can tell."""
    workflow: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a source."""

    line: int
    """Line or record in its file, from 1."""
    raw: bytes
    """An event in the wire format, the employee's raw id in it; or what came instead, with its fault."""
    path: str | None = None
    """The member of an archive or the file of a folder that it stands in; None where the source is one file."""
    fault: Fault | None = None


@dataclass(slots=True)
class Tally:
    """What a source met beside its records; complete once all records were drawn."""

    unrated: int = 0
    """Suggestions on which nobody decided: they are no interactions."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Feedback that is no decision of a person, by kind."""
    writers_unknown: int = 0
    """Events of which the source does not say who decided."""


@dataclass(frozen=True, slots=True)
class Source:
    """Outside data that was opened. Drawing the records may raise BadInputError: then nothing of it counts."""

    name: str
    """As in the column `source`: jsonl, coauthor, otel."""
    path: Path
    records: Iterator[Record]
    writer_known: bool = True
    """Whether the data says who decided."""
    tally: Tally = field(default_factory=Tally)
