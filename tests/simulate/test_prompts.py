"""Prompts: a large space, for three purposes that never meet."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from habitual import MONDAY

from loop.errors import BadInputError
from loop.simulate.organisation import Organisation
from loop.simulate.prompts import GRAMMARS, Purpose, combinations, distinct, read
from loop.simulate.streams import stream
from loop.workflows import WORKFLOWS

each_workflow = pytest.mark.parametrize("workflow", list(WORKFLOWS))


def texts(prompts: list[list[dict[str, str]]]) -> set[str]:
    return {prompt[0]["content"] for prompt in prompts}


@each_workflow
def test_the_purposes_share_no_combination_of_attributes_and_together_hold_all(workflow: str) -> None:
    found = [set(combinations(workflow, purpose)) for purpose in Purpose]
    assert len(set.union(*found)) == sum(map(len, found)) == np.prod(GRAMMARS[workflow].sizes)
    assert all(len(some) >= 100 for some in found)


@each_workflow
def test_the_space_is_large(workflow: str) -> None:
    assert GRAMMARS[workflow].combinations > 400_000


@each_workflow
@pytest.mark.parametrize("purpose", Purpose)
def test_a_brief_says_what_it_was_drawn_from(workflow: str, purpose: Purpose) -> None:
    drawn = distinct(stream(0), workflow, purpose, 200)
    assert len({brief.text for brief in drawn}) == 200
    assert all(read(workflow, brief.messages) == brief for brief in drawn)
    for place, size in enumerate(GRAMMARS[workflow].sizes):
        assert {brief.attributes[place] for brief in drawn} == set(range(size))


def test_held_out_prompts_meet_neither_days_nor_corpus(organisation: Organisation) -> None:
    asked = texts([r.prompt for i in range(5) for r in organisation.requests(MONDAY + timedelta(days=i))])
    asked |= texts([row["prompt"] for row in organisation.corpus(4_000)])
    for workflow in WORKFLOWS:
        benchmark = texts(organisation.benchmark(workflow, 200))
        final = texts(organisation.final_prompts(workflow, 500))
        assert (len(benchmark), len(final)) == (200, 500)
        assert not benchmark & final
        assert not (benchmark | final) & asked


def test_what_is_no_brief_or_not_to_be_had_is_an_error() -> None:
    with pytest.raises(BadInputError, match="expected a ads brief"):
        read("ads", [{"role": "user", "content": "buy milk"}])
    with pytest.raises(BadInputError, match="expected a comms brief"):
        read("comms", [])
    with pytest.raises(BadInputError, match="ask for fewer"):
        distinct(stream(0), "ads", Purpose.FINAL, 10**6)
