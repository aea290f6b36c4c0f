"""`up` and `down` with everything real: MLflow, Dagster webserver and daemon, killed, started again, stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy.engine import make_url

from loop.config import Settings
from loop.errors import LoopError
from loop.services import down, processes, session, tools, up
from loop.services.processes import Record

UP = """
import json, sys
from pathlib import Path
from loop.config import load
from loop.errors import LoopError
from loop.services import tools, up
found = tools.repository_file
tools.repository_file = lambda name: Path(sys.argv[1]) / name if name == "workspace.yaml" else found(name)
try:
    up(load(), lambda addresses: print(json.dumps(addresses), flush=True))
except LoopError as error:
    sys.exit(str(error))
"""


@contextlib.contextmanager
def running(settings: Settings, project: Path) -> Iterator[subprocess.Popen[str]]:
    """`loop up` of that project, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", UP, str(project)],
        env={**os.environ, "LOOP_HOME": str(settings.home)},
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait(condition: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def families(settings: Settings) -> dict[str, list[psutil.Process]]:
    recorded = processes.read(settings).processes
    return {name: processes._family(settings, name, recorded.get(name)) for name in (*tools.SERVERS, "postgres")}


def started(settings: Settings) -> bool:
    return set(tools.SERVERS) <= set(processes.read(settings).processes)


@pytest.mark.slow
def test_up_killed_up_again_down(prepared_home: Settings, project: Path) -> None:
    home = prepared_home
    with running(home, project) as first:
        wait(lambda: started(home))
        first.kill()
        first.wait()
    orphans = families(home)
    assert all(orphans.values()), "kill -9 leaves everything running"
    ports = processes.read(home).ports

    before = sorted(project.rglob("*"))
    with running(home, project) as second:
        assert second.stdout is not None
        addresses = json.loads(second.stdout.readline())
        assert [p for name in tools.SERVERS for p in orphans[name] if processes._living(p)] == []
        assert addresses == {
            "MLflow": f"http://127.0.0.1:{ports['mlflow']}",
            "Dagster": f"http://127.0.0.1:{ports['webserver']}",
        }
        check_what_runs(home, addresses)
        with pytest.raises(LoopError, match="`loop up` runs already"):
            up(home)
        with session(home):
            pass
        assert all(families(home).values()), "a command that ends stops nothing of up's"

        family = [process for members in families(home).values() for process in members]
        assert down(home) == ["up"]
        assert second.wait(5) == 128 + signal.SIGTERM
        assert [process for process in family if processes._living(process)] == []
        assert not any(families(home).values())
        assert processes.read(home) == Record(ports=ports)
    assert [path for path in sorted(project.rglob("*")) if "__pycache__" not in path.parts] == before


def check_what_runs(home: Settings, addresses: dict[str, str]) -> None:
    """Healthy, on this machine only, and no password where others may read it."""
    with urllib.request.urlopen(addresses["MLflow"] + "/health", timeout=10) as answer:
        assert answer.read() == b"OK"
    port = int(addresses["Dagster"].rpartition(":")[2])
    assert tools.load_errors(port) == []
    assets = tools.graphql(port, "{assetNodes {assetKey {path}}}")
    assert assets == {"assetNodes": [{"assetKey": {"path": ["one"]}}]}
    with session(home) as urls:
        password = make_url(urls.loop).password
    assert isinstance(password, str)
    for members in families(home).values():
        for process in members:
            assert password not in " ".join(process.cmdline())
            listening = [c for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
            assert {connection.laddr.ip for connection in listening} <= {"127.0.0.1"}
    assert password not in (home.services / "services.json").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["Ctrl-C", "a server ends by itself"])
def test_up_stops_everything_however_it_ends(prepared_home: Settings, project: Path, how: str) -> None:
    with running(prepared_home, project) as process:
        wait(lambda: started(prepared_home))
        family = [member for members in families(prepared_home).values() for member in members]
        if how == "Ctrl-C":
            process.send_signal(signal.SIGINT)
        else:
            os.kill(processes.read(prepared_home).processes["mlflow"].pid, signal.SIGKILL)
        _, said = process.communicate(timeout=60)
        if how == "Ctrl-C":
            assert process.returncode == 0, said
        else:
            assert process.returncode == 1
            assert "MLflow ended by itself; see " in said
    assert [member for member in family if processes._living(member)] == []
    assert not any(families(prepared_home).values())


def test_down_is_harmless_where_nothing_runs(bare_settings: Settings, home: Settings) -> None:
    assert down(Settings(home=bare_settings.home / "none")) == []
    assert not (bare_settings.home / "none").exists()
    assert down(home) == []
    with session(home):
        assert down(home) == ["postgres"]
    assert down(home) == []
