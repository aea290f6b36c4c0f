"""What the intake takes and answers, the frame that an item becomes in the spool, and what of a group is new.

How a group is stored stands in `intake`; what an event or an outcome holds is the business of whoever makes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, Literal

import msgspec

from loop.collect.ledger import ERASED, Entry, Ledger, Seen, hashed, micros, variant
from loop.collect.spool import FRAME_BYTES


class Status(StrEnum):
    """What became of an item."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    """The key was here with the same content: nothing is stored again."""
    CONFLICT = "conflict"
    """The key was here with another content: this one is stored too, once."""


class Item(msgspec.Struct, frozen=True, gc=False):
    """One thing to store.

    `payload` is one JSON object `{"kind": ..., ...}`, at most 16 MB. It is spooled with `key`, `digest`, `at` and
    `suggestion_id` added in front: see `Head`.
    """

    kind: Literal["event", "outcome", "suggestion"]
    key: str
    """The client's key; for a suggestion its id."""
    digest: bytes
    """16 bytes that stand for the content as the client sent it."""
    payload: bytes
    received_at: datetime = msgspec.field(default_factory=lambda: datetime.now(UTC))
    suggestion_id: str | None = None
    """For an event: the suggestion that it is about."""
    yields: bool = False
    """For an event: whether it is nothing new where another one on its suggestion has come before it."""


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """The answer to one item."""

    key: str
    status: Status
    received_at: datetime
    """When this content of this key was first received."""


class Head(msgspec.Struct):
    """What every frame of the spool holds, as JSON, besides what its kind brings."""

    kind: str
    key: str
    digest: str
    """Hexadecimal."""
    at: int
    """Microseconds since 1970: the time of receipt."""
    suggestion_id: str | None = None
    suggestion: msgspec.Raw = msgspec.Raw()


class _Stamp(msgspec.Struct):
    key: str
    digest: str
    at: int
    suggestion_id: str | None


class _Who(msgspec.Struct):
    employee: str | None = None


class Waiting(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One item on its way; it may have been made by another process."""

    key: str
    entry: Entry
    frame: bytes
    yields: bool = False


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What one item is."""

    status: Status
    at: int
    settled: bool
    """Whether it is so whatever becomes of this group."""


_BEGINS: Final = {kind: f'{{"kind":"{kind}","{kind}":{{'.encode() for kind in ("event", "outcome", "suggestion")}
_encode = msgspec.json.Encoder().encode
_decode_head = msgspec.json.Decoder(Head).decode
_decode_who = msgspec.json.Decoder(_Who).decode


def prepare(item: Item) -> Waiting:
    """An item ready to be stored."""
    assert len(item.digest) == 16, f"a digest of {len(item.digest)} bytes"
    about = item.key if item.kind == "suggestion" else item.suggestion_id
    at = micros(item.received_at)
    stamp = _encode(_Stamp(item.key, item.digest.hex(), at, about))
    frame = b"%b,%b" % (stamp[:-1], item.payload[1:])
    assert len(frame) <= FRAME_BYTES, f"an item of {len(frame)} bytes"
    assert item.payload.startswith(_BEGINS[item.kind]), "the payload says another kind than the item"
    if item.kind == "suggestion":
        made = waiting(frame)
        return msgspec.structs.replace(made, yields=True) if item.yields else made
    # What `waiting` would read out of the frame; not to decode it again is a third of the time of an item.
    event_id = item.key if item.kind == "event" else None
    entry = Entry(hashed(item.kind, item.key), Seen(item.digest, at), about, None, event_id)
    return Waiting(item.key, entry, frame, item.yields)


def waiting(frame: bytes) -> Waiting:
    """A frame and what is to be remembered of it: the same when it comes in and when it is replayed."""
    head = _decode_head(frame)
    record = bytes(head.suggestion) if head.kind == "suggestion" else None
    entry = Entry(
        hashed(head.kind, head.key),
        Seen(bytes.fromhex(head.digest), head.at),
        suggestion_id=head.suggestion_id,
        record=record,
        event_id=head.key if head.kind == "event" else None,
        ignorable=record is not None and _decode_who(record).employee is not None,
    )
    return Waiting(head.key, entry, frame)


def sort(held: Ledger, items: Sequence[Waiting]) -> tuple[list[Verdict], list[Waiting]]:
    """What each item is, given the ledger and the items before it; and what of them is to be stored, in order."""
    new: dict[bytes, Waiting] = {}
    verdicts: list[Verdict] = []
    clashes: dict[int, Entry] = {}
    decided: set[str | None] = set()
    for at, (item, known) in enumerate(zip(items, held.find([item.entry.key for item in items]), strict=True)):
        mine, about = item.entry.seen, item.entry.suggestion_id
        if item.yields and about is not None and (about in decided or held.last_event(about) is not None):
            verdicts.append(Verdict(Status.DUPLICATE, mine.at, settled=about not in decided))
            continue
        if item.entry.event_id is not None:
            decided.add(about)
        first = known or new.setdefault(item.entry.key, item).entry.seen
        if first.digest not in (mine.digest, ERASED):
            clashes[at] = Entry(variant(item.entry.key, mine.digest), mine)
        status = Status.STORED if first is mine else Status.DUPLICATE
        verdicts.append(Verdict(status, first.at, settled=known is not None))
    found = held.find([entry.key for entry in clashes.values()])
    for (at, entry), known in zip(clashes.items(), found, strict=True):
        item = items[at]
        first = known or new.setdefault(entry.key, Waiting(item.key, entry, item.frame)).entry.seen
        verdicts[at] = Verdict(Status.CONFLICT, first.at, settled=known is not None)
    return verdicts, list(new.values())
