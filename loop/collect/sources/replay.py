"""One CoAuthor session, replayed: its openings, what was taken from each, and what became of it in the document.

Knows the log of the CoAuthor editor and nothing of archives, people or the wire format.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

import msgspec

from loop.collect.events import DELETED
from loop.collect.sources.quill import Delta, Document, Span, to_units
from loop.errors import BadInputError
from loop.schema import Decision

ASKED_AGAIN: Final = "asked_again"
"""Reason tag of a reject that was made by asking for other suggestions."""
PICKED_AGAIN: Final = "picked_again"
"""Reason tag of an opening from which something was taken twice; the last pick counts."""
LEFT_OPEN: Final = "left_open"
"""Reason tag of an ignore: other suggestions came, or the session ended, before any decision."""
LAYOUT_ONLY: Final = "layout_only"
"""Reason tag of a modify in which only white space was changed."""
_LAST_TIME: Final = 4_102_444_800_000
"""The year 2100, in milliseconds since 1970; a later time is none."""


class Shown(msgspec.Struct, gc=False):
    """One suggestion of the list. `original` is what is inserted; the log also has what is displayed, `trimmed`."""

    original: str
    probability: float | None = None


class Line(msgspec.Struct, rename="camel", gc=False):
    """The fields of a log line that are read here; there are more."""

    event_name: str
    event_timestamp: int
    event_num: int
    event_source: str = ""
    text_delta: Delta | str = ""
    current_doc: str = ""
    current_cursor: int = 0
    current_suggestions: list[Shown] = []
    current_suggestion_index: int | str = ""
    current_hover_index: int | str = ""
    current_temperature: str | float = ""
    current_frequency_penalty: str | float = ""


_DECODER: Final = msgspec.json.Decoder(Line)


def decode(line: bytes, number: int) -> Line:
    """One line of a session's log.

    Raises:
        BadInputError: it is none; the message names the line.
    """
    try:
        log = _DECODER.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadInputError(f"line {number}: expected a log line of CoAuthor: {error}") from None
    if not 0 <= log.event_timestamp < _LAST_TIME:
        raise BadInputError(f"line {number}: expected milliseconds since 1970, got {log.event_timestamp}")
    return log


@dataclass(slots=True)
class Opening:
    """One opening of the list of suggestions, and what is known of it so far."""

    line: int
    log: Line
    prompt: str
    picks: int = 0
    """How often something was taken from it."""
    chosen: int | None = None
    span: Span | None = None
    decided: int | None = None
    """Milliseconds since 1970."""
    reasons: list[str] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        return self.decided is None

    def outcome(self, document: Document) -> tuple[Decision, str | None, list[str]]:
        """Decision, final text and reason tags, seen from the session's end."""
        if self.chosen is None or self.span is None:
            undecided = self.decided is None
            return (Decision.IGNORE, None, [LEFT_OPEN]) if undecided else (Decision.REJECT, None, self.reasons)
        taken = self.log.current_suggestions[self.chosen].original
        if not document.text(self.span.start, self.span.end).strip():
            return Decision.MODIFY, "", [*self.reasons, DELETED]
        final = document.text(*completed(document, self.span))
        if final == taken:
            return Decision.ACCEPT, final, self.reasons
        layout = [LAYOUT_ONLY] if final.split() == taken.split() else []
        return Decision.MODIFY, final, [*self.reasons, *layout]


class Replay:
    """One session, line by line in the order of the file, whatever its clock says."""

    def __init__(self) -> None:
        self.document: Document | None = None
        self.openings: list[Opening] = []
        self.first_document = ""
        self.clock_backwards = False
        self.latest = 0
        """The latest time met, milliseconds since 1970."""
        self._previous: int | None = None
        self._lines = self._selections = 0
        self._pending: Line | None = None

    def take(self, number: int, log: Line) -> None:
        """Take in the next line.

        Raises:
            BadInputError: it does not fit what came before it.
        """
        self._lines += 1
        self.clock_backwards |= self._previous is not None and log.event_timestamp < self._previous
        self._previous = log.event_timestamp
        self.latest = max(self.latest, log.event_timestamp)
        if log.event_name == "system-initialize":
            self.document, self.first_document = Document.of(log.current_doc), log.current_doc
            return
        if self.document is None:
            raise BadInputError(f"line {number}: expected system-initialize first, got {log.event_name}")
        match log.event_name:
            case "text-insert" | "text-delete":
                self._edit(number, log, self.document)
            case "suggestion-open":
                self._open(number, log, self.document)
            case "suggestion-select":
                self._select(number, log)
            case "suggestion-close":
                self._close(log)
            case "suggestion-get" if self.openings and self.openings[-1].is_open:
                self.openings[-1].reasons = [ASKED_AGAIN]

    def end(self, expected: tuple[int, int, int] | None) -> Document:
        """The document at the session's end.

        Args:
            expected: how many openings, selections and lines there must be, where that is known.

        Raises:
            BadInputError: the session is not whole.
        """
        if self.document is None:
            raise BadInputError("expected a session that begins with system-initialize, got none")
        if self._pending is not None:
            raise BadInputError("expected the insertion of what was selected last, got the session's end")
        counts = (len(self.openings), self._selections, self._lines)
        if expected is not None and counts != expected:
            raise BadInputError(
                f"expected {expected[0]} openings, {expected[1]} selections and {expected[2]} lines, as the CSV of "
                f"sessions says, got {counts[0]}, {counts[1]} and {counts[2]}: the file is not whole"
            )
        return self.document

    def _open(self, number: int, log: Line, document: Document) -> None:
        if not 0 <= log.current_cursor <= len(document.units):
            raise BadInputError(f"line {number}: expected a cursor within the document, got {log.current_cursor}")
        self.openings.append(Opening(number, log, document.text(0, log.current_cursor)))

    def _select(self, number: int, log: Line) -> None:
        if not self.openings:
            raise BadInputError(f"line {number}: expected suggestion-open before suggestion-select")
        self._selections += 1
        self._pending = log

    def _close(self, log: Line) -> None:
        if self.openings and self.openings[-1].is_open:
            self.openings[-1].decided = log.event_timestamp

    def _edit(self, number: int, log: Line, document: Document) -> None:
        if not isinstance(log.text_delta, Delta):
            raise BadInputError(f"line {number}: expected a delta, got {log.text_delta!r}")
        before = document.units
        try:
            document.apply(log.text_delta)
        except BadInputError as error:
            raise BadInputError(f"line {number}: {error}") from None
        if log.event_source == "api" and self._pending is not None:
            self._taken(number, before, log.text_delta.ops[0].retain or 0, self._pending, document)
            self._pending = None

    def _taken(self, number: int, before: str, at: int, selected: Line, document: Document) -> None:
        """A selected suggestion has been inserted: find by its text which one and where, and follow it from here.

        The index that the log gives is no guide: it stays 0 where the list was clicked. It breaks ties.
        """
        opening = self.openings[-1]
        hints = (selected.current_suggestion_index, selected.current_hover_index)
        for place in sorted(range(len(opening.log.current_suggestions)), key=lambda p: (p not in hints, p)):
            text = to_units(opening.log.current_suggestions[place].original)
            if (start := inserted_at(before, document.units, text, near=at)) is not None:
                break
        else:
            raise BadInputError(
                f"line {number}: expected one of the shown suggestions to be inserted, got another text"
            )
        opening.reasons = [PICKED_AGAIN] if opening.picks else []
        opening.picks += 1
        opening.chosen, opening.decided = place, selected.event_timestamp
        opening.span = document.mark(start, start + len(text))


def inserted_at(before: str, after: str, text: str, *, near: int) -> int | None:
    """Where `text` was inserted into `before` if that is what made `after`: the place nearest to `near`.

    The difference that an editor logs may have slid: "\\n\\nYes" before a line break is the same edit as "\\nYes\\n"
    after it. So the place is looked for around the logged one, not read from the log.
    """
    if not text or len(after) != len(before) + len(text):
        return None
    places = (
        start
        for start in range(max(0, near - len(text)), min(len(before), near + len(text)) + 1)
        if after.startswith(text, start) and after.startswith(before[:start]) and after.endswith(before[start:])
    )
    return min(places, key=lambda start: abs(start - near), default=None)


_ENDED: Final = r"""[.!?\u2026]+["'\u2019\u201d)\]]*"""
_IS_ENDED: Final = re.compile(rf"{_ENDED}\Z")
_SENTENCE_END: Final = re.compile(rf"{_ENDED}(?=\s|\Z)|(?=\n)")
_SENTENCE_BEGIN: Final = re.compile(rf"{_ENDED}\s+|\n\s*")


def completed(document: Document, span: Span) -> tuple[int, int]:
    """What stands of a taken suggestion: what survives, and to the sentence's end what was typed where it was cut.

    Whoever replaces the last word of a sentence has edited the sentence; without its new last word it would be a
    fragment that nobody wrote. What stood there before, later sentences and other suggestions do not belong to it.
    """
    start, end, units = span.start, span.end, document.units
    others = [other for other in document.spans if other is not span and other.start < other.end]
    if span.tail_cut:
        end = start + len(units[start:end].rstrip())
        if not _IS_ENDED.search(units, start, end):
            right = min([span.right, *(other.start for other in others if other.start >= span.end)])
            found = _SENTENCE_END.search(units, span.end, right)
            stop = found.end() if found else right
            end = start + len(units[start:stop].rstrip())
    if span.head_cut:
        left = max([span.left, *(other.end for other in others if other.end <= span.start)])
        ends = [match.end() for match in _SENTENCE_BEGIN.finditer(units, left, span.start)]
        start = ends[-1] if ends else left
    return start, end
