"""To live with a home: `up`, `gateway` and `studio_up` run until told to end, `down` stops what is left, `env` serves a
shell.
"""

from __future__ import annotations

import contextlib
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from loop.config import Settings
from loop.errors import BadInputError, LoopError
from loop.services import postgres, processes, serving, studio, tools
from loop.services.postgres import Urls
from loop.services.processes import Record
from loop.services.sessions import ensure_postgres, session
from loop.services.waiting import Step, steps

Announce = Callable[[dict[str, str]], None]

SERVERS = (*tools.SERVERS, *serving.SERVERS)
"""Every service that `up` runs but Postgres, in the order of starting."""


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


def studio_up(settings: Settings, announce: Announce | None = None, beside: Callable[[], None] | None = None) -> None:
    """Installs Label Studio if need be and runs it, with Postgres, beside `up` or alone, as `up` runs the others.

    Args:
        beside: called every second while it runs; see `loop.label.studio`.

    Raises:
        LoopError: it cannot be installed, runs already for this home, or does not start.
    """
    with processes.exit_on_signals(), steps() as step, step(f"Label Studio {studio.VERSION} installed") as say:
        studio.install(settings, say)

    def services(urls: Urls) -> list[tools.Service]:
        return [studio.server(settings, _port(settings, studio.NAME))]

    _live(settings, services, announce or _print, main=studio.MAIN, names=(studio.NAME,), beside=beside)


def studio_down(settings: Settings) -> list[str]:
    """Stops Label Studio, or its installation; the names of what ran."""
    if not settings.services.exists():
        return []
    stopped = _end_main(settings, studio.MAIN)
    return stopped + _stop_servers(settings, (studio.INSTALL, studio.NAME))


def _live(  # noqa: PLR0913 - by keyword
    settings: Settings,
    services: Callable[[Urls], list[tools.Service]],
    announce: Announce,
    *,
    database_first: bool = True,
    main: str = "up",
    names: Sequence[str] = SERVERS,
    beside: Callable[[], None] | None = None,
) -> None:
    serving.check_tls(settings)
    with (
        processes.exit_on_signals(),
        contextlib.suppress(KeyboardInterrupt),
        _the_only_one(settings, main),
        session(settings) if database_first else contextlib.nullcontext(postgres.locate(settings)) as urls,
    ):
        _stop_servers(settings, names)  # orphans, which would hold last time's ports
        try:
            with steps() as step:
                with step("Databases"):
                    wanted = services(urls)
                running = _Running(settings, wanted, tools.server_environment(settings, urls))
                running.start(step)
            announce({service.title: service.address for service in wanted if service.address and service.shown})
            _warn(settings, wanted)
            while True:
                time.sleep(1.0)
                running.keep()
                if beside is not None:
                    beside()
        finally:
            _stop_servers(settings, names)


def down(settings: Settings) -> list[str]:
    """Stops everything that runs for this home, orphans of a killed `up` or `gateway` included; the names of what ran.

    The process of `loop up`, or of `loop gateway`, is called `up`; that of `loop studio up`, `studio-up`.

    Raises:
        LoopError: something cannot be stopped.
    """
    if not settings.services.exists():
        return []
    stopped = _end_main(settings, "up") + studio_down(settings) + _stop_servers(settings)
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
def _the_only_one(settings: Settings, main: str) -> Iterator[None]:
    settings.make_home()
    try:
        lock = contextlib.ExitStack()
        lock.enter_context(processes.locked(settings, f"{main}.lock", patience=0.0))
    except LoopError:
        told = "`loop up` runs already for {}, or `loop gateway` does; `loop down` stops it"
        if main == studio.MAIN:
            told = "`loop studio up` runs already for {}; `loop studio down` stops it"
        raise LoopError(told.format(settings.home)) from None
    with lock:
        with processes.locked(settings):
            processes.note(settings, main, processes.myself())
        try:
            yield
        finally:
            with processes.locked(settings):
                processes.note(settings, main, None)


def _end_main(settings: Settings, name: str) -> list[str]:
    main = processes.read(settings).processes.get(name)
    return [name] if main and processes.end(main, patience=40.0) else []  # it stops the others itself, in order


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


def _stop_servers(settings: Settings, names: Sequence[str] = SERVERS) -> list[str]:
    with processes.locked(settings):
        return [name for name in reversed(names) if processes.stop(settings, name)]


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
                server = processes.read(self.settings).processes.get(name)
                if server and server.alive:  # somebody else of this home was quicker
                    return
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
            env=self.environment if service.environment is None else service.environment,
            cwd=self.settings.services,
        )

    def _await_healthy(self, service: tools.Service) -> None:
        until = time.monotonic() + service.patience
        while time.monotonic() < until:
            if ended := self._ended():
                name, title = next(iter(ended.items()))
                raise LoopError(f"{title} ended by itself; {_log(self.settings, name)}")
            with contextlib.suppress(LoopError):
                if service.healthy():
                    return
            time.sleep(0.1)
        raise LoopError(
            f"{service.title} did not answer within {service.patience:.0f} s; {_log(self.settings, service.name)}"
        )

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
    if "Label Studio" in addresses:
        print("Ctrl-C stops it.", flush=True)
        return
    if "MLflow" in addresses:
        print("MLflow and Dagster have no login: they listen on this machine only.")
    print("A tool needs a token: loop token create --tool NAME --workflow ads --scope suggest --scope feedback")
    print("Ctrl-C stops everything.", flush=True)
