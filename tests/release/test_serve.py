"""Suggestions from a real tiny model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from loop.config import Settings
from loop.errors import BadInputError, LoopError
from loop.models import Model, Sample
from loop.release import releases
from loop.release.releases import ModelVersion
from loop.release.serve import Request, Server, _without_repeats
from loop.state import State


@pytest.fixture(scope="module")
def server(tiny: Path) -> Server:
    return Server(Model.load(tiny), "m1")


def ask(count: int, workflow: str = "moderation") -> list[Request]:
    return [
        Request(f"{workflow}-{i}", workflow, [{"role": "user", "content": f"Report {i}: a post about harm"}])
        for i in range(count)
    ]


def test_a_suggestion_carries_what_is_needed_later(server: Server) -> None:
    requests = [*ask(3), *ask(2, "ads")]
    found = server.suggest(requests, n=3, seed=0)
    assert [s.request_id for s in found] == [r.request_id for r in requests]
    assert [s.workflow for s in found] == ["moderation"] * 3 + ["ads"] * 2
    for suggestion, request in zip(found, requests, strict=True):
        assert [c.position for c in suggestion.candidates] == [0, 1, 2]
        assert all(c.logprob < 0 for c in suggestion.candidates)
        assert suggestion.prompt == request.prompt
        assert (suggestion.model_version, suggestion.arm_propensity) == ("m1", 1.0)
        assert suggestion.order_propensity == pytest.approx(1 / 6)
    assert len({s.suggestion_id for s in found}) == 5


def test_the_same_request_gets_the_same_suggestion_whatever_is_asked_beside_it(server: Server) -> None:
    requests = ask(6)
    whole = server.suggest(requests, seed=3)
    assert server.suggest(requests, seed=3) == whole
    alone = server.suggest(requests[4:5], seed=3)[0]
    assert alone.suggestion_id == whole[4].suggestion_id
    assert [c.text for c in alone.candidates] == [c.text for c in whole[4].candidates]


def test_another_seed_or_model_makes_another_suggestion(server: Server) -> None:
    first, other_seed = (server.suggest(ask(1), seed=seed)[0] for seed in (0, 1))
    other_model = Server(server.model, "m2").suggest(ask(1), seed=0)[0]
    assert len({first.suggestion_id, other_seed.suggestion_id, other_model.suggestion_id}) == 3
    assert other_model.candidates == first.candidates


def test_the_order_on_the_screen_is_drawn_evenly(server: Server) -> None:
    """The candidate that was sampled first stands first half of the time (200 draws, four standard deviations)."""
    requests = ask(200)
    samples = server._sample(requests, "moderation", 2, 5)
    shown = [server._shown(request, group, 5) for request, group in zip(requests, samples, strict=True)]
    first = sum(
        s.candidates[0].text == group[0].text for s, group in zip(shown, samples, strict=True) if s.distinct == 2
    )
    differing = sum(s.distinct == 2 for s in shown)
    assert differing > 100
    assert abs(first - differing / 2) < 2 * differing**0.5


def test_texts_and_log_probabilities_are_those_sampled_in_another_order(server: Server) -> None:
    requests = ask(20)
    samples = server._sample(requests, "moderation", 2, 1)
    for suggestion, group in zip(server.suggest(requests, seed=1), samples, strict=True):
        if len({sample.text for sample in group}) == 2:
            shown = {(c.text, c.logprob) for c in suggestion.candidates}
            assert shown == {(sample.text, sample.logprob) for sample in group}


def test_repeats_are_drawn_once_more_and_told(server: Server) -> None:
    def drawn(*texts: str) -> list[Sample]:
        return [Sample(text, -1.0, 3, True) for text in texts]

    def kept(first: list[Sample], spare: list[Sample]) -> list[str]:
        return [sample.text for sample in _without_repeats(first, spare)]

    assert kept(drawn("a", "a"), drawn("a", "b")) == ["a", "b"]
    assert kept(drawn("a", "a"), drawn("a", "a")) == ["a", "a"]
    assert kept(drawn("a", "b"), drawn("c", "d")) == ["a", "b"]
    assert kept(drawn("a", "a", "a"), drawn("b", "b", "c")) == ["a", "b", "c"]
    assert kept(drawn("a", "b", "a"), drawn("b", "a", "c")) == ["a", "b", "c"]
    greedy = Server(server.model, "m1", decoding=replace(server.decoding, temperature=1e-6))
    assert Counter(s.distinct for s in greedy.suggest(ask(5), seed=0)) == {1: 5}


@pytest.mark.parametrize(
    ("requests", "n", "message"),
    [
        (ask(1, "ads") * 2, 2, "comes twice"),
        ([replace(ask(1)[0], workflow="legal")], 2, "expected one of ads, moderation, design, comms, got 'legal'"),
        (ask(1), 0, "at least 1 candidate"),
    ],
)
def test_what_cannot_be_served_is_told(server: Server, requests: list[Request], n: int, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        server.suggest(requests, n=n, seed=0)


def test_no_requests_no_suggestions(server: Server) -> None:
    assert server.suggest([], seed=0) == []


def test_the_champion_of_now_is_served(
    state: State, model_row: Callable[..., ModelVersion], bare_settings: Settings, tiny: Path
) -> None:
    with pytest.raises(LoopError, match="no champion yet"):
        Server.champion(bare_settings, state)
    model_row("m0", path=str(tiny))
    releases.record_base(state, "m0", cycle=date(2026, 3, 1), author="test", run_id=None)
    served = Server.champion(bare_settings, state)
    assert served.version == "m0"
    assert served.suggest(ask(1), seed=0)[0].model_version == "m0"
