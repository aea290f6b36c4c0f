"""Requests that wait at once share a batch; each gets what is its own, drawn with the probabilities that it says."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from generators import ask_for, tiny_models
from scipy.stats import binomtest, chisquare

from loop.errors import BadInputError, LoopError
from loop.evaluate.answers import Decoding
from loop.gateway import batching
from loop.gateway.batching import Batcher, NotReadyError
from loop.models import Model
from loop.release.arms import Arms
from loop.release.serve import Request, Server, Suggestion


class Watched(Server):
    """A server that notes which requests came to it together."""

    def __init__(self, model: Model, version: str) -> None:
        super().__init__(model, version)
        self.batches: list[list[str]] = []
        self.slow_s = 0.0

    def answer(self, requests: Sequence[Request], **how: Any) -> list[Suggestion]:
        self.batches.append([request.request_id for request in requests])
        time.sleep(self.slow_s)
        return super().answer(requests, **how)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    return {version: Model.load(folder) for version, folder in tiny_models(tmp_path_factory).items()}


@pytest.fixture
def new(models: dict[str, Model]) -> Watched:
    return Watched(models["m1"], "m1")


@pytest.fixture
def old(models: dict[str, Model]) -> Watched:
    return Watched(models["m0"], "m0")


@pytest.fixture
def batcher(new: Watched) -> Iterator[Batcher]:
    made = Batcher(lambda: Arms(new, None, 0.0), shuffle=True)
    made.start()
    yield made
    made.close()


@pytest.fixture
def seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh entropy that is the same in every run, so that no test fails once in a thousand times."""
    numbers = itertools.count()
    monkeypatch.setattr(batching.secrets, "token_hex", lambda _: str(next(numbers)))


async def ask(batcher: Batcher, name: str, **how: Any) -> Suggestion:
    wanted = {"n": 2, "decoding": Decoding(), "most_tokens": 6, "messages": ask_for("door"), **how}
    request = Request(name, "ads", wanted.pop("messages"))
    return await batcher.ask(request, **wanted)


def at_once(batcher: Batcher, count: int, **how: Any) -> list[Suggestion]:
    async def all_of_them() -> list[Suggestion]:
        return await asyncio.gather(*(ask(batcher, f"r{i}", **how) for i in range(count)))

    return asyncio.run(all_of_them())


# -- batches -----------------------------------------------------------------------------------------------------------


def test_who_waits_at_once_is_answered_together(batcher: Batcher, new: Watched) -> None:
    new.slow_s = 0.05
    found = at_once(batcher, 40)
    assert [s.request_id for s in found] == [f"r{i}" for i in range(40)]
    assert [name for batch in new.batches for name in batch] == [f"r{i}" for i in range(40)]  # in order of arrival
    assert len(new.batches) <= 4
    assert max(len(batch) for batch in new.batches) == 32
    assert batcher.served == 40
    assert batcher.depth == 0


def test_a_batch_holds_no_more_candidates_than_are_sampled_at_once(batcher: Batcher, new: Watched) -> None:
    new.slow_s = 0.05
    at_once(batcher, 13, n=16)
    assert max(len(batch) for batch in new.batches) == 4


def test_those_who_were_answered_together_are_awaited(batcher: Batcher, new: Watched) -> None:
    """Eight ask again a little after their answer, one after the other: they meet in one batch, not in eight."""
    new.slow_s = 0.3

    async def user(number: int) -> None:
        for turn in range(4):
            await ask(batcher, f"{number}.{turn}")
            await asyncio.sleep(0.002 * number)

    async def main() -> None:
        await asyncio.gather(*(user(number) for number in range(8)))

    asyncio.run(main())
    assert [len(batch) for batch in new.batches[-2:]] == [8, 8]


def test_a_lone_request_waits_for_nobody(batcher: Batcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "PATIENCE", 1000.0)
    monkeypatch.setattr(batching, "PATIENCE_S", 30.0)

    async def main() -> float:
        started = time.monotonic()
        for turn in range(3):
            await ask(batcher, f"lone {turn}")
        return time.monotonic() - started

    assert asyncio.run(main()) < 15.0


def test_what_differs_is_answered_apart_and_each_gets_its_own(batcher: Batcher, new: Watched) -> None:
    new.slow_s = 0.05

    async def main() -> list[Suggestion]:
        ways = [{"n": 1}, {"n": 3}, {"n": 3, "most_tokens": 1}, {"n": 3, "decoding": Decoding(1e-6, 1.0)}]
        return await asyncio.gather(ask(batcher, "first"), *(ask(batcher, f"w{i}", **w) for i, w in enumerate(ways)))

    first, one, three, short, greedy = asyncio.run(main())
    assert [len(s.candidates) for s in (first, one, three, short, greedy)] == [2, 1, 3, 3, 3]
    assert {c.tokens for c in short.candidates} == {1}
    assert {c.text for c in greedy.candidates} == {greedy.candidates[0].text}
    assert new.batches == [["first"], ["w0"], ["w1"], ["w2"], ["w3"]]


def test_asked_twice_it_is_drawn_twice(batcher: Batcher) -> None:
    async def main() -> set[tuple[str, ...]]:
        found = [await ask(batcher, "the same", n=4) for _ in range(8)]
        return {tuple(c.text for c in s.candidates) for s in found}

    assert len(asyncio.run(main())) > 1


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_one_that_fails_fails_alone(batcher: Batcher, new: Watched, models: dict[str, Model]) -> None:
    tokenizer = models["m1"].tokenizer
    plain = tokenizer.chat_template
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'tool' %}{{ raise_exception('no tools') }}{% endif %}" + plain
    )
    new.slow_s = 0.05
    tool = [{"role": "tool", "content": "x"}]

    async def main() -> list[Suggestion | BaseException]:
        return await asyncio.gather(
            *(ask(batcher, f"r{i}", **({"messages": tool} if i == 3 else {})) for i in range(6)), return_exceptions=True
        )

    try:
        found = asyncio.run(main())
    finally:
        tokenizer.chat_template = plain
    assert isinstance(found[3], BadInputError)
    assert "no tools" in str(found[3])
    assert [s.request_id for s in found if isinstance(s, Suggestion)] == ["r0", "r1", "r2", "r4", "r5"]


def test_a_model_that_fails_is_told_and_the_next_request_is_answered(
    batcher: Batcher, new: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = new.model.network
    monkeypatch.setattr(new.model, "network", None)
    with pytest.raises(LoopError, match="m1 failed to answer") as told:
        at_once(batcher, 2)
    monkeypatch.setattr(new.model, "network", network)
    assert not isinstance(told.value, BadInputError)
    assert len(at_once(batcher, 2)) == 2


def test_nothing_loaded_or_too_many_waiting_is_told_at_once(new: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = Batcher(lambda: None, shuffle=True)
    with pytest.raises(NotReadyError, match="no model version is loaded"):
        at_once(empty, 1)
    monkeypatch.setattr(batching, "WAITING", 3)
    full = Batcher(lambda: Arms(new, None, 0.0), shuffle=True)  # not started, so all wait

    async def main() -> None:
        waiting = [asyncio.ensure_future(ask(full, f"r{i}")) for i in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(NotReadyError, match="3 requests wait already"):
            await ask(full, "one more")
        for task in waiting:
            task.cancel()

    asyncio.run(main())


def test_who_has_gone_is_not_answered(batcher: Batcher, new: Watched) -> None:
    new.slow_s = 0.2

    async def main() -> None:
        first = asyncio.ensure_future(ask(batcher, "first"))
        await asyncio.sleep(0.1)
        gone, stays = (asyncio.ensure_future(ask(batcher, name)) for name in ("gone", "stays"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(first, stays)

    asyncio.run(main())
    assert new.batches == [["first"], ["stays"]]


# -- the stored probabilities are those of the draws -------------------------------------------------------------------


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize(("temperature", "top_p"), [(0.9, 0.95), (1.0, 1.0), (0.6, 0.8), (1.8, 0.9)])
def test_texts_come_as_often_as_their_log_probability_says(old: Watched, temperature: float, top_p: float) -> None:
    """2,048 draws, chi-square over every text that is expected five times; the others count as one."""
    batcher = Batcher(lambda: Arms(old, None, 0.0), shuffle=True)
    batcher.start()
    try:
        found = at_once(batcher, 128, n=16, decoding=Decoding(temperature, top_p), most_tokens=3)
    finally:
        batcher.close()
    # One text may be written with several sequences of tokens; the log-probability is that of the one drawn.
    seen = Counter((c.text, round(c.logprob, 3)) for suggestion in found for c in suggestion.candidates)
    total = sum(seen.values())
    assert total == 2048
    expected = {event: total * math.exp(event[1]) for event in seen}
    often = [event for event in seen if expected[event] >= 5]
    assert len(often) >= 4
    observed, wanted = [seen[event] for event in often], [expected[event] for event in often]
    if (rest := total - sum(wanted)) >= 1:
        observed.append(total - sum(observed))
        wanted.append(rest)
    assert sum(wanted) == pytest.approx(total, rel=1e-3)
    assert chisquare(observed, [w * total / sum(wanted) for w in wanted]).pvalue > 1e-3


@pytest.mark.usefixtures("seeded")
def test_arms_and_orders_come_as_often_as_their_propensities_say(new: Watched, old: Watched) -> None:
    batcher = Batcher(lambda: Arms(new, old, 0.25), shuffle=True)
    batcher.start()
    try:
        found = at_once(batcher, 480, n=2, most_tokens=1, decoding=Decoding(0.7, 1.0))
    finally:
        batcher.close()
    served = Counter((s.model_version, s.arm_propensity) for s in found)
    assert set(served) == {("m1", 0.75), ("m0", 0.25)}
    assert binomtest(served["m0", 0.25], len(found), 0.25).pvalue > 1e-3
    assert {s.order_propensity for s in found if s.distinct == 1} == {1.0}
    differing = [s for s in found if s.distinct == 2]
    assert {s.order_propensity for s in differing} == {0.5}
    pairs = Counter(tuple(c.text for c in s.candidates) for s in differing)
    (one, other), _ = pairs.most_common(1)[0]
    both = pairs[one, other] + pairs[other, one]
    assert both >= 50
    assert binomtest(pairs[one, other], both, 0.5).pvalue > 1e-3


def test_without_shuffling_the_likeliest_stands_first(new: Watched) -> None:
    batcher = Batcher(lambda: Arms(new, None, 0.0), shuffle=False)
    batcher.start()
    try:
        for suggestion in at_once(batcher, 8, n=3):
            nats = [c.logprob for c in suggestion.candidates]
            assert nats == sorted(nats, reverse=True)
            assert suggestion.order_propensity == 1.0
    finally:
        batcher.close()
