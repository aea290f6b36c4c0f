"""Batches: lines of JSON, packed or not, in bounded memory."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pyarrow as pa
import pytest

from loop.gateway import collecting
from tests.gateway.fronts import Running, refused, whole


def lines(items: list[Any]) -> bytes:
    return b"\n".join(json.dumps(item).encode() for item in items)


def zstd(body: bytes) -> bytes:
    return pa.Codec("zstd").compress(body, asbytes=True)


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        (None, lambda body: body),
        ("identity", lambda body: body),
        ("gzip", gzip.compress),
        ("gzip", lambda body: gzip.compress(body[:1000]) + gzip.compress(body[1000:])),
        ("zstd", zstd),
        ("zstd", lambda body: zstd(body[:1000]) + zstd(body[1000:])),
    ],
)
def test_a_batch_of_lines_packed_or_not(front: Running, encoding: str | None, pack: Any) -> None:
    sent = [whole() for _ in range(2_500)]
    sent[700] = sent[3]
    body = b"\n\n" + lines(sent) + b"\r\n \n"
    headers = {"content-encoding": encoding} if encoding else {}
    reply = front.post("/v1/feedback/batch", pack(body), headers=headers)
    assert reply.status_code == 200, reply.text
    told = reply.json()
    results = told.pop("results")
    assert told == {"stored": 2_499, "duplicates": 1, "conflicts": 0, "rejected": 0}
    assert [result["event_id"] for result in results] == [event["event_id"] for event in sent]


def test_a_batch_names_the_lines_that_are_none(front: Running) -> None:
    good = whole()
    body = b"\n".join([b"{", json.dumps(good).encode(), b'{"event_id":"\xff"}', b"[]"])
    reply = front.post("/v1/feedback/batch", body)
    assert reply.status_code == 207
    assert [r.get("error", {}).get("code") for r in reply.json()["results"]] == [
        "not_json",
        None,
        "not_utf8",
        "wrong_type",
    ]


def test_a_line_that_is_too_long_is_refused_alone(front: Running) -> None:
    good = whole()
    body = b"\n".join([b'{"event_id":"' + b"x" * 3_000_000 + b'"}', json.dumps(good).encode(), b"y" * 1_500_000])
    told = front.post("/v1/feedback/batch", body).json()
    assert [r.get("error", {}).get("code") for r in told["results"]] == ["too_long", None, "too_long"]
    assert told["stored"] == 1


def test_a_batch_has_at_most_so_many_lines(front: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "BATCH_LINES", 3)
    sent = [whole() for _ in range(4)]
    assert front.post("/v1/feedback/batch", lines(sent[:3])).status_code == 200
    assert refused(front.post("/v1/feedback/batch", lines(sent))) == (413, "too_large", None)
