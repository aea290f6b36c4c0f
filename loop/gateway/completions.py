"""A stored suggestion as OpenAI's clients read a completion, whole or in chunks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from loop.collect.served import SuggestionRecord
from loop.gateway.backend import Ask, Generated, Piece


@dataclass(frozen=True)
class Served:
    """A suggestion that is stored and may be shown."""

    record: SuggestionRecord
    generated: Generated
    texts: list[str]
    """The candidates' texts for whoever asked: those of the record, with the values of the request filled in."""


def model(name: str) -> dict[str, Any]:
    """A workflow as OpenAI's clients read a model."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "loop"}


def head(asked: Ask, now: datetime, object_: str) -> dict[str, Any]:
    """What a completion and each of its chunks begin with."""
    return {"id": asked.request_id, "object": object_, "created": int(now.timestamp()), "model": asked.workflow}


def extra(record: SuggestionRecord) -> dict[str, Any]:
    """What OpenAI's form has no place for."""
    return {
        "suggestion_id": record.suggestion_id,
        "model_version": record.model_version,
        "arm_propensity": record.arm_propensity,
        "order_propensity": record.order_propensity,
        "logprobs": [candidate.logprob for candidate in record.candidates],
    }


def tokens(generated: Generated) -> dict[str, int]:
    """Tokens; 0 where an upstream does not say, for the form has no null."""
    read, written = generated.prompt_tokens or 0, generated.completion_tokens or 0
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def whole(asked: Ask, served: Served) -> dict[str, Any]:
    """The answer in one piece."""
    record, generated = served.record, served.generated
    choices = [
        {
            "index": shown.position,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": None,
            "finish_reason": finish(candidate.finished),
        }
        for shown, text, candidate in zip(record.candidates, served.texts, generated.candidates, strict=True)
    ]
    return {
        **head(asked, record.shown_at, "chat.completion"),
        "system_fingerprint": record.model_version,
        "choices": choices,
        "usage": tokens(generated),
        "loop": extra(record),
    }


def chunk(head: Mapping[str, Any], piece: Piece) -> dict[str, Any]:
    """A part of the answer: some text of one candidate."""
    delta = {"role": "assistant", "content": piece.text}
    choice = {"index": piece.position, "delta": delta, "logprobs": None, "finish_reason": None}
    return {**head, "choices": [choice]}


def ends(head: Mapping[str, Any], served: Served, *, usage: bool) -> list[dict[str, Any]]:
    """The last chunks: the end of each candidate, with the first of them Loop's part, and the usage if it was asked."""
    head = {**head, "system_fingerprint": served.record.model_version}
    chunks = []
    for position, candidate in enumerate(served.generated.candidates):
        end = {"index": position, "delta": {}, "logprobs": None, "finish_reason": finish(candidate.finished)}
        chunks.append({**head, "choices": [end]})
    chunks[0]["loop"] = extra(served.record)
    if usage:
        chunks.append({**head, "choices": [], "usage": tokens(served.generated)})
    return chunks


def finish(finished: bool) -> str:
    """Why a candidate ends: the model ended it, or it was cut."""
    return "stop" if finished else "length"
