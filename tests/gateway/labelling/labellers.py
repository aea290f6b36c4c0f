"""Helpers: a home with tasks, people who label, and a browser of little: it keeps cookies and fills in forms."""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import psycopg2
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from loop import schema
from loop.config import Settings
from loop.home import Home, open_home
from loop.label import annotators, tasks
from loop.label.tasks import Kind, Origin
from loop.services import Urls
from tests.gateway.fronts import Running, serving

DAY = date(2026, 1, 5)
ALL = ("ads", "moderation", "design", "comms")


def question(n: int = 0, **given: Any) -> dict[str, Any]:
    """A row of `label_tasks`; a preference unless something else is said."""
    asked = {"kind": Kind.PREFERENCE, "texts": [f"one {n}", f"two {n}"], "origin": Origin.IMPORT, "reason": "random"}
    if "workflow" not in given:
        given["workflow"] = "ads"
    return tasks.task(day=DAY, **{**asked, **given})


def ask(home: Home, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    tasks.add(home.lake, home.state, rows)
    return list(rows)


def join(home: Home, person: str = "ann@example.org", **given: Any) -> str:
    """The person's token."""
    values = {"workflows": ALL, "author": "lead", **given}
    return annotators.add(home.settings, home.state, person=person, **values)[1]


def stored(home: Home) -> list[dict[str, Any]]:
    """All that was answered, in order."""
    rows = home.state.arrow("annotations").to_pylist()
    return sorted(rows, key=lambda row: (row["answered_at"], row["version"]))


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: list[dict[str, Any]] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        if tag == "form":
            self.forms.append({"action": given["action"], "hidden": {}, "radio": {}, "spans": []})
        if tag == "input" and self.forms:
            form = self.forms[-1]
            name, value = given.get("name") or "", given.get("value") or ""
            if given.get("type") == "hidden" and name == "span":
                form["spans"].append(value)
            elif given.get("type") == "hidden":
                form["hidden"][name] = value
            elif given.get("type") == "radio":
                form["radio"].setdefault(name, []).append(value)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@dataclass
class Person:
    """Somebody with a browser."""

    client: httpx.Client
    page: httpx.Response | None = None

    def look(self, path: str = "/label") -> httpx.Response:
        self.page = self.client.get(path)
        return self.page

    @property
    def text(self) -> str:
        assert self.page is not None
        return self.page.text

    @property
    def heading(self) -> str:
        found = re.search(r"<h1>(.*?)</h1>", self.text, re.DOTALL)
        return found[1] if found else ""

    @property
    def note(self) -> str:
        found = re.search(r'<p class="note[^"]*">(.*?)(?: <span|</p>)', self.text, re.DOTALL)
        return found[1] if found else ""

    def parsed(self) -> _Page:
        return _Page(self.text)

    def form(self, action: str) -> dict[str, Any]:
        return next(form for form in self.parsed().forms if form["action"] == action)

    def send(self, path: str, /, **fields: Any) -> httpx.Response:
        """Send the first form of that action, its hidden fields with these."""
        form = self.form(path)
        data: dict[str, Any] = {**form["hidden"], **({"span": form["spans"]} if form["spans"] else {}), **fields}
        self.page = self.client.post(path, data=data)
        return self.page

    def answer(self, **fields: Any) -> httpx.Response:
        return self.send("/label/answer", action="answer", **fields)

    def skip(self, **fields: Any) -> httpx.Response:
        return self.send("/label/answer", action="skip", **fields)


def enter(running: Running, token: str) -> Person:
    """Somebody who has logged in and sees the first page."""
    client = httpx.Client(base_url=running.url, trust_env=False, follow_redirects=True, timeout=20.0)
    person = Person(client)
    person.look("/label/login")
    person.page = client.post("/label/login", data={"token": token})
    return person


@contextlib.contextmanager
def labelling(urls: Urls, folder: Path, **given: Any) -> Iterator[tuple[Home, Running]]:
    """A home on a database of its own, and its front."""
    server, name = make_url(urls.loop), f"labelling_{uuid.uuid4().hex[:12]}"
    plain = server.set(drivername="postgresql")
    address = plain.render_as_string(hide_password=False)
    with contextlib.closing(psycopg2.connect(address)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(f"CREATE DATABASE {name}")
        try:
            url = plain.set(database=name).render_as_string(hide_password=False)
            settings = Settings(home=folder / "home", postgres_url=url, **given)
            with open_home(settings) as home, serving(settings) as running:
                yield home, running
        finally:
            for sibling in (name, f"{name}_dagster", f"{name}_mlflow"):
                cursor.execute(f"DROP DATABASE IF EXISTS {sibling} WITH (FORCE)")


def cleared(home: Home, running: Running) -> None:
    """Nobody labels, and nothing was asked yet."""
    with home.state.transaction() as connection:
        for name in ("annotations", "annotators", "gold", "appeals"):
            connection.execute(sa.delete(home.state.tables[name]))
    for day, workflow in home.lake.partitions("label_tasks"):
        home.lake.overwrite("label_tasks", schema.LABEL_TASKS.empty(), day=day, workflow=workflow)
    restarted(home, running)


def restarted(home: Home, running: Running) -> None:
    """As a gateway that starts anew."""
    running.front.labelling.close()
    running.front.labelling.__init__(  # type: ignore[misc]
        home.settings, running.front.labelling.count, now=lambda: datetime.now(UTC)
    )


def noon(hour: int = 12, minute: int = 0) -> datetime:
    return datetime(2026, 1, 6, hour, minute, tzinfo=UTC)
