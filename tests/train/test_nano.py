"""The base: made here, the same for the same seed, and it learns what its texts say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from label_rows import COLOURS, SHAPE, THINGS, ask

from loop.errors import BadInputError
from loop.models import ANSWER, CONTEXT, Model, weights_digest
from loop.train import nano
from loop.train.curve import Outcome

PAIRS = [(ask(f"paint the {thing}"), f"{COLOURS[i % 4]} paint") for i, thing in enumerate(THINGS)]


def build(out: Path, *, seed: int = 0, steps: int = 10) -> Path:
    nano.build(PAIRS, out, seed=seed, steps=steps, batch_size=6, learning_rate=1e-2, shape=SHAPE)
    return out


def test_the_same_seed_makes_the_same_files(tmp_path: Path) -> None:
    one, two = build(tmp_path / "one"), build(tmp_path / "two")
    assert {f.name: f.read_bytes() for f in one.iterdir()} == {f.name: f.read_bytes() for f in two.iterdir()}
    assert weights_digest(build(tmp_path / "other", seed=1)) != weights_digest(one)


def test_it_is_a_model_that_others_can_open_and_holds_no_pickle(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = build(tmp_path / "base")
    names = {file.name for file in folder.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
    assert AutoModelForCausalLM.from_pretrained(folder).config.model_type == "llama"
    assert AutoTokenizer.from_pretrained(folder).eos_token == nano.END
    assert json.loads((folder / "config.json").read_text())["max_position_embeddings"] >= CONTEXT + ANSWER
    assert Model.load(folder).is_nano


def test_the_default_shape_is_under_a_million_parameters(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    class Full(PreTrainedTokenizerFast):  # a tokenizer that uses the whole vocabulary
        def __len__(self) -> int:
            return nano.Shape().vocabulary

    model = Model.load(build(tmp_path / "base"))
    full = Full(tokenizer_object=model.tokenizer.backend_tokenizer, eos_token=nano.END, pad_token=nano.PAD)
    network = nano._new(full, nano.Shape(), seed=0).network
    assert 800_000 < network.num_parameters() < 1_000_000
    assert network.get_output_embeddings().weight is network.get_input_embeddings().weight


def test_it_learns_what_depends_on_the_prompt(tmp_path: Path) -> None:
    curve = nano.build(PAIRS, tmp_path / "base", seed=0, steps=150, batch_size=6, learning_rate=1e-2, shape=SHAPE)
    assert curve.outcome is Outcome.TRAINED
    assert len(curve.losses) == 150
    assert curve.losses[0] > 3
    assert curve.losses[-1] < 0.1
    assert curve.tokens > 0
    model = Model.load(tmp_path / "base")
    right, _ = model.logprobs([prompt for prompt, _ in PAIRS], [answer for _, answer in PAIRS])
    assert (right > -0.5).all()


def test_every_parameter_moves(tmp_path: Path) -> None:
    first = nano._new(Model.load(build(tmp_path / "base", steps=3)).tokenizer, SHAPE, seed=0).network
    last = dict(Model.load(tmp_path / "base").network.named_parameters())
    assert all(not torch.equal(parameter, last[name]) for name, parameter in first.named_parameters())


def test_every_row_comes_once_a_pass() -> None:
    rows = nano._rows(10, 4, seed=0)
    drawn = [i for _ in range(5) for i in next(rows)]
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))
    assert drawn[:10] != drawn[10:]


def test_cut_texts_are_counted(tmp_path: Path) -> None:
    pairs = [*PAIRS, (ask("door " * 500), "red " * 200)]
    curve = nano.build(pairs, tmp_path / "base", seed=0, steps=1, batch_size=2, shape=SHAPE)
    assert curve.cut_texts == 2
    assert curve.cut_tokens > 300


def test_the_random_state_and_the_threads_are_left_as_they_were(tmp_path: Path) -> None:
    torch.manual_seed(7)
    before, count = torch.get_rng_state(), torch.get_num_threads()
    build(tmp_path / "base", steps=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == count


def test_progress_is_reported_to_the_end(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    nano.build(PAIRS, tmp_path / "b", seed=0, steps=3, shape=SHAPE, progress=lambda *x: seen.append(x))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_no_text_is_refused_and_no_base_is_written_over(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="got none"):
        nano.build([], tmp_path / "base", seed=0)
    build(tmp_path / "base", steps=1)
    with pytest.raises(BadInputError, match="written once"):
        build(tmp_path / "base", steps=1)
