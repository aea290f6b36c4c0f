"""From traces with feedback to decisions: what every format of traces has in common once it is read.

A format yields pieces: generations, judgements on them, and what a trace says about all of it. Here they are brought
together and become one event for each generation and person that judged it. What a person said of a whole trace is said
of its one generation, or of the one whose answer the trace gave; where that is not certain, it is set aside. The pieces
are gone through three times, or four, so that what is held in memory grows with the feedback and not with the traces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from loop.collect.events import Reason
from loop.collect.record import Fault, Record, Tally
from loop.collect.sources.chat import NotTextError
from loop.collect.sources.judging import decisions, digest, told
from loop.collect.sources.pieces import About, Again, Generation, Judgement, Piece, Skipped, Span, Stage, Trace
from loop.collect.sources.verdicts import Reading
from loop.errors import BadInputError

_NO_WORKFLOW: Final = (
    "{} line {}: nothing was imported: it does not say of which workflow it is; "
    "give --workflow, or put the attribute loop.workflow on the traces"
)
_NOWHERE: Final = ("", "")
"""No span of any trace."""


def records(name: str, again: Again, tally: Tally, reading: Reading) -> Iterator[Record]:
    """Decisions out of the pieces of a source, and what could not become any, each with its fault.

    Args:
        name: of the source; ids begin with it.
        again: gives its pieces.
        tally: counts what is no record.
        reading: what the traces do not say themselves.

    Raises:
        BadInputError: a trace that was judged names no workflow, and neither does `reading`.
    """
    index = _Index(tally)
    for piece in again(Stage.JUDGEMENTS):
        index.note(piece)
    index.settle(again)
    given = broken = 0
    for piece in again(Stage.ALL):
        if isinstance(piece, Record):
            broken += 1
            yield piece
        elif isinstance(piece, Generation) and (judgements := index.take(piece)):
            given += len(judgements)
            details = piece.details()
            about = details.about.over(index.traces.get(piece.key[0], About()))
            workflow = about.workflow or reading.workflow
            if workflow is None:
                raise BadInputError(_NO_WORKFLOW.format(piece.path or "", piece.line))
            details = replace(details, about=replace(about, workflow=workflow))
            yield from decisions(name, piece, details, judgements, tally=tally, key=reading.key)
    assert given + len(index.lost) == len(index.judgements), "a judgement was lost"
    assert broken == index.broken, "what cannot be read did not come each time"
    for judgement, why in index.lost:
        raw = msgspec.json.encode({"trace": judgement.trace, "feedback": [told(judgement)]})
        yield Record(judgement.line, raw, path=judgement.path, fault=Fault(Reason.DECISION, why))


@dataclass
class _Index:
    """The judgements of a source, and what is needed to find the generation that each is about."""

    tally: Tally
    judgements: dict[str, Judgement] = field(default_factory=dict)
    traces: dict[str, About] = field(default_factory=dict)
    """Of the traces that were judged, without their answers."""
    generations: dict[str, list[str]] = field(default_factory=dict)
    """Of the traces that were judged: their spans that are generations."""
    responses: dict[str, Span] = field(default_factory=dict)
    found: dict[Span, list[Judgement]] = field(default_factory=dict)
    open: list[Judgement] = field(default_factory=list)
    """Those of a trace with several generations."""
    whole: dict[str, bytes | None] = field(default_factory=dict)
    """Of such traces: the digest of what the trace answered."""
    answers: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Of such traces: span to the digest of its answer."""
    lost: list[tuple[Judgement, str]] = field(default_factory=list)
    broken: int = 0
    taken: set[Span] = field(default_factory=set)

    def note(self, piece: Piece) -> None:
        """The first time: the judgements."""
        if isinstance(piece, Record):
            self.broken += 1
        elif isinstance(piece, Skipped):
            self.tally.skipped[piece.kind] += 1
        elif isinstance(piece, Judgement) and piece.id in self.judgements:
            self.tally.skipped["repeated"] += 1
        elif isinstance(piece, Judgement):
            self.judgements[piece.id] = piece
            for trace in (piece.trace, *(span[0] for span in piece.spans)):
                if trace is not None:
                    self.generations.setdefault(trace, [])
            if piece.response is not None:
                self.responses.setdefault(piece.response, _NOWHERE)

    def place(self, piece: Piece) -> None:
        """The second time: the generations of the traces that were judged."""
        if isinstance(piece, Trace) and piece.id in self.generations:
            self.traces[piece.id] = replace(piece.about.over(self.traces.get(piece.id, About())), answer=None)
        elif isinstance(piece, Generation):
            trace, span = piece.key
            if trace in self.generations and span not in self.generations[trace]:
                self.generations[trace].append(span)
            if piece.response in self.responses:
                self.responses[piece.response] = piece.key

    def compare(self, piece: Piece) -> None:
        """The third time, if needed: what the traces with several generations answered, and what each of these did."""
        if isinstance(piece, Trace) and piece.id in self.whole and (answers := _answers(piece.about.answer)):
            self.whole[piece.id] = digest(answers)
        elif isinstance(piece, Generation) and piece.key[0] in self.whole:
            self.answers.setdefault(piece.key[0], {})[piece.key[1]] = digest(_answers(lambda: piece.content().answers))

    def settle(self, again: Again) -> None:
        """Put each judgement to its generation, or to the lost."""
        if self.judgements:
            for piece in again(Stage.GENERATIONS):
                self.place(piece)
        self._settle(certain=True)
        if self.open:
            for piece in again(Stage.GENERATIONS):
                self.compare(piece)
            self._settle(certain=False)

    def _settle(self, *, certain: bool) -> None:
        """Settle what is certain and keep the rest open, or settle the rest."""
        asked = self.judgements.values() if certain else self.open
        self.open = []
        for judgement in asked:
            trace = judgement.trace or ""
            if (key := self._named(judgement) or self._only(trace)) is not None:
                self.found.setdefault(key, []).append(judgement)
            elif certain and len(self.generations.get(trace, ())) > 1:
                self.open.append(judgement)
                self.whole[trace] = None
            else:
                count = len(self.generations.get(trace, ()))
                hint = "record it on the generation itself" if count else "bring generations and feedback in together"
                why = f"{judgement.name}: expected feedback on one generation, got a trace with {count} of them; {hint}"
                self.lost.append((judgement, why))

    def take(self, generation: Generation) -> list[Judgement]:
        """The last time: the judgements of a generation; none are left of one that comes again."""
        if generation.key in self.taken:
            self.tally.skipped["repeated"] += 1
            return []
        if (judgements := self.found.pop(generation.key, None)) is None:
            self.tally.unrated += 1
            return []
        self.taken.add(generation.key)
        return judgements

    def _named(self, judgement: Judgement) -> Span | None:
        """The generation that a judgement names."""
        for trace, span in judgement.spans:
            if span in self.generations[trace]:
                return trace, span
        key = self.responses.get(judgement.response or "", _NOWHERE)
        return None if key == _NOWHERE else key

    def _only(self, trace: str) -> Span | None:
        """The one generation of a trace, or the one whose answer was the trace's."""
        spans = self.generations.get(trace, [])
        if len(spans) > 1 and (whole := self.whole.get(trace)) is not None:
            spans = [span for span in spans if self.answers[trace][span] == whole]
        return (trace, spans[0]) if len(spans) == 1 else None


def _answers(read: Callable[[], list[str]] | None) -> list[str]:
    try:
        return read() if read else []
    except NotTextError:
        return []
