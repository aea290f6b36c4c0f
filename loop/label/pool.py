"""The open tasks of a home in memory, kept up with the lake and the database at a cost that history does not raise.

A task leaves the pool when it has its answers and its partition is read anew on a later day, or when it leaves the
lake. Texts stay in Arrow and become Python's when a person is shown them.
"""

from __future__ import annotations

import heapq
import random
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from loop.label import gold
from loop.label.annotations import FUNCTION, standing
from loop.label.gold import Gold
from loop.lake import Lake
from loop.state import State

_LIGHT: Final = (
    "label_task_id",
    "day",
    "workflow",
    "kind",
    "options",
    "wanted",
    "harm",
    "due_at",
    "selected_at",
)
"""Columns that are Python's for every task of the pool."""
_PIECE: Final = 5_000
_TEXTS: Final = postgresql.ARRAY(sa.Text())
_NEVER: Final = datetime.max.replace(tzinfo=UTC)
Partition = tuple[date, str]
Rank = tuple[datetime, int, float]
"""When it is due, how far from begun, and a draw."""


@dataclass(frozen=True)
class Task:
    """One open task: what the queue goes by, and where its texts are."""

    label_task_id: str
    day: date
    workflow: str
    kind: str
    options: tuple[str, ...]
    wanted: int
    harm: str | None
    due_at: datetime | None
    selected_at: datetime
    rows: pa.Table = field(repr=False, compare=False)
    at: int = field(repr=False, compare=False)

    @property
    def row(self) -> pa.Table:
        """The row of `label_tasks`, as a table."""
        return self.rows.slice(self.at, 1)

    @property
    def content(self) -> dict[str, Any]:
        """The row of `label_tasks`."""
        return dict(self.row.to_pylist()[0])


class Pool:
    """Everything that may still be asked. Reading is safe while one thread refreshes."""

    def __init__(self, lake: Lake, state: State) -> None:
        self.lake, self.state = lake, state
        self.oldest = datetime.now(UTC)
        """When the oldest of the open tasks was chosen: no answer to one of them is older."""
        self._tasks: dict[str, Task] = {}
        self._of: dict[tuple[str, str, bool], list[tuple[Rank, Task]]] = {}
        self._parts: dict[Partition, list[Task]] = {}
        self._answers: dict[str, int] = {}
        self._gold: dict[str, Gold] = {}
        self._files: dict[Partition, frozenset[str]] = {}
        self._version: int | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._tasks)

    def of(self, workflows: Sequence[str], kinds: Sequence[str], *, harmful: bool) -> Iterator[Task]:
        """The tasks of these workflows and kinds: those due first, then those begun, then at random."""
        made = self._of
        lists = [
            made[key]
            for workflow in workflows
            for kind in kinds
            for key in ((workflow, kind, False), (workflow, kind, True))
            if key in made and (harmful or not key[2])
        ]
        return (task for _, task in heapq.merge(*lists, key=_rank))

    def size(self, workflows: Sequence[str], kinds: Sequence[str], *, harmful: bool) -> int:
        """How many these are."""
        made = self._of
        return sum(
            len(there)
            for (workflow, kind, harm), there in made.items()
            if workflow in workflows and kind in kinds and (harmful or not harm)
        )

    def has(self, task: Task) -> bool:
        """Whether the task is there: one that was erased is shown to nobody from then on."""
        return task.label_task_id in self._tasks

    def hidden(self) -> list[Task]:
        """The tasks whose answer is known and that are put among the others."""
        tasks, known = self._tasks, self._gold
        return [tasks[key] for key, one in known.items() if one.hidden and key in tasks]

    def answered(self, label_task_id: str) -> int:
        """Answers that stand and count."""
        return self._answers.get(label_task_id, 0)

    def count(self, label_task_id: str, change: int) -> None:
        """So many answers more, of one that was just stored."""
        with self._lock:
            self._answers[label_task_id] = max(0, self._answers.get(label_task_id, 0) + change)

    def keep(self, task: Task) -> None:
        """A task that may have left because it had its answers has one less."""
        with self._lock:
            self._tasks.setdefault(task.label_task_id, task)

    def find(self, label_task_id: str, day: date, workflow: str) -> Task | None:
        """A task, also one that has left because it has its answers; None if the lake has it no more."""
        if (task := self._tasks.get(label_task_id)) is not None:
            return task
        rows = self._rows((day, workflow))
        found = rows.filter(pc.equal(rows["label_task_id"], label_task_id))
        return _tasks(found)[0] if found.num_rows else None

    # -- keeping up -------------------------------------------------------------------------------------------------

    def refresh(self, *, counts: bool = True) -> bool:
        """Read what changed in the lake, what is known to be right and what was answered; whether the lake changed.

        An answer that is stored by the page while the counts are read may be missing in them until the next time: then
        one person more is asked, and nothing is lost.

        Args:
            counts: whether answers that came another way than over this page are counted anew.
        """
        with self.state.engine.connect() as connection:
            known = gold.latest(connection, self.state)
        parts, files, version, changed = self._changed(known)
        answers = dict(self._answers)
        for part in sorted(changed):
            rows = self._rows(part)
            ids = rows["label_task_id"].to_pylist()
            told = standing_of(self.state, ids)
            wanted = rows["wanted"].to_pylist()
            kept = known.keys() | self._today(ids)
            open_ = [told.get(key, 0) < of or key in kept for key, of in zip(ids, wanted, strict=True)]
            parts[part] = _tasks(rows.filter(pa.array(open_, pa.bool_())))
            answers |= told
        tasks = {task.label_task_id: task for part in parts.values() for task in part}
        if counts:
            answers = standing_of(self.state, list(tasks))
        of: dict[tuple[str, str, bool], list[tuple[Rank, Task]]] = defaultdict(list)
        for task in tasks.values():
            if answers.get(task.label_task_id, 0) >= task.wanted:
                continue
            rank = task.due_at or _NEVER, -answers.get(task.label_task_id, 0), random.random()  # noqa: S311
            of[task.workflow, task.kind, task.harm is not None].append((rank, task))
        for there in of.values():
            there.sort(key=_rank)
        with self._lock:
            self._tasks, self._of, self._parts, self._gold, self._answers = tasks, dict(of), parts, known, answers
            self._files, self._version = files, version
            self.oldest = min((task.selected_at for task in tasks.values()), default=datetime.now(UTC))
        return bool(changed)

    def _changed(
        self, known: Mapping[str, Gold]
    ) -> tuple[dict[Partition, list[Task]], dict[Partition, frozenset[str]], int | None, set[Partition]]:
        """What is kept of the parts, the files of now, their version, and the partitions that must be read."""
        version = self.lake.version("label_tasks")
        files = self._files if version == self._version else _by_partition(self.lake.files("label_tasks"))
        changed = {part for part, there in files.items() if there != self._files.get(part)}
        if left := known.keys() - self._gold.keys() - self._tasks.keys():  # they are asked again, as known ones
            changed |= self._holding(left)
        return {p: t for p, t in self._parts.items() if p in files and p not in changed}, files, version, changed

    def _holding(self, ids: Iterable[str]) -> set[Partition]:
        """The partitions of tasks, by the ids of all: a tenth of what reading every one of them takes."""
        rows = self.lake.read("label_tasks", columns=["label_task_id", "day", "workflow"])
        found = rows.filter(pc.is_in(rows["label_task_id"], pa.array(sorted(ids), pa.string())))
        return set(zip(found["day"].to_pylist(), found["workflow"].to_pylist(), strict=True))

    def _rows(self, part: Partition) -> pa.Table:
        columns = [*_LIGHT, "prompt", "texts", "images"]
        rows = self.lake.read("label_tasks", days=(part[0], part[0]), workflows=[part[1]], columns=columns)
        return rows.combine_chunks()

    def _today(self, ids: Sequence[str]) -> set[str]:
        """Those that somebody answered, skipped or undid today: their people's desks are made of them."""
        said, now = self.state.tables["annotations"], datetime.now(UTC)
        midnight = datetime(now.year, now.month, now.day, tzinfo=UTC)
        query = (
            sa.select(said.c.label_task_id)
            .where(said.c.label_task_id == sa.any_(sa.cast(list(ids), _TEXTS)), said.c.answered_at >= midnight)
            .distinct()
        )
        with self.state.engine.connect() as connection:
            return set(connection.execute(query).scalars())


def standing_of(state: State, ids: Sequence[str]) -> dict[str, int]:
    """How many answers of people stand and count, by task; those of labelling functions are none of theirs."""
    said = state.tables["annotations"]
    found: dict[str, int] = {}
    for start in range(0, len(ids), _PIECE):
        asked = said.c.label_task_id == sa.any_(sa.cast(list(ids[start : start + _PIECE]), _TEXTS))
        stands = standing(said, asked, said.c.source != FUNCTION)
        query = sa.select(stands.c.label_task_id, sa.func.count()).group_by(stands.c.label_task_id)
        with state.engine.connect() as connection:
            found |= {key: int(count) for key, count in connection.execute(query)}
    return found


def _rank(ranked: tuple[Rank, Task]) -> Rank:
    return ranked[0]


def _tasks(rows: pa.Table) -> list[Task]:
    rows = rows.combine_chunks()
    light = rows.select(list(_LIGHT)).to_pylist()
    return [Task(**row | {"options": tuple(row["options"])}, rows=rows, at=at) for at, row in enumerate(light)]


def _by_partition(files: Sequence[str]) -> dict[Partition, frozenset[str]]:
    """Files of the table by their folders `day=2026-01-05/workflow=ads`."""
    found: dict[Partition, set[str]] = defaultdict(set)
    for file in files:
        of = dict(part.split("=", 1) for part in Path(file).parts if "=" in part)
        found[date.fromisoformat(of["day"]), of["workflow"]].add(file)
    return {part: frozenset(there) for part, there in found.items()}
