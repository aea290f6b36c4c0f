"""Helpers: tasks of every kind, and a real Label Studio, run by `loop studio up`."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from random import Random
from typing import Any

import httpx
import sqlalchemy as sa

from loop.config import Settings
from loop.home import Home
from loop.label import tasks
from loop.label.studio import pull, push
from loop.label.studio.rest import Rest
from loop.label.tasks import Kind, Origin
from loop.services.studio import Studio

DAY = date(2026, 1, 5)
GIVEN = os.environ.get("STUDIO_ENV")
"""An environment that Label Studio was installed in before, for whoever runs these tests often."""


def question(kind: Kind, n: int = 0, **given: Any) -> dict[str, Any]:
    """A task of a kind; its workflow is the kind's own here."""
    shown: dict[Kind, dict[str, Any]] = {
        Kind.PREFERENCE: {"workflow": "ads", "texts": [f"one {n}", f"two {n}\n& <i>more</i>"]},
        Kind.RATING: {"workflow": "design", "texts": [f"text {n}"], "options": ["poor", "fair", "good"]},
        Kind.CATEGORY: {"workflow": "moderation", "texts": [f"text {n}"], "options": ["spam", "hate", "fine"]},
        Kind.SPAN: {"workflow": "comms", "texts": [f"Hi \U0001f600 world,\nline {n}"], "options": ["error", "tone"]},
        Kind.REWRITE: {"workflow": "comms", "texts": [f"bad {n}"]},
        Kind.RED_TEAM: {"workflow": "comms", "prompt": [{"role": "user", "content": f"try {n}"}]},
    }
    prompt = [{"role": "user", "content": "An ad for <b>shoes</b> & socks"}]
    asked = {"prompt": prompt, "origin": Origin.IMPORT, "reason": "random", "wanted": 2, **shown[kind], **given}
    return tasks.task(day=DAY, kind=kind, **asked)


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """What it says, as soon as that is anything."""
    end = time.monotonic() + seconds
    while not (told := condition()):
        assert time.monotonic() < end, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(0.1)
    return told


@dataclass
class Command:
    """`loop studio up` in a process of its own."""

    process: subprocess.Popen[str]
    log: Path
    began: float = field(default_factory=time.monotonic)

    def announced(self, seconds: float) -> dict[str, Any] | None:
        """What it says once Label Studio answers; None if it ends before."""
        out = self.log.with_suffix(".out")
        until(lambda: out.read_text().endswith("\n") or self.process.poll() is not None, seconds, "Label Studio")
        return json.loads(out.read_text() or "null")  # type: ignore[no-any-return]


@contextlib.contextmanager
def up(settings: Settings, environment: Path, log: Path) -> Iterator[Command]:
    """It runs within, and is killed at the end if it does; what it started may stay."""
    given = {"LOOP_HOME": settings.home, "LOOP_STUDIO_ENV": environment, "LOOP_STUDIO_POLL_SECONDS": 3_600}
    variables = {**os.environ, **{name: str(value) for name, value in given.items()}}
    command = [str(Path(sys.executable).with_name("loop")), "studio", "up", "--json"]
    with (
        log.open("w") as said,
        log.with_suffix(".out").open("w") as out,
        subprocess.Popen(command, env=variables, stdout=out, stderr=said, text=True) as process,
    ):
        try:
            yield Command(process, log)
        finally:
            process.kill()


@dataclass
class Person:
    """Somebody with an account there."""

    address: str
    http: httpx.Client

    def answer(self, task: int, choice: str | None, **given: Any) -> int:
        """Answer a task by REST as its page does, or skip it; the answer's number."""
        value = {"from_name": "answer", "to_name": "left_text", "type": "choices", "value": {"choices": [choice]}}
        told = {"result": [value] if choice else [], "lead_time": 1.5, "was_cancelled": choice is None, **given}
        return int(self.ask("POST", f"/api/tasks/{task}/annotations/", told)["id"])

    def change(self, annotation: int, choice: str) -> None:
        value = {"from_name": "answer", "to_name": "left_text", "type": "choices", "value": {"choices": [choice]}}
        self.ask("PATCH", f"/api/annotations/{annotation}/", {"result": [value]})

    def delete(self, annotation: int) -> None:
        self.ask("DELETE", f"/api/annotations/{annotation}/")

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        self.http.headers["X-CSRFToken"] = self.http.cookies.get("csrftoken", "")
        reply = self.http.request(method, path, json=body)
        assert reply.is_success, reply.text
        return reply.json() if reply.content else None


def sign_up(rest: Rest, address: str, password: str) -> Person:
    """Make an account by the link that `loop studio invite` shows."""
    http = httpx.Client(base_url=rest.url, trust_env=False, timeout=60, follow_redirects=True)
    link = rest.ask("GET", "/api/invite")["invite_url"]
    http.get(link)
    form = {"email": address, "password": password, "csrfmiddlewaretoken": http.cookies["csrftoken"]}
    reply = http.post(link, data=form, headers={"Referer": rest.url})
    assert http.get("/api/current-user/whoami").json()["email"] == address, reply.text
    return Person(address, http)


def rows(home: Home) -> list[dict[str, Any]]:
    """All of `annotations`, by task, person and version."""
    table = home.state.tables["annotations"]
    query = sa.select(table).order_by(table.c.label_task_id, table.c.annotator, table.c.version)
    with home.state.engine.connect() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def send(home: Home, bridge: Rest, **given: Any) -> push.Pushed:
    return push.push(home.settings, home.lake, home.state, bridge, now=now(), random=Random(3), **given)


def fetch(home: Home, bridge: Rest, **given: Any) -> pull.Pulled:
    return pull.pull(home.settings, home.lake, home.state, bridge, **given)


def tasks_of(bridge: Rest, project: int) -> list[dict[str, Any]]:
    return [task for page in bridge.tasks(project) for task in page]


def project_of(bridge: Rest, title: str) -> int:
    (found,) = (project["id"] for project in bridge.projects() if project["title"] == title)
    return int(found)


def fetch_rows(home: Home, bridge: Rest, *, answers: int, new: int) -> list[dict[str, Any]]:
    done = fetch(home, bridge)
    assert (done.answers, done.recorded.new, dict(done.set_aside)) == (answers, new, {})
    return rows(home)


def by_task(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["label_task_id"]: row for row in found}


def now() -> datetime:
    return datetime.now(UTC)


def rest_of(settings: Settings, url: str) -> Rest:
    return Rest(Studio(url, settings.secret("studio_token").hex()[:40]))
