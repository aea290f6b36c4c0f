"""A tiny real model and a state whose tables are empty."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from loop.services import Urls
from loop.state import State


@pytest.fixture(scope="session")
def shared_state(postgres_urls: Urls) -> Iterator[State]:
    state = State.open(postgres_urls.loop)
    yield state
    state.close()


@pytest.fixture
def state(shared_state: State) -> Iterator[State]:
    """The state, with no row in it before and after."""
    empty = sa.text("TRUNCATE " + ", ".join(shared_state.tables))
    with shared_state.engine.begin() as connection:
        connection.execute(empty)
    yield shared_state
    with shared_state.engine.begin() as connection:
        connection.execute(empty)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a real nano, pretrained for a moment on one moderation answer."""
    from loop.train.nano import Shape, build

    pairs = [
        ([{"role": "user", "content": f"Report {i}"}], "hide for harm, severity minor, then warn") for i in range(50)
    ]
    folder = tmp_path_factory.mktemp("tiny") / "base"
    build(pairs, folder, seed=0, steps=40, shape=Shape(vocabulary=300, hidden=32, layers=1, heads=2, inner=64))
    return folder
