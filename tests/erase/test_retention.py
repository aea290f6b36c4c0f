"""What is older than a table keeps it goes with what it was made of, and nothing younger does."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import dagster as dg
import pytest

from jobs.schedules import retain_schedule
from loop.config import Settings, load
from loop.cycle import training_set
from loop.erase import retain
from loop.errors import BadInputError
from loop.home import Home
from loop.label import batches as labelling
from loop.schema import BatchStatus
from loop.train import dataset
from loop.validate import batches
from tests.rows import DAY, event, land, ordinary_day


def build(home: Home, number: int) -> None:
    when = DAY + timedelta(days=number)
    made = batches.build(home.settings, home.lake, home.state, when, "comms")
    told = {"day": when, "workflow": "comms", "digest": made.digest, "rows": made.rows, "quarantined": made.quarantined}
    home.state.record_batch(**told, status=BatchStatus.ACCEPTED, reasons=[], author="test", run_id=None)
    labelling.build(home.settings, home.lake, when, "comms")


@pytest.fixture
def full(home: Home) -> Home:
    """Three days of comms, one of their rows set aside on each."""
    home = replace(home, settings=home.settings.model_copy(update={"held_out_share": 0.0}))
    for n in range(3):
        good, bad = ordinary_day(20), ordinary_day(1)[0] | {"event_id": "bad"}
        when = DAY + timedelta(days=n)
        land(home, [*(event(row, when) for row in good), event(bad, when) | {"nonsense": 1}], f"{n}.jsonl")
        build(home, n)
    return home


def keeping(home: Home, **days: int) -> Home:
    return replace(home, settings=home.settings.model_copy(update={"retention_days": days}))


def days(home: Home, table: str) -> list[int]:
    return [(day - DAY).days for day, _ in home.lake.partitions(table)]


def test_partitions_that_are_too_old_go_from_lake_and_landing_area(full: Home) -> None:
    home = keeping(full, interactions=30, quarantine=31)
    assert retain(home, today=DAY + timedelta(days=32)) == {"interactions": 2, "quarantine": 1}
    assert (days(home, "interactions"), days(home, "quarantine")) == ([2], [1, 2])
    assert days(home, "demonstrations") == [0, 1, 2], "a table that is not named keeps all"
    landed = home.state.arrow("landings").to_pylist()
    assert sorted((row["kind"], (row["day"] - DAY).days) for row in landed) == [
        ("events", 2),
        ("rejects", 1),
        ("rejects", 2),
    ]
    files = list(home.settings.landing.rglob("*.parquet"))
    assert len(files) == 3
    assert home.state.arrow("event_index").num_rows == 20 + 2
    build(home, 0)
    assert days(home, "interactions") == [2], "nothing is left that it could be made of"


def test_nothing_is_dropped_where_nothing_is_set(full: Home) -> None:
    assert retain(full, today=DAY + timedelta(days=9_999)) == {}
    assert days(full, "interactions") == [0, 1, 2]


def test_the_same_again_drops_nothing(full: Home) -> None:
    home = keeping(full, interactions=30)
    assert retain(home, today=DAY + timedelta(days=31)) == {"interactions": 1}
    assert retain(home, today=DAY + timedelta(days=31)) == {}


def test_old_training_sets_lose_their_rows_and_keep_their_leaves(full: Home) -> None:
    digests = [training_set(full, DAY + timedelta(days=n)).digest for n in range(3)]
    home = keeping(full, training_sets=30)
    assert retain(home, today=DAY + timedelta(days=31)) == {"training_sets": 1}
    lost = [dataset.erased(home.settings.training_sets / digest) for digest in digests]
    assert lost[0][0] == lost[0][1] > 0
    assert [gone for gone, _ in lost[1:]] == [0, 0]
    assert [dataset.verify(home.settings.training_sets / digest) for digest in digests] == [[], [], []]


def test_the_setting_names_tables_and_reaches_other_processes(
    monkeypatch: pytest.MonkeyPatch, bare_settings: Settings
) -> None:
    with pytest.raises(BadInputError, match="interactions"):
        load(retention_days={"nonsense": 3})
    with pytest.raises(BadInputError, match="retention_days"):
        load(retention_days={"quarantine": 0})
    monkeypatch.setenv("LOOP_RETENTION_DAYS", '{"quarantine": 90}')
    settings = load()
    assert settings.retention_days == {"quarantine": 90}
    script = "from loop.config import load; print(load().retention_days)"
    told = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **settings.as_environment()}, capture_output=True, check=True
    )
    assert told.stdout.strip() == b"{'quarantine': 90}"


def test_the_schedule_runs_where_something_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    context = dg.build_schedule_context()
    assert isinstance(retain_schedule(context), dg.SkipReason)
    monkeypatch.setenv("LOOP_RETENTION_DAYS", '{"quarantine": 90}')
    assert isinstance(retain_schedule(context), dg.RunRequest)
