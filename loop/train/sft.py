"""Supervised fine-tuning on demonstrations: the model learns to write what people let stand or wrote."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np
import pyarrow as pa
from datasets import Dataset
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from loop.models import Model, Progress
from loop.train._trl import Recorder, arguments, lora, reproducible, run, unchanged
from loop.train.curve import Curve, Outcome, draw
from loop.weights import new_folder

LEARNING_RATE: Final = 2e-3
"""For nano. In the simulated organisation 3e-4 moved it half as far in a cycle, and 4e-3 no farther."""
LORA_LEARNING_RATE: Final = 2e-4


def train(  # noqa: PLR0913
    model: Path,
    rows: pa.Table,
    out: Path,
    *,
    steps: int,
    batch_size: int = 32,
    accumulation: int = 1,
    learning_rate: float | None = None,
    seed: int,
    progress: Progress | None = None,
) -> Curve:
    """Train the model of one folder on demonstrations and write it to another.

    TRL's SFTTrainer: negative log-likelihood of the answers' tokens, their end included (the prompts' are masked),
    AdamW, every parameter of a nano model, else LoRA (Hu et al. 2021, arXiv:2106.09685). A row's weight says how often
    it is drawn, not how much it counts when it is: see `curve.draw`. The same model, rows in the same order, and seed
    give the same bytes.

    Args:
        rows: `schema.DEMONSTRATIONS`, of which `prompt`, `answer` and `weight` are read.
        out: a folder that does not exist yet.
        batch_size: rows in a forward pass; `accumulation` passes make one step.
        learning_rate: its peak; by default `LEARNING_RATE` for nano, else `LORA_LEARNING_RATE`.
    """
    started = perf_counter()
    weights = rows["weight"].to_numpy()
    if (outcome := Outcome.of(weights, steps)) is not Outcome.TRAINED:
        return unchanged(model, out, method="sft", outcome=outcome, rows=rows.num_rows)
    policy = Model.load(model, trainable=True)
    order = draw(weights, steps * batch_size * accumulation, seed=seed)
    distinct, places = np.unique(order, return_inverse=True)
    examples, cuts = tokenised(policy, rows.take(distinct))
    recorder = Recorder(steps, progress)
    with new_folder(out) as folder, reproducible(policy):
        trainer = SFTTrainer(
            model=policy.network,
            args=SFTConfig(
                **arguments(folder, steps, batch_size, accumulation, seed),
                learning_rate=learning_rate or (LEARNING_RATE if policy.is_nano else LORA_LEARNING_RATE),
                dataset_kwargs={"skip_prepare_dataset": True},
            ),
            train_dataset=Dataset.from_list([examples[i] for i in places]),
            processing_class=policy.tokenizer,
            peft_config=lora(policy),
        )
        run(trainer, recorder)
        Model(trainer.model, policy.tokenizer).write(folder)
    figures = recorder.by_step()
    return Curve(
        method="sft",
        outcome=outcome,
        rows=rows.num_rows,
        losses=figures.pop("loss"),
        metrics=figures,
        drawn=len(distinct),
        tokens=sum(len(examples[i]["input_ids"]) for i in places),
        cut_texts=len(cuts),
        cut_tokens=sum(cuts),
        seconds=perf_counter() - started,
    )


def tokenised(policy: Model, rows: pa.Table) -> tuple[list[dict[str, Any]], list[int]]:
    """Ids and labels of each row, labels -100 on its prompt; and the numbers of tokens cut from texts too long."""
    prompts = policy.encode_prompts(rows["prompt"].to_pylist())
    answers = [policy.encode_answer(answer) for answer in rows["answer"].to_pylist()]
    examples = [
        {"input_ids": prompt.ids + answer.ids, "labels": [-100] * len(prompt.ids) + answer.ids}
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    return examples, [text.cut for text in (*prompts, *answers) if text.cut]
