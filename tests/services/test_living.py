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
from loop.gateway import access
from loop.services import down, living, processes, session, tools, up
from loop.services.processes import Record
from loop.state import State

UP = """
import json, sys
from pathlib import Path
from loop.config import load
from loop.errors import LoopError
from loop.services import gateway, tools, up
found = tools.repository_file
tools.repository_file = lambda name: Path(sys.argv[1]) / name if name == "workspace.yaml" else found(name)
try:
    (up if sys.argv[2] == "up" else gateway)(load(), lambda addresses: print(json.dumps(addresses), flush=True))
except LoopError as error:
    sys.exit(str(error))
"""


@contextlib.contextmanager
def running(settings: Settings, project: Path, command: str = "up") -> Iterator[subprocess.Popen[str]]:
    """`loop up` of that project, or `loop gateway`, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", UP, str(project), command],
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
    return {name: processes._family(settings, name, recorded.get(name)) for name in (*living.SERVERS, "postgres")}


def started(settings: Settings) -> bool:
    return set(living.SERVERS) <= set(processes.read(settings).processes)


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
        assert [p for name in living.SERVERS for p in orphans[name] if processes._living(p)] == []
        assert addresses == {
            "MLflow": f"http://127.0.0.1:{ports['mlflow']}",
            "Dagster": f"http://127.0.0.1:{ports['webserver']}",
            "Gateway": f"http://127.0.0.1:{ports['gateway']}",
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
    with urllib.request.urlopen(addresses["Gateway"] + "/healthz", timeout=10) as answer:
        assert answer.status == 200
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


EVENT = {
    "suggestion_id": "s1", "revises": None, "episode_id": "e", "turn": 0, "task_id": None, "workflow": "ads",
    "shown_at": "2026-01-05T08:00:00Z", "decided_at": "2026-01-05T08:00:05Z", "employee": "alice@example.org",
    "team": "north", "region": None, "visibility": [], "prompt": [{"role": "user", "content": "brief"}],
    "candidates": [{"position": 0, "text": "one", "logprob": -1.5}], "model_version": "m1", "arm_propensity": 1.0,
    "order_propensity": 1.0, "decision": "accept", "chosen": 0, "final_text": "one", "reasons": [], "dwell_ms": 5000,
    "purposes": ["training"],
}  # fmt: skip


@pytest.mark.slow
def test_the_gateway_lasts(home: Settings, project: Path) -> None:
    """What of it is killed is there again, what it acknowledged too; and without its keeper it goes on serving."""
    with running(home, project, "gateway") as process:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["Gateway"]
        assert set(processes.read(home).processes) == {"up", "postgres", "generator", "gateway"}
        with session(home) as urls:
            state = State.open(urls.loop)
            token = access.create(
                state, tool="desk", workflows=["ads"], scopes=["feedback"], purposes=["training"], author="ann"
            )
            state.close()

        def send(name: str) -> str | None:
            """What became of an event; None where nobody answers, or does not know the token yet."""
            request = urllib.request.Request(
                f"{address}/v1/feedback",
                json.dumps({**EVENT, "event_id": name}).encode(),
                {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            )
            with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=10) as answer:
                return str(json.load(answer)["status"])
            return None

        wait(lambda: send("first") is not None, 5.0)
        assert send("first") == "duplicate"
        for name in ("generator", "postgres", "gateway"):
            before = processes.read(home).processes[name]
            os.kill(before.pid, signal.SIGKILL)
            if name != "gateway":
                assert send(f"while {name} is away") == "stored"
            wait(lambda name=name, before=before: alive(home, name) and not before.alive, 20.0)
        wait(lambda: send("first") == "duplicate", 20.0)
        assert send("while postgres is away") == "duplicate"
        assert processes.read(home).processes["gateway"].address == address

        process.kill()
        process.wait()
        assert send("while nobody keeps it") == "stored"
    with running(home, project, "gateway") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["Gateway"] == address, "a tool's setting stays good"
        wait(lambda: send("while nobody keeps it") == "duplicate", 5.0)
        with pytest.raises(LoopError, match="or `loop gateway` does"):
            up(home)
        assert down(home) == ["up"]
    assert not any(families(home).values())


@pytest.mark.slow
def test_the_gateway_collects_while_a_database_of_the_users_own_is_away(
    settings: Settings, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with session(settings) as urls:
        state = State.open(urls.loop)
        token = access.create(state, tool="desk", workflows=["ads"], scopes=["feedback"], author="ann")
        state.close()
    gate = access.Gate(settings)  # as a gateway that ran before has left it
    assert gate.refresh()
    gate.close()
    monkeypatch.setenv("LOOP_POSTGRES_URL", "postgresql://user:hunter2@127.0.0.1:1/none")
    with running(settings, project, "gateway") as process:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["Gateway"]
        request = urllib.request.Request(
            f"{address}/v1/feedback",
            json.dumps({**EVENT, "event_id": "e1"}).encode(),
            {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert json.load(answer)["status"] == "stored"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "the database cannot be reached" in said
    assert "goes on with the tokens that it knew last time" in said
    assert "hunter2" not in said
    assert not any(families(settings).values())


def alive(settings: Settings, name: str) -> bool:
    found = processes.read(settings).processes.get(name)
    return found is not None and found.alive


def test_down_is_harmless_where_nothing_runs(bare_settings: Settings, home: Settings) -> None:
    assert down(Settings(home=bare_settings.home / "none")) == []
    assert not (bare_settings.home / "none").exists()
    assert down(home) == []
    with session(home):
        assert down(home) == ["postgres"]
    assert down(home) == []
