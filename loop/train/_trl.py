"""The glue between the loop and TRL's trainers that every method needs. No method belongs here."""

from __future__ import annotations

import random
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import huggingface_hub.constants
import numpy as np
import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from loop.models import Model, Progress, threads
from loop.train.curve import Curve, Outcome
from loop.weights import new_folder

if TYPE_CHECKING:
    from peft import LoraConfig

NANO_THREADS: Final = 2
"""More do not help a model this small, and equal weights need equal counts."""


def arguments(work: Path, steps: int, batch_size: int, accumulation: int, seed: int) -> dict[str, Any]:
    """Training arguments common to the methods: on the CPU in fp32, quiet, nothing reported or saved anywhere.

    Rows come in the order in which they were drawn. Warm-up over a tenth of the steps, then a cosine to zero.
    """
    return {
        "output_dir": str(work),
        "max_steps": steps,
        "per_device_train_batch_size": batch_size,
        "gradient_accumulation_steps": accumulation,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,
        "max_grad_norm": 1.0,
        "train_sampling_strategy": "sequential",
        "seed": seed,
        "use_cpu": True,
        "bf16": False,
        "activation_checkpointing": False,
        "dataloader_pin_memory": False,
        "max_length": None,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "report_to": [],
        "save_strategy": "no",
    }


def lora(model: Model) -> LoraConfig | None:
    """A fresh low-rank adapter on every linear layer but the head; None for nano, and for what has an adapter."""
    if model.is_nano or hasattr(model.network, "peft_config"):
        return None
    from peft import LoraConfig

    return LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")


class Recorder(TrainerCallback):
    """Keeps what the trainer logs at each step, and reports progress."""

    def __init__(self, steps: int, progress: Progress | None) -> None:
        self.steps = steps
        self.progress = progress
        self._logged: dict[str, list[float]] = defaultdict(list)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if not logs or "loss" not in logs:  # the summary at the end
            return
        for name, value in logs.items():
            if name not in ("epoch", "num_tokens"):
                self._logged[name].append(float(value))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.progress:
            self.progress(state.global_step, self.steps)

    def by_step(self) -> dict[str, tuple[float, ...]]:
        """Each figure by step; each was logged at every step."""
        assert {len(values) for values in self._logged.values()} == {self.steps}
        return {name: tuple(values) for name, values in self._logged.items()}


@contextmanager
def reproducible(model: Model) -> Iterator[None]:
    """What equal weights for equal input need, put back afterwards; and no word to the outside (TRL phones home)."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002  (TRL seeds these)
    switches = (
        (huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", True),
        # Filling fresh memory would double the time of a step: TRL's loss allocates far more than it uses.
        (torch.utils.deterministic, "fill_uninitialized_memory", False),
    )
    deterministic = torch.are_deterministic_algorithms_enabled()
    before = [getattr(owner, name) for owner, name, _ in switches]
    try:
        for owner, name, value in switches:
            setattr(owner, name, value)
        torch.use_deterministic_algorithms(True)
        with threads(NANO_THREADS if model.is_nano else torch.get_num_threads()):
            yield
    finally:
        for (owner, name, _), value in zip(switches, before, strict=True):
            setattr(owner, name, value)
        torch.use_deterministic_algorithms(deterministic)
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])


def run(trainer: Trainer, recorder: Recorder) -> None:
    """Train, recording instead of printing."""
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(recorder)
    trainer.train()


def unchanged(model: Path, out: Path, *, method: str, outcome: Outcome, rows: int) -> Curve:
    """The parent's files under the new name, and why."""
    assert outcome is not Outcome.TRAINED
    with new_folder(out) as folder:
        shutil.copytree(model, folder, dirs_exist_ok=True)
    return Curve(method=method, outcome=outcome, rows=rows)
