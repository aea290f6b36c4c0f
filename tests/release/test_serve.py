"""Suggestions from a real tiny model."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import permutations
from math import factorial
from pathlib import Path
from shutil import copytree

import pytest
import torch
from scipy.stats import binomtest

from loop.errors import BadInputError, LoopError
from loop.evaluate.answers import SERVED, Decoding
from loop.models import Model, Sample
from loop.release.order import order_propensity
from loop.release.serve import Request, Server, Suggestion, _order, _without_repeats, most_tokens
from loop.weights import weights_digest


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
    shown = server.suggest(requests, seed=5)
    pairs = [(s, g) for s, g in zip(shown, samples, strict=True) if g[0].text != g[1].text]
    first = sum(s.candidates[0].text == group[0].text for s, group in pairs)
    differing = len(pairs)
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


def test_suggestions_stay_what_they_were(server: Server) -> None:
    """Ids and orders of a seed, by which an old run is repeated: these were drawn before the gateway existed."""
    assert [s.suggestion_id for s in server.suggest(ask(4), seed=3)] == [
        "s-31d5a51aba542abd",
        "s-1d21a3456b3de076",
        "s-7cf24bba58e71afc",
        "s-f31306f91c006cc8",
    ]
    assert [_order(2, 3, request.request_id) for request in ask(4)] == [[1, 0], [1, 0], [1, 0], [0, 1]]


# -- answers of the gateway --------------------------------------------------------------------------------------------


def answer(server: Server, requests: list[Request], *, n: int = 2, seed: int = 0, **how: object) -> list[Suggestion]:
    seeds = list(range(seed, seed + len(requests)))
    options = {"most_tokens": most_tokens("moderation"), **how}
    return server.answer(requests, n=n, seeds=seeds, **options)  # type: ignore[arg-type]


def test_an_answer_depends_on_its_own_seed_and_not_on_its_batch(server: Server) -> None:
    requests = ask(6)
    whole = answer(server, requests, seed=10)
    alone = [answer(server, [request], seed=10 + i)[0] for i, request in enumerate(requests)]
    assert [[c.text for c in s.candidates] for s in whole] == [[c.text for c in s.candidates] for s in alone]
    assert [s.request_id for s in whole] == [r.request_id for r in requests]
    other = answer(server, requests, seed=11)
    assert [[c.text for c in s.candidates] for s in whole] != [[c.text for c in s.candidates] for s in other]


def test_an_answer_says_what_it_cost(server: Server) -> None:
    [found] = answer(server, ask(1), n=3)
    assert found.prompt_tokens == len(server.model.encode_prompt(found.prompt).ids)
    assert all(1 <= c.tokens <= most_tokens("moderation") for c in found.candidates)
    [short] = answer(server, ask(1), n=3, most_tokens=2)
    assert [(c.tokens, c.finished) for c in short.candidates] == [(2, False)] * 3


def test_equal_texts_stay_and_their_log_probability_is_of_what_was_drawn(server: Server) -> None:
    [greedy] = answer(server, ask(1), n=3, decoding=Decoding(1e-6, 1.0))
    assert greedy.distinct == 1
    assert [c.logprob for c in greedy.candidates] == pytest.approx([0.0] * 3, abs=1e-6)
    assert greedy.order_propensity == 1.0


def test_without_shuffling_candidates_stand_by_falling_log_probability(server: Server) -> None:
    for found in answer(server, ask(8), n=4, shuffle=False):
        nats = [c.logprob for c in found.candidates]
        assert nats == sorted(nats, reverse=True)
        assert [c.position for c in found.candidates] == [0, 1, 2, 3]
        assert found.order_propensity == 1.0


def test_the_same_answers_are_shuffled_or_not(server: Server) -> None:
    shuffled, sorted_ = (answer(server, ask(8), n=3, shuffle=shuffle) for shuffle in (True, False))
    assert [sorted(c.text for c in s.candidates) for s in shuffled] == [
        sorted(c.text for c in s.candidates) for s in sorted_
    ]
    assert [s.order_propensity for s in shuffled] == [order_propensity([c.text for c in s.candidates]) for s in sorted_]


@pytest.mark.parametrize("texts", ["a", "ab", "aa", "aab", "abab", "aaab", "abcd"])
def test_an_orders_propensity_is_the_share_of_orders_that_read_so(texts: str) -> None:
    orders = list(permutations(texts))
    assert order_propensity(list(texts)) == pytest.approx(orders.count(tuple(texts)) / len(orders))
    assert len(orders) == factorial(len(texts))


def test_orders_come_as_often_as_their_propensity_says(server: Server) -> None:
    """Of 600 answers with one text twice and another once, each of the three orders that can be seen (exact test)."""
    seen: Counter[str] = Counter()
    for start in range(0, 600, 60):
        requests = [replace(ask(1)[0], request_id=f"r-{start + i}") for i in range(60)]
        for found in answer(server, requests, n=3, seed=start, most_tokens=1, decoding=Decoding(0.6, 1.0)):
            texts = [c.text for c in found.candidates]
            counts = Counter(texts)
            if len(counts) == 2:
                assert found.order_propensity == pytest.approx(1 / 3)
                [(rare, _)] = [item for item in counts.items() if item[1] == 1]
                seen["".join("r" if text == rare else "-" for text in texts)] += 1
    total = sum(seen.values())
    assert total > 100
    for order in ("r--", "-r-", "--r"):
        assert binomtest(seen[order], total, 1 / 3).pvalue > 1e-3


def test_a_request_gets_no_more_tokens_than_its_workflow_allows() -> None:
    assert most_tokens("moderation") == most_tokens("moderation", 10_000) == 24
    assert most_tokens("moderation", 3) == 3
    assert most_tokens("comms") == 32
    with pytest.raises(BadInputError, match="expected one of ads"):
        most_tokens("legal")


def test_a_prompt_that_the_chat_template_refuses_is_the_askers_mistake(server: Server, tiny: Path) -> None:
    strict = Server(Model.load(tiny), "m1")
    strict.model.tokenizer.chat_template = "{{ raise_exception('no such role') }}"
    with pytest.raises(BadInputError, match="as m1 knows it; no such role"):
        answer(strict, ask(1))


# -- loading -----------------------------------------------------------------------------------------------------------


def test_a_loaded_version_needs_no_file_any_more(tiny: Path, tmp_path: Path) -> None:
    folder = copytree(tiny, tmp_path / "m1")
    served = Server.load("m1", folder, digest=weights_digest(folder))
    before = served.suggest(ask(2), seed=0)
    assert served.decoding == SERVED
    weights = folder / "model.safetensors"
    with weights.open("r+b") as file:  # in place: a mapped file would take the process with it
        file.truncate(100)
    weights.unlink()
    assert served.suggest(ask(2), seed=0) == before


def test_files_that_are_not_the_versions_are_told(tiny: Path, tmp_path: Path) -> None:
    digest = weights_digest(tiny)
    with pytest.raises(BadInputError, match="found none"):
        Server.load("m1", tmp_path / "nowhere", digest=digest)
    folder = copytree(tiny, tmp_path / "m1")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(LoopError):
        Server.load("m1", folder, digest=digest)
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(LoopError, match="expected the weights of m1"):
        Server.load("m1", folder, digest=digest)


def test_a_version_that_cannot_answer_is_told(tiny: Path, tmp_path: Path) -> None:
    broken = Model.load(tiny)
    with torch.no_grad():
        broken.network.get_output_embeddings().weight.fill_(float("nan"))
    folder = broken.save(tmp_path / "m1")
    with pytest.raises(LoopError, match="expected a model that answers"):
        Server.load("m1", folder, digest=weights_digest(folder))
