"""What people did with suggestions of the front: short feedback, outcomes, and nothing at all."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from loop.collect.spool import Spool
from tests.gateway.fronts import TEXTS, Running, feedback, home_of, key, name_of, refused, serving, wait, whole

# -- short feedback ---------------------------------------------------------------------------------------------------


def test_short_feedback_becomes_the_whole_event_of_its_suggestion(front: Running) -> None:
    shown = front.suggest(episode_id="ep-1", turn=2, task_id="t-9", region="eu", visibility=["minors"], n=2)
    told = feedback(shown, decision="accept", chosen=1, dwell_ms=1_200)
    reply = front.post("/v1/feedback", told)
    assert reply.status_code == 200
    stored = front.event(told["event_id"])
    assert stored.pop("_at") == reply.json()["received_at"]
    assert shown["shown_at"] <= stored.pop("decided_at") <= reply.json()["received_at"]
    assert stored == {
        "event_id": told["event_id"],
        "suggestion_id": shown["suggestion_id"],
        "episode_id": "ep-1",
        "turn": 2,
        "task_id": "t-9",
        "workflow": "ads",
        "shown_at": shown["shown_at"],
        "employee": name_of(front, "anna"),
        "team": "north",
        "region": "eu",
        "visibility": ["minors"],
        "prompt": [{"role": "user", "content": "an ad for shoes"}],
        "candidates": [
            {"position": 0, "text": TEXTS[0], "logprob": -1.5},
            {"position": 1, "text": TEXTS[1], "logprob": -2.5},
        ],
        "model_version": "v7",
        "arm_propensity": 0.9,
        "order_propensity": 0.5,
        "decision": "accept",
        "chosen": 1,
        "final_text": TEXTS[1],
        "reasons": [],
        "dwell_ms": 1_200,
        "purposes": [],
    }


def test_what_feedback_says_itself_goes_before_its_suggestion(front: Running) -> None:
    told = feedback(
        front.suggest(),
        employee="bob",
        team="south",
        region="us",
        purposes=["evaluation"],
        shown_at="2026-01-02T03:04:05+01:00",
        decided_at="2026-01-02T02:04:06Z",
    )
    assert front.post("/v1/feedback", told, "relay").status_code == 200
    stored = front.event(told["event_id"])
    assert {name: stored[name] for name in ("employee", "team", "region", "purposes", "shown_at", "decided_at")} == {
        "employee": name_of(front, "bob"),
        "team": "south",
        "region": "us",
        "purposes": ["evaluation"],
        "shown_at": "2026-01-02T02:04:05Z",
        "decided_at": "2026-01-02T02:04:06Z",
    }


def test_one_candidate_need_not_be_chosen(front: Running) -> None:
    shown = front.suggest(n=1)
    taken = feedback(shown, decision="accept")
    changed = feedback(shown, decision="modify", final_text="target old friends")
    assert [front.post("/v1/feedback", told).status_code for told in (taken, changed)] == [200, 200]
    assert [front.event(told["event_id"])["chosen"] for told in (taken, changed)] == [0, 0]
    assert refused(front.post("/v1/feedback", feedback(front.suggest(n=2), decision="accept"))) == (
        422,
        "chosen",
        "chosen",
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"decision": ...}, (422, "missing_field", "decision")),
        ({"decision": "maybe"}, (422, "wrong_type", "decision")),
        ({"event_id": "x" * 201}, (422, "wrong_type", "event_id")),
        ({"event_id": "a\x00b"}, (422, "id", "event_id")),
        ({"suggestion_id": "s-unknown"}, (404, "unknown_suggestion", "suggestion_id")),
        ({"finaltext": "a"}, (422, "unknown_field", "finaltext")),
        ({"decision": "accept", "chosen": 2}, (422, "chosen", "chosen")),
        ({"decision": "accept", "chosen": -1}, (422, "wrong_type", "chosen")),
        ({"decision": "accept", "chosen": 0, "final_text": "other"}, (422, "final_text", "final_text")),
        ({"decision": "modify", "chosen": 0}, (422, "final_text", "final_text")),
        ({"decision": "modify", "chosen": 0, "final_text": TEXTS[0]}, (422, "final_text", "final_text")),
        ({"final_text": "x"}, (422, "final_text", "final_text")),
        ({"decision": "ignore", "decided_at": "2027-01-01T00:00:00Z"}, (422, "future", "decided_at")),
        ({"decided_at": "2026-01-01T00:00:00"}, (422, "naive_time", "decided_at")),
        ({"employee": " "}, (422, "id", "employee")),
        ({"purposes": ["spying"]}, (422, "wrong_type", "purposes[0]")),
        ({"reasons": [1]}, (422, "wrong_type", "reasons[0]")),
    ],
)
def test_short_feedback_that_breaks_a_rule_is_told_which(
    front: Running, changes: dict[str, Any], expected: tuple[int, str, str]
) -> None:
    assert refused(front.post("/v1/feedback", feedback(front.suggest(), **changes))) == expected


def test_a_wrong_decision_is_told_the_right_ones(front: Running) -> None:
    reply = front.post("/v1/feedback", feedback(front.suggest(), decision="maybe"))
    assert reply.json()["error"]["message"] == ("decision: expected one of accept, modify, reject, ignore, got 'maybe'")


def test_somebody_must_have_decided(front: Running) -> None:
    told = feedback(front.suggest(employee=None))
    assert refused(front.post("/v1/feedback", told)) == (422, "missing_field", "employee")
    assert front.post("/v1/feedback", told | {"employee": "bob"}).status_code == 200


def test_a_suggestion_of_another_workflow_is_not_this_tokens(front: Running) -> None:
    told = feedback(front.suggest())
    assert refused(front.post("/v1/feedback", told, token="moderation")) == (403, "wrong_workflow", "workflow")


def test_a_decision_before_the_showing_has_no_time(front: Running) -> None:
    """The tool's clock is behind ours."""
    shown = front.suggest()
    early = (datetime.fromisoformat(shown["shown_at"]) - timedelta(seconds=3)).isoformat()
    told = feedback(shown, decided_at=early, reasons=["dull"])
    assert front.post("/v1/feedback", told).status_code == 200
    stored = front.event(told["event_id"])
    assert ("decided_at" in stored, stored["reasons"]) == (False, ["dull", "clock_backwards"])
    late = (datetime.now(UTC) + timedelta(minutes=6)).isoformat()
    assert refused(front.post("/v1/feedback", feedback(shown, decided_at=late))) == (422, "future", "decided_at")


def test_an_ignore_has_no_time(front: Running) -> None:
    shown = front.suggest()
    timed = feedback(shown, decision="ignore", decided_at=shown["shown_at"])
    assert refused(front.post("/v1/feedback", timed)) == (422, "decision", "decided_at")
    told = feedback(front.suggest(), decision="ignore")
    assert front.post("/v1/feedback", told).status_code == 200
    assert "decided_at" not in front.event(told["event_id"])


def test_a_later_decision_revises_the_one_before(front: Running) -> None:
    shown = front.suggest()
    first = feedback(shown, decision="accept", chosen=0)
    second = feedback(shown, decision="modify", chosen=0, final_text="target old friends")
    third = feedback(shown, revises=first["event_id"])
    for told in (first, second, third):
        assert front.post("/v1/feedback", told).json()["status"] == "stored"
    revised = [front.event(told["event_id"]).get("revises") for told in (first, second, third)]
    assert revised == [None, first["event_id"], first["event_id"]]
    again = front.post("/v1/feedback", second)
    assert again.json()["status"] == "duplicate"
    clash = front.post("/v1/feedback", third | {"dwell_ms": 5, "revises": None})
    assert clash.status_code == 409
    assert [e.get("revises") for e in front.stored("event") if e["event_id"] == third["event_id"]] == [
        first["event_id"],
        None,
    ]


def test_what_was_filled_in_does_not_make_a_conflict(front: Running) -> None:
    told = feedback(front.suggest(), decision="accept", chosen=0)
    first = front.post("/v1/feedback", told).json()
    assert front.post("/v1/feedback", told).json() == first | {"status": "duplicate"}
    assert front.post("/v1/feedback", told | {"reasons": [], "team": None}).json() == first | {"status": "duplicate"}
    assert front.post("/v1/feedback", told | {"chosen": 1}).status_code == 409


# -- outcomes ---------------------------------------------------------------------------------------------------------


def outcome(suggestion: dict[str, Any], **changes: Any) -> dict[str, Any]:
    told = {
        "outcome_id": key(),
        "suggestion_id": suggestion["suggestion_id"],
        "name": "click",
        "value": 1.0,
        "observed_at": datetime.now(UTC).isoformat(),
    }
    return told | changes


def test_an_outcome_is_stored_with_the_partition_of_its_suggestion(front: Running) -> None:
    shown = front.suggest()
    sent = outcome(shown, value=2.5)
    reply = front.post("/v1/outcomes", sent)
    assert reply.status_code == 200
    assert reply.json() == {
        "status": "stored",
        "outcome_id": sent["outcome_id"],
        "suggestion_id": shown["suggestion_id"],
        "received_at": reply.json()["received_at"],
    }
    (stored,) = [o for o in front.stored("outcome") if o["outcome_id"] == sent["outcome_id"]]
    observed = datetime.fromisoformat(sent["observed_at"]).isoformat().replace("+00:00", "Z")
    assert stored == sent | {
        "observed_at": observed,
        "workflow": "ads",
        "day": shown["shown_at"][:10],
        "received_at": reply.json()["received_at"],
        "_at": None,
    }
    assert front.post("/v1/outcomes", sent).json() == reply.json() | {"status": "duplicate"}
    assert refused(front.post("/v1/outcomes", sent | {"value": 3.0})) == (409, "conflict", "outcome_id")


def test_outcomes_come_in_arrays_too(front: Running) -> None:
    shown = front.suggest()
    one = outcome(shown)
    future = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    sent = [one, outcome(shown, observed_at=future), outcome(shown, suggestion_id="s-none"), one, {}]
    reply = front.post("/v1/outcomes", sent)
    assert reply.status_code == 207
    told = reply.json()
    assert [(r["status"], r.get("error", {}).get("param")) for r in told["results"]] == [
        ("stored", None),
        ("rejected", "observed_at"),
        ("rejected", "suggestion_id"),
        ("duplicate", None),
        ("rejected", "outcome_id"),
    ]


def test_an_outcome_and_an_event_may_have_the_same_key(front: Running) -> None:
    event = whole()
    front.post("/v1/feedback", event)
    assert front.post("/v1/outcomes", outcome(front.suggest(), outcome_id=event["event_id"])).status_code == 200


# -- nobody decided ---------------------------------------------------------------------------------------------------


def test_what_nobody_decided_on_in_time_is_ignored_and_may_be_revised(tmp_path: Path) -> None:
    settings = home_of(tmp_path, ignore_after_hours=1e-9)
    with serving(settings) as front:
        silent, decided, nobody = front.suggest(), front.suggest(), front.suggest(employee=None)
        told = feedback(decided)
        assert front.post("/v1/feedback", told).status_code == 200
        swept = front.call(front.front.sweep())
        assert swept == 1
        assert front.call(front.front.sweep()) == 0
        about = [(e["event_id"], e["suggestion_id"]) for e in front.stored("event")]
        assert about == [
            (told["event_id"], decided["suggestion_id"]),
            (f"ignore:{silent['suggestion_id']}", silent["suggestion_id"]),
        ]
        ignored = front.event(f"ignore:{silent['suggestion_id']}")
        assert (ignored["decision"], ignored["employee"], ignored.get("decided_at"), ignored.get("chosen")) == (
            "ignore",
            name_of(front, "anna"),
            None,
            None,
        )
        late = feedback(silent, decision="accept", chosen=0)
        assert front.post("/v1/feedback", late).status_code == 200
        assert front.event(late["event_id"])["revises"] == f"ignore:{silent['suggestion_id']}"
        assert "loop_gateway_ignored_total 1.0" in front.get("/metrics").text
        assert nobody["suggestion_id"] not in {e["suggestion_id"] for e in front.stored("event")}


def test_a_decision_revises_what_is_being_stored_just_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append, storing, go_on = Spool.append, threading.Event(), threading.Event()

    def slow(spool: Spool, payloads: Sequence[bytes]) -> None:
        storing.set()
        assert go_on.wait(20)
        append(spool, payloads)

    with serving(home_of(tmp_path, ignore_after_hours=1e-9)) as front, ThreadPoolExecutor() as pool:
        made = front.suggest()
        monkeypatch.setattr(Spool, "append", slow)
        sweeping = pool.submit(front.call, front.front.sweep())
        assert storing.wait(20)
        first, second = feedback(made), feedback(made)
        answers = []
        for told in (first, second):
            answers.append(pool.submit(front.post, "/v1/feedback", told))
            wait(lambda told=told: told["event_id"] in front.front.collecting._coming.values())
        go_on.set()
        assert sweeping.result(20) == 1
        assert [answer.result(20).status_code for answer in answers] == [200, 200]
        revises = [front.event(told["event_id"])["revises"] for told in (first, second)]
        assert revises == [f"ignore:{made['suggestion_id']}", first["event_id"]]
        assert front.front.collecting._coming == {}
