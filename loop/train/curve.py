"""What a training run reports, and which rows it trains on in which order. No method, and nothing heavy, is here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Outcome(StrEnum):
    """How a training run ended."""

    TRAINED = "trained"
    NO_ROWS = "no rows"
    """There was nothing to train on: the model is its parent, unchanged."""
    NO_WEIGHT = "no weight"
    """Every row had weight 0: unchanged."""
    NO_STEPS = "no steps"
    """No step was asked for: unchanged."""

    @classmethod
    def of(cls, weights: NDArray[Any], steps: int) -> Outcome:
        """What comes of training on rows of these weights for that many steps."""
        if not len(weights):
            return cls.NO_ROWS
        if not (weights > 0).any():
            return cls.NO_WEIGHT
        return cls.TRAINED if steps > 0 else cls.NO_STEPS


@dataclass(frozen=True)
class Curve:
    """The course of one training run."""

    method: str
    """pretraining, sft or dpo."""
    outcome: Outcome
    rows: int
    """Rows given."""
    losses: tuple[float, ...] = ()
    """Training loss by step: nats a token (pretraining, sft) or nats a pair (dpo)."""
    metrics: Mapping[str, tuple[float, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """Other figures by step, under the trainer's names."""
    drawn: int = 0
    """Distinct rows that were trained on at least once."""
    tokens: int = 0
    """Tokens trained on, prompts included, padding not."""
    cut_texts: int = 0
    """Prompts and answers of the drawn rows that were too long."""
    cut_tokens: int = 0
    """Tokens cut from them."""
    seconds: float = 0.0
    """Wall time from loading the parent to the written model."""


def draw(weights: NDArray[Any], count: int, *, seed: int) -> NDArray[np.int64]:
    """`count` row numbers to train on, one after the other, each row as often as its weight asks for.

    Systematic sampling (Madow 1949): a row of weight w comes count * w / sum(weights) times, rounded up or down by
    chance so that the expectation is exact; a row of weight 0 never comes. The draws are then shuffled.
    """
    weight = np.asarray(weights, dtype=np.float64)
    assert np.isfinite(weight).all()
    assert (weight >= 0).all()
    assert weight.any()
    generator = np.random.default_rng(seed)
    candidates = generator.permutation(np.flatnonzero(weight))
    edges = np.cumsum(weight[candidates])
    marks = (np.arange(count) + generator.random()) * (edges[-1] / count)
    places = np.minimum(np.searchsorted(edges, marks, side="right"), len(candidates) - 1)
    return generator.permutation(candidates[places])
