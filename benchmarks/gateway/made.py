"""What is sent: whole events like those of `loop run`, about 1 kB each, every one with ids of its own."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

GROUP = 1_000
"""Events of a batch."""
_MARK = "@" * 12
"""Stands where a request's number goes, 12 hexadecimal digits of the ids."""


def event(rng: random.Random, event_id: str, suggestion_id: str) -> dict[str, Any]:
    """One decision on two candidates, shown ten minutes ago."""
    shown = datetime.now(UTC) - timedelta(seconds=600)
    brief = ", ".join(rng.sample(("retirees on social", "goal awareness", "budget top", "tone warm", "by Bolt"), 4))
    texts = [
        f"target {rng.choice(('lookalikes', 'lapsed', 'parents', 'gamers'))} with {rng.choice(('price', 'safety'))} "
        f"angle, {rng.choice(('plain', 'playful', 'urgent'))} tone, claim {rng.choice(('awarded', 'tested'))}, bid tiny"
        for _ in range(2)
    ]
    return {
        "event_id": event_id,
        "suggestion_id": suggestion_id,
        "episode_id": f"episode-{rng.getrandbits(48):012x}",
        "turn": 0,
        "workflow": "ads",
        "shown_at": shown,
        "decided_at": shown + timedelta(milliseconds=4975),
        "employee": f"person-{rng.randrange(500):03}",
        "team": "ads-apac",
        "region": "apac",
        "visibility": [],
        "prompt": [{"role": "user", "content": f"ads brief: sell cruises to {brief}"}],
        "candidates": [{"position": at, "text": text, "logprob": -rng.uniform(2, 14)} for at, text in enumerate(texts)],
        "model_version": "m-61b9c0efc0c3",
        "arm_propensity": 1.0,
        "order_propensity": 0.5,
        "decision": "accept",
        "chosen": 1,
        "final_text": texts[1],
        "reasons": [],
        "dwell_ms": 4975,
        "purposes": ["training", "evaluation"],
    }


def lines(count: int = GROUP) -> list[bytes]:
    """Different events as lines of JSON, with the mark in their ids."""
    rng = random.Random(0)
    ids = [f"{_MARK}{at:04x}" for at in range(count)]
    return [msgspec.json.encode(event(rng, f"event-{i}", f"s-{i}")) for i in ids]


def singles(token: str) -> Callable[[int], bytes]:
    """The nth request with one event."""
    parts = [line.split(_MARK.encode()) for line in lines()]
    lengths = [len(_MARK.encode().join(part)) for part in parts]
    heads = [_head("/v1/feedback", "application/json", length, token) for length in lengths]
    made = [(head + part[0], *part[1:]) for head, part in zip(heads, parts, strict=True)]
    return lambda n: (b"%012x" % n).join(made[n % GROUP])


def batch(n: int, template: bytes) -> bytes:
    """The nth batch: `template` is `b"\\n".join(lines())`."""
    return template.replace(_MARK.encode(), b"%012x" % n)


def batches(token: str, first: int = 0) -> Callable[[int], bytes]:
    """The nth request with `GROUP` events, as they are."""
    template = b"\n".join(lines())
    head = _head("/v1/feedback/batch", "application/x-ndjson", len(template), token)
    return lambda n: head + batch(first + n, template)


def packed(token: str, count: int, first: int) -> Callable[[int], bytes]:
    """The same as zstd, made beforehand: at most `count`."""
    import pyarrow as pa

    template, codec = b"\n".join(lines()), pa.Codec("zstd", 3)
    bodies = [codec.compress(batch(first + n, template), asbytes=True) for n in range(count)]
    path, type_ = "/v1/feedback/batch", "application/x-ndjson"
    made = [_head(path, type_, len(body), token, "content-encoding: zstd\r\n") + body for body in bodies]
    return lambda n: made[n]


def stored(status: int, body: bytes) -> bool:
    """Whether a reply says that an event is stored, for the first time."""
    return status == 200 and b'"status":"stored"' in body


def all_stored(status: int, body: bytes) -> bool:
    """Whether it says so of a whole batch."""
    return status == 200 and b'"stored":%d,' % GROUP in body[-200:]


def _head(path: str, type_: str, length: int, token: str, more: str = "") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}\r\ncontent-type: {type_}\r\n"
        f"{more}content-length: {length}\r\n\r\n"
    ).encode()
