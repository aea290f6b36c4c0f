"""What people's judgements of one generation come to: an event for each person, or what could not become any."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from loop.collect.events import WRITER_UNKNOWN, Reason, pseudonym
from loop.collect.record import Fault, Record, Tally
from loop.collect.sources.chat import NotTextError
from loop.collect.sources.pieces import Content, Details, Generation, Judgement
from loop.collect.sources.verdicts import Verdict
from loop.schema import Decision

PURPOSES: Final = ("training", "evaluation")
"""What imported decisions may be used for where the traces do not say: whoever imports them says that they may."""
UNKNOWN_MODEL: Final = "unknown"
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


def decisions(  # noqa: PLR0913 - a generation, and all that bears on it
    name: str, generation: Generation, details: Details, judgements: list[Judgement], *, tally: Tally, key: bytes
) -> Iterator[Record]:
    """One record for each person who judged a generation.

    Args:
        name: of the source; ids begin with it.
        generation: what was judged.
        details: what it and its trace say of it.
        judgements: all on this generation.
        tally: counts what is no record.
        key: the home's secret.
    """
    try:
        content: Content | NotTextError = generation.content()
    except NotTextError as error:
        content = error
    suggestion, user = f"{name}:{':'.join(generation.key)}", details.about.user
    people: dict[str | None, list[Judgement]] = {}
    for judgement in sorted(judgements, key=lambda j: (j.at or _NEVER, j.id)):
        by_user = judgement.author == user if judgement.author else judgement.by_user
        people.setdefault(None if by_user else judgement.author or "", []).append(judgement)
    for person, group in people.items():
        known = person or (user if person is None else None)
        judged = _judged(group, content, tally)
        record = _record(_shown_to(person, suggestion, key), name, generation, details, known, group, judged)
        if known is None and record.fault is None:
            tally.writers_unknown += 1
        yield record


def _shown_to(person: str | None, suggestion: str, key: bytes) -> str:
    """The id of a suggestion; where somebody judged who is not the trace's user, as it was shown to this person.

    So two people's decisions do not replace each other, and what one person changes replaces what that person said.
    """
    if not person:
        return suggestion if person is None else f"{suggestion}:reviewer"
    assert key, "an id that people can be found by needs a secret"
    return f"{suggestion}:{pseudonym(f'{suggestion}:{person}', key).removeprefix('p_')[:16]}"


def _record(  # noqa: PLR0913, PLR0917 - a generation, and all that bears on it
    suggestion: str,
    name: str,
    generation: Generation,
    details: Details,
    person: str | None,
    group: list[Judgement],
    judged: _Judged | Fault,
) -> Record:
    """What one person said of one generation, as an event or with its fault.

    The event's id is a digest of the decision too: one that was changed since the last import is a later event on the
    same suggestion.
    """
    about, work = details.about, details.about.session or generation.key[0]
    tags = dict.fromkeys(tag for judgement in group for tag in judgement.tags)
    event: dict[str, Any] = {
        "suggestion_id": suggestion,
        "episode_id": f"{name}:{work}",
        "workflow": about.workflow,
        "employee": person or work,
        "visibility": [],
        "purposes": list(PURPOSES),
        **details.told,
        "model_version": details.model or UNKNOWN_MODEL,
        "reasons": [*tags] if person else [*tags, WRITER_UNKNOWN],
    }
    if isinstance(judged, Fault):
        event |= {"shown_at": details.end or details.start, "feedback": [told(judgement) for judgement in group]}
        return Record(generation.line, msgspec.json.encode(event), path=generation.path, fault=judged)
    decided = {
        "decision": judged.decision,
        "chosen": judged.chosen,
        "final_text": judged.final_text,
        "decided_at": None if judged.decision == Decision.IGNORE else judged.at,
    }
    changes = digest([msgspec.json.encode([[j.id for j in group], decided, event["reasons"]]).decode()])
    event |= decided | {
        "event_id": f"{suggestion}:{changes.hex()}",
        "shown_at": _shown_at(details, judged.at),
        "received_at": judged.at,
        "prompt": judged.content.prompt,
        "candidates": [{"position": place, "text": text} for place, text in enumerate(judged.content.answers)],
    }
    why = None
    if event["shown_at"] is None:
        why = Fault(Reason.TIMES, "expected the time at which the answer was complete, got none that can be read")
    return Record(generation.line, msgspec.json.encode(event), path=generation.path, fault=why)


@dataclass(frozen=True, slots=True)
class _Judged:
    """What one person's judgements come to."""

    decision: str
    chosen: int | None
    final_text: str | None
    at: datetime
    content: Content


def _judged(group: Sequence[Judgement], content: Content | NotTextError, tally: Tally) -> _Judged | Fault:
    """What the judgements of one person come to: the last of each name, as long as they agree.

    A text that should have stood instead outweighs a rating, whichever way it went.
    """
    if (timeless := next((j for j in group if j.at is None), None)) is not None:
        return Fault(Reason.TIMES, f"{timeless.name}: expected the time of the feedback, got none that can be read")
    last = {judgement.name: judgement for judgement in group}.values()
    clear = [judgement for judgement in last if judgement.verdict is not Verdict.UNCLEAR]
    if not clear:
        told = "; ".join(f"{judgement.name} = {judgement.shown}" for judgement in last)
        name = next(iter(last)).name
        return Fault(
            Reason.DECISION,
            f"expected feedback for or against, got {told}: say what it means with --score '{name}=DOWN:UP'",
        )
    if isinstance(content, NotTextError):
        return Fault(Reason.PROMPT, f"prompt or answer: {content}")
    asked = any(message["content"].strip() for message in content.prompt)
    if not asked or not content.answers:
        reason, what = (Reason.CANDIDATES, "answer") if asked else (Reason.PROMPT, "prompt")
        return Fault(reason, f"expected the text of the {what}, got none: switch on the recording of contents")
    at = max(judgement.at for judgement in clear if judgement.at is not None)
    if decided := [judgement for judgement in clear if judgement.verdict is Verdict.DECIDED]:
        outcome = _in_our_words(decided[-1], content.answers)
    else:
        outcome = _by_rating(clear, content.answers)
    if isinstance(outcome, Fault):
        return outcome
    if len(last) > len(clear):
        tally.skipped["no_side"] += len(last) - len(clear)
    return _Judged(*outcome, at, content)


_Outcome = tuple[str, int | None, str | None]
"""Decision, chosen position, final text."""


def _in_our_words(judgement: Judgement, answers: Sequence[str]) -> _Outcome | Fault:
    """A decision that was recorded as such; what need not be said of one answer is filled in."""
    assert judgement.decision is not None
    if judgement.decision not in (Decision.ACCEPT, Decision.MODIFY):
        return judgement.decision, judgement.chosen, judgement.text
    chosen = 0 if judgement.chosen is None and len(answers) == 1 else judgement.chosen
    if chosen is None or not 0 <= chosen < len(answers):
        return Fault(Reason.CHOSEN, f"loop.chosen: expected one of {len(answers)} answers, got {judgement.chosen}")
    accepted = judgement.decision == Decision.ACCEPT and judgement.text is None
    return judgement.decision, chosen, answers[chosen] if accepted else judgement.text


def _by_rating(clear: Sequence[Judgement], answers: Sequence[str]) -> _Outcome | Fault:
    verdicts = {judgement.verdict for judgement in clear}
    texts = {judgement.text for judgement in clear if judgement.verdict is Verdict.CORRECTION}
    told = "; ".join(f"{judgement.name} = {judgement.shown}" for judgement in clear)
    if len(texts) > 1 or (not texts and len(verdicts) > 1):
        return Fault(Reason.DECISION, f"expected feedback that agrees, got both ways from one person: {told}")
    if not texts and verdicts == {Verdict.DOWN}:
        return Decision.REJECT, None, None
    final = next(iter(texts), None)
    same = [place for place, answer in enumerate(answers) if answer == final]
    if same and Verdict.DOWN in verdicts:
        return Fault(Reason.DECISION, f"expected feedback that agrees, got the same text as a correction: {told}")
    if len(answers) > 1 and not same:
        return Fault(Reason.CHOSEN, f"expected which of {len(answers)} answers was meant, got {told} on all of them")
    if final is None or same:
        place = same[0] if same else 0
        return Decision.ACCEPT, place, answers[place]
    return Decision.MODIFY, 0, final


def _shown_at(details: Details, decided: datetime) -> datetime | None:
    """When the answer was complete; where it was judged before that, inside its own span, when the call began."""
    if details.end is not None and (details.start is None or details.end <= decided):
        return details.end
    return details.start


def told(judgement: Judgement) -> dict[str, Any]:
    """A judgement as it is kept with what was set aside; whoever made it under the key that is masked."""
    return {
        "employee": judgement.author,
        "name": judgement.name,
        "value": judgement.shown,
        "text": judgement.text,
        "at": judgement.at,
    }


def digest(texts: Sequence[str]) -> bytes:
    """BLAKE2b-64 of some texts."""
    return hashlib.blake2b("\0".join(texts).encode("utf-8", "surrogatepass"), digest_size=8).digest()
