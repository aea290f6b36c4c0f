"""Builders of OTLP JSON: a span of a model call, feedback on it, a request around them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from loop.collect.sources import otel
from tests.collect.sources.drawn import Drawn

Read = Callable[..., Drawn]

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
START, END = 1_767_603_600_000_000_000, 1_767_603_601_500_000_000
"""2026-01-05 09:00:00 and 1.5 s later, in nanoseconds."""
INPUT = [{"role": "user", "parts": [{"type": "text", "content": "Write a slogan"}]}]
OUTPUT = [{"role": "assistant", "parts": [{"type": "text", "content": "Fresh every day"}], "finish_reason": "stop"}]
CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "copywriter",
    "gen_ai.response.model": "copywriter-7",
    "gen_ai.input.messages": json.dumps(INPUT),
    "gen_ai.output.messages": json.dumps(OUTPUT),
    "user.id": "alice@example.org",
    "gen_ai.conversation.id": "session-1",
}


def any_value(value: Any) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case list():
            return {"arrayValue": {"values": [any_value(each) for each in value]}}
        case dict():
            return {"kvlistValue": {"values": key_values(value)}}
    return {"stringValue": value}


def key_values(given: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": any_value(value)} for key, value in given.items()]


def event(name: str, at: Any = str(END), **attributes: Any) -> dict[str, Any]:
    return {"timeUnixNano": at, "name": name, "attributes": key_values(attributes)}


def rated(label: Any = "accept", name: str = "user_feedback", at: Any = str(END), **more: Any) -> dict[str, Any]:
    kind = "label" if isinstance(label, str) else "value"
    told = {"gen_ai.evaluation.name": name, f"gen_ai.evaluation.score.{kind}": label}
    return event(otel.EVALUATION, at, **told, **more)


def span(
    *events: dict[str, Any], attributes: dict[str, Any] | None = None, given: dict[str, Any] = CALL, **fields: Any
) -> dict[str, Any]:
    """A generation with some events, more attributes (None takes one away), and other fields."""
    merged = {key: value for key, value in (given | (attributes or {})).items() if value is not None}
    own = {"traceId": TRACE, "spanId": SPAN, "startTimeUnixNano": str(START), "endTimeUnixNano": str(END)}
    return own | {"name": "chat copywriter", "attributes": key_values(merged), "events": list(events)} | fields


def request(*spans: Any, resource: dict[str, Any] | None = None) -> dict[str, Any]:
    scope = {"scope": {}, "spans": list(spans)}
    return {"resourceSpans": [{"resource": {"attributes": key_values(resource or {})}, "scopeSpans": [scope]}]}
