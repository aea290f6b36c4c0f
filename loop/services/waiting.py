"""What a person sees who waits for services to be installed or started."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

Say = Callable[[str], None]
Step = Callable[[str], contextlib.AbstractContextManager[Say]]

SILENCE = 10.0
"""Seconds after which a step says how far it is, where there is no terminal."""


@contextlib.contextmanager
def steps() -> Iterator[Step]:
    """Shows what is waited for, on stderr: a spinner on a terminal, else a line when it is done."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(finished_text="[green]✓"), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:

        @contextlib.contextmanager
        def step(title: str) -> Iterator[Say]:
            task, began = progress.add_task(title, total=1), time.monotonic()
            told = began

            def say(what: str) -> None:
                nonlocal told
                progress.update(task, description=f"{title}: {what}")
                if not console.is_terminal and time.monotonic() - told > SILENCE:
                    told = time.monotonic()
                    print(f"{title}: {what}", file=sys.stderr, flush=True)

            yield say
            progress.update(task, completed=1, description=title)
            if not console.is_terminal:
                print(f"{title} ready after {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)

        yield step
