"""Prompts: a large space in three parts that never meet."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from habitual import MONDAY

from loop.errors import BadInputError
from loop.simulate.organisation import Organisation
from loop.simulate.prompts import GRAMMARS, Part, combinations, distinct, read
from loop.simulate.streams import stream
from loop.workflows import WORKFLOWS

each_workflow = pytest.mark.parametrize("workflow", list(WORKFLOWS))


def texts(prompts: list[list[dict[str, str]]]) -> set[str]:
    return {prompt[0]["content"] for prompt in prompts}


@each_workflow
def test_the_parts_share_no_combination_of_attributes_and_together_hold_all(workflow: str) -> None:
    parts = [set(combinations(workflow, part)) for part in Part]
    assert len(set.union(*parts)) == sum(map(len, parts)) == np.prod(GRAMMARS[workflow].sizes)
    assert all(len(part) >= 100 for part in parts)


@each_workflow
def test_the_space_is_large(workflow: str) -> None:
    assert GRAMMARS[workflow].combinations > 400_000


@each_workflow
@pytest.mark.parametrize("part", Part)
def test_a_brief_says_what_it_was_drawn_from(workflow: str, part: Part) -> None:
    drawn = distinct(stream(0), workflow, part, 200)
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
        distinct(stream(0), "ads", Part.FINAL, 10**6)
