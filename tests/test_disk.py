"""What `loop.disk` promises: the folder itself is synced, and a failure is neither hidden nor leaks a handle."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from loop import disk


def test_the_folder_is_what_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    real = os.fsync

    def watched(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink())
        real(handle)

    monkeypatch.setattr(os, "fsync", watched)
    disk.sync(tmp_path)
    assert synced == [tmp_path]


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        disk.sync(tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        disk.sync(tmp_path / "none")


def test_a_failed_sync_is_told_and_leaves_no_handle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def fails(handle: int) -> None:
        seen.append(handle)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="Input/output error"):
        disk.sync(tmp_path)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(seen[0])
