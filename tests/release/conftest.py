"""A state whose tables are empty, a registry, and a tiny real model: each made once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from loop.release.registry import Registry
from loop.release.releases import ModelVersion, record_model
from loop.services import Urls
from loop.state import State

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def shared_state(postgres_urls: Urls) -> Iterator[State]:
    state = State.open(postgres_urls.loop)
    yield state
    state.close()


@pytest.fixture
def state(shared_state: State) -> Iterator[State]:
    """The state, with no row in it before and after."""
    empty = sa.text("TRUNCATE " + ", ".join(shared_state.tables))
    for moment in ("before", "after"):
        with shared_state.engine.begin() as connection:
            connection.execute(empty)
        if moment == "before":
            yield shared_state


@pytest.fixture
def model_row(state: State) -> Callable[..., ModelVersion]:
    """Make a row of `models`; its weights are not needed."""

    def make(
        version: str, *, path: str | None = None, weights_digest: str | None = None, parent: str | None = None
    ) -> ModelVersion:
        model = ModelVersion(
            version=version,
            parent=parent,
            cycle=date(2026, 3, 1),
            training_digest=None,
            recipe="{}",
            seed=0,
            code="0",
            weights_digest=weights_digest or f"weights of {version}",
            path=path or f"models/{version}",
            mlflow_run=None,
            created_at=NOON,
        )
        record_model(state, model)
        return model

    return make


@pytest.fixture(scope="session")
def registry(postgres_urls: Urls, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return Registry(postgres_urls.mlflow, tmp_path_factory.mktemp("artifacts"))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a real nano, pretrained for a moment on moderation answers."""
    from loop.train.nano import Shape, build
    from loop.workflows import WORKFLOWS

    workflow = WORKFLOWS["moderation"]
    pairs = [
        (
            [{"role": "user", "content": f"Report {i}: a post about {reason}"}],
            workflow.render({"decision": decision, "reason": reason, "severity": severity, "next": step}),
        )
        for i, (decision, reason, severity, step) in enumerate(
            zip(
                workflow.parts["decision"] * 20,
                workflow.parts["reason"] * 20,
                workflow.parts["severity"] * 20,
                workflow.parts["next"] * 20,
                strict=True,
            )
        )
    ]
    folder = tmp_path_factory.mktemp("tiny") / "base"
    build(pairs, folder, seed=0, steps=60, shape=Shape(vocabulary=320, hidden=32, layers=1, heads=2, inner=64))
    return folder
