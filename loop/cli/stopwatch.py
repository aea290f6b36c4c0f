"""Where the time of a command goes: every moment of the process belongs to exactly one stage."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Final

BEGAN: Final = time.perf_counter()
"""When the command's first module was imported, a few hundredths of a second after the process began."""


class Stopwatch:
    """Wall and CPU seconds by stage. They add up to the total: a stage inside another is taken out of it.

    CPU is that of this process from its start, and of the children that it has waited for: the first-time migrations,
    and the database's server, whose CPU counts when it stops.

    >>> watch = Stopwatch()
    >>> with watch.stage("bake"), watch.stage("knead"):
    ...     pass
    >>> list(watch.told())
    ['start-up', 'bake', 'knead', 'rest', 'total']
    """

    def __init__(self) -> None:
        self._spent = {"start-up": (0.0, 0.0)}
        self._stage, self._at = "start-up", (BEGAN, 0.0)
        self.switch("rest")

    def switch(self, stage: str) -> None:
        """The time from now on belongs to this stage, until the `with` around it ends."""
        now = (time.perf_counter(), sum(os.times()[:4]))
        wall, cpu = self._spent[self._stage]
        self._spent[self._stage] = (wall + now[0] - self._at[0], cpu + now[1] - self._at[1])
        self._spent.setdefault(stage, (0.0, 0.0))
        self._stage, self._at = stage, now

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        outer = self._stage
        self.switch(name)
        try:
            yield
        finally:
            self.switch(outer)

    def told(self) -> dict[str, dict[str, float]]:
        """Seconds by stage in the order of their beginning, then the `rest` that belongs to none, and the `total`."""
        self.switch(self._stage)
        stages = {name: spent for name, spent in self._spent.items() if name != "rest"}
        told = stages | {"rest": self._spent["rest"], "total": (self._at[0] - BEGAN, self._at[1])}
        return {name: {"wall": round(wall, 2), "cpu": round(cpu, 2)} for name, (wall, cpu) in told.items()}
