"""How sure the models may be: less than they are where the answers of people who were left out say so.

The models hold the people who answered a task for more independent than many crowds are, and twenty who were misled
alike make them surer than ten. What is believed of a task without one answer, flattened by a temperature, foretells
that answer through how its giver answers elsewhere: the temperature under which the answers are likeliest is taken
(after Guo et al., ICML 2017, who ask known answers; here none is looked at). It is never below 1: this knows less of a
task than the models do (nothing of its difficulty), and makes nobody surer than they are.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from loop.label.aggregate.answers import Answers, Floats, expected

TEMPERATURES: Final = np.exp(np.linspace(0, np.log(8), 22))
_POOLED: Final = 30.0
"""Answers that everybody's confusion counts as much as, beside a person's own; chosen on made crowds."""
_ROUNDS: Final = 20
"""Of EM."""
_SPREAD: Final = 0.25
"""Of the normal prior of the temperature's logarithm: a few answers say nothing of it."""


def tempered(believed: Floats, temperature: float) -> Floats:
    """Probabilities to the power 1 / temperature, rows adding up to 1; the order within a row stays."""
    if temperature == 1:
        return believed
    score = np.log(np.maximum(believed, 1e-12)) / temperature
    score = np.exp(score - score.max(1, keepdims=True))
    return score / score.sum(1, keepdims=True)  # type: ignore[no-any-return]


def temperature(answers: Answers, left_out: Floats) -> float:
    """One of `TEMPERATURES`, the likeliest by answers to tasks that others answered too; 1 where there are none.

    Args:
        left_out: what is believed of each answer's task without it, shape (answers, labels).
    """
    met = (answers.votes.sum(1) > 1)[answers.task]
    answers, left_out = answers.where(met), left_out[met]
    if not len(answers):
        return 1.0
    scores = [_likely(answers, tempered(left_out, float(t))) - (np.log(t) / _SPREAD) ** 2 / 2 for t in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmax(scores))])


def _likely(answers: Answers, believed: Floats) -> float:
    """Log likelihood of all answers: each by its person's confusion in the other answers, shrunk to everybody's.

    The confusions are the likeliest too (EM): as plain expectations they would lie nearer to guessing than people do,
    and the surer a belief, the better it would then foretell.
    """
    held = believed
    for _ in range(_ROUNDS):
        own = _confusions(answers, held)
        likely = believed * (own[answers.worker, :, answers.label] / own.sum(2)[answers.worker])
        held = likely / likely.sum(1, keepdims=True)
    own = _confusions(answers, held)
    said = own[answers.worker, :, answers.label] - held
    return float(np.log((believed * said / (own.sum(2)[answers.worker] - held)).sum(1)).sum())


def _confusions(answers: Answers, held: Floats) -> Floats:
    """Answers by person, truth and label, with `_POOLED` more of everybody's for each truth."""
    counts = expected(answers, held)
    pool = counts.sum(0) + 1
    return counts + _POOLED * pool / pool.sum(1, keepdims=True)  # type: ignore[no-any-return]
