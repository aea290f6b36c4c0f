"""Processes that run for a home: who they are, starting and stopping them, and the record of them in services.json.

Knows no service in particular. A process is known by its pid and the moment of its birth, so that a pid which the
system has given to somebody else since is never taken for ours; its descendants are known by a mark in their
environment, so that they are found when their parent was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

import msgspec
import psutil

from loop.config import Settings
from loop.errors import LoopError

MARK = "_LOOP_SERVICE"
"""Environment variable that every process of a service inherits: digest of the home and name of the service."""

_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}
"""Children of this process, kept so that the dead are reaped."""


class Running(msgspec.Struct, frozen=True):
    """A process that was started for a home."""

    pid: int
    birth: str
    """When it was born, exact enough that pid and birth together name one process for ever."""
    address: str
    """Where it is reached; never with a password."""

    @property
    def alive(self) -> bool:
        return birth(self.pid) == self.birth


class Record(msgspec.Struct):
    """What services.json holds."""

    keep: bool = False
    """Postgres stays until `loop down`: a shell was given its URL."""
    processes: dict[str, Running] = {}  # msgspec copies it
    ports: dict[str, int] = {}
    """Of last time, to be taken again."""


def birth(pid: int) -> str | None:
    """When that process was born; None if there is none, or only a dead one that waits for its parent.

    On Linux in clock ticks since boot, for the wall clock moves and would make an old process look like a new one.
    """
    try:
        if not Path("/proc/self/stat").exists():
            process = psutil.Process(pid)
            return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (psutil.NoSuchProcess, OSError):
        return None
    return None if fields[0] in "ZX" else f"{boot}:{fields[19]}"


# -- the record and its lock ------------------------------------------------------------------------------------------


def read(settings: Settings) -> Record:
    """The record as it stands, processes included that have died since. An absent file is an empty record."""
    path = settings.services / "services.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except (FileNotFoundError, NotADirectoryError):
        return Record()
    except msgspec.MsgspecError as error:
        raise LoopError(f"{path}: expected the record of running services, got {error}; remove the file") from None


def write(settings: Settings, record: Record) -> None:
    """Replaces the record in one step. The caller holds `locked`."""
    replace(settings.services / "services.json", msgspec.json.format(msgspec.json.encode(record)))


def replace(path: Path, content: bytes) -> None:
    """Writes a file of mode 600 so that no reader ever sees half of it."""
    fresh = path.with_suffix(".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    fresh.replace(path)


def note(settings: Settings, name: str, running: Running | None) -> None:
    """Records a process under a name, or that there is none. The caller holds `locked`."""
    record = read(settings)
    if running:
        record.processes[name] = running
    else:
        record.processes.pop(name, None)
    write(settings, record)


@contextlib.contextmanager
def locked(settings: Settings, name: str = "lock", *, patience: float = 120.0) -> Iterator[None]:
    """Holds the named lock of this home; the kernel lets go of it when the holder dies.

    Raises:
        LoopError: another process held it for `patience` seconds.
    """
    handle = _open(settings, name)
    until = time.monotonic() + patience
    try:
        while not _lock(handle, fcntl.LOCK_EX):
            if time.monotonic() >= until:
                raise LoopError(f"another command holds {settings.services / name}; wait for it to end, or stop it")
            time.sleep(0.05)
        yield
    finally:
        os.close(handle)


def join(settings: Settings) -> int:
    """Registers a user of Postgres; returns a handle for `leave`. Whoever dies has left."""
    handle = _open(settings, "users")
    fcntl.flock(handle, fcntl.LOCK_SH)
    return handle


def leave(handle: int) -> bool:
    """Whether the user who leaves was the last one. The caller holds `locked`, so that nobody joins meanwhile."""
    try:
        return _lock(handle, fcntl.LOCK_EX)
    finally:
        os.close(handle)


def _open(settings: Settings, name: str) -> int:
    settings.make_home()
    settings.services.mkdir(mode=0o700, exist_ok=True)
    return os.open(settings.services / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _lock(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# -- starting and stopping --------------------------------------------------------------------------------------------


def spawn(  # noqa: PLR0913 - by keyword
    settings: Settings,
    name: str,
    command: Sequence[str],
    *,
    address: str,
    env: Mapping[str, str],
    cwd: Path,
    user: str | None = None,
) -> Running:
    """Starts a service in a session of its own, away from the terminal's Ctrl-C, and records it.

    What it prints goes to `services/<name>.log`; the log of the run before is kept as `<name>.log.1`. The caller holds
    `locked`.
    """
    log = settings.services / f"{name}.log"
    with contextlib.suppress(FileNotFoundError):
        log.replace(log.with_suffix(".log.1"))
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**env, MARK: f"{identity(settings)}:{name}"},
            cwd=cwd,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            start_new_session=True,
            umask=0o077,
        )
    _CHILDREN[child.pid] = child
    try:
        running = Running(child.pid, birth(child.pid) or "stillborn", address)
        note(settings, name, running)
    except BaseException:
        child.kill()
        raise
    return running


def stop(
    settings: Settings,
    name: str,
    *,
    how: signal.Signals = signal.SIGTERM,
    main_only: bool = False,
    patience: float = 10.0,
) -> bool:
    """Ends the service and all that descends from it: asks with `how`, and kills what is left after `patience` seconds.

    `main_only` asks the main process alone, which is to end its children itself. Returns whether anything ran. The
    caller holds `locked`.

    Raises:
        LoopError: something cannot be killed.
    """
    main = read(settings).processes.get(name)
    family = _family(settings, name, main)
    _send(how, [p for p in family if main and p.pid == main.pid] if main_only else family)
    left = _await_end(family, patience)
    for _ in range(5):  # what was born meanwhile is found in the next round
        left = [*left, *_family(settings, name, main)]
        _send(signal.SIGKILL, left)
        left = _await_end(left, 2.0)
    if left:
        raise LoopError(f"{name}: could not end process {left[0].pid}; end it by hand, then say `loop down` again")
    if main and (child := _CHILDREN.pop(main.pid, None)):
        child.wait()
    note(settings, name, None)
    return bool(family)


def end(running: Running, *, patience: float) -> bool:
    """Ends one process, which is to end what it started; kills it after `patience` seconds. Returns whether it ran."""
    if not running.alive or running.pid == os.getpid():
        return False
    family = [psutil.Process(running.pid)]
    _send(signal.SIGTERM, family)
    left = _await_end(family, patience)
    _send(signal.SIGKILL, left)
    _await_end(left, 2.0)
    return True


def status(running: Running) -> int | None:
    """The exit status of a child of this process; None while it runs, -1 where it is no child of ours any more."""
    if child := _CHILDREN.get(running.pid):
        return child.poll()
    return None if running.alive else -1


def myself() -> Running:
    """This process."""
    return Running(os.getpid(), birth(os.getpid()) or "unborn", "")


def identity(settings: Settings) -> str:
    """Short name of a home, different for every one."""
    return hashlib.sha256(os.fsencode(settings.home.resolve())).hexdigest()[:16]


def tail(settings: Settings, name: str, lines: int = 8) -> str:
    """The last lines that a service printed, for an error message."""
    try:
        text = (settings.services / f"{name}.log").read_text(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def _send(what: signal.Signals, processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(what)


def _await_end(processes: Sequence[psutil.Process], patience: float) -> list[psutil.Process]:
    """Waits until all have ended; returns those that have not. One that its parent has yet to reap has ended."""
    until = time.monotonic() + patience
    while left := [p for p in processes if _living(p)]:
        if time.monotonic() >= until:
            break
        time.sleep(0.02)
    return left


def _living(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _family(settings: Settings, name: str, main: Running | None) -> list[psutil.Process]:
    """The living processes of a service: the one recorded, what descends from it, and what bears the mark."""
    mark = f"{identity(settings)}:{name}"
    family: set[psutil.Process] = set()
    if main and main.alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(main.pid)
            family |= {process, *process.children(recursive=True)}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark:
                family.add(process)
    return [process for process in family if process.pid != os.getpid() and _living(process)]


@contextlib.contextmanager
def exit_on_signals() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP end the process as `SystemExit` does, so that `finally` is reached.

    Further ones are ignored while it cleans up. Handlers that somebody has set already are left to them.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a fork, which has nothing of ours to clean up
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        for other in ours:
            signal.signal(other, signal.SIG_IGN)
        raise SystemExit(128 + number)

    ours: list[signal.Signals] = []
    owner = os.getpid()
    with contextlib.suppress(ValueError):  # only the main thread may
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, handle)
                ours.append(number)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
