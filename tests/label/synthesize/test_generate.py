"""Who writes: a model of the home, and a server that gives fewer answers than it is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from loop.label.synthesize.generate import Champion, Endpoint
from loop.train import nano
from tests.gateway.generators import serving
from tests.train.label_rows import COLOURS, SHAPE, THINGS, ask


@pytest.mark.slow
def test_a_model_of_the_home_writes_what_it_learned_and_the_same_again(tmp_path: Path) -> None:
    pairs = [(ask(f"paint the {thing}"), f"{colour} paint") for thing in THINGS for colour in COLOURS]
    nano.build(pairs, tmp_path / "base", seed=0, steps=40, batch_size=12, learning_rate=1e-2, shape=SHAPE)
    champion = Champion("m-1", tmp_path / "base", "ads")
    found = champion.write([ask(f"paint the {THINGS[0]}"), ask("something else")], 3, seed=1)
    assert len(found) == 2
    assert all(len(group) <= 3 for group in found)  # an answer that ran on is none
    assert any("paint" in text for text in found[0])
    assert champion.write([ask(f"paint the {THINGS[0]}")], 3, seed=1) == found[:1]


def test_a_server_that_gives_nothing_whole_gives_nothing() -> None:
    asked = []

    async def complete(request: Request) -> Response:
        asked.append(await request.json())
        cut = {"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "and then"}}
        return JSONResponse({"id": "c", "object": "chat.completion", "created": 0, "model": "b", "choices": [cut]})

    with serving(Starlette(routes=[Route("/v1/chat/completions", complete, methods=["POST"])])) as address:
        writes = Endpoint(f"{address}/v1", None, "big", "ads")
        assert writes.write([ask("one"), ask("two")], 2, seed=5) == [[], []]
    assert [(body["model"], body["n"], body["seed"], body["max_tokens"]) for body in asked] == [
        ("big", 2, 5, 24),
        ("big", 2, 6, 24),
    ]
    assert writes.version == "endpoint:big"
