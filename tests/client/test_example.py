"""The example tool: its server by requests, its page by a person's keys in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from loop.simulate.prompts import Purpose, purpose_of, read
from tests.client.pages import ARGUMENTS, CHROMIUM, EXAMPLES, needs_browser, serving, tool
from tests.client.server import AD, POST, TOKEN, Fault, Gateway

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page


# -- the server -------------------------------------------------------------------------------------------------------


@pytest.fixture
def address(gateway: Gateway) -> Iterator[str]:
    with serving(gateway.url, TOKEN) as url:
        yield url


def told(suggestion: str, **fields: Any) -> dict[str, Any]:
    return {"event_id": "e", "suggestion_id": suggestion, "decision": "accept", "chosen": 0, **fields}


def test_it_serves_its_files_and_nothing_secret(address: str) -> None:
    for path, type_ in [("/", "text/html"), ("/page.js", "text/javascript"), ("/page.css", "text/css")]:
        reply = httpx.get(address + path)
        assert (reply.status_code, reply.headers["content-type"]) == (200, f"{type_}; charset=utf-8")
        assert TOKEN not in reply.text
        assert reply.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
    assert "export class Loop" in httpx.get(address + "/loop.js").text
    assert httpx.get(address + "/server.py").status_code == 404


def test_the_server_adds_who_is_at_work_and_keeps_the_pages_key(address: str, gateway: Gateway) -> None:
    shown = httpx.post(address + "/v1/suggestions", json={"workflow": "ads", "brief": "b", "employee": "boss"}).json()
    assert [c["text"] for c in shown["candidates"]] == list(AD)
    assert gateway.requests[0][1] == {
        "workflow": "ads",
        "messages": [{"role": "user", "content": "b"}],
        "n": 2,
        "employee": "kim",
    }
    body = told(shown["suggestion_id"], decided_at="2026-01-02T03:04:05.678Z", dwell_ms=5)
    reply = httpx.post(address + "/v1/feedback", json=body)
    assert reply.json() == {"event_id": "e", "status": "stored", "received_at": gateway.received["e"]}
    assert gateway.stored == {"e": body | {"employee": "kim", "decided_at": "2026-01-02T03:04:05.678000+00:00"}}
    assert httpx.post(address + "/v1/feedback", json=body).json()["status"] == "duplicate"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (told("s", employee="boss"), "got employee"),
        (told("s", event_id=7), "expected event_id, suggestion_id and decision as texts"),
        ({"event_id": "e"}, "expected event_id, suggestion_id and decision as texts"),
        (told("s", decided_at="soon"), "Invalid isoformat string"),
        (told("s", decided_at="2026-01-01"), "expected an aware time"),
        (told("s", decision="modify", chosen=0), "expected final_text, what the person made of it, with modify"),
        ([], "expected one JSON object"),
    ],
)
def test_the_page_may_say_no_more_than_what_was_decided(
    address: str, gateway: Gateway, body: object, message: str
) -> None:
    reply = httpx.post(address + "/v1/feedback", json=body)
    assert reply.status_code == 422
    assert message in reply.json()["error"]["message"]
    assert gateway.requests == []


def test_another_workflow_is_not_asked_for(address: str) -> None:
    reply = httpx.post(address + "/v1/suggestions", json={"workflow": "comms", "brief": "b"})
    assert (reply.status_code, "ads, moderation" in reply.text) == (422, True)


def test_other_pages_and_other_names_are_turned_away(address: str, gateway: Gateway) -> None:
    body = json.dumps(told("s")).encode()
    own = {"content-type": "application/json"}
    for headers, status in [
        ({"content-type": "text/plain"}, 403),
        ({**own, "sec-fetch-site": "cross-site"}, 403),
        ({**own, "sec-fetch-site": "same-site"}, 403),
        ({**own, "host": "evil.example"}, 400),
    ]:
        assert httpx.post(address + "/v1/feedback", content=body, headers=headers).status_code == status
    assert httpx.post(address + "/v1/feedback", content=b"{}" * 60_000, headers=own).status_code == 413
    assert gateway.requests == []


def test_what_the_gateway_says_the_page_hears(address: str, gateway: Gateway) -> None:
    reply = httpx.post(address + "/v1/feedback", json=told("unknown"))
    assert (reply.status_code, reply.json()) == (404, {"error": {"message": "expected a suggestion of this gateway"}})
    gateway.faults = [Fault(status=429, retry_after="7")]
    reply = httpx.post(address + "/v1/feedback", json=told("unknown"))
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "7")
    gateway.stop()
    reply = httpx.post(address + "/v1/feedback", json=told("unknown"))
    assert (reply.status_code, reply.json()) == (503, {"error": {"message": "the gateway is away"}})


def test_its_briefs_are_ones_to_learn_from() -> None:
    work = json.loads((EXAMPLES / "page" / "work.json").read_text())
    assert tuple(work) == tool().WORKFLOWS
    for workflow, briefs in work.items():
        found = [read(workflow, [{"role": "user", "content": brief}]) for brief in briefs]
        assert {purpose_of(workflow, brief.attributes) for brief in found} == {Purpose.TRAIN}


# -- the page ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context()
    context.set_default_timeout(20_000)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, address: str) -> Page:
    return opened(context, address)


def opened(context: BrowserContext, address: str) -> Page:
    page = context.new_page()
    broken: list[str] = []
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.goto(address)
    both(page)
    page.broken = broken  # type: ignore[attr-defined]
    return page


def both(page: Page) -> None:
    """Wait until both desks have something to decide on."""
    for desk in 1, 2:
        page.wait_for_selector(f".desk:nth-of-type({desk}) form:visible")


def said(page: Page, text: str) -> None:
    page.wait_for_function("text => document.querySelector('#said').textContent === text", arg=text)


def linked(page: Page, text: str) -> None:
    page.wait_for_function("text => document.querySelector('#link').textContent === text", arg=text)


def title(page: Page) -> str:
    return str(page.evaluate("document.activeElement.textContent"))


def decisions(gateway: Gateway) -> list[tuple[str, str, int | None, str | None]]:
    """Workflow, decision, position and text of all that is stored, in order."""
    return [
        (gateway.suggestions[item["suggestion_id"]], item["decision"], item.get("chosen"), item.get("final_text"))
        for item in gateway.stored.values()
    ]


@pytest.mark.slow
@needs_browser
def test_a_morning_at_the_desk_by_keyboard_alone(page: Page, gateway: Gateway) -> None:
    assert title(page) == "Ad copy, 1 of 6"
    page.keyboard.press("2")
    said(page, "Accepted text 2.")
    assert title(page) == "Moderation decision, 1 of 6"
    page.keyboard.press("Enter")
    said(page, "Accepted text 1.")
    both(page)

    page.keyboard.press("ArrowDown")
    page.keyboard.press("e")
    page.keyboard.press("Control+a")
    page.keyboard.type("target everybody, 2 for 1, says Røst")  # keys of shortcuts among them
    page.keyboard.press("Control+Enter")
    said(page, "Saved your text.")
    both(page)

    page.keyboard.press("r")
    said(page, "Rejected both.")
    both(page)
    page.keyboard.press("s")
    said(page, "Skipped.")
    linked(page, "Online, all sent")
    assert decisions(gateway) == [
        ("ads", "accept", 1, None),
        ("moderation", "accept", 0, None),
        ("ads", "modify", 1, "target everybody, 2 for 1, says Røst"),
        ("moderation", "reject", None, None),
        ("ads", "ignore", None, None),
    ]
    assert {item["employee"] for item in gateway.stored.values()} == {"kim"}
    assert all(item["dwell_ms"] >= 0 for item in gateway.stored.values())
    assert page.broken == []  # type: ignore[attr-defined]


@pytest.mark.slow
@needs_browser
def test_editing_can_be_left_saved_unchanged_or_emptied(page: Page, gateway: Gateway) -> None:
    page.keyboard.press("e")
    page.keyboard.type("never kept")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.value") == "0"
    page.keyboard.press("e")
    page.keyboard.press("Control+Enter")
    said(page, "Accepted text 1.")
    page.keyboard.press("e")
    page.keyboard.press("Control+a")
    page.keyboard.press("Delete")
    page.keyboard.press("Control+Enter")
    said(page, "Deleted the text.")
    linked(page, "Online, all sent")
    assert decisions(gateway) == [("ads", "accept", 0, None), ("moderation", "modify", 0, "")]
    assert list(gateway.stored.values())[1]["reasons"] == ["deleted"]


@pytest.mark.slow
@needs_browser
def test_tab_and_space_do_without_shortcuts(page: Page, gateway: Gateway) -> None:
    page.uncheck("#shortcuts")
    page.locator("h2").first.focus()
    for key in "2", "r", "s", "e":
        page.keyboard.press(key)
    for _ in range(4):  # the texts, accept, edit, reject
        page.keyboard.press("Tab")
    assert title(page) == "Reject R"
    page.keyboard.press("Space")
    said(page, "Rejected both.")
    linked(page, "Online, all sent")
    page.reload()
    both(page)
    assert not page.is_checked("#shortcuts")
    assert decisions(gateway) == [("ads", "reject", None, None)]


@pytest.mark.slow
@needs_browser
def test_a_held_key_decides_once_and_n_changes_desks(page: Page, gateway: Gateway) -> None:
    page.keyboard.press("n")
    assert title(page) == "Moderation decision, 1 of 6"
    page.keyboard.down("1")
    for _ in range(3):
        page.keyboard.down("1")
    page.keyboard.up("1")
    linked(page, "Online, all sent")
    assert title(page) == "Ad copy, 1 of 6"
    assert decisions(gateway) == [("moderation", "accept", 0, None)]


@pytest.mark.slow
@needs_browser
def test_offline_and_back(page: Page, context: BrowserContext, gateway: Gateway) -> None:
    context.set_offline(True)
    linked(page, "Offline, all sent")
    page.keyboard.press("e")
    page.keyboard.press("Control+a")
    page.keyboard.type("written on the train")
    page.keyboard.press("Control+Enter")
    linked(page, "Offline, 1 decision waits on this device")
    page.keyboard.press("r")
    linked(page, "Offline, 2 decisions wait on this device")
    said(page, "Rejected both. It waits on this device until the gateway is back.")
    assert gateway.stored == {}
    context.set_offline(False)
    linked(page, "Online, all sent")
    said(page, "The gateway has every decision.")
    both(page)
    assert decisions(gateway) == [
        ("ads", "modify", 0, "written on the train"),
        ("moderation", "reject", None, None),
    ]


@pytest.mark.slow
@needs_browser
def test_the_gateway_gone_the_page_closed_and_both_back(
    page: Page, context: BrowserContext, gateway: Gateway, address: str
) -> None:
    gateway.stop()
    page.keyboard.press("2")
    page.keyboard.press("1")
    linked(page, "Gateway away, 2 decisions wait on this device")
    page.close()
    gateway.start()
    again = opened(context, address)
    linked(again, "Online, all sent")
    assert decisions(gateway) == [("ads", "accept", 1, None), ("moderation", "accept", 0, None)]


@pytest.mark.slow
@needs_browser
def test_a_reload_shows_the_same_suggestion(page: Page, gateway: Gateway) -> None:
    page.keyboard.press("1")
    said(page, "Accepted text 1.")
    both(page)
    asked = len(gateway.suggestions)
    page.reload()
    both(page)
    assert page.locator("h2").all_text_contents()[:2] == ["Ad copy, 2 of 6", "Moderation decision, 1 of 6"]
    assert page.locator(".candidate span").all_text_contents() == [*AD, *POST]
    assert len(gateway.suggestions) == asked
    page.keyboard.press("2")
    linked(page, "Online, all sent")
    assert "dwell_ms" not in list(gateway.stored.values())[-1]


@pytest.mark.slow
@needs_browser
def test_what_the_gateway_refuses_later_is_listed(page: Page, gateway: Gateway) -> None:
    gateway.away = Fault(status=503)
    page.keyboard.press("r")
    linked(page, "Gateway away, 1 decision waits on this device")
    gateway.suggestions.clear()
    gateway.away = None
    page.wait_for_selector("#refused:visible")
    assert page.locator("#refused li").all_text_contents() == ["reject: expected a suggestion of this gateway (404)"]
    linked(page, "Online, all sent")


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_control_has_a_name_and_every_text_contrast(browser: Browser, address: str, scheme: Any) -> None:
    context = browser.new_context(color_scheme=scheme)
    page = opened(context, address)
    page.keyboard.press("e")
    names = page.evaluate(
        """[...document.querySelectorAll("input, textarea, button")].filter((e) => e.checkVisibility())
           .map((e) => (e.labels?.[0] ?? e).textContent.trim())"""
    )
    assert len(names) == 12
    assert all(names)
    assert page.get_by_role("region", name="Ad copy, 1 of 6").count() == 1
    assert page.get_by_role("group", name="Suggestions").count() == 2
    assert page.get_by_role("textbox", name="Your text").count() == 1
    assert page.get_by_role("status").count() == 2
    assert page.evaluate(_CONTRAST) >= 4.5
    context.close()


_CONTRAST = """
(() => {
    const channel = (c) => ((c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
    const parse = (text) => text.match(/[\\d.]+/g).map(Number);
    const ground = (node) => {
        for (; node; node = node.parentElement) {
            const colour = parse(getComputedStyle(node).backgroundColor);
            if (colour.length === 3) return colour;
        }
    };
    const ratios = [...document.querySelectorAll("h1, h2, p, legend, label, span, li, textarea, button")]
        .filter((node) => node.checkVisibility() && (node.textContent.trim() || node.value))
        .map((node) => {
            const [a, b] = [light(parse(getComputedStyle(node).color)), light(ground(node))];
            return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        });
    return Math.min(...ratios);
})()
"""
