"""Attributes of OpenTelemetry's spans: their values, and the conversations that the several conventions put in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from loop.collect.events import EventError
from loop.collect.sources import chat
from loop.collect.sources.chat import Message
from loop.collect.sources.documents import decode
from loop.collect.sources.pieces import Content

Attributes = Mapping[str, Any]
"""Name to value as OTLP's JSON encoding has it: `{"stringValue": "..."}`."""

_MESSAGE_EVENTS: Final = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}
CHOICE: Final = "gen_ai.choice"
_DETAILS: Final = "gen_ai.client.inference.operation.details"
_ASKED: Final = "gen_ai.content.prompt"
COMPLETED: Final = "gen_ai.content.completion"
_DEPTH: Final = 50
_PART: Final = re.compile(r"message\.contents\.(\d+)\.message_content\.(text|type)")


def attributes(given: Any) -> dict[str, Any]:
    """A list of OTLP's KeyValues by name, their values as they came."""
    return {each["key"]: each.get("value") for each in given or ()}


def value_of(given: Any, depth: int = 0) -> Any:
    """OTLP's AnyValue as a plain value; None for one that is empty, of no known kind, or nests too deep."""
    if not isinstance(given, dict) or depth > _DEPTH:
        return None
    for kind, value in given.items():
        match kind:
            case "stringValue" | "boolValue" | "bytesValue":
                return value
            case "intValue" | "doubleValue":
                return _number(value, int if kind == "intValue" else float)
            case "arrayValue" if isinstance(value, dict) and isinstance(value.get("values", []), list):
                return [value_of(each, depth + 1) for each in value.get("values", [])]
            case "kvlistValue" if isinstance(value, dict) and isinstance(value.get("values", []), list):
                pairs = [each for each in value.get("values", []) if isinstance(each, dict)]
                return {str(each.get("key")): value_of(each.get("value"), depth + 1) for each in pairs}
    return None


def _number(value: Any, kind: type[int | float]) -> int | float | None:
    """64-bit integers are strings in OTLP's JSON; so are the numbers that JSON has not."""
    try:
        return kind(value)
    except (TypeError, ValueError, OverflowError):
        return None


def text_of(given: Attributes, *names: str) -> str | None:
    """The first of the named attributes that is a text with something in it."""
    for name in names:
        if name in given and isinstance(value := value_of(given[name]), str) and value.strip():
            return value
    return None


def content_of(given: Attributes, events: Iterable[tuple[str, Attributes]]) -> Content:
    """What a model was asked and answered, by the first of the conventions that tells it.

    Args:
        given: the span's attributes.
        events: name and attributes of the span's events, in order.

    Raises:
        NotTextError: part of it is no text.
    """
    events = list(events)
    asked = _asked(given) or _asked_in(events) or _older(given, "gen_ai.prompt.") or _inference(given, "input")
    answers = _answered(given) or _answered_in(events)
    if not answers:
        choices = _older(given, "gen_ai.completion.") or _inference(given, "output")
        answers = [each["content"] for each in choices if each["content"].strip()]
    return Content(
        asked or chat.prompt(_first(given, "gen_ai.prompt", "input.value")),
        answers or chat.answers(_first(given, "gen_ai.completion", "output.value")),
    )


def _first(given: Attributes, *names: str) -> Any:
    return next((value_of(given[name]) for name in names if name in given), None)


def _plain(given: Attributes, name: str) -> Any:
    """The value of an attribute that may be JSON in a text."""
    value = value_of(given.get(name))
    try:
        return decode(value) if isinstance(value, str) and value.lstrip().startswith(("[", "{")) else value
    except EventError:
        return value


def _asked(given: Attributes) -> list[Message]:
    messages = chat.prompt(_plain(given, "gen_ai.input.messages"))
    system = chat.text(_plain(given, "gen_ai.system_instructions"))
    return [{"role": "system", "content": system}, *messages] if system and messages else messages


def _answered(given: Attributes) -> list[str]:
    return chat.answers(_plain(given, "gen_ai.output.messages"))


def _asked_in(events: list[tuple[str, Attributes]]) -> list[Message]:
    messages: list[Message] = []
    for name, given in events:
        if name == _DETAILS and (found := _asked(given)):
            return found
        if name == _ASKED:
            return chat.prompt(_plain(given, "gen_ai.prompt"))
        if name in _MESSAGE_EVENTS:
            body = _body(given)
            messages.append(chat.message({"role": _MESSAGE_EVENTS[name], **body}))
    return messages


def _answered_in(events: list[tuple[str, Attributes]]) -> list[str]:
    answers: list[str] = []
    for name, given in events:
        if name == _DETAILS and (found := _answered(given)):
            return found
        if name == COMPLETED:
            return chat.answers(_plain(given, "gen_ai.completion"))
        if name == CHOICE:
            answers += chat.answers(_body(given))
    return answers


def _body(given: Attributes) -> dict[str, Any]:
    """The fields of a message's event: attributes, or JSON in the attribute `gen_ai.event.content`."""
    body = _plain(given, "gen_ai.event.content")
    if isinstance(body, dict):
        return body
    names = ("role", "content", "message", "tool_calls")
    return {name: _plain(given, name) for name in names if name in given}


def _older(given: Attributes, prefix: str) -> list[Message]:
    """OpenLLMetry: `gen_ai.prompt.0.role`, `gen_ai.prompt.0.content`."""
    found = _numbered(given, prefix)
    return [chat.message({"role": fields.get("role"), "content": fields.get("content")}) for fields in found]


def _inference(given: Attributes, way: str) -> list[Message]:
    """OpenInference: `llm.input_messages.0.message.role`, and `.message.content` or its parts, `.message.contents`."""
    messages = []
    for fields in _numbered(given, f"llm.{way}_messages."):
        parts: dict[int, dict[str, Any]] = {}
        for name, value in fields.items():
            if match := _PART.fullmatch(name):
                parts.setdefault(int(match[1]), {})[match[2]] = value
        content = fields.get("message.content") or [parts[place] for place in sorted(parts)]
        messages.append(chat.message({"role": fields.get("message.role"), "content": content}))
    return messages


def _numbered(given: Attributes, prefix: str) -> list[dict[str, Any]]:
    """Attributes `<prefix><number>.<name>`, gathered by number and in its order."""
    found: dict[int, dict[str, Any]] = {}
    for key, value in given.items():
        if key.startswith(prefix):
            number, _, name = key.removeprefix(prefix).partition(".")
            if number.isdecimal() and len(number) < 7:
                found.setdefault(int(number), {})[name] = value_of(value)
    return [found[number] for number in sorted(found)]
