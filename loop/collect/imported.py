"""What an import came to: every record counted once."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any


@dataclass(frozen=True)
class Count:
    """What an import brought to one day and workflow."""

    day: date
    workflow: str
    accepted: int
    quarantined: int


@dataclass(frozen=True)
class Imported:
    """What became of every record of a source: `read == accepted + duplicates + quarantined`, asserted."""

    source: str
    path: str
    read: int
    accepted: int
    """Events that are new here."""
    duplicates: int
    """Records that were here before: events with the same content, and rows set aside from this very place."""
    quarantined: int
    """Rows that were set aside now."""
    first_day: date | None
    """The first day of all good events, new or not; None where there is none."""
    last_day: date | None
    partitions: tuple[Count, ...]
    """Where something changed."""
    reasons: dict[str, int]
    """The main reason of what was set aside now, counted."""
    writer_known: bool = True
    """Whether the source says who decided; if not, the piece of work stands for the person."""
    unrated: int = 0
    """Suggestions of the source on which nobody decided. They are no records, so outside of `read`."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Feedback of the source that is no decision of a person (a judge's score), by kind; outside of `read` too."""

    masked: dict[str, int] = field(default_factory=dict)
    """Spans of personal data that were masked in what was accepted or set aside now, by type."""

    def __post_init__(self) -> None:
        assert self.read == self.accepted + self.duplicates + self.quarantined, "a record was lost by the import"
        assert self.quarantined == sum(self.reasons.values())
        assert self.accepted == sum(count.accepted for count in self.partitions)

    @property
    def unchanged(self) -> bool:
        return not self.accepted and not self.quarantined

    def told(self) -> dict[str, Any]:
        """What `loop import --json` says."""
        return {**asdict(self), "unchanged": self.unchanged}
