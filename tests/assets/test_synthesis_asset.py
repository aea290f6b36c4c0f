"""Synthesis as whoever works in the graph meets it, with a real server that writes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from assets.partitions import batch_key
from jobs import schedules
from jobs.definitions import defs
from loop.home import Home
from loop.label import batches as labels
from loop.schema import BatchStatus
from tests.gateway.generators import serving
from tests.label.synthesize.test_synthesize import WORKFLOW, Server, live, right
from tests.rows import DAY, NOON, interactions, ordinary_day


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    told = Server(right)
    with serving(told.app()) as address:
        monkeypatch.setenv("LOOP_SYNTHESIS_URL", f"{address}/v1")
        monkeypatch.setenv("LOOP_SECRET_SYNTHESIS", "sk-secret")
        yield told


def run(config: dict[str, Any] | None = None, *, day: datetime = NOON) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        return defs.resolve_job_def("synthesize").execute_in_process(
            partition_key=str(batch_key(day.date(), WORKFLOW)),
            run_config={"ops": {"write_answers": {"config": config or {}}}},
            instance=instance,
            raise_on_error=False,
        )


def told(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    return {
        str(event.asset_key and event.asset_key.path[-1]): {
            name: value.value for name, value in event.materialization.metadata.items()
        }
        for event in result.get_asset_materialization_events()
    }


def test_a_run_in_the_graph_writes_what_the_command_would(
    home: Home, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOP_SECRET_PSEUDONYM", "5e" * 32)
    live(home)
    later = NOON + timedelta(days=3)  # the window reaches back to the day with data
    result = run({"answers": 2}, day=later)
    assert result.success
    assert set(server.keys) == {"Bearer sk-secret"}
    made = told(result)
    rows = home.lake.read("synthetic").to_pylist()
    assert {row["day"] for row in rows} == {DAY}
    kept = [row for row in rows if row["status"] == "kept"]
    synthetic = made["synthetic"]
    assert synthetic.pop("run") == rows[0]["run"]
    assert synthetic == {
        "dagster/row_count": len(rows),
        "model version": f"endpoint:{WORKFLOW}",
        "parents": len(kept),
        "answered": 0,
        "written": 2 * len(kept),
        "kept": len(kept),
        "dropped": len(kept),
        "gone": 0,
        "thin/team=team 2": 0,
        "dropped/written twice": len(kept),
    }
    [noted] = home.lake.read("ablations").to_pylist()
    assert noted["day"] == datetime.now(UTC).date()
    names = ("run", "real_rows", "held_out_rows", "people", "score_without", "score_with", "gain", "low", "high")
    ablations = made["ablations"]
    assert {name: noted[name] for name in (*names, "helps", "proxy")} | {"dagster/row_count": 1} == ablations
    assert ablations["helps"]

    again = told(run({"answers": 2}, day=later))
    assert (again["synthetic"]["answered"], again["synthetic"]["written"]) == (len(kept), 0)
    assert again["ablations"] == {"dagster/row_count": 0, "run": again["synthetic"]["run"]}, "not measured is not 0"
    assert home.lake.read("synthetic").num_rows == len(rows)


@pytest.mark.parametrize(
    ("config", "why"),
    [({"by": "employee"}, "expected one of team, region, task_id, got 'employee'"), ({"most": 0}, "greater than or")],
)
def test_what_cannot_be_asked_for_is_told(home: Home, server: Server, config: dict[str, Any], why: str) -> None:
    result = run(config)
    assert not result.success
    [failed] = [event for event in result.all_events if event.is_step_failure]
    assert why in str(failed.event_specific_data)
    assert told(result) == {}


def test_without_a_model_the_run_fails_and_says_what_to_do(home: Home) -> None:
    result = run()
    [failed] = [event for event in result.all_events if event.is_step_failure]
    assert "`loop cycle` makes the first champion, or set synthesis_url" in str(failed.event_specific_data)


def test_a_server_that_refuses_fails_the_run_and_leaves_nothing(home: Home, server: Server) -> None:
    server.status = 503
    live(home)
    result = run()
    [failed] = [event for event in result.all_events if event.is_step_failure]
    assert "cannot write answers now (status 503)" in str(failed.event_specific_data)
    assert "sk-secret" not in str(result.all_events)
    assert home.lake.read("synthetic").num_rows == 0


def test_the_schedule_asks_for_each_workflow_in_which_something_was_labelled(home: Home) -> None:
    def asked(days_after: int) -> list[Any]:
        at = datetime(DAY.year, DAY.month, DAY.day, 3, tzinfo=UTC) + timedelta(days=days_after)
        context = dg.build_schedule_context(scheduled_execution_time=at)
        return list(schedules.synthesize_schedule(context))  # type: ignore[arg-type]

    assert [type(one) for one in asked(6)] == [dg.SkipReason]
    home.lake.overwrite("interactions", interactions(*ordinary_day(20)), day=DAY, workflow=WORKFLOW)
    home.state.record_batch(
        day=DAY, workflow=WORKFLOW, digest="b", status=BatchStatus.ACCEPTED, rows=20, quarantined=0, reasons=[],
        author="a", run_id=None,
    )  # fmt: skip
    labels.build(home.settings, home.lake, home.state, DAY, WORKFLOW)
    assert [one.partition_key for one in asked(6)] == [f"{DAY + timedelta(days=5)}|{WORKFLOW}"]
    assert [type(one) for one in asked(home.settings.window_days + 1)] == [dg.SkipReason]
