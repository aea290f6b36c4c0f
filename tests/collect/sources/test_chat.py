from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.collect.sources import chat

ASKED = [{"role": "user", "content": "hello"}]
SYSTEM = [{"role": "system", "content": "be brief"}, *ASKED]
CALL = {"type": "function_call", "name": "look", "arguments": "{}"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, []),
        ("", []),
        ("hello", ASKED),
        (ASKED, ASKED),
        (json.dumps(ASKED), ASKED),
        ({"messages": ASKED, "model": "m"}, ASKED),
        (json.dumps({"messages": ASKED}), ASKED),
        ({"messages": ASKED, "system": "be brief"}, SYSTEM),
        ([ASKED], ASKED),
        (["hello"], ASKED),
        ({"prompt": "hello", "temperature": 1}, ASKED),
        ({"topic": "hello"}, ASKED),
        ({"topic": "cats", "tone": "dry"}, [{"role": "user", "content": '{"topic":"cats","tone":"dry"}'}]),
        ('{"topic": "cats"}', [{"role": "user", "content": '{"topic": "cats"}'}]),
        ([{"role": "developer", "content": "be brief"}, {"type": "human", "content": "hello"}], SYSTEM),
        ([{"role": "user", "parts": [{"type": "text", "content": "hello"}]}], ASKED),
        ({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}, ASKED),
        (
            [{"role": "user", "content": [{"type": "text", "text": "hel"}, {"type": "input_text", "text": "lo"}]}],
            [{"role": "user", "content": "hel\nlo"}],
        ),
        (
            [{"role": "assistant", "parts": [CALL]}],
            [{"role": "assistant", "content": json.dumps(CALL, separators=(",", ":"))}],
        ),
        ([{"role": "assistant", "content": None, "tool_calls": [1]}], [{"role": "assistant", "content": "[1]"}]),
        (5, [{"role": "user", "content": "5"}]),
    ],
)
def test_what_was_asked_is_found_in_every_shape(value: Any, expected: list[chat.Message]) -> None:
    assert chat.prompt(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, []),
        (" ", []),
        ("hi", ["hi"]),
        ({"role": "assistant", "content": "hi"}, ["hi"]),
        ('{"role": "assistant", "content": "hi"}', ["hi"]),
        ({"choices": [{"message": {"content": "hi"}}, {"text": "ho"}]}, ["hi", "ho"]),
        (
            [
                {"role": "assistant", "parts": [{"type": "text", "content": "hi"}], "finish_reason": "stop"},
                {"role": "assistant", "parts": [{"type": "text", "content": "ho"}]},
            ],
            ["hi", "ho"],
        ),
        ({"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "hi"}]}, ["hi"]),
        ([{"type": "text", "text": "hi"}, {"type": "text", "text": "ho"}], ["hi\nho"]),
        ({"candidates": [{"content": {"role": "model", "parts": [{"text": "hi"}]}}]}, ["hi"]),
        (
            {
                "output": [
                    {"type": "reasoning"},
                    {"type": "message", "content": [{"type": "output_text", "text": "hi"}]},
                ]
            },
            ["hi"],
        ),
        ({"answer": "hi", "sources": [1]}, ["hi"]),
        # an answer that is JSON is one, as it stands; a call of a tool is none; an unknown shape is never guessed at
        ('{"topic": "cats"}', ['{"topic": "cats"}']),
        ([{"role": "assistant", "parts": [CALL]}], []),
        ({"topic": "cats"}, []),
        ({"answer": "hi", "text": "ho"}, []),
        (5, []),
    ],
)
def test_answers_are_found_in_every_shape_and_never_guessed(value: Any, expected: list[str]) -> None:
    assert chat.answers(value) == expected


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "blob", "file"])
def test_a_part_that_is_no_text_is_refused_and_named(kind: str) -> None:
    for read in (chat.prompt, chat.answers):
        with pytest.raises(chat.NotTextError, match=f"expected text, got a part of type '{kind}'"):
            read([{"role": "user", "content": [{"type": kind, "data": "x"}]}])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("role", "content", "parts", "type", "text", "messages", "choices", "message", "output")),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_any_json_gives_texts_or_is_refused(value: Any) -> None:
    for given_value in (value, json.dumps(value)):
        try:
            messages, answers = chat.prompt(given_value), chat.answers(given_value)
        except chat.NotTextError:
            continue
        assert all(set(each) == {"role", "content"} for each in messages)
        assert all(isinstance(text, str) for each in messages for text in each.values())
        assert all(isinstance(text, str) and text.strip() for text in answers)


def test_what_nests_too_deep_is_no_conversation() -> None:
    value: Any = "hello"
    for _ in range(200):
        value = {"output": value, "x": 1}
    assert (chat.answers(value), chat.answers(value["output"])) == ([], [])
    assert chat.answers({"output": {"output": "hello"}}) == ["hello"]
