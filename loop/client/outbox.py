"""The outbox: decisions and outcomes on disk, first in first out, until the gateway has them.

A folder of append-only segments of JSON lines, each line written with one fsync before the call returns, and a cursor
that says up to where everything is delivered or set aside. Whatever is killed or torn, the cursor may only be behind
and a line may only be whole or cut off: so after a crash something may be sent twice, which the gateway recognises by
its key, and nothing is left out. Nothing here knows the network; who sends is `courier`.

    lock               held while a file of the folder is changed or read (flock)
    sender             held by the one process that is sending (flock)
    000000000001.jsonl {"kind":"feedback","key":"...","body":{...}} a line
    cursor             segment and offset
    refused.jsonl      {"status":422,"reason":"...","kind":...,"key":...,"body":{...}} a line

One folder belongs to one gateway and one token; any number of processes of one user may share it. It holds the raw ids
of employees and their texts: only its owner may read it (0700), and what was delivered is deleted. POSIX only.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from loop.client.answers import OutboxError, OutboxFullError, Refusal
from loop.client.wire import ROUTES, Item

SEGMENT_BYTES: Final = 1 << 20
"""A segment that is larger is not appended to; it is deleted once all of it is delivered."""
LIMIT_BYTES: Final = 64 << 20


class Place(NamedTuple):
    """A position in the queue, between two lines; later is greater."""

    segment: int
    offset: int
    """Bytes."""


START: Final = Place(0, 0)


@dataclass(frozen=True)
class Entry:
    """One line of the queue."""

    line: bytes
    item: Item | None
    """None where the line cannot be read."""
    end: Place
    """The place after it."""


class Outbox:
    """The folder. Every method may be called from several threads and processes at once.

    Raises OutboxError where the folder cannot be used.
    """

    def __init__(
        self, folder: Path | str, *, limit_bytes: int = LIMIT_BYTES, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self.folder = Path(folder)
        self._limit = limit_bytes
        self._segment_bytes = segment_bytes
        self._refused = self.folder / "refused.jsonl"
        with _told(self.folder):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def append(self, item: Item) -> Place:
        """Put an item at the end, durably, and return the place after it.

        Raises:
            OutboxFullError: it would hold more than its bound; nothing was written.
        """
        line = _line(item)
        with self._locked():
            waiting, refused = self._sizes()
            if waiting + refused + len(line) > self._limit:
                raise OutboxFullError(
                    f"the outbox {self.folder} is full: {waiting} bytes wait for the gateway and {refused} bytes are "
                    f"set aside, of {self._limit}; bring the gateway back, and restore or discard what is set aside"
                )
            number, size = self._writable()
            _append(self._path(number), line, size)
            if size == 0:
                _sync(self.folder)
            return Place(number, size + len(line))

    def waiting(self, items: int, size: int) -> list[Entry]:
        """The first entries that are not done: at most `items` and about `size` bytes, at least one if there is one."""
        with self._locked():
            return self._read(items, size)

    def advance(self, end: Place) -> None:
        """All entries up to here are delivered or set aside: remember it, and delete the segments that are through."""
        with self._locked():
            if end <= self._cursor():
                return
            for number in self._segments():
                if Place(number, self._path(number).stat().st_size) <= end:
                    self._path(number).unlink()
            # Written last: if it fails on a full disk, only what still stands in a segment is sent again.
            draft = self.folder / "cursor.draft"
            draft.write_text(f"{end.segment} {end.offset}\n")
            draft.rename(self.folder / "cursor")

    def cursor(self) -> Place:
        """Up to where everything is delivered or set aside."""
        with self._locked():
            return self._cursor()

    def set_aside(self, entry: Entry, status: int, reason: str) -> None:
        """Keep an entry that the gateway will not take, durably, with the reason; `advance` over it then."""
        whole = _line(entry.item) if entry.item else _unreadable(entry.line)
        line = json.dumps({"status": status, "reason": reason})[:-1].encode() + b"," + whole[1:]
        with self._locked():
            size = self._refused.stat().st_size if self._refused.exists() else 0
            _append(self._refused, line, _whole(self._refused, size))
            if size == 0:
                _sync(self.folder)

    def refused(self) -> list[Refusal]:
        """What is set aside, oldest first, each key once."""
        with self._locked():
            return [refusal for refusal, _ in self._set_aside()]

    def restore(self) -> int:
        """Put what is set aside back into the queue, to be sent again; how many items that were.

        Killed half-way, it leaves some both set aside and in the queue, where they are sent with the same key.
        """
        with self._locked():
            items = [item for _, item in self._set_aside() if item]
            if items:
                lines = b"".join(map(_line, items))
                number, size = self._writable()
                _append(self._path(number), lines, size)
                _sync(self.folder)
            self._refused.unlink(missing_ok=True)
            return len(items)

    def discard(self) -> int:
        """Delete what is set aside; how many items that were. What they held is gone."""
        with self._locked():
            count = len(self._set_aside())
            self._refused.unlink(missing_ok=True)
            return count

    def counts(self) -> tuple[int, int, int]:
        """Items that wait, items set aside, and the bytes of both."""
        with self._locked():
            return len(self._read(1 << 62, 1 << 62)), len(self._set_aside()), sum(self._sizes())

    @contextlib.contextmanager
    def sending(self) -> Iterator[bool]:
        """Whether this caller is the one that may send now, for as long as the context lasts. Does not wait."""
        with _told(self.folder), _open(self.folder / "sender", os.O_RDWR) as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            with _released(handle):
                yield True

    # -- all that follows is called with the lock held --------------------------------------------------------------

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with _told(self.folder), _open(self.folder / "lock", os.O_RDWR) as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            with _released(handle):
                yield

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:012d}.jsonl"

    def _segments(self) -> list[int]:
        return sorted(int(p.stem) for p in self.folder.glob("*.jsonl") if p.stem.isdecimal())

    def _cursor(self) -> Place:
        """Where delivery stands. What cannot be read is the start: then everything that is left is sent again."""
        try:
            segment, offset = map(int, (self.folder / "cursor").read_text().split())
        except (FileNotFoundError, ValueError):
            return START
        return Place(segment, offset)

    def _sizes(self) -> tuple[int, int]:
        """Bytes that wait, and bytes set aside."""
        cursor = self._cursor()
        waiting = sum(
            max(self._path(n).stat().st_size - (cursor.offset if n == cursor.segment else 0), 0)
            for n in self._segments()
            if n >= cursor.segment
        )
        return waiting, self._refused.stat().st_size if self._refused.exists() else 0

    def _writable(self) -> tuple[int, int]:
        """The segment to append to and its size, a torn last line cut off; 0 where it is to be made."""
        segments, cursor = self._segments(), self._cursor()
        if segments:
            number = segments[-1]
            size = _whole(self._path(number), self._path(number).stat().st_size)
            # A power cut may keep the cursor and lose the end of a segment: no place is ever given twice.
            if Place(number, size) >= cursor and size < self._segment_bytes:
                return number, size
        return max([cursor.segment, *segments]) + 1, 0

    def _read(self, items: int, size: int) -> list[Entry]:
        cursor, entries = self._cursor(), list[Entry]()
        for number in self._segments():
            if number < cursor.segment:
                continue
            with self._path(number).open("rb") as file:
                offset = file.seek(cursor.offset if number == cursor.segment else 0)
                for line in file:
                    if not line.endswith(b"\n"):  # torn by a kill; its call never returned
                        break
                    if len(entries) == items or (entries and size < len(line)):
                        return entries
                    offset, size = offset + len(line), size - len(line)
                    entries.append(Entry(line, _item(line), Place(number, offset)))
        return entries

    def _set_aside(self) -> list[tuple[Refusal, Item | None]]:
        found: dict[object, tuple[Refusal, Item | None]] = {}
        content = self._refused.read_bytes() if self._refused.exists() else b""
        for line in content[: content.rfind(b"\n") + 1].split(b"\n")[:-1]:  # but for a torn end
            try:
                told = json.loads(line)
                refusal = Refusal(str(told["key"]), str(told["kind"]), int(told["status"]), str(told["reason"]))
            except (ValueError, KeyError, TypeError):
                refusal = Refusal("", "unreadable", 0, "the line of what was set aside is damaged")
            # Killed between setting aside and moving on, an item is refused twice: the first reason stands.
            found.setdefault(refusal.key or len(found), (refusal, _item(line)))
        return list(found.values())


def _line(item: Item) -> bytes:
    """One line: the body is JSON without line ends already, and stands in it byte for byte."""
    assert b"\n" not in item.body
    kind, key = (json.dumps(text).encode() for text in (item.kind, item.key))
    return b'{"kind":%s,"key":%s,"body":%s}\n' % (kind, key, item.body)


def _item(line: bytes) -> Item | None:
    try:
        told = json.loads(line)
        if told["kind"] not in ROUTES:
            return None
        body = json.dumps(told["body"], ensure_ascii=False, separators=(",", ":")).encode()
        return Item(told["kind"], str(told["key"]), body)
    except (ValueError, KeyError, TypeError):
        return None


def _unreadable(line: bytes) -> bytes:
    text = line.decode("utf-8", "backslashreplace")
    return json.dumps({"kind": "unreadable", "key": "", "body": text}).encode() + b"\n"


def _append(path: Path, line: bytes, size: int) -> None:
    """Write at `size`, the end of what is whole, durably; what fails is cut off again."""
    with _open(path, os.O_WRONLY) as handle:
        try:
            os.ftruncate(handle, size)
            written = 0
            while written < len(line):
                written += os.pwrite(handle, line[written:], size + written)
            os.fsync(handle)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(handle, size)
            raise


def _whole(path: Path, size: int) -> int:
    """Bytes of a file up to the end of its last whole line."""
    if size == 0:
        return 0
    content = path.read_bytes() if size <= 1 << 16 else b""
    if not content:
        with path.open("rb") as file:
            file.seek(size - 1)
            if file.read(1) == b"\n":
                return size
        content = path.read_bytes()
    return content.rfind(b"\n") + 1


@contextlib.contextmanager
def _open(path: Path, flags: int) -> Iterator[int]:
    handle = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def _released(handle: int) -> Iterator[None]:
    """Let go explicitly: a child forked meanwhile shares the open file, and would keep the lock past our closing it."""
    try:
        yield
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    """The system's complaint as the package's error."""
    try:
        yield
    except OSError as error:
        raise OutboxError(
            f"expected to read and write the outbox {folder}, got {error.strerror or error}; "
            "check the disk and the folder's permissions"
        ) from error
