"""Lines of texts, scanned: `{"id", "text"}` in, `{"id", "spans", "masked"}` out, all of them or none."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from loop.errors import BadInputError
from loop.privacy.masking import Veil
from loop.privacy.recognise import Find, Span

LINE_BYTES: Final = 64 << 20
"""Longest line."""
_EVERY: Final = 1_000
"""Lines after which progress is told."""


class _Line(msgspec.Struct):
    id: str | int
    text: str


class _Span(msgspec.Struct):
    start: int
    end: int
    type: str


class _Scanned(msgspec.Struct):
    id: str | int
    spans: list[_Span]
    masked: str


@dataclass
class Scanned:
    """What a scan came to."""

    lines: int = 0
    personal: int = 0
    """Lines that hold personal data."""
    spans: Counter[str] = field(default_factory=Counter)
    """By type."""

    def told(self) -> dict[str, Any]:
        return {"lines": self.lines, "personal": self.personal, "spans": dict(self.spans.most_common())}


_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_decode: Final = msgspec.json.Decoder(_Line).decode
_encode: Final = msgspec.json.Encoder().encode


def scan(source: Path, target: Path, find: Find, progress: Callable[[int, int], None]) -> Scanned:
    """Write to `target` what `find` finds in each line of `source`, each line masked by itself.

    Args:
        progress: told how many bytes of how many were read.

    Raises:
        BadInputError: a line is not what it should be, or a file cannot be read or written; `target` is as before.
    """
    done = Scanned()
    try:
        size = source.stat().st_size
        with source.open("rb") as lines, _whole(target) as out:
            for number, line in enumerate(iter(lambda: lines.readline(LINE_BYTES + 1), b""), 1):
                if not line.isspace():
                    out.write(_scanned(_read(line, f"{source}, line {number}"), find, done))
                if number % _EVERY == 0:
                    progress(lines.tell(), size)
            progress(size, size)
    except OSError as error:
        raise BadInputError(f"{error.filename or source}: {error.strerror}; nothing was written") from None
    return done


def _read(line: bytes, where: str) -> _Line:
    if len(line) > LINE_BYTES:
        raise BadInputError(f"{where}: expected at most {LINE_BYTES:,} bytes; nothing was written")
    try:
        return _decode(line)
    except UnicodeDecodeError as error:
        came = error.object[error.start : error.end]
        raise BadInputError(f"{where}: expected UTF-8, got {came!r}; nothing was written") from None
    except (msgspec.DecodeError, RecursionError) as error:
        # A lone surrogate, which JSON can spell and no text holds, looks to the decoder like a text that was cut short.
        why = "half a surrogate pair" if _SURROGATE.search(line) and _is_json(line) else error
        raise BadInputError(f'{where}: expected {{"id": ..., "text": "..."}}: {why}; nothing was written') from None


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _scanned(line: _Line, find: Find, done: Scanned) -> bytes:
    spans = find(line.text)
    done.lines += 1
    done.personal += bool(spans)
    done.spans.update(span.type for span in spans)
    return _encode(_Scanned(line.id, [_Span(s.start, s.end, s.type) for s in spans], _masked(line.text, spans))) + b"\n"


def _masked(text: str, spans: list[Span]) -> str:
    if not spans:
        return text
    veil = Veil(lambda _: spans)
    veil.reserve([text])
    return veil.mask(text)


@contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears when all of it is written and on disk, or not at all."""
    with tempfile.NamedTemporaryFile(dir=path.absolute().parent, prefix=f".{path.name}-", delete=False) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
