"""Answers of a vendor: read line by line, every line accounted for, stored and not counted until they are accepted."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from loop.config import Settings
from loop.errors import BadInputError
from loop.label import tasks
from loop.label.annotations import Action, Annotation, Recorded, record, standing
from loop.label.outside import enlist, erased
from loop.label.tasks import Kind, labels_of
from loop.label.vendor import ledger
from loop.label.vendor.ledger import Batch, Delivery
from loop.lake import Lake
from loop.state import State

SOURCE: Final = "vendor"
LINE_BYTES: Final = 1 << 20
"""Longest line that is read; a longer one is broken."""
_NEEDED: Final = ("item", "worker", "label")
_KNOWN: Final = (*_NEEDED, "seconds", "answered_at")
_FLIPPED: Final = {"first": "second", "second": "first"}


@dataclass
class Delivered:
    """What became of the lines: `rows == new + repeated + changed + unknown + late + broken + erased`."""

    rows: int = 0
    new: int = 0
    repeated: int = 0
    """The worker had said the same of the item before."""
    changed: int = 0
    """Contradicts what the worker had said before; the later word stands."""
    unknown: int = 0
    """No item of this batch."""
    late: int = 0
    """Stored, and never counted: it came after the deadline."""
    broken: int = 0
    erased: int = 0
    """Of a worker who was erased."""
    problems: list[tuple[int, str]] = field(default_factory=list)
    """Line and reason of each that is unknown, broken or erased, the first of a file being line 1."""


@dataclass(frozen=True)
class _Line:
    number: int
    item: str
    worker: str
    label: str
    seconds: float | None
    answered_at: datetime | None


class _Broken(ValueError):  # noqa: N818 - what a line is
    pass


def deliver(  # noqa: PLR0913 - by keyword
    settings: Settings, lake: Lake, state: State, batch_id: str, path: Path, *, now: datetime, author: str
) -> Delivered:
    """Store what a file says. The same file again changes nothing.

    Raises:
        BadInputError: no such batch or file, or a CSV without the header.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInputError(f"{path}: cannot be read: {error.strerror}") from None
    done = Delivered()
    with ledger.changing(settings, batch_id) as batch:
        late = now > batch.due_at
        asked = tasks_of(lake, batch)
        options = {row["label_task_id"]: row["options"] for row in asked.to_pylist()}
        number = len(batch.deliveries) + 1
        lines = _kept(settings, state, batch, list(_good(content, path.suffix, batch, options, done)), done, now)
        names: dict[str, str] = {}
        for worker in sorted({line.worker for line in lines}):
            person = f"{batch.vendor}/{worker}"
            names[worker] = enlist(settings, state, person=person, source=SOURCE, author=author, removed=True)
        found = [_annotation(line, batch, names[line.worker], number, now) for line in lines]
        told = _record(state, asked, batch, found)
        done.repeated = told.repeated
        if late:
            done.late = told.new + told.changed
        else:
            done.new, done.changed = told.new, told.changed
        total = done.new + done.repeated + done.changed + done.unknown + done.late + done.broken + done.erased
        assert done.rows == total, "a line was lost"
        sha256 = hashlib.sha256(content).hexdigest()
        batch.deliveries.append(Delivery(number, sha256, now, late, done.rows))
    return done


def _kept(  # noqa: PLR0913, PLR0917 - what a line is judged by
    settings: Settings, state: State, batch: Batch, lines: list[_Line], done: Delivered, now: datetime
) -> list[_Line]:
    """The lines of those who were not erased; the others are counted and told."""
    people = {line.worker: f"{batch.vendor}/{line.worker}" for line in lines}
    gone = erased(settings, state, people.values())
    mine = [line for line in lines if (until := gone.get(people[line.worker])) and _when(line, now) < until]
    done.erased = len(mine)
    done.problems = sorted([*done.problems, *((line.number, "its worker was erased") for line in mine)])
    out = {line.number for line in mine}
    return [line for line in lines if line.number not in out]


def tasks_of(lake: Lake, batch: Batch) -> pa.Table:
    """The rows of `label_tasks` behind the items; of one that was erased meanwhile nothing."""
    wanted = pa.array(sorted({item.label_task_id for item in batch.items.values()}), pa.string())
    rows = tasks.read(lake, workflows=[batch.workflow])
    return rows.filter(pc.is_in(rows["label_task_id"], wanted))


def _record(state: State, asked: pa.Table, batch: Batch, found: Sequence[Annotation]) -> Recorded:
    """Store answers. What a worker had said before stays as it is, also where it has come to count since."""
    said = {(row["label_task_id"], row["annotator"]): row["label"] for row in answers(state, batch)}
    fresh: list[Annotation] = []
    for one in found:
        if said.get((one.label_task_id, one.annotator)) != one.label:
            fresh.append(one)
            said[one.label_task_id, one.annotator] = one.label or ""
    told = record(state, asked, fresh)
    assert not told.refused, "an answer that was looked at was refused"
    told.repeated += len(found) - len(fresh)
    return told


def answers(state: State, batch: Batch, *, until: int | None = None) -> list[dict[str, Any]]:
    """The last word of each worker on each task that came with this batch and in time: rows of `annotations`.

    Args:
        until: the last delivery that is looked at; None: all are.
    """
    table = state.tables["annotations"]
    wanted = sorted({item.label_task_id for item in batch.items.values()})
    mine = table.c.source_id.startswith(f"{batch.batch_id}/", autoescape=True)
    every = batch.deliveries
    late = [str(one.number) for one in every if one.late or one.number > (len(every) if until is None else until)]
    in_time = sa.func.split_part(table.c.source_id, "/", 3).not_in(late)
    query = (
        sa.select(table)
        .where(table.c.label_task_id.in_(wanted), table.c.source == SOURCE, mine, in_time)
        .where(table.c.action == Action.ANSWER.value)
        .distinct(table.c.label_task_id, table.c.annotator)
        .order_by(table.c.label_task_id, table.c.annotator, table.c.version.desc())
    )
    with state.engine.connect() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def counting(state: State, batch: Batch) -> list[dict[str, Any]]:
    """The answers of this batch that stand and count, as a verdict of before has it: rows of `annotations`."""
    table = state.tables["annotations"]
    wanted = sorted({item.label_task_id for item in batch.items.values()})
    stands = standing(table, table.c.label_task_id.in_(wanted), table.c.source == SOURCE)
    query = sa.select(stands).where(stands.c.source_id.startswith(f"{batch.batch_id}/", autoescape=True))
    with state.engine.connect() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def _good(
    content: bytes, suffix: str, batch: Batch, options: Mapping[str, Sequence[str]], done: Delivered
) -> Iterator[_Line]:
    """The lines that say something of an item of the batch; the others are counted and told."""
    for number, raw in _rows(content, suffix):
        done.rows += 1
        try:
            line = _line(number, raw)
            item = batch.items.get(line.item)
            if item is None or item.label_task_id not in options:
                done.unknown += 1
                done.problems.append((number, "no item of this batch" if item is None else "its task was erased"))
                continue
            _check_label(line.label, labels_of(batch.kind, options[item.label_task_id]))
        except _Broken as why:
            done.broken += 1
            done.problems.append((number, str(why)))
        else:
            yield line


def _check_label(label: str, offered: Sequence[str]) -> None:
    if label not in offered:
        raise _Broken(f"label: expected one of {', '.join(offered)}, got {label[:60]!r}")


def _rows(content: bytes, suffix: str) -> Iterator[tuple[int, Any]]:
    """Each line that is not empty, with its number: a mapping, or why it is none."""
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if suffix.lower() in {".jsonl", ".ndjson", ".json"}:
        yield from ((n, _json(line)) for n, line in enumerate(lines, start=1) if line.strip())
        return
    header = _csv(lines[0])
    if isinstance(header, _Broken) or not set(_NEEDED) <= set(header):
        raise BadInputError(
            f"expected CSV whose first line names at least {', '.join(_NEEDED)}, got {lines[0][:100]!r}; or JSON lines "
            "in a file that ends in .jsonl"
        )
    if len(set(header)) != len(header):
        raise BadInputError(f"expected each column once, got {', '.join(header)[:200]}")
    for n, line in enumerate(lines[1:], start=2):
        if line.strip():
            cells = _csv(line)
            if not isinstance(cells, _Broken) and len(cells) != len(header):
                cells = _Broken(f"expected {len(header)} columns, got {len(cells)}")
            yield n, cells if isinstance(cells, _Broken) else dict(zip(header, cells, strict=True))


def _text(line: bytes) -> str:
    if len(line) > LINE_BYTES:
        raise _Broken(f"expected at most {LINE_BYTES:,} bytes")
    try:
        return line.decode().rstrip("\r")
    except UnicodeDecodeError:
        raise _Broken("expected UTF-8") from None


def _csv(line: bytes) -> list[str] | _Broken:
    """The cells of a line. No cell has a line break: ids, labels and numbers have none."""
    try:
        (cells,) = csv.reader([_text(line)], strict=True)
    except (csv.Error, ValueError) as error:
        return error if isinstance(error, _Broken) else _Broken(f"expected CSV: {error}")
    return [cell.strip() for cell in cells]


def _json(line: bytes) -> dict[str, Any] | _Broken:
    try:
        value = json.loads(_text(line))
    except (ValueError, RecursionError) as error:
        return error if isinstance(error, _Broken) else _Broken("expected a JSON object a line")
    return value if isinstance(value, dict) else _Broken("expected a JSON object a line")


def _line(number: int, raw: Any) -> _Line:
    if isinstance(raw, _Broken):
        raise raw
    if odd := sorted(set(raw) - set(_KNOWN)):
        raise _Broken(f"expected {', '.join(_KNOWN)}, got {odd[0][:60]!r} too")
    texts = {name: raw.get(name) for name in _NEEDED}
    for name, value in texts.items():
        if not isinstance(value, str) or not value.strip() or len(value) > 200 or not value.isprintable():
            raise _Broken(f"{name}: expected 1 to 200 printable characters")
    return _Line(
        number,
        str(texts["item"]).strip(),
        str(texts["worker"]).strip(),
        str(texts["label"]).strip(),
        _seconds(raw.get("seconds")),
        _time(raw.get("answered_at")),
    )


def _seconds(value: Any) -> float | None:
    if value in (None, ""):
        return None
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0.0 <= seconds <= 86_400.0:
        raise _Broken("seconds: expected 0 to 86,400")
    return seconds


def _time(value: Any) -> datetime | None:
    if value in (None, ""):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo is not None else _no_zone()
    except (TypeError, ValueError, OverflowError):
        raise _Broken("answered_at: expected ISO 8601 with a zone, as 2026-01-31T09:00:00Z") from None


def _no_zone() -> datetime:
    raise ValueError


def _when(line: _Line, now: datetime) -> datetime:
    return min(line.answered_at or now, now)


def _annotation(line: _Line, batch: Batch, annotator: str, number: int, now: datetime) -> Annotation:
    item = batch.items[line.item]
    flipped = item.swapped and batch.kind == Kind.PREFERENCE
    return Annotation(
        item.label_task_id,
        annotator,
        _when(line, now),
        SOURCE,
        label=_FLIPPED.get(line.label, line.label) if flipped else line.label,
        swapped=item.swapped,
        counts=False,
        source_id=f"{batch.batch_id}/{line.item}/{number}",
        seconds=line.seconds,
    )
