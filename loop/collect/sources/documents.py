"""JSON values of a file or a folder, in whichever of three ways they stand: one a line, in an array, or one alone.

Lines are streamed. An array, or one value that is printed over many lines, is read whole up to `jsonl.LONGEST` bytes.
What the values mean is the business of the format that reads them.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from loop.collect.events import EventError, Reason
from loop.collect.record import Fault, Progress, Record
from loop.collect.sources import jsonl
from loop.errors import BadInputError

ENDINGS: Final = tuple(f"{end}{packed}" for end in (".json", ".jsonl", ".ndjson") for packed in ("", ".gz", ".zst"))
"""Files of a folder whose name ends otherwise are not read."""
MALFORMED: Final = (TypeError, ValueError, KeyError, AttributeError, RecursionError)
"""What reading a value raises that is not of the shape that its format has."""
_WHAT: Final = "JSON lines, or an array that can be read whole (make lines of it: jq -c '.[]')"
_TRIED: Final = 100
"""Where the first line is no JSON and neither is the whole: so many lines are tried before all is called no JSON."""


@dataclass(frozen=True, slots=True)
class Document:
    """One JSON value and where it stood."""

    line: int
    """Line in its file, from 1; the place in the array where the file is one array over many lines."""
    value: Any
    path: str | None = None
    """The file of a folder that it stands in; None where the source is one file."""


def reader(path: Path, progress: Progress | None, *, times: int = 1) -> Callable[[], Iterator[Document | Record]]:
    """A function that reads all values of a file, or of all files of a folder by name, from their beginning.

    A line that is no JSON is a record with its fault. Such a record holds a digest of the line and not its text: in the
    formats of others an employee's id may stand anywhere, and what cannot be parsed cannot be masked. The line itself
    is still in the file.

    Args:
        path: a file or a folder.
        progress: called with how much was read and how much there is, over all readings.
        times: how often the values will be read.

    Raises:
        BadInputError: at once or while the values are drawn: no such file, no JSON at all, cut short, too large.
    """
    if not path.exists():
        raise BadInputError(f"{path}: no such file or folder; expected JSON or JSON lines, perhaps packed (.gz, .zst)")
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.is_file() and file.name.endswith(ENDINGS)]
        if not files:
            raise BadInputError(f"{path}: expected files that end in {', '.join(ENDINGS)}, got none")
    else:
        files = []
    readings = itertools.count()

    def read() -> Iterator[Document | Record]:
        reading = next(readings)

        def told(done: int, total: int | None) -> None:
            if progress is not None and total is not None:
                progress(min(reading, times - 1) * total + done, times * total)

        if not files:
            yield from _of_file(path, None, told)
        for done, file in enumerate(files, 1):
            yield from _of_file(file, file.relative_to(path).as_posix(), lambda *_: None)
            told(done, len(files))

    return read


def decode(content: bytes | str) -> Any:
    """One JSON value. The words NaN and Infinity, which JSON has not and some writers use, become None.

    Raises:
        EventError: it is none.
    """
    try:
        return msgspec.json.decode(content)
    except UnicodeDecodeError:
        raise EventError(Reason.NOT_UTF8, "expected UTF-8, got other bytes") from None
    except (msgspec.MsgspecError, RecursionError) as error:
        text = content if isinstance(content, str) else content.decode("utf-8", "replace")
        if "NaN" not in text and "Infinity" not in text:
            raise EventError(Reason.NOT_JSON, f"expected JSON: {error}") from None
    try:
        value = json.loads(text, parse_constant=lambda _: None)
        msgspec.json.encode(value)  # half of a surrogate pair, which this parser lets through, is refused here
    except (ValueError, RecursionError) as error:
        raise EventError(Reason.NOT_JSON, f"expected JSON: {error}") from None
    return value


def _of_file(path: Path, member: str | None, progress: Progress) -> Iterator[Document | Record]:
    lines = jsonl.lines(path, progress, what=_WHAT)
    number, first = 0, b""
    for number, line in enumerate(lines, 1):  # noqa: B007 - the place of the first line that is not blank
        if first := line.strip():
            break
    if not first:
        return
    try:
        decode(first)
    except EventError as error:
        if first[:1] not in b"[{":
            raise BadInputError(f"{path}: expected JSON or JSON lines, line {number}: {error}") from None
        yield from _whole(path, member, itertools.chain([first], lines), progress)
    else:
        yield from _lines(itertools.chain([first], lines), member, number)


def _lines(lines: Iterable[bytes], member: str | None, start: int = 1) -> Iterator[Document | Record]:
    for number, line in enumerate(lines, start):
        if not (content := line.strip()):
            continue
        try:
            value = decode(content)
        except EventError as error:
            yield unreadable(content, number, member, error)
            continue
        for each in value if isinstance(value, list) else [value]:
            yield Document(number, each, member)


def _whole(path: Path, member: str | None, lines: Iterator[bytes], progress: Progress) -> Iterator[Document | Record]:
    """A file whose first line is no JSON by itself: one value over many lines, or JSON lines that begin badly."""
    held: list[bytes] = []
    size = 0
    for line in lines:
        held.append(line)
        size += len(line) + 1
        if size > jsonl.LONGEST:
            raise BadInputError(f"{path}: expected {_WHAT}, got more than {jsonl.LONGEST:,} bytes in one value")
    try:
        value = decode(b"\n".join(held))
    except EventError as error:
        if not held[0].startswith(b"{") or not any(_is_object(line) for line in held[1 : _TRIED + 1]):
            raise BadInputError(f"{path}: nothing of it was imported: {error}") from None
        held.clear()
        yield from _lines(jsonl.lines(path, progress, what=_WHAT), member)
        return
    held.clear()
    for number, each in enumerate(value if isinstance(value, list) else [value], 1):
        yield Document(number, each, member)


def _is_object(line: bytes) -> bool:
    """Whether a line is a JSON object by itself; an empty one may be part of a larger one."""
    try:
        value = decode(line)
    except EventError:
        return False
    return isinstance(value, dict) and bool(value)


def unreadable(content: bytes, line: int, path: str | None, error: EventError) -> Record:
    """What cannot be parsed, as a record that says where it stands and what it digests to."""
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    raw = msgspec.json.encode({"line": line, "bytes": len(content), "blake2b": digest})
    return Record(line, raw, path=path, fault=Fault(error.reason, str(error)))


def broken(document: Document, where: str, why: str) -> Record:
    """Part of a document that is not what its format says, as a record that says where it stands."""
    raw = msgspec.json.encode({"line": document.line, "where": where})
    return Record(document.line, raw, path=document.path, fault=Fault(Reason.WRONG_TYPE, why))


def told(error: Exception) -> str:
    """An error as it may be repeated: a missing key by its name."""
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)
