"""The client for web pages, under Node: its page's storage is an object that is kept in a file between runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import loop.client
from tests.client.server import AD, TOKEN, Fault, Gateway

SOURCE = Path(loop.client.__file__).parent / "loop.js"
NODE = shutil.which("node")
Page = Callable[..., Any]

_PAGE = """
import {{ readFileSync, writeFileSync }} from "node:fs";
globalThis.localStorage = JSON.parse(readFileSync({store}));
const heard = {{}};
globalThis.addEventListener = (name, listener) => (heard[name] = listener);
const {{ Loop }} = await import({source});
const loop = new Loop({url}, {{ token: {token} }});
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const caught = (promise) => promise.then(() => null, ({{ status, message }}) => ({{ status, message }}));
const result = await (async () => {{ {script} }})();
writeFileSync({store}, JSON.stringify(localStorage));
console.log(JSON.stringify(result ?? null));
process.exit();
"""


@pytest.fixture
def page(gateway: Gateway, tmp_path: Path) -> Page:
    """Run a script as a page that has `loop`; its value. What it left in storage the next page finds."""
    if NODE is None:
        pytest.skip("there is no node on this machine")
    (tmp_path / "loop.mjs").write_text(SOURCE.read_text())
    store = tmp_path / "storage.json"
    store.write_text("{}")

    def run(script: str, *, token: str = TOKEN, url: str | None = None) -> Any:
        names = {"store": str(store), "source": "./loop.mjs", "url": url or gateway.url, "token": token}
        text = _PAGE.format(script=script, **{name: json.dumps(value) for name, value in names.items()})
        (tmp_path / "page.mjs").write_text(text)
        words = [NODE, str(tmp_path / "page.mjs")]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def stored(tmp_path: Path) -> dict[str, str]:
    entries: dict[str, str] = json.loads((tmp_path / "storage.json").read_text())
    return entries


def test_it_is_under_5_kb_and_in_the_wheel() -> None:
    assert len(SOURCE.read_bytes()) < 5000
    assert max(map(len, SOURCE.read_text().splitlines())) <= 120
    assert 'packages = ["loop", ' in (SOURCE.parents[2] / "pyproject.toml").read_text()


def test_suggest_decide_and_tell_the_outcome(gateway: Gateway, page: Page, tmp_path: Path) -> None:
    shown, statuses = page("""
        const shown = await loop.suggest({ workflow: "ads", messages: [{ role: "user", content: "a brief" }] });
        const told = [
            await loop.feedback(shown, { decision: "accept", chosen: 1, dwell_ms: 23 }),
            await loop.feedback(shown, { decision: "modify", chosen: 0, final_text: "ünder", event_id: "mine" }),
            await loop.feedback(shown, { decision: "modify", chosen: 0, final_text: "", reasons: ["dull"] }),
            await loop.feedback(shown.suggestion_id, { decision: "reject" }),
            await loop.feedback(shown, { decision: "ignore" }),
            await loop.outcome(shown, { name: "click", value: 1.5 }),
        ];
        return [shown, told.map((t) => t.status)];
    """)
    assert [c["text"] for c in shown["candidates"]] == list(AD)
    assert statuses == ["stored"] * 6
    accept, modify, delete, reject, ignore, outcome = gateway.stored.values()
    assert len(accept.pop("event_id")) == 36
    at = datetime.fromisoformat(accept.pop("decided_at"))
    assert abs((datetime.now(UTC) - at).total_seconds()) < 30
    assert accept == {"suggestion_id": shown["suggestion_id"], "decision": "accept", "chosen": 1, "dwell_ms": 23}
    assert (modify["event_id"], modify["final_text"]) == ("mine", "ünder")
    assert delete["reasons"] == ["dull", "deleted"]
    assert (reject["suggestion_id"], reject["decision"]) == (shown["suggestion_id"], "reject")
    assert set(ignore) == {"event_id", "suggestion_id", "decision"}
    assert (outcome["name"], outcome["value"]) == ("click", 1.5)
    assert len(outcome["outcome_id"]) == 36
    assert "observed_at" in outcome
    assert gateway.requests[0][2]["authorization"] == f"Bearer {TOKEN}"
    assert stored(tmp_path) == {}


def test_nobody_decides_before_being_shown_whatever_the_pages_clock_says(gateway: Gateway, page: Page) -> None:
    gateway.suggest()
    page("""
        const shown = { suggestion_id: "s-" + "0".repeat(32), shown_at: new Date(Date.now() + 1e5).toISOString() };
        await loop.feedback(shown, { decision: "reject" });
    """)
    (told,) = gateway.stored.values()
    assert datetime.fromisoformat(told["decided_at"]).timestamp() > time.time() + 50


def test_away_reloaded_and_back(gateway: Gateway, page: Page, tmp_path: Path) -> None:
    gateway.suggestions["s"] = "ads"
    gateway.stop()
    statuses, waiting, trouble, changes = page("""
        let changes = 0;
        loop.onchange = () => changes++;
        const told = [];
        for (let i = 0; i < 3; i++)
            told.push((await loop.feedback("s", { decision: "reject", reasons: [String(i)] })).status);
        return [told, loop.waiting, loop.trouble, changes];
    """)
    assert (statuses, waiting, trouble) == (["waiting"] * 3, 3, "fetch failed")
    assert changes >= 6
    kept = [json.loads(text) for _, text in sorted(stored(tmp_path).items())]
    assert [item["body"]["reasons"] for item in kept] == [["0"], ["1"], ["2"]]
    gateway.start()
    waiting, trouble = page("""
        const status = (await loop.feedback("s", { decision: "ignore" })).status;
        return [loop.waiting, loop.trouble, status];
    """)[:2]
    assert (waiting, trouble) == (0, "")
    assert list(gateway.stored)[:3] == [item["id"] for item in kept]
    assert [item["decision"] for item in gateway.stored.values()] == ["reject"] * 3 + ["ignore"]
    assert stored(tmp_path) == {}


@pytest.mark.parametrize("how", ["heard.online();", "", "loop.flush();"])
def test_it_sends_when_the_device_is_online_again_by_itself_or_asked(gateway: Gateway, page: Page, how: str) -> None:
    gateway.suggestions["s"] = "ads"
    gateway.faults = [Fault(status=503), Fault(drop=True), Fault(status=429)]
    waiting, left = page(f"""
        await loop.feedback("s", {{ decision: "reject" }});
        const before = loop.waiting;
        {how}
        for (let i = 0; i < 500 && loop.waiting; i++) await sleep(10);
        return [before, loop.waiting];
    """)
    assert (waiting, left, len(gateway.stored)) == (1, 0, 1)


@pytest.mark.parametrize(
    "fault", [Fault(status=503), Fault(status=408), Fault(drop=True), Fault(cut=True), Fault(body=b"<html>log in")]
)
def test_a_failure_for_now_is_tried_again_with_the_same_key(gateway: Gateway, page: Page, fault: Fault) -> None:
    gateway.suggestions["s"] = "ads"
    gateway.faults = [fault, fault]
    status = page('return (await loop.feedback("s", { decision: "reject" })).status;')
    assert status == ("duplicate" if fault.cut else "stored")
    assert len(gateway.stored) == 1
    assert gateway.duplicates == list(gateway.stored) * (2 if fault.cut else 0)


def test_a_refusal_is_told_to_who_waits_for_it_and_never_tried_again(
    gateway: Gateway, page: Page, tmp_path: Path
) -> None:
    error = page('return caught(loop.feedback("unknown", { decision: "reject" }));')
    assert error == {"status": 404, "message": "expected a suggestion of this gateway"}
    assert len(gateway.requests) == 1
    assert stored(tmp_path) == {}


def test_what_is_refused_while_nobody_waits_is_set_aside_and_holds_up_nobody(gateway: Gateway, page: Page) -> None:
    gateway.suggestions["s"] = "ads"
    gateway.stop()
    page("""
        for (const s of ["s", "unknown", "s"]) await loop.feedback(s, { decision: "reject" });
    """)
    gateway.start()
    waiting, refused = page("await loop.flush(); return [loop.waiting, loop.refused];")
    assert waiting == 0
    assert [(r["status"], r["message"], r["route"], r["body"]["suggestion_id"]) for r in refused] == [
        (404, "expected a suggestion of this gateway", "/v1/feedback", "unknown")
    ]
    assert refused[0]["id"] == refused[0]["body"]["event_id"]
    assert len(gateway.stored) == 2


def test_a_refused_token_keeps_everything(gateway: Gateway, page: Page) -> None:
    gateway.suggestions["s"] = "ads"
    told = page(
        'return [(await loop.feedback("s", { decision: "reject" })).status, loop.trouble, loop.refused];', token="no"
    )
    assert told == ["waiting", "unknown token", []]
    page("await loop.flush();")
    assert len(gateway.stored) == 1


def test_retry_after_is_honoured(gateway: Gateway, page: Page) -> None:
    gateway.suggestions["s"] = "ads"
    gateway.faults = [Fault(status=429, retry_after="1")]
    took = page("""
        const began = performance.now();
        await loop.feedback("s", { decision: "reject" });
        return performance.now() - began;
    """)
    assert 1000 <= took < 3000
    gateway.faults = [Fault(status=429, retry_after="60"), Fault(status=500)]
    assert page('return (await loop.feedback("s", { decision: "reject" })).status;') == "waiting"
    assert len(gateway.faults) == 1


def test_a_suggestion_is_asked_for_again_unless_it_takes_too_long(gateway: Gateway, page: Page) -> None:
    ask = 'caught(loop.suggest({ workflow: "ads", messages: [] }))'
    gateway.faults = [Fault(drop=True), Fault(status=503)]
    assert page(f"return {ask};") is None
    assert page(f"return {ask.replace('ads', 'other')};") == {"status": 403, "message": "another workflow"}
    gateway.requests.clear()
    gateway.away = Fault(delay=1.5)
    error = page(f"loop.timeout = 700; return {ask};")
    assert error == {"message": "The operation was aborted due to timeout"}
    time.sleep(1.0)
    assert len(gateway.requests) == 1


def test_two_tabs_lose_and_double_nothing(gateway: Gateway, page: Page, tmp_path: Path) -> None:
    gateway.suggestions["s"] = "ads"
    gateway.faults = [Fault(delay=0.1), Fault(status=503), Fault(cut=True), Fault(drop=True)]
    statuses = page("""
        const other = new Loop(loop.url, { token: loop.headers.authorization.slice(7) });
        const calls = [];
        for (let i = 0; i < 10; i++)
            for (const tab of [loop, other])
                calls.push(tab.feedback("s", { decision: "reject", reasons: [String(i)] }));
        const told = await Promise.all(calls);
        for (let i = 0; i < 500 && loop.waiting; i++) await sleep(10);
        return told.map((t) => t.status);
    """)
    assert len(statuses) == 20
    assert set(statuses) <= {"stored", "duplicate", "waiting"}
    assert sorted(item["reasons"][0] for item in gateway.stored.values()) == sorted(2 * [str(i) for i in range(10)])
    assert stored(tmp_path) == {}


def test_full_storage_rejects_the_call(gateway: Gateway, page: Page) -> None:
    error = page("""
        Object.freeze(localStorage);
        return caught(loop.feedback("s", { decision: "reject" }));
    """)
    assert "not extensible" in error["message"]
    assert gateway.requests == []
