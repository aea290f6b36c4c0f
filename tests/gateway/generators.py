"""Helpers: a home with two tiny models, a real generator that serves them, and any application on a real socket."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from shutil import copytree

import pytest
import uvicorn

from loop.config import Settings
from loop.evaluate.gate import Decision, Verdict
from loop.gateway.batching import Batcher
from loop.gateway.generator import Generator
from loop.home import Home
from loop.release import releases
from loop.release.arms import Follower
from loop.release.releases import ModelVersion
from loop.services import locate
from loop.weights import weights_digest

COLOURS = ("red", "green", "blue", "black")
THINGS = ("door", "wall", "old roof")
READY_S = 30.0
"""How long a generator is given to load a model."""


def ask_for(thing: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"paint the {thing}"}]


def tiny_models(factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two versions, made once: m0, unsure of a few colours, and m1, the same but less sure of all."""
    import torch

    from loop.models import Model
    from loop.train import nano

    folder = factory.getbasetemp() / "painters"
    models = {version: folder / version for version in ("m0", "m1")}
    if folder.exists():
        return models
    pairs = [(ask_for(thing), f"{colour} paint") for thing in THINGS for colour in COLOURS]
    shape = nano.Shape(300, 32, 1, 2, 64)
    nano.build(pairs, folder / "m0", seed=0, steps=60, batch_size=12, learning_rate=1e-2, shape=shape)
    other = Model.load(folder / "m0")
    with torch.no_grad():
        other.network.model.norm.weight.mul_(0.6)
    other.save(folder / "m1")
    return models


def make_version(home: Home, version: str, source: Path) -> None:
    """A model version with files and a row."""
    path = home.settings.models / version
    copytree(source, path)
    releases.record_model(
        home.state,
        ModelVersion(
            version=version,
            parent=None,
            cycle=date(2026, 3, 1),
            training_digest=None,
            recipe="{}",
            seed=0,
            code="0",
            weights_digest=weights_digest(path),
            path=home.relative(path),
            mlflow_run=None,
            created_at=datetime(2026, 3, 1, tzinfo=UTC),
        ),
    )


def stock(home: Home, factory: pytest.TempPathFactory) -> Home:
    """The home, with the models m0, which is the base, and m1."""
    for version, source in tiny_models(factory).items():
        make_version(home, version, source)
    releases.record_base(home.state, "m0", cycle=date(2026, 3, 1), author="test", run_id=None)
    return home


def promote(home: Home, day: int, challenger: str, against: str) -> None:
    release = releases.record_release(
        home.state,
        Verdict(Decision.PROMOTED, ("because",)),
        cycle=date(2026, 3, day),
        challenger=challenger,
        champion_before=against,
        evidence="{}",
        author="gate",
        run_id=None,
    )
    assert release.live


@dataclass(frozen=True)
class Running:
    """A generator in this process."""

    address: str
    follower: Follower
    batcher: Batcher


@contextmanager
def generating(settings: Settings, database: Callable[[], str] | None = None) -> Iterator[Running]:
    """A generator on a real socket, once it has a model."""
    follower = Follower(settings, database or (lambda: locate(settings).loop))
    batcher = Batcher(lambda: follower.arms, shuffle=settings.shuffle)
    app = Generator(follower, batcher, settings.secret("gateway"))
    with serving(app) as address:
        follower.start()
        batcher.start()
        try:
            until = time.monotonic() + READY_S
            while follower.arms is None and time.monotonic() < until:
                time.sleep(0.02)
            yield Running(address, follower, batcher)
        finally:
            batcher.close()
            follower.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def serving(app: object) -> Iterator[str]:
    """An ASGI application on a real socket, in a thread; its address."""
    port = free_port()
    config = uvicorn.Config(app, port=port, lifespan="off", log_level="warning", ws="none")  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        until = time.monotonic() + 20
        while not server.started and time.monotonic() < until:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=20)
