"""Fixtures that every test may use: an environment without the developer's settings, and databases."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy.engine import make_url

from loop.config import Settings, load
from loop.home import Home, open_home
from loop.services import Urls, postgres, prepare, processes, session
from loop.state import State

# A shell that starts the tests in the background has them, and all that they start, ignore Ctrl-C; nohup, a hang-up.
for _signal, _default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_signal) is signal.SIG_IGN:
        signal.signal(_signal, _default)

_NAMES = (f"test_{number}" for number in itertools.count(1))


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the developer's own LOOP_* variables, loop.toml, Dagster or MLflow."""
    for variable in list(os.environ):
        if variable.startswith(("LOOP_", "DAGSTER_", "MLFLOW_")):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("LOOP_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="session")
def postgres_urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Urls]:
    """The databases of an embedded server that the tests of this worker share. Make your own on it: see `settings`."""
    settings = Settings(home=tmp_path_factory.mktemp("shared") / "home")
    with processes.locked(settings):
        urls = postgres.start(settings, fsync="off", full_page_writes="off")
        server = processes.read(settings).processes["postgres"]
    # A test run that is killed cannot stop its server: this shell reads until the pipe breaks, and then does.
    script = 'read -r _; kill -INT "$0"; sleep 2; rm -rf "$1"'
    words = ["sh", "-c", script, str(server.pid), server.address]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True) as watch:
        yield urls
        watch.kill()
    with processes.locked(settings):
        postgres.stop(settings)


@pytest.fixture
def bare_settings(tmp_path: Path) -> Settings:
    """A fresh home without a database; an embedded server of its own would be started if one is asked for."""
    return Settings(home=tmp_path / "home")


def _drop(cursor: psycopg2.extensions.cursor, name: str) -> None:
    """Drop a database; again where a worker of the server, which nobody may end, was cleaning it up just then."""
    for attempt in range(20):
        try:
            cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        except psycopg2.errors.InsufficientPrivilege:
            if attempt == 19:
                raise
            time.sleep(0.5)
        else:
            return


@contextlib.contextmanager
def _administering(urls: Urls) -> Iterator[psycopg2.extensions.cursor]:
    """To make and drop databases on the shared server."""
    plain = make_url(urls.loop).set(drivername="postgresql").render_as_string(hide_password=False)
    with contextlib.closing(psycopg2.connect(plain)) as connection:
        connection.autocommit = True
        yield connection.cursor()


def _database(urls: Urls, name: str) -> str:
    return make_url(urls.loop).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def tables(postgres_urls: Urls) -> str:
    """Name of a database in which Loop's migrations were run: to copy it takes a tenth of the time to run them."""
    with _administering(postgres_urls) as cursor:
        cursor.execute("CREATE DATABASE tables")
    State.open(_database(postgres_urls, "tables")).close()
    return "tables"


@pytest.fixture
def template(tables: str) -> str:
    """Of which database a test's own is a copy. A file whose tests are to migrate it themselves says "template1"."""
    return tables


@pytest.fixture
def settings(postgres_urls: Urls, template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """A fresh home whose LOOP_POSTGRES_URL is a database of its own on the shared server (in the environment too)."""
    name = next(_NAMES)
    with _administering(postgres_urls) as cursor:
        cursor.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        monkeypatch.setenv("LOOP_POSTGRES_URL", _database(postgres_urls, name))
        yield load(home=tmp_path / "home")
        for sibling in (name, f"{name}_dagster", f"{name}_mlflow"):
            _drop(cursor, sibling)


@pytest.fixture(scope="session")
def tools(postgres_urls: Urls, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `services` of a home whose databases `tools_dagster` and `tools_mlflow` are those tools' own."""
    with _administering(postgres_urls) as cursor:
        cursor.execute("CREATE DATABASE tools")
    made = Settings(home=tmp_path_factory.mktemp("tools") / "home", postgres_url=_database(postgres_urls, "tools"))
    with session(made) as urls:
        prepare(made, urls)
    return made.services


@pytest.fixture
def prepared(settings: Settings, postgres_urls: Urls, tools: Path) -> Settings:
    """`settings` of a home in which `prepare` finds the tables of Dagster and MLflow made: four seconds less."""
    name = postgres.parse(settings).database
    with _administering(postgres_urls) as cursor:
        for tool in ("dagster", "mlflow"):
            cursor.execute(f"CREATE DATABASE {name}_{tool} TEMPLATE tools_{tool}")
    settings.services.mkdir(mode=0o700, parents=True)
    shutil.copy(tools / "prepared.json", settings.services)
    return settings


@pytest.fixture
def home(settings: Settings) -> Iterator[Home]:
    """A fresh home, opened, on a fresh database."""
    with open_home(settings) as opened:
        yield opened
