"""A result that comes long after its decision: it is the reward of its day, and nobody has to ask for that day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import msgspec
import pytest

from assets.partitions import batch_key
from jobs import schedules
from jobs.definitions import defs
from loop.collect import arrivals, files, outcomes
from loop.collect.outcomes import Outcome
from loop.collect.record import Record
from loop.collect.spool import Spool
from loop.erase import Kind, run
from loop.erase.subject import subject
from loop.home import Home
from loop.label import rewards
from loop.validate import batches, verdicts
from tests.rows import DAY, NOON, decision, event, land, ordinary_day

WEEK_LATER = NOON + timedelta(days=7)


def outcome(number: int, **other: Any) -> Outcome:
    """A reply within a day, told a week later, to the text of decision `number` (which accepts it)."""
    told: dict[str, Any] = {
        "outcome_id": f"o{number}",
        "suggestion_id": f"{DAY}-s{number}",
        "workflow": "comms",
        "day": DAY,
        "name": "reply",
        "value": 1.0,
        "observed_at": NOON + timedelta(days=1),
        "received_at": WEEK_LATER,
    }
    return Outcome(**(told | other))


def brought(home: Home, *given: Outcome) -> None:
    records = [Record(n, msgspec.json.encode(one), path="segment") for n, one in enumerate(given, 1)]
    outcomes.land(home.settings, home.state, records, source="gateway", name="test")


def asked(at: datetime) -> list[tuple[str, list[str]]]:
    """What the schedule asks for beside the day before it: partition, and which assets of it (none: all)."""
    context = dg.build_schedule_context(scheduled_execution_time=at)
    found = list(schedules.daily_data_schedule(context))  # type: ignore[call-overload]
    before = str((at - timedelta(days=1)).date())
    return [
        (request.partition_key, [key.to_user_string() for key in request.asset_selection or ()])
        for request in found
        if not request.partition_key.startswith(before)
    ]


def night(days_after: int) -> datetime:
    return datetime(DAY.year, DAY.month, DAY.day, 1, tzinfo=UTC) + timedelta(days=days_after)


def judged(home: Home) -> None:
    batches.build(home.settings, home.lake, home.state, DAY, "comms")
    verdicts.judge(home.settings, home.lake, home.state, DAY, "comms")


def made(home: Home) -> int:
    outcomes.build(home.settings, home.lake, home.state, DAY, "comms")
    return rewards.build(home.settings, home.lake, home.state, DAY, "comms").rewards


def test_a_result_of_last_week_is_a_reward_after_the_night(home: Home) -> None:
    key = str(batch_key(DAY, "comms"))
    land(home, (event(row) for row in ordinary_day(100)))
    with dg.DagsterInstance.ephemeral() as instance:
        job = defs.resolve_job_def("daily_data")
        assert job.execute_in_process(partition_key=key, instance=instance).success
        assert (asked(night(8)), home.lake.read("rewards").num_rows) == ([], 0)

        spool = Spool(home.settings.spool, segment_bytes=1 << 20, segment_seconds=60, limit_bytes=1 << 30)
        spool.append([msgspec.json.encode({"kind": "outcome", "outcome": outcome(n)}) for n in (0, 1)])
        spool.seal()
        spool.close()
        assert defs.resolve_job_def("drain").execute_in_process(instance=instance).success
        [(partition, names)] = asked(night(8))
        assert (partition, names) == (key, ["outcomes", "rewards"])

        late = job.execute_in_process(
            partition_key=partition, instance=instance, asset_selection=[dg.AssetKey(name) for name in names]
        )
        assert [e.asset_key.path[-1] for e in late.get_asset_materialization_events()] == names
        assert late.get_asset_check_evaluations() == []
    found = home.lake.read("rewards").to_pylist()
    assert {(row["outcome_id"], row["event_id"], row["day"]) for row in found} == {
        ("o0", f"{DAY}-e0", DAY),
        ("o1", f"{DAY}-e1", DAY),
    }
    assert [row["attempt"] for row in home.state.arrow("batches").to_pylist()] == [1], "the day was not judged anew"
    assert asked(night(8)) == asked(night(9)) == []


def test_what_has_more_decisions_too_is_made_anew_as_a_whole(home: Home) -> None:
    land(home, (event(row) for row in ordinary_day(50)))
    judged(home)
    brought(home, outcome(0))
    land(home, [event(decision(900, "reject"))], "late.jsonl")
    assert asked(night(8)) == [(f"{DAY}|comms", [])]


def test_a_day_that_nobody_may_learn_from_waits_for_the_person_who_lets_it_through(home: Home) -> None:
    blank = [{"position": i, "text": " ", "logprob": None} for i in range(2)]
    land(home, (event(decision(n, "accept", 0, " ", candidates=blank)) for n in range(40)))
    brought(home, outcome(0))
    assert arrivals.unrewarded(home.state) == [], "never judged"
    judged(home)
    assert arrivals.unrewarded(home.state) == [], "held"
    verdicts.release(home.state, DAY, "comms", reason="they were blank", author="lead")
    assert arrivals.unrewarded(home.state) == [(DAY, "comms")]


def test_what_lands_while_rewards_are_made_waits_for_the_next(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    land(home, (event(row) for row in ordinary_day(50)))
    judged(home)
    brought(home, outcome(0))
    outcomes.build(home.settings, home.lake, home.state, DAY, "comms")
    brought(home, outcome(1))  # after what the rewards are made of was written
    rewards.build(home.settings, home.lake, home.state, DAY, "comms")
    assert arrivals.unrewarded(home.state) == [(DAY, "comms")]
    assert made(home) == 2
    assert arrivals.unrewarded(home.state) == []

    brought(home, outcome(2))
    monkeypatch.setattr(arrivals, "mark_rewarded", lambda *_: 1 / 0)  # killed in between
    with pytest.raises(ZeroDivisionError):
        made(home)
    assert arrivals.unrewarded(home.state) == [(DAY, "comms")]


def test_what_has_waited_since_long_is_made_the_newest_first_some_a_night(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = [(DAY - timedelta(days=n), workflow) for n in range(20, 0, -1) for workflow in ("ads", "comms")]
    monkeypatch.setattr(arrivals, "unrewarded", lambda _: list(waiting))
    first = asked(night(8))
    newest = [str(batch_key(*key)) for key in reversed(waiting)]
    assert first == [(key, ["outcomes", "rewards"]) for key in newest[: schedules.LATE_RUNS]]
    del waiting[-schedules.LATE_RUNS :]  # they were made
    assert [key for key, _ in asked(night(9))] == newest[schedules.LATE_RUNS :]
    waiting.clear()
    assert asked(night(10)) == []


def test_merged_files_were_rewarded_if_all_of_them_were(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FILES", 1)
    land(home, (event(row) for row in ordinary_day(50)))
    judged(home)
    for number in (0, 1):
        brought(home, outcome(number))
        outcomes.build(home.settings, home.lake, home.state, DAY, "comms")
    rewards.build(home.settings, home.lake, home.state, DAY, "comms")
    brought(home, outcome(2))
    for _ in range(2):  # the second merges what is in the lake since the first, rewarded or not
        outcomes.build(home.settings, home.lake, home.state, DAY, "comms")
    [merged] = [row for row in home.state.arrow("landings").to_pylist() if row["kind"] == "outcomes"]
    assert (merged["rows"], merged["rewarded"]) == (3, False)
    assert made(home) == 3
    assert arrivals.unrewarded(home.state) == []


def test_an_erasure_asks_for_nothing_anew(home: Home) -> None:
    land(home, (event(row) for row in ordinary_day(50)))
    judged(home)
    brought(home, outcome(0), outcome(1))
    assert made(home) == 2
    gone = subject(home.settings, Kind.INTERACTION, f"{DAY}-s0")
    assert run.erase(home, gone, reason="request 18", author="dpo").removed["landing/outcomes"] == 1
    assert home.lake.read("rewards")["outcome_id"].to_pylist() == ["o1"]
    assert arrivals.unrewarded(home.state) == []

    brought(home, outcome(2))
    alone = subject(home.settings, Kind.INTERACTION, f"{DAY}-s2")
    run.erase(home, alone, reason="request 19", author="dpo")
    assert arrivals.unrewarded(home.state) == [], "nothing is left of it that could be rewarded"
