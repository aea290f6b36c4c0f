"""The base corpus: it parses, it depends on the brief, and it is neither good nor bad."""

from __future__ import annotations

import numpy as np
import pytest

from loop.simulate.corpus import HABIT, MEDIOCRE, corpus, habits
from loop.simulate.organisation import Organisation
from loop.simulate.prompts import GRAMMARS, Purpose, purpose_of
from loop.simulate.world import World
from loop.workflows import WORKFLOWS


def test_every_answer_parses_into_listed_parts(organisation: Organisation) -> None:
    rows = organisation.corpus(2_000)
    assert [row["workflow"] for row in rows] == list(WORKFLOWS) * 500
    for row in rows:
        workflow = WORKFLOWS[row["workflow"]]
        parts = workflow.parse(row["answer"])
        assert parts is not None
        assert all(parts[part] in values for part, values in workflow.parts.items())


def test_only_training_briefs_and_the_same_again() -> None:
    pairs = list(corpus(World(1), ("ads", "comms"), 300))
    assert all(purpose_of(brief.workflow, brief.attributes) is Purpose.TRAIN for brief, _ in pairs)
    assert pairs == list(corpus(World(1), ("ads", "comms"), 300))
    assert pairs != list(corpus(World(2), ("ads", "comms"), 300))


@pytest.mark.parametrize("workflow", list(WORKFLOWS))
def test_habits_are_mediocre_and_know_nothing_of_what_fits(workflow: str) -> None:
    agree = []
    for world in map(World, range(8)):
        drawn = habits(world, workflow)
        assert abs(world.expected(workflow, drawn, Purpose.TRAIN)) <= MEDIOCRE
        for fit in world.fits[workflow]:
            assert drawn[fit.part].sum(axis=1) == pytest.approx(1)
            agree += list(drawn[fit.part].argmax(axis=1) == fit.table.mean(axis=1).argmax(axis=1))
    assert np.mean(agree) == pytest.approx(1 / 6, abs=0.08)


def test_answers_follow_the_habits_at_their_rate() -> None:
    world, grammar = World(0), GRAMMARS["design"]
    table = habits(world, "design")["fix"]
    place = list(grammar.attributes).index(grammar.looks_at["fix"])
    follows = [
        WORKFLOWS["design"].parts["fix"][table[brief.attributes[place]].argmax()]
        == WORKFLOWS["design"].parse(text)["fix"]
        for brief, text in corpus(world, ("design",), 2_000)
    ]
    assert np.mean(follows) == pytest.approx(HABIT + (1 - HABIT) / 6, abs=0.04)
