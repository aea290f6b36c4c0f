"""The base corpus: what the organisation's suggestions looked like before anybody's decision was learned from.

Answers follow old habits: tables drawn from a stream of their own, which look at the same attributes of a brief as the
truth does and know nothing of what fits. A model pretrained on them writes answers that parse and that depend on the
brief, and is neither good nor bad: habits that by chance are good or bad on the whole are drawn again, which is all
that the corpus owes to the truth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Final

import numpy as np

from loop.simulate.prompts import GRAMMARS, Brief, Purpose, draw
from loop.simulate.streams import stream
from loop.simulate.world import Reals, World
from loop.workflows import BUILT_IN

HABIT: Final = 0.7
"""Share of the parts that follow the habit; the others are uniform over the house's list."""
MEDIOCRE: Final = 0.02
"""Greatest distance from 0 of the mean utility of answers that follow the habits."""

Habits = dict[str, Reals]
"""Purpose of the answer to the probability of each value (columns) given its first attribute (rows)."""


def habits(world: World, workflow: str) -> Habits:
    """The first draw of habits that is mediocre."""
    for attempt in count():
        drawn = _draw(stream(world.seed, "habits", workflow, attempt), workflow)
        if abs(world.expected(workflow, drawn, Purpose.TRAIN)) <= MEDIOCRE:
            return drawn
    raise AssertionError("unreachable")


def _draw(rng: np.random.Generator, workflow: str) -> Habits:
    """One habitual value for each value of the attribute that a part looks at, spread evenly over the values."""
    grammar = GRAMMARS[workflow]
    drawn = {}
    for part, values in BUILT_IN[workflow].parts.items():
        rows = len(grammar.attributes[grammar.looks_at[part]])
        table = np.full((rows, len(values)), (1 - HABIT) / len(values))
        table[np.arange(rows), rng.permutation(np.resize(rng.permutation(len(values)), rows))] += HABIT
        drawn[part] = table
    return drawn


def answer(rng: np.random.Generator, drawn: Habits, brief: Brief) -> str:
    """An answer to a brief as habit has it, each part drawn on its own."""
    grammar, workflow = GRAMMARS[brief.workflow], BUILT_IN[brief.workflow]
    names = list(grammar.attributes)
    parts = {}
    for (part, table), luck in zip(drawn.items(), rng.random(len(drawn)), strict=True):
        row = table[brief.attributes[names.index(grammar.looks_at[part])]]
        parts[part] = workflow.parts[part][int((luck >= row.cumsum()[:-1]).sum())]
    return workflow.render(parts)


def corpus(world: World, workflows: Sequence[str], n: int) -> Iterator[tuple[Brief, str]]:
    """`n` briefs and their answers, the workflows in turn, from training briefs alone."""
    rng = {name: stream(world.seed, "corpus", name) for name in workflows}
    briefs = {name: draw(stream(world.seed, "corpus briefs", name), name, Purpose.TRAIN) for name in workflows}
    drawn = {name: habits(world, name) for name in workflows}
    for name in (workflows[i % len(workflows)] for i in range(n)):
        brief = next(briefs[name])
        yield brief, answer(rng[name], drawn[name], brief)
