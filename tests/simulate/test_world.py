"""The truth: scaled, mostly conditional on the brief, drawn anew by the seed."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from loop.simulate.prompts import GRAMMARS, Brief, Purpose, combinations, distinct
from loop.simulate.streams import stream
from loop.simulate.world import PLEASING, World
from loop.workflows import WORKFLOWS

each_workflow = pytest.mark.parametrize("workflow", list(WORKFLOWS))


def briefs(workflow: str, n: int) -> list[Brief]:
    return distinct(stream("test"), workflow, Purpose.TRAIN, n)


@each_workflow
def test_a_random_answer_is_worth_0_and_the_best_1_for_every_prompt(workflow: str) -> None:
    world, house = World(0), WORKFLOWS[workflow].parts
    for brief in briefs(workflow, 3):
        utilities = [world.utility(brief, dict(zip(house, values, strict=True))) for values in product(*house.values())]
        assert np.mean(utilities) == pytest.approx(0, abs=1e-12)
        assert max(utilities) == pytest.approx(1)
        assert world.utility(brief, world.best(brief)) == pytest.approx(1)
        assert world.utility(brief, None) == pytest.approx(min(utilities))
        assert min(utilities) < -0.3


def test_a_missing_or_unlisted_part_counts_as_its_worst_value() -> None:
    world, [brief] = World(0), briefs("comms", 1)
    best = world.best(brief)
    worst = min(world.utility(brief, {**best, "ask": value}) for value in WORKFLOWS["comms"].parts["ask"])
    without = {part: value for part, value in best.items() if part != "ask"}
    assert world.utility(brief, without) == pytest.approx(worst)
    assert world.utility(brief, {**best, "ask": "please dance"}) == pytest.approx(worst)


@pytest.mark.parametrize("seed", range(12))
def test_the_best_constant_answer_gets_at_most_a_fifth_of_the_way(seed: int) -> None:
    world = World(seed)
    for workflow in WORKFLOWS:
        assert 0 < world.constant(workflow)[1] <= 0.2


def test_the_best_constant_answer_is_found_by_brute_force_too() -> None:
    world, house = World(1), WORKFLOWS["moderation"].parts
    every = [Brief("moderation", attributes, "") for attributes in combinations("moderation", Purpose.FINAL)]
    means = {
        values: np.mean([world.utility(brief, dict(zip(house, values, strict=True))) for brief in every[::4]])
        for values in list(product(*house.values()))[::40]
    }
    answer, utility = world.constant("moderation", Purpose.FINAL)
    assert np.mean([world.utility(brief, answer) for brief in every]) == pytest.approx(utility)
    assert max(means.values()) <= utility + 0.05


@each_workflow
def test_the_seed_redraws_what_fits_what(workflow: str) -> None:
    same, drawn = [], briefs(workflow, 40)
    for one, other in ((World(seed), World(seed + 1)) for seed in range(0, 12, 2)):
        same += [
            one.best(brief)[part] == other.best(brief)[part] for brief in drawn for part in WORKFLOWS[workflow].parts
        ]
    assert np.mean(same) == pytest.approx(1 / 6, abs=0.08)
    assert World(3).truth() == World(3).truth() != World(4).truth()


@each_workflow
def test_most_of_what_is_best_depends_on_the_attribute_that_a_part_looks_at(workflow: str) -> None:
    world, grammar = World(0), GRAMMARS[workflow]
    for fit in world.fits[workflow]:
        assert list(grammar.attributes)[fit.first] == grammar.looks_at[fit.part]
        assert fit.second != fit.first
        by_first = fit.table.mean(axis=1).var()
        assert by_first / fit.table.var() > 0.5


def test_expectations_are_exact() -> None:
    world = World(0)
    uniform = {fit.part: np.full(fit.table.shape[::2], 1 / fit.table.shape[2]) for fit in world.fits["ads"]}
    assert world.expected("ads", uniform, Purpose.TRAIN) == pytest.approx(0, abs=1e-12)


def test_the_pleasing_values_are_on_the_house_lists() -> None:
    assert set(PLEASING) == set(WORKFLOWS)
    assert all(value in WORKFLOWS[workflow].parts[part] for workflow, (part, value) in PLEASING.items())
