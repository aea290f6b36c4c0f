"""What a person's form says of a task, as an annotation; and what is wrong with it, in words for that person."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs

from loop.errors import BadInputError
from loop.label.tasks import CHOSEN, SEVERITIES, Kind
from loop.privacy.masking import Veil
from loop.privacy.recognise import Find

SKIP_REASONS: Final = (
    "I cannot judge this",
    "The task is unclear",
    "I do not read this language",
    "It upsets me",
    "I know who wrote this",
    "Something is broken",
)
POSITIONS: Final = ("1", "2", "tie", "neither")
"""What a form says of a preference: places on the page, so that the page does not say which text is which."""
_FIELDS: Final = 500
_NOTE: Final = 2_000
"""Characters of a reason."""
_TEXT: Final = 1_000_000

Fields = Mapping[str, Sequence[str]]


class Said(BadInputError):  # noqa: N818 - what a person is told of a form
    """The form is not whole; the message is for the person."""


@dataclass(frozen=True)
class Span:
    """A part of a text, in characters."""

    start: int
    end: int
    type: str


@dataclass(frozen=True)
class Given:
    """What was said: `label`, `content` and `reason` of an annotation."""

    label: str | None = None
    content: str | None = None
    reason: str | None = None


def fields(body: bytes) -> dict[str, list[str]]:
    """The fields of a form.

    Raises:
        Said: it has too many.
    """
    try:
        found = parse_qs(body.decode("ascii", "replace"), keep_blank_values=True, max_num_fields=_FIELDS)
    except ValueError:
        raise Said("The form has too many fields.") from None
    # Browsers send line ends as CRLF whatever was typed; the database takes no NUL.
    return {key: [v.replace("\r\n", "\n").replace("\0", "\ufffd") for v in values] for key, values in found.items()}


def one(form: Fields, name: str) -> str:
    """The value of a field; empty where there is none."""
    values = form.get(name, ())
    return values[0] if values else ""


def answer(task: Mapping[str, Any], form: Fields, *, swapped: bool, find: Find | None) -> Given:
    """What the form answers. Personal data that the person wrote is masked.

    Raises:
        Said: it is no answer to this task.
    """
    kind = Kind(task["kind"])
    veil = Veil(find or (lambda _: []))
    veil.reserve([*task["texts"], *(message["content"] for message in task["prompt"])])
    note = _limited(one(form, "note").strip(), _NOTE, "What you add")
    reason = veil.mask(note) if note else None
    if kind in CHOSEN:
        label = one(form, "label")
        if kind is Kind.PREFERENCE:
            return Given(side(label, swapped=swapped), reason=reason)
        if label not in task["options"]:
            raise Said("Choose one of the options.")
        return Given(label, reason=reason)
    content = {Kind.SPAN: _marked, Kind.REWRITE: _rewritten, Kind.RED_TEAM: _attempted}[kind](task, form, veil)
    return Given(content=json.dumps(content, ensure_ascii=False), reason=reason)


def _marked(task: Mapping[str, Any], form: Fields, veil: Veil) -> list[dict[str, Any]]:
    return [vars(span) for span in spans(task, form)]


def _rewritten(task: Mapping[str, Any], form: Fields, veil: Veil) -> str:
    text = _limited(one(form, "text"), _TEXT, "The text")
    if not text.strip():
        raise Said("Write the better text.")
    if text == task["texts"][0].replace("\r\n", "\n"):
        raise Said("The text is as it was. Change it, or skip the task with a reason.")
    return veil.mask(text)


def _attempted(task: Mapping[str, Any], form: Fields, veil: Veil) -> dict[str, str]:
    parts = {name: _limited(one(form, name).strip(), _TEXT, name) for name in ("attempt", "outcome")}
    if not all(parts.values()):
        raise Said("Write what you tried and what came of it.")
    if one(form, "severity") not in SEVERITIES:
        raise Said("Choose how severe the outcome is.")
    return {name: veil.mask(text) for name, text in parts.items()} | {"severity": one(form, "severity")}


def skip(form: Fields, *, find: Find | None) -> Given:
    """Why the task is skipped.

    Raises:
        Said: no reason is given.
    """
    why, note = one(form, "why"), _limited(one(form, "note").strip(), _NOTE, "The reason")
    if why not in SKIP_REASONS and not note:
        raise Said("Choose a reason for skipping, or write one.")
    told = ": ".join(part for part in (why if why in SKIP_REASONS else "", note) if part)
    return Given(reason=Veil(find or (lambda _: [])).mask(told))


def side(position: str, *, swapped: bool) -> str:
    """The label of a place on the page.

    Raises:
        Said: it is none.
    """
    if position not in POSITIONS:
        raise Said("Choose the better one, or say that they are equal or that neither will do.")
    if position in ("tie", "neither"):
        return position
    return "first" if (position == "1") is not swapped else "second"


# -- spans ------------------------------------------------------------------------------------------------------------


def spans(task: Mapping[str, Any], form: Fields) -> list[Span]:
    """The spans that a form holds so far, in their order.

    Raises:
        Said: one is not of this text.
    """
    text, options = task["texts"][0], task["options"]
    found: set[tuple[int, int, int]] = set()
    for given in form.get("span", ()):
        parts = given.split(":")
        if len(parts) != 3 or not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts):
            raise Said("One of the marked parts cannot be read; load the page again.")
        start, end, option = map(int, parts)
        if not (start < end <= len(text) and option < len(options)):
            raise Said("One of the marked parts is not of this text; load the page again.")
        found.add((start, end, option))
    return [Span(start, end, options[option]) for start, end, option in sorted(found)]


def added(task: Mapping[str, Any], form: Fields) -> list[Span]:
    """The spans with the one that is being added: a selection, in UTF-16 units as browsers count, or quoted words.

    Raises:
        Said: it is no part of the text, or of no type.
    """
    there, text, options = spans(task, form), task["texts"][0], task["options"]
    type_ = one(form, "type")
    if type_ not in options:
        raise Said("Choose what the part is.")
    first, last = one(form, "from"), one(form, "to")
    if first.isdecimal() and last.isdecimal() and len(first + last) < 20:
        units = text.encode("utf-16-le")
        start, end = (len(units[: 2 * int(at)].decode("utf-16-le", "ignore")) for at in (first, last))
        made = Span(start, end, type_)
    else:
        quote = one(form, "quote")
        places = [Span(at, at + len(quote), type_) for at in _places(text, quote)] if quote else []
        fresh = [span for span in places if span not in there]
        if not fresh:
            raise Said(
                "All places of these words are marked already."
                if places
                else "Select a part of the text, or write words just as they stand in it."
            )
        made = fresh[0]
    if made.start >= made.end:
        raise Said("Select a part of the text first.")
    return sorted({*there, made}, key=lambda span: (span.start, span.end, span.type))


def _places(text: str, quote: str) -> list[int]:
    found: list[int] = []
    at = text.find(quote)
    while at >= 0 and len(found) < _FIELDS:
        found.append(at)
        at = text.find(quote, at + 1)
    return found


def _limited(text: str, most: int, what: str) -> str:
    if len(text) > most:
        raise Said(f"{what} may have {most:,} characters, this has {len(text):,}.")
    return text
