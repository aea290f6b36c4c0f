"""What a model was asked and what it answered, out of the many shapes in which tools log a conversation.

Known are OpenAI's chat messages, completions and responses, Anthropic's content blocks, Gemini's contents, the parts of
OpenTelemetry's GenAI conventions, and plain text. An answer is never guessed: a shape that is none of these has none.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from loop.collect.events import EventError
from loop.collect.sources.documents import decode

Message = dict[str, str]
"""`{"role": "user", "content": "..."}`."""

_ROLES: Final = {
    "developer": "system",
    "human": "user",
    "ai": "assistant",
    "model": "assistant",
    "function": "tool",
    "tool_call_response": "tool",
}
_TEXT: Final = ("text", "input_text", "output_text")
_THOUGHT: Final = ("reasoning", "thinking", "redacted_thinking", "thought")
_TOOL: Final = (
    "tool_call",
    "tool_use",
    "function_call",
    "tool_call_response",
    "tool_result",
    "function_call_output",
    "server_tool_use",
)
_ANSWER_KEYS: Final = ("output", "output_text", "completion", "text", "answer", "response", "generations", "result")
_ASKED_KEYS: Final = ("prompt", "input", "question", "query", "text", "instruction")
_PARAMETERS: Final = frozenset(
    {"model", "temperature", "top_p", "max_tokens", "max_completion_tokens", "n", "stop", "stream", "seed", "tools"}
)
_DEPTH: Final = 20
"""Shapes that nest deeper are no conversation."""


class NotTextError(ValueError):
    """Part of a conversation is no text: a picture, a sound, a file."""


def prompt(value: Any, depth: int = 0) -> list[Message]:
    """What a model was asked, as messages; none where nothing was logged.

    An object of unknown keys is one message of the user, its JSON: the model was asked with all of it.

    Raises:
        NotTextError: part of it is no text.
    """
    if value is None or depth > _DEPTH:
        return []
    if isinstance(value, str):
        parsed = _parsed(value)
        return prompt(parsed, depth + 1) if _is_chat(parsed) else [_user(value)] if value.strip() else []
    if isinstance(value, list):
        if len(value) == 1 and isinstance(value[0], list):
            return prompt(value[0], depth + 1)
        return [_user(each) if isinstance(each, str) else message(each, depth + 1) for each in value]
    return _asked(value, depth) if isinstance(value, dict) else [_user(_dumped(value))]


def _asked(value: dict[str, Any], depth: int) -> list[Message]:
    for key in ("messages", "contents"):
        if isinstance(value.get(key), list):
            system = value.get("system") or value.get("system_instruction")
            before = [{"role": "system", "content": text(system, depth + 1)}] if system else []
            return [*before, *prompt(value[key], depth + 1)]
    if "role" in value:
        return [message(value, depth + 1)]
    told = [key for key in value if key not in _PARAMETERS]
    if len(told) == 1 and (told[0] in _ASKED_KEYS or len(value) == 1):
        return prompt(value[told[0]], depth + 1)
    return [_user(_dumped(value))]


def answers(value: Any, depth: int = 0) -> list[str]:
    """The texts of what a model answered, one for each choice; a choice without text (a call of a tool) is none.

    Raises:
        NotTextError: part of it is no text.
    """
    if value is None or depth > _DEPTH:
        return []
    if isinstance(value, str):
        parsed = _parsed(value)
        return answers(parsed, depth + 1) if _is_chat(parsed) else _texts(value)
    if isinstance(value, list):
        if value and all(isinstance(each, dict) and each.get("type") in (*_TEXT, *_TOOL, *_THOUGHT) for each in value):
            return _texts(text(value, depth + 1, answer=True))
        return [found for each in value for found in answers(each, depth + 1)]
    return _answered(value, depth) if isinstance(value, dict) else []


def _answered(value: dict[str, Any], depth: int) -> list[str]:
    for key in ("choices", "candidates"):
        if isinstance(value.get(key), list):
            return answers(value[key], depth + 1)
    if isinstance(value.get("message"), dict | str):
        return answers(value["message"], depth + 1)
    if "content" in value or "parts" in value:
        inner = value.get("content") if value.get("parts") is None else value["parts"]
        return _texts(text(inner, depth + 1, answer=True))
    found = [value[key] for key in _ANSWER_KEYS if key in value]
    return answers(found[0], depth + 1) if len(found) == 1 else []


def message(value: Any, depth: int = 0) -> Message:
    """One message. A call of a tool, and what the tool answered, stand in it as JSON.

    Raises:
        NotTextError: part of it is no text.
    """
    if not isinstance(value, dict):
        return _user(_dumped(value))
    role = value.get("role") or value.get("type") or "user"
    content = value.get("content") if value.get("parts") is None else value["parts"]
    said = text(content, depth + 1)
    if not said and value.get("tool_calls"):
        said = _dumped(value["tool_calls"])
    return {"role": _ROLES.get(str(role), str(role)), "content": said}


def text(content: Any, depth: int = 0, *, answer: bool = False) -> str:
    """The text of a message's content: parts joined by line breaks, a model's thoughts left out.

    Raises:
        NotTextError: part of it is no text.
    """
    if content is None or isinstance(content, str) or depth > _DEPTH:
        return content if isinstance(content, str) else ""
    if isinstance(content, list):
        return "\n".join(said for part in content if (said := text(part, depth + 1, answer=answer)))
    kind = content.get("type") if isinstance(content, dict) else "tool_call"
    if kind in _THOUGHT or (kind in _TOOL and answer):
        return ""
    if kind in _TOOL:
        return _dumped(content)
    inner = next((content[key] for key in ("text", "content", "parts", "value") if content.get(key) is not None), None)
    if kind in (*_TEXT, "message", None) and inner is not None:
        return text(inner, depth + 1, answer=answer)
    raise NotTextError(f"expected text, got a part of type {str(kind)[:30]!r}")


def _texts(said: str) -> list[str]:
    return [said] if said.strip() else []


def _user(said: str) -> Message:
    return {"role": "user", "content": said}


def _dumped(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except RecursionError:
        raise NotTextError("expected text, got JSON that nests too deep") from None


def _parsed(said: str) -> Any:
    if not said.lstrip().startswith(("{", "[")):
        return None
    try:
        return decode(said)
    except EventError:
        return None


def _is_chat(value: Any, depth: int = 0) -> bool:
    """Whether what stood in a text is a conversation, and not an answer that happens to be JSON."""
    if isinstance(value, list):
        return bool(value) and depth < _DEPTH and all(_is_chat(each, depth + 1) for each in value)
    if not isinstance(value, dict):
        return False
    said = "content" in value or "parts" in value
    return ("role" in value and said) or any(isinstance(value.get(k), list) for k in ("messages", "choices"))
