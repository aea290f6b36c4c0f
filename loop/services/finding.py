"""What a look at this machine found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str
    """What was found."""
    mend: str | None = None
    """What to do about it; None where all is well."""
