"""Tiny models for the tests of training."""

from __future__ import annotations

from pathlib import Path

import pytest
from label_rows import COLOURS, SHAPE, THINGS, ask

from loop.models import Model
from loop.train import nano


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A nano model of one layer that paints everything in every colour."""
    pairs = [(ask(f"paint the {thing}"), f"{colour} paint") for thing in THINGS for colour in COLOURS]
    out = tmp_path_factory.mktemp("base") / "base"
    nano.build(pairs, out, seed=0, steps=60, batch_size=12, learning_rate=1e-2, shape=SHAPE)
    return out


@pytest.fixture(scope="session")
def foreign(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network as somebody else's model: not nano, so that it is trained by LoRA."""
    model = Model.load(base)
    del model.network.config.loop_model
    return model.save(tmp_path_factory.mktemp("foreign") / "model")
