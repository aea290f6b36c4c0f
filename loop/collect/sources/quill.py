"""Quill deltas: a plain-text document under edits, and what became of marked spans in it.

A delta is a list of retain, insert and delete operations over UTF-16 code units, as the Quill editor of a browser
writes them (https://quilljs.com/docs/delta). Formatting is ignored. Which spans matter, and what they mean, is the
source's business and not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from loop.errors import BadInputError

Kept = tuple[int, int, int]
"""A stretch of a document that survives an edit: old start, old end (excluded), new start."""

EMBED = "\N{OBJECT REPLACEMENT CHARACTER}"
"""What stands for an image or another object, which counts as one unit."""


class Op(msgspec.Struct, gc=False):
    """One operation; exactly one field is set. `attributes` (formatting) is not read."""

    retain: int | None = None
    insert: str | dict[str, Any] | None = None
    delete: int | None = None


class Delta(msgspec.Struct):
    ops: list[Op]


@dataclass(slots=True)
class Span:
    """Units `start` to `end` (excluded) of a document that is being edited; empty once nothing of it is left.

    Text typed inside it becomes part of it, text typed at either edge does not. But where an edge was cut, what was
    typed there may replace the loss: at the head what was typed since the span was marked (`left` to `start`), at the
    tail, where writing goes on anyway, only what was typed since the cut (`end` to `right`).
    """

    start: int
    end: int
    left: int
    right: int
    head_cut: bool = False
    """Something other than white space was deleted at its start."""
    tail_cut: bool = False
    """Something other than white space was deleted at its end."""

    def follow(self, kept: Sequence[Kept], old: str) -> None:
        """Move along with an edit of the document `old` of which `kept` survives."""
        parts = [(max(low, self.start), min(high, self.end), new - low) for low, high, new in kept]
        parts = [(low, high, shift) for low, high, shift in parts if low < high]
        if not parts:
            self.start = self.end = self.left = self.right = 0
            return
        (first, _, first_shift), (_, last, last_shift) = parts[0], parts[-1]
        left = max((new + min(high, self.left) - low for low, high, new in kept if low < self.left), default=0)
        low, high, new = kept[-1]
        right = new + high - low  # the end of the document, unless something survives on this side
        right = min((new + max(low, self.right) - low for low, high, new in kept if high > self.right), default=right)
        self.head_cut |= bool(old[self.start : first].strip())
        self.tail_cut |= bool(old[last : self.end].strip())
        self.start, self.end = first + first_shift, last + last_shift
        self.left, self.right = left, right if self.tail_cut else self.end

    @property
    def reach(self) -> int:
        """An edit that begins here or later leaves the span as it is."""
        return self.right + 1 if self.tail_cut else self.end


@dataclass(slots=True)
class Document:
    """A document under edits. `units` is a string of UTF-16 code units: one outside the basic plane is two."""

    units: str
    spans: list[Span] = field(default_factory=list)

    @classmethod
    def of(cls, text: str) -> Document:
        return cls(to_units(text))

    def mark(self, start: int, end: int) -> Span:
        """Follow a span through all later edits."""
        span = Span(start, end, start, end)
        self.spans.append(span)
        return span

    def text(self, start: int = 0, end: int | None = None) -> str:
        return from_units(self.units[start:end])

    def apply(self, delta: Delta) -> None:
        """Edit the document and move its spans.

        Raises:
            BadInputError: an operation is none, or reaches beyond the end of the document.
        """
        kept, units = self._kept(delta.ops)
        first = kept[0][1] if kept[0][0] == kept[0][2] == 0 else 0
        for span in self.spans:
            if first < span.reach:
                span.follow(kept, self.units)
        self.units = units

    def _kept(self, ops: Sequence[Op]) -> tuple[list[Kept], str]:
        """What survives of the document, and what it becomes."""
        old, size = self.units, len(self.units)
        pieces: list[str] = []
        kept: list[Kept] = []
        at = new = 0
        for op in ops:
            if op.insert is not None:
                pieces.append(to_units(op.insert) if isinstance(op.insert, str) else EMBED)
                new += len(pieces[-1])
                continue
            length = op.retain if op.retain is not None else op.delete
            if length is None or length < 0 or at + length > size:
                raise BadInputError(f"expected a delta within the {size} units of the document, got {op} at {at}")
            if op.retain:
                pieces.append(old[at : at + length])
                kept.append((at, at + length, new))
                new += length
            at += length
        pieces.append(old[at:])
        kept.append((at, size, new))
        return kept, "".join(pieces)


def to_units(text: str) -> str:
    """The text with every character outside the basic plane as its surrogate pair, so that indices count units."""
    if text.isascii() or max(text) <= "\uffff":
        return text
    raw = text.encode("utf-16-le", "surrogatepass")
    return "".join(map(chr, memoryview(raw).cast("H")))


def from_units(units: str) -> str:
    """The text of UTF-16 units; half of a pair, left by an edit through its middle, becomes U+FFFD."""
    if units.isascii():
        return units
    return units.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
