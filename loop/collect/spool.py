"""The spool: what came in, appended to segment files and durable when an append returns, until it is moved on.

A segment is a row of frames: length and CRC-32 of the payload (u32 each, little endian), then the payload. The segment
that is written to is `<number>.open`; sealed, it becomes `<number>.seg` and never changes again. Who reads or removes
sealed segments needs no lock; only one process writes. What a payload means is not known here.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from loop import disk
from loop.errors import LoopError

_HEADER: Final = struct.Struct("<II")
FRAME_BYTES: Final = (1 << 24) - 1
"""The longest payload. So the fourth byte of every frame is 0, which JSON text never holds: after damage that byte is
where the next frame can begin."""
_LOCK: Final = "writer.lock"
"""Held by the writer; holds the greatest number that a segment ever had, so that no number is used twice."""


class SpoolFull(LoopError):  # noqa: N818 - a state of the spool, not somebody's mistake
    """The segments together have reached their bound; room comes when the mover has taken some."""


class Spool:
    """The writer's end. Not for several threads at once."""

    def __init__(self, folder: Path, *, segment_bytes: int, segment_seconds: float, limit_bytes: int) -> None:
        """Opens and, after a crash, recovers: what is cut from the open segment's end is kept in `<number>.torn`.

        Raises:
            LoopError: another process writes here, or the folder cannot be written to.
        """
        self.folder = folder
        self.recovered = 0
        """Bytes that were no whole frame when this was opened."""
        self._segment_bytes, self._segment_seconds, self._limit = segment_bytes, segment_seconds, limit_bytes
        self._file = -1
        self._path: Path | None = None
        self._end = 0
        """Where the good frames of the open segment end."""
        self._ragged = False
        """Whether something may stand behind the end, left by an append that failed."""
        self._since = 0.0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            disk.sync(folder.parent)  # the folder's own name is to outlive a power cut too
            disk.sync(folder.parent.parent)
            self._lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._take_lock()
            self._reopen()
        except OSError as error:
            raise _failed(folder, "to open the spool", error) from error
        self._size = self.size

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise LoopError(f"{self.folder}: expected no other writer, got one; is a gateway running?") from None

    def _reopen(self) -> None:
        """Go on with the segment that was open, if there was one, from its last good frame."""
        # Without a remembered number (a new folder, or one that was emptied) numbers begin at the clock's seconds,
        # for whoever moves segments may remember the names of earlier ones.
        said = os.pread(self._lock, 32, 0)
        numbers = [int(path.stem) for path in self.folder.glob("*.*") if path.stem.isdigit()]
        self._number = max(numbers, default=0)
        self._number = max(self._number, int(said) if said.isdigit() else int(time.time()) if not numbers else 0)
        left = sorted(self.folder.glob("*.open"))
        self.recovered = sum(_recover(path) for path in left)
        for path in left[:-1]:  # sealed before a power cut, but for its name
            path.rename(path.with_suffix(".seg"))
        if left:
            self._open(left[-1])

    def _open(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._path, self._end, self._ragged = path, os.fstat(self._file).st_size, False
        self._since = time.monotonic()

    @property
    def size(self) -> int:
        """Bytes of all segments that are here now."""
        total = 0
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.endswith((".open", ".seg")):
                    with suppress(FileNotFoundError):  # the mover was quicker
                        total += entry.stat().st_size
        return total

    def append(self, payloads: Sequence[bytes]) -> None:
        """Write all payloads, in order, with one write and one fdatasync; they are durable when this returns.

        Raises:
            SpoolFull: the segments would exceed their bound; nothing was written.
            LoopError: the disk refused, the message says how; nothing of it stays.
        """
        data = b"".join([part for payload in payloads for part in (_header(payload), payload)])
        if self._size + len(data) > self._limit:
            self._size = self.size
            if self._size + len(data) > self._limit:
                raise SpoolFull(
                    f"{self.folder}: expected at most {self._limit:,} bytes, got {self._size:,} and {len(data):,} "
                    "more; wait until segments were moved to the landing area"
                )
        try:
            self._write(data)
        except OSError as error:
            self._ragged = True
            with suppress(OSError):
                self._trim()
            raise _failed(self._path or self.folder, f"to append {len(data):,} bytes", error) from error
        self._end += len(data)
        self._size += len(data)

    def _write(self, data: bytes) -> None:
        if self._path is None:
            self._number += 1
            os.pwrite(self._lock, b"%012d" % self._number, 0)
            os.fdatasync(self._lock)
            self._open(self.folder / f"{self._number:012d}.open")
        if not self._end:  # the segment's name is to be durable too
            disk.sync(self.folder)
        self._trim()
        view, at = memoryview(data), self._end
        while view:  # a disk that fills up takes a part first
            written = os.pwrite(self._file, view, at)
            view, at = view[written:], at + written
        os.fdatasync(self._file)

    def _trim(self) -> None:
        """Cut away what a failed append left; as long as that fails, nothing can be appended."""
        if self._ragged and self._file >= 0:
            os.ftruncate(self._file, self._end)
            os.fdatasync(self._file)
            self._ragged = False

    @property
    def number(self) -> str | None:
        """The open segment's number, as its file is named; None where it holds nothing."""
        return self._path.stem if self._path is not None and self._end else None

    def due(self) -> bool:
        """Whether the open segment holds something and is large or old enough to be sealed."""
        old = time.monotonic() - self._since >= self._segment_seconds
        return self._end > 0 and (old or self._end >= self._segment_bytes)

    def seal(self) -> Path | None:
        """Seal the open segment and give its path; None where it holds nothing.

        Raises:
            LoopError: the disk refused.
        """
        if self._path is None or not self._end:
            return None
        sealed = self._path.with_suffix(".seg")
        try:
            self._trim()
            self._path.rename(sealed)
            os.close(self._file)
            self._file, self._path, self._end = -1, None, 0
            disk.sync(self.folder)
        except OSError as error:
            raise _failed(sealed, "to seal it", error) from error
        return sealed

    def since(self, number: str) -> Iterator[bytes]:
        """The payloads of the sealed segments after that number, then of the open one, in order."""
        for path in sealed(self.folder):
            if path.stem > number:
                with suppress(FileNotFoundError):  # the mover was quicker
                    yield from frames(path)
        if self._path is not None:
            yield from frames(self._path, self._end)

    def close(self) -> None:
        """Let go of the folder; the open segment stays open."""
        if self._file >= 0:
            os.close(self._file)
            self._file, self._path, self._end = -1, None, 0
        os.close(self._lock)


# -- reading ---------------------------------------------------------------------------------------------------------


def sealed(folder: Path) -> list[Path]:
    """The sealed segments, oldest first."""
    return sorted(folder.glob("*.seg"))


def frames(path: Path, end: int | None = None) -> Iterator[bytes]:
    """The payloads of a segment, in order; those before byte `end` if given.

    Raises:
        LoopError: a frame is corrupt; the message names the offset of the first. All good ones, also behind it, were
            given before.
    """
    bad = None
    for at, _, payload in _parts(path.read_bytes()[:end]):
        if payload is not None:
            yield payload
        elif bad is None:
            bad = at
    if bad is not None:
        raise LoopError(
            f"{path}: expected a whole frame at byte {bad}, got a corrupt one; restore the file, or move it elsewhere"
        )


def replace(path: Path, payloads: Sequence[bytes]) -> None:
    """Put other payloads, in order, in the place of those of a sealed segment. A reader meets either."""
    fresh = path.with_suffix(".tmp")
    fresh.unlink(missing_ok=True)
    _append(fresh, b"".join([part for payload in payloads for part in (_header(payload), payload)]))
    fresh.rename(path)
    disk.sync(path.parent)


def _header(payload: bytes) -> bytes:
    assert 0 < len(payload) <= FRAME_BYTES, f"a payload of {len(payload)} bytes"
    return _HEADER.pack(len(payload), zlib.crc32(payload))


def _frame(data: bytes, at: int) -> bytes | None:
    """The payload of the frame at `at`; None where there is no good one. A header of zeros (blocks that were allocated
    but never written, after a power cut) is none."""
    if at + _HEADER.size > len(data):
        return None
    length, checksum = _HEADER.unpack_from(data, at)
    payload = data[at + _HEADER.size : at + _HEADER.size + length]
    good = 0 < length <= FRAME_BYTES and len(payload) == length and zlib.crc32(payload) == checksum
    return payload if good else None


def _parts(data: bytes) -> Iterator[tuple[int, int, bytes | None]]:
    """Frames and what lies between them: where each begins and ends, and its payload, None where it is no frame."""
    at = 0
    while at < len(data):
        payload = _frame(data, at)
        if payload is not None:
            end = at + _HEADER.size + len(payload)
        else:
            zero = data.find(b"\0", at + _HEADER.size // 2)
            end = max(zero - 3, at + 1) if zero >= 0 else len(data)
        yield at, end, payload
        at = end


def _recover(path: Path) -> int:
    """Leave only good frames in an open segment; the bytes that were cut or skipped.

    What stood from the first bad frame on is kept beside it. Good frames behind a bad one stay: they may have been
    acknowledged, and one that was not does no harm, for its sender will send it again and be told it is a duplicate.
    """
    data = path.read_bytes()
    good, first_bad, lost = bytearray(), -1, 0
    for at, end, payload in _parts(data):
        if payload is not None:
            good += data[at:end]
        else:
            first_bad = at if first_bad < 0 else first_bad
            lost += end - at
    if not lost:
        return 0
    _append(path.with_suffix(".torn"), data[first_bad:])
    fresh = path.with_suffix(".tmp")
    fresh.unlink(missing_ok=True)
    _append(fresh, bytes(good))
    fresh.rename(path)
    disk.sync(path.parent)
    return lost


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _failed(path: Path, what: str, error: OSError) -> LoopError:
    name = errno.errorcode.get(error.errno or 0, str(error.errno))
    return LoopError(
        f"{path}: expected {what}, got {name} ({error.strerror}); nothing of it is acknowledged; "
        "make room or mend the disk"
    )
