"""Helpers: a person at Label Studio's own page, with keys and mouse, and what is known of it afterwards."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from loop.collect.events import pseudonym
from loop.home import Home
from loop.label.studio.rest import Rest
from loop.label.tasks import Kind
from tests.client.pages import ARGUMENTS, CHROMIUM
from tests.label.studio.studios import (
    Person,
    by_task,
    fetch,
    fetch_rows,
    project_of,
    question,
    rows,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

SHOTS = os.environ.get("STUDIO_SHOTS")
"""Folder for screenshots, for whoever wants to look."""


def answered_in_a_browser(home: Home, bridge: Rest, ann: Person) -> None:
    """A pair answered with the keyboard, one with the mouse, one skipped, one changed, one undone."""
    if CHROMIUM is None:
        return
    from playwright.sync_api import sync_playwright

    project = project_of(bridge, "Loop ads: preference")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.set_default_timeout(60_000)
        page = context.new_page()
        page.goto(f"{bridge.url}/user/login/")
        page.fill("input[name=email]", ann.address)
        page.fill("input[name=password]", "pw-of-ann-1")
        page.click("button[type=submit]")
        page.get_by_text("Loop ads: preference").wait_for()
        shot(page, "1_projects")
        label(page, bridge, project)
        shot(page, "2_pair")
        keyboard = submitted(page, lambda: (page.keyboard.press("1"), page.keyboard.press("Control+Enter")))
        page.get_by_text("The right one").click()
        shot(page, "3_mouse")
        mouse = submitted(page, page.get_by_test_id("bottombar-submit-button").click)
        page.get_by_placeholder("What you would add").fill("both about boots")
        page.keyboard.press("Enter")
        shot(page, "4_skip")
        skipped = submitted(page, page.get_by_test_id("bottombar-skip-button").click)
        undone = submitted(page, lambda: (page.keyboard.press("3"), page.keyboard.press("Control+Enter")))
        first = by_task(fetch_rows(home, bridge, answers=4, new=4))
        assert {task: (row["action"], row["label"], row["reason"]) for task, row in first.items()} == {
            keyboard.task: ("answer", keyboard.side("left"), None),
            mouse.task: ("answer", mouse.side("right"), None),
            skipped.task: ("skip", None, "both about boots"),
            undone.task: ("answer", "tie", None),
        }
        me = pseudonym(ann.address, home.settings.secret("pseudonym"))
        for answer in (keyboard, mouse, skipped, undone):
            row = first[answer.task]
            assert (row["annotator"], row["source"], row["counts"], row["version"]) == (me, "studio", True, 1)
            assert row["swapped"] is answer.swapped
            assert row["seconds"] == pytest.approx(answer.seconds)
        change(page, bridge, project, keyboard.there)
        delete(page, bridge, project, undone.there)
        span = every_kind(page, bridge)
        browser.close()
    done = fetch(home, bridge)
    assert (done.recorded.new, done.recorded.changed, done.undone, done.recorded.repeated) == (5, 2, 1, 2)
    later = {(row["label_task_id"], row["version"]): row for row in rows(home)}
    assert later[keyboard.task, 2]["label"] == "neither"
    assert (later[undone.task, 2]["action"], later[undone.task, 2]["label"]) == ("undo", None)
    said = {row["label"] or row["content"] for row in later.values() if row["workflow"] != "ads"}
    spans = json.dumps([{"start": span["start"], "end": span["end"], "type": "tone"}])
    attack = json.dumps({"attempt": "say it", "outcome": "broken", "severity": "high"})
    assert said == {"hate", "good", spans, '"better\\ntext"', attack}
    text = question(Kind.SPAN)["texts"][0]
    assert text[span["start"] : span["end"]] == span["text"]  # beyond an emoji, in code points
    assert fetch(home, bridge).recorded.changed == 0


class Answer:
    """What the page sent, and of which task."""

    def __init__(self, sent: dict[str, Any], task: dict[str, Any]) -> None:
        self.there = int(task["id"])
        self.task = task["meta"]["label_task_id"]
        self.swapped = task["meta"]["swapped"]
        self.seconds = sent["lead_time"]
        self.value = sent["result"][0]["value"]

    def side(self, seen: str) -> str:
        return "first" if (seen == "left") is not self.swapped else "second"


def submitted(page: Page, act: Any) -> Answer:
    """Do what submits an answer; what was sent, once the next task is shown."""
    with page.expect_response(lambda r: "/annotations" in r.url and r.request.method == "POST") as got:
        act()
    reply = got.value
    task = page.request.get(f"{page.url.split('/projects')[0]}/api/tasks/{reply.json()['task']}/").json()
    page.wait_for_timeout(1_500)
    return Answer(reply.request.post_data_json, task)


def label(page: Page, bridge: Rest, project: int) -> None:
    page.goto(f"{bridge.url}/projects/{project}/data?labeling=1")
    page.get_by_test_id("bottombar-skip-button").wait_for()
    page.wait_for_timeout(500)


def opened(page: Page, bridge: Rest, project: int, task: int) -> None:
    page.goto(f"{bridge.url}/projects/{project}/data?task={task}")
    page.get_by_test_id("bottombar-update-button").wait_for()
    page.wait_for_timeout(1_000)


def change(page: Page, bridge: Rest, project: int, task: int) -> None:
    opened(page, bridge, project, task)
    page.keyboard.press("4")
    with page.expect_response(lambda r: "/annotations" in r.url and r.request.method == "PATCH"):
        page.get_by_test_id("bottombar-update-button").click()


def delete(page: Page, bridge: Rest, project: int, task: int) -> None:
    opened(page, bridge, project, task)
    page.locator(".lsf-annotation-button__trigger").first.click()
    page.get_by_text("Delete Annotation").click()
    shot(page, "5_delete")
    with page.expect_response(lambda r: "/annotations" in r.url and r.request.method == "DELETE"):
        page.get_by_test_id("dialog-ok-button").click()
    shot(page, "6_deleted")


def every_kind(page: Page, bridge: Rest) -> dict[str, Any]:
    """One answer to a task of each other kind; what the page said of the marked passage."""
    box = page.locator("textarea").first

    def spanned() -> None:
        page.get_by_text("tone").first.click()
        page.get_by_text("world").dblclick()

    def rewritten() -> None:
        box.fill("better\ntext")
        box.press("Shift+Enter")

    def attacked() -> None:
        box.fill("say it")
        box.press("Shift+Enter")
        page.get_by_text("broken").click()
        page.get_by_text("high").click()

    span: dict[str, Any] = {}
    acts = {
        "comms: span": spanned,
        "comms: rewrite": rewritten,
        "comms: red team": attacked,
        "moderation: category": lambda: page.keyboard.press("2"),
        "design: rating": lambda: page.get_by_text("good").click(),
    }
    for title, act in acts.items():
        label(page, bridge, project_of(bridge, f"Loop {title}"))
        act()
        page.wait_for_timeout(300)
        shot(page, f"7_{title.replace(': ', '_').replace(' ', '_')}")
        answer = submitted(page, page.get_by_test_id("bottombar-submit-button").click)
        if act is spanned:
            span = answer.value
    return span


def shot(page: Page, name: str) -> None:
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{name}.png")
