from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest

from loop.client import Candidate, Loop, Pace, RefusedError, Status, Suggestion, UnavailableError, wire
from loop.client.wire import Told
from tests.client.server import AD, TOKEN, Fault, Gateway

FAST = Pace(tries=4, base=0.002, cap=1.0)
GONE = "http://127.0.0.1:9"


def shown(gateway: Gateway) -> Suggestion:
    with Loop(gateway.url, TOKEN) as loop:
        return loop.suggest("ads", "a brief")


def test_a_suggestion_is_asked_for_and_typed(gateway: Gateway) -> None:
    with Loop(gateway.url + "/v1/", TOKEN) as loop:
        suggestion = loop.suggest("ads", "a brief", n=2, employee="kim", purposes=["training"])
        messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
        second = loop.suggest("moderation", messages)
    assert suggestion.candidates == (Candidate(0, AD[0], -1.5), Candidate(1, AD[1], None))
    assert (suggestion.workflow, suggestion.model_version) == ("ads", "7")
    assert (suggestion.arm_propensity, suggestion.order_propensity) == (0.9, 0.5)
    assert suggestion.shown_at.utcoffset() == timedelta(0)
    assert second.workflow == "moderation"
    (path, body, headers), (_, other, _) = gateway.requests
    assert path == "/v1/suggestions"
    assert body == {
        "workflow": "ads",
        "messages": [{"role": "user", "content": "a brief"}],
        "n": 2,
        "employee": "kim",
        "purposes": ["training"],
    }
    assert headers["content-type"] == "application/json"
    assert other == {"workflow": "moderation", "messages": messages}


def test_each_decision_says_what_the_person_did(gateway: Gateway) -> None:
    suggestion = shown(gateway)
    with Loop(gateway.url, TOKEN) as loop:
        before = datetime.now(UTC)
        accepted = loop.accept(suggestion, 1, dwell_ms=2300, reasons=["on brand"])
        loop.modify(suggestion, "other", 0, employee="kim", event_id="mine", revises=accepted.key)
        loop.modify(suggestion, "", 0, reasons=["dull", "deleted"])
        loop.reject(suggestion.suggestion_id, team="t", decided_at=datetime(2026, 1, 2, 3, tzinfo=UTC))
        loop.ignore(suggestion)
        loop.accept(suggestion.suggestion_id)
    accept, modify, delete, reject, ignore, unsaid = gateway.stored.values()
    assert before <= datetime.fromisoformat(accept.pop("decided_at")) <= datetime.now(UTC)
    assert accept == {
        "event_id": accepted.key,
        "suggestion_id": suggestion.suggestion_id,
        "decision": "accept",
        "chosen": 1,
        "dwell_ms": 2300,
        "reasons": ["on brand"],
    }
    assert (accepted.status, accepted.received_at) == (
        Status.STORED,
        datetime.fromisoformat(gateway.received[accepted.key]),
    )
    del modify["decided_at"]
    assert modify == {
        "event_id": "mine",
        "suggestion_id": suggestion.suggestion_id,
        "decision": "modify",
        "chosen": 0,
        "final_text": "other",
        "employee": "kim",
        "revises": accepted.key,
    }
    assert (delete["final_text"], delete["reasons"]) == ("", ["dull", "deleted"])
    assert (reject["decision"], reject["decided_at"]) == ("reject", "2026-01-02T03:00:00+00:00")
    assert ignore == {
        "event_id": ignore["event_id"],
        "suggestion_id": suggestion.suggestion_id,
        "decision": "ignore",
    }
    assert "chosen" not in unsaid


def test_a_deletion_says_so_by_itself() -> None:
    told = json.loads(wire.feedback("s", "modify", 0, "", Told(reasons=["dull"])).body)
    assert told["reasons"] == ["dull", "deleted"]


def test_nobody_decides_before_being_shown_whatever_our_clock_says() -> None:
    later = datetime.now(UTC) + timedelta(minutes=3)
    suggestion = Suggestion("s", "ads", "7", 1.0, 1.0, later, (Candidate(0, "a"),))
    body = json.loads(wire.feedback(suggestion, "accept", None, None, Told()).body)
    assert body["decided_at"] == later.isoformat()
    assert body["chosen"] == 0


def test_an_outcome_is_told(gateway: Gateway) -> None:
    suggestion, at = shown(gateway), datetime(2026, 1, 2, tzinfo=UTC)
    with Loop(gateway.url, TOKEN) as loop:
        receipt = loop.outcome(suggestion, "click", 1.5, observed_at=at, outcome_id="o-1")
        other = loop.outcome(suggestion.suggestion_id, "revenue", 3)
    assert gateway.stored["o-1"] == {
        "outcome_id": "o-1",
        "suggestion_id": suggestion.suggestion_id,
        "name": "click",
        "value": 1.5,
        "observed_at": at.isoformat(),
    }
    assert (receipt.key, receipt.status, other.status) == ("o-1", Status.STORED, Status.STORED)
    assert len(other.key) == 36


TWO = Suggestion("s", "ads", "7", 1.0, 1.0, datetime.now(UTC), (Candidate(0, "a"), Candidate(1, "b")))


@pytest.mark.parametrize(
    ("decision", "chosen", "text", "told", "expected"),
    [
        ("accept", None, None, Told(), r"expected chosen among the positions \[0, 1\], got None"),
        ("accept", 2, None, Told(), r"expected chosen among the positions \[0, 1\], got 2"),
        ("modify", 0, None, Told(), "expected final_text, what the person made of it, with modify"),
        ("modify", 0, "a", Told(), "expected another text than the candidate's with modify"),
        ("reject", 0, None, Told(), "expected neither chosen nor final_text with reject, got one"),
        ("ignore", None, "a", Told(), "expected neither chosen nor final_text with ignore, got one"),
        ("reject", None, None, Told(decided_at=datetime(2026, 1, 1)), "expected an aware time"),  # noqa: DTZ001
        ("modify", 0, "half a pair \ud83d", Told(), "surrogates not allowed"),
    ],
)
def test_what_cannot_be_meant_is_said_before_it_is_sent(
    decision: wire.Decision, chosen: int | None, text: str | None, told: Told, expected: str
) -> None:
    with pytest.raises(ValueError, match=expected):
        wire.feedback(TWO, decision, chosen, text, told)


def test_a_value_that_is_no_number_is_not_sent() -> None:
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        wire.outcome("s", "revenue", float("nan"), None, None)


@pytest.mark.parametrize("url", ["127.0.0.1:80", "ftp://x", "http://", ""])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected the gateway's address such as"):
        Loop(url, TOKEN)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=429, retry_after="0.01"),
        Fault(status=503),
        Fault(status=500),
        Fault(status=408),
        Fault(drop=True),
        Fault(cut=True),
        Fault(body=b"<html>log in to the hotel's network"),
        Fault(status=404, body=b"<html>nginx"),
        Fault(status=302, body=b"<html>elsewhere"),
    ],
)
def test_a_failure_for_now_is_tried_again_with_the_same_key(gateway: Gateway, fault: Fault) -> None:
    suggestion = shown(gateway)
    gateway.faults = [fault, fault]
    with Loop(gateway.url, TOKEN, pace=FAST) as loop:
        if fault.body and not fault.status:  # another form with 200 is no reason to hurry, and no acknowledgement
            with pytest.raises(UnavailableError, match="expected the gateway's answer, got 200 as text/html"):
                loop.accept(suggestion, 0)
            return
        receipt = loop.accept(suggestion, 0)
    assert list(gateway.stored) == [receipt.key]
    assert gateway.duplicates == ([receipt.key] * 2 if fault.cut else [])
    assert receipt.status == (Status.DUPLICATE if fault.cut else Status.STORED)
    assert receipt.received_at == datetime.fromisoformat(gateway.received[receipt.key])


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422])
def test_a_refusal_is_told_at_once_and_never_tried_again(gateway: Gateway, status: int) -> None:
    suggestion = shown(gateway)
    gateway.faults = [Fault(status=status), Fault(status=500)]
    with (
        Loop(gateway.url, TOKEN, pace=FAST) as loop,
        pytest.raises(RefusedError, match=f"the gateway refused with {status}: made to fail$") as caught,
    ):
        loop.reject(suggestion)
    assert (caught.value.status, caught.value.code, caught.value.kept) == (status, f"c{status}", False)
    assert len(gateway.faults) == 1


def test_a_body_too_large_for_a_proxy_is_refused(gateway: Gateway) -> None:
    gateway.faults = [Fault(status=413, body=b"<html>nginx")]
    with Loop(gateway.url, TOKEN) as loop, pytest.raises(RefusedError, match="413: without the gateway's form"):
        loop.reject(shown_later(gateway))


def shown_later(gateway: Gateway) -> str:
    return str(gateway.suggest()["suggestion_id"])


def test_it_gives_up_in_the_end_and_says_why(gateway: Gateway) -> None:
    gateway.away = Fault(status=503, retry_after="0")
    with Loop(gateway.url, TOKEN, pace=FAST) as loop:
        with pytest.raises(UnavailableError, match="the gateway answered 503: made to fail"):
            loop.suggest("ads", "a brief")
        gateway.away = None
        gateway.stop()
        with pytest.raises(UnavailableError, match=r"no answer from the gateway \(ConnectError\)"):
            loop.suggest("ads", "a brief")


def test_a_long_wait_that_is_asked_for_is_not_waited_for_in_a_call(gateway: Gateway) -> None:
    gateway.faults = [Fault(status=429, retry_after="7"), Fault(status=500)]
    with Loop(gateway.url, TOKEN, pace=FAST) as loop, pytest.raises(UnavailableError) as caught:
        loop.suggest("ads", "a brief")
    assert caught.value.retry_after == 7.0
    assert len(gateway.faults) == 1


def test_retry_after_is_waited_for(gateway: Gateway) -> None:
    gateway.faults = [Fault(status=429, retry_after="0.3")]
    with Loop(gateway.url, TOKEN, pace=FAST) as loop:
        began = time.monotonic()
        loop.suggest("ads", "a brief")
    assert 0.3 <= time.monotonic() - began < 1.0


def test_a_suggestion_that_takes_too_long_is_not_asked_for_twice(gateway: Gateway) -> None:
    """The first one may have been made, and would be taken for one that a person ignored."""
    gateway.away = Fault(delay=0.5)
    with (
        Loop(gateway.url, TOKEN, pace=FAST, timeout=0.1) as loop,
        pytest.raises(UnavailableError, match=r"no answer from the gateway \(ReadTimeout\)"),
    ):
        loop.suggest("ads", "a brief")
    time.sleep(0.7)
    assert len(gateway.requests) == 1


def reply(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(status, headers={k.replace("_", "-"): v for k, v in headers.items()}, content=b"{}")


def test_retry_after_as_number_date_or_nonsense() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    asked = [
        getattr(wire.failure(reply(503, retry_after=text)), "retry_after", "")
        for text in ("2", "1.5", "99999", date, "soon", "-1", "Mon, 99 Foo", "Wed, 21 Oct 2015 07:28:00 GMT")
    ]
    assert asked[:3] == [2.0, 1.5, 3600.0]
    assert 28.0 < asked[3] <= 30.0
    assert asked[4:] == [None, None, None, 0.0]


def test_the_pace_is_random_between_nothing_and_a_doubling_bound() -> None:
    pace, error = Pace(tries=4, base=0.5, cap=1.5), UnavailableError("")
    delays = {failed: [pace.delay(failed, error) for _ in range(400)] for failed in (1, 2, 3)}
    for failed, bound in ((1, 0.5), (2, 1.0), (3, 1.5)):
        found = [d for d in delays[failed] if d is not None]
        assert len(found) == 400
        assert 0.0 <= min(found) < 0.1 * bound
        assert 0.9 * bound < max(found) <= bound
    assert pace.delay(4, error) is None
    assert pace.delay(1, UnavailableError("", retry_after=1.6)) is None
    assert 1.0 <= (pace.delay(1, UnavailableError("", retry_after=1.0)) or 0.0) <= 1.5


def test_several_threads_share_a_client(gateway: Gateway, tmp_path: Path) -> None:
    suggestion = shown(gateway)
    receipts = []
    with Loop(gateway.url, TOKEN, outbox=tmp_path / "o") as loop:

        def work() -> None:
            receipts.extend(loop.accept(suggestion, 0) for _ in range(10))

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert loop.state().waiting == 0
    assert {r.status for r in receipts} == {Status.STORED}
    assert sorted(r.key for r in receipts) == sorted(gateway.stored)
    assert len(gateway.stored) == 60
    assert gateway.duplicates == []


def test_nothing_personal_and_no_token_is_logged(
    gateway: Gateway, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "loop.client")
    suggestion = shown(gateway)
    with Loop(gateway.url, TOKEN, outbox=tmp_path / "o", pace=FAST) as loop:
        gateway.away = Fault(status=503)
        loop.modify(suggestion, "a private text", 0, employee="kim.surname")
        gateway.away = Fault(status=422)
        loop.flush()
        assert loop.state().refused == 1
        assert TOKEN not in repr(vars(loop))
    assert [r.levelname for r in caplog.records if r.name == "loop.client"] == ["WARNING", "WARNING"]
    for secret in ("a private text", "kim.surname", TOKEN, suggestion.suggestion_id):
        assert secret not in "".join(r.getMessage() for r in caplog.records if r.name.startswith("loop"))


def test_it_imports_nothing_else_of_loop() -> None:
    script = "import sys, loop.client; print(sorted(m for m in sys.modules if m.split('.')[0] in ('loop', 'torch')))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    names = ["aio", "answers", "courier", "outbox", "sync", "trying", "wire"]
    assert done.stdout.strip() == str(["loop", "loop.client", *(f"loop.client.{name}" for name in names)])
