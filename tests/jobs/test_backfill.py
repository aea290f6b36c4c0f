"""A backfill with a broken day, both sensors and a schedule: real `loop up`, real daemon, a process for each run.

All share one `loop up`; what a test needs of another is a fixture, so that any of them may run alone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from loop import services
from loop.collect import outcomes
from loop.collect.record import Record
from loop.config import Settings
from loop.errors import LoopError
from loop.gateway import access
from loop.home import open_home
from loop.schema import WORKFLOWS, BatchStatus
from loop.services import processes, tools
from tests.rows import DAY, decision, event, land, ordinary_day

pytestmark = pytest.mark.slow
DAYS = [DAY + timedelta(days=n) for n in range(3)]
ASSETS = ("interactions", "quarantine", "demonstrations", "preferences", "unpaired", "edits")
SMALL = {"NEW_PREFERENCES": "50", "BASE_STEPS": "4", "SFT_STEPS": "3", "DPO_STEPS": "2"}
PATIENCE = 300.0

TICK = """
import logging, sys
from datetime import datetime
import dagster._daemon  # first: it and its scheduler import each other
from dagster import DagsterInstance
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._scheduler.scheduler import launch_scheduled_runs
until = datetime.fromisoformat(sys.argv[2])
with DagsterInstance.get() as instance:
    with WorkspaceProcessContext(instance, WorkspaceFileTarget([sys.argv[1]])) as workspace:
        for failed in launch_scheduled_runs(workspace, logging.getLogger(), until, {}):
            assert failed is None, failed
"""
"""One round of the scheduler of dagster-daemon, which believes that it is a later time."""


@dataclass(frozen=True)
class Up:
    """A home that lives, and the port of its webserver."""

    settings: Settings
    port: int

    def ask(self, query: str) -> Any:
        """The one field that the query asks for."""
        [answer] = tools.graphql(self.port, query).values()
        return answer

    def turn_on(self, kind: str, name: str, result: str) -> None:
        """`kind` is sensor or schedule, `result` the type of the answer."""
        selector = f'repositoryLocationName: "loop", repositoryName: "__repository__", {kind}Name: "{name}"'
        answer = self.ask(
            f"mutation {{start{kind.title()}({kind}Selector: {{{selector}}}) {{__typename "
            f"... on {result} {{{kind}State {{status}}}} ... on PythonError {{message}}}}}}"
        )
        assert answer == {"__typename": result, f"{kind}State": {"status": "RUNNING"}}

    def runs(self, tag: str, value: str) -> dict[str, str]:
        """Status by partition of the runs with a tag."""
        query = f'tags: [{{key: "dagster/{tag}", value: "{value}"}}]'
        found = self.ask(
            f"{{runsOrError(filter: {{{query}}}) {{... on Runs {{results {{status tags {{key value}}}}}}}}}}"
        )
        return {
            {tag["key"]: tag["value"] for tag in run["tags"]}["dagster/partition"]: run["status"]
            for run in found["results"]
        }


def wait_for(what: Callable[[], Any], done: Callable[[Any], bool]) -> Any:
    """What it came to, or what there was when patience ended."""
    until = time.monotonic() + PATIENCE
    while not done(found := what()) and time.monotonic() < until:
        time.sleep(0.5)
    return found


def ended(runs: dict[str, str]) -> bool:
    return bool(runs) and set(runs.values()) <= {"SUCCESS", "FAILURE", "CANCELED"}


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A home that lives, with three days landed of which the middle one is broken; all training is tiny."""
    settings = Settings(home=tmp_path_factory.mktemp("up") / "home")
    blank = [{"position": i, "text": " ", "logprob": None} for i in range(2)]
    broken = [decision(n, "reject", candidates=blank) for n in range(100, 130)]
    with open_home(settings) as home:
        for day in DAYS:
            rows = ordinary_day(60) + (broken if day == DAYS[1] else [])
            land(home, (event(row, day) for row in rows), f"{day}.jsonl")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LOOP_", "DAGSTER_", "MLFLOW_"))}
    small = {f"LOOP_{name}": value for name, value in SMALL.items()} | {"LOOP_HOME": str(settings.home)}
    program = Path(sys.executable).with_name("loop")
    process = subprocess.Popen([program, "up"], env=environment | small, stdout=subprocess.DEVNULL)
    try:
        yield Up(settings, wait_for(lambda: _port(settings, process), bool))
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        services.down(settings)


def _port(settings: Settings, process: subprocess.Popen[bytes]) -> int | None:
    """Of the webserver, once it has loaded the definitions."""
    assert process.poll() is None, "`loop up` ended by itself"
    server = processes.read(settings).processes.get("webserver")
    port = urlsplit(server.address).port if server and server.address else None
    try:
        return port if port and not tools.load_errors(port) else None
    except LoopError:
        return None


@pytest.fixture(scope="module")
def backfilled(up: Up) -> tuple[str, str]:
    """The status in which a backfill of all three days ended, and its id."""
    assets = ", ".join(f'{{path: ["{name}"]}}' for name in ASSETS)
    keys = json.dumps([f"{day}|comms" for day in DAYS])
    answer = up.ask(
        "mutation {launchPartitionBackfill(backfillParams: "
        f"{{assetSelection: [{assets}], partitionNames: {keys}}}) "
        "{__typename ... on LaunchBackfillSuccess {backfillId} ... on PythonError {message}}}",
    )
    assert answer["__typename"] == "LaunchBackfillSuccess", answer
    backfill = f'backfillId: "{answer["backfillId"]}"'
    query = f"{{partitionBackfillOrError({backfill}) {{... on PartitionBackfill {{status}}}}}}"
    status = wait_for(lambda: up.ask(query)["status"], lambda status: status not in {"REQUESTED", "FAILING"})
    return str(status), str(answer["backfillId"])


@pytest.fixture(scope="module")
def learned(up: Up, backfilled: tuple[str, str]) -> dict[str, str]:
    """Runs that `enough_preferences` started, turned on after the backfill."""
    assert backfilled
    up.turn_on("sensor", "enough_preferences", "Sensor")
    return dict(wait_for(lambda: up.runs("sensor_name", "enough_preferences"), ended))


def test_a_broken_day_is_halted_while_the_days_around_it_finish(up: Up, backfilled: tuple[str, str]) -> None:
    status, backfill_id = backfilled
    assert status == "COMPLETED_FAILED"
    with open_home(up.settings) as home:
        verdicts = {row["day"]: row["status"] for row in home.state.batches(DAYS[0], DAYS[-1])}
        assert verdicts == {
            DAYS[0]: BatchStatus.ACCEPTED,
            DAYS[1]: BatchStatus.HELD,
            DAYS[2]: BatchStatus.ACCEPTED,
        }
        assert {day for day, _ in home.lake.partitions("demonstrations")} == {DAYS[0], DAYS[2]}
        assert home.lake.read("interactions", days=(DAYS[1], DAYS[1])).num_rows == 90
    assert up.runs("backfill", backfill_id) == {
        f"{day}|comms": "FAILURE" if day == DAYS[1] else "SUCCESS" for day in DAYS
    }


def test_enough_preferences_start_a_cycle(up: Up, learned: dict[str, str]) -> None:
    assert learned == {DAYS[-1].isoformat(): "SUCCESS"}
    with open_home(up.settings) as home:
        [frozen] = home.state.arrow("training_sets").to_pylist()
        assert frozen["cycle"] == DAYS[-1]
        assert frozen["preferences"] >= int(SMALL["NEW_PREFERENCES"])


def test_a_cycle_without_a_panel_is_decided(up: Up, learned: dict[str, str]) -> None:
    assert learned
    up.turn_on("sensor", "panel_answered", "Sensor")
    assert wait_for(lambda: up.runs("sensor_name", "panel_answered"), ended) == {DAYS[-1].isoformat(): "SUCCESS"}
    with open_home(up.settings) as home:
        [decided] = [r for r in home.state.arrow("releases").to_pylist() if r["decision"] != "base"]
    assert (decided["cycle"], decided["decision"]) == (DAYS[-1], "refused")
    assert decided["reasons"][0] == "no panel evidence"


def test_a_schedule_that_is_on_asks_for_yesterday_and_for_what_came_late(up: Up, backfilled: tuple[str, str]) -> None:
    assert backfilled
    with open_home(up.settings) as home:
        land(home, [event(decision(900, "reject"))], "late.jsonl")
        result: dict[str, Any] = {
            "outcome_id": "o1",
            "suggestion_id": f"{DAYS[2]}-s0",
            "workflow": "comms",
            "day": str(DAYS[2]),
        }
        result |= {"name": "reply", "value": 1.0, "observed_at": f"{DAYS[2]}T13:00:00Z"}
        told = Record(1, json.dumps(result | {"received_at": f"{DAYS[2]}T14:00:00Z"}).encode())
        assert outcomes.land(home.settings, home.state, [told], source="gateway", name="late").accepted == 1
    up.turn_on("schedule", "daily_data_schedule", "ScheduleStateResult")
    today = datetime.now(UTC).date()
    tomorrow_at_one = f"{today + timedelta(days=1)}T01:00:01+00:00"
    workspace = tools.repository_file("workspace.yaml")
    environment = os.environ | services.env(up.settings)
    subprocess.run([sys.executable, "-c", TICK, workspace, tomorrow_at_one], env=environment, check=True)
    asked = wait_for(lambda: up.runs("schedule_name", "daily_data_schedule"), ended)
    late = [f"{DAY}|comms", f"{DAYS[2]}|comms"]
    assert asked == dict.fromkeys([*late, *(f"{today}|{name}" for name in WORKFLOWS)], "SUCCESS")
    with open_home(up.settings) as home:
        assert home.lake.read("interactions", days=(DAY, DAY)).num_rows == 61
        assert home.lake.read("rewards")["event_id"].to_pylist() == [f"{DAYS[2]}-e0"]
        verdicts = [row["day"] for row in home.state.arrow("batches").to_pylist() if row["workflow"] == "comms"]
        assert verdicts.count(DAYS[2]) == 1, "only its rewards were made anew"


def test_what_the_gateway_acknowledged_is_moved_by_the_sensor(up: Up) -> None:
    with open_home(up.settings) as home:
        token = access.create(
            home.state,
            tool="test",
            workflows=["ads"],
            scopes=["feedback"],
            purposes=[],
            per_minute=100,
            author="test",
        )
    told = event(decision(901, "reject", workflow="ads"))
    del told["received_at"]
    gateway = processes.read(up.settings).processes["gateway"].address
    headers = {"authorization": f"Bearer {token}"}
    reply = wait_for(  # the gateway reads new tokens every two seconds
        lambda: httpx.post(f"{gateway}/v1/feedback", json=told, headers=headers), lambda answer: answer.is_success
    )
    assert reply.json()["status"] == "stored"
    up.turn_on("sensor", "spooled", "Sensor")
    with open_home(up.settings) as home:
        rows = wait_for(lambda: home.lake.read("interactions", workflows=["ads"]).to_pylist(), bool)
    assert [row["event_id"] for row in rows] == [told["event_id"]]
    key = 'assetOrError(assetKey: {path: ["landing"]}) {... on Asset {assetMaterializations(limit: 1) {runId}}}'
    assert wait_for(lambda: up.ask(f"{{{key}}}")["assetMaterializations"], bool)
