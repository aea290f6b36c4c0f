"""Servers that a pass starts, each in a folder of its own, and stops again by their process ids; and what they use."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

PATIENCE = 300.0
"""Seconds until a server must answer; the first start of some migrates a database."""
NO_PLACE = "http://127.0.0.1:9/v1"
"""An upstream where nobody listens: with it the gateway runs without a model."""


@dataclass(frozen=True)
class Gateway:
    """A gateway that runs."""

    home: Path
    port: int
    token: str
    front: psutil.Process


@contextlib.contextmanager
def gateway(home: Path, **settings: object) -> Iterator[Gateway]:
    """`loop gateway` for a home, with a token for everything. `settings` as in `loop.config`."""
    given = {f"LOOP_{name.upper()}": str(value) for name, value in {"home": home, **settings}.items()}
    env = {k: v for k, v in os.environ.items() if not k.startswith("LOOP_")} | given
    loop = str(Path(sys.executable).with_name("loop"))
    with served([loop, "gateway", "--json"], env, home.with_name(f"{home.name}.log"), talks=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        if not said:
            raise RuntimeError(f"loop gateway did not start:\n{home.with_name(f'{home.name}.log').read_text()[-2000:]}")
        words = ["token", "create", "--tool", "bench", "--workflow", "ads", "--scope", "feedback", "--scope", "suggest"]
        words += ["--purpose", "training", "--per-minute", str(10**9), "--json"]
        told = subprocess.run([loop, *words], env=env, check=True, stdout=subprocess.PIPE, text=True).stdout
        address = json.loads(said)["Gateway"]
        port, token = urlsplit(address).port, json.loads(told)["token"]
        assert port is not None
        _await_token(port, token)
        yield Gateway(home, port, token, psutil.Process(service(home, "gateway")))


def _await_token(port: int, token: str) -> None:
    until = time.monotonic() + 30
    headers = {"authorization": f"Bearer {token}"}
    while ask(port, "GET", "/v1/models", headers=headers) is None:
        if time.monotonic() > until:
            raise RuntimeError("the gateway does not let the new token in")
        time.sleep(0.1)


@contextlib.contextmanager
def served(
    command: Sequence[str], env: Mapping[str, str], log: Path, *, talks: bool = False
) -> Iterator[subprocess.Popen[str]]:
    """A process that runs as long as the block does, and everything that it started; in a session of its own.

    The kernel shares the processors among sessions: so that one server counts as much as another.
    """
    with log.open("w") as file:
        into, out = (subprocess.PIPE, subprocess.PIPE) if talks else (subprocess.DEVNULL, file)
        process = subprocess.Popen(
            command, env=env, stdin=into, stdout=out, stderr=file, text=True, start_new_session=True
        )
    try:
        yield process
    finally:
        family = _family(process.pid)
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for one in psutil.wait_procs(family, 10)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def await_answer(process: subprocess.Popen[str], port: int, path: str, log: Path) -> None:
    """Wait until a server answers with 200.

    Raises:
        RuntimeError: it ended, or does not answer.
    """
    until = time.monotonic() + PATIENCE
    while ask(port, "GET", path) is None:
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"{process.args} did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.2)


def ask(
    port: int, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> bytes | None:
    """The body of an answer with a status below 300; None otherwise."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            told = answer.read()
        except (OSError, http.client.HTTPException):
            return None
        return told if answer.status < 300 else None


def service(home: Path, name: str) -> int:
    """The process id of a service that runs for a home."""
    told = json.loads((home / "services" / "services.json").read_text())
    return int(told["processes"][name]["pid"])


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as probe:
        return int(probe.getsockname()[1])


# -- what they use ----------------------------------------------------------------------------------------------------


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a process and its living descendants so far."""
    total = 0.0
    for one in _family(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            total += times.user + times.system
    return total


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def load_average() -> float:
    """Of the last minute."""
    return round(os.getloadavg()[0], 2)
