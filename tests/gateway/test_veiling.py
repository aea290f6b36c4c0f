"""What the model and the store see of a person is a placeholder; whoever asked gets an answer with the values in it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from loop.gateway.backend import Ask, Generated, Piece, Produced
from loop.gateway.veiling import Filling, Hidden
from loop.gateway.wire import Message
from loop.privacy.recognise import find
from tests.gateway.fronts import Running, feedback, home_of, key, refused, serving, whole

MAIL, PHONE = "jane.roe@example.org", "+49 30 1234567"
PROMPT = f"Answer {MAIL} (not <EMAIL_ADDRESS_1>), tel {PHONE}"
HIDDEN = "Answer <EMAIL_ADDRESS_2> (not <EMAIL_ADDRESS_1>), tel <PHONE_NUMBER_1>"


class Echo:
    """A backend that answers with the prompt and an address of its own, in a stream letter by letter."""

    def __init__(self) -> None:
        self.asked: list[Ask] = []

    async def generate(self, ask: Ask) -> Generated:
        self.asked.append(ask)
        said = ask.messages[-1]["content"]
        texts = [f"{said} < mail new{i}@example.com <EMAIL" for i in range(ask.n)]
        return Generated(
            model_version="echo",
            arm_propensity=1.0,
            order_propensity=1.0,
            candidates=[Produced(text, -1.0, 3, finished=True) for text in texts],
            prompt_tokens=1,
            completion_tokens=3,
        )

    async def stream(self, ask: Ask) -> AsyncIterator[Piece | Generated]:
        made = await self.generate(ask)
        for position, candidate in enumerate(made.candidates):
            for letter in candidate.text:
                yield Piece(position, letter)
        yield made

    async def ready(self) -> str | None:
        return None

    async def close(self) -> None:
        pass


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def veiled(tmp_path_factory: pytest.TempPathFactory, echo: Echo) -> Iterator[Running]:
    with serving(home_of(tmp_path_factory.mktemp("veiled"), spool_segment_seconds=3600.0), echo) as running:
        yield running


def answer(text: str, number: int = 0) -> str:
    return f"{text} < mail new{number}@example.com <EMAIL"


def messages() -> list[dict[str, str]]:
    return [{"role": "user", "content": PROMPT}]


def test_model_and_store_see_placeholders_and_the_asker_values(veiled: Running, echo: Echo) -> None:
    told = veiled.suggest(messages=messages(), n=2)
    assert [c["text"] for c in told["candidates"]] == [answer(PROMPT), answer(PROMPT, 1)]
    assert echo.asked[0].messages == [{"role": "user", "content": HIDDEN}]
    (kept,) = veiled.stored("suggestion")
    assert kept["messages"] == [{"role": "user", "content": HIDDEN}]
    assert [c["text"] for c in kept["candidates"]] == [
        f"{HIDDEN} < mail <EMAIL_ADDRESS_3> <EMAIL",
        f"{HIDDEN} < mail <EMAIL_ADDRESS_4> <EMAIL",
    ]


def test_chat_completions_do_the_same(veiled: Running, echo: Echo) -> None:
    reply = veiled.post("/v1/chat/completions", {"model": "ads", "messages": messages()}).json()
    assert reply["choices"][0]["message"]["content"] == answer(PROMPT)
    assert echo.asked[0].messages[0]["content"] == HIDDEN


def test_a_placeholder_that_a_stream_cuts_into_letters_is_filled_in(veiled: Running) -> None:
    reply = veiled.post("/v1/chat/completions", {"model": "ads", "messages": messages(), "n": 2, "stream": True})
    chunks = [json.loads(line[6:]) for line in reply.text.split("\n\n") if line.startswith("data: {")]
    texts = ["", ""]
    for chunk in chunks:
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["delta"].get("content", "")
    assert texts == [answer(PROMPT), answer(PROMPT, 1)]


def test_no_file_of_the_gateway_holds_a_value(veiled: Running) -> None:
    veiled.suggest(messages=messages())
    veiled.intake.close()
    files = [path for path in veiled.settings.gateway.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert b"jane.roe" not in path.read_bytes(), path


def test_short_feedback_takes_the_text_as_it_is_stored(veiled: Running) -> None:
    told = veiled.suggest(messages=messages())
    reply = veiled.post(
        "/v1/feedback",
        {"event_id": "e1", "suggestion_id": told["suggestion_id"], "decision": "accept", "chosen": 0},
        token="all",
    )
    assert reply.status_code == 200, reply.text
    assert veiled.event("e1")["final_text"] == f"{HIDDEN} < mail <EMAIL_ADDRESS_3> <EMAIL"


KEPT = f"{HIDDEN} < mail <EMAIL_ADDRESS_3> <EMAIL"


@pytest.mark.parametrize(
    ("decision", "made", "kept"),
    [
        ("accept", answer(PROMPT), KEPT),
        ("modify", f"Dear all, {answer(PROMPT)}", f"Dear all, {KEPT}"),
    ],
)
def test_a_text_that_comes_back_with_values_is_taken_as_what_it_was_made_of(
    veiled: Running, decision: str, made: str, kept: str
) -> None:
    told = veiled.suggest(messages=messages())
    short = feedback(told, decision=decision, chosen=0, final_text=made)
    reply = veiled.post("/v1/feedback", short, token="all")
    assert reply.status_code == 200, reply.text
    assert veiled.event(short["event_id"])["final_text"] == kept
    assert veiled.post("/v1/feedback", short, token="all").json()["status"] == "duplicate"


def test_another_value_in_the_place_of_one_is_an_edit(veiled: Running) -> None:
    """Whether a value is the one that was shown nobody knows any more: what is called an edit is taken for one."""
    told = veiled.suggest(messages=messages())
    short = feedback(told, decision="modify", chosen=0, final_text=answer(PROMPT).replace(MAIL, "jo@example.org"))
    assert veiled.post("/v1/feedback", short, token="all").status_code == 200
    assert "jo@example.org" in veiled.event(short["event_id"])["final_text"]  # masked when it lands, by a new number


def test_a_whole_event_says_what_was_shown_and_is_stored_as_it_was_served(veiled: Running) -> None:
    told = veiled.suggest(messages=messages(), n=2)
    said = whole(
        suggestion_id=told["suggestion_id"],
        model_version=told["model_version"],
        arm_propensity=told["arm_propensity"],
        order_propensity=told["order_propensity"],
        shown_at=datetime.now(UTC).isoformat(),
        decided_at=...,
        decision="reject",
        chosen=...,
        final_text=...,
        prompt=messages(),
        candidates=[{k: c[k] for k in ("position", "text", "logprob")} for c in told["candidates"]],
        reasons=["clock_backwards"],
    )
    reply = veiled.post("/v1/feedback", said, token="all")
    assert reply.status_code == 200, reply.text
    kept = veiled.event(said["event_id"])
    assert kept["prompt"] == [{"role": "user", "content": HIDDEN}]
    assert [c["text"] for c in kept["candidates"]] == [KEPT, KEPT.replace("<EMAIL_ADDRESS_3>", "<EMAIL_ADDRESS_4>")]
    assert veiled.post("/v1/feedback", said, token="all").json()["status"] == "duplicate"
    other = said | {"event_id": key(), "candidates": [{**c, "text": "another"} for c in said["candidates"]]}
    assert refused(veiled.post("/v1/feedback", other, token="all")) == (422, "not_as_served", "candidates")


def test_off_hides_nothing(tmp_path_factory: pytest.TempPathFactory, echo: Echo) -> None:
    with serving(home_of(tmp_path_factory.mktemp("open"), privacy="off"), echo) as running:
        assert running.suggest(messages=messages())["candidates"][0]["text"] == answer(PROMPT)
        assert echo.asked[0].messages == messages()
        assert running.stored("suggestion")[0]["messages"] == messages()


async def _hidden(text: str) -> Hidden:
    hidden = Hidden(find)
    await hidden.prompt([Message(role="user", content=text)])
    return hidden


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_filling_gives_the_same_text_however_it_is_cut(size: int) -> None:
    import asyncio

    filling = Filling(asyncio.run(_hidden(f"{MAIL} {PHONE}")))
    text = "a <EMAIL_ADDRESS_1><PHONE_NUMBER_1> < <EMAIL_ADDRESS_12> <EMAIL_ADDRESS_1 <<PHONE_NUMBER_1> <EMA"
    told = [filling.next(Piece(0, text[at : at + size])) for at in range(0, len(text), size)]
    whole = "".join(piece.text for piece in [*told, *filling.rest()])
    assert whole == f"a {MAIL}{PHONE} < <EMAIL_ADDRESS_12> <EMAIL_ADDRESS_1 <{PHONE} <EMA"


def test_the_front_loads_no_presidio() -> None:
    code = (
        "import sys; from loop.gateway import front, veiling; from loop.privacy import recognise\n"
        "recognise.find('call +49 30 1234567, GB13PLUO53932440748460, a@b.org')\n"
        "print([m for m in ('presidio_analyzer', 'spacy', 'torch', 'pandas') if m in sys.modules])"
    )
    done: Any = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert done.stdout.strip() == "[]"
