"""Answers as arrays: who said what of which task, each person once a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def summed(place: Ints, values: npt.ArrayLike, size: int) -> Floats:
    """Sum of the values at each place, shape (size,)."""
    return np.bincount(place, np.asarray(values, dtype=np.float64), size).astype(np.float64, copy=False)


@dataclass(frozen=True)
class Answers:
    """Answers by code; at most one of a worker to a task."""

    workers: tuple[str, ...]
    tasks: tuple[str, ...]
    labels: tuple[str, ...]
    """What may be answered, in the order of the columns of a soft label."""
    worker: Ints
    """Shape (n,): place in `workers`."""
    task: Ints
    label: Ints

    def __len__(self) -> int:
        return len(self.worker)

    @property
    def votes(self) -> Floats:
        """Answers by task and label, shape (tasks, labels)."""
        shape = len(self.tasks), len(self.labels)
        flat = np.bincount(self.task * shape[1] + self.label, minlength=shape[0] * shape[1])
        return flat.reshape(shape).astype(np.float64)

    def where(self, chosen: npt.NDArray[np.bool_]) -> Self:
        """Some of the answers; the codes stay."""
        picked = self.worker[chosen], self.task[chosen], self.label[chosen]
        return type(self)(self.workers, self.tasks, self.labels, *picked)

    def of_tasks(self, tasks: Ints) -> Self:
        """The answers to some tasks, which alone are then its tasks; the workers' codes stay."""
        place = np.full(len(self.tasks), -1)
        place[tasks] = np.arange(len(tasks))
        chosen = place[self.task] >= 0
        named = tuple(self.tasks[i] for i in tasks)
        return type(self)(
            self.workers, named, self.labels, self.worker[chosen], place[self.task[chosen]], self.label[chosen]
        )


def expected(answers: Answers, believed: Floats) -> Floats:
    """Expected answers by worker, truth and what was said, shape (workers, labels, labels).

    Args:
        believed: of each answer, what its task's truth is taken for, shape (answers, labels).
    """
    k, people = len(answers.labels), len(answers.workers)
    place = answers.worker * k + answers.label
    told = [summed(place, believed[:, truth], people * k).reshape(people, k) for truth in range(k)]
    return np.stack(told, axis=1)


@dataclass(frozen=True)
class Sorted:
    """Answers and what of the given does not stand: `len(answers) + repeated + contradicted` is all."""

    answers: Answers
    kept: Ints
    """Places among the given, shape (len(answers),), in their order."""
    repeated: int
    """The same answer of the same worker to the same task again: the first stands."""
    contradicted: int
    """Another answer of the same worker to the same task: the last counts, as in the table of annotations."""
    changed: tuple[tuple[str, str], ...]
    """Worker and task of each contradiction."""

    @property
    def duplicates(self) -> int:
        return self.repeated + self.contradicted


def sort(
    worker: Sequence[Any], task: Sequence[Any], label: Sequence[Any], labels: Sequence[str] | None = None
) -> Sorted:
    """Answers of parallel columns, in the order in which they were given.

    Args:
        worker: names; so `task` and `label`.
        labels: what may be answered; by default what was, in the order of the alphabet.

    Raises:
        AssertionError: the columns differ in length, or a label is none of `labels`.
    """
    assert len(worker) == len(task) == len(label), "columns of one length"
    workers, w = _codes(worker)
    tasks, t = _codes(task)
    named, code = _codes(label)
    options = tuple(sorted(named)) if labels is None else tuple(labels)
    place = {name: i for i, name in enumerate(options)}
    assert set(named) <= set(options), f"a label that is none of {options}"
    said = np.array([place[name] for name in named], dtype=np.int64)[code] if len(code) else code
    pair = w * max(1, len(tasks)) + t
    # The last answer of each pair counts; where the one before said the same, its place is the earlier's.
    order = np.argsort(pair, kind="stable")
    begins = np.ones(len(order), dtype=bool)
    begins[1:] = pair[order][1:] != pair[order][:-1]
    differs = ~begins
    differs[1:] &= said[order][1:] != said[order][:-1]
    group = np.cumsum(begins) - 1
    ends = np.flatnonzero(np.append(begins[1:], True)) if len(order) else np.empty(0, dtype=np.int64)
    last_new = np.zeros(len(ends), dtype=np.int64)
    np.maximum.at(last_new, group, np.where(begins | differs, np.arange(len(order)), 0))
    kept = np.sort(order[last_new])
    clashing = np.flatnonzero(differs)
    changed = {(workers[w[order[i]]], tasks[t[order[i]]]) for i in clashing}
    answers = Answers(workers, tasks, options, w[kept], t[kept], said[kept])
    contradicted = len(clashing)
    repeated = len(worker) - len(kept) - contradicted
    return Sorted(answers, kept, repeated, contradicted, tuple(sorted(changed)))


def _codes(names: Sequence[Any]) -> tuple[tuple[str, ...], Ints]:
    """Names once each, in the order of their first appearance, and the place of each."""
    place: dict[str, int] = {}
    code = np.fromiter((place.setdefault(name, len(place)) for name in names), dtype=np.int64, count=len(names))
    return tuple(place), code
