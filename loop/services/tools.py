"""Dagster and MLflow as tools of a home: their environment, their first-time schemas, the commands that serve them.

Neither is imported here: what needs them runs in processes of their own.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.metadata
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

import loop
from loop.config import Settings
from loop.errors import LoopError
from loop.services import postgres, processes
from loop.services.postgres import Urls

SERVERS: Final = ("mlflow", "webserver", "daemon")
"""What `loop up` runs beside the gateway, in the order of starting."""

_TELEMETRY_OFF: Final = {
    "DAGSTER_DISABLE_TELEMETRY": "yes",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def environment(settings: Settings, urls: Urls) -> dict[str, str]:
    """The variables with which Dagster, MLflow and Loop itself meet this home. They hold the database's password."""
    link_instance(settings)
    return {
        **settings.as_environment(),
        "DAGSTER_HOME": str(settings.dagster_home),
        "DAGSTER_POSTGRES_URL": urls.dagster,
        "MLFLOW_TRACKING_URI": mlflow_uri(settings, urls),
        **_TELEMETRY_OFF,
    }


def mlflow_uri(settings: Settings, urls: Urls) -> str:
    """Where to write to MLflow: its database, whether a server runs or not.

    The same with and without `loop up`; and a server refuses a model version whose files lie outside its run's folder.
    """
    return urls.mlflow


def repository_file(name: str) -> Path:
    """`dagster.yaml` or `workspace.yaml`: in the repository, or within the package where that was installed whole.

    Raises:
        LoopError: it is in neither.
    """
    package = Path(loop.__file__).parent
    for path in (package.parent / name, package / "services" / name):
        if path.is_file():
            return path
    raise LoopError(f"{name} is neither beside nor in {package}; install Loop from its repository: pip install -e .")


def link_instance(settings: Settings) -> None:
    """Makes DAGSTER_HOME, in which the repository's dagster.yaml is linked. A file of the user's own is left there."""
    link, target = settings.dagster_home / "dagster.yaml", repository_file("dagster.yaml")
    settings.make_home()
    settings.dagster_home.mkdir(mode=0o700, exist_ok=True)
    if link.is_symlink():
        if link.readlink() == target:
            return
    elif link.exists():
        return
    fresh = link.with_name(f".dagster.yaml-{os.getpid()}")
    fresh.symlink_to(target)
    fresh.replace(link)


# -- first-time schemas -----------------------------------------------------------------------------------------------


class _Prepared(msgspec.Struct, frozen=True):
    """What was done, so that it is done once: versions of the packages, and the revision that they left."""

    packages: str
    revision: str


_PACKAGES: Final = {"dagster": ("dagster", "dagster-postgres"), "mlflow": ("mlflow",)}
_SCRIPTS: Final = {
    "dagster": """
from dagster import DagsterInstance
with DagsterInstance.get() as instance:
    instance.upgrade()
""",
    # The store makes the first experiment, whose artifacts would else go to the current folder.
    "mlflow": """
import os
from mlflow.db import commands
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
url = os.environ["MLFLOW_TRACKING_URI"]
commands(["upgrade", url], standalone_mode=False)
SqlAlchemyStore(url, os.environ["MLFLOW_DEFAULT_ARTIFACT_ROOT"])
""",
}


def prepare(settings: Settings, urls: Urls) -> None:
    """Makes or migrates the tables of Dagster and MLflow, both at once, if these versions have not done so yet.

    Some five seconds on a new home, mostly imports, in processes of their own: call it in a thread to do something else
    meanwhile. Afterwards two queries.

    Raises:
        LoopError: a migration failed; the message ends with what it printed.
    """
    file = settings.services / "prepared.json"
    with processes.locked(settings, "prepare.lock", patience=600):
        packages = {tool: " ".join(map(importlib.metadata.version, names)) for tool, names in _PACKAGES.items()}
        try:
            done = msgspec.json.decode(file.read_bytes(), type=dict[str, _Prepared])
        except (FileNotFoundError, msgspec.MsgspecError):
            done = {}
        databases = {"dagster": urls.dagster, "mlflow": urls.mlflow}
        left = [t for t in _SCRIPTS if done.get(t) != _Prepared(packages[t], _revision(databases[t]) or "none")]
        if not left:
            return
        store = {"MLFLOW_DEFAULT_ARTIFACT_ROOT": artifacts(settings).as_uri()}
        env = {**os.environ, **environment(settings, urls), **store}
        _run_all({tool: [sys.executable, "-c", _SCRIPTS[tool]] for tool in left}, env, settings.services)
        for tool in left:
            revision = _revision(databases[tool])
            if revision is None:
                raise LoopError(f"{tool}: migrated its database, yet there is no revision in it; remove {file}")
            done[tool] = _Prepared(packages[tool], revision)
        processes.replace(file, msgspec.json.encode(done))


def artifacts(settings: Settings) -> Path:
    """Where MLflow keeps files."""
    path = settings.services / "mlflow"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def _run_all(commands: Mapping[str, list[str]], env: Mapping[str, str], cwd: Path) -> None:
    children: dict[str, subprocess.Popen[str]] = {}
    try:
        for name, command in commands.items():
            children[name] = subprocess.Popen(
                command,
                env=env,
                cwd=cwd,
                text=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                umask=0o077,
            )
        for name, child in children.items():
            printed, _ = child.communicate()
            if child.returncode:
                last = "\n".join(printed.strip().splitlines()[-8:])
                raise LoopError(f"{name}: could not prepare its database:\n{last}")
    finally:
        for child in children.values():
            if child.poll() is None:
                child.kill()
                child.communicate()


def _revision(url: str) -> str | None:
    """The migration at which a tool's database stands; None if it has no tables yet."""
    import psycopg2

    with contextlib.closing(postgres.connect(url)) as connection, connection.cursor() as cursor:
        try:
            cursor.execute("SELECT version_num FROM alembic_version")
        except psycopg2.errors.UndefinedTable:
            return None
        row = cursor.fetchone()
        return str(row[0]) if row else None


# -- servers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Service:
    """A server that runs until it is told to end."""

    name: str
    title: str
    command: tuple[str, ...]
    address: str
    healthy: Callable[[], bool]
    """Whether it answers. A LoopError says no as well."""
    shown: bool = True
    """Whether a person has any use for its address."""
    lasting: bool = False
    """Whether it is started again where it ends by itself; else everything ends with it."""
    patience: float = 180.0
    """Seconds in which it must answer, on a laptop that does something else too."""
    environment: Mapping[str, str] | None = field(default=None, repr=False)
    """All that it sees of the environment; None: what the others see."""


def servers(settings: Settings, urls: Urls, port: Callable[[str], int]) -> list[Service]:
    """The servers of `SERVERS`, in its order.

    `port` gives the loopback port of a service. None has a login: they listen on 127.0.0.1 only.
    """
    programs = Path(sys.executable).parent
    workspace = str(repository_file("workspace.yaml"))
    at = {name: port(name) for name in ("mlflow", "webserver")}
    started = time.time()
    mlflow = (str(programs / "mlflow"), "server", "--workers", "1", "--host", "127.0.0.1", "--port", str(at["mlflow"]))
    webserver = (str(programs / "dagster-webserver"), "-h", "127.0.0.1", "-p", str(at["webserver"]), "-w", workspace)
    return [
        Service(
            "mlflow",
            "MLflow",
            mlflow,
            f"http://127.0.0.1:{at['mlflow']}",
            lambda: _get(at["mlflow"], "/health") is not None,
        ),
        Service(
            "webserver",
            "Dagster",
            webserver,
            f"http://127.0.0.1:{at['webserver']}",
            lambda: _get(at["webserver"], "/server_info") is not None,
        ),
        Service(
            "daemon",
            "Dagster daemon",
            (str(programs / "dagster-daemon"), "run", "-w", workspace),
            "",
            lambda: daemon_beats(at["webserver"], started),
        ),
    ]


def server_environment(settings: Settings, urls: Urls) -> dict[str, str]:
    """What the servers inherit. URLs with a password go here, for everybody may read a command line."""
    store = artifacts(settings).as_uri()
    return {
        **os.environ,
        **environment(settings, urls),
        "MLFLOW_BACKEND_STORE_URI": urls.mlflow,
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": store,
        "MLFLOW_ARTIFACTS_DESTINATION": store,
        # Seven more processes and 0.8 GB, for jobs that judge traces by hosted models.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def daemon_beats(port: int, since: float) -> bool:
    """Whether every daemon that this instance needs has given a sign of life after `since` (seconds since 1970)."""
    answer = graphql(port, "{instance {daemonHealth {allDaemonStatuses {required lastHeartbeatTime}}}}")
    statuses = answer["instance"]["daemonHealth"]["allDaemonStatuses"]
    beats = [status["lastHeartbeatTime"] for status in statuses if status["required"]]
    return bool(beats) and all(beat is not None and beat >= since for beat in beats)


def load_errors(port: int) -> list[str]:
    """Why Dagster could not load code locations, one message each."""
    answer = graphql(
        port,
        "{workspaceOrError {... on PythonError {message} ... on Workspace {locationEntries {name locationOrLoadError "
        "{... on PythonError {message}}}}}}",
    )
    workspace = answer["workspaceOrError"]
    if "message" in workspace:
        return [workspace["message"].strip()]
    found = [(e["name"], (e["locationOrLoadError"] or {}).get("message")) for e in workspace["locationEntries"]]
    return [f"{name}: {message.strip()}" for name, message in found if message]


def graphql(port: int, query: str) -> dict[str, Any]:
    """The `data` of the webserver's answer.

    Raises:
        LoopError: it gave none.
    """
    body = _get(port, "/graphql", json.dumps({"query": query}))
    data: dict[str, Any] | None = json.loads(body)["data"] if body else None
    if data is None:
        raise LoopError(f"the Dagster webserver at 127.0.0.1:{port} did not answer the query {query}")
    return data


def _get(port: int, path: str, post: str | None = None) -> bytes | None:
    """The body of a 200 answer. Without urllib, which would ask a proxy for 127.0.0.1 where one is configured."""
    headers = {"Content-Type": "application/json"} if post else {}
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        try:
            connection.request("POST" if post else "GET", path, post, headers)
            answer = connection.getresponse()
            return answer.read() if answer.status == http.client.OK else None
        except (OSError, http.client.HTTPException):  # it does not listen yet, or is going
            return None
