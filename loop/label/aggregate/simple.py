"""The estimators that everybody knows, to be measured against and to be chosen by name."""

from __future__ import annotations

from typing import Final

import numpy as np

from loop.label.aggregate.answers import Answers, Floats, summed

ITERATIONS: Final = 100
_SETTLED: Final = 1e-5


def majority(answers: Answers) -> Floats:
    """Shares of the votes, shape (tasks, labels)."""
    votes = answers.votes
    return votes / votes.sum(1, keepdims=True)  # type: ignore[no-any-return]


def one_coin(answers: Answers) -> Floats:
    """Dawid-Skene with one skill a worker, equal in every label; EM from the shares of the votes."""
    k = len(answers.labels)
    by_worker = np.maximum(np.bincount(answers.worker, minlength=len(answers.workers)), 1)
    posterior = majority(answers)
    for _ in range(ITERATIONS):
        right = posterior[answers.task, answers.label]
        skill = np.clip(
            np.bincount(answers.worker, weights=right, minlength=len(by_worker)) / by_worker, 1e-6, 1 - 1e-6
        )
        gain = np.log(skill) - np.log((1 - skill) / max(1, k - 1))
        flat = summed(answers.task * k + answers.label, gain[answers.worker], posterior.size)
        before, posterior = posterior, _posterior(flat.reshape(posterior.shape), posterior)
        if np.abs(before - posterior).max(initial=0) < _SETTLED:
            break
    return posterior


def dawid_skene(answers: Answers) -> Floats:
    """A confusion matrix a worker (Dawid and Skene, Applied Statistics 1979); EM from the shares of the votes."""
    from scipy import sparse

    k, people = len(answers.labels), len(answers.workers)
    shape = len(answers.tasks), people * k
    votes = sparse.csr_matrix((np.ones(len(answers)), (answers.task, answers.worker * k + answers.label)), shape)
    posterior = majority(answers)
    for _ in range(ITERATIONS):
        counts = (votes.T @ posterior).reshape(people, k, k)
        rows = counts / np.maximum(counts.sum(1, keepdims=True), 1e-300)
        score = votes @ np.log(np.maximum(rows, 1e-10)).reshape(people * k, k)
        before, posterior = posterior, _posterior(score, posterior)
        if np.abs(before - posterior).max(initial=0) < _SETTLED:
            break
    return posterior


def _posterior(score: Floats, before: Floats) -> Floats:
    score = score + np.log(np.maximum(before.mean(0), 1e-300))
    score = np.exp(score - score.max(1, keepdims=True))
    return score / score.sum(1, keepdims=True)  # type: ignore[no-any-return]
