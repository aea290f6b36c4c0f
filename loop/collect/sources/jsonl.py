"""Our own event format: one event a line, plain, gzip (`.gz`) or zstandard (`.zst`), UTF-8.

A line that is no event is a record like any other and will be quarantined by itself. A file that cannot be read to its
end is refused as a whole: what could be read of it may be half of anything.
"""

from __future__ import annotations

import gzip
import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import pyarrow as pa

from loop.collect.record import Progress, Record, Source
from loop.errors import BadInputError

LONGEST: Final = 64 << 20
"""Bytes after which a line is no line: the file is something else. Longer than any line that is worth keeping whole."""
_CHUNK: Final = 1 << 20
_BOM: Final = b"\xef\xbb\xbf"
_WIDE: Final = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
"""How a file in UTF-16 or UTF-32 may begin."""
_MAGIC: Final = {".gz": b"\x1f\x8b", ".zst": b"\x28\xb5\x2f\xfd"}


def read(path: Path, *, progress: Progress | None = None) -> Source:
    """The lines of a `.jsonl`, `.jsonl.gz` or `.jsonl.zst`; blank ones are no records.

    Args:
        path: the file.
        progress: called with the bytes of the file read so far, and how many there are.

    Raises:
        BadInputError: at once or while the records are drawn: no such file, another format or encoding, cut short.
    """
    if path.is_dir():
        raise BadInputError(f"{path}: expected a file of events, got a folder")
    if not path.exists():
        raise BadInputError(f"{path}: no such file; expected a .jsonl, .jsonl.gz or .jsonl.zst")
    if not path.name.endswith((".jsonl", ".jsonl.gz", ".jsonl.zst")):
        raise BadInputError(f"{path}: expected a name that ends in .jsonl, .jsonl.gz or .jsonl.zst")
    return Source("jsonl", path, _records(path, progress or (lambda *_: None)))


def _records(path: Path, progress: Progress) -> Iterator[Record]:
    yield from records(lines(path, progress))


def lines(path: Path, progress: Progress, *, what: str = "one event a line") -> Iterator[bytes]:
    """The lines of a file in UTF-8, unpacked if its name ends in `.gz` or `.zst`, without their ends and without a BOM.

    Args:
        path: the file.
        progress: called with the bytes of the file read so far, and how many there are.
        what: what was expected of a line, for the error about one that never ends.

    Raises:
        BadInputError: another encoding, cut short, damaged, or a line of more than `LONGEST` bytes.
    """
    size = path.stat().st_size
    with path.open("rb") as file, _unreadable(path):
        read = _opened(path, file)
        rest = _lines(read, path, lambda: progress(file.tell(), size), what)
        first = next(rest, b"")
        if first.startswith(_WIDE) or b"\0" in first[:2]:
            raise BadInputError(f"{path}: expected UTF-8, got UTF-16 or UTF-32; convert it: iconv -t utf-8")
        yield from itertools.chain([first.removeprefix(_BOM)], rest)


def records(lines: Iterable[bytes]) -> Iterator[Record]:
    """Lines in the wire format as records, numbered from 1; blank ones are none."""
    for number, line in enumerate(lines, 1):
        if content := line.strip(b" \t\r\n"):
            yield Record(number, content)


def _opened(path: Path, file: IO[bytes]) -> Callable[[int], bytes]:
    """A function that reads the unpacked content."""
    magic = _MAGIC.get(path.suffix)
    if magic is None:
        return file.read
    begin = file.read(len(magic))
    file.seek(0)
    if begin != magic:
        raise BadInputError(f"{path}: expected a {path.suffix} file, got one that begins with {begin!r}")
    if path.suffix == ".gz":
        return gzip.GzipFile(fileobj=file).read
    stream = pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")
    return lambda size: bytes(stream.read(size))


def _lines(
    read: Callable[[int], bytes], path: Path, told: Callable[[], None], what: str = "one event a line"
) -> Iterator[bytes]:
    """The lines of a stream, without their ends, in memory one at a time."""
    begun: list[bytes] = []
    held = 0
    while chunk := read(_CHUNK):
        told()
        *complete, rest = chunk.split(b"\n")
        for line in complete:
            yield b"".join((*begun, line))
            begun, held = [], 0
        begun.append(rest)
        held += len(rest)
        if held > LONGEST:
            raise BadInputError(f"{path}: expected {what}, got a line of more than {LONGEST:,} bytes")
    if held:
        yield b"".join(begun)


@contextmanager
def _unreadable(path: Path) -> Iterator[None]:
    """What decompressors raise, as an error that says what to do."""
    try:
        yield
    except EOFError:
        raise BadInputError(f"{path}: cut short; nothing of it was imported: fetch it again") from None
    except (OSError, zlib.error) as error:
        raise BadInputError(f"{path}: cannot be read to its end, nothing of it was imported: {error}") from None
