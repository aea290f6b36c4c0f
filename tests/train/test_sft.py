"""Supervised fine-tuning: what is trained on, what it does, and that it repeats."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from label_rows import THINGS, ask, demonstrations, preferences
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from loop.errors import BadInputError
from loop.models import CONTEXT, Model, weights_digest
from loop.train import sft
from loop.train.curve import Outcome

GREEN = [(f"paint the {thing}", "green paint") for thing in THINGS]
SMALL = {"steps": 4, "batch_size": 4, "seed": 0}


def test_labels_are_the_answer_and_its_end_and_nothing_of_the_prompt(base: Path) -> None:
    model = Model.load(base)
    prompts = [model.encode_prompt(ask(text)).ids for text in ("paint the old red door", "paint")]
    answers = [model.encode_answer(text).ids for text in ("green", "blue paint")]
    examples, cuts = sft.tokenised(
        model, demonstrations([("paint the old red door", "green"), ("paint", "blue paint")])
    )
    assert cuts == []
    assert examples == [
        {"input_ids": p + a, "labels": [-100] * len(p) + a} for p, a in zip(prompts, answers, strict=True)
    ]
    batch = DataCollatorForLanguageModeling(pad_token_id=model.pad)(examples)
    width = len(prompts[0] + answers[0])
    gap = width - len(prompts[1] + answers[1])
    assert gap > 0
    assert batch["labels"].tolist() == [
        [-100] * len(prompts[0]) + answers[0],
        [-100] * len(prompts[1]) + answers[1] + [-100] * gap,
    ]
    assert batch["attention_mask"].tolist() == [[1] * width, [1] * (width - gap) + [0] * gap]


def test_it_learns_the_demonstrations_and_every_parameter_moves(base: Path, tmp_path: Path) -> None:
    prompts, answers = [ask(p) for p, _ in GREEN], [a for _, a in GREEN]
    before, _ = Model.load(base).logprobs(prompts, answers)
    curve = sft.train(base, demonstrations(GREEN), tmp_path / "out", steps=15, batch_size=6, learning_rate=1e-2, seed=0)
    after, _ = Model.load(tmp_path / "out").logprobs(prompts, answers)
    assert (after > before + 0.5).all()
    assert curve.outcome is Outcome.TRAINED
    assert len(curve.losses) == 15
    assert {len(values) for values in curve.metrics.values()} == {15}
    assert curve.losses[-1] < curve.losses[0] / 2
    assert (curve.rows, curve.drawn, curve.cut_texts) == (6, 6, 0)
    assert curve.tokens == 15 * sum(
        len(e["input_ids"]) for e in sft.tokenised(Model.load(base), demonstrations(GREEN))[0]
    )
    old, new = (dict(Model.load(path).network.named_parameters()) for path in (base, tmp_path / "out"))
    assert all(not torch.equal(old[name], new[name]) for name in old)
    assert Model.load(tmp_path / "out").is_nano


def test_the_same_rows_and_seed_make_the_same_weights(base: Path, tmp_path: Path) -> None:
    digests = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(len(digests))  # whatever state the process is in
        sft.train(base, demonstrations(GREEN), tmp_path / name, **{**SMALL, "seed": seed})
        digests.append(weights_digest(tmp_path / name))
    assert digests[0] == digests[1] != digests[2]
    assert digests[0] != weights_digest(base)


def test_accumulating_passes_is_one_large_batch(base: Path, tmp_path: Path) -> None:
    rows = demonstrations([*GREEN, ("paint the very old and rotten boat", "black"), ("boat", "red red red")])
    whole = sft.train(base, rows, tmp_path / "8x1", steps=4, batch_size=8, seed=0)
    parts = sft.train(base, rows, tmp_path / "1x8", steps=4, batch_size=1, accumulation=8, seed=0)
    assert parts.losses == pytest.approx(whole.losses, abs=1e-4)
    one, other = (Model.load(tmp_path / name).network.state_dict() for name in ("8x1", "1x8"))
    assert all(torch.allclose(one[name], other[name], atol=1e-4) for name in one)


def test_a_row_without_weight_has_no_influence(base: Path, tmp_path: Path) -> None:
    rest = [("paint the gate", "black paint", 0.0)]
    sft.train(base, demonstrations([("paint the door", "green", 0.2), *rest]), tmp_path / "a", **SMALL)
    sft.train(base, demonstrations([("paint the door", "green", 1.0)]), tmp_path / "b", **SMALL)
    assert weights_digest(tmp_path / "a") == weights_digest(tmp_path / "b")


def test_cut_texts_are_counted(base: Path, tmp_path: Path) -> None:
    curve = sft.train(base, demonstrations([("door " * 500, "green"), ("door", "red " * 200)]), tmp_path / "a", **SMALL)
    model = Model.load(base)
    assert curve.cut_texts == 2
    assert curve.cut_tokens == model.encode_prompt(ask("door " * 500)).cut + model.encode_answer("red " * 200).cut
    assert curve.cut_tokens > CONTEXT


@pytest.mark.parametrize(
    ("rows", "steps", "outcome"),
    [([], 3, Outcome.NO_ROWS), ([("a", "b", 0.0)], 3, Outcome.NO_WEIGHT), (GREEN, 0, Outcome.NO_STEPS)],
)
def test_nothing_to_train_on_is_the_model_unchanged(
    base: Path, tmp_path: Path, rows: list[tuple[str, str]], steps: int, outcome: Outcome
) -> None:
    curve = sft.train(base, demonstrations(rows), tmp_path / "out", steps=steps, seed=0)
    assert (curve.outcome, curve.losses, curve.rows) == (outcome, (), len(rows))
    assert {f.name: f.read_bytes() for f in (tmp_path / "out").iterdir()} == {
        f.name: f.read_bytes() for f in base.iterdir()
    }


def test_nothing_is_left_beside_the_model_nor_printed(
    base: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[int, int]] = []
    sft.train(base, demonstrations(GREEN), tmp_path / "out", **SMALL, progress=lambda *x: seen.append(x))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert {file.name for file in (tmp_path / "out").iterdir()} == {file.name for file in base.iterdir()}
    assert capfd.readouterr().out == ""


def test_nobody_is_told_of_it(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        def put(self, message: object) -> None:
            pytest.fail(f"TRL phones home: {message}")

    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", False)
    monkeypatch.setattr(huggingface_hub.utils._telemetry, "_TELEMETRY_QUEUE", Silent())
    sft.train(base, demonstrations(GREEN), tmp_path / "out", **SMALL)


@pytest.mark.slow
def test_nothing_is_written_outside_the_given_folder(base: Path, tmp_path: Path) -> None:
    """In a process of its own, whose home and temporary folders are empty before and after."""
    home, temporary, work = (tmp_path / name for name in ("home", "tmp", "work"))
    for folder in (home, temporary, work):
        folder.mkdir()
    pq.write_table(demonstrations(GREEN), work / "d.parquet")
    pq.write_table(preferences([("door", "green", "red")] * 4), work / "p.parquet")
    code = f"""
from pathlib import Path
import pyarrow.parquet as pq
from loop.train import dpo, sft
sft.train(Path({str(base)!r}), pq.read_table("d.parquet"), Path("sft"), steps=2, batch_size=2, seed=0)
dpo.train(Path("sft"), pq.read_table("p.parquet"), Path("dpo"), steps=2, batch_size=2, seed=0)
"""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "XDG_"))}
    environment = kept | {
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    subprocess.run([sys.executable, "-c", code], cwd=work, env=environment, check=True)
    assert {path.name for path in work.iterdir()} == {"d.parquet", "p.parquet", "sft", "dpo"}
    assert [path for folder in (home, temporary) for path in folder.rglob("*") if path.is_file()] == []


def test_a_model_is_not_written_over(base: Path) -> None:
    with pytest.raises(BadInputError, match="written once"):
        sft.train(base, demonstrations(GREEN), base, **SMALL)


def test_the_process_is_left_as_it_was(base: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    sft.train(base, demonstrations(GREEN), tmp_path / "out", **SMALL)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert not torch.are_deterministic_algorithms_enabled()


# -- other people's models ---------------------------------------------------------------------------------------------


def test_another_model_is_trained_by_an_adapter(foreign: Path, tmp_path: Path) -> None:
    prompts, answers = [ask(p) for p, _ in GREEN], [a for _, a in GREEN]
    digest = weights_digest(foreign)
    sft.train(foreign, demonstrations(GREEN), tmp_path / "a", steps=20, batch_size=6, learning_rate=2e-3, seed=0)
    names = {file.name for file in (tmp_path / "a").iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt"))]
    assert "model.safetensors" not in names
    assert weights_digest(foreign) == digest
    scores = [Model.load(path).logprobs(prompts, answers)[0].mean() for path in (foreign, tmp_path / "a")]
    assert scores[1] > scores[0] + 0.2

    sft.train(tmp_path / "a", demonstrations(GREEN), tmp_path / "b", steps=10, batch_size=6, learning_rate=2e-3, seed=0)
    assert Model.load(tmp_path / "b").logprobs(prompts, answers)[0].mean() > scores[1]
    assert len(Model.load(tmp_path / "b").sample(prompts, n=1, max_new_tokens=4, seed=0)) == len(prompts)


def test_an_adapter_whose_base_is_gone_is_refused(foreign: Path, tmp_path: Path) -> None:
    shutil.copytree(foreign, tmp_path / "base")
    sft.train(tmp_path / "base", demonstrations(GREEN), tmp_path / "a", steps=1, batch_size=2, seed=0)
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(BadInputError, match="expected a folder or a name"):
        Model.load(tmp_path / "a")
