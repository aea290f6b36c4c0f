"""Direct preference optimisation: the model learns to put what people preferred above what they did not."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np
import pyarrow as pa
from datasets import Dataset
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from loop.models import Model, Progress
from loop.train._trl import Recorder, arguments, lora, reproducible, run, unchanged
from loop.train.curve import Curve, Outcome, draw
from loop.weights import new_folder

LEARNING_RATE: Final = 3e-4
"""For nano. In the simulated organisation 2e-4 moved it less, and from 5e-4 on answers began to break their form."""
LORA_LEARNING_RATE: Final = 2e-5


def train(  # noqa: PLR0913
    model: Path,
    rows: pa.Table,
    out: Path,
    *,
    steps: int,
    batch_size: int = 16,
    accumulation: int = 1,
    learning_rate: float | None = None,
    beta: float = 0.1,
    nll: float = 0.2,
    seed: int,
    progress: Progress | None = None,
) -> Curve:
    """Train the model of one folder on pairs of texts and write it to another. The reference is the model as it came.

    TRL's DPOTrainer: the sigmoid loss of Rafailov et al. 2023 (arXiv:2305.18290) plus `nll` times the negative
    log-likelihood of the preferred texts' tokens (Pang et al. 2024, arXiv:2404.19733), without which the model may come
    to like both texts less. Every parameter of a nano model, else LoRA. A row's weight says how often it is drawn: see
    `curve.draw`. The same model, rows in the same order, and seed give the same bytes.

    Args:
        rows: `schema.PREFERENCES`, of which `prompt`, `chosen`, `rejected` and `weight` are read.
        out: a folder that does not exist yet.
        batch_size: pairs in a forward pass; `accumulation` passes make one step.
        learning_rate: its peak; by default `LEARNING_RATE` for nano, else `LORA_LEARNING_RATE`.
        beta: how strongly the model is held to the reference.
    """
    started = perf_counter()
    weights = rows["weight"].to_numpy()
    if (outcome := Outcome.of(weights, steps)) is not Outcome.TRAINED:
        return unchanged(model, out, method="dpo", outcome=outcome, rows=rows.num_rows)
    policy = Model.load(model, trainable=True)
    order = draw(weights, steps * batch_size * accumulation, seed=seed)
    distinct, places = np.unique(order, return_inverse=True)
    recorder = Recorder(steps, progress)
    with new_folder(out) as folder, reproducible(policy):
        examples, cuts = tokenised(policy, rows.take(distinct))
        trainer = _Trainer(
            model=policy.network,
            args=DPOConfig(
                **arguments(folder, steps, batch_size, accumulation, seed),
                learning_rate=learning_rate or (LEARNING_RATE if policy.is_nano else LORA_LEARNING_RATE),
                beta=beta,
                loss_type=["sigmoid", "sft"],
                loss_weights=[1.0, nll],
                precompute_ref_log_probs=True,
            ),
            train_dataset=Dataset.from_list([examples[i] for i in places]),
            processing_class=policy.tokenizer,
            peft_config=lora(policy),
        )
        run(trainer, recorder)
        Model(trainer.model, policy.tokenizer).write(folder)
    figures = recorder.by_step()
    lengths = [2 * len(e["prompt_ids"]) + len(e["chosen_ids"]) + len(e["rejected_ids"]) for e in examples]
    return Curve(
        method="dpo",
        outcome=outcome,
        rows=rows.num_rows,
        losses=figures.pop("loss"),
        metrics=figures,
        drawn=len(distinct),
        tokens=sum(lengths[i] for i in places),
        cut_texts=len(cuts),
        cut_tokens=sum(cuts),
        seconds=perf_counter() - started,
    )


def tokenised(policy: Model, rows: pa.Table) -> tuple[list[dict[str, Any]], list[int]]:
    """Ids of each row's prompt and texts, the texts' log-probabilities now; and the tokens cut from texts too long."""
    prompts = policy.encode_prompts(rows["prompt"].to_pylist())
    chosen = [policy.encode_answer(text) for text in rows["chosen"].to_pylist()]
    rejected = [policy.encode_answer(text) for text in rows["rejected"].to_pylist()]
    examples = [
        {"prompt_ids": p.ids, "chosen_ids": c.ids, "rejected_ids": r.ids}
        for p, c, r in zip(prompts, chosen, rejected, strict=True)
    ]
    for side in ("chosen", "rejected"):
        nats, _ = policy.score([e["prompt_ids"] for e in examples], [e[f"{side}_ids"] for e in examples])
        for example, reference in zip(examples, nats.tolist(), strict=True):
            example[f"ref_{side}_logps"] = reference
    return examples, [text.cut for text in (*prompts, *chosen, *rejected) if text.cut]


class _Trainer(DPOTrainer):
    """DPOTrainer on rows that are tokenised and scored already.

    TRL would tokenise prompts otherwise than serving does, and write the reference's scores into the system's temporary
    folder, where erasure does not reach.
    """

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        return dataset
