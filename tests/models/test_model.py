"""The model: text format, sampling, scoring, and what it refuses to open."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loop.errors import BadInputError
from loop.models import ANSWER, CONTEXT, Messages, Model
from loop.train import nano
from loop.weights import new_folder, weights_digest

COLOURS = ("red", "green", "blue", "black")


def ask(text: str) -> Messages:
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that has seen a few colours, and is unsure of them."""
    pairs = [(ask(f"paint the {thing}"), f"{c} paint") for thing in ("door", "wall", "old roof") for c in COLOURS]
    out = tmp_path_factory.mktemp("models") / "tiny"
    nano.build(pairs, out, seed=0, steps=60, batch_size=12, learning_rate=1e-2, shape=nano.Shape(300, 32, 1, 2, 64))
    return out


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return Model.load(folder)


# -- text to tokens ----------------------------------------------------------------------------------------------------


def test_a_prompt_ends_where_the_answer_begins(model: Model) -> None:
    ids = model.encode_prompt(ask("paint the door")).ids
    assert model.tokenizer.decode(ids) == "paint the door<|answer|>"


def test_a_conversation_is_rendered_turn_by_turn(model: Model) -> None:
    messages = [*ask("paint the door"), {"role": "assistant", "content": "red paint"}, *ask("paint the wall")]
    text = model.tokenizer.decode(model.encode_prompt(messages).ids)
    assert text == "paint the door\n<|answer|>red paint<|end|>\npaint the wall<|answer|>"


def test_an_answer_ends_with_the_end_token(model: Model) -> None:
    ids = model.encode_answer("red paint").ids
    assert ids[-1] == model.end
    assert model.tokenizer.decode(ids[:-1]) == "red paint"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=15))
def test_any_text_comes_back_unchanged(model: Model, text: str) -> None:
    encoded = model.encode_answer(text)
    assert encoded.cut == 0
    assert model.tokenizer.decode(encoded.ids[:-1]) == text


def test_a_long_prompt_is_cut_from_the_left_and_the_cut_is_counted(model: Model) -> None:
    full = len(model.tokenizer.encode("door " * 400)) + 1
    encoded = model.encode_prompt(ask("wall " + "door " * 399 + "roof"))
    assert len(encoded.ids) == CONTEXT
    assert model.tokenizer.decode(encoded.ids).endswith("door roof<|answer|>")
    assert "wall" not in model.tokenizer.decode(encoded.ids)
    assert encoded.cut > 200
    assert encoded.cut + CONTEXT == len(model.tokenizer.encode("wall " + "door " * 399 + "roof")) + 1
    assert model.encode_prompt(ask("door " * 400)).cut == full - CONTEXT


def test_a_long_answer_is_cut_with_its_end_and_the_cut_is_counted(model: Model) -> None:
    tokens = len(model.tokenizer.encode("blue " * 100))
    encoded = model.encode_answer("blue " * 100)
    assert len(encoded.ids) == ANSWER
    assert model.end not in encoded.ids
    assert encoded.cut == tokens + 1 - ANSWER


def test_control_tokens_in_a_text_are_text(model: Model) -> None:
    begin = model.tokenizer.convert_tokens_to_ids(nano.BEGIN)
    prompt = model.encode_prompt(ask("done<|end|><|answer|>red")).ids
    assert model.end not in prompt
    assert prompt.count(begin) == 1
    assert prompt[-1] == begin
    assert model.encode_answer("red<|end|>").ids.count(model.end) == 1


# -- sampling ----------------------------------------------------------------------------------------------------------

PROMPTS = [
    ask("paint the door"),
    ask("paint the old roof and the wall and the door"),
    ask("wall"),
    ask("paint the wall"),
]


def test_sampling_repeats_with_the_seed_and_changes_with_it(model: Model) -> None:
    first = model.sample(PROMPTS, n=2, max_new_tokens=8, seed=1)
    assert first == model.sample(PROMPTS, n=2, max_new_tokens=8, seed=1)
    assert first != model.sample(PROMPTS, n=2, max_new_tokens=8, seed=2)
    assert [len(group) for group in first] == [2, 2, 2, 2]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 64])
def test_an_answer_does_not_depend_on_what_else_is_in_the_batch(model: Model, batch_size: int) -> None:
    alone = [model.sample([prompt], n=3, max_new_tokens=8, seed=5)[0] for prompt in PROMPTS]
    together = model.sample(PROMPTS, n=3, max_new_tokens=8, seed=5, batch_size=batch_size)
    assert [[s.text for s in group] for group in together] == [[s.text for s in group] for group in alone]
    for group, expected in zip(together, alone, strict=True):
        assert [s.logprob for s in group] == pytest.approx([s.logprob for s in expected], abs=1e-4)


def test_the_first_answers_stay_when_more_are_asked_for(model: Model) -> None:
    two, four = (model.sample(PROMPTS[:1], n=n, max_new_tokens=8, seed=3)[0] for n in (2, 4))
    assert [s.text for s in four[:2]] == [s.text for s in two]


def test_a_repeated_prompt_is_answered_afresh(model: Model) -> None:
    groups = model.sample([PROMPTS[0]] * 12, n=1, max_new_tokens=8, seed=3)
    assert len({group[0].text for group in groups}) > 1
    assert [g[0].text for g in groups[:4]] == [
        s.text for s in model.sample([PROMPTS[0]], n=4, max_new_tokens=8, seed=3)[0]
    ]


def test_with_a_seed_of_its_own_a_prompt_is_answered_as_if_asked_alone(model: Model) -> None:
    prompts, seeds = [*PROMPTS, PROMPTS[0]], [7, 8, 9, 8, 10]
    together = model.sample(prompts, n=2, max_new_tokens=8, seed=seeds)
    alone = [model.sample([p], n=2, max_new_tokens=8, seed=s)[0] for p, s in zip(prompts, seeds, strict=True)]
    assert [[s.text for s in group] for group in together] == [[s.text for s in group] for group in alone]
    repeated = model.sample([PROMPTS[0]] * 3, n=1, max_new_tokens=8, seed=[7, 8, 7])
    first, again = model.sample([PROMPTS[0]], n=2, max_new_tokens=8, seed=7)[0]
    assert [repeated[0][0].text, repeated[2][0].text] == [first.text, again.text]
    assert model.sample(PROMPTS, n=1, max_new_tokens=8, seed=[3] * 4) == model.sample(
        PROMPTS, n=1, max_new_tokens=8, seed=3
    )


def test_a_seed_for_each_prompt_or_one_for_all(model: Model) -> None:
    with pytest.raises(BadInputError, match="one for each of 4 prompts, got 3"):
        model.sample(PROMPTS, n=1, max_new_tokens=4, seed=[1, 2, 3])


def test_encoded_prompts_are_answered_as_their_texts(model: Model) -> None:
    ids = [prompt.ids for prompt in model.encode_prompts(PROMPTS)]
    wanted = model.sample(PROMPTS, n=2, max_new_tokens=8, temperature=0.7, top_p=0.9, seed=1)
    assert model.sample_encoded(ids, n=2, max_new_tokens=8, temperature=0.7, top_p=0.9, seed=1) == wanted


def test_a_sampled_logprob_is_what_scoring_says(model: Model) -> None:
    compared = 0
    groups = model.sample(PROMPTS, n=16, max_new_tokens=12, seed=0)
    for prompt, group in zip(PROMPTS, groups, strict=True):
        # Scoring tokenises the text anew: only there is it the same event as the sampled tokens.
        same = [s for s in group if s.finished and len(model.encode_answer(s.text).ids) == s.tokens]
        scores, tokens = model.logprobs([prompt] * len(same), [s.text for s in same])
        assert scores == pytest.approx([s.logprob for s in same], abs=1e-4)
        assert tokens.tolist() == [s.tokens for s in same]
        compared += len(same)
    assert compared >= 20


def test_an_unfinished_answer_says_so(model: Model) -> None:
    [group] = model.sample(PROMPTS[:1], n=8, max_new_tokens=1, seed=0)
    assert {s.tokens for s in group} == {1}
    assert all(s.finished == (s.text == "") for s in group)
    assert not all(s.finished for s in group)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (1.0, 0.6), (2.0, 0.9)])
def test_draws_follow_the_distribution_and_logprob_is_of_it(model: Model, temperature: float, top_p: float) -> None:
    ids = torch.tensor([model.encode_prompt(PROMPTS[0]).ids])
    with torch.inference_mode():
        probability = (model.network(input_ids=ids).logits[0, -1].double() / temperature).softmax(-1)
    ordered, order = probability.sort(descending=True)
    kept = order[: int((ordered.cumsum(0) < top_p).sum()) + 1] if top_p < 1 else order
    expected = torch.zeros_like(probability)
    expected[kept] = probability[kept] / probability[kept].sum()

    n = 4000
    [group] = model.sample(
        PROMPTS[:1], n=n, max_new_tokens=1, temperature=temperature, top_p=top_p, seed=0, batch_size=n
    )
    counts = Counter(s.text for s in group)
    nats = {s.text: s.logprob for s in group}
    by_text: dict[str, float] = Counter()
    for token in kept.tolist():
        by_text[model.tokenizer.decode([token], skip_special_tokens=True)] += expected[token].item()
    for colour in COLOURS:
        p = by_text.get(colour, 0.0)
        assert counts[colour] / n == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / n) + 1e-9)
        if counts[colour]:
            assert nats[colour] == pytest.approx(np.log(p), abs=1e-4)


@pytest.mark.parametrize(
    "wrong", [{"n": 0}, {"max_new_tokens": 0}, {"temperature": 0.0}, {"top_p": 0.0}, {"top_p": 1.5}, {"batch_size": 0}]
)
def test_senseless_arguments_are_refused(model: Model, wrong: dict[str, float]) -> None:
    with pytest.raises(BadInputError, match="expected"):
        model.sample(PROMPTS, **{"n": 1, "max_new_tokens": 4, "seed": 0, **wrong})  # type: ignore[arg-type]


def test_nothing_asked_is_nothing_answered(model: Model) -> None:
    assert model.sample([], n=2, max_new_tokens=4, seed=0) == []
    scores, tokens = model.logprobs([], [])
    assert scores.shape == tokens.shape == (0,)


def test_progress_is_reported_to_the_end(model: Model) -> None:
    seen: list[tuple[int, int]] = []
    model.sample(PROMPTS, n=1, max_new_tokens=2, seed=0, batch_size=2, progress=lambda *x: seen.append(x))
    assert seen == [(2, 4), (4, 4)]


# -- scoring -----------------------------------------------------------------------------------------------------------


def test_scores_are_the_sum_of_the_answers_log_probabilities_and_no_more(model: Model) -> None:
    prompt, answer = model.encode_prompt(PROMPTS[0]).ids, model.encode_answer("blue paint").ids
    with torch.inference_mode():
        nats = model.network(input_ids=torch.tensor([prompt + answer])).logits[0].double().log_softmax(-1)
    expected = sum(nats[len(prompt) - 1 + i, token].item() for i, token in enumerate(answer))
    scores, tokens = model.logprobs([PROMPTS[0]], ["blue paint"])
    assert scores[0] == pytest.approx(expected, abs=1e-5)
    assert scores.dtype == np.float64
    assert tokens.tolist() == [len(answer)]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_score_does_not_depend_on_the_batch(model: Model, batch_size: int) -> None:
    answers = ["red paint", "green", "a long answer about paint and walls", "blue paint"]
    apart, _ = model.logprobs(PROMPTS, answers, batch_size=batch_size)
    together, _ = model.logprobs(PROMPTS, answers)
    assert apart == pytest.approx(together, abs=1e-4)


# -- opening and writing -----------------------------------------------------------------------------------------------


def test_pickled_weights_are_refused_by_name(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "pickled"
    shutil.copytree(folder, copy)
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(
        BadInputError, match=r"expected weights as safetensors, found pickled ones \(pytorch_model.bin\)"
    ):
        Model.load(copy)


def test_an_adapter_on_a_pickled_base_is_refused(folder: Path, tmp_path: Path) -> None:
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    shutil.copytree(folder, base)
    (base / "model.safetensors").rename(base / "model.pt")
    shutil.copytree(folder, adapter)
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    with pytest.raises(BadInputError, match="found pickled ones"):
        Model.load(adapter)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="found none"):
        Model.load(tmp_path)


def test_a_name_that_is_nowhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BadInputError, match="expected a folder or a name on the Hugging Face hub"):
        Model.load("nobody/no-such-model")


def test_a_model_without_chat_template_reads_its_prompt_by_lines(model: Model, tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    model.tokenizer.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    size = {"vocab_size": len(model.tokenizer), "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 256}
    GPT2LMHeadModel(GPT2Config(**size, bos_token_id=None, eos_token_id=model.end)).save_pretrained(tmp_path)
    other = Model.load(tmp_path)
    assert not other.is_nano
    assert other.tokenizer.decode(other.encode_prompt(PROMPTS[0]).ids) == "paint the door\n"
    alone = [other.sample([p], n=2, max_new_tokens=6, seed=0)[0] for p in PROMPTS]
    assert [[s.text for s in g] for g in other.sample(PROMPTS, n=2, max_new_tokens=6, seed=0)] == [
        [s.text for s in g] for g in alone
    ]


def test_a_saved_model_is_the_model(model: Model, folder: Path, tmp_path: Path) -> None:
    out = model.save(tmp_path / "copy")
    assert weights_digest(out) == weights_digest(folder)
    assert Model.load(out).is_nano
    with pytest.raises(BadInputError, match="written once"):
        model.save(out)


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    def write_half() -> None:
        with new_folder(tmp_path / "out") as partial:
            (partial / "half").write_text("...")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_the_weights_digest_is_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert weights_digest(tmp_path) == hashlib.sha256(b"weights").hexdigest()
    (tmp_path / "other.safetensors").write_bytes(b"more")
    assert weights_digest(tmp_path) != hashlib.sha256(b"weights").hexdigest()
    with pytest.raises(BadInputError, match="found none"):
        weights_digest(tmp_path.parent / "nowhere")
