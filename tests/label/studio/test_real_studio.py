"""The bridge against the real Label Studio: installed, killed, started, answered in a browser and by REST, pulled.

One test, for one server: an installation takes one to three minutes, a first start half a minute to a minute.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from loop.collect.events import pseudonym
from loop.errors import LoopError
from loop.home import Home
from loop.label import tasks
from loop.label.annotators import agree
from loop.label.outside import enlist
from loop.label.studio import hook, push, rest
from loop.label.studio.rest import Rest
from loop.label.tasks import Kind
from loop.lake import from_rows
from loop.schema import LABEL_TASKS
from loop.services import processes, studio, studio_down
from loop.services.studio import Studio
from tests.gateway.fronts import serving
from tests.label.studio import studios
from tests.label.studio.by_hand import answered_in_a_browser
from tests.label.studio.studios import (
    DAY,
    Person,
    by_task,
    fetch,
    project_of,
    question,
    rows,
    send,
    tasks_of,
    until,
)


@pytest.fixture
def environment(settings: Any, tmp_path: Path) -> Iterator[Path]:
    """Where it is to be installed: nothing is there yet, unless STUDIO_ENV names one that was made before."""
    if studios.GIVEN:
        yield Path(studios.GIVEN)
        return
    wanted = ["install", "--dry-run", "--no-deps", "--ignore-installed", f"label-studio=={studio.VERSION}"]
    asked = subprocess.run([sys.executable, "-m", "pip", *wanted], capture_output=True, text=True, check=False)
    if asked.returncode:
        pytest.skip(f"Label Studio cannot be had here: {asked.stderr.strip().splitlines()[-1]}")
    yield tmp_path / "studio-env"
    shutil.rmtree(tmp_path / "studio-env", ignore_errors=True)


@pytest.mark.slow
def test_the_bridge_against_the_real_server(home: Home, environment: Path, tmp_path: Path) -> None:
    settings = home.settings
    try:
        if not studios.GIVEN:
            install_killed_half_way(home, environment, tmp_path)
        with studios.up(settings, environment, tmp_path / "up.log") as command:
            told = command.announced(900)
            printed = command.log.read_text()
            assert told is not None, printed
            assert (told["user"], Path(told["password_file"]).stat().st_mode & 0o777) == (studio.USER, 0o600)
            with studios.rest_of(settings, told["Label Studio"]) as bridge:
                ann, ben = (
                    studios.sign_up(bridge, f"{name}@example.org", f"pw-of-{name}-1") for name in ("ann", "ben")
                )
                enlist(settings, home.state, person=ann.address, source="studio", author="lead")
                pushed_once_and_blind(home, bridge)
                answered_in_a_browser(home, bridge, ann)
                others_answers(home, bridge, ann, ben)
                personal_token(home, bridge)
                told_by_the_webhook(home, bridge, ann, command)
                killed_while_pulled(home, bridge, ann)
                by_command(home)
                withdrawn(home, bridge)
            command.process.send_signal(signal.SIGTERM)
            command.process.wait(60)
        assert families(home) == []
    finally:
        studio_down(settings)


def install_killed_half_way(home: Home, environment: Path, tmp_path: Path) -> None:
    """What `loop studio up` had begun to install when it was killed is stopped and begun anew by the next."""
    log = home.settings.services / f"{studio.INSTALL}.log"
    with studios.up(home.settings, environment, tmp_path / "killed.log") as command:
        until(lambda: log.exists() and log.read_text().count("Collecting") > 5, 120, "pip")
        command.process.kill()
        command.process.wait()
    orphans = families(home)
    assert orphans
    with pytest.raises(LoopError, match="`loop studio up` starts it"):
        studio.locate(home.settings)
    assert not studio.installed(home.settings)


def families(home: Home) -> list[psutil.Process]:
    names = (studio.NAME, studio.INSTALL)
    return [one for name in names for one in processes._family(home.settings, name, None)]


# -- tasks there ------------------------------------------------------------------------------------------------------


def pushed_once_and_blind(home: Home, bridge: Rest) -> None:
    harmful = question(Kind.CATEGORY, 9, harm="insults")
    asked = [question(Kind.PREFERENCE, n) for n in range(6)]
    asked += [question(kind) for kind in Kind if kind is not Kind.PREFERENCE]
    image = f"{bridge.url}/static/icons/logo.svg"
    pictured = question(Kind.PREFERENCE, texts=[], images=[image, f"{image}?2"], workflow="design")
    tasks.add(home.lake, home.state, [*asked, harmful, pictured])
    done = send(home, bridge)
    assert (done.new, done.there, dict(done.left_out), len(done.projects)) == (12, 0, {"harmful": 1}, 7)
    again = send(home, bridge, harmful=True)  # ann and ben have accounts, and were not asked
    assert (again.new, again.there, dict(again.left_out)) == (0, 12, {push.NOT_AGREED: 1})
    there = tasks_of(bridge, done.projects["Loop ads: preference"])
    swapped = {task["meta"]["label_task_id"]: task["meta"]["swapped"] for task in there}
    assert set(swapped) == {one["label_task_id"] for one in asked[:6]}
    assert set(swapped.values()) == {False, True}
    for task in there:
        (row,) = (one for one in asked if one["label_task_id"] == task["meta"]["label_task_id"])
        sides = row["texts"][::-1] if task["meta"]["swapped"] else row["texts"]
        shown = {"prompt": "user: An ad for <b>shoes</b> & socks", "left_text": sides[0], "right_text": sides[1]}
        assert task["data"] == shown  # and nothing that tells of a model, a decision or a person
        assert task["predictions"] == []


# -- what others do with one's answers --------------------------------------------------------------------------------


def others_answers(home: Home, bridge: Rest, ann: Person, ben: Person) -> None:
    asked = [question(Kind.PREFERENCE, n) for n in range(20, 24)]
    tasks.add(home.lake, home.state, asked)
    project = send(home, bridge).projects["Loop ads: preference"]
    there = {task["meta"]["label_task_id"]: task for task in tasks_of(bridge, project)}
    a, b, c, d = (there[one["label_task_id"]] for one in asked)
    fetch(home, bridge)
    overwritten = ann.answer(a["id"], "left")
    taken = ann.answer(b["id"], "left")
    twice = [ann.answer(c["id"], side) for side in ("left", "right")]
    ben.answer(d["id"], "tie")
    done = fetch(home, bridge)
    assert (done.recorded.new, done.older) == (4, 1)
    assert done.recorded.uncounted == Counter({"from nobody who annotates": 1})  # ben was not asked in
    ben.change(overwritten, "neither")
    ben.delete(taken)
    ann.delete(twice[0])
    ann.answer(d["id"], "left", result=[{"from_name": "nope", "to_name": "x", "type": "choices", "value": {}}])
    bridge.ask("PATCH", f"/api/tasks/{c['id']}/", send={"data": {**c["data"], "left_text": "something else"}})
    enlist(home.settings, home.state, person=ben.address, source="studio", author="lead")
    for one, new in ((ann, 0), (ben, 1)):
        name = pseudonym(one.address, home.settings.secret("pseudonym"))
        assert agree(home.state, name, harmful=True, source="studio")
        assert send(home, bridge, harmful=True).new == new
    done = fetch(home, bridge)
    assert done.set_aside == Counter(
        {"a name that the interface does not have": 1, "what was shown was changed there": 1}
    )
    names = {pseudonym(one.address, home.settings.secret("pseudonym")): one.address[:3] for one in (ann, ben)}
    side = {True: ("second", "first"), False: ("first", "second")}
    told: dict[str, list[Any]] = {}
    for row in rows(home):
        for key, task in zip("abcd", (a, b, c, d), strict=True):
            if row["label_task_id"] == task["meta"]["label_task_id"]:
                what = (names[row["annotator"]], row["version"], row["label"] or row["action"], row["counts"])
                told.setdefault(key, []).append(what)
    assert {key: sorted(value) for key, value in told.items()} == {
        "a": [("ann", 1, side[a["meta"]["swapped"]][0], True), ("ben", 1, "neither", True)],
        "b": [("ann", 1, side[b["meta"]["swapped"]][0], True), ("ann", 2, "undo", True)],
        "c": [("ann", 1, side[c["meta"]["swapped"]][1], True)],
        "d": [("ben", 1, "tie", False), ("ben", 2, "tie", True)],
    }
    bridge.ask("PATCH", f"/api/tasks/{c['id']}/", send={"data": c["data"]})


def personal_token(home: Home, bridge: Rest) -> None:
    """A Label Studio of the organisation's own is used with a personal token, and says why where it is none."""
    token = bridge.ask("POST", "/api/token/", send={})["token"]
    with Rest(Studio(bridge.url, token)) as other:
        assert other.version() == studio.VERSION
        other._header = "Bearer expired"
        assert other.version() == studio.VERSION
        assert fetch(home, other).recorded.new == 0
    with Rest(Studio(bridge.url, "0" * 40)) as wrong, pytest.raises(LoopError, match="use a personal access token"):
        wrong.projects()


def told_by_the_webhook(home: Home, bridge: Rest, ann: Person, command: studios.Command) -> None:
    """An answer is copied within seconds: Label Studio calls the gateway, and `loop studio up` pulls."""
    asked = question(Kind.PREFERENCE, 30)
    tasks.add(home.lake, home.state, [asked])
    with serving(home.settings) as front:
        project = send(home, bridge, hook_url=f"{front.url}{hook.PATH}").projects["Loop ads: preference"]
        (task,) = (t for t in tasks_of(bridge, project) if t["meta"]["label_task_id"] == asked["label_task_id"])
        before = hook.nudged(home.settings)
        ann.answer(task["id"], "tie")
        until(lambda: hook.nudged(home.settings) != before, 30, "the webhook")
        until(lambda: asked["label_task_id"] in by_task(rows(home)), 60, "the pull")
        assert httpx.post(f"{front.url}{hook.PATH}", json={}, trust_env=False).status_code == 401
        until(lambda: "pulled" in command.log.read_text(), 60, "the word of it")


# -- trouble ----------------------------------------------------------------------------------------------------------


def killed_while_pulled(home: Home, bridge: Rest, ann: Person) -> None:
    """It is killed between two pages: what was read is stored, and the next pull begins where this one did."""
    asked = [question(Kind.PREFERENCE, n) for n in range(40, 46)]
    tasks.add(home.lake, home.state, asked)
    project = send(home, bridge).projects["Loop ads: preference"]
    wanted = {one["label_task_id"] for one in asked}
    for task in tasks_of(bridge, project):
        if task["meta"]["label_task_id"] in wanted:
            ann.answer(task["id"], "left")
    pages, ask = 0, bridge.ask

    def killing(method: str, path: str, **given: Any) -> Any:
        nonlocal pages
        pages += path == "/api/tasks/" and given["params"]["project"] == project
        if pages == 6:  # of 17 tasks, the last six of which were just answered, five pages of three were read
            for process in families(home):
                process.kill()
        return ask(method, path, **given)

    size, rest.PAGE = rest.PAGE, 3
    bridge.ask = killing  # type: ignore[method-assign]
    cursor = (home.settings.studio / "cursor.json").read_bytes()
    try:
        with pytest.raises(LoopError, match=r"does not answer.*nothing is lost, try again"):
            fetch(home, bridge, whole=True)
    finally:
        rest.PAGE = size
        bridge.ask = ask  # type: ignore[method-assign]
    assert (home.settings.studio / "cursor.json").read_bytes() == cursor
    assert sum(row["label_task_id"] in wanted for row in rows(home)) == 4
    until(lambda: answers(bridge), 120, "Label Studio, started again")
    done = fetch(home, bridge)
    assert done.recorded.refused.total() == 0
    stored = [row for row in rows(home) if row["label_task_id"] in wanted]
    assert len(stored) == 6
    assert {row["version"] for row in stored} == {1}


def answers(bridge: Rest) -> bool:
    try:
        return bool(bridge.version())
    except LoopError:
        return False


def by_command(home: Home) -> None:
    """What the commands say, as one JSON object each."""
    pushed, pulled, status = (command(home, *words.split()) for words in ("push", "pull --whole", "status"))
    assert (pushed["new"], pushed["left_out"]) == (0, {"harmful": 1, "answered": 1})
    assert pulled["recorded"]["repeated"] > 0
    assert pulled["set_aside"] == {"a name that the interface does not have": 1}
    assert (status["version"], len(status["projects"])) == (studio.VERSION, 8)


def command(home: Home, *words: str) -> Any:
    program = Path(sys.executable).with_name("loop")
    variables = {**os.environ, "LOOP_HOME": str(home.settings.home)}
    done = subprocess.run([program, "studio", *words, "--json"], env=variables, capture_output=True, check=True)
    return json.loads(done.stdout)


def withdrawn(home: Home, bridge: Rest) -> None:
    """What is gone from the lake is taken away there, and its answers here stay as they are."""
    kept = tasks.read(home.lake, days=(DAY, DAY), workflows=["moderation"]).to_pylist()
    before = rows(home)
    home.lake.overwrite("label_tasks", from_rows(kept[:0], LABEL_TASKS), day=DAY, workflow="moderation")
    done = send(home, bridge, harmful=True)
    assert done.withdrawn == len(kept) == 2
    assert tasks_of(bridge, project_of(bridge, "Loop moderation: category")) == []
    fetch(home, bridge, whole=True)
    assert rows(home) == before
