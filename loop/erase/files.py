"""Erasure in files that no table speaks of: logs, Dagster's folder, MLflow's artifacts, documents, caches.

They should hold nobody: this is where it is made sure. A text is masked where it stands, byte for byte, so that whoever
is writing to the file goes on; a cache that holds anything of it is removed, for it may be made again.
"""

from __future__ import annotations

import gzip
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from loop.erase import decoding
from loop.erase.databases import Needles
from loop.home import Home

LARGE: Final = 256 << 20
"""Bytes beyond which a file is looked through in pieces."""


def clean(home: Home, needles: Needles, *, drop_caches: bool) -> tuple[Counter[str], list[str]]:
    """Mask and remove; how many files, by what was done, and those in which something is left.

    Args:
        drop_caches: whether answers of model versions are to go in any case.
    """
    done: Counter[str] = Counter()
    left: list[str] = []
    for path in sorted(home.settings.cache.rglob("*")):
        if path.is_file() and (drop_caches or path.suffix == ".partial" or _holds(path, needles)):
            path.unlink()
            done["caches removed"] += 1
    for path in others(home):
        if not _holds(path, needles):
            continue
        if _mask(path, needles):
            done["files masked"] += 1
        if _holds(path, needles):
            left.append(str(path.relative_to(home.settings.home)))
    return done, left


def found(home: Home, needles: Needles) -> list[str]:
    """The files in which something is."""
    candidates = [*home.settings.cache.rglob("*"), *others(home)]
    return [str(p.relative_to(home.settings.home)) for p in candidates if p.is_file() and _holds(p, needles)]


def others(home: Home) -> Iterator[Path]:
    """Every file of the home that no other module of this room reaches, weights and secrets left out."""
    settings = home.settings
    reached = {
        settings.lake,
        settings.landing,
        settings.training_sets,
        settings.gateway,
        settings.models,
        settings.cache,
        settings.truth,
        settings.corpus,
        settings.home / "secrets",
        settings.home / "erasures",
        settings.services / "postgres",
    }
    for folder, names, files in os.walk(settings.home):
        names[:] = [name for name in names if Path(folder) / name not in reached]
        for name in sorted(files):
            path = Path(folder) / name
            if not path.is_symlink() and path.is_file():
                yield path


def _holds(path: Path, needles: Needles) -> bool:
    try:
        return any(needles.within(piece) for piece in decoding.texts(path))
    except FileNotFoundError:  # a log that was moved on
        return False


def _mask(path: Path, needles: Needles) -> bool:
    """Mask in place, or within its compression; whether anything was."""
    if path.suffix == ".gz":
        text = gzip.decompress(path.read_bytes()).decode("utf-8", "surrogateescape")
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_bytes(gzip.compress(needles.mask(text).encode("utf-8", "surrogateescape")))
        fresh.replace(path)
        return True
    masked = False
    with path.open("r+b") as file:
        data = file.read()
        for needle in (text.encode("utf-8", "surrogatepass") for text in needles.all):
            at = data.find(needle)
            while at >= 0:
                file.seek(at)
                file.write(b"*" * len(needle))
                masked = True
                at = data.find(needle, at + len(needle))
    return masked
