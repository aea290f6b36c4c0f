"""Whole events, one and many: what is stored, what is told, and what is still known later."""

from __future__ import annotations

import errno
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from loop.collect.events import pseudonym
from loop.gateway import collecting
from tests.gateway.fronts import TOKENS, Running, feedback, home_of, name_of, refused, serving, whole

# -- a whole event ----------------------------------------------------------------------------------------------------


def test_a_whole_event_is_stored_with_a_pseudonym(front: Running) -> None:
    sent = whole(employee="ann@corp.example")
    before = datetime.now(UTC)
    reply = front.post("/v1/feedback", sent)
    assert reply.status_code == 200
    told = reply.json()
    received = datetime.fromisoformat(told.pop("received_at"))
    assert before <= received <= datetime.now(UTC)
    assert told == {"event_id": sent["event_id"], "suggestion_id": "elsewhere-1", "status": "stored"}
    stored = front.event(sent["event_id"])
    assert datetime.fromisoformat(stored.pop("_at")) == received
    for name in ("shown_at", "decided_at"):
        assert datetime.fromisoformat(stored.pop(name)) == datetime.fromisoformat(sent.pop(name))
    sent["candidates"][1].pop("logprob")
    for candidate in stored["candidates"]:
        if candidate.get("logprob") is None:
            candidate.pop("logprob", None)
    assert stored == sent | {"employee": name_of(front, "ann@corp.example")}


def test_times_are_stored_in_utc(front: Running) -> None:
    sent = whole()
    shown = datetime.fromisoformat(sent["shown_at"]).astimezone(UTC)
    sent["shown_at"] = (shown + timedelta(hours=2)).isoformat().replace("+00:00", "+02:00")
    assert front.post("/v1/feedback", sent).status_code == 200
    assert front.event(sent["event_id"])["shown_at"] == shown.isoformat().replace("+00:00", "Z")


def test_a_time_of_receipt_is_taken_from_a_relay_and_kept_beside_ours(front: Running) -> None:
    earlier = "2026-01-02T03:04:10Z"
    sent = whole(shown_at="2026-01-02T03:04:05Z", decided_at="2026-01-02T03:04:06Z", received_at=earlier)
    reply = front.post("/v1/feedback", sent, "relay")
    stored = front.event(sent["event_id"])
    assert stored["received_at"] == earlier
    assert stored["_at"] == reply.json()["received_at"] > earlier
    again = front.post("/v1/feedback", sent | {"received_at": "2026-01-02T03:05:00Z"}, "relay")
    assert again.json()["status"] == "duplicate"


def test_a_relay_says_when_it_received_short_feedback(front: Running) -> None:
    shown = front.suggest(n=1)
    earlier = {"shown_at": "2026-01-02T03:04:05Z", "decided_at": "2026-01-02T03:04:06Z"}
    sent = feedback(shown, decision="reject", received_at="2026-01-02T03:04:10Z", **earlier)
    assert front.post("/v1/feedback", sent, "relay").status_code == 200
    stored = front.event(sent["event_id"])
    assert {name: stored[name] for name in earlier} == earlier
    assert stored["received_at"] == "2026-01-02T03:04:10Z"


@pytest.mark.parametrize("kind", ["whole", "short"])
def test_nobody_else_says_when_something_was_received(front: Running, kind: str) -> None:
    told = {"received_at": "2026-01-02T03:04:10Z"}
    sent = whole(**told) if kind == "whole" else feedback(front.suggest(n=1), decision="reject", **told)
    reply = front.post("/v1/feedback", sent)
    assert reply.status_code == 403
    assert reply.json()["error"]["param"] == "received_at"


def test_a_suggestion_is_not_moved_to_another_day(front: Running) -> None:
    shown = front.suggest(n=1)
    day_before = datetime.fromisoformat(shown["shown_at"]) - timedelta(days=1)
    sent = feedback(shown, shown_at=day_before.isoformat())
    assert refused(front.post("/v1/feedback", sent)) == (422, "times", "shown_at")


@pytest.mark.parametrize("kind", ["whole", "short"])
def test_the_keys_of_the_sweep_are_the_gateways(front: Running, kind: str) -> None:
    told = {"event_id": "ignore:s-1"}
    sent = whole(**told) if kind == "whole" else feedback(front.suggest(n=1), **told)
    assert refused(front.post("/v1/feedback", sent)) == (422, "id", "event_id")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("workflow", "moderation"),
        ("model_version", "better"),
        ("arm_propensity", 1.0),
        ("order_propensity", 0.25),
        ("candidates", [{"position": 0, "text": "target strangers", "logprob": -1.5}]),
    ],
)
def test_a_whole_event_says_of_our_suggestion_what_we_served(front: Running, field: str, value: Any) -> None:
    shown = front.suggest(n=1)
    names = ("suggestion_id", "workflow", "model_version", "arm_propensity", "order_propensity", "candidates")
    served = {name: shown[name] for name in names}
    times = {"shown_at": shown["shown_at"], "decided_at": shown["shown_at"]}
    sent = whole(**served, **times, chosen=0)
    assert refused(front.post("/v1/feedback", sent | {field: value})) == (422, "not_as_served", field)
    assert front.post("/v1/feedback", sent).json()["status"] == "stored"


def test_sent_again_it_is_a_duplicate_with_the_first_receipt(front: Running) -> None:
    sent = whole()
    first = front.post("/v1/feedback", sent).json()
    again = front.post("/v1/feedback", json.dumps(dict(reversed(sent.items())), indent=2).encode())
    assert again.status_code == 200
    assert again.json() == first | {"status": "duplicate"}
    assert len([e for e in front.stored("event") if e["event_id"] == sent["event_id"]]) == 1


def test_other_content_under_the_same_id_is_a_conflict_and_both_are_kept(front: Running) -> None:
    sent = whole()
    front.post("/v1/feedback", sent)
    assert refused(front.post("/v1/feedback", sent | {"dwell_ms": 901})) == (409, "conflict", "event_id")
    assert refused(front.post("/v1/feedback", sent | {"employee": "bob"})) == (409, "conflict", "event_id")
    kept = [(e["dwell_ms"], e["employee"]) for e in front.stored("event") if e["event_id"] == sent["event_id"]]
    assert kept == [(900, name_of(front, "anna")), (901, name_of(front, "anna")), (900, name_of(front, "bob"))]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"event_id": ...}, (422, "missing_field", "event_id")),
        ({"event_id": ""}, (422, "id", "event_id")),
        ({"event_id": "a\nb"}, (422, "id", "event_id")),
        ({"event_id": "x" * 201}, (422, "id", "event_id")),
        ({"employee": " "}, (422, "id", "employee")),
        ({"team": ""}, (422, "id", "team")),
        ({"decison": "accept"}, (422, "unknown_field", "decison")),
        ({"decision": "maybe"}, (422, "decision", "decision")),
        ({"workflow": "poetry"}, (422, "workflow", "workflow")),
        ({"workflow": "comms"}, (403, "wrong_workflow", "workflow")),
        ({"chosen": 2}, (422, "chosen", "chosen")),
        ({"chosen": None}, (422, "chosen", "chosen")),
        ({"chosen": "1"}, (422, "wrong_type", "chosen")),
        ({"final_text": None}, (422, "final_text", "final_text")),
        ({"final_text": "target regulars"}, (422, "final_text", "final_text")),
        ({"final_text": ""}, (422, "final_text", "final_text")),
        ({"final_text": "x" * 20_001}, (422, "too_long", "final_text")),
        ({"decision": "accept"}, (422, "final_text", "final_text")),
        ({"decision": "reject"}, (422, "chosen", "chosen")),
        ({"decision": "ignore", "chosen": None, "final_text": None}, (422, "decision", "decided_at")),
        ({"decided_at": None}, (422, "decision", "decided_at")),
        ({"decided_at": "2021-01-01T00:00:00Z"}, (422, "times", "decided_at")),
        ({"shown_at": "2026-01-01T00:00:00"}, (422, "naive_time", "shown_at")),
        ({"shown_at": "2020-12-31T23:59:59Z"}, (422, "times", "shown_at")),
        ({"shown_at": "0001-01-01T00:00:00+14:00"}, (422, "times", "shown_at")),
        ({"shown_at": "yesterday"}, (422, "wrong_type", "shown_at")),
        ({"candidates": []}, (422, "candidates", "candidates")),
        ({"candidates": [{"position": 1, "text": "a"}]}, (422, "candidates", "candidates")),
        ({"candidates": [{"position": 0, "text": 7}]}, (422, "wrong_type", "candidates[0].text")),
        ({"candidates": [{"position": 0, "text": "a", "logprob": 0.5}]}, (422, "logprob", "candidates")),
        ({"prompt": []}, (422, "prompt", "prompt")),
        ({"prompt": [{"role": "poet", "content": "a"}]}, (422, "prompt", "prompt")),
        ({"prompt": [{"role": "user", "content": "x" * 4_001}]}, (422, "too_long", "prompt")),
        ({"purposes": ["spying"]}, (422, "purposes", "purposes")),
        ({"reasons": ["x" * 201]}, (422, "too_long", "reasons")),
        ({"visibility": ["x"] * 101}, (422, "too_long", "visibility")),
        ({"arm_propensity": 0.0}, (422, "propensity", "arm_propensity")),
        ({"order_propensity": 1.1}, (422, "propensity", "order_propensity")),
        ({"dwell_ms": -1}, (422, "dwell", "dwell_ms")),
        ({"turn": -1}, (422, "turn", "turn")),
        ({"revises": "SELF"}, (422, "id", "revises")),
    ],
)
def test_a_whole_event_that_breaks_a_rule_is_told_which(
    front: Running, changes: dict[str, Any], expected: tuple[int, str, str]
) -> None:
    sent = whole(**changes)
    if sent.get("revises") == "SELF":
        sent["revises"] = sent["event_id"]
    reply = front.post("/v1/feedback", sent)
    assert refused(reply) == expected
    assert expected[2] in reply.json()["error"]["message"]
    assert (
        sent.get("event_id", "") not in {event["event_id"] for event in front.stored("event")} or not sent["event_id"]
    )


@pytest.mark.parametrize(("ahead", "status"), [(4, 200), (6, 422)])
def test_a_clock_may_be_ahead_by_five_minutes(front: Running, ahead: int, status: int) -> None:
    time = (datetime.now(UTC) + timedelta(minutes=ahead)).isoformat()
    reply = front.post("/v1/feedback", whole(shown_at=time, decided_at=time))
    assert reply.status_code == status
    if status == 422:
        assert refused(reply) == (422, "future", "shown_at")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", (400, "not_json", None)),
        (b"{", (400, "not_json", None)),
        (b"17", (422, "wrong_type", None)),
        (b"null", (422, "wrong_type", None)),
        (b'{"event_id": "\xff"}', (400, "not_utf8", None)),
        (b'{"event_id": NaN}', (400, "not_json", None)),
        (b'{"event_id": "\\ud800"}', (400, "not_json", None)),
        (b"[" * 100_000, (400, "not_json", None)),
        (b'{"candidates":' + b"[" * 100_000, (422, "wrong_type", "candidates[0]")),
        (b'{"metadata":' + b"[" * 100_000, (422, "unknown_field", "metadata")),
    ],
)
def test_what_is_no_json_object_is_told_so(front: Running, body: bytes, expected: tuple[int, str, None]) -> None:
    assert refused(front.post("/v1/feedback", body)) == expected


def test_a_repeated_key_counts_last_but_an_event_has_one_id(front: Running) -> None:
    twice = json.dumps(whole(event_id="first"))[:-1] + ', "event_id": "second"}'
    assert refused(front.post("/v1/feedback", twice.encode())) == (422, "duplicate_field", "event_id")
    sent = whole(reasons=["event_id"])
    dwell = json.dumps(sent)[:-1] + ', "dwell_ms": 7}'
    assert front.post("/v1/feedback", dwell.encode()).status_code == 200
    assert front.event(sent["event_id"])["dwell_ms"] == 7


def test_the_kind_of_an_item_is_told_by_its_key_however_it_is_spelled(front: Running) -> None:
    sent = whole()
    spelled = json.dumps(sent).replace('"candidates"', '"\\u0063andidates"')
    assert front.post("/v1/feedback", spelled.encode()).json()["status"] == "stored"
    told = feedback(front.suggest(), reasons=["candidates"])
    assert front.post("/v1/feedback", told).json()["status"] == "stored"


# -- many -------------------------------------------------------------------------------------------------------------


def test_an_array_is_answered_item_by_item(front: Running) -> None:
    shown = front.suggest()
    before = whole()
    front.post("/v1/feedback", before)
    new, short = whole(), feedback(shown, decision="accept", chosen=0)
    sent = [
        new,
        before,
        before | {"dwell_ms": 1},
        whole(event_id="broken", chosen=9),
        short,
        feedback(shown, event_id="lost", suggestion_id="s-none"),
        17,
        new,
        whole(event_id="theirs", workflow="design"),
    ]
    reply = front.post("/v1/feedback", sent)
    assert reply.status_code == 207
    told = reply.json()
    results = told.pop("results")
    assert told == {"stored": 2, "duplicates": 2, "conflicts": 1, "rejected": 4}
    assert [(r["status"], r.get("event_id"), r.get("error", {}).get("status")) for r in results] == [
        ("stored", new["event_id"], None),
        ("duplicate", before["event_id"], None),
        ("conflict", before["event_id"], 409),
        ("rejected", "broken", 422),
        ("stored", short["event_id"], None),
        ("rejected", "lost", 404),
        ("rejected", None, 422),
        ("duplicate", new["event_id"], None),
        ("rejected", "theirs", 403),
    ]
    assert results[3]["error"] == {
        "message": "chosen: expected a shown position for modify, got 9",
        "type": "invalid_request_error",
        "code": "chosen",
        "param": "chosen",
        "status": 422,
    }
    assert results[7]["received_at"] == results[0]["received_at"]


def test_an_array_without_faults_is_200(front: Running) -> None:
    assert front.post("/v1/feedback", [whole(), whole()]).status_code == 200
    empty = front.post("/v1/feedback", b"  []")
    assert (empty.status_code, empty.json()) == (
        200,
        {"results": [], "stored": 0, "duplicates": 0, "conflicts": 0, "rejected": 0},
    )


def test_decisions_of_one_array_revise_each_other(front: Running) -> None:
    """As an outbox sends them that was offline."""
    shown = front.suggest()
    sent = [
        feedback(shown, decision="accept", chosen=0),
        feedback(shown, decision="modify", chosen=0, final_text="target old friends"),
        feedback(shown),
    ]
    assert front.post("/v1/feedback", sent).json()["stored"] == 3
    revised = [front.event(told["event_id"]).get("revises") for told in sent]
    assert revised == [None, sent[0]["event_id"], sent[1]["event_id"]]


def test_what_comes_late_in_a_long_batch_was_received_late(front: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what another connection brought meanwhile would replace it, as if it had come after."""
    monkeypatch.setattr(collecting, "GROUP", 1)
    lines = b"\n".join(json.dumps(whole()).encode() for _ in range(3))
    told = front.post("/v1/feedback/batch", lines).json()["results"]
    times = [one["received_at"] for one in told]
    assert times == sorted(set(times))
    assert len(times) == 3


# -- what does not go away --------------------------------------------------------------------------------------------


def test_keys_are_known_after_a_restart_and_after_a_rotation(tmp_path: Path) -> None:
    settings = home_of(tmp_path)
    sent = whole()
    with serving(settings) as front:
        shown = front.suggest()
        told = feedback(shown, employee="anna", decision="accept", chosen=0)
        first = [front.post("/v1/feedback", item).json() for item in (sent, told)]
    before = settings.secret("pseudonym")
    settings.rotate("pseudonym")
    with serving(settings) as front:
        again = [front.post("/v1/feedback", item) for item in (sent, told)]
        assert [reply.json() for reply in again] == [one | {"status": "duplicate"} for one in first]
        later = feedback(shown, employee="anna")
        front.post("/v1/feedback", later)
        assert front.event(later["event_id"])["employee"] == name_of(front, "anna") != pseudonym("anna", before)
        assert front.event(later["event_id"])["revises"] == told["event_id"]


def test_a_full_spool_is_told_with_a_time_to_come_back(tmp_path: Path) -> None:
    with serving(home_of(tmp_path, spool_bytes=20_000)) as front:
        stored = []
        while (reply := front.post("/v1/feedback", sent := whole())).status_code == 200:
            stored.append(sent["event_id"])
        assert refused(reply) == (429, "spool_full", None)
        assert int(reply.headers["retry-after"]) >= 1
        assert front.post("/v1/feedback", [whole()]).status_code == 429
        assert front.post("/v1/feedback/batch", json.dumps(whole()).encode()).status_code == 429
        assert front.get("/healthz").status_code == 200
        assert len(stored) > 5
        assert [event["event_id"] for event in front.stored("event")] == stored


def test_a_disk_that_fails_is_told_without_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(home_of(tmp_path)) as front:
        good = whole()
        assert front.post("/v1/feedback", good).status_code == 200

        def broken(*_: Any) -> None:
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", broken)
            reply = front.post("/v1/feedback", bad := whole())
        assert refused(reply) == (503, "storage", None)
        assert "retry-after" in reply.headers
        assert str(tmp_path) not in reply.text
        ready = front.get("/readyz")
        assert (ready.status_code, ready.json()["feedback"]) == (503, False)
        assert "EIO" in ready.json()["reasons"]["spool"]
        assert str(tmp_path) not in ready.text
        assert front.post("/v1/feedback", bad).json()["status"] == "stored"
        assert [event["event_id"] for event in front.stored("event")] == [good["event_id"], bad["event_id"]]


def test_the_token_says_what_people_consented_to_where_nobody_else_does(front: Running) -> None:
    asked = {"workflow": "ads", "messages": [{"role": "user", "content": "a"}], "employee": "anna"}
    for body, token, expected in (
        (asked, "desk", ["training"]),
        (asked, "all", []),
        (asked | {"purposes": []}, "desk", []),
        (asked | {"purposes": ["evaluation"]}, "desk", ["evaluation"]),
    ):
        shown = front.post("/v1/suggestions", body, token=token).json()
        told = feedback(shown)
        assert front.post("/v1/feedback", told, token="desk").status_code == 200
        assert front.event(told["event_id"])["purposes"] == expected
    assert TOKENS["desk"].purposes == ("training",)
