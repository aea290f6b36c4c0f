"""The spool: nothing that was appended is lost, nothing that was not appended appears, whatever the disk does."""

from __future__ import annotations

import errno
import itertools
import os
import resource
import struct
import subprocess
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from loop.collect.spool import FRAME_BYTES, Spool, SpoolFull, frames, sealed
from loop.errors import LoopError

PAYLOADS = st.lists(
    st.text(st.characters(min_codepoint=32, codec="utf-8"), min_size=1, max_size=40).map(str.encode),
    min_size=1,
    max_size=8,
)
AGAIN = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def open_spool(folder: Path, **changes: Any) -> Spool:
    return Spool(folder, **{"segment_bytes": 1 << 20, "segment_seconds": 60.0, "limit_bytes": 1 << 30, **changes})


def frame(payload: bytes) -> bytes:
    return struct.pack("<II", len(payload), zlib.crc32(payload)) + payload


def stored(folder: Path) -> list[bytes]:
    """Every payload, sealed or not, in order."""
    return [payload for path in sorted(folder.glob("*.[so]*")) for payload in frames(path)]


def crashed(folder: Path, content: bytes) -> Path:
    """A folder as a crash leaves it: one open segment of that content."""
    for path in folder.glob("*") if folder.is_dir() else ():
        path.unlink()
    folder.mkdir(exist_ok=True)
    path = folder / "000000000007.open"
    path.write_bytes(content)
    return path


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


# -- appending, sealing, reading -------------------------------------------------------------------------------------


def test_appended_payloads_are_framed_in_the_open_segment_and_read_back_in_order(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append([b"one", b"two"])
    spool.append([b"three"])
    (segment,) = tmp_path.glob("*.open")
    assert segment.read_bytes() == frame(b"one") + frame(b"two") + frame(b"three")
    assert list(frames(segment)) == [b"one", b"two", b"three"]
    assert spool.size == 3 * 8 + 11
    spool.close()


def test_a_sealed_segment_is_renamed_and_the_next_has_the_next_number(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append([b"one"])
    first = spool.seal()
    spool.append([b"two"])
    number = spool.number
    second = spool.seal()
    assert first is not None
    assert second is not None
    assert sealed(tmp_path) == [first, second]
    assert int(second.stem) == int(first.stem) + 1
    assert number == second.stem
    assert len(second.stem) == 12
    assert [list(frames(path)) for path in sealed(tmp_path)] == [[b"one"], [b"two"]]
    assert not list(tmp_path.glob("*.open"))
    spool.close()


def test_an_empty_segment_is_never_sealed(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, segment_seconds=0.0)
    assert (spool.due(), spool.seal(), spool.number) == (False, None, None)
    spool.append([b"one"])
    assert spool.due()
    spool.seal()
    assert (spool.due(), spool.seal(), spool.number) == (False, None, None)
    spool.close()


def test_a_segment_is_due_by_size_or_by_age(tmp_path: Path) -> None:
    large = open_spool(tmp_path / "large", segment_bytes=30)
    large.append([b"x" * 21])
    assert not large.due()
    large.append([b"y"])
    assert large.due()
    old = open_spool(tmp_path / "old", segment_seconds=0.05)
    old.append([b"x"])
    assert not old.due()
    time.sleep(0.06)
    assert old.due()
    large.close()
    old.close()


def test_a_number_is_never_used_twice_even_when_all_segments_have_gone(tmp_path: Path) -> None:
    before = int(time.time())
    spool = open_spool(tmp_path)
    spool.append([b"one"])
    first = spool.seal()
    spool.close()
    assert first is not None
    assert before < int(first.stem) <= time.time() + 1, "a new spool begins at the clock's seconds"
    first.unlink()
    spool = open_spool(tmp_path)
    spool.append([b"two"])
    assert spool.number == f"{int(first.stem) + 1:012d}"
    spool.close()


def test_a_second_writer_is_refused_until_the_first_has_closed(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    with pytest.raises(LoopError, match="expected no other writer, got one"):
        open_spool(tmp_path)
    spool.close()
    open_spool(tmp_path).close()


def test_since_gives_what_a_reader_of_earlier_segments_has_not_seen(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    for payload in (b"one", b"two"):
        spool.append([payload])
        spool.seal()
    spool.append([b"three"])
    first, second = sealed(tmp_path)
    assert list(spool.since("")) == [b"one", b"two", b"three"]
    assert list(spool.since(first.stem)) == [b"two", b"three"]
    assert list(spool.since(second.stem)) == [b"three"]
    assert list(spool.since("999999999999")) == [b"three"], "the open segment is always told"
    spool.close()


def test_a_payload_that_no_frame_can_hold_is_our_own_mistake(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    for payload in (b"", b"x" * (FRAME_BYTES + 1)):
        with pytest.raises(AssertionError):
            spool.append([b"good", payload])
    assert stored(tmp_path) == []
    spool.close()


# -- after a crash ----------------------------------------------------------------------------------------------------


def test_a_segment_cut_at_any_byte_of_its_last_frames_keeps_the_whole_ones(tmp_path: Path) -> None:
    whole = [b'{"a":1}', b"{}", b'{"longer":"one"}']
    content = b"".join(map(frame, whole))
    ends = [len(b"".join(map(frame, whole[:count]))) for count in range(4)]
    for cut in range(ends[1], len(content) + 1):
        segment = crashed(tmp_path / "s", content[:cut])
        count = sum(end <= cut for end in ends) - 1
        spool = open_spool(tmp_path / "s")
        assert spool.recovered == cut - ends[count]
        torn = segment.with_suffix(".torn")
        assert (torn.read_bytes() if torn.exists() else b"") == content[ends[count] : cut]
        spool.append([b"after"])
        assert stored(tmp_path / "s") == [*whole[:count], b"after"]
        spool.close()


@given(PAYLOADS, st.integers(0, 400), st.binary(max_size=30))
@example([b"x"], 0, b"\0" * 30)
@AGAIN
def test_a_torn_end_followed_by_anything_leaves_whole_frames_alone(
    tmp_path: Path, payloads: list[bytes], cut: int, garbage: bytes
) -> None:
    content = b"".join(map(frame, payloads))
    ends = itertools.accumulate(len(frame(payload)) for payload in payloads)
    kept = payloads[: sum(end <= cut for end in ends)]
    crashed(tmp_path / "s", content[:cut] + garbage)
    spool = open_spool(tmp_path / "s")
    got = stored(tmp_path / "s")
    spool.close()
    # What stood behind the cut may complete the torn frame by chance; nothing else can come of it.
    assert got in (kept, payloads[: len(kept) + 1])
    reopened = open_spool(tmp_path / "s")
    assert (reopened.recovered, stored(tmp_path / "s")) == (0, got)
    reopened.close()


@given(PAYLOADS, st.data())
@AGAIN
def test_a_corrupt_byte_costs_the_one_frame_that_it_is_in(tmp_path: Path, payloads: list[bytes], data: Any) -> None:
    content = bytearray(b"".join(map(frame, payloads)))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    hit, end = 0, len(frame(payloads[0]))
    while end <= at:
        hit += 1
        end += len(frame(payloads[hit]))
    segment = crashed(tmp_path / "s", bytes(content))
    spool = open_spool(tmp_path / "s")
    assert spool.recovered == len(frame(payloads[hit]))
    assert stored(tmp_path / "s") == payloads[:hit] + payloads[hit + 1 :]
    assert segment.with_suffix(".torn").read_bytes() == content[end - len(frame(payloads[hit])) :]
    spool.close()


def test_blocks_of_zeros_behind_the_end_are_no_frames(tmp_path: Path) -> None:
    crashed(tmp_path / "s", frame(b"one") + b"\0" * 5000)
    spool = open_spool(tmp_path / "s")
    assert (spool.recovered, stored(tmp_path / "s")) == (5000, [b"one"])
    spool.close()


def test_a_crash_within_recovery_is_recovered_from(tmp_path: Path) -> None:
    segment = crashed(tmp_path / "s", frame(b"one") + b"half")
    segment.with_suffix(".torn").write_bytes(b"half")
    segment.with_suffix(".tmp").write_bytes(frame(b"on")[:-1])
    spool = open_spool(tmp_path / "s")
    assert stored(tmp_path / "s") == [b"one"]
    assert not segment.with_suffix(".tmp").exists()
    spool.close()


def test_of_two_open_segments_the_earlier_was_sealed_but_for_its_name(tmp_path: Path) -> None:
    segment = crashed(tmp_path / "s", frame(b"one"))
    segment.with_name("000000000008.open").write_bytes(frame(b"two"))
    spool = open_spool(tmp_path / "s")
    assert sealed(tmp_path / "s") == [segment.with_suffix(".seg")]
    spool.append([b"three"])
    assert spool.number == "000000000008"
    assert stored(tmp_path / "s") == [b"one", b"two", b"three"]
    spool.close()


def test_a_corrupt_sealed_segment_is_told_with_its_offset_after_the_good_frames(tmp_path: Path) -> None:
    segment = tmp_path / "000000000001.seg"
    segment.write_bytes(frame(b"one") + frame(b"two")[:-1] + b"X" + frame(b"three"))
    reader = frames(segment)
    assert next(reader) == b"one"
    assert next(reader) == b"three"
    with pytest.raises(LoopError, match=r"000000000001\.seg: expected a whole frame at byte 11"):
        next(reader)


# -- the bound and the disk -------------------------------------------------------------------------------------------


def test_a_full_spool_refuses_until_the_mover_has_taken_a_segment(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, limit_bytes=100)
    spool.append([b"x" * 82])
    with pytest.raises(SpoolFull, match="expected at most 100 bytes, got 90 and 18 more"):
        spool.append([b"y" * 10])
    spool.append([b"z" * 2])
    assert spool.size == 100
    segment = spool.seal()
    assert segment is not None
    assert list(frames(segment)) == [b"x" * 82, b"zz"], "nothing of what was refused"
    segment.unlink()
    spool.append([b"y" * 10])
    assert stored(tmp_path) == [b"y" * 10]
    spool.close()


def test_what_is_there_when_it_opens_counts_towards_the_bound(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append([b"x" * 82])
    spool.seal()
    spool.close()
    spool = open_spool(tmp_path, limit_bytes=100)
    with pytest.raises(SpoolFull):
        spool.append([b"y" * 10])
    spool.close()


def test_a_write_that_is_cut_short_leaves_nothing_behind(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append([b"one"])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        with pytest.raises(LoopError, match=r"expected to append 6,016 bytes, got EFBIG \(File too large\)"):
            spool.append([b"x" * 3000, b"y" * 3000])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert stored(tmp_path) == [b"one"]
    spool.append([b"two"])
    assert stored(tmp_path) == [b"one", b"two"]
    spool.close()


def test_a_full_disk_refuses_names_its_error_and_goes_on_when_there_is_room(tmpfs: Path) -> None:
    spool = open_spool(tmpfs / "spool")
    spool.append([b"one"])
    filler = tmpfs / "filler"
    filler.write_bytes(b"x" * (200 << 10))
    for _ in range(3):
        with pytest.raises(LoopError, match=r"got ENOSPC \(No space left on device\)"):
            spool.append([b"y" * (100 << 10)])
        assert stored(tmpfs / "spool") == [b"one"]
    filler.unlink()
    spool.append([b"two" * 1000])
    spool.seal()
    assert stored(tmpfs / "spool") == [b"one", b"two" * 1000]
    spool.close()


def test_a_disk_that_takes_no_new_file_refuses_and_goes_on_later(tmpfs: Path) -> None:
    spool = open_spool(tmpfs / "spool")
    subprocess.run(["mount", "-o", "remount,nr_inodes=4", tmpfs], check=True)
    (tmpfs / "last").touch()
    with pytest.raises(LoopError, match="got ENOSPC"):
        spool.append([b"one"])
    (tmpfs / "last").unlink()
    spool.append([b"two"])
    assert stored(tmpfs / "spool") == [b"two"]
    spool.close()


def test_a_read_only_disk_is_told_on_opening(tmpfs: Path) -> None:
    spool = open_spool(tmpfs / "spool")
    spool.append([b"one"])
    spool.close()
    subprocess.run(["mount", "-o", "remount,ro", tmpfs], check=True)
    with pytest.raises(LoopError, match=r"expected to open the spool, got EROFS \(Read-only file system\)"):
        open_spool(tmpfs / "spool")
    assert stored(tmpfs / "spool") == [b"one"]


def test_a_failed_sync_takes_the_append_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = open_spool(tmp_path)
    spool.append([b"one"])
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", _fails)  # no disk that fails on command can be had
        with pytest.raises(LoopError, match=r"got EIO \(Input/output error\)"):
            spool.append([b"two"])
    assert stored(tmp_path) == [b"one"]
    spool.append([b"three"])
    assert stored(tmp_path) == [b"one", b"three"]
    spool.close()


def test_an_append_that_cannot_be_taken_back_is_cut_before_the_next_or_when_reopened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = open_spool(tmp_path)
    spool.append([b"one"])
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", _fails)
        broken.setattr(os, "ftruncate", _fails)
        for payload in (b"longer than the next", b"two"):
            with pytest.raises(LoopError, match="EIO"):
                spool.append([payload])
        with pytest.raises(LoopError, match="EIO"):
            spool.seal()
    assert list(spool.since("")) == [b"one"], "what was not acknowledged is not told"
    spool.append([b"three"])
    assert stored(tmp_path) == [b"one", b"three"]
    spool.seal()
    spool.close()
    assert stored(tmp_path) == [b"one", b"three"]


def _fails(*_: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))
