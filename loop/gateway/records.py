"""From what a tool sent to what the intake stores: whole events, short feedback, outcomes, suggestions, sweeps.

Each function takes one item, already authorised in general, and gives an `Item` or says why not. Nothing here waits,
reads a socket or writes a file.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple

import msgspec

from loop.collect import events
from loop.collect.events import CLOCK_BACKWARDS, LINE_BYTES, Event, EventError, Reason, pseudonym
from loop.collect.items import Item, Waiting
from loop.collect.served import SuggestionRecord
from loop.gateway import rules, wire
from loop.gateway.wire import JSON, Feedback, Outcome, Problem
from loop.privacy.masking import follow, made_of
from loop.privacy.recognise import find
from loop.schema import Decision
from loop.validate.contract import SKEW

EVENT: Final = "event"
OUTCOME: Final = "outcome"
SUGGESTION: Final = "suggestion"
_SWEPT: Final = "ignore:"
IGNORED: Final = f"{_SWEPT}{{}}"
"""Key of the event that says that nobody decided on a suggestion."""


class Whole(Event, omit_defaults=True):  # type: ignore[call-arg]
    """An event that says all of itself; what it does not hold is not written."""


_WHOLE: Final = msgspec.json.Decoder(Whole)
_KEYS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_OURS: Final = re.compile(r"s-[0-9a-f]{32}")


@dataclass(frozen=True)
class Names:
    """The keys under which people are known: one for what is stored, and one for comparing what was sent.

    The second is never replaced, so that an event that is sent again after the first was rotated is still the same.
    """

    stored: bytes
    compared: bytes


class Taken(NamedTuple):
    """An item that may be stored, and the suggestion that it is about."""

    kind: Literal["event", "outcome", "suggestion"]
    item: Item | Waiting
    suggestion_id: str


def is_ours(suggestion: str) -> bool:
    """Whether an id has the form of `suggestion_id`."""
    return len(suggestion) == 34 and _OURS.fullmatch(suggestion) is not None


def suggestion_id(now: datetime) -> str:
    """`s-`, 12 digits of the time in milliseconds, 20 random ones, all hexadecimal."""
    return f"s-{int(now.timestamp() * 1000):012x}{secrets.token_hex(10)}"


# -- events -----------------------------------------------------------------------------------------------------------


def says_all(line: bytes) -> bool:
    """Whether an item is a whole event, by its key `candidates`; exact for all that is JSON as people write it."""
    return b'"candidates"' in line


def read(line: bytes) -> Whole | Feedback:
    """One item of feedback.

    Of a key that is repeated the last counts, as everywhere in JSON, but an `event_id` may not be.

    Raises:
        Problem: it is neither a whole event nor a short one; the message names the field.
    """
    if len(line) > LINE_BYTES:
        raise wire.too_long()
    whole = says_all(line)
    try:
        item = _whole(line) if whole else wire.decode(wire.FEEDBACK, line)
    except Problem as problem:
        keys = _keys(line)
        if problem.status == 400 or keys is None or ("candidates" in keys) is whole:
            raise
        item = wire.decode(wire.FEEDBACK, line) if whole else _whole(line)
    _assert_one_of_a_clients(line, item.event_id)
    return item


def read_whole(line: bytes) -> Whole | None:
    """The same where an item is a whole event in order; None where `read` has more to say."""
    try:
        event = _in_utc(_WHOLE.decode(line)) if len(line) <= LINE_BYTES else None
        if event is not None:
            _assert_one_of_a_clients(line, event.event_id)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, Problem):
        return None
    return event if event is not None and event.employee.strip() else None


def whole_item(event: Whole, names: Names, now: datetime, record: SuggestionRecord | None = None) -> Item:
    """What is stored of a whole event.

    Args:
        record: of its suggestion, if that is one of ours: see `as_served`.

    Raises:
        Problem: it breaks a rule.
    """
    raw, event.employee = event.employee, ""
    received, event.received_at = event.received_at, None
    told = sent = JSON.encode(event)  # once, for the digest and for the spool
    event.received_at = received
    if record is not None:
        told = JSON.encode(msgspec.structs.replace(as_served(event, record), received_at=None))
    event.employee = _pseudonym(raw, names.stored)
    _refuse(rules.breach(event, now))
    body = told.replace(_NOBODY, b'"employee":"%s"' % event.employee.encode(), 1)
    if received is not None:
        body = b'%s,"received_at":%s}' % (body[:-1], JSON.encode(received))
    return _packed(event, _digest(sent, raw, names), body, now)


def joined(feedback: Feedback, record: SuggestionRecord, last: str | None, names: Names, now: datetime) -> Item:
    """What is stored of a short feedback: the whole event, filled in from the suggestion's record.

    Args:
        last: the last event on that suggestion, which this one revises unless it says otherwise.

    Raises:
        Problem: together with the suggestion it breaks a rule, or nobody says who decided.
    """
    if feedback.decided_at is not None:
        feedback.decided_at = wire.utc(feedback.decided_at, "decided_at")
    if feedback.shown_at is not None:
        feedback.shown_at = wire.utc(feedback.shown_at, "shown_at")
    if feedback.received_at is not None:
        feedback.received_at = wire.utc(feedback.received_at, "received_at")
    raw, feedback.employee = feedback.employee, None
    received, feedback.received_at = feedback.received_at, None  # as of a whole event, no part of the content
    digest = _digest(JSON.encode(feedback), raw, names)
    feedback.received_at = received
    if raw is not None and not raw.strip():
        raise Problem(422, "id", "employee: expected the id of a person, got an empty one", param="employee")
    employee = record.employee if raw is None else _pseudonym(raw, names.stored)
    if employee is None:
        message = "employee: expected who decided, for neither the feedback nor its suggestion says so"
        raise Problem(422, "missing_field", message, param="employee")
    event = _filled(feedback, record, employee, now)
    if event.revises is None and last != event.event_id:
        event.revises = last
    _refuse(rules.breach(event, now))
    return _stored(event, digest, now)


def as_served(event: Whole, record: SuggestionRecord) -> Whole:
    """A whole event on one of our suggestions, refused if it says otherwise than what we served.

    What was shown, by which version and how probably is ours to say: estimates of other policies stand on it. Where it
    was shown with values in the places of placeholders, the event gets the placeholders back.

    Raises:
        Problem: 422.
    """
    told = [(candidate.text, candidate.logprob) for candidate in event.candidates]
    ours = [(candidate.text, candidate.logprob) for candidate in record.candidates]
    if told != ours and len(told) == len(ours):
        followed = [(follow(text, shown, find), p) for (text, p), (shown, _) in zip(told, ours, strict=True)]
        if followed == ours:
            told, event.candidates, event.prompt = ours, record.candidates, record.messages
    said = {
        "workflow": (event.workflow, record.workflow),
        "model_version": (event.model_version, record.model_version),
        "arm_propensity": (event.arm_propensity, record.arm_propensity),
        "order_propensity": (event.order_propensity, record.order_propensity),
        "candidates": (told, ours),
    }
    for name, (theirs, served) in said.items():
        if theirs != served:
            message = f"{name}: expected what this gateway served, got another; leave it out, as short feedback does"
            raise Problem(422, "not_as_served", message, param=name)
    if event.final_text is not None and event.chosen is not None and 0 <= event.chosen < len(ours):
        edited = event.decision == Decision.MODIFY
        event.final_text = made_of(event.final_text, ours[event.chosen][0], find, edited=edited)
    return event


def ignored(record: SuggestionRecord, now: datetime) -> Item:
    """What is stored of a suggestion on which nobody decided in time."""
    assert record.employee is not None
    event = Whole(
        event_id=IGNORED.format(record.suggestion_id),
        decision=Decision.IGNORE.value,
        reasons=[],
        purposes=record.purposes,
        shown_at=record.shown_at,
        employee=record.employee,
        team=record.team,
        region=record.region,
        **_of(record),
    )
    item = _stored(event, hashlib.sha256(JSON.encode(event), usedforsecurity=False).digest()[:16], now)
    # Who decides while this is on its way comes before it, and nobody has ignored anything then.
    return msgspec.structs.replace(item, yields=True)


def _filled(feedback: Feedback, record: SuggestionRecord, employee: str, now: datetime) -> Whole:
    """The feedback with what it leaves to its suggestion; not checked yet."""
    decision, chosen, text = feedback.decision, feedback.chosen, feedback.final_text
    if decision in (Decision.ACCEPT, Decision.MODIFY) and chosen is None and len(record.candidates) == 1:
        chosen = 0
    if decision is Decision.ACCEPT and text is None and chosen is not None and chosen < len(record.candidates):
        text = record.candidates[chosen].text
    if text is not None and chosen is not None and 0 <= chosen < len(record.candidates):
        text = made_of(text, record.candidates[chosen].text, find, edited=decision is Decision.MODIFY)
    shown = record.shown_at if feedback.shown_at is None else feedback.shown_at
    reasons, decided = feedback.reasons, feedback.decided_at
    if decided is not None:
        if feedback.shown_at is None and decision is not Decision.IGNORE and decided < shown:
            # Shown by our clock, decided by the tool's, which is behind: no time is better than a false one.
            decided, reasons = None, [*reasons, *([] if CLOCK_BACKWARDS in reasons else [CLOCK_BACKWARDS])]
    elif decision is not Decision.IGNORE and CLOCK_BACKWARDS not in reasons:
        decided = max(feedback.received_at or now, shown)
    return Whole(
        event_id=feedback.event_id,
        revises=feedback.revises,
        shown_at=shown,
        decided_at=decided,
        received_at=feedback.received_at,
        employee=employee,
        team=record.team if feedback.team is None else feedback.team,
        region=record.region if feedback.region is None else feedback.region,
        decision=decision.value,
        chosen=chosen,
        final_text=text,
        reasons=reasons,
        dwell_ms=feedback.dwell_ms,
        purposes=record.purposes if feedback.purposes is None else feedback.purposes,
        **_of(record),
    )


def _of(record: SuggestionRecord) -> dict[str, Any]:
    """What an event has from its suggestion whatever the feedback says."""
    return {
        "suggestion_id": record.suggestion_id,
        "episode_id": record.episode_id,
        "turn": record.turn,
        "task_id": record.task_id,
        "workflow": record.workflow,
        "visibility": record.visibility,
        "prompt": record.messages,
        "candidates": record.candidates,
        "model_version": record.model_version,
        "arm_propensity": record.arm_propensity,
        "order_propensity": record.order_propensity,
    }


def _whole(line: bytes) -> Whole:
    try:
        event = _in_utc(_WHOLE.decode(line))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _not_an_event(line) from None
    if not event.employee.strip():
        raise Problem(422, "id", "employee: expected the id of a person, got an empty one", param="employee")
    return event


def _in_utc(event: Whole) -> Whole:
    event.shown_at = wire.utc(event.shown_at, "shown_at")
    if event.decided_at is not None:
        event.decided_at = wire.utc(event.decided_at, "decided_at")
    if event.received_at is not None:
        event.received_at = wire.utc(event.received_at, "received_at")
    return event


def _not_an_event(line: bytes) -> Problem:
    """What `events.decode` says of a line that is no event."""
    try:
        events.decode(line)
    except EventError as error:
        message = str(error).removeprefix("field ")
        status = 400 if error.reason in (Reason.NOT_JSON, Reason.NOT_UTF8) else 422
        named = re.match(r"([\w.\[\]]+): ", message) or re.fullmatch(r"expected (?:a|no) field '?([\w.]+)\b.*", message)
        return Problem(status, error.reason.value, message, param=named[1] if named else None)
    raise AssertionError("a line is an event to the collector and none to the gateway")


def _keys(line: bytes) -> set[str] | None:
    """The keys of an object; None if it is none."""
    try:
        return set(_KEYS.decode(line))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _assert_one_of_a_clients(line: bytes, event_id: str) -> None:
    """Refuse an item that says its key twice, and a key of the sweep's."""
    if line.count(b'"event_id"') > 1:
        json.loads(line, object_pairs_hook=_once)
    if event_id.startswith(_SWEPT):
        raise Problem(
            422,
            "id",
            f"event_id: expected none that begins with {_SWEPT}, which is the gateway's own",
            param="event_id",
        )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if sum(name == "event_id" for name, _ in pairs) > 1:
        raise Problem(422, "duplicate_field", "event_id: expected it once, got it twice", param="event_id")
    return dict(pairs)


def _refuse(breach: rules.Breach | None) -> None:
    if breach is not None:
        reason, field, told = breach
        raise Problem(422, reason.value, f"{field}: {told}", param=field)


_pseudonym: Final = lru_cache(maxsize=8_192)(pseudonym)
"""The people of a company decide again and again; kept in memory only, and bounded."""
_NOBODY: Final = b'"employee":""'
"""As it stands in an encoded event; quotes within a text are escaped, so it stands nowhere else."""


def _digest(told: bytes, raw: str | None, names: Names) -> bytes:
    """16 bytes of SHA-256 over what was sent, the employee's id under a key so that nobody can be read off it."""
    digest = hashlib.sha256(told, usedforsecurity=False)
    if raw is not None:
        digest.update(_pseudonym(raw, names.compared).encode())
    return digest.digest()[:16]


def _stored(event: Whole, digest: bytes, now: datetime) -> Item:
    return _packed(event, digest, JSON.encode(event), now)


def _packed(event: Whole, digest: bytes, body: bytes, now: datetime) -> Item:
    suggestion = event.suggestion_id
    return Item(
        EVENT,
        event.event_id,
        digest,
        b'{"kind":"event","event":%s,"received_at":%s}' % (body, JSON.encode(now)),
        now,
        suggestion if is_ours(suggestion) else None,
    )


# -- suggestions and outcomes -----------------------------------------------------------------------------------------


def suggestion_item(record: SuggestionRecord, now: datetime) -> Item:
    """What is stored of a suggestion before it is shown."""
    body = JSON.encode(record)
    digest = hashlib.sha256(body, usedforsecurity=False).digest()[:16]
    return Item(SUGGESTION, record.suggestion_id, digest, b'{"kind":"suggestion","suggestion":%s}' % body, now)


def outcome_item(outcome: Outcome, record: SuggestionRecord, now: datetime) -> Item:
    """What is stored of an outcome: what the tool sent, with the workflow and the day of its suggestion.

    Raises:
        Problem: an id is not printable, or it was observed before the suggestion or in the future.
    """
    for name in ("outcome_id", "suggestion_id", "name"):
        if not rules.is_id(getattr(outcome, name)):
            _refuse(rules.bad_id(name))
    outcome.observed_at = observed = wire.utc(outcome.observed_at, "observed_at")
    if observed > now + SKEW:
        _refuse(
            (Reason.FUTURE, "observed_at", f"expected not after now, {now.isoformat()}, got {observed.isoformat()}")
        )
    digest = hashlib.sha256(JSON.encode(outcome), usedforsecurity=False).digest()[:16]
    whole = {
        "outcome_id": outcome.outcome_id,
        "suggestion_id": outcome.suggestion_id,
        "workflow": record.workflow,
        "day": record.shown_at.date(),
        "name": outcome.name,
        "value": outcome.value,
        "observed_at": observed,
        "received_at": now,
    }
    return Item(OUTCOME, outcome.outcome_id, digest, b'{"kind":"outcome","outcome":%s}' % JSON.encode(whole), now)
