"""The generator over HTTP: who may ask, what is refused, promotions and faults while many ask."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from shutil import rmtree
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from generators import COLOURS, Running, ask_for, free_port, generating, promote, stock

from loop.config import Settings
from loop.gateway.backend import HEADER, Ask, Generated, Local, Status, Unavailable
from loop.home import Home, open_home
from loop.models import Model
from loop.release.serve import Request, Server, Suggestion
from loop.services import postgres, processes
from loop.workflows import WORKFLOWS


@pytest.fixture
def stocked(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    return stock(home, tmp_path_factory)


def ask(number: int = 0, **how: Any) -> Ask:
    things = ("door", "wall", "old roof")
    wanted = {"workflow": "ads", "messages": ask_for(things[number % 3]), "n": 2, **how}
    return Ask(request_id=f"{number}-{secrets.token_hex(4)}", **wanted)


@asynccontextmanager
async def local(settings: Settings, address: str) -> AsyncIterator[Local]:
    backend = Local(address, settings.secret("gateway"))
    try:
        yield backend
    finally:
        await backend.close()


def status_of(settings: Settings, address: str) -> Status:
    reply = httpx.get(f"{address}/status", headers={HEADER: settings.secret("gateway").hex()})
    return msgspec.json.decode(reply.content, type=Status)


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> float:
    """Seconds until it holds."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() < started + seconds, "it never came"
        time.sleep(0.02)
    return time.monotonic() - started


# -- requests ----------------------------------------------------------------------------------------------------------


def test_a_request_is_answered_with_all_that_is_known_of_it(stocked: Home) -> None:
    async def main(address: str) -> tuple[Generated, Generated]:
        async with local(stocked.settings, address) as backend:
            assert await backend.ready() is None
            return await backend.generate(ask(n=3)), await backend.generate(ask(n=2, temperature=0.0, max_tokens=1))

    with generating(stocked.settings) as running:
        found, greedy = asyncio.run(main(running.address))
        status = status_of(stocked.settings, running.address)
    assert found.model_version == "m0"
    assert found.arm_propensity == 1.0
    assert found.order_propensity is not None
    assert found.order_propensity >= 1 / 6
    assert len(found.candidates) == 3
    assert all(c.logprob is not None and c.logprob < 0 for c in found.candidates)
    assert found.completion_tokens == sum(c.tokens or 0 for c in found.candidates)
    assert found.prompt_tokens == len(Model.load(stocked.settings.models / "m0").encode_prompt(ask_for("door")).ids)
    assert [(c.tokens, c.logprob) for c in greedy.candidates] == [(1, pytest.approx(0.0, abs=1e-6))] * 2
    assert len({c.text for c in greedy.candidates}) == 1
    assert (status.version, status.predecessor, status.loading, status.failed) == ("m0", None, None, None)
    assert (status.queue, status.served, status.database) == (0, 2, None)
    assert status.since is not None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (b"{", "expected a request of the front"),
        (b"[]", "expected a request of the front"),
        (b"\xff\xfe", "expected a request of the front"),
        ({"n": 0}, ">= 1 - at `$.n`"),
        ({"n": 65}, "<= 64 - at `$.n`"),
        ({"temperature": -0.1}, ">= 0.0 - at `$.temperature`"),
        ({"top_p": 0}, "> 0.0 - at `$.top_p`"),
        ({"max_tokens": 0}, ">= 1 - at `$.max_tokens`"),
        ({"messages": "hello"}, "Expected `array`"),
        ({"workflow": "legal"}, "expected one of ads, moderation, design, comms, got 'legal'"),
    ],
)
def test_what_cannot_be_answered_is_told(stocked: Home, wrong: bytes | dict[str, Any], message: str) -> None:
    body = wrong if isinstance(wrong, bytes) else msgspec.json.encode({**msgspec.to_builtins(ask()), **wrong})
    with generating(stocked.settings) as running:
        headers = {HEADER: stocked.settings.secret("gateway").hex()}
        reply = httpx.post(f"{running.address}/generate", content=body, headers=headers)
    assert reply.status_code == 400
    assert message in reply.json()["error"]


def test_only_who_knows_the_secret_may_ask(stocked: Home) -> None:
    right = stocked.settings.secret("gateway").hex()
    body = msgspec.json.encode(ask())
    with generating(stocked.settings) as running:
        for given in ({}, {HEADER: ""}, {HEADER: right[:-1]}, {HEADER: right + "0"}, {HEADER: "0" * len(right)}):
            for method, path in (("POST", "/generate"), ("GET", "/status"), ("GET", "/nothing")):
                reply = httpx.request(method, running.address + path, content=body, headers=given)
                assert (reply.status_code, right in reply.text) == (401, False)
        reply = httpx.get(running.address + "/generate", headers={HEADER: right})
        assert (reply.status_code, reply.json()) == (404, {"error": "expected POST /generate or GET /status"})
        assert running.batcher.served == 0


def test_a_body_without_end_is_refused(stocked: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loop.gateway.generator.BODY_BYTES", 1000)
    with generating(stocked.settings) as running:
        headers = {HEADER: stocked.settings.secret("gateway").hex()}
        reply = httpx.post(f"{running.address}/generate", content=b" " * 1001, headers=headers)
    assert reply.status_code == 413


def test_while_nothing_is_loaded_it_says_so(home: Home) -> None:
    async def main(address: str) -> None:
        async with local(home.settings, address) as backend:
            assert await backend.ready() == "the generator has no model version loaded"
            with pytest.raises(Unavailable, match="no model version is loaded yet") as told:
                await backend.generate(ask())
            assert (told.value.status, told.value.retry_after) == (503, 1.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("generators.READY_S", 0.0)
        with generating(home.settings) as running:
            asyncio.run(main(running.address))


def test_who_hangs_up_is_not_answered(stocked: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Server.answer

    def slowly(self: Server, requests: Sequence[Request], **how: Any) -> list[Suggestion]:
        time.sleep(1.0)
        return answer(self, requests, **how)

    async def main(running: Running) -> None:
        async with local(stocked.settings, running.address) as backend:
            first = asyncio.ensure_future(backend.generate(ask()))
            await asyncio.sleep(0.3)
            gone = [asyncio.ensure_future(backend.generate(ask(number))) for number in range(20)]
            await asyncio.to_thread(wait_for, lambda: running.batcher.depth == 20)
            for task in gone:
                task.cancel()
            await first
            await backend.generate(ask())

    monkeypatch.setattr(Server, "answer", slowly)
    with generating(stocked.settings) as running:
        asyncio.run(main(running))
        assert running.batcher.served == 2


# -- the stored probabilities, over HTTP -------------------------------------------------------------------------------


def test_a_share_of_requests_is_served_by_the_version_before(stocked: Home) -> None:
    promote(stocked, 2, "m1", "m0")
    settings = stocked.settings.model_copy(update={"exploration": 0.3})

    async def main(address: str) -> list[Generated]:
        async with local(settings, address) as backend:
            return await asyncio.gather(*(backend.generate(ask(i, n=1, max_tokens=1)) for i in range(300)))

    with generating(settings) as running:
        found = asyncio.run(main(running.address))
        assert status_of(settings, running.address).predecessor == "m0"
    assert {(g.model_version, g.arm_propensity) for g in found} == {("m1", 0.7), ("m0", 0.3)}
    # Four standard deviations: once in 16,000 runs.
    assert abs(sum(g.model_version == "m0" for g in found) - 90) < 4 * (300 * 0.3 * 0.7) ** 0.5


# -- promotions and faults while many ask ------------------------------------------------------------------------------


class Users:
    """32 people who ask without a pause; every reply with when it came, and every error."""

    def __init__(self, settings: Settings, address: str) -> None:
        self.settings = settings
        self.address = address
        self.replies: list[tuple[float, Ask, Generated]] = []
        self.errors: list[Exception] = []
        self.stop = False

    async def run(self, meanwhile: Callable[[], None]) -> None:
        async with local(self.settings, self.address) as backend:
            numbers = itertools.count()

            async def user() -> None:
                while not self.stop:
                    asked = ask(next(numbers), temperature=1.0, top_p=1.0)
                    try:
                        found = await backend.generate(asked)
                    except Exception as error:  # noqa: BLE001 - the test looks at them
                        self.errors.append(error)
                        await asyncio.sleep(0.05)
                    else:
                        self.replies.append((time.monotonic(), asked, found))

            users = [asyncio.ensure_future(user()) for _ in range(32)]
            try:
                await asyncio.to_thread(meanwhile)
            finally:
                self.stop = True
                await asyncio.gather(*users)

    def versions(self, since: float = 0.0) -> set[str]:
        return {found.model_version for when, _, found in self.replies if when >= since}


def assert_drawn_from(model: Model, replies: list[tuple[float, Ask, Generated]], *, same: bool) -> None:
    """Whether log-probabilities are those of that model's weights.

    Scoring tokenises texts anew: only what the model learned as a whole is surely the tokens that were drawn.
    """
    learned = {f"{colour} paint" for colour in COLOURS}
    pairs = [(asked.messages, c) for _, asked, found in replies for c in found.candidates if c.text in learned]
    known = [(m, c) for m, c in pairs if c.finished and len(model.encode_answer(c.text).ids) == c.tokens]
    assert len(known) >= 30
    scores, _ = model.logprobs([m for m, _ in known], [c.text for _, c in known])
    apart = np.abs(scores - np.array([c.logprob for _, c in known]))
    assert apart.max() < 1e-3 if same else np.median(apart) > 0.05


@pytest.mark.slow
def test_a_promotion_is_served_in_five_seconds_and_nothing_is_dropped_or_mixed(stocked: Home) -> None:
    took = []

    def meanwhile() -> None:
        wait_for(lambda: len(users.replies) >= 64)
        promote(stocked, 2, "m1", "m0")
        at = time.monotonic()
        took.append(wait_for(lambda: "m1" in users.versions()))
        time.sleep(5.0 - (time.monotonic() - at))
        enough = len(users.replies) + 64
        wait_for(lambda: len(users.replies) >= enough)
        took.append(at + 5.0)

    with generating(stocked.settings) as running:
        users = Users(stocked.settings, running.address)
        asyncio.run(users.run(meanwhile))
    assert users.errors == []
    assert took[0] < 5.0
    assert users.versions(since=took[1]) == {"m1"}
    models = {version: Model.load(stocked.settings.models / version) for version in ("m0", "m1")}
    for version, other in (("m0", "m1"), ("m1", "m0")):
        replies = [reply for reply in users.replies if reply[2].model_version == version]
        assert_drawn_from(models[version], replies, same=True)
        assert_drawn_from(models[other], replies, same=False)


def test_a_promoted_version_without_files_leaves_the_old_one_serving_and_is_told(stocked: Home) -> None:
    def meanwhile() -> None:
        rmtree(stocked.settings.models / "m1")
        promote(stocked, 2, "m1", "m0")
        wait_for(lambda: bool(status_of(stocked.settings, running.address).failed))
        enough = len(users.replies) + 64
        wait_for(lambda: len(users.replies) >= enough)

    with generating(stocked.settings) as running:
        users = Users(stocked.settings, running.address)
        asyncio.run(users.run(meanwhile))
        status = status_of(stocked.settings, running.address)
    assert users.errors == []
    assert users.versions() == {"m0"}
    assert status.version == "m0"
    assert status.failed is not None
    assert "expected weights as safetensors, found none" in status.failed["m1"]


@pytest.mark.slow
def test_while_postgres_is_stopped_it_goes_on_and_follows_again_afterwards(
    bare_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def meanwhile() -> None:
        wait_for(lambda: len(users.replies) >= 32)
        with processes.locked(bare_settings):
            postgres.stop(bare_settings)
        wait_for(lambda: status_of(bare_settings, running.address).database is not None)
        enough = len(users.replies) + 64
        wait_for(lambda: len(users.replies) >= enough)
        with processes.locked(bare_settings):
            postgres.start(bare_settings)
        home.state.engine.dispose()
        promote(home, 2, "m1", "m0")
        wait_for(lambda: "m1" in users.versions())

    with open_home(bare_settings) as home:
        stock(home, tmp_path_factory)
        with generating(bare_settings) as running:
            users = Users(bare_settings, running.address)
            asyncio.run(users.run(meanwhile))
            assert status_of(bare_settings, running.address).database is None
    assert users.errors == []
    assert users.versions() == {"m0", "m1"}


# -- the process -------------------------------------------------------------------------------------------------------

PROGRAM = """
import sys
from loop.config import load
from loop.gateway.generator import serve
from loop.services import locate
settings = load()
serve(settings, host="127.0.0.1", port=int(sys.argv[1]), database=lambda: locate(settings).loop)
"""


@pytest.mark.slow
def test_killed_in_the_middle_of_a_request_it_is_unavailable_and_told_to_end_it_answers_first(
    stocked: Home,
) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(port)], env={**os.environ, **stocked.settings.as_environment()}
        )

        def serves() -> bool:
            try:
                return status_of(stocked.settings, address).version == "m0"
            except httpx.TransportError:
                return False

        wait_for(serves, 120)
        return process

    async def interrupt(process: subprocess.Popen[bytes], how: signal.Signals) -> list[Generated | BaseException]:
        async with local(stocked.settings, address) as backend:
            await backend.generate(ask())
            asked = [asyncio.ensure_future(backend.generate(ask(i, n=16))) for i in range(16)]
            await asyncio.sleep(0.03)
            process.send_signal(how)
            found = await asyncio.gather(*asked, return_exceptions=True)
            process.wait(20)
            with pytest.raises(Unavailable, match="cannot be reached") as told:
                await backend.generate(ask())
            assert told.value.retry_after == 1.0
            assert str(await backend.ready()).startswith("the generator cannot be reached")
            return found

    process = start()
    try:
        killed = asyncio.run(interrupt(process, signal.SIGKILL))
        assert any(isinstance(one, Unavailable) for one in killed)
        assert {type(one) for one in killed} <= {Unavailable, Generated}
        process = start()
        ended = asyncio.run(interrupt(process, signal.SIGTERM))
        assert [type(one) for one in ended] == [Generated] * 16
        assert process.returncode == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.wait()


def test_every_workflow_is_served(stocked: Home) -> None:
    async def main(address: str) -> list[Generated]:
        async with local(stocked.settings, address) as backend:
            return [await backend.generate(ask(workflow=name)) for name in WORKFLOWS]

    with generating(stocked.settings) as running:
        assert len(asyncio.run(main(running.address))) == len(WORKFLOWS)


def test_a_generator_finds_its_home_again_without_a_database(stocked: Home) -> None:
    with generating(stocked.settings):
        pass
    nowhere = "postgresql+psycopg2://loop@127.0.0.1:9/loop"
    with generating(stocked.settings, lambda: nowhere) as running:
        wait_for(lambda: status_of(stocked.settings, running.address).database is not None)
        assert status_of(stocked.settings, running.address).version == "m0"
