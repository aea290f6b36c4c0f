"""Where outside data comes from: one file per format. A source turns its format into events and knows no storage."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from loop.collect.imported import Imported
from loop.collect.landing import Contract, land
from loop.collect.record import Progress, Source
from loop.collect.sources import coauthor, cups, jsonl, langfuse, mlflow_traces, otel
from loop.collect.sources.verdicts import Reading
from loop.config import Settings
from loop.errors import BadInputError
from loop.lake import Lake
from loop.state import State

NAMES: Final = ("jsonl", "coauthor", "cups", "otel", "langfuse", "mlflow")
TRACES: Final = ("otel", "langfuse", "mlflow")
"""Formats of traces with feedback, which may have to be told their workflow and what their scores mean."""


def read(  # noqa: PLR0913 - what is brought, where to, and by which rules
    name: str,
    path: Path,
    settings: Settings,
    lake: Lake,
    state: State,
    *,
    contract: Contract,
    sessions: Path | None = None,
    reading: Reading | None = None,
    progress: Progress | None = None,
    now: datetime | None = None,
) -> Imported:
    """Read outside data of the named format into the landing area; see `landing.land`.

    Raises:
        BadInputError: there is no such format, or the path does not hold it; nothing became visible.
    """
    reading = replace(reading or Reading(), key=settings.secret("pseudonym"))
    source = opened(name, path, sessions=sessions, reading=reading, progress=progress)
    done = land(settings, lake, state, source=name, name=path.name, records=source.records, contract=contract, now=now)
    tally = source.tally
    return replace(
        done,
        writer_known=source.writer_known and not tally.writers_unknown,
        unrated=tally.unrated,
        skipped=dict(tally.skipped.most_common()),
    )


def opened(
    name: str,
    path: Path,
    *,
    sessions: Path | None = None,
    reading: Reading | None = None,
    progress: Progress | None = None,
) -> Source:
    """Outside data of the named format, its records not yet drawn."""
    match name:
        case "jsonl":
            return jsonl.read(path, progress=progress)
        case "coauthor":
            return coauthor.read(path, sessions=sessions, progress=progress)
        case "cups":
            return cups.read(path, progress=progress)
        case "otel":
            return otel.read(path, reading=reading, progress=progress)
        case "langfuse":
            return langfuse.read(path, reading=reading, progress=progress)
        case "mlflow":
            return mlflow_traces.read(path, reading=reading, progress=progress)
        case _:
            raise BadInputError(f"expected a source among {', '.join(NAMES)}, got {name!r}")
