"""To live with a home: `up` runs everything until told to end, `down` stops what is left, `env` serves a shell."""

from __future__ import annotations

import contextlib
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from loop.config import Settings
from loop.errors import LoopError
from loop.services import postgres, processes, tools
from loop.services.postgres import Urls
from loop.services.processes import Record
from loop.services.sessions import ensure_postgres, session

Step = Callable[[str], contextlib.AbstractContextManager[None]]

PATIENCE = 180.0
"""Seconds in which a server must answer, on a laptop that does something else too."""


def up(settings: Settings, announce: Callable[[dict[str, str]], None] | None = None) -> None:
    """Runs Postgres, MLflow, the Dagster webserver and daemon until Ctrl-C or SIGTERM, then stops all of them.

    What an `up` that was killed left behind is stopped first. `announce` is told the addresses when everything answers;
    by default they are printed.

    Raises:
        LoopError: it runs already for this home, or a server does not start, or ends by itself.
    """
    with (
        processes.exit_on_signals(),
        contextlib.suppress(KeyboardInterrupt),
        _the_only_one(settings),
        session(settings) as urls,
    ):
        _stop_servers(settings)  # orphans, which would hold last time's ports
        try:
            with _steps() as step:
                services = _start(settings, urls, step)
            (announce or _print)({service.title: service.address for service in services if service.address})
            _warn_of_load_errors(services)
            while True:
                time.sleep(1.0)
                _assert_alive(settings, services)
        finally:
            _stop_servers(settings)


def down(settings: Settings) -> list[str]:
    """Stops everything that runs for this home, orphans of a killed `up` included; returns the names of what ran.

    Raises:
        LoopError: something cannot be stopped.
    """
    if not settings.services.exists():
        return []
    stopped = []
    main = processes.read(settings).processes.get("up")
    if main and processes.end(main, patience=40.0):  # it stops the others itself, in order
        stopped.append("up")
    stopped += _stop_servers(settings)
    with processes.locked(settings):
        if postgres.stop(settings):
            stopped.append(postgres.NAME)
        processes.write(settings, Record(ports=processes.read(settings).ports))
    return stopped


def env(settings: Settings) -> dict[str, str]:
    """The exports with which plain `dagster dev -w workspace.yaml` works in a shell. They hold the database's password.

    The embedded Postgres is started for that shell and stays until `loop down`.
    """
    urls = ensure_postgres(settings, keep=True)
    tools.prepare(settings, urls)
    return tools.environment(settings, urls)


def exports(settings: Settings) -> str:
    """`env` as lines for `eval`, the first of which says who stops Postgres."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in env(settings).items()]
    return "\n".join(["# Postgres of this home now runs for this shell; `loop down` stops it.", *lines])


# -- parts of up ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _the_only_one(settings: Settings) -> Iterator[None]:
    settings.make_home()
    try:
        lock = contextlib.ExitStack()
        lock.enter_context(processes.locked(settings, "up.lock", patience=0.0))
    except LoopError:
        raise LoopError(f"`loop up` runs already for {settings.home}; `loop down` stops it") from None
    with lock:
        with processes.locked(settings):
            processes.note(settings, "up", processes.myself())
        try:
            yield
        finally:
            with processes.locked(settings):
                processes.note(settings, "up", None)


def _start(settings: Settings, urls: Urls, step: Step) -> list[tools.Service]:
    with step("Databases"):
        tools.prepare(settings, urls)
    services = tools.servers(settings, urls, lambda name: _port(settings, name))
    environment = tools.server_environment(settings, urls)
    with processes.locked(settings):
        for service in services:
            processes.spawn(
                settings,
                service.name,
                service.command,
                address=service.address,
                env=environment,
                cwd=settings.services,
            )
    for service in services:
        with step(service.title):
            _await_healthy(settings, service, services)
    return services


def _stop_servers(settings: Settings) -> list[str]:
    with processes.locked(settings):
        return [name for name in reversed(tools.SERVERS) if processes.stop(settings, name)]


def _port(settings: Settings, name: str) -> int:
    """A free loopback port: the one of last time if it can be, so that a bookmark stays good."""
    with processes.locked(settings):
        record = processes.read(settings)
        for wanted in (record.ports.get(name, 0), 0):
            with contextlib.closing(socket.socket()) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", wanted))
                except OSError:
                    continue
                record.ports[name] = int(probe.getsockname()[1])
                break
        processes.write(settings, record)
        return record.ports[name]


def _await_healthy(settings: Settings, service: tools.Service, all_services: Sequence[tools.Service]) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        _assert_alive(settings, all_services)
        with contextlib.suppress(LoopError):
            if service.healthy():
                return
        time.sleep(0.1)
    raise LoopError(f"{service.title} did not answer within {PATIENCE:.0f} s; {_log(settings, service.name)}")


def _assert_alive(settings: Settings, services: Sequence[tools.Service]) -> None:
    running = processes.read(settings).processes
    for service in services:
        if service.name not in running or not running[service.name].alive:
            raise LoopError(f"{service.title} ended by itself; {_log(settings, service.name)}")
    server = running.get(postgres.NAME)
    if not settings.postgres_url and not (server and server.alive):
        raise LoopError(f"Postgres ended by itself; {_log(settings, postgres.NAME)}")


def _log(settings: Settings, name: str) -> str:
    return f"see {settings.services / name}.log, which ends\n{processes.tail(settings, name)}"


def _warn_of_load_errors(services: Sequence[tools.Service]) -> None:
    port = next(int(s.address.rpartition(":")[2]) for s in services if s.name == "webserver")
    for message in tools.load_errors(port):
        print(f"Dagster could not load {message}", file=sys.stderr)


def _print(addresses: dict[str, str]) -> None:
    for title, address in addresses.items():
        print(f"{title:<8} {address}", flush=True)
    print("Neither has a login: they listen on this machine only. Ctrl-C stops everything.", flush=True)


@contextlib.contextmanager
def _steps() -> Iterator[Step]:
    """Shows what is waited for, on stderr: a spinner on a terminal, else a line when it is done."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(finished_text="[green]✓"), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:

        @contextlib.contextmanager
        def step(title: str) -> Iterator[None]:
            task, began = progress.add_task(title, total=1), time.monotonic()
            yield
            progress.update(task, completed=1)
            if not console.is_terminal:
                print(f"{title} ready after {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)

        yield step
