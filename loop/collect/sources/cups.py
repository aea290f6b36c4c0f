"""CUPS: coding sessions with an assistant, each state told by the person afterwards (Mozannar et al., CHI 2024).

One interaction per showing of a suggestion. The file `derived_events.jsonl.gz` holds one telemetry event a line, the
sessions one after the other; a showing begins with `Shown` and ends with `Accepted` or `Rejected`, or with the next
`Shown` (the person typed on: ignored). In between stand `Replay`, the same suggestion drawn again as the person types
along it, and `Browsing`, which puts another suggestion in its place: so a showing may have several candidates, in the
order in which they appeared. Both are counted as skipped, for neither is a decision. A session may begin with a
`Replay`: when its suggestion first appeared was not recorded, so there is no dwell (`shown_before`).

What has a text: the suggestions and the part of the document before the cursor, which is the prompt. Some events lack
it; it is then taken from the nearest event of the showing, and where none has it, the showing is set aside. What has
none: what an accepted suggestion became. Only by how much it was changed is known (`EditPercentage`, the relative edit
distance at five later times). The decision stays what it was, an accept of that text, with the reason `edited_later`
where the last of the five is above 0: that text is not what stood in the end, and no demonstration. Not used are
`Measurements` (a mean over tokens is no log-probability of the text), `HiddenState`, `TimeSpentInState` and
`UserExperience`. `LabeledState`, what the person said they were doing, becomes a reason tag.
The data set: https://github.com/microsoft/coderec_programming_states.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from loop.collect.events import EDITED_LATER, Reason
from loop.collect.record import Fault, Progress, Record, Source, Tally
from loop.collect.sources.documents import Document, broken, reader, told
from loop.errors import BadInputError
from loop.schema import Decision

WORKFLOW: Final = "design"
MODEL: Final = "github copilot 2022-08"
BROWSED: Final = "browsed"
"""Reason tag where the person went through several suggestions."""
SHOWN_BEFORE: Final = "shown_before"
"""Reason tag where the suggestion was there before the recording began."""

State = Literal["Shown", "Accepted", "Rejected", "Replay", "Browsing"]


class Line(msgspec.Struct, rename="pascal", gc=False):
    """As much of an event as is read."""

    session: int = msgspec.field(name="session")
    user_id: int
    time_generated: Annotated[datetime, msgspec.Meta(tz=True)]
    state_name: State
    current_suggestion: str
    current_prompt: str
    edit_percentage: Annotated[list[float], msgspec.Meta(min_length=1)]
    labeled_state: str
    task: str
    place: int = msgspec.field(name="_place", default=0)
    """Line of the file."""

    def __post_init__(self) -> None:
        self.current_suggestion, self.current_prompt = map(_text, (self.current_suggestion, self.current_prompt))


def _text(value: str) -> str:
    """Texts are JSON within JSON; an empty one may be nothing at all."""
    return msgspec.json.decode(value, type=str) if value else ""


@dataclass
class Showing:
    """One suggestion on the screen, from its appearance to what became of it."""

    lines: list[Line] = field(default_factory=list)
    damage: str | None = None
    """Why it is not certain what became of it."""

    @property
    def decided(self) -> Line | None:
        last = self.lines[-1]
        return last if last.state_name in {"Accepted", "Rejected"} else None


def read(path: Path, *, progress: Progress | None = None) -> Source:
    """The showings of a CUPS file (`derived_events.jsonl.gz`, unpacked or a folder of such) as events.

    Args:
        path: the file, or the folder.
        progress: called with the bytes of the source read so far, and how many there are.

    Raises:
        BadInputError: at once or while the records are drawn: no such file, another format, cut short.
    """
    tally = Tally()
    return Source("cups", path, _records(path, reader(path, progress)(), tally), tally=tally)


def _records(path: Path, documents: Iterable[Document | Record], tally: Tally) -> Iterator[Record]:
    """Every line goes into a showing, is skipped, or is a fault of its own: counted, asserted."""
    taken = skipped = faults = total = 0
    for session in _sessions(documents):
        bad = [item for item in session if isinstance(item, Record)]
        lines = [item for item in session if isinstance(item, Line)]
        total += len(session)
        faults += len(bad)
        yield from bad
        showings = list(_showings(session))
        for state in ("Replay", "Browsing"):
            repeated = sum(line.state_name == state for line in lines)
            skipped += repeated
            if repeated:
                tally.skipped[state.lower()] += repeated
        taken += sum(line.state_name in {"Shown", "Accepted", "Rejected"} for s in showings for line in s.lines)
        yield from (_record(showing, turn, lines[-1].time_generated) for turn, showing in enumerate(showings))
    assert total == taken + skipped + faults, "an event was lost"
    if total == faults:
        raise BadInputError(f"{path}: expected events of CUPS with StateName and CurrentSuggestion, got none")


def _sessions(documents: Iterable[Document | Record]) -> Iterator[list[Line | Record]]:
    """The lines of each session; what cannot be read stands where it stood, in the session before it."""
    items = (item if isinstance(item, Record) else _line(item) for item in documents)
    session: list[Line | Record] = []
    current: int | None = None
    for item in items:
        if isinstance(item, Line):
            if current is not None and item.session != current:
                yield session
                session = []
            current = item.session
        session.append(item)
    if session:
        yield session


def _line(document: Document) -> Line | Record:
    try:
        line = msgspec.convert(document.value, Line)
    except (msgspec.MsgspecError, ValueError) as error:
        return broken(document, "", f"expected an event of CUPS: {told(error)}")
    line.place = document.line
    return line


def _showings(session: Sequence[Line | Record]) -> Iterator[Showing]:
    """The lines of a session by the showing that they belong to."""
    showing: Showing | None = None
    before: datetime | None = None
    for item in session:
        if isinstance(item, Record):
            if showing is not None and showing.decided is None:
                showing.damage = f"line {item.line}, which may say what became of it, cannot be read"
            continue
        if showing is None or item.state_name == "Shown" or showing.decided is not None:
            if showing is not None:
                yield showing
            showing = Showing()
            if item.state_name in {"Accepted", "Rejected"}:
                showing.damage = f"line {item.place}: expected Shown before {item.state_name}, got none"
        if before is not None and item.time_generated < before:
            showing.damage = f"line {item.place}: expected times that do not run backwards, got {item.time_generated}"
        showing.lines.append(item)
        before = item.time_generated
    if showing is not None:
        yield showing


def _record(showing: Showing, turn: int, ended: datetime) -> Record:
    first, last, decided = showing.lines[0], showing.lines[-1], showing.decided
    shown = list(dict.fromkeys(line.current_suggestion for line in showing.lines))
    prompts = [line.current_prompt for line in showing.lines if line.current_prompt.strip()]
    known = first.state_name == "Shown"
    accepted = decided is not None and decided.state_name == "Accepted"
    key = f"cups:{first.session}:{first.time_generated.isoformat()}"
    event: dict[str, Any] = {
        "event_id": key,
        "suggestion_id": key,
        "episode_id": f"cups:{first.session}",
        "turn": turn,
        "task_id": first.task,
        "workflow": WORKFLOW,
        "shown_at": first.time_generated,
        "decided_at": decided and decided.time_generated,
        "received_at": ended,
        "employee": f"cups:{first.user_id}",
        "visibility": [],
        "prompt": [{"role": "user", "content": prompts[0]}] if prompts else [],
        "candidates": [{"position": place, "text": text} for place, text in enumerate(shown)],
        "model_version": MODEL,
        "decision": _decision(decided),
        "chosen": shown.index(last.current_suggestion) if accepted else None,
        "final_text": last.current_suggestion if accepted else None,
        "reasons": list(_tags(showing, accepted=accepted, several=len(shown) > 1)),
        "dwell_ms": (last.time_generated - first.time_generated) // timedelta(milliseconds=1)
        if decided and known
        else None,
        "purposes": ["training", "evaluation"],
    }
    fault = None
    if showing.damage:
        fault = Fault(Reason.SESSION, showing.damage, day=first.time_generated.date(), workflow=WORKFLOW)
    elif not prompts:
        why = "expected what stood before the cursor in some event of the showing, got none"
        fault = Fault(Reason.PROMPT, why, day=first.time_generated.date(), workflow=WORKFLOW)
    return Record(first.place, msgspec.json.encode(event), fault=fault)


def _decision(decided: Line | None) -> Decision:
    match decided:
        case None:
            return Decision.IGNORE
        case Line(state_name="Accepted"):
            return Decision.ACCEPT
        case _:
            return Decision.REJECT


def _tags(showing: Showing, *, accepted: bool, several: bool) -> Iterator[str]:
    last = showing.lines[-1]
    if showing.lines[0].state_name != "Shown":
        yield SHOWN_BEFORE
    if several:
        yield BROWSED
    if accepted and last.edit_percentage[-1] > 0:
        yield EDITED_LATER
    label = re.sub(r"\s*\([^)]*\)\s*$", "", last.labeled_state)
    yield "state:" + "_".join(re.findall(r"\w+", label.lower()))
