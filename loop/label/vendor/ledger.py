"""What a home knows of a batch that is out: which task an item is, which are known, what was planned, what came back.

A file for each batch, for its owner alone; it holds ids and numbers, no text. It must not be given away: it tells the
known items from the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from loop.config import Settings
from loop.errors import BadInputError, LoopError
from loop.label.acceptance import Plan
from loop.services import processes


class Item(msgspec.Struct, frozen=True):
    """What stands behind an item of a batch."""

    label_task_id: str
    swapped: bool
    """Whether the task's second text is the item's first."""
    known: bool
    """Whether it measures."""


class Delivery(msgspec.Struct, frozen=True):
    """A file that came back. `rows == new + repeated + changed + unknown + late + broken + erased`."""

    number: int
    sha256: str
    received_at: datetime
    late: bool
    """Whether it came after the deadline: its answers are kept and do not count."""
    rows: int


class Verdict(msgspec.Struct, frozen=True):
    """What was decided of all that had come back by then, and why."""

    accepted: bool
    decided_at: datetime
    decided_by: str
    answers: int
    evidence: dict[str, Any]


class Batch(msgspec.Struct):
    """A batch that was exported."""

    batch_id: str
    vendor: str
    workflow: str
    kind: str
    exported_at: datetime
    due_at: datetime
    sha256: str
    """Digest of the tasks' file."""
    plan: Plan
    price: float | None
    """Of an answer that is accepted, in the currency of the settings."""
    items: dict[str, Item]
    deliveries: list[Delivery] = []
    verdicts: list[Verdict] = []
    """The last one holds."""


def save(settings: Settings, batch: Batch) -> None:
    """Write a batch in one step."""
    folder = _folder(settings)
    folder.mkdir(mode=0o700, exist_ok=True)
    processes.replace(folder / f"{batch.batch_id}.json", msgspec.json.encode(batch))


def load(settings: Settings, batch_id: str) -> Batch:
    """A batch of this home.

    Raises:
        BadInputError: there is none of that id.
        LoopError: its file is broken.
    """
    path = _folder(settings) / f"{batch_id}.json"
    if not re.fullmatch(r"b[0-9a-f]{12}", batch_id) or not path.is_file():
        raise BadInputError(f"expected the id of a batch that was exported here, got {batch_id[:60]!r}")
    try:
        return msgspec.json.decode(path.read_bytes(), type=Batch)
    except msgspec.MsgspecError as error:
        raise LoopError(f"{path}: expected what was noted at the export, got {error}; restore it") from None


def batches(settings: Settings) -> Sequence[Batch]:
    """Every batch of this home, the oldest first."""
    found = [load(settings, path.stem) for path in _folder(settings).glob("b*.json")]
    return sorted(found, key=lambda batch: (batch.exported_at, batch.batch_id))


def prices(settings: Settings) -> dict[str, float]:
    """What an answer costs, of the batches for which that was said."""
    return {batch.batch_id: batch.price for batch in batches(settings) if batch.price is not None}


@contextmanager
def changing(settings: Settings, batch_id: str) -> Iterator[Batch]:
    """A batch that nobody else changes meanwhile; what was changed of it is saved unless an error passes."""
    load(settings, batch_id)
    with processes.locked(settings, f"vendor-{batch_id}.lock", patience=60.0):
        batch = load(settings, batch_id)
        yield batch
        save(settings, batch)


def _folder(settings: Settings) -> Path:
    return settings.make_home() / "vendor"
