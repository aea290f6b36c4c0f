"""Suggestions through the `openai` client and through Loop's own route: what is shown is what is stored."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from loop.collect.events import pseudonym
from loop.errors import BadInputError, LoopError
from loop.gateway.backend import Ask, Generated, Produced, Unavailable
from loop.gateway.suggesting import _known
from tests.gateway.fronts import TEXTS, Fixed, Running, bearer, refused, wait

MESSAGES: Any = [{"role": "user", "content": "an ad for shoes"}]


@pytest.fixture
def client(front: Running) -> Iterator[openai.OpenAI]:
    with client_of(front, "desk") as made:
        yield made


def client_of(front: Running, token: str) -> openai.OpenAI:
    http = httpx.Client(trust_env=False)
    return openai.OpenAI(base_url=f"{front.url}/v1", api_key=bearer(token), max_retries=0, http_client=http)


def record(front: Running, suggestion_id: str) -> dict[str, Any]:
    (found,) = [one for one in front.stored("suggestion") if one["suggestion_id"] == suggestion_id]
    return found


# -- the openai client ------------------------------------------------------------------------------------------------


def test_the_openai_client_gets_a_suggestion_and_all_of_it_is_stored(
    front: Running, client: openai.OpenAI, backend: Fixed
) -> None:
    made = client.chat.completions.create(
        model="ads",
        messages=[
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "an ad "}, {"type": "text", "text": "for shoes"}]},
        ],
        n=2,
        temperature=0.5,
        top_p=0.9,
        max_completion_tokens=20,
        user="anna",
        seed=7,
        metadata={
            "team": "north",
            "region": "eu",
            "episode_id": "ep-1",
            "turn": "3",
            "task_id": "t-9",
            "purposes": "training, evaluation",
            "visibility": "minors",
            "other": "is ignored",
        },
    )
    assert re.fullmatch(r"s-[0-9a-f]{32}", made.id)
    assert (made.object, made.model, made.system_fingerprint) == ("chat.completion", "ads", "v7")
    assert [(c.index, c.message.role, c.message.content, c.finish_reason) for c in made.choices] == [
        (0, "assistant", TEXTS[0], "stop"),
        (1, "assistant", TEXTS[1], "length"),
    ]
    assert made.usage is not None
    assert (made.usage.prompt_tokens, made.usage.completion_tokens, made.usage.total_tokens) == (11, 6, 17)
    assert made.model_extra == {
        "loop": {
            "suggestion_id": made.id,
            "model_version": "v7",
            "arm_propensity": 0.9,
            "order_propensity": 0.5,
            "logprobs": [-1.5, -2.5],
        }
    }
    prompt = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "an ad for shoes"}]
    assert backend.asked == [
        Ask(
            request_id=made.id,
            workflow="ads",
            messages=prompt,
            n=2,
            temperature=0.5,
            top_p=0.9,
            max_tokens=20,
        )
    ]
    stored = record(front, made.id)
    assert int(made.id[2:14], 16) // 1000 == made.created
    assert stored.pop("shown_at").endswith("Z")
    assert stored.pop("_at") is None
    assert stored == {
        "suggestion_id": made.id,
        "workflow": "ads",
        "messages": prompt,
        "candidates": [
            {"position": 0, "text": TEXTS[0], "logprob": -1.5},
            {"position": 1, "text": TEXTS[1], "logprob": -2.5},
        ],
        "model_version": "v7",
        "arm_propensity": 0.9,
        "order_propensity": 0.5,
        "employee": pseudonym("anna", front.settings.secret("pseudonym")),
        "team": "north",
        "region": "eu",
        "episode_id": "ep-1",
        "turn": 3,
        "task_id": "t-9",
        "visibility": ["minors"],
        "purposes": ["training", "evaluation"],
        "token_id": "000000000001",
    }


def test_streaming_gives_the_same_and_stores_it_before_the_end(front: Running, client: openai.OpenAI) -> None:
    texts: dict[int, str] = {}
    ends: dict[int, str] = {}
    loop: Any = None
    usage = None
    stream = client.chat.completions.create(
        model="ads", messages=MESSAGES, n=2, stream=True, user="anna", stream_options={"include_usage": True}
    )
    for chunk in stream:
        assert (chunk.object, chunk.model) == ("chat.completion.chunk", "ads")
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
            if choice.finish_reason:
                assert record(front, chunk.id)["model_version"] == chunk.system_fingerprint == "v7"
                ends[choice.index] = choice.finish_reason
                loop = (chunk.model_extra or {}).get("loop") or loop
    assert texts == {0: TEXTS[0], 1: TEXTS[1]}
    assert ends == {0: "stop", 1: "length"}
    assert loop["suggestion_id"] == chunk.id
    assert loop["logprobs"] == [-1.5, -2.5]
    assert usage is not None
    assert usage.total_tokens == 17


def test_a_stream_is_the_lines_that_openai_sends(front: Running) -> None:
    reply = front.post("/v1/chat/completions", {"model": "ads", "messages": MESSAGES, "stream": True})
    assert reply.headers["content-type"] == "text/event-stream"
    assert "usage" not in reply.text
    *lines, done, end = reply.text.split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks] == ["target", " newcomers", None]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, "stop"]
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_the_client_lists_the_workflows_of_its_token(front: Running, client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["ads", "moderation"]
    assert client.models.retrieve("ads").id == "ads"
    with pytest.raises(openai.PermissionDeniedError):
        client.models.retrieve("comms")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("poetry")


def test_errors_are_the_exceptions_of_the_client(front: Running, client: openai.OpenAI, backend: Fixed) -> None:
    ask = client.chat.completions.create
    with pytest.raises(openai.BadRequestError) as bad:
        ask(model="ads", messages=MESSAGES, n="two")  # type: ignore[call-overload]
    assert (bad.value.param, bad.value.code, bad.value.type) == ("n", "wrong_type", "invalid_request_error")
    with pytest.raises(openai.NotFoundError) as unknown:
        ask(model="gpt-4", messages=MESSAGES)
    assert (unknown.value.param, unknown.value.code) == ("model", "model_not_found")
    with pytest.raises(openai.PermissionDeniedError):
        ask(model="comms", messages=MESSAGES)
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="loop_nonsense").chat.completions.create(model="ads", messages=MESSAGES)
    with client_of(front, "slow") as slow:
        slow.chat.completions.create(model="ads", messages=MESSAGES)
        slow.chat.completions.create(model="ads", messages=MESSAGES)
        with pytest.raises(openai.RateLimitError) as often:
            slow.chat.completions.create(model="ads", messages=MESSAGES)
        assert 1 <= int(often.value.response.headers["retry-after"]) <= 10
    backend.error = Unavailable("no model is loaded", retry_after=7.2)
    with pytest.raises(openai.InternalServerError) as away:
        ask(model="ads", messages=MESSAGES)
    assert (away.value.status_code, away.value.response.headers["retry-after"]) == (503, "8")
    backend.error = Unavailable("the upstream says too often", retry_after=3.0, status=429)
    with pytest.raises(openai.RateLimitError):
        ask(model="ads", messages=MESSAGES)
    backend.error = BadInputError("temperature: expected less")
    with pytest.raises(openai.BadRequestError, match="temperature: expected less"):
        ask(model="ads", messages=MESSAGES, stream=True)
    backend.error = ZeroDivisionError("of Anna's")
    with pytest.raises(openai.InternalServerError) as failed:
        ask(model="ads", messages=MESSAGES)
    assert failed.value.status_code == 500
    assert "Anna" not in failed.value.response.text


def test_what_fails_in_a_stream_is_told_in_it(front: Running, client: openai.OpenAI, backend: Fixed) -> None:
    backend.late = Unavailable("the upstream broke off")
    stream = client.chat.completions.create(model="ads", messages=MESSAGES, stream=True)
    first = next(stream)
    assert first.choices[0].delta.content == "target"
    with pytest.raises(openai.APIError, match="the upstream broke off"):
        list(stream)
    assert first.id not in {one["suggestion_id"] for one in front.stored("suggestion")}


def test_the_asynchronous_client_asks_for_many_at_once(front: Running) -> None:
    async def ask() -> list[str]:
        async with (
            httpx.AsyncClient(trust_env=False) as http,
            openai.AsyncOpenAI(base_url=f"{front.url}/v1", api_key=bearer("desk"), http_client=http) as client,
        ):
            asked = [client.chat.completions.create(model="ads", messages=MESSAGES) for _ in range(40)]
            return [made.id for made in await asyncio.gather(*asked)]

    ids = asyncio.run(ask())
    assert len(set(ids)) == 40
    assert set(ids) <= {one["suggestion_id"] for one in front.stored("suggestion")}


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"model": 1}, "model"),
        ({"model": ...}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "poet", "content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": "x" * 4_001}]}, "messages"),
        ({"n": 0}, "n"),
        ({"n": 17}, "n"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"user": ""}, "user"),
        ({"user": "a\x00"}, "user"),
        ({"metadata": {"turn": "two"}}, "metadata"),
        ({"metadata": {"purposes": "spying"}}, "metadata"),
        ({"metadata": {"team": ""}}, "metadata"),
        ({"metadata": {"visibility": "x" * 201}}, "visibility"),
    ],
)
def test_a_chat_request_of_the_wrong_form_is_400(front: Running, changes: dict[str, Any], param: str) -> None:
    asked = {"model": "ads", "messages": MESSAGES} | changes
    reply = front.post("/v1/chat/completions", {k: v for k, v in asked.items() if v is not ...})
    assert (reply.status_code, refused(reply)[2]) == (400, param)


def test_null_is_as_left_out(front: Running, backend: Fixed) -> None:
    asked = {"model": "ads", "messages": MESSAGES, "n": None, "temperature": None, "user": None, "metadata": None}
    assert front.post("/v1/chat/completions", asked).status_code == 200
    assert (backend.asked[-1].n, backend.asked[-1].temperature) == (1, None)


# -- Loop's own route -------------------------------------------------------------------------------------------------


def test_suggestions_show_what_is_stored(front: Running) -> None:
    shown = front.suggest(n=3, purposes=["evaluation"])
    stored = record(front, shown["suggestion_id"])
    assert shown == {
        "suggestion_id": stored["suggestion_id"],
        "workflow": "ads",
        "model_version": "v7",
        "arm_propensity": 0.9,
        "order_propensity": pytest.approx(1 / 3),
        "shown_at": stored["shown_at"],
        "candidates": stored["candidates"],
    }
    assert [c["text"] for c in shown["candidates"]] == list(TEXTS[:3])
    assert front.intake.suggestion(shown["suggestion_id"]) is not None


def test_two_candidates_are_usual(front: Running, backend: Fixed) -> None:
    front.suggest()
    assert backend.asked[-1].n == 2


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"workflow": "poetry"}, (422, "workflow", "workflow")),
        ({"workflow": "comms"}, (403, "wrong_workflow", "workflow")),
        ({"messages": []}, (422, "wrong_type", "messages")),
        ({"n": 0}, (422, "wrong_type", "n")),
        ({"candidates": 3}, (422, "unknown_field", "candidates")),
        ({"employee": " "}, (422, "id", "employee")),
        ({"turn": -1}, (422, "wrong_type", "turn")),
        ({"purposes": ["spying"]}, (422, "wrong_type", "purposes[0]")),
        ({"messages": [{"role": "user", "content": "x" * 4_001}]}, (422, "too_long", "messages")),
    ],
)
def test_a_request_that_breaks_a_rule_is_told_which(
    front: Running, changes: dict[str, Any], expected: tuple[int, str, str]
) -> None:
    asked = {"workflow": "ads", "messages": MESSAGES} | changes
    assert refused(front.post("/v1/suggestions", asked)) == expected


def test_nothing_is_shown_that_could_not_be_stored(front: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_: Any) -> Any:
        raise LoopError("/secret/place: no space left on device")

    monkeypatch.setattr(front.intake, "put", broken)
    asked = {"model": "ads", "messages": MESSAGES}
    assert refused(front.post("/v1/chat/completions", asked)) == (503, "storage", None)
    streamed = front.post("/v1/chat/completions", asked | {"stream": True})
    assert "[DONE]" not in streamed.text
    assert 'finish_reason":"stop' not in streamed.text
    assert json.loads(streamed.text.strip().split("\n\n")[-1].removeprefix("data: "))["error"]["code"] == "storage"
    assert "/secret" not in streamed.text


def test_an_answer_that_no_event_could_hold_is_not_shown(
    front: Running, backend: Fixed, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def long(ask: Ask) -> Generated:
        return Generated(
            model_version="v7",
            arm_propensity=1.0,
            order_propensity=1.0,
            candidates=[Produced("x" * 20_001, None, None, finished=True)],
            prompt_tokens=None,
            completion_tokens=None,
        )

    monkeypatch.setattr(backend, "generate", long)
    reply = front.post("/v1/suggestions", {"workflow": "ads", "messages": MESSAGES, "n": 1})
    assert refused(reply) == (502, "answer_too_long", None)


@pytest.mark.parametrize(
    ("given", "stored"),
    [(None, None), (-2.5, -2.5), (1e-9, 0.0), (float("-inf"), None), (float("nan"), None), (2, None)],
)
def test_a_logprob_is_one_or_is_not_known(given: float | None, stored: float | None) -> None:
    assert _known(given) == stored


def test_who_hangs_up_is_not_waited_for_and_ignored_nothing(front: Running, backend: Fixed) -> None:
    backend.delay = 30.0
    body = json.dumps({"workflow": "ads", "messages": MESSAGES, "employee": "anna"}).encode()
    head = f"POST /v1/suggestions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {bearer('desk')}\r\n"
    with socket.create_connection(("127.0.0.1", front.port)) as connection:
        connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        wait(lambda: len(backend.asked) == 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, as of a dead tool
    wait(lambda: backend.cancelled == 1)
    assert backend.asked[0].request_id not in {one["suggestion_id"] for one in front.stored("suggestion")}
