"""To live with a home: `up` and `gateway` run until told to end, `down` stops what is left, `env` serves a shell."""

from __future__ import annotations

import contextlib
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from loop.config import Settings
from loop.errors import BadInputError, LoopError
from loop.services import postgres, processes, serving, tools
from loop.services.postgres import Urls
from loop.services.processes import Record
from loop.services.sessions import ensure_postgres, session

Step = Callable[[str], contextlib.AbstractContextManager[None]]
Announce = Callable[[dict[str, str]], None]

SERVERS = (*tools.SERVERS, *serving.SERVERS)
"""Every service but Postgres, in the order of starting."""

PATIENCE = 180.0
"""Seconds in which a server must answer, on a laptop that does something else too."""


def up(settings: Settings, announce: Announce | None = None) -> None:
    """Runs Postgres, MLflow, the Dagster webserver and daemon and the gateway until Ctrl-C or SIGTERM, then stops them.

    What an `up` that was killed left behind is stopped first. `announce` is told the addresses when everything answers;
    by default they are printed. Postgres and the gateway's processes are started again where they end by themselves.

    Raises:
        BadInputError: the gateway's certificate is none, or its port is taken.
        LoopError: it runs already for this home, or a server does not start, or another one ends by itself.
    """

    def services(urls: Urls) -> list[tools.Service]:
        tools.prepare(settings, urls)
        wanted = tools.servers(settings, urls, lambda name: _port(settings, name))
        return [*wanted, *_gateway(settings, urls)]

    _live(settings, services, announce or _print)


def gateway(settings: Settings, announce: Announce | None = None) -> None:
    """Runs Postgres and the gateway alone, as `up` runs everything.

    A Postgres of the user's own may be away: the gateway collects without it, for the tokens that it knew last time.
    """

    def services(urls: Urls) -> list[tools.Service]:
        try:
            return _gateway(settings, urls)
        except BadInputError:
            raise
        except LoopError as error:
            print(f"{error}\nThe gateway goes on with the tokens that it knew last time.", file=sys.stderr)
            return _gateway(settings, None)

    _live(settings, services, announce or _print, database_first=not settings.postgres_url)


def _live(
    settings: Settings,
    services: Callable[[Urls], list[tools.Service]],
    announce: Announce,
    *,
    database_first: bool = True,
) -> None:
    serving.check_tls(settings)
    with (
        processes.exit_on_signals(),
        contextlib.suppress(KeyboardInterrupt),
        _the_only_one(settings),
        session(settings) if database_first else contextlib.nullcontext(postgres.locate(settings)) as urls,
    ):
        _stop_servers(settings)  # orphans, which would hold last time's ports
        try:
            with _steps() as step:
                with step("Databases"):
                    wanted = services(urls)
                running = _Running(settings, wanted, tools.server_environment(settings, urls))
                running.start(step)
            announce({service.title: service.address for service in wanted if service.address and service.shown})
            _warn(settings, wanted)
            while True:
                time.sleep(1.0)
                running.keep()
        finally:
            _stop_servers(settings)


def down(settings: Settings) -> list[str]:
    """Stops everything that runs for this home, orphans of a killed `up` or `gateway` included; the names of what ran.

    The process of `loop up`, or of `loop gateway`, is called `up`.

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


def mlflow_ui(settings: Settings) -> str:
    """Where a person looks at MLflow: the address of this home's server; if none runs, what `loop up` will give it.

    That is the port of last time, or one chosen now; the next `loop up` takes another only if that is not free then.
    """
    server = processes.read(settings).processes.get("mlflow")
    return server.address if server and server.alive else f"http://127.0.0.1:{_port(settings, 'mlflow')}"


# -- parts of up ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _the_only_one(settings: Settings) -> Iterator[None]:
    settings.make_home()
    try:
        lock = contextlib.ExitStack()
        lock.enter_context(processes.locked(settings, "up.lock", patience=0.0))
    except LoopError:
        raise LoopError(
            f"`loop up` runs already for {settings.home}, or `loop gateway` does; `loop down` stops it"
        ) from None
    with lock:
        with processes.locked(settings):
            processes.note(settings, "up", processes.myself())
        try:
            yield
        finally:
            with processes.locked(settings):
                processes.note(settings, "up", None)


def _gateway(settings: Settings, urls: Urls | None) -> list[tools.Service]:
    """The gateway's services, on a database that has its tables; without `urls`, on one that is left alone.

    Raises:
        LoopError: the database cannot be reached.
    """
    if urls is not None:
        import psycopg2

        from loop.state import State

        try:
            postgres.connect(urls.loop).close()  # in ten seconds; the other would wait for minutes
        except psycopg2.OperationalError as error:
            raise LoopError(f"the database cannot be reached: {' '.join(str(error).split())}") from None
        State.open(urls.loop).close()
    return serving.servers(settings, lambda name: _port(settings, name))


def _stop_servers(settings: Settings) -> list[str]:
    with processes.locked(settings):
        return [name for name in reversed(SERVERS) if processes.stop(settings, name)]


def _port(settings: Settings, name: str) -> int:
    """A free port: the one that is set, or the one of last time if it can be, so that a bookmark stays good.

    Raises:
        BadInputError: the one that is set is not free, or the gateway's host is none of this machine.
    """
    front = name == serving.FRONT
    host, fixed = (settings.gateway_host, settings.gateway_port) if front else ("127.0.0.1", 0)
    with processes.locked(settings):
        record = processes.read(settings)
        for wanted in (fixed,) if fixed else (record.ports.get(name, 0), 0):
            try:
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                with contextlib.closing(socket.create_server((host, wanted), family=family)) as probe:
                    record.ports[name] = int(probe.getsockname()[1])
                    break
            except OSError as error:
                problem = error.strerror or str(error)
        else:
            at = f"port {fixed}" if fixed else "a free port"
            raise BadInputError(f"{at} on {host} cannot be had: {problem}; set gateway_host or gateway_port to another")
        processes.write(settings, record)
        return record.ports[name]


class _Running:
    """Services that were started together, and what becomes of them."""

    def __init__(self, settings: Settings, services: Sequence[tools.Service], environment: Mapping[str, str]) -> None:
        self.settings, self.services, self.environment = settings, services, environment
        self.waits: dict[str, float] = {}
        """Seconds to wait before a service is started again, for those that ended by themselves not long ago."""
        self.due: dict[str, float] = {}
        """When that is, by the monotonic clock."""

    def start(self, step: Step) -> None:
        """Start all at once, and wait until all answer.

        Raises:
            LoopError: one ended, or did not answer in time.
        """
        with processes.locked(self.settings):
            for service in self.services:
                self._spawn(service)
        for service in self.services:
            with step(service.title):
                self._await_healthy(service)

    def keep(self) -> None:
        """Start again what must last and has ended, after a wait that grows as it goes on ending.

        Raises:
            LoopError: another one ended.
        """
        ended = self._ended()
        for name, title in ended.items():
            if name in self.due and time.monotonic() < self.due[name]:
                continue
            waited = self.waits.get(name, 0.0)
            self.waits[name] = min(max(1.0, 2 * waited), 60.0)
            self.due[name] = time.monotonic() + self.waits[name]
            print(f"{title} ended by itself and is started again; {_log(self.settings, name)}", file=sys.stderr)
            self._again(name)
        for name, due in list(self.due.items()):
            if name not in ended and time.monotonic() > due + 60.0:  # it has run for a minute
                del self.due[name], self.waits[name]

    def _again(self, name: str) -> None:
        with processes.locked(self.settings):
            if name == postgres.NAME:
                postgres.stop(self.settings)  # its dead process would look to the next one as if it ran
                with contextlib.suppress(LoopError):  # tried again later: the gateway does without
                    postgres.start(self.settings)
                return
            processes.stop(self.settings, name)  # whatever it has left behind
            self._spawn(next(service for service in self.services if service.name == name))

    def _spawn(self, service: tools.Service) -> None:
        processes.spawn(
            self.settings,
            service.name,
            service.command,
            address=service.address,
            env=self.environment,
            cwd=self.settings.services,
        )

    def _await_healthy(self, service: tools.Service) -> None:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if ended := self._ended():
                name, title = next(iter(ended.items()))
                raise LoopError(f"{title} ended by itself; {_log(self.settings, name)}")
            with contextlib.suppress(LoopError):
                if service.healthy():
                    return
            time.sleep(0.1)
        raise LoopError(f"{service.title} did not answer within {PATIENCE:.0f} s; {_log(self.settings, service.name)}")

    def _ended(self) -> dict[str, str]:
        """Name and title of what must last and does not run.

        Raises:
            LoopError: what need not last does not run.
        """
        running = processes.read(self.settings).processes
        ended = {}
        for service in self.services:
            if service.name not in running or not running[service.name].alive:
                if not service.lasting:
                    raise LoopError(f"{service.title} ended by itself; {_log(self.settings, service.name)}")
                ended[service.name] = service.title
        server = running.get(postgres.NAME)
        if not self.settings.postgres_url and not (server and server.alive):
            ended[postgres.NAME] = "Postgres"
        return ended


def _log(settings: Settings, name: str) -> str:
    return f"see {settings.services / name}.log, which ends\n{processes.tail(settings, name)}"


def _warn(settings: Settings, services: Sequence[tools.Service]) -> None:
    for service in services:
        if service.name == "webserver":
            for message in tools.load_errors(int(service.address.rpartition(":")[2])):
                print(f"Dagster could not load {message}", file=sys.stderr)
    if not serving.is_loopback(settings.gateway_host) and settings.tls_certificate is None:
        print(
            f"The gateway listens on {settings.gateway_host} without TLS: tokens and texts pass in the clear. "
            "Set tls_certificate and tls_key, or put a proxy before it.",
            file=sys.stderr,
        )


def _print(addresses: dict[str, str]) -> None:
    for title, address in addresses.items():
        print(f"{title:<8} {address}", flush=True)
    if "MLflow" in addresses:
        print("MLflow and Dagster have no login: they listen on this machine only.")
    print("A tool needs a token: loop token create --tool NAME --workflow ads --scope suggest --scope feedback")
    print("Ctrl-C stops everything.", flush=True)


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
