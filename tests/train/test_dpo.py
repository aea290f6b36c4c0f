"""Direct preference optimisation: margins rise, from the reference it started at, and it repeats."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from label_rows import THINGS, ask, demonstrations, preferences
from trl.trainer.dpo_trainer import DataCollatorForPreference

from loop.models import Model, weights_digest
from loop.train import dpo, sft
from loop.train.curve import Outcome

PAIRS = [(f"paint the {thing}", "green paint", "black paint") for thing in THINGS]
SMALL = {"steps": 4, "batch_size": 4, "seed": 0}


def margins(path: Path) -> np.ndarray:
    """How much more likely, in nats, the chosen texts are than the rejected."""
    model = Model.load(path)
    prompts = [ask(prompt) for prompt, _, _ in PAIRS]
    chosen, rejected = (model.logprobs(prompts, [pair[i] for pair in PAIRS])[0] for i in (1, 2))
    return chosen - rejected


def test_margins_rise_and_every_parameter_moves(base: Path, tmp_path: Path) -> None:
    curve = dpo.train(base, preferences(PAIRS), tmp_path / "out", steps=15, batch_size=6, learning_rate=3e-3, seed=0)
    assert (margins(tmp_path / "out") > margins(base) + 1).all()
    assert curve.outcome is Outcome.TRAINED
    assert len(curve.losses) == 15
    assert {len(values) for values in curve.metrics.values()} == {15}
    assert (curve.rows, curve.drawn) == (6, 6)
    old, new = (dict(Model.load(path).network.named_parameters()) for path in (base, tmp_path / "out"))
    assert all(not torch.equal(old[name], new[name]) for name in old)


def test_the_reference_is_the_model_as_it_came(base: Path, tmp_path: Path) -> None:
    curve = dpo.train(
        base, preferences(PAIRS), tmp_path / "out", steps=3, batch_size=6, learning_rate=3e-3, beta=0.2, nll=0.0, seed=0
    )
    assert curve.losses[0] == pytest.approx(math.log(2), abs=1e-5)
    assert curve.metrics["rewards/margins"][0] == pytest.approx(0, abs=1e-5)
    assert curve.metrics["rewards/margins"][2] > 0.01


def test_rows_are_tokenised_as_they_are_served_with_the_references_scores(base: Path) -> None:
    model = Model.load(base)
    examples, cuts = dpo.tokenised(
        model, preferences([("paint the old door", "green", "black paint"), ("paint", "a", "b")])
    )
    assert cuts == []
    prompt = ask("paint the old door")
    expected = model.logprobs([prompt, prompt], ["green", "black paint"])[0]
    assert examples[0]["prompt_ids"] == model.encode_prompt(prompt).ids
    assert examples[0]["chosen_ids"] == model.encode_answer("green").ids
    assert examples[0]["rejected_ids"] == model.encode_answer("black paint").ids
    assert [examples[0]["ref_chosen_logps"], examples[0]["ref_rejected_logps"]] == pytest.approx(expected, abs=1e-5)
    batch = DataCollatorForPreference(pad_token_id=model.pad)(examples)
    lengths = [len(e["prompt_ids"]) for e in examples] * 2
    answers = [len(e[f"{side}_ids"]) for side in ("chosen", "rejected") for e in examples]
    width = batch["input_ids"].shape[1]
    assert batch["completion_mask"].tolist() == [
        [0] * p + [1] * a + [0] * (width - p - a) for p, a in zip(lengths, answers, strict=True)
    ]


def test_the_same_rows_and_seed_make_the_same_weights(base: Path, tmp_path: Path) -> None:
    digests = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(len(digests))
        dpo.train(base, preferences(PAIRS), tmp_path / name, **{**SMALL, "seed": seed})
        digests.append(weights_digest(tmp_path / name))
    assert digests[0] == digests[1] != digests[2]


def test_accumulating_passes_is_one_large_batch(base: Path, tmp_path: Path) -> None:
    # Without the likelihood term, whose mean is over the tokens of a pass.
    rows = preferences([*PAIRS, ("paint the very old boat", "black", "red red"), ("boat", "red", "blue")])
    whole = dpo.train(base, rows, tmp_path / "8x1", steps=4, batch_size=8, nll=0.0, seed=0)
    parts = dpo.train(base, rows, tmp_path / "1x8", steps=4, batch_size=1, accumulation=8, nll=0.0, seed=0)
    assert parts.losses == pytest.approx(whole.losses, abs=1e-4)
    one, other = (Model.load(tmp_path / name).network.state_dict() for name in ("8x1", "1x8"))
    assert all(torch.allclose(one[name], other[name], atol=1e-4) for name in one)


def test_a_pair_without_weight_has_no_influence(base: Path, tmp_path: Path) -> None:
    pair = ("paint the door", "green", "black")
    dpo.train(base, preferences([(*pair, 0.5), ("gate", "a", "b", 0.0)]), tmp_path / "a", **SMALL)
    dpo.train(base, preferences([pair]), tmp_path / "b", **SMALL)
    assert weights_digest(tmp_path / "a") == weights_digest(tmp_path / "b")


@pytest.mark.parametrize(
    ("rows", "steps", "outcome"),
    [([], 3, Outcome.NO_ROWS), ([("a", "b", "c", 0.0)], 3, Outcome.NO_WEIGHT), (PAIRS, 0, Outcome.NO_STEPS)],
)
def test_nothing_to_train_on_is_the_model_unchanged(
    base: Path, tmp_path: Path, rows: list[tuple[str, str, str]], steps: int, outcome: Outcome
) -> None:
    curve = dpo.train(base, preferences(rows), tmp_path / "out", steps=steps, seed=0)
    assert (curve.outcome, curve.losses, curve.rows) == (outcome, (), len(rows))
    assert weights_digest(tmp_path / "out") == weights_digest(base)


def test_nothing_is_left_beside_the_model_nor_printed(
    base: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dpo.train(base, preferences(PAIRS), tmp_path / "out", **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert {file.name for file in (tmp_path / "out").iterdir()} == {file.name for file in base.iterdir()}
    assert capfd.readouterr().out == ""


def test_an_adapter_is_trained_on_from_where_it_was(foreign: Path, tmp_path: Path) -> None:
    sft.train(foreign, demonstrations([("paint the door", "green paint")]), tmp_path / "a", **SMALL)
    curve = dpo.train(
        tmp_path / "a", preferences(PAIRS), tmp_path / "b", steps=20, batch_size=6, learning_rate=1e-2, nll=0.0, seed=0
    )
    assert curve.losses[0] == pytest.approx(math.log(2), abs=1e-4)
    assert (tmp_path / "b" / "adapter_model.safetensors").exists()
    assert margins(tmp_path / "b").mean() > margins(tmp_path / "a").mean() + 0.5
