"""An OpenAI-compatible server as the backend: a small real one that records what it was asked."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from generators import free_port, serving
from scipy.stats import binomtest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from loop.errors import BadInputError
from loop.gateway.backend import Ask, Generated, Piece, Produced, Unavailable
from loop.gateway.upstream import Upstream

PLAIN = {"temperature": 1.0, "top_p": 1.0}


def asking(n: int = 2, **how: Any) -> Ask:
    return Ask(request_id="r1", workflow="ads", messages=[{"role": "user", "content": "Brief"}], n=n, **how)


@dataclass
class Service:
    """Answers `text 0`, `text 1`, ... with two tokens each, or as `refuse` and the fields say."""

    refuse: Callable[[dict[str, Any]], Response | None] = lambda _: None
    most: int = 64
    """Choices that it gives at most, whatever it is asked."""
    logprobs: bool = True
    finish: str | None = "stop"
    seconds: float = 0.0
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/v1/chat/completions", self.complete, methods=["POST"])])

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body)
        self.keys.append(request.headers.get("authorization"))
        await asyncio.sleep(self.seconds)
        if refused := self.refuse(body):
            return refused
        if body.get("stream"):
            return StreamingResponse(self.chunks(body), media_type="text/event-stream")
        turn = len(self.asked) - 1
        choices = [
            {
                "index": i,
                "message": {"role": "assistant", "content": f"text {turn + i}"},
                "finish_reason": self.finish,
                **self.said(body, [-0.5, -1.0 - i]),
            }
            for i in range(min(body["n"], self.most))
        ]
        usage = {"prompt_tokens": 7, "completion_tokens": 2 * len(choices), "total_tokens": 0}
        return JSONResponse(
            {"id": "c", "object": "chat.completion", "model": "big-1", "choices": choices} | {"usage": usage}
        )

    def said(self, body: dict[str, Any], nats: list[float]) -> dict[str, Any]:
        if not (body.get("logprobs") and self.logprobs):
            return {}
        return {"logprobs": {"content": [{"token": "t", "logprob": n, "top_logprobs": []} for n in nats]}}

    async def chunks(self, body: dict[str, Any]) -> AsyncIterator[bytes]:
        def chunk(i: int, delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
            choice = {"index": i, "delta": delta, "finish_reason": finish, **more}
            return b"data: " + json.dumps({"model": "big-1", "choices": [choice]}).encode() + b"\n\n"

        yield b": a comment\n\n"
        count = min(body["n"], self.most)
        for i in range(count):
            yield chunk(i, {"role": "assistant", "content": ""})
        for part, nats in (("text ", -0.5), (None, -1.0)):
            for i in range(count):
                yield chunk(i, {"content": part or str(i)}, **self.said(body, [nats - (0 if part else i)]))
        if self.finish is None:
            return
        for i in range(count):
            yield chunk(i, {}, self.finish)
        yield b'data: {"model": "big-1", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}\n\n'
        yield b"data: [DONE]\n\n"


def generate(service: Service, *asked: Ask, key: str | None = None, **how: Any) -> list[Generated]:
    async def main(address: str) -> list[Generated]:
        backend = Upstream(f"{address}/v1", key, **({"true_logprobs": True} | how))
        try:
            return [await backend.generate(ask) for ask in asked]
        finally:
            await backend.close()

    with serving(service.app()) as address:
        return asyncio.run(main(address))


def stream(service: Service, ask: Ask, **how: Any) -> tuple[list[Piece], Generated]:
    async def main(address: str) -> list[Piece | Generated]:
        backend = Upstream(f"{address}/v1", None, **({"true_logprobs": True} | how))
        try:
            return [part async for part in backend.stream(ask)]
        finally:
            await backend.close()

    with serving(service.app()) as address:
        *pieces, whole = asyncio.run(main(address))
    assert isinstance(whole, Generated)
    return [piece for piece in pieces if isinstance(piece, Piece)], whole


# -- what is asked and what comes back ---------------------------------------------------------------------------------


def test_choices_become_candidates() -> None:
    service = Service()
    [found] = generate(service, asking(**PLAIN, max_tokens=9), key="k", shuffle=False)
    assert found.model_version == "upstream:big-1"
    assert found.arm_propensity == 1.0
    assert found.order_propensity is None  # the upstream's order: nobody knows how it came about
    assert found.candidates == [Produced("text 0", -1.5, 2, True), Produced("text 1", -2.5, 2, True)]
    assert (found.prompt_tokens, found.completion_tokens) == (7, 4)
    assert service.asked == [
        {
            "model": "ads",
            "messages": [{"role": "user", "content": "Brief"}],
            "n": 2,
            "logprobs": True,
            "temperature": 1.0,
            "top_p": 1.0,
            "max_tokens": 9,
        }
    ]
    assert service.keys == ["Bearer k"]


def test_what_nobody_chose_is_the_upstreams_business_and_no_key_is_none() -> None:
    service = Service()
    [found] = generate(service, asking(1), model="big", shuffle=False)
    assert set(service.asked[0]) == {"model", "messages", "n", "logprobs"}
    assert service.asked[0]["model"] == "big"
    assert service.keys == [None]
    assert found.order_propensity == 1.0  # there is only one order


@pytest.mark.parametrize(
    ("how", "known"),
    [
        (PLAIN, True),
        ({}, False),
        ({"temperature": 1.0}, False),
        ({"top_p": 1.0}, False),
        ({"temperature": 0.9, "top_p": 1.0}, False),
        ({"temperature": 1.0, "top_p": 0.9}, False),
    ],
)
def test_log_probabilities_are_those_of_the_draw_or_not_known(how: dict[str, float], known: bool) -> None:
    [found] = generate(Service(), asking(1, **how))
    assert [c.logprob for c in found.candidates] == [-1.5 if known else None]
    assert [c.tokens for c in found.candidates] == [2]


def test_an_upstream_that_nobody_vouches_for_says_nothing_of_probabilities() -> None:
    [found] = generate(Service(), asking(**PLAIN), true_logprobs=False)
    assert [c.logprob for c in found.candidates] == [None, None]
    assert [c.tokens for c in found.candidates] == [2, 2]


def test_an_upstream_without_log_probabilities_is_asked_for_none_after_the_first_time() -> None:
    def refuse(body: dict[str, Any]) -> Response | None:
        return JSONResponse({"error": {"message": "logprobs are not supported"}}, 400) if "logprobs" in body else None

    service = Service(refuse)
    first, second = generate(service, asking(**PLAIN), asking(**PLAIN))
    assert [("logprobs" in body) for body in service.asked] == [True, False, False]
    assert [c.logprob for found in (first, second) for c in found.candidates] == [None] * 4
    assert [c.tokens for c in first.candidates] == [None, None]
    assert first.completion_tokens == 4  # as its usage says


def test_an_upstream_that_gives_one_choice_is_asked_for_the_rest() -> None:
    service = Service(most=1)
    [found] = generate(service, asking(3), shuffle=False)
    assert sorted(body["n"] for body in service.asked) == [1, 1, 3]
    assert len({c.text for c in found.candidates}) >= 2
    assert len(found.candidates) == 3
    assert found.completion_tokens == 6


def test_an_answer_cut_short_is_not_finished() -> None:
    [found] = generate(Service(finish="length"), asking(1))
    assert not found.candidates[0].finished


def test_candidates_are_shuffled_with_the_propensity_of_their_order() -> None:
    found = generate(Service(), *[asking(2)] * 200)
    assert {g.order_propensity for g in found} == {0.5}
    first = Counter(int(g.candidates[0].text.split()[1]) < int(g.candidates[1].text.split()[1]) for g in found)
    assert binomtest(first[True], 200, 0.5).pvalue > 1e-4


# -- streams -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_stream_comes_in_pieces_and_then_whole(shuffle: bool) -> None:
    service = Service()
    pieces, whole = stream(service, asking(3, **PLAIN), shuffle=shuffle)
    assert service.asked[0]["stream"] is True
    assert len(pieces) == 6
    for position, candidate in enumerate(whole.candidates):
        assert "".join(p.text for p in pieces if p.position == position) == candidate.text
    assert sorted(c.text for c in whole.candidates) == ["text 0", "text 1", "text 2"]
    assert {c.text: c.logprob for c in whole.candidates} == {"text 0": -1.5, "text 1": -2.5, "text 2": -3.5}
    assert {(c.tokens, c.finished) for c in whole.candidates} == {(2, True)}
    assert whole.order_propensity == (pytest.approx(1 / 6) if shuffle else None)
    assert (whole.model_version, whole.arm_propensity) == ("upstream:big-1", 1.0)
    if not shuffle:
        assert [c.text for c in whole.candidates] == ["text 0", "text 1", "text 2"]


def test_a_stream_of_one_choice_is_filled_up() -> None:
    pieces, whole = stream(Service(most=1), asking(3, **PLAIN))
    assert {p.position for p in pieces} == {0, 1, 2}
    assert len(whole.candidates) == 3
    for position, candidate in enumerate(whole.candidates):
        assert "".join(p.text for p in pieces if p.position == position) == candidate.text


def test_a_stream_that_breaks_off_is_an_error_after_what_came() -> None:
    with pytest.raises(Unavailable, match="broke off its answer"):
        stream(Service(finish=None), asking())


def test_a_stream_that_is_refused_is_an_error_before_anything_came() -> None:
    busy = JSONResponse({"error": {"message": "slow down"}}, 429, {"Retry-After": "2"})
    with pytest.raises(Unavailable, match="slow down") as told:
        stream(Service(lambda _: busy), asking())
    assert (told.value.status, told.value.retry_after) == (429, 2.0)


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def said(message: str, status: int, **headers: str) -> Response:
    return JSONResponse({"error": {"message": message, "type": "t"}}, status, headers)


@pytest.mark.parametrize(
    ("reply", "message", "status", "retry"),
    [
        (said("too many", 429, **{"Retry-After": "17"}), "wants fewer requests: too many", 429, 17.0),
        (said("too many", 429), "wants fewer requests", 429, 1.0),
        (said("bad key sk-123", 401), r"does not accept the gateway's key$", 503, 1.0),
        (said("no such model", 404), r"\(status 404\): no such model", 503, 1.0),
        (said("overloaded", 503, **{"Retry-After": "4"}), "overloaded", 503, 4.0),
        (Response("<html>" * 999, 502), r"\(status 502\): Bad Gateway", 503, 1.0),
        (JSONResponse({"error": "as a string"}, 500), "as a string", 503, 1.0),
        (JSONResponse({"choices": "none"}), "expected a chat completion", 503, 1.0),
        (Response(b"\xff", 200), "expected a chat completion", 503, 1.0),
        (JSONResponse({"choices": []}), "gave no candidate", 503, 1.0),
        (Response("", 302, {"Location": "/elsewhere"}), "status 302", 503, 1.0),
    ],
)
def test_what_keeps_an_upstream_from_answering_is_told(
    reply: Response, message: str, status: int, retry: float
) -> None:
    with pytest.raises(Unavailable, match=message) as told:
        generate(Service(lambda _: reply), asking())
    assert (told.value.status, told.value.retry_after) == (status, retry)
    assert len(told.value.message) < 400


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_request_that_the_upstream_refuses_is_the_askers(status: int) -> None:
    with pytest.raises(BadInputError, match="the upstream refuses the request: too long"):
        generate(Service(lambda _: said("too long", status)), asking())


def test_an_upstream_that_takes_too_long_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="does not answer in time"):
        generate(Service(seconds=0.6), asking(), timeout_s=0.2)
    with pytest.raises(Unavailable, match="does not answer in time"):
        stream(Service(seconds=0.6), asking(), timeout_s=0.2)


def test_nobody_there_is_unavailable_and_whoever_answers_is_ready() -> None:
    async def main() -> None:
        backend = Upstream(f"http://127.0.0.1:{free_port()}/v1", None)
        with pytest.raises(Unavailable, match="cannot be reached"):
            await backend.generate(asking())
        with pytest.raises(Unavailable, match="broke off"):
            await anext(aiter(backend.stream(asking())))
        assert str(await backend.ready()).startswith("the upstream cannot be reached")

    async def ready(address: str) -> str | None:
        return await Upstream(f"{address}/v1", None).ready()

    asyncio.run(main())
    with serving(Service().app()) as address:  # it does not even know /models
        assert asyncio.run(ready(address)) is None


def test_a_log_probability_that_is_no_number_is_not_known() -> None:
    body = {"choices": [{"message": {"content": None}, "logprobs": {"content": [{"logprob": -1e308}] * 2}}]}
    [found] = generate(Service(lambda _: Response(msgspec.json.encode(body))), asking(1, **PLAIN))
    assert found.candidates == [Produced("", None, 2, False)]
    assert found.model_version == "upstream:ads"
