"""From the gateway's spool to the lake: what was acknowledged lands and enters its partitions, exactly once.

A segment is removed only after the lake has all of it. Whatever breaks off in between is done again from the segment,
and what had landed is then known: landing is idempotent, bringing to the lake what has landed is too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from loop.collect import arrivals, landing, outcomes, spool
from loop.collect.files import Partition
from loop.collect.imported import Imported
from loop.collect.outcomes import Landed
from loop.collect.record import Record
from loop.config import Settings
from loop.errors import LoopError
from loop.lake import Lake
from loop.schema import WORKFLOWS
from loop.state import State
from loop.validate import batches, contract

SOURCE: Final = "gateway"
AT_ONCE: Final = 256 << 20
"""Bytes of segments that are moved in one transaction; more are moved in several."""
BAD: Final = ".bad"
"""Suffix of a segment of which something cannot be read. Nothing of it is lost: what could be read has landed."""


class _Frame(msgspec.Struct):
    """One frame of the spool; which field is there is said by `kind`."""

    kind: str
    event: msgspec.Raw = msgspec.Raw()
    outcome: msgspec.Raw = msgspec.Raw()
    received_at: msgspec.Raw = msgspec.Raw()
    """When the gateway acknowledged an event."""

    def whole_event(self) -> bytes:
        """The event with the time of its receipt, which its sender left to the gateway."""
        event = bytes(self.event)
        if b'"received_at":' in event:  # within a text the quotes would be escaped
            return event
        return b'%s,"received_at":%s}' % (event[:-1], bytes(self.received_at))


class _Place(msgspec.Struct):
    """As much of an event as tells its partition."""

    workflow: str
    shown_at: datetime


@dataclass(frozen=True)
class Moved:
    """What a move came to: `frames == events.read + outcomes.read + suggestions`, asserted."""

    segments: int
    frames: int
    events: Imported
    outcomes: Landed
    suggestions: int
    """Served suggestions, which the gateway's ledger keeps until they are decided on; they do not land."""
    bad: tuple[str, ...]
    """Segments that could not be read to their end, kept aside."""
    partitions: tuple[Partition, ...]
    """Days and workflows that were looked at, for something of theirs had come."""

    def __post_init__(self) -> None:
        assert self.frames == self.events.read + self.outcomes.read + self.suggestions, "a frame was lost"

    def counts(self) -> dict[str, int]:
        return {
            "segments": self.segments,
            "frames": self.frames,
            "events": self.events.accepted,
            "duplicates": self.events.duplicates + self.outcomes.duplicates,
            "quarantined": self.events.quarantined + self.outcomes.conflicts,
            "outcomes": self.outcomes.accepted,
            "suggestions": self.suggestions,
            "partitions": len(self.partitions),
            "unreadable segments": len(self.bad),
            **{f"masked {type_}": spans for type_, spans in self.events.masked.items()},
        }


def drain(settings: Settings, lake: Lake, state: State) -> list[Moved]:
    """Move every sealed segment of the spool to the lake; one `Moved` for each group of segments, oldest first."""
    with state.transaction(lock="drain the spool"):  # a second one waits, and then finds nothing left
        return [_move(settings, lake, state, group) for group in _groups(spool.sealed(settings.spool))]


def told(moved: list[Moved]) -> dict[str, int]:
    """The counts of all groups together."""
    total: Counter[str] = Counter()
    for one in moved:
        total.update(one.counts())
    return dict(total)


def _groups(segments: list[Path]) -> Iterator[list[Path]]:
    group: list[Path] = []
    held = 0
    for segment in segments:
        size = segment.stat().st_size
        if group and held + size > AT_ONCE:
            yield group
            group, held = [], 0
        group.append(segment)
        held += size
    if group:
        yield group


@dataclass
class _Reading:
    """What a pass over some segments has met."""

    segments: list[Path]
    frames: int = 0
    suggestions: int = 0

    def __post_init__(self) -> None:
        self.outcomes: list[Record] = []
        self.touched: set[Partition] = set()
        self.bad: list[Path] = []

    def events(self) -> Iterator[Record]:
        """The events, and on the way everything else that is counted or kept."""
        for segment in self.segments:
            try:
                for line, payload in enumerate(spool.frames(segment), 1):
                    self.frames += 1
                    frame = msgspec.json.decode(payload, type=_Frame)
                    match frame.kind:
                        case "suggestion":
                            self.suggestions += 1
                        case "outcome":
                            record = Record(line, bytes(frame.outcome), path=segment.name)
                            outcome = outcomes.decode(record)
                            self.outcomes.append(record)
                            self.touched.add((outcome.day, outcome.workflow))
                        case "event":
                            event = frame.whole_event()
                            self._touch(event)
                            yield Record(line, event, path=segment.name)
                        case other:
                            raise AssertionError(f"a frame of kind {other!r} in {segment}")
            except LoopError:
                self.bad.append(segment)

    def _touch(self, event: bytes) -> None:
        try:
            place = msgspec.json.decode(event, type=_Place)
            partition = (place.shown_at.astimezone(UTC).date(), place.workflow)
        except (msgspec.MsgspecError, OverflowError):
            return  # no event: landing sets it aside
        if partition[1] in WORKFLOWS:
            self.touched.add(partition)


def _move(settings: Settings, lake: Lake, state: State, segments: list[Path]) -> Moved:
    reading = _Reading(segments)
    name = f"{segments[0].stem} to {segments[-1].stem}"
    landed = landing.land(
        settings,
        lake,
        state,
        source=SOURCE,
        name=name,
        records=reading.events(),
        contract=contract.split,
        pseudonymised=True,
    )
    results = outcomes.land(settings, state, reading.outcomes, source=SOURCE, name=name)
    reached = arrivals.partitions_of(state, reading.touched)
    for day, workflow in reached:
        batches.extend(settings, lake, state, day, workflow)
    for segment in segments:
        if segment in reading.bad:
            segment.rename(segment.with_suffix(BAD))
        else:
            segment.unlink()
    return Moved(
        len(segments),
        reading.frames,
        landed,
        results,
        reading.suggestions,
        tuple(segment.name for segment in reading.bad),
        tuple(reached),
    )
