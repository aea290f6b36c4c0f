"""Several homes may share a Label Studio: none takes away, reads or counts what another sent there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loop.config import load
from loop.home import Home
from loop.label import tasks
from loop.label.studio import pull, push
from loop.label.tasks import Kind
from loop.lake import Lake
from tests.label.studio import studios
from tests.label.studio.memory import Memory
from tests.label.studio.studios import question


def send(home: Home, there: Memory, **given: Any) -> push.Pushed:
    return push.push(home.settings, home.lake, home.state, there, now=studios.now(), **given)


def texts(there: Memory) -> list[str]:
    return sorted(task["data"]["text"] for held in there.held.values() for task in held)


def test_a_home_leaves_alone_what_another_sent_and_takes_away_its_own(home: Home, tmp_path: Path) -> None:
    there = Memory()
    settings = load(home=tmp_path / "staging")
    staging = Home(settings, Lake(settings.lake), home.state, home.registry)
    tasks.add(home.lake, home.state, [question(Kind.CATEGORY, 1), question(Kind.CATEGORY, 2)])
    tasks.add(staging.lake, home.state, [question(Kind.CATEGORY, 3)])
    assert (send(home, there).new, send(staging, there).new) == (2, 1)
    assert [project["title"] for project in there.made] == ["Loop moderation: category"] * 2
    for one in (home, staging):
        assert push.withdraw(one.settings, one.lake, there) == 0
        done = send(one, there)
        assert (done.new, done.withdrawn) == (0, 0)
    assert texts(there) == ["text 1", "text 2", "text 3"]
    assert pull.pull(staging.settings, staging.lake, home.state, there).tasks == 1
    staging.lake.overwrite(
        "label_tasks", staging.lake.read("label_tasks").slice(0, 0), day=studios.DAY, workflow="moderation"
    )
    assert push.withdraw(staging.settings, staging.lake, there) == 1
    assert texts(there) == ["text 1", "text 2"]


def test_a_lake_without_any_task_takes_nothing_away(home: Home, tmp_path: Path) -> None:
    there = Memory()
    tasks.add(home.lake, home.state, [question(Kind.CATEGORY, 1)])
    send(home, there)
    lost = Home(home.settings, Lake(tmp_path / "new"), home.state, home.registry)
    assert push.withdraw(lost.settings, lost.lake, there) == 0
    assert send(lost, there).withdrawn == 0
    assert texts(there) == ["text 1"]
