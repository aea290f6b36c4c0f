"""How a home and a Label Studio know each other: whose a project is, and how it says that somebody answered.

It calls the gateway for that, which leaves a sign for whoever pulls.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

from loop.config import Settings

PATH: Final = "/v1/studio"
"""Of the gateway."""


def owner(settings: Settings) -> str:
    """What a home's projects bear: several may share a Label Studio, and none touches what is another's. 16 digits."""
    return hashlib.blake2b(b"owner", key=settings.secret("studio_owner"), digest_size=8).hexdigest()


def secret(settings: Settings) -> str:
    """By which the gateway knows who calls."""
    return settings.secret("studio_hook").hex()


def nudge(settings: Settings) -> None:
    """Say that there are answers to be pulled. Whoever watches sees it within a second."""
    path = _sign(settings)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    os.utime(path)


def nudged(settings: Settings) -> int | None:
    """When that was said last, in nanoseconds; None if never."""
    try:
        return _sign(settings).stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _sign(settings: Settings) -> Path:
    return settings.studio / "asked"
