"""Label Studio as a service of a home: its environment, its server, and where that is.

It wants libraries that ours do not suffer (1 GB of them), so it is installed in an environment of its own and spoken to
by REST alone. What is asked of it stands in `loop.label.studio`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from loop.config import Settings
from loop.errors import BadInputError, LoopError
from loop.services import processes, serving
from loop.services.tools import Service

NAME: Final = "studio"
INSTALL: Final = "studio-install"
MAIN: Final = "studio-up"
"""The process of `loop studio up`."""
VERSION: Final = "1.23.2"
USER: Final = "loop@localhost"
"""Who owns the projects, and whom the token speaks for."""
PINNED: Final = Path(__file__).with_name("studio.txt")
"""The exact versions of all that it needs."""

_PATIENCE: Final = 1_800.0
"""Seconds in which somebody else's installation must end."""
_PROGRESS: Final = re.compile(r"^\s*(?:Collecting|Requirement already satisfied:|Processing) ", re.MULTILINE)


@dataclass(frozen=True)
class Studio:
    """A Label Studio and the right to use it."""

    url: str
    token: str = field(repr=False)


def locate(settings: Settings) -> Studio:
    """The organisation's own Label Studio, or the one that runs for this home.

    Raises:
        BadInputError: there is no token for the organisation's own.
        LoopError: none runs.
    """
    if settings.studio_url:
        given = settings.secret_text(NAME)
        if not given:
            raise BadInputError("studio_url is set: put a token of that Label Studio into LOOP_SECRET_STUDIO")
        return Studio(settings.studio_url, given)
    running = processes.read(settings).processes.get(NAME)
    if running is None or not running.alive:
        raise LoopError(
            "Label Studio does not run for this home: `loop studio up` starts it; or set studio_url to one of yours"
        )
    return Studio(running.address, _token(settings))


def environment(settings: Settings) -> Path:
    """The folder of its environment, whether it is there or not."""
    return settings.studio_env or settings.studio / "env"


def installed(settings: Settings) -> bool:
    """Whether this very version was installed to the end."""
    with contextlib.suppress(FileNotFoundError):
        return _marker(settings).read_text() == _wanted()
    return False


def install(settings: Settings, say: Callable[[str], None] = lambda _: None) -> Path:
    """Its environment, made if it is not there whole; what a killed installation had downloaded is not asked for again.

    Args:
        say: told now and then how far it is.

    Raises:
        LoopError: pip could not; the message ends with what it printed.
    """
    folder = environment(settings)
    settings.make_home()
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(folder, say):
        if installed(settings):
            return folder
        with processes.locked(settings):
            processes.stop(settings, INSTALL)  # of a killed `loop studio up`
        say("making its environment")
        shutil.rmtree(folder, ignore_errors=True)  # half a package is worse than none
        subprocess.run([sys.executable, "-m", "venv", folder], check=True, capture_output=True)
        downloads = folder.with_name(f"{folder.name}.downloads")
        _pip(settings, folder, downloads, say)
        _marker(settings).write_text(_wanted())
        shutil.rmtree(downloads, ignore_errors=True)
    return folder


def server(settings: Settings, port: int) -> Service:
    """The service, on a port of the loopback interface. What a first start that was cut short left is made anew."""
    data, programs = settings.studio / "data", environment(settings) / "bin"
    ready = data / ".ready"
    if data.exists() and not ready.exists():  # nobody has ever worked in it
        shutil.rmtree(data)
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    _compact(data / "label_studio.sqlite3")
    address = f"http://127.0.0.1:{port}"
    header = {"Authorization": f"Token {_token(settings)}"}

    def answers() -> bool:
        """Whether it is up and ours: a port may have gone to somebody else."""
        if (serving.get(address, "/health") or (0,))[0] != http.client.OK:
            return False
        status, told = serving.get(address, "/api/current-user/whoami", header) or (0, None)
        if status != http.client.OK or not isinstance(told, dict) or told.get("email") != USER:
            return False
        ready.touch(mode=0o600)
        return True

    command = (str(programs / "python"), str(programs / "label-studio"), "start", "--no-browser")
    where = ("--internal-host", "127.0.0.1", "-p", str(port), "--data-dir", str(data))
    return Service(
        NAME,
        "Label Studio",
        (*command, *where, "--enable-legacy-api-token"),
        address,
        answers,
        lasting=True,
        patience=900.0,  # a fresh database takes a minute or two, several where others want the processor too
        environment=_variables(settings, data),
    )


def _compact(database: Path) -> None:
    """Leave nothing in the file of what was deleted from the tables: else its bytes stay until others need the room."""
    if database.exists():
        with contextlib.suppress(sqlite3.DatabaseError), contextlib.closing(sqlite3.connect(database)) as connection:
            connection.execute("VACUUM")


def password_file(settings: Settings) -> Path:
    """Where the password of `USER` stands."""
    settings.secret("studio_password")
    return settings.home / "secrets" / "studio_password"


def _variables(settings: Settings, data: Path) -> dict[str, str]:
    """All that it sees of our environment, and what it is told: everybody may read a command line, but not these."""
    passed = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {
        **passed,
        "HOME": str(settings.studio),
        "LANG": "C.UTF-8",
        "TZ": "UTC",  # it stamps what is changed in bulk with the machine's local time
        "BASE_DATA_DIR": str(data),
        "LABEL_STUDIO_BASE_DATA_DIR": str(data),
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "SSRF_PROTECTION_ENABLED": "false",  # it would not call the gateway on the loopback interface
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_USERNAME": USER,
        "LABEL_STUDIO_PASSWORD": settings.secret("studio_password").hex(),
        "LABEL_STUDIO_USER_TOKEN": _token(settings),
    }


def _token(settings: Settings) -> str:
    return settings.secret("studio_token").hex()[:40]  # no longer one fits its table


def _wanted() -> str:
    return f"{VERSION} {hashlib.sha256(PINNED.read_bytes()).hexdigest()}"


def _marker(settings: Settings) -> Path:
    return environment(settings) / ".installed"


def _pip(settings: Settings, folder: Path, downloads: Path, say: Callable[[str], None]) -> None:
    options = ("--no-input", "--disable-pip-version-check", "--progress-bar", "off", "--cache-dir", str(downloads))
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", *options]
    command += ["--constraint", str(PINNED), f"label-studio=={VERSION}"]
    unset = ("PIP_NO_CACHE_DIR", "PIP_TARGET", "PIP_USER", "PYTHONPATH")
    variables = {name: value for name, value in os.environ.items() if name not in unset}
    with processes.locked(settings):
        running = processes.spawn(settings, INSTALL, command, address="", env=variables, cwd=folder)
    total = len(PINNED.read_text().split())
    try:
        while (status := processes.status(running)) is None:
            printed = processes.tail(settings, INSTALL, lines=10_000)
            found = min(len(_PROGRESS.findall(printed)), total)
            say("unpacking" if "Installing collected" in printed else f"{found} of {total} packages found")
            time.sleep(0.5)
    finally:
        with processes.locked(settings):
            processes.stop(settings, INSTALL)
    if status != 0:
        log = settings.services / f"{INSTALL}.log"
        raise LoopError(
            f"Label Studio {VERSION} could not be installed in {folder}; see {log}, which ends\n"
            f"{processes.tail(settings, INSTALL)}\n`loop studio up` tries again"
        )


@contextlib.contextmanager
def _alone(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Within, nobody else installs there: another home may share the folder. The kernel lets go of it if we die."""
    handle = os.open(folder.with_name(f"{folder.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + _PATIENCE
    try:
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if time.monotonic() > until:
                raise LoopError(f"somebody else has been installing Label Studio in {folder} for half an hour")
            say("waiting for somebody else's installation")
            time.sleep(0.2)
        yield
    finally:
        os.close(handle)
