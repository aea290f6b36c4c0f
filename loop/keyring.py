"""Secrets of a home: 32 random bytes each in a file of mode 600, replaced without losing those from before.

A variable `LOOP_SECRET_<NAME>` takes a file's place. And the tokens that are given away: what one looks like.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from loop import disk
from loop.errors import BadInputError, LoopError


def given(name: str) -> bytes | None:
    """The secret that the variable holds; None where it is not set.

    Raises:
        BadInputError: it does not hold hexadecimal digits.
    """
    variable = f"LOOP_SECRET_{name.upper()}"
    text = os.environ.get(variable)
    return _secret_bytes(text, variable) if text else None


def secret(folder: Path, name: str) -> bytes:
    """The home's secret of that name: 32 random bytes, in a file of mode 600 made on first use.

    `LOOP_SECRET_<NAME>` (hexadecimal, at least 16 bytes) is used instead where it is set. Everybody who asks at
    once gets the same, for the file appears whole.

    Raises:
        BadInputError: the variable or the file does not hold hexadecimal digits.
        LoopError: others than the owner may read the file.
    """
    if (set_ := given(name)) is not None:
        return set_
    path = folder / name
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if not path.exists():
        with _fresh_secret(path) as fresh, contextlib.suppress(FileExistsError):  # somebody else was first
            os.link(fresh, path)
    return _read_secret(path)


def ring(folder: Path, name: str) -> tuple[bytes, ...]:
    """The secret of that name and those that it replaced, the newest first.

    Raises: as `secret` does.
    """
    current = secret(folder, name)
    former = (_read_secret(path) for path in reversed(_retired(folder / f"{name}.d")))
    return (current, *(key for key in former if key != current))  # equal: a rotation was cut short


def rotate(folder: Path, name: str) -> int:
    """Replace the secret by a new one; the number under which the old one is kept, `secrets/<name>.d/<number>`.

    Cut short at any point it leaves a secret that is in use and no key lost; done again it goes on from there.

    Raises:
        BadInputError: the secret comes from a variable, which only who sets it can change.
    """
    variable = f"LOOP_SECRET_{name.upper()}"
    path, retired = folder / name, folder / f"{name}.d"
    if os.environ.get(variable):
        raise BadInputError(
            f"{name} comes from {variable}: write its value to a new file {retired}/<number> of mode 600, one more "
            "than the highest number there, and set the variable to another"
        )
    secret(folder, name)
    retired.mkdir(mode=0o700, exist_ok=True)
    with _alone(retired):
        current, former = secret(folder, name), _retired(retired)
        number = int(former[-1].name) if former else 0
        if not former or _read_secret(former[-1]) != current:
            number += 1
            os.link(path, retired / str(number))
            disk.sync(retired)
        with _fresh_secret(path) as fresh:
            fresh.replace(path)
        disk.sync(path.parent)
    return number


# -- tokens ---------------------------------------------------------------------------------------------------------

TOKEN: Final = re.compile(r"loop_([0-9a-f]{12})_([0-9a-f]{64})")
"""A token whole: its public half and its secret."""


def token() -> tuple[str, str]:
    """Public half and secret of a new token, `loop_<id>_<secret>`; of the secret only `hashed` is to be kept."""
    return secrets.token_hex(6), secrets.token_hex(32)


def hashed(secret: str) -> str:
    """SHA-256, which suffices for 32 random bytes."""
    return hashlib.sha256(secret.encode()).hexdigest()


# -- files ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _fresh_secret(beside: Path) -> Iterator[Path]:
    """A file of mode 600 with a new secret, on disk, beside another; removed if it is still there at the end."""
    handle, name = tempfile.mkstemp(dir=beside.parent, prefix=f".{beside.name}-")  # of mode 600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _retired(folder: Path) -> list[Path]:
    """Files of the secrets that were replaced, the oldest first."""
    found = (path for path in (folder.iterdir() if folder.is_dir() else ()) if path.name.isdecimal())
    return sorted(found, key=lambda path: int(path.name))


def _read_secret(path: Path) -> bytes:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise LoopError(f"{path}: expected mode 600, got {mode:o}; if nobody else has read it, chmod 600 it")
    return _secret_bytes(path.read_text(), str(path))


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Whoever else wants the folder waits; the kernel lets go of it when we die."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _secret_bytes(text: str, where: str) -> bytes:
    try:
        given = bytes.fromhex(text.strip())
    except ValueError:
        given = b""
    if len(given) < 16:
        raise BadInputError(f"{where}: expected at least 32 hexadecimal digits (16 bytes), got something else")
    return given
