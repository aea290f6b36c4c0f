"""The default: models weighed by how well they foretell answers that were held out, as sure as answers that were left
out let them be, and when to say nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from loop.label.aggregate import models, simple
from loop.label.aggregate.answers import Answers, Floats, Ints
from loop.label.aggregate.tempering import temperature, tempered

SURE: Final = 0.8
"""Least confidence with which a label is taught: at most one in five of those that only just pass is expected wrong."""
FEWEST: Final = 2
"""Least answers of a task that is not left to adjudication: one has nobody to disagree with."""
MODELS: Final = {"difficulty": models.difficulty, "opinion": models.opinion, "torn": models.torn}
FOLDS: Final = 5
_SAMPLE: Final = 40_000
"""Answers of whole tasks, drawn at random, by which models are weighed: three weights need no more."""
_ENOUGH: Final = 8_000
"""Held-out answers after which no further fold is asked."""
_PASSES: Final = 3
"""Most times that the folds are drawn anew, where one time holds out fewer: so few that chance would weigh."""
_MOST_LABELS: Final = 8
"""`torn` has a state for each two labels; beyond, it is left out."""
_LEAST: Final = 0.01
"""A model of less weight is not fitted to all answers."""


class Method(StrEnum):
    """How labels come of answers."""

    STACKED = "stacked"
    MAJORITY = "majority"
    ONE_COIN = "one-coin"
    DAWID_SKENE = "dawid-skene"


@dataclass(frozen=True)
class SoftLabels:
    """What is believed of each task."""

    answers: Answers
    probabilities: Floats
    """Shape (tasks, labels); rows add up to 1."""
    method: str
    weights: dict[str, float]
    """Of the models; empty for a method that is one estimator."""
    held_out: float | None
    """Mean log loss of answers held out, in nats; None where there were too few to hold some out."""
    sure: float = SURE
    temperature: float = 1.0
    """By which the mixture of the models was flattened: see `tempering`."""
    left_out: Floats | None = None
    """Of each answer in turn what is believed of its task without it, shape (answers, labels); None: not asked for.

    See `models.Fitted.without`. An answer that is alone leaves what is believed of a task that nobody answered.
    """

    @property
    def label(self) -> npt.NDArray[np.int64]:
        """The most probable, shape (tasks,); of equals the one that comes first."""
        return np.argmax(self.probabilities, axis=1).astype(np.int64)  # type: ignore[no-any-return]

    @property
    def confidence(self) -> Floats:
        return self.probabilities.max(1)  # type: ignore[no-any-return]

    @property
    def abstain(self) -> npt.NDArray[np.bool_]:
        """Whether too little is known: a probability below `sure`, one answer alone, or a label without alternative."""
        few = self.answers.votes.sum(1) < FEWEST
        alone = np.full(len(few), len(self.answers.labels) < 2)
        return np.logical_or.reduce([self.confidence < self.sure, few, alone]).astype(np.bool_)  # type: ignore[no-any-return]


def aggregate(
    answers: Answers,
    method: Method = Method.STACKED,
    *,
    sure: float = SURE,
    seed: int = 0,
    left_out: bool = False,
) -> SoftLabels:
    """Soft labels of every task.

    Args:
        sure: least probability with which a task does not abstain.
        seed: of the answers that are held out. The same answers in the same order with the same seed give the same.
        left_out: whether to say what is believed without each answer too; of the method `stacked` alone.
    """
    assert not left_out or method is Method.STACKED, "which answer is left out is told of the stacked models alone"
    if len(answers.labels) < 2 or not len(answers):
        return SoftLabels(answers, np.ones((len(answers.tasks), 1)), method, {}, None, sure)
    if method is not Method.STACKED:
        estimate = {
            Method.MAJORITY: simple.majority,
            Method.ONE_COIN: simple.one_coin,
            Method.DAWID_SKENE: simple.dawid_skene,
        }[method]
        return SoftLabels(answers, estimate(answers), method, {}, None, sure)
    weights, loss = weigh(answers, seed=seed)
    used = {name: weight for name, weight in weights.items() if weight >= _LEAST}
    some = np.flatnonzero(np.isin(answers.task, _drawn(answers, np.random.default_rng(seed))))
    places = np.arange(len(answers)) if left_out else some
    mixed, others = np.zeros((len(answers.tasks), len(answers.labels))), np.zeros((len(places), len(answers.labels)))
    for name, weight in used.items():
        fitted = MODELS[name](answers)
        mixed += weight * fitted.posterior
        others += weight * fitted.without(places)
    mixed /= mixed.sum(1, keepdims=True)
    others /= others.sum(1, keepdims=True)
    asked = np.zeros(len(answers), dtype=bool)
    asked[some] = True
    heat = temperature(answers.where(asked), others[some] if left_out else others)
    told = tempered(others, heat) if left_out else None
    return SoftLabels(answers, tempered(mixed, heat), method, weights, loss, sure, heat, told)


def weigh(answers: Answers, *, seed: int = 0, folds: int = FOLDS) -> tuple[dict[str, float], float | None]:
    """Weights of the models, by the answers that each did not see, and the log loss of the mixture on those.

    Stacking of predictive distributions (Yao et al., Bayesian Analysis 2018, eq. 4): the weights under which the
    mixture is likeliest. An answer is foretold from the others to its task; the only one of a task is not.
    """
    names = [name for name in MODELS if name != "torn" or len(answers.labels) <= _MOST_LABELS]
    rng = np.random.default_rng(seed)
    sample = answers.of_tasks(_drawn(answers, rng))
    told: list[Floats] = []
    for held in np.tile(np.arange(folds), _PASSES):
        if sum(map(len, told)) >= _ENOUGH:
            break
        if held == 0:
            fold = rng.integers(folds, size=len(sample))
        train = sample.where(fold != held)
        seen = np.bincount(train.task, minlength=len(sample.tasks)) > 0
        asked = (fold == held) & seen[sample.task]
        if len(train) and asked.any():
            test = sample.where(asked)
            place = np.arange(len(test)), test.label
            told.append(
                np.stack([MODELS[name](train).predict(test.worker, test.task)[place] for name in names], axis=1)
            )
    if not told:
        return {name: 1 / len(names) for name in names}, None
    likely = np.concatenate(told)
    weights = np.full(len(names), 1 / len(names))
    for _ in range(500):
        share = likely * weights
        weights = (share / share.sum(1, keepdims=True)).mean(0)
    loss = -float(np.log(likely @ weights).mean())
    return {name: round(float(weight), 4) for name, weight in zip(names, weights, strict=True)}, loss


def _drawn(answers: Answers, rng: np.random.Generator) -> Ints:
    """Tasks, drawn until they have `_SAMPLE` answers."""
    if len(answers) <= _SAMPLE:
        return np.arange(len(answers.tasks))
    per_task = np.bincount(answers.task, minlength=len(answers.tasks))
    order = rng.permutation(len(answers.tasks))
    enough = int(np.searchsorted(np.cumsum(per_task[order]), _SAMPLE)) + 1
    return np.sort(order[:enough])
