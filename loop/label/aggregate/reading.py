"""Answers from a file, a row each: CSV with a header or without, or JSON lines. What cannot be read is told and why."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from loop.errors import BadInputError
from loop.label.aggregate.answers import Answers, Floats, Ints, sort

NEEDED: Final = ("worker", "task", "label")
PLAIN: Final = (*NEEDED, "gold", "seconds")
"""Columns of a file without a header, of which the last two may be missing."""


@dataclass(frozen=True)
class Problem:
    """A row that is no answer."""

    line: int
    reason: str


@dataclass
class Rows:
    """What a file holds: `rows == len(worker) + len(problems)`; lines without anything on them are no rows."""

    worker: list[str] = field(default_factory=list)
    task: list[str] = field(default_factory=list)
    label: list[str] = field(default_factory=list)
    gold: list[str | None] = field(default_factory=list)
    seconds: list[float | None] = field(default_factory=list)
    extra: list[dict[str, str]] = field(default_factory=list)
    """Further columns, by name; empty where there are none at all."""
    line: list[int] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    rows: int = 0
    has_gold: bool = False

    def add(self, line: int, given: dict[str, str | None]) -> None:
        """One row: an answer, or a problem."""
        self.rows += 1
        if problem := _problem(given):
            self.problems.append(Problem(line, problem))
            return
        self.worker.append(_plain(given["worker"]))
        self.task.append(_plain(given["task"]))
        self.label.append(_plain(given["label"]))
        self.gold.append(_plain(given.get("gold")) or None)
        took = _plain(given.get("seconds"))
        self.seconds.append(float(took) if took else None)
        self.extra.append({name: _plain(value) for name, value in given.items() if name not in PLAIN})
        self.line.append(line)

    def refuse(self, line: int, reason: str) -> None:
        self.rows += 1
        self.problems.append(Problem(line, reason))

    @property
    def reasons(self) -> Counter[str]:
        """Rows that are no answers, by reason without its particulars."""
        return Counter(problem.reason.split(":")[0] for problem in self.problems)

    def golds(self) -> tuple[dict[str, str], int]:
        """The known answer by task, and how many tasks have two, which then have none."""
        found: dict[str, set[str]] = {}
        for task, gold in zip(self.task, self.gold, strict=True):
            if gold is not None:
                found.setdefault(task, set()).add(gold)
        return {task: next(iter(known)) for task, known in found.items() if len(known) == 1}, sum(
            len(known) > 1 for known in found.values()
        )

    def took(self, kept: Any) -> Floats:
        """Seconds of some rows, nan where they are not known."""
        took: Floats = np.array([np.nan if s is None else s for s in self.seconds], dtype=np.float64)[kept]
        return took

    def labels(self) -> list[str]:
        """What was answered, once each and in order. Not what is known to be right: gold makes no label."""
        return in_order(self.label)

    def gold_of(self, answers: Answers) -> Ints:
        """The known answer of each task as a place among the labels: -1 where it is not known, and behind the last
        label where it is one that nobody gave, so that every answer to it is wrong.
        """
        known, place = self.golds()[0], {label: i for i, label in enumerate(answers.labels)}
        told = [place.get(known[task], len(place)) if task in known else -1 for task in answers.tasks]
        return np.array(told, dtype=np.int64)


def are_numbers(labels: Iterable[str]) -> bool:
    """Whether every label is a finite number."""
    try:
        return all(math.isfinite(float(label)) for label in labels)
    except ValueError:
        return False


def in_order(labels: Iterable[str]) -> list[str]:
    """Labels once each: by value where all are numbers ("2" before "10"), else in the order of the alphabet."""
    once = sorted(set(labels))
    return sorted(once, key=float) if are_numbers(once) else once


def read(path: Path) -> Rows:
    """The rows of a file.

    The columns are `worker, task, label[, gold][, seconds]`; a file that does not name them has them in this order.
    With a header, further columns are kept by name.

    Raises:
        BadInputError: there is no such file, it is empty, or its header lacks a column.
    """
    try:
        whole = path.read_bytes()
    except OSError as error:
        raise BadInputError(f"{path}: expected a file of answers, got none: {error.strerror}") from None
    if whole.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadInputError(f"{path}: expected UTF-8, got UTF-16; save it as UTF-8")
    lines = [(i, line) for i, line in enumerate(whole.removeprefix(b"\xef\xbb\xbf").splitlines(), 1) if line.strip()]
    if not lines:
        raise BadInputError(f"{path}: expected at least one answer, got an empty file")
    rows = Rows()
    of = _json if lines[0][1].lstrip().startswith(b"{") else _csv
    of(path, lines, rows)
    rows.has_gold = any(gold is not None for gold in rows.gold)
    assert rows.rows == len(rows.worker) + len(rows.problems), "a row was lost"
    if not rows.worker:
        first = f"; line {rows.problems[0].line}: {rows.problems[0].reason}" if rows.problems else ""
        raise BadInputError(f"{path}: expected at least one answer, got {rows.rows} rows that are none{first}")
    return rows


def answers_of(rows: Rows) -> tuple[Answers, Any, Any]:
    """Answers, what was sorted out of the rows (see `answers.sort`), and gold by task (see `gold_of`)."""
    found = sort(rows.worker, rows.task, rows.label, rows.labels())
    return found.answers, found, rows.gold_of(found.answers)


def _csv(path: Path, lines: list[tuple[int, bytes]], rows: Rows) -> None:
    cells = _cells(lines)
    line, first = next(cells)
    if isinstance(first, str):
        raise BadInputError(f"{path}: line {line}: {first}")
    names = [cell.strip().lower() for cell in first]
    if set(NEEDED) & set(names):
        if missing := [name for name in NEEDED if name not in names]:
            raise BadInputError(f"{path}: expected the columns {', '.join(NEEDED)}, got none called {missing[0]}")
    elif len(NEEDED) <= len(first) <= len(PLAIN):
        names = list(PLAIN[: len(first)])
        rows.add(line, dict(zip(names, first, strict=True)))
    else:
        raise BadInputError(
            f"{path}: expected {len(NEEDED)} to {len(PLAIN)} columns ({', '.join(PLAIN)}) or a header that names them, "
            f"got {len(first)}"
        )
    for line, cell in cells:
        if isinstance(cell, str):
            rows.refuse(line, cell)
        elif len(cell) != len(names):
            rows.refuse(line, f"number of columns: expected {len(names)}, got {len(cell)}")
        else:
            rows.add(line, dict(zip(names, cell, strict=True)))


def _cells(lines: list[tuple[int, bytes]]) -> Iterator[tuple[int, list[str] | str]]:
    """The cells of each line, or why it has none. Each is read by itself: a stray quote breaks one row alone."""
    for number, line in lines:
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            yield number, f"not UTF-8: byte {error.start} is {line[error.start]:#04x}"
            continue
        if '"' not in text:
            yield number, text.split(",")
            continue
        try:
            yield number, next(csv.reader((text,), strict=True))
        except csv.Error as error:
            yield number, f"broken quotes: {error}"


def _json(path: Path, lines: list[tuple[int, bytes]], rows: Rows) -> None:
    for number, line in lines:
        try:
            given = json.loads(line)
        except UnicodeDecodeError as error:
            rows.refuse(number, f"not UTF-8: byte {error.start}")
            continue
        except ValueError as error:
            rows.refuse(number, f"no JSON: {error}")
            continue
        if not isinstance(given, dict):
            rows.refuse(number, f"no object: got a {type(given).__name__}")
            continue
        rows.add(number, {name: None if value is None else text_of(value) for name, value in given.items()})


def text_of(value: Any) -> str:
    """A text, or the JSON of what is none."""
    return value if isinstance(value, str) else json.dumps(value)


def _plain(value: str | None) -> str:
    return (value or "").strip()


def _problem(given: dict[str, str | None]) -> str | None:
    for name in NEEDED:
        if not _plain(given.get(name)):
            return f"no {name}"
    if took := _plain(given.get("seconds")):
        try:
            good = 0 <= float(took) < float("inf")
        except ValueError:
            good = False
        if not good:
            return f"seconds: expected a number from 0, got {took!r}"
    return None
