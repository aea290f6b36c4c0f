"""Sums over what was asked, weighted by the recorded propensity, are those over all: over many draws, with near-
duplicates, scores that tie, and a rerun that fills up with late decisions."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pyarrow as pa
import pytest

from loop.label.select.budget import Reason, choose, total
from loop.label.select.scores import Batch, distinct, measure, seen
from loop.label.select.tasks_of_day import salt_of
from loop.workflows import WORKFLOWS

SEEDS = 400
SINGLE, GROUPED, TIED, LATE = 60, 12, 30, 40
COPIES = 6
BUDGET, LATER = 20, 40
KIND = np.repeat(np.arange(4), [SINGLE, GROUPED * COPIES, TIED, LATE])
"""Of each question: single, one of near-duplicates, one of those with the same score, late."""


@cache
def batch() -> Batch:
    rng = np.random.default_rng(0)
    prompts = [" ".join(f"w{i}" for i in rng.integers(10**6, size=20)) for _ in range(SINGLE + GROUPED + TIED + LATE)]
    copies = np.repeat(
        np.arange(len(prompts)), [COPIES if SINGLE <= n < SINGLE + GROUPED else 1 for n in range(len(prompts))]
    )
    n = len(copies)
    assert n == len(KIND)
    plain = {"kind": ["rewrite"] * n, "first": ["a text"] * n, "second": [""] * n}
    numbers = {name: pa.array(np.arange(n), pa.uint64()) for name in ("draw", "pool")}
    rows = pa.table(
        {"asked": [prompts[i] for i in copies], **plain, **numbers, "held_out": [False] * n, "weight": [1.0] * n}
    )
    return measure([rows], asked=seen(), benchmark=seen(), workflow=WORKFLOWS["comms"])


def lived(seed: int, acquisition: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Estimated sums of 1 over the questions of each kind: on the day, after a rerun with the late ones, and after a
    rerun with them where everything that was asked had been erased, less what there is.
    """
    rng = np.random.default_rng(seed)
    day = replace(batch(), draw=rng.integers(2**64, size=len(KIND), dtype=np.uint64))
    nothing = day.sketch[:0]

    def selected(those: np.ndarray, before: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
        own = day.take(those)
        places, _ = distinct(own, day.sketch[before] if len(before) else nothing)
        found = {reason: np.full(len(places), np.nan) for reason in Reason}
        found[Reason.NOVELTY] = np.where(KIND[those[places]] == 2, 1.0, 0.0)
        draw = own.draw[places]
        taken = choose(draw, found, budget=most, acquisition=acquisition, exploration=0.5, salt=salt_of(draw))
        return those[places[taken.place]], taken.propensity

    first, chance = selected(np.flatnonzero(KIND < 3), np.zeros(0, np.int64), BUDGET)
    once = [total((KIND[first] == kind).astype(float), chance)[0] for kind in range(4)]
    late, chance = selected(np.arange(len(KIND)), first, LATER - BUDGET)
    rest = [total((KIND[late] == kind).astype(float), chance)[0] for kind in range(4)]
    # What stands is counted as it is: the later draw is one of what was not asked.
    afresh = np.setdiff1d(np.arange(len(KIND)), first)
    new, chance = selected(afresh, np.zeros(0, np.int64), BUDGET)
    places, _ = distinct(day.take(afresh), nothing)
    over = [
        total((KIND[new] == kind).astype(float), chance)[0] - (KIND[afresh[places]] == kind).sum() for kind in range(4)
    ]
    return np.array(once), np.bincount(KIND[first], minlength=4) + np.array(rest), np.array(over)


@pytest.mark.parametrize("acquisition", ["random", "novelty"])
def test_estimates_are_unbiased_with_near_duplicates_ties_a_rerun_and_an_erasure(acquisition: str) -> None:
    estimates = np.array([lived(seed, acquisition) for seed in range(SEEDS)])
    truth = np.array([[SINGLE, GROUPED, TIED, 0], [SINGLE, GROUPED, TIED, LATE], [0, 0, 0, 0]])
    error = estimates.std(axis=0, ddof=1) / np.sqrt(SEEDS)
    assert (error[:, :3] > 0).all()  # every kind is drawn at random sometimes
    off = np.abs(estimates.mean(axis=0) - truth) / np.maximum(error, 1e-9)
    assert (off < 3.5).all(), (estimates.mean(axis=0), off)
