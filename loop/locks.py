"""The locks of the lake's tables: files, which every process of the machine knows, and a kill lets go of them.

Who reads or writes shares a table; who removes files is alone with it.
"""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path


class TableLocks:
    """One lock a table, below one folder. A thread that has it enters again at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mine = threading.local()

    def shared(self, table: str) -> AbstractContextManager[None]:
        """Within, no file of the table is removed."""
        return self._held(table, fcntl.LOCK_SH)

    def alone(self, table: str) -> AbstractContextManager[None]:
        """Within, nobody else reads or writes the table.

        Raises:
            AssertionError: the thread shares it: it would wait for itself, or not be alone.
        """
        return self._held(table, fcntl.LOCK_EX)

    @contextmanager
    def _held(self, table: str, kind: int) -> Iterator[None]:
        mine: dict[str, int] = self._mine.__dict__.setdefault("tables", {})
        if table in mine:
            assert kind in {fcntl.LOCK_SH, mine[table]}, f"{table}: alone is wanted within what others share"
            yield
            return
        with self._entered(table, kind):
            mine[table] = kind
            try:
                yield
            finally:
                del mine[table]

    @contextmanager
    def _entered(self, table: str, kind: int) -> Iterator[None]:
        """The lock itself.

        Everybody passes a gate, which whoever wants to be alone keeps shut until the others are gone: else readers that
        overlap could keep them waiting for ever.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{table}.gate").open("w") as gate, (self.folder / table).open("w") as handle:
            fcntl.flock(gate, kind)
            fcntl.flock(handle, kind)
            fcntl.flock(gate, fcntl.LOCK_UN)
            yield
