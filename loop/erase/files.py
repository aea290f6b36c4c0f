"""Erasure in files that no table speaks of: logs, Dagster's folder, MLflow's artifacts, documents, caches.

They should hold nobody: this is where it is made sure. A text is masked where it stands, byte for byte, so that whoever
is writing to the file goes on; a cache that holds anything of it is removed, for it may be made again.
"""

from __future__ import annotations

import gzip
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from loop.erase import decoding
from loop.erase.needles import Needles, is_json
from loop.home import Home

_SETTINGS: Final = frozenset({".toml", ".yaml", ".yml", ".ini", ".conf", ".pid"})
"""Endings of files that say how services run, as JSON files of the folder `services` itself do: they name nobody."""


def clean(home: Home, needles: Needles, *, drop_caches: bool) -> Counter[str]:
    """Mask and remove; how many files, by what was done.

    Args:
        drop_caches: whether what is cached of models goes in any case: what they learned, or were asked, was erased.
    """
    done: Counter[str] = Counter()
    for path in sorted(home.settings.cache.rglob("*")):
        if path.is_file() and (drop_caches or path.suffix == ".partial" or _holds(path, needles)):
            path.unlink()
            done["caches removed"] += 1
    for path in others(home):
        if _holds(path, needles) and _mask(path, needles):
            done["files masked"] += 1
    return done


def found(home: Home, needles: Needles) -> list[str]:
    """The files in which something is."""
    candidates = [*home.settings.cache.rglob("*"), *others(home)]
    return [str(p.relative_to(home.settings.home)) for p in candidates if p.is_file() and _holds(p, needles)]


def others(home: Home) -> Iterator[Path]:
    """Every file of the home that no other module of this room reaches, but for weights, secrets and settings."""
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
            tells_how = path.suffix in _SETTINGS or (path.suffix == ".json" and path.parent == settings.services)
            if not tells_how and not path.is_symlink() and path.is_file():
                yield path


def _holds(path: Path, needles: Needles) -> bool:
    try:
        return any(needles.within(piece) for piece in decoding.texts(path))
    except FileNotFoundError:  # a log that was moved on
        return False


def _mask(path: Path, needles: Needles) -> bool:
    """Mask in place, byte for byte; a compressed file or a document of JSON is written anew. Whether anything was."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8", "surrogateescape")
    if path.suffix == ".gz" or (len(data) <= decoding.PIECE and is_json(text)):
        masked = needles.mask(text).encode("utf-8", "surrogateescape")
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_bytes(gzip.compress(masked) if path.suffix == ".gz" else masked)
        fresh.chmod(path.stat().st_mode)
        fresh.replace(path)
        return True
    starred = needles.starred(text).encode("utf-8", "surrogateescape")
    assert len(starred) == len(data), "a mask is as long as what it hides"
    places = [found.span() for found in re.finditer(rb"\*+", starred) if data[slice(*found.span())] != found[0]]
    with path.open("r+b") as file:
        for first, last in places:
            file.seek(first)
            file.write(starred[first:last])
    return bool(places)
