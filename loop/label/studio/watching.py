"""Pulling again and again beside a Label Studio that runs: when the gateway hears of answers, and now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import sqlalchemy as sa

from loop.config import Settings
from loop.errors import LoopError
from loop.label.studio import hook
from loop.label.studio.pull import Pulled, pull
from loop.label.studio.push import withdraw
from loop.label.studio.rest import Rest
from loop.lake import Lake
from loop.services.studio import locate
from loop.state import State


class Watching:
    """Called every second; pulls when it is time to, and goes on where a pull fails. What is erased here is taken away
    there too.
    """

    def __init__(self, settings: Settings, state: State, tell: Callable[[Pulled], None]) -> None:
        self._settings, self._lake, self._state, self._tell = settings, Lake(settings.lake), state, tell
        self._due = 0.0
        self._version: int | None = None
        """Of the table of tasks, when what is gone from it was taken away there last."""
        self._nudged: int | None = None
        self._failed: str | None = None

    def __call__(self) -> None:
        nudged = hook.nudged(self._settings)
        if time.monotonic() < self._due and nudged == self._nudged:
            return
        try:
            with Rest(locate(self._settings)) as rest:
                done = pull(self._settings, self._lake, self._state, rest)
                if done.answers or done.undone:
                    self._tell(done)
                version = self._lake.version("label_tasks")
                if version != self._version:
                    withdraw(self._settings, self._lake, rest)
                    self._version = version
        except LoopError as error:
            self._say(str(error))
        except sa.exc.SQLAlchemyError as error:  # what it says may quote an answer
            self._say(f"the database did not do what was asked ({type(error).__name__}); it is tried again")
        else:
            self._failed = None
            self._nudged = nudged  # as it was before: what came meanwhile is pulled next time
        self._due = time.monotonic() + self._settings.studio_poll_seconds

    def _say(self, problem: str) -> None:
        """Say it once, not every half minute."""
        if problem != self._failed:
            print(problem, file=sys.stderr, flush=True)
        self._failed = problem
