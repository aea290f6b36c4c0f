"""Dagster and MLflow meet a home: environment, instance, first-time schemas, plain commands."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from loop.config import Settings, load
from loop.errors import LoopError
from loop.services import down, env, environment, exports, mlflow_ui, postgres, prepare, processes, session, tools
from loop.services.processes import Running

PROGRAMS = Path(sys.executable).parent


def test_the_environment_names_this_home_and_its_databases(settings: Settings) -> None:
    with session(settings) as urls:
        variables = environment(settings, urls)
    assert variables["LOOP_HOME"] == str(settings.home)
    assert load().home == settings.home
    assert variables["DAGSTER_HOME"] == str(settings.home / "dagster")
    assert variables["DAGSTER_POSTGRES_URL"] == urls.dagster
    assert variables["MLFLOW_TRACKING_URI"] == urls.mlflow
    assert variables["LOOP_POSTGRES_URL"] == settings.as_environment()["LOOP_POSTGRES_URL"]
    assert variables["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert [name for name in variables if name.startswith("LOOP_")] == ["LOOP_HOME", "LOOP_POSTGRES_URL"]


def test_the_instance_is_the_repositorys(bare_settings: Settings) -> None:
    link = bare_settings.dagster_home / "dagster.yaml"
    tools.link_instance(bare_settings)
    assert link.resolve() == Path(__file__).parents[2] / "dagster.yaml"
    link.unlink()
    link.symlink_to("/somewhere/else")
    tools.link_instance(bare_settings)
    assert link.resolve() == Path(__file__).parents[2] / "dagster.yaml"
    link.unlink()
    link.write_text("# my own\n")
    tools.link_instance(bare_settings)
    assert link.read_text() == "# my own\n"


def test_a_file_that_is_nowhere_says_how_to_install() -> None:
    with pytest.raises(LoopError, match=r"nothing\.yaml is neither beside nor in .*; install Loop"):
        tools.repository_file("nothing.yaml")


def test_the_ui_of_mlflow_is_where_its_server_runs_or_will_run(bare_settings: Settings) -> None:
    coming = mlflow_ui(bare_settings)
    assert coming == f"http://127.0.0.1:{processes.read(bare_settings).ports['mlflow']}"
    me = processes.myself()
    with processes.locked(bare_settings):
        processes.note(bare_settings, "mlflow", Running(me.pid, me.birth, "http://127.0.0.1:5000"))
        assert mlflow_ui(bare_settings) == "http://127.0.0.1:5000"
        processes.note(bare_settings, "mlflow", Running(me.pid, "long ago", "http://127.0.0.1:5000"))
    assert mlflow_ui(bare_settings) == coming


@pytest.mark.slow
def test_tables_are_made_once(prepared_home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with session(prepared_home) as urls:
        for url, table in ((urls.dagster, "runs"), (urls.dagster, "event_logs"), (urls.mlflow, "model_versions")):
            with contextlib.closing(postgres.connect(url)) as connection, connection.cursor() as cursor:
                cursor.execute(f"SELECT count(*) FROM {table}")
                assert cursor.fetchone() == (0,)
        with contextlib.closing(postgres.connect(urls.mlflow)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT name, artifact_location LIKE 'file:///%' FROM experiments")
            assert cursor.fetchall() == [("Default", True)]

        monkeypatch.setattr(tools, "_run_all", lambda *_: pytest.fail("prepared twice"))
        prepare(prepared_home, urls)
        with contextlib.closing(postgres.connect(urls.loop)) as connection:
            connection.autocommit = True
            connection.cursor().execute("CREATE DATABASE empty")
        empty = postgres.Urls(urls.loop, make_url(urls.loop).set(database="empty").render_as_string(False), urls.mlflow)
        done: list[set[str]] = []
        monkeypatch.setattr(tools, "_run_all", lambda commands, *_: done.append(set(commands)))
        with pytest.raises(LoopError, match=r"dagster: .*no revision"):
            prepare(prepared_home, empty)
        assert done == [{"dagster"}], "another database is prepared although the home remembers one"


def test_a_migration_that_fails_says_why(tmp_path: Path) -> None:
    commands = {
        "dagster": [sys.executable, "-c", "print('started'); raise SystemExit('table is missing')"],
        "mlflow": ["sleep", "300"],
    }
    with pytest.raises(LoopError, match=r"dagster: could not prepare its database:\nstarted\ntable is missing"):
        tools._run_all(commands, dict(os.environ), tmp_path)


@pytest.mark.slow
def test_plain_dagster_works_and_writes_nothing_into_the_project(prepared_home: Settings, project: Path) -> None:
    home = prepared_home
    exported = f'{sys.executable} -c "from loop import config, services; print(services.exports(config.load()))"'
    shell = f'eval "$({exported})"; exec {PROGRAMS / "dagster"} definitions validate -w workspace.yaml'
    before = sorted(project.rglob("*"))
    variables = {**os.environ, "LOOP_HOME": str(home.home), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        ["bash", "-c", shell], cwd=project, env=variables, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Validation successful for code location loop" in done.stderr + done.stdout
    assert sorted(project.rglob("*")) == before
    assert processes.read(home).keep, "the shell's Postgres has to stay"

    script = """
from dagster import DagsterInstance
with DagsterInstance.get() as instance:
    print(type(instance.run_storage).__name__, type(instance.run_coordinator).__name__, instance.telemetry_enabled)
    print(instance.storage_directory(), instance.run_monitoring_enabled, instance.get_concurrency_config().pool_config)
"""
    variables = {**os.environ, **env(home)}
    done = subprocess.run([sys.executable, "-c", script], env=variables, text=True, capture_output=True, check=True)
    first, second = done.stdout.splitlines()
    assert first == "PostgresRunStorage QueuedRunCoordinator False"
    assert second.startswith(f"{home.home}/dagster/storage True ")
    assert "default_pool_limit=1" in second
    assert down(home) == ["postgres"]


@pytest.mark.slow
def test_exports_survive_a_shell(prepared_home: Settings) -> None:
    lines = exports(prepared_home)
    assert lines.startswith("# Postgres of this home now runs for this shell; `loop down` stops it.\nexport ")
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run([bash, "-c", f"{lines}\nenv -0"], env={}, text=True, capture_output=True, check=True)
    seen = dict(line.split("=", 1) for line in done.stdout.split("\0") if line)
    assert {name: seen[name] for name in env(prepared_home)} == env(prepared_home)
