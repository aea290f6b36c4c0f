from __future__ import annotations

import numpy as np
import pytest

from loop.label.aggregate.answers import Answers
from loop.label.aggregate.tempering import TEMPERATURES, temperature, tempered


def crowd_of(chance: np.ndarray, people: int, seed: int) -> Answers:
    """Everybody's answer to every task, right on .85, of tasks that are y with their chance."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(len(chance)) < chance).astype(int)
    right = rng.random((people, len(chance))) < 0.85
    said = np.where(right, truth, 1 - truth)
    worker, task = (codes.ravel() for codes in np.indices(said.shape))
    names = tuple(f"w{i}" for i in range(people)), tuple(f"t{i}" for i in range(len(chance)))
    return Answers(*names, ("x", "y"), worker, task, said.ravel())


def belief(chance: np.ndarray, answers: Answers, power: float) -> np.ndarray:
    odds = (chance / (1 - chance)) ** power
    return np.stack([1 / (1 + odds), odds / (1 + odds)], axis=1)[answers.task]


@pytest.mark.parametrize(("too_sure", "told"), [(3.0, 3.0), (1.5, 1.5), (1.0, 1.0), (0.4, 1.0)])
def test_who_is_too_sure_by_a_power_is_told_that_power_and_nobody_is_made_surer(too_sure: float, told: float) -> None:
    chance = np.random.default_rng(0).beta(0.7, 0.7, size=20_000).clip(0.001, 0.999)
    answers = crowd_of(chance, 2, seed=1)
    found = temperature(answers, belief(chance, answers, too_sure))
    assert found == pytest.approx(told, rel=0.11)  # a step of the grid


def test_a_handful_of_answers_says_nothing_of_it() -> None:
    chance = np.array([0.2, 0.8, 0.6])
    answers = crowd_of(chance, 2, seed=0)
    assert temperature(answers, belief(chance, answers, 3.0)) < 1.25
    alone = answers.where(answers.worker == 0)
    assert temperature(alone, np.full((3, 2), 0.5)) == 1.0  # nobody else answered these tasks


def test_a_temperature_flattens_and_keeps_the_order() -> None:
    believed = np.array([[0.9, 0.1, 0.0], [0.5, 0.5, 0.0], [0.2, 0.3, 0.5]])
    assert tempered(believed, 1.0) is believed
    for heat in TEMPERATURES[1:]:
        flat = tempered(believed, float(heat))
        assert np.allclose(flat.sum(1), 1)
        assert (np.argsort(flat, axis=1, kind="stable") == np.argsort(believed, axis=1, kind="stable")).all()
        assert flat[0, 0] < 0.9
        assert flat[1, 0] == flat[1, 1]
    two = tempered(believed, 2.0)[0]
    assert two[0] / two[1] == pytest.approx(3.0)
