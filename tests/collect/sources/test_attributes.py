"""The conversations that the conventions of OpenTelemetry tell."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.collect.sources.otlp import INPUT, OUTPUT, Read, event, rated, request, span

NO_TEXT = {"gen_ai.input.messages": None, "gen_ai.output.messages": None}
OLDER_INPUT = {
    "gen_ai.prompt.0.role": "system",
    "gen_ai.prompt.0.content": "Be brief",
    "gen_ai.prompt.1.role": "user",
    "gen_ai.prompt.1.content": "Write a slogan",
    "gen_ai.completion.0.content": "Fresh every day",
}
INFERENCE = {
    "openinference.span.kind": "LLM",
    "llm.model_name": "copywriter-7",
    "llm.input_messages.0.message.role": "system",
    "llm.input_messages.0.message.content": "Be brief",
    "llm.input_messages.1.message.role": "user",
    "llm.input_messages.1.message.contents.0.message_content.type": "text",
    "llm.input_messages.1.message.contents.0.message_content.text": "Write a slogan",
    "llm.output_messages.0.message.role": "assistant",
    "llm.output_messages.0.message.content": "Fresh every day",
    "user.id": "alice@example.org",
}


@pytest.mark.parametrize(
    "generation",
    [
        span(rated(), attributes={"gen_ai.system_instructions": json.dumps([{"type": "text", "content": "Be brief"}])}),
        span(
            rated(),
            attributes={
                "gen_ai.system_instructions": [{"type": "text", "content": "Be brief"}],
                "gen_ai.input.messages": INPUT,
                "gen_ai.output.messages": OUTPUT,
            },
        ),
        span(
            event("gen_ai.system.message", content="Be brief"),
            event("gen_ai.user.message", content="Write a slogan"),
            event("gen_ai.choice", index=0, finish_reason="stop", message=json.dumps({"content": "Fresh every day"})),
            rated(),
            attributes=NO_TEXT,
        ),
        span(
            event("gen_ai.system.message", **{"gen_ai.event.content": '{"content": "Be brief"}'}),
            event("gen_ai.user.message", **{"gen_ai.event.content": '{"role": "user", "content": "Write a slogan"}'}),
            event("gen_ai.choice", **{"gen_ai.event.content": '{"message": {"content": "Fresh every day"}}'}),
            rated(),
            attributes=NO_TEXT,
        ),
        span(
            event(
                "gen_ai.content.prompt",
                **{
                    "gen_ai.prompt": json.dumps(
                        [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Write a slogan"}]
                    )
                },
            ),
            event(
                "gen_ai.content.completion",
                **{"gen_ai.completion": '[{"role":"assistant","content":"Fresh every day"}]'},
            ),
            rated(),
            attributes=NO_TEXT,
        ),
        span(
            event(
                "gen_ai.client.inference.operation.details",
                **{
                    "gen_ai.system_instructions": [{"type": "text", "content": "Be brief"}],
                    "gen_ai.input.messages": INPUT,
                    "gen_ai.output.messages": OUTPUT,
                },
            ),
            rated(),
            attributes=NO_TEXT,
        ),
        span(rated(), attributes=NO_TEXT | OLDER_INPUT),
        span(rated(), given=INFERENCE),
    ],
    ids=[
        "attributes",
        "structured",
        "events",
        "event bodies",
        "content events",
        "details",
        "OpenLLMetry",
        "OpenInference",
    ],
)
def test_every_convention_tells_the_same_conversation(read: Read, generation: dict[str, Any]) -> None:
    event = read(request(generation)).event
    assert event["prompt"] == [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": "Write a slogan"},
    ]
    assert [candidate["text"] for candidate in event["candidates"]] == ["Fresh every day"]
    assert (event["decision"], event["model_version"], event["employee"]) == (
        "accept",
        "copywriter-7",
        "alice@example.org",
    )
