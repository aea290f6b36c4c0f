"""One open home: its settings, its lake and its state. What assets and commands hand to the stages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loop.config import Settings
from loop.lake import Lake
from loop.release.registry import Registry
from loop.services import artifacts, session
from loop.state import State


@dataclass(frozen=True)
class Home:
    """Everything that a stage may touch."""

    settings: Settings
    lake: Lake
    state: State
    registry: Registry

    def path(self, below: str) -> Path:
        """A path that a table keeps relative to the home."""
        return self.settings.home / below

    def relative(self, path: Path) -> str:
        return str(path.relative_to(self.settings.home))


@contextmanager
def open_home(settings: Settings) -> Iterator[Home]:
    """Start what is needed (Postgres, if it is ours and not running), open the state, and stop what was started."""
    with session(settings) as urls:
        state = State.open(urls.loop)
        try:
            yield Home(settings, Lake(settings.lake), state, Registry(urls.mlflow, artifacts(settings)))
        finally:
            state.close()
