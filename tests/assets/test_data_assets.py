"""A day of one workflow through the real assets and their check, on a real lake and a real database."""

from __future__ import annotations

from datetime import date, timedelta

import dagster as dg
import pytest

from assets.partitions import batch_key
from jobs.definitions import defs
from loop import cycle
from loop.errors import BadInputError
from loop.home import Home
from loop.schema import BatchStatus
from loop.validate import verdicts
from tests.rows import NOON, decision, event, land, ordinary_day

DAY = NOON.date()
BLANK = [{"position": i, "text": " ", "logprob": None} for i in range(2)]


@pytest.fixture(scope="module")
def job() -> dg.JobDefinition:
    return defs.resolve_job_def("daily_data")


def run(job: dg.JobDefinition, day: date = DAY, workflow: str = "comms") -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        return job.execute_in_process(
            partition_key=str(batch_key(day, workflow)), instance=instance, raise_on_error=False
        )


def materialized(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, object]]:
    events = result.get_asset_materialization_events()
    return {
        e.asset_key.path[-1]: {k: v.value for k, v in e.materialization.metadata.items()}  # type: ignore[union-attr]
        for e in events
    }


def test_a_day_goes_from_landing_to_labels(home: Home, job: dg.JobDefinition) -> None:
    land(home, (event(row) for row in ordinary_day(100)))
    result = run(job)
    assert result.success
    told = materialized(result)
    assert {name: m["dagster/row_count"] for name, m in told.items() if name not in {"signals", "conduct"}} == {
        "interactions": 100,
        "quarantine": 0,
        "demonstrations": 70,
        "preferences": 70 * 2 + 20,
        "unpaired": 50 + 20 * 3,
        "edits": 20,
        "outcomes": 0,
        "label_tasks": 50,
        "rewards": 0,
    }
    assert (told["demonstrations"]["taught"], told["demonstrations"]["set aside/ignored"]) == (90, 10)
    [batch] = home.state.batches(DAY, DAY)
    assert (batch["status"], batch["rows"], batch["run_id"]) == (BatchStatus.ACCEPTED, 100, result.run_id)
    for table in ("demonstrations", "preferences", "unpaired", "edits"):
        assert home.lake.read(table)["batch"].unique().to_pylist() == [batch["digest"]]


def test_a_broken_day_is_halted_and_stays_readable(home: Home, job: dg.JobDefinition) -> None:
    blank = [decision(n, "reject", candidates=BLANK) for n in range(100, 120)]
    land(home, (event(row) for row in [*ordinary_day(80), *blank]))
    result = run(job)
    assert not result.success
    assert set(materialized(result)) == {"interactions", "quarantine"}
    [evaluation] = result.get_asset_check_evaluations()
    assert not evaluation.passed
    assert "empty candidates" in str(evaluation.metadata["suite"].value)
    [batch] = home.state.batches(DAY, DAY)
    assert batch["status"] == BatchStatus.HELD
    assert batch["reasons"] == ["empty candidates: at most 5 in 100 rows: 0.4"]
    assert home.lake.read("interactions").num_rows == 100
    assert home.lake.read("demonstrations").num_rows == 0


def test_rows_that_break_the_contract_are_set_aside_and_the_day_goes_on(home: Home, job: dg.JobDefinition) -> None:
    broken = [event(decision(n, "accept", 7, "first")) for n in (500, 501)]
    done = land(home, [*(event(row) for row in ordinary_day(50)), *broken])
    assert (done.read, done.accepted, done.quarantined) == (52, 50, 2)
    assert run(job).success
    [batch] = home.state.batches(DAY, DAY)
    assert (batch["rows"], batch["quarantined"]) == (50, 2)
    assert sorted(home.lake.read("quarantine")["event_id"].to_pylist()) == [e["event_id"] for e in broken]


def test_an_empty_partition_is_a_batch_of_nothing(home: Home, job: dg.JobDefinition) -> None:
    assert run(job).success
    [batch] = home.state.batches(DAY, DAY)
    assert (batch["status"], batch["rows"]) == (BatchStatus.ACCEPTED, 0)


def test_the_same_events_make_the_same_batch(home: Home, job: dg.JobDefinition) -> None:
    land(home, (event(row) for row in ordinary_day(30)))
    for _ in range(2):
        assert run(job).success
    rows = home.state.arrow("batches").to_pylist()
    assert [row["attempt"] for row in rows] == [1, 2]
    assert rows[0]["digest"] == rows[1]["digest"]


def test_a_good_day_that_later_fails_withdraws_its_labels(home: Home, job: dg.JobDefinition) -> None:
    land(home, (event(row) for row in ordinary_day(60)))
    land(home, (event(row, DAY + timedelta(days=1)) for row in ordinary_day(60)), "second.jsonl")
    assert run(job).success
    assert run(job, DAY + timedelta(days=1)).success
    before = cycle.training_set(home, DAY + timedelta(days=1))
    assert before.demonstrations > 0

    land(home, (event(decision(n, "reject", candidates=BLANK)) for n in range(1000, 1030)), "late.jsonl")
    assert not run(job).success
    after = cycle.training_set(home, DAY + timedelta(days=1))
    assert (after.attempt, after.digest == before.digest) == (2, False)
    days = set(cycle.learning.dataset.load(home.settings.training_sets, after.digest).demonstrations["day"].to_pylist())
    assert days == {DAY + timedelta(days=1)}
    assert after.demonstrations == before.demonstrations // 2


def test_a_batch_that_a_person_let_through_stays_through_while_it_is_the_same(
    home: Home, job: dg.JobDefinition
) -> None:
    land(home, (event(decision(n, "reject", candidates=BLANK)) for n in range(40)))
    assert not run(job).success
    [held] = home.state.batches(DAY, DAY)
    told = verdicts.release(home.state, DAY, "comms", reason="the tool was on fire, this is real", author="lead")
    assert (told["status"], told["digest"], told["attempt"]) == (BatchStatus.OVERRIDDEN, held["digest"], 2)
    for attempt in (3, 4):
        assert run(job).success
        [batch] = home.state.batches(DAY, DAY)
        assert (batch["status"], batch["author"], batch["attempt"]) == (BatchStatus.OVERRIDDEN, "lead", attempt)
        assert batch["reasons"] == ["the tool was on fire, this is real"]
    with pytest.raises(BadInputError, match="expected a held batch, it is overridden"):
        verdicts.release(home.state, DAY, "comms", reason="again", author="lead")
    land(home, [event(decision(999, "reject", candidates=BLANK))], "more.jsonl")
    assert not run(job).success  # another content: judged anew
