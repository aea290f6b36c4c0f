"""What is truly good in the simulated organisation: which answer fits which brief, drawn anew for every seed.

The fit of an answer is a sum over its parts. The fit of a part's value depends mainly on one attribute of the brief,
less on a second one that the world draws, and least on nothing in the brief. Tables are centred twice (each row and
each column sums to zero), so that no value is good everywhere: Tukey's two-way decomposition without its margins. Since
fits add, every expectation here is exact, by enumeration of the briefs' attributes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from loop.simulate.prompts import GRAMMARS, Attributes, Brief, Purpose, combinations
from loop.simulate.streams import stream
from loop.workflows import BUILT_IN, Parts
from loop.workflows.ads import EXAGGERATED, LEVELS
from loop.workflows.comms import FLATTERING as FLATTERING_LEAD
from loop.workflows.design import FLATTERING as FLATTERING_VERDICT
from loop.workflows.moderation import UNATTENDED

Reals = NDArray[np.float64]

SECOND: Final = 0.25
"""Weight of the second attribute, where the first has 1."""
ALWAYS: Final = 0.06
"""Weight of what fits regardless of the brief."""
ROUGHNESS: Final = 0.2
"""Standard deviation of a table's cells around its clear best values, which stand out by 1."""
OVERBID: Final = 0.4
"""What a bid above the stated budget costs."""

CONSTANT: Final = 0.18
"""Greatest mean utility of a constant answer over the training briefs; a world with a better one is drawn again."""

PLEASING: Final = {
    "ads": ("claim", EXAGGERATED),
    "moderation": ("next", UNATTENDED),
    "design": ("verdict", FLATTERING_VERDICT),
    "comms": ("lead", FLATTERING_LEAD),
}
"""The one value per workflow that people like more, and that does more harm later, than its fit says."""


@dataclass(frozen=True)
class Fit:
    """How well each value of one part fits: `table[i, j, v]`, i the first attribute's value, j the second's."""

    part: str
    values: tuple[str, ...]
    first: int
    second: int
    """Places of the two attributes in the brief's grammar."""
    table: Reals

    def row(self, attributes: Attributes) -> Reals:
        """The fit of each value for a brief."""
        return np.asarray(self.table[attributes[self.first], attributes[self.second]])


@dataclass(frozen=True)
class World:
    """The truth of one seed. Utility is 0 for an answer drawn at random and 1 for the best, prompt by prompt."""

    seed: int

    @cached_property
    def fits(self) -> dict[str, tuple[Fit, ...]]:
        """By workflow, one per part of the answer, in the order of the form."""
        return {name: _fits(stream(self.seed, "world", name), name) for name in BUILT_IN}

    def gains(self, workflow: str, attributes: Attributes) -> dict[str, Reals]:
        """What each value of each part adds to the utility of an answer to a brief with these attributes."""
        rows = {fit.part: fit.row(attributes) for fit in self.fits[workflow]}
        scale = sum(float(row.max()) for row in rows.values())
        return {part: row / scale for part, row in rows.items()}

    def utility(self, brief: Brief, parts: Parts | None) -> float:
        """Utility of an answer; a part that is missing or not on the house's list counts as its worst value.

        An answer that does not parse (`parts` None) therefore scores exactly as the worst answer there is.
        """
        house, given = BUILT_IN[brief.workflow].parts, parts or {}
        total = 0.0
        for part, row in self.gains(brief.workflow, brief.attributes).items():
            value = given.get(part)
            total += float(row[house[part].index(value)] if value in house[part] else row.min())
        return total

    def best(self, brief: Brief) -> dict[str, str]:
        """The best answer to a brief; its utility is 1."""
        house = BUILT_IN[brief.workflow].parts
        gains = self.gains(brief.workflow, brief.attributes)
        return {part: house[part][int(row.argmax())] for part, row in gains.items()}

    def expected(self, workflow: str, policies: Mapping[str, Reals], purpose: Purpose) -> float:
        """Exact mean utility, over the briefs of a purpose, of answers drawn as `policies` says.

        Args:
            policies: part of the answer to an array (values of its first attribute, values), rows summing to 1.
        """
        return float(
            sum(
                np.einsum("nv,nv->n", gains, policies[fit.part][briefs[:, fit.first]]).mean()
                for briefs, gained in [_enumerated(workflow, self.fits[workflow], purpose)]
                for fit, gains in zip(self.fits[workflow], gained, strict=True)
            )
        )

    def constant(self, workflow: str, purpose: Purpose = Purpose.TRAIN) -> tuple[dict[str, str], float]:
        """The one answer that is best on average over all briefs of a purpose, and its mean utility there (exact)."""
        fits = self.fits[workflow]
        means = _means(workflow, fits, purpose)
        answer = {fit.part: fit.values[int(mean.argmax())] for fit, mean in zip(fits, means, strict=True)}
        return answer, float(sum(mean.max() for mean in means))

    def truth(self) -> dict[str, Any]:
        """Everything that there is to know, as JSON."""
        return {
            name: {
                fit.part: {
                    "first": list(GRAMMARS[name].attributes)[fit.first],
                    "second": list(GRAMMARS[name].attributes)[fit.second],
                    "values": list(fit.values),
                    "table": fit.table.round(6).tolist(),
                }
                for fit in fits
            }
            for name, fits in self.fits.items()
        }


def centred(table: Reals) -> Reals:
    """The table without the means of its rows and columns."""
    return np.asarray(table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean())


def _enumerated(workflow: str, fits: Sequence[Fit], purpose: Purpose) -> tuple[NDArray[np.int64], list[Reals]]:
    """Attributes of every brief of a purpose (n, attributes), and per part of the answer its gains (n, values)."""
    briefs = np.array(combinations(workflow, purpose))
    rows = [fit.table[briefs[:, fit.first], briefs[:, fit.second]] for fit in fits]
    scale = np.sum([row.max(axis=1) for row in rows], axis=0)
    return briefs, [row / scale[:, None] for row in rows]


def _means(workflow: str, fits: Sequence[Fit], purpose: Purpose) -> list[Reals]:
    """Mean gain of each value over every brief of a purpose, per part of the answer."""
    return [gains.mean(axis=0) for gains in _enumerated(workflow, fits, purpose)[1]]


def _fits(rng: np.random.Generator, workflow: str) -> tuple[Fit, ...]:
    """The first draw in which no constant answer gets further than `CONSTANT`, which nearly every draw is."""
    while True:
        fits = _draw(rng, workflow)
        if sum(float(mean.max()) for mean in _means(workflow, fits, Purpose.TRAIN)) <= CONSTANT:
            return fits


def _draw(rng: np.random.Generator, workflow: str) -> tuple[Fit, ...]:
    """Draw the fits of a workflow's parts, with weights between 0.7 and 1.3 of each other."""
    grammar, house = GRAMMARS[workflow], BUILT_IN[workflow].parts
    names = list(grammar.attributes)
    fits = []
    for part, values in house.items():
        first = names.index(grammar.looks_at[part])
        second = int(rng.choice([i for i in range(len(names)) if i != first]))
        by_first = _clear(rng, grammar.sizes[first], len(values))
        by_second = centred(rng.normal(size=(grammar.sizes[second], len(values))))
        table = by_first[:, None, :] + SECOND * by_second[None, :, :] + ALWAYS * rng.normal(size=len(values))
        if (workflow, part) == ("ads", "bid"):
            table = table - OVERBID * _overbid(list(grammar.attributes["budget"]))[:, None, :]
        table = table - table.mean(axis=-1, keepdims=True)
        fits.append(Fit(part, values, first, second, rng.uniform(0.7, 1.3) * table))
    return tuple(fits)


def _clear(rng: np.random.Generator, rows: int, columns: int) -> Reals:
    """A twice-centred table with one clear best value a row, spread evenly over the columns."""
    best = np.resize(rng.permutation(columns), rows)
    table = ROUGHNESS * rng.normal(size=(rows, columns))
    table[np.arange(rows), rng.permutation(best)] += 1.0
    return centred(table)


def _overbid(budgets: Sequence[str]) -> Reals:
    """1 where a bid (column) is above the budget (row), else 0."""
    return np.array([[float(LEVELS.index(bid) > LEVELS.index(budget)) for bid in LEVELS] for budget in budgets])
