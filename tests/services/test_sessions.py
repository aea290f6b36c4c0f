"""Who starts Postgres and who stops it, when commands nest, overlap, race and are told to end."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from loop.config import Settings
from loop.services import down, ensure_postgres, processes, session

HOLD = """
from loop.config import load
from loop.services import session
with session(load()) as urls:
    print("in", flush=True)
    input()
"""
ENSURE = """
from loop.config import load
from loop.services import ensure_postgres
ensure_postgres(load(){keep})
print("in", flush=True)
input()
"""


def postgres_runs(settings: Settings) -> bool:
    server = processes.read(settings).processes.get("postgres")
    return server is not None and server.alive


@contextlib.contextmanager
def command(code: str = HOLD) -> Iterator[subprocess.Popen[str]]:
    """Another process of this home, once it has its databases."""
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "in\n"
    try:
        yield other
    finally:
        other.kill()
        other.communicate()


def test_a_session_stops_what_it_started(home: Settings) -> None:
    with session(home):
        assert postgres_runs(home)
    assert processes.read(home).processes == {}
    with pytest.raises(ZeroDivisionError), session(home):
        assert 1 / postgres_runs(home) / 0
    assert processes.read(home).processes == {}


def test_nested_sessions_stop_once(home: Settings) -> None:
    with session(home) as outer:
        with session(home) as inner:
            assert inner == outer == ensure_postgres(home)
        assert postgres_runs(home)
    assert not postgres_runs(home)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_command_that_is_told_to_end_stops_what_it_started(home: Settings, number: signal.Signals) -> None:
    with command() as other:
        assert postgres_runs(home)
        other.send_signal(number)
        other.wait(20)
        assert not postgres_runs(home)


def test_a_command_does_not_stop_postgres_under_another(home: Settings) -> None:
    with command() as other:
        with session(home):
            pass
        assert postgres_runs(home)
        with session(home):
            other.communicate("\n")
            assert other.returncode == 0
            assert postgres_runs(home)
    assert not postgres_runs(home)


def test_what_a_killed_command_left_is_stopped_by_the_next(home: Settings) -> None:
    with command() as other:
        other.kill()
        other.wait()
        assert postgres_runs(home)
        with session(home):
            pass
    assert not postgres_runs(home)


def test_commands_that_start_at_once_share_one_server(bare_settings: Settings) -> None:
    others = [
        subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for other in others:
        assert other.stdout is not None
        assert other.stdout.readline() == "in\n"
    server = processes.read(bare_settings).processes["postgres"]
    assert not (bare_settings.services / "postgres.log.1").exists(), "it was started twice"
    for other in others:
        assert server.alive
        other.communicate("\n")
    assert not server.alive


def test_a_process_has_the_databases_until_it_ends(home: Settings) -> None:
    with command(ENSURE.format(keep="")) as other:
        with session(home):
            pass
        assert postgres_runs(home)
        other.communicate("\n")
    assert not postgres_runs(home)


def test_what_is_kept_stays_until_down(home: Settings) -> None:
    with command(ENSURE.format(keep=", keep=True")) as other:
        other.communicate("\n")
    with session(home):
        pass
    assert postgres_runs(home)
    assert down(home) == ["postgres"]
    assert not postgres_runs(home)
    with session(home):
        pass
    assert not postgres_runs(home), "down forgot that it was to be kept"
