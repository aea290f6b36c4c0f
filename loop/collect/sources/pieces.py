"""What a format of traces yields: generations, judgements on them, and what a trace says about all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from typing import Any

from loop.collect.record import Record
from loop.collect.sources.chat import Message
from loop.collect.sources.verdicts import Verdict

Span = tuple[str, str]
"""Ids of a trace and of a span in it."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a model was asked and what it answered."""

    prompt: list[Message]
    answers: list[str]


@dataclass(frozen=True, slots=True)
class About:
    """What a trace, or a span, says of all that happened in it; None where it does not say."""

    user: str | None = None
    session: str | None = None
    workflow: str | None = None
    answer: Callable[[], list[str]] | None = None
    """What the trace as a whole answered."""

    def over(self, other: About) -> About:
        """This, and where it does not say, the other."""
        return About(
            self.user or other.user,
            self.session or other.session,
            self.workflow or other.workflow,
            self.answer or other.answer,
        )


@dataclass(frozen=True, slots=True)
class Details:
    """What is known of a generation beside its content."""

    start: datetime | None
    end: datetime | None
    """When the answer was complete."""
    model: str | None
    about: About
    told: Mapping[str, Any] = field(default_factory=dict)
    """More fields of the event: team, region, task_id, visibility, purposes."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One call of a model. What is in it is read when it is needed: most were never judged."""

    key: Span
    line: int
    path: str | None
    details: Callable[[], Details]
    content: Callable[[], Content]
    """Raises NotTextError where it is no text."""
    response: str | None = None
    """The provider's id of the answer."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """One piece of feedback by a person."""

    id: str
    """Unique in the source, and the same each time it is read."""
    trace: str | None
    spans: tuple[Span, ...]
    """What it may be about, the nearest first; none: the trace as a whole."""
    name: str
    verdict: Verdict
    shown: str
    """Its value, as it may be repeated in an explanation."""
    at: datetime | None
    line: int
    path: str | None = None
    author: str | None = None
    """Raw id of who judged, where that is said."""
    by_user: bool = True
    """Without an author: whether it was the trace's user, or somebody who is not named."""
    text: str | None = None
    """What should have stood, for a correction; what stands, for a decision."""
    tags: tuple[str, ...] = ()
    decision: str | None = None
    chosen: int | None = None
    response: str | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """What a trace says about all of its spans."""

    id: str
    about: About


@dataclass(frozen=True, slots=True)
class Skipped:
    """Feedback that is no decision of a person, by kind."""

    kind: str


class Stage(Enum):
    """What the pieces are gone through for; a format may leave out what is not asked for."""

    JUDGEMENTS = auto()
    """Judgements and what is skipped."""
    GENERATIONS = auto()
    """Generations and traces."""
    ALL = auto()
    """Generations and records."""


Piece = Generation | Judgement | Trace | Skipped | Record
Again = Callable[[Stage], Iterable[Piece]]
"""The pieces of a source from their beginning, the same each time."""
