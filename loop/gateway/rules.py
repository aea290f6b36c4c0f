"""The rules of the row contract that can be told of one event at the edge, so that a tool hears of a mistake at once.

The contract itself (loop/validate/contract.py) is still run when events land; these are its rules, field by field, in
plain Python because a query costs more than the whole request.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, Final

from loop import schema
from loop.collect.events import CLOCK_BACKWARDS, DELETED, Reason
from loop.schema import Decision
from loop.validate.contract import EARLIEST, ID_CHARS, ITEMS, PROMPT_CHARS, PURPOSES, ROLES, SKEW, TEXT_CHARS
from loop.workflows import WORKFLOWS

Breach = tuple[Reason, str, str]
"""The reason, the field, and what was expected and what came."""

_PROMPT_LIMIT: Final = {w.name: min(w.max_prompt_chars, PROMPT_CHARS) for w in WORKFLOWS.values()}
_WORKFLOWS: Final = frozenset(schema.WORKFLOWS)
_CHOSE: Final = frozenset((Decision.ACCEPT, Decision.MODIFY))
_DECISIONS: Final = frozenset(Decision)
_PURPOSES: Final = frozenset(PURPOSES)
_ROLES: Final = frozenset(ROLES)
_IDS: Final = ("event_id", "suggestion_id", "revises", "episode_id", "task_id", "team", "region", "model_version")
_ids_of: Final = attrgetter(*_IDS)
_NEVER: Final = float("-inf")
_CONTROL: Final = frozenset(map(chr, (*range(0x20), 0x7F)))


def breach(event: Any, now: datetime) -> Breach | None:
    """The first rule that an event breaks, None if it keeps them.

    Args:
        event: with the fields of `loop.collect.events.Event`, its times in UTC.
        now: aware; the time of receipt where the event names none.
    """
    return (
        _ids(event)
        or prompt(event.workflow, event.prompt)
        or _sizes(event)
        or _candidates(event.candidates)
        or _times(event, now)
        or _decision(event)
        or _numbers(event)
    )


def is_id(text: str) -> bool:
    """Whether it has 1 to `ID_CHARS` characters, none of them a control character."""
    return 0 < len(text) <= ID_CHARS and (text.isprintable() or _CONTROL.isdisjoint(text))


def bad_id(name: str) -> Breach:
    return Reason.ID, name, f"expected 1 to {ID_CHARS} characters and no control character"


def prompt(workflow: str, messages: Sequence[Any], field: str = "prompt") -> Breach | None:
    """The rules of the workflow's name and of a prompt, whose messages have a `role` and a `content`."""
    if workflow not in _WORKFLOWS:
        return Reason.WORKFLOW, "workflow", f"expected one of {', '.join(schema.WORKFLOWS)}"
    if not 0 < len(messages) <= ITEMS:
        return Reason.PROMPT, field, f"expected 1 to {ITEMS} messages, got {len(messages)}"
    chars, limit = 0, _PROMPT_LIMIT[workflow]
    for message in messages:
        chars += len(message.content)
        if message.role not in _ROLES:
            return Reason.PROMPT, field, f"expected roles among {', '.join(ROLES)}"
    if chars > limit:
        return Reason.TOO_LONG, field, f"expected at most {limit} characters, got {chars}"
    return None


def _ids(event: Any) -> Breach | None:
    for text in _ids_of(event):
        if text is not None and not (0 < len(text) <= ID_CHARS and text.isprintable()) and not is_id(text):
            return bad_id(_IDS[_ids_of(event).index(text)])
    if event.revises == event.event_id:
        return Reason.ID, "revises", "expected an earlier event, got the event itself"
    return None


def _sizes(event: Any) -> Breach | None:
    if event.final_text is not None and len(event.final_text) > TEXT_CHARS:
        return Reason.TOO_LONG, "final_text", f"expected at most {TEXT_CHARS} characters, got {len(event.final_text)}"
    if event.visibility and (found := tags("visibility", event.visibility)):
        return found
    if event.reasons and (found := tags("reasons", event.reasons)):
        return found
    if event.purposes:
        if len(event.purposes) > ITEMS:
            return Reason.TOO_LONG, "purposes", f"expected at most {ITEMS} items, got {len(event.purposes)}"
        if not _PURPOSES.issuperset(event.purposes):
            return Reason.PURPOSES, "purposes", f"expected some of {', '.join(PURPOSES)}"
    return None


def tags(name: str, given: Sequence[str]) -> Breach | None:
    """The rules of visibility and reasons."""
    if len(given) > ITEMS:
        return Reason.TOO_LONG, name, f"expected at most {ITEMS} items, got {len(given)}"
    if any(len(tag) > ID_CHARS for tag in given):
        return Reason.TOO_LONG, name, f"expected items of at most {ID_CHARS} characters"
    return None


def _candidates(candidates: Sequence[Any]) -> Breach | None:
    if not 0 < len(candidates) <= ITEMS:
        return Reason.CANDIDATES, "candidates", f"expected 1 to {ITEMS} of them, got {len(candidates)}"
    for place, candidate in enumerate(candidates):
        if candidate.position != place:
            return Reason.CANDIDATES, "candidates", "expected positions 0, 1, 2 and so on in this order"
        if len(candidate.text) > TEXT_CHARS:
            return Reason.TOO_LONG, "candidates", f"expected texts of at most {TEXT_CHARS} characters"
        if candidate.logprob is not None and not _NEVER < candidate.logprob <= 1e-6:
            return Reason.LOGPROB, "candidates", f"expected log-probabilities of at most 0, got {candidate.logprob}"
    return None


def _times(event: Any, now: datetime) -> Breach | None:
    shown, decided, received = event.shown_at, event.decided_at, event.received_at
    last = shown if decided is None else decided
    if received is None and EARLIEST <= shown <= last <= now:
        return None  # as almost always
    if shown < EARLIEST:
        return Reason.TIMES, "shown_at", f"expected after {EARLIEST.date()}, got {shown.isoformat()}"
    for name, time in (("shown_at", shown), ("decided_at", decided), ("received_at", received)):
        if time is not None and time > now + SKEW:
            return Reason.FUTURE, name, f"expected not after now, {now.isoformat()}, got {time.isoformat()}"
    if last < shown:
        told = f"expected not before shown_at {shown.isoformat()}, got {last.isoformat()}"
        return Reason.TIMES, "decided_at", told
    if received is not None and received < last - SKEW:
        return Reason.TIMES, "received_at", f"expected not before {last.isoformat()}, got {received.isoformat()}"
    return None


def _decision(event: Any) -> Breach | None:
    decision, decided = event.decision, event.decided_at
    if decision not in _DECISIONS:
        return Reason.DECISION, "decision", f"expected one of {', '.join(Decision)}"
    if decision == Decision.IGNORE:
        if decided is not None:
            return Reason.DECISION, "decided_at", "expected null for ignore, got a time"
    elif decided is None and CLOCK_BACKWARDS not in event.reasons:
        return Reason.DECISION, "decided_at", f"expected a time for {decision} (or the reason {CLOCK_BACKWARDS})"
    return _taken(event) if decision in _CHOSE else _left(event)


def _left(event: Any) -> Breach | None:
    """The rules of reject and ignore, which take no candidate."""
    if event.chosen is not None:
        return Reason.CHOSEN, "chosen", f"expected null for {event.decision}, got {event.chosen}"
    if event.final_text is not None:
        return Reason.FINAL_TEXT, "final_text", f"expected null for {event.decision}, got a text"
    return None


def _taken(event: Any) -> Breach | None:
    """The rules of accept and modify, which name a candidate and the text that stood in the end."""
    chosen, text, decision = event.chosen, event.final_text, event.decision
    if chosen is None or not 0 <= chosen < len(event.candidates):
        got = "null" if chosen is None else chosen
        return Reason.CHOSEN, "chosen", f"expected a shown position for {decision}, got {got}"
    if text is None:
        return Reason.FINAL_TEXT, "final_text", f"expected a text for {decision}, got null"
    same = text == event.candidates[chosen].text
    if decision == Decision.ACCEPT:
        if not same:
            told = "expected the chosen candidate verbatim for accept, got another text; send modify"
            return Reason.FINAL_TEXT, "final_text", told
    elif same:
        told = "expected another text than the chosen candidate for modify, got the same; send accept"
        return Reason.FINAL_TEXT, "final_text", told
    elif (text == "") is not (DELETED in event.reasons):
        told = f"expected an empty text for modify with the reason {DELETED} and only then"
        return Reason.FINAL_TEXT, "final_text", told
    return None


def _numbers(event: Any) -> Breach | None:
    if event.arm_propensity is not None and not 0.0 < event.arm_propensity <= 1.0:
        return _propensity("arm_propensity", event.arm_propensity)
    if event.order_propensity is not None and not 0.0 < event.order_propensity <= 1.0:
        return _propensity("order_propensity", event.order_propensity)
    if event.dwell_ms is not None and event.dwell_ms < 0:
        return Reason.DWELL, "dwell_ms", f"expected at least 0, got {event.dwell_ms}"
    if event.turn is not None and event.turn < 0:
        return Reason.TURN, "turn", f"expected at least 0, got {event.turn}"
    return None


def _propensity(name: str, value: float) -> Breach:
    return Reason.PROPENSITY, name, f"expected a probability above 0 and at most 1, got {value}"
