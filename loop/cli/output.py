"""What a person or a program sees: one JSON object on stdout, or a table; progress and logs on stderr."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any, Protocol

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

Json = typer.Option(False, "--json", help="One JSON object on stdout.")

stdout = Console()
stderr = Console(stderr=True)


def emit_json(result: Mapping[str, Any]) -> None:
    """Print the one JSON object. Floats that are not numbers become null: JSON has none."""
    print(json.dumps(_finite(result), default=_plain, ensure_ascii=False, allow_nan=False))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table; what is not measured shows as a dash."""
    shown = Table(title=title, title_justify="left", title_style="bold")
    rows = [list(row) for row in rows]
    for i, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[i], int | float) or row[i] is None for row in rows)
        shown.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(_cell(value) for value in row))
    stdout.print(shown)


class Step(Protocol):
    """Called with how much is done, and of how much if that is known by now."""

    def __call__(self, done: int, total: int | None = None, what: str | None = None) -> None: ...


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Step]:
    """A progress bar on stderr when on a terminal; nothing otherwise."""
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=stderr,
        disable=not stderr.is_terminal,
        transient=True,
    ) as bar:
        task = bar.add_task(what, total=total)

        def step(done: int, total: int | None = None, what: str | None = None) -> None:
            if total is not None:
                bar.update(task, total=total)
            bar.update(task, completed=done, description=what)

        yield step


def _cell(value: Any) -> str:
    match value:
        case None:
            return "-"
        case float():
            return f"{value:.3f}"
        case list() | tuple():
            return "; ".join(str(v) for v in value)
        case _:
            return str(value)


def _plain(value: Any) -> Any:
    match value:
        case datetime() | date():
            return value.isoformat()
        case set() | frozenset() | tuple():
            return list(value)
        case bytes():
            return value.hex()
        case _:
            return str(value)


def _finite(value: Any) -> Any:
    match value:
        case float() if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124 - not a number
            return None
        case dict():
            return {key: _finite(item) for key, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
        case _:
            return value
