"""The pass of suggesting: 32 people at once ask a nano champion, and others go on deciding meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.gateway import load, made, running
from benchmarks.gateway.asked import CANDIDATES, STEPS, USERS, WORKFLOW, prompts, taught
from benchmarks.gateway.running import Gateway

DECISIONS = 200
"""Events a second of those who decide, over `DECIDERS` connections."""
DECIDERS = 16
ROUTES = ("suggestions", "chat")


def suggest(folder: Path, seconds: float) -> dict[str, Any]:
    """Both routes against the model in a bare loop over the same prompts, before and after; then with feedback."""
    home = folder / "home"
    path = _champion(home)
    asked = prompts()
    command = [sys.executable, "-m", "benchmarks.gateway.bare", str(path)]
    found: dict[str, Any] = {}
    with (
        running.gateway(home) as gateway,
        running.served(command, os.environ, folder / "bare.log", talks=True) as process,
    ):
        _await_champion(gateway.port)
        bare, generator = _Bare(process), running.service(home, "generator")
        for route in ROUTES:
            bare.run(seconds / 2)
            plan = load.Plan(gateway.port, _asking(route, gateway.token, asked), USERS, seconds)
            run, served = _served(gateway, generator, plan)
            bare.run(seconds / 2)
            alone = bare.taken()
            found[route] = run.figures() | {
                "tokens_per_s": round(served["per_s"]),
                "bare_tokens_per_s": round(alone["per_s"]),
                "of_bare": round(served["per_s"] / alone["per_s"], 3),
                "of_bare_by_cpu": round(served["per_cpu_s"] / alone["per_cpu_s"], 3),
            }
        events = made.singles(gateway.token)
        decide = load.Plan(gateway.port, events, DECIDERS, seconds, per_second=DECISIONS, good=made.stored)
        alone = load.run(decide)
        decide = replace(decide, request=lambda n: events(alone.total + n))
        asking = load.Plan(gateway.port, _asking("suggestions", gateway.token, asked), USERS, seconds)
        meanwhile, _ = uvloop.run(_both(decide, asking))
        found["feedback_alone"] = alone.figures()
        found["feedback_meanwhile"] = meanwhile.figures()
    return found


def _champion(home: Path) -> Path:
    """A home whose champion is a nano base of `STEPS` steps; where it lies."""
    from loop import services
    from loop.config import Settings
    from loop.release import releases
    from loop.state import State
    from loop.train import nano
    from loop.weights import weights_digest

    settings = Settings(home=home)
    settings.make_home()
    path = settings.models / "m-bench"
    nano.build(taught(), path, seed=0, steps=STEPS)
    now = datetime.now(UTC)
    model = releases.ModelVersion(
        version="m-bench",
        parent=None,
        cycle=now.date(),
        training_digest=None,
        recipe="{}",
        seed=0,
        code="",
        weights_digest=weights_digest(path),
        path=str(path.relative_to(home)),
        mlflow_run=None,
        created_at=now,
    )
    with services.session(settings) as urls:
        state = State.open(urls.loop)
        try:
            releases.record_model(state, model)
            releases.record_base(state, model.version, cycle=now.date(), author="benchmark", run_id=None)
        finally:
            state.close()
    return path


def _await_champion(port: int) -> None:
    until = time.monotonic() + running.PATIENCE
    while running.ask(port, "GET", "/readyz") is None:
        if time.monotonic() > until:
            raise RuntimeError("the gateway has no champion to serve")
        time.sleep(0.2)


class _Bare:
    """`bare.py`, which runs as long as the gateway does and sleeps between calls."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.told: list[dict[str, float]] = []
        self.run(0.5)
        self.told.clear()

    def run(self, seconds: float) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(seconds, file=self._process.stdin, flush=True)
        self.told.append(json.loads(self._process.stdout.readline()))

    def taken(self) -> dict[str, float]:
        """Tokens a second of wall and CPU in the runs since the last time."""
        sums = {name: sum(told[name] for told in self.told) for name in self.told[0]}
        self.told.clear()
        return {"per_s": sums["tokens"] / sums["wall_s"], "per_cpu_s": sums["tokens"] / sums["cpu_s"]}


def _served(gateway: Gateway, generator: int, plan: load.Plan) -> tuple[load.Run, dict[str, float]]:
    """A run, and the tokens a second that the model wrote meanwhile, of wall and of the generator's CPU."""
    before, began, used = _tokens(gateway.port), time.perf_counter(), running.cpu_seconds(generator)
    run = load.run(plan)
    wall, tokens = time.perf_counter() - began, _tokens(gateway.port) - before
    return run, {"per_s": tokens / wall, "per_cpu_s": tokens / (running.cpu_seconds(generator) - used)}


def _tokens(port: int) -> float:
    told = (running.ask(port, "GET", "/metrics") or b"").decode()
    rows = [line for line in told.splitlines() if line.startswith("loop_gateway_tokens_total") and '"output"' in line]
    return sum(float(row.rpartition(" ")[2]) for row in rows)


async def _both(*plans: load.Plan) -> list[load.Run]:
    return await asyncio.gather(*(load.drive(plan) for plan in plans))


def _asking(route: str, token: str, prompts: list[Any]) -> Callable[[int], bytes]:
    """The nth request for two candidates."""
    more = {
        "suggestions": {"workflow": WORKFLOW, "employee": "person-1"},
        "chat": {"model": WORKFLOW, "user": "person-1"},
    }
    path = {"suggestions": "/v1/suggestions", "chat": "/v1/chat/completions"}[route]
    headers = {"authorization": f"Bearer {token}", "content_type": "application/json"}
    bodies = [json.dumps({**more[route], "messages": prompt, "n": CANDIDATES}).encode() for prompt in prompts]
    requests = [load.request("POST", path, body, **headers) for body in bodies]
    return lambda n: requests[n % len(requests)]
