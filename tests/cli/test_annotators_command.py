"""`loop annotators`, `loop gold`, `loop appeals` as a person and a program meet them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from loop import schema
from loop.home import Home
from loop.label import gold, tasks
from loop.label.annotations import Annotation, record
from loop.label.tasks import Kind, Origin
from loop.lake import from_rows

Command = Callable[..., tuple[int, str, str]]


def answered(loop: Command, *arguments: str) -> Any:
    code, out, err = loop(*arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def refused(loop: Command, *arguments: str) -> str:
    code, out, _ = loop(*arguments, "--json")
    assert code == 2, out
    return str(json.loads(out)["error"])


def test_people_join_are_listed_and_leave(loop: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOP_PAY_FLOOR_PER_HOUR", "12")
    add = ("annotators", "add", "ann@example.org", "--workflow", "ads", "--kind", "rating", "--daily-minutes", "60")
    assert "at least the floor of 12 USD" in refused(loop, *add, "--pay-per-hour", "11.5")
    made = answered(loop, *add, "--pay-per-hour", "14")
    assert made["token"].startswith(f"loop_{made['token_id']}_")
    assert (made["kinds"], made["daily_minutes"], made["harmful"]) == (["rating"], 60, False)
    code, out, err = loop("annotators", "add", "ben", "--workflow", "comms")
    assert code == 0, err
    assert out.startswith("loop_")
    listed = answered(loop, "annotators", "list")["annotators"]
    assert [one["annotator"] for one in listed] == sorted(one["annotator"] for one in listed)
    assert made["token"].split("_")[2] not in json.dumps(listed)
    fresh = answered(loop, "annotators", "token", "ben")["token"]
    assert fresh != out.strip()
    assert answered(loop, "annotators", "remove", fresh)["removed_at"]
    assert "expected the id of a person" in refused(loop, "annotators", "remove", "carl")
    assert loop("annotators", "list")[0] == 0


def test_known_answers_and_appeals_have_a_history(loop: Command, home: Home) -> None:
    asked = {"day": date(2026, 1, 5), "workflow": "ads", "kind": Kind.RATING, "origin": Origin.IMPORT}
    row = tasks.task(**asked, reason="gold", texts=["t"], options=["bad", "good"])
    tasks.add(home.lake, home.state, [row])
    key = row["label_task_id"]
    assert "expected one of bad, good" in refused(loop, "gold", "set", key, "fine", "--reason", "x")
    assert "expected the id of one task" in refused(loop, "gold", "set", "zz", "good", "--reason", "x")
    assert answered(loop, "gold", "set", key[:8], "good", "--reason", "two experts")["version"] == 1
    who = answered(loop, "annotators", "add", "ann", "--workflow", "ads")["annotator"]
    said = Annotation(key, who, datetime.now(UTC), "page", label="bad", seconds=30.0)
    record(home.state, from_rows([row], schema.LABEL_TASKS), [said])
    appeal = gold.contest(home.state, key, who, "it is unreadable")
    assert [a["argument"] for a in answered(loop, "appeals", "list")["appeals"]] == ["it is unreadable"]
    decide = ("appeals", "decide", appeal, "--answer", "You are right.", "--uphold")
    assert "expected one of bad, good" in refused(loop, *decide, "--label", "fine")
    assert answered(loop, *decide, "--label", "bad")["verdict"] == "upheld"
    assert answered(loop, "appeals", "list")["appeals"] == []
    assert len(answered(loop, "appeals", "list", "--all")["appeals"]) == 1
    told = answered(loop, "gold", "history", key)["history"]
    assert [(one["version"], one["label"]) for one in told] == [(1, "good"), (2, "bad")]
    assert answered(loop, "gold", "withdraw", key, "--reason", "nobody can tell")["label"] is None
    assert answered(loop, "gold", "list")["gold"] == []
    assert "an open appeal" in refused(loop, "appeals", "decide", "none", "--answer", "x", "--dismiss")
    for shown in (("gold", "list"), ("gold", "history", key), ("appeals", "list", "--all")):
        assert loop(*shown)[0] == 0


def test_what_is_told_of_people_is_in_no_order_of_merit_and_has_intervals(
    loop: Command, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOP_PAY_FLOOR_PER_HOUR", "12")
    asked = {"day": date(2026, 1, 5), "workflow": "ads", "kind": Kind.RATING, "origin": Origin.IMPORT}
    rows = [tasks.task(**asked, reason="gold", texts=[f"t{n}"], options=["bad", "good"]) for n in range(10)]
    tasks.add(home.lake, home.state, rows)
    for row in rows:
        gold.put(home.state, row, label="good", reason="experts", author="lead")
    now = datetime.now(UTC) + timedelta(seconds=5)
    for person, count in (("ann", 10), ("ben", 9)):
        who = answered(loop, "annotators", "add", person, "--workflow", "ads", "--pay-per-hour", "18")["annotator"]
        said = [Annotation(r["label_task_id"], who, now, "page", label="good", seconds=60.0) for r in rows[:count]]
        record(home.state, from_rows(rows, schema.LABEL_TASKS), said)
    told = answered(loop, "annotators", "stats")
    by_name = {one["annotator"]: one for one in told["annotators"]}
    assert list(by_name) == sorted(by_name)
    full, few = sorted(by_name.values(), key=lambda one: -one["answers"])
    assert (full["known"], full["met"], full["earned"], full["below_floor"]) == (10, 1.0, 3.0, False)
    assert full["met_high"] == pytest.approx(1.0)
    assert full["met_low"] == pytest.approx(0.722, abs=0.001), "Wilson's interval of ten of ten"
    assert (few["known"], few["met"], few["met_low"]) == (None, None, None)
    assert told["together"] == {"people": 2, "skipped": None, "seconds": None}
    assert {"kind", "characters", "seconds", "mean", "low", "high", "answers", "floor"} == set(told["tasks"][0])
    code, out, _ = loop("annotators", "stats")
    assert code == 0
    assert "fewer" in out
    assert "is not told: expected at least ten" in " ".join(out.split())
