"""Crowds of known skill, made by the assumption that is to be tested."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loop.label.aggregate import answers as columns
from loop.label.aggregate.answers import Answers


@dataclass(frozen=True)
class Crowd:
    answers: Answers
    truth: np.ndarray
    """Place among the labels, by task."""


def crowd(
    *,
    seed: int,
    tasks: int = 300,
    people: int = 40,
    each: int = 5,
    labels: int = 3,
    hard: float = 0.0,
    torn: float = 0.0,
) -> Crowd:
    """Workers of skill Beta(6, 2). `hard`: share of tasks that nobody can do; `torn`: that most get wrong alike."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(labels, size=tasks)
    task = np.repeat(np.arange(tasks), each)
    worker = np.concatenate([rng.choice(people, each, replace=False) for _ in range(tasks)])
    skill = rng.beta(6, 2, size=people)
    other = (truth + rng.integers(1, labels, size=tasks)) % labels
    kind = rng.random(tasks)
    right = rng.random(len(task)) < skill[worker]
    said = np.where(right, truth[task], (truth[task] + rng.integers(1, labels, size=len(task))) % labels)
    guessed = rng.integers(labels, size=len(task))
    said = np.where(kind[task] < hard, guessed, said)
    pulled = np.where(rng.random(len(task)) < 0.65, other[task], truth[task])
    said = np.where((kind[task] >= hard) & (kind[task] < hard + torn), pulled, said)
    names = [f"t{i}" for i in task]
    sorted_ = columns.sort([f"w{i}" for i in worker], names, [str(i) for i in said], [str(i) for i in range(labels)])
    return Crowd(sorted_.answers, truth)


def log_loss(believed: np.ndarray, truth: np.ndarray) -> float:
    return -float(np.log(np.clip(believed[np.arange(len(truth)), truth], 1e-6, 1)).mean())
