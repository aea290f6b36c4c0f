"""What is to outlive a power cut: the names of files. Their contents are synced by whoever writes them."""

from __future__ import annotations

import os
from pathlib import Path


def sync(folder: Path) -> None:
    """Wait until the names in the folder are on disk: a file that was made, renamed or removed there is found so again.

    Raises:
        OSError: the folder is not there, or the disk failed.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
