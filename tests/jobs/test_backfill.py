"""A backfill as a person starts it in the UI: real `loop up`, real daemon, a process for each run, one broken day."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from loop.config import Settings
from loop.home import open_home
from loop.schema import BatchStatus
from loop.services import down, processes, tools
from tests.rows import DAY, decision, event, land, ordinary_day

pytestmark = pytest.mark.slow
DAYS = [DAY + timedelta(days=n) for n in range(3)]
ASSETS = ("interactions", "quarantine", "demonstrations", "preferences")


@pytest.fixture
def port(bare_settings: Settings) -> Iterator[int]:
    """The port of the webserver of a home that lives, with three days landed of which the middle one is broken."""
    blank = [{"position": i, "text": " ", "logprob": None} for i in range(2)]
    broken = [decision(n, "reject", candidates=blank) for n in range(100, 130)]
    with open_home(bare_settings) as home:
        for day in DAYS:
            rows = ordinary_day(60) + (broken if day == DAYS[1] else [])
            land(home, (event(row, day) for row in rows), f"{day}.jsonl")
    loop = Path(sys.executable).with_name("loop")
    environment = {**os.environ, "LOOP_HOME": str(bare_settings.home)}
    up = subprocess.Popen([loop, "up"], env=environment, stdout=subprocess.DEVNULL)
    try:
        yield _port(bare_settings, up)
    finally:
        up.send_signal(signal.SIGINT)
        up.wait(60)
        down(bare_settings)


def _port(settings: Settings, up: subprocess.Popen[bytes]) -> int:
    for _ in range(240):
        assert up.poll() is None, "`loop up` ended by itself"
        server = processes.read(settings).processes.get("webserver")
        if server and server.address and (found := urlsplit(server.address).port):
            try:
                if not tools.load_errors(found):
                    return found
            except tools.LoopError:
                pass
        time.sleep(1)
    raise AssertionError("the webserver did not come")


def backfill(port: int) -> str:
    assets = ", ".join(f'{{path: ["{name}"]}}' for name in ASSETS)
    keys = json.dumps([f"{day}|comms" for day in DAYS])
    answer = tools.graphql(
        port,
        "mutation {launchPartitionBackfill(backfillParams: "
        f"{{assetSelection: [{assets}], partitionNames: {keys}}}) "
        "{__typename ... on LaunchBackfillSuccess {backfillId} ... on PythonError {message}}}",
    )
    assert answer["launchPartitionBackfill"]["__typename"] == "LaunchBackfillSuccess", answer
    return str(answer["launchPartitionBackfill"]["backfillId"])


def await_end(port: int, backfill_id: str) -> str:
    query = f'{{partitionBackfillOrError(backfillId: "{backfill_id}") {{... on PartitionBackfill {{status}}}}}}'
    for _ in range(300):
        status = str(tools.graphql(port, query)["partitionBackfillOrError"]["status"])
        if status not in {"REQUESTED", "FAILING"}:
            return status
        time.sleep(1)
    return status


def test_a_broken_day_is_halted_while_the_days_around_it_finish(bare_settings: Settings, port: int) -> None:
    assert await_end(port, backfill(port)) == "COMPLETED_FAILED"
    with open_home(bare_settings) as home:
        verdicts = {row["day"]: row["status"] for row in home.state.batches(DAYS[0], DAYS[-1])}
        assert verdicts == {
            DAYS[0]: BatchStatus.ACCEPTED,
            DAYS[1]: BatchStatus.HELD,
            DAYS[2]: BatchStatus.ACCEPTED,
        }
        assert {day for day, _ in home.lake.partitions("demonstrations")} == {DAYS[0], DAYS[2]}
        assert home.lake.read("interactions", days=(DAYS[1], DAYS[1])).num_rows == 90
    runs = tools.graphql(port, "{runsOrError {... on Runs {results {status tags {key value}}}}}")["runsOrError"]
    ended = {
        tag["value"]: run["status"]
        for run in runs["results"]
        for tag in run["tags"]
        if tag["key"] == "dagster/partition"
    }
    assert ended == {f"{day}|comms": "FAILURE" if day == DAYS[1] else "SUCCESS" for day in DAYS}
