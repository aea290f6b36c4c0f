"""What is older than a table keeps it goes with what it was made of, and nothing younger does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from jobs.schedules import retain_schedule
from loop.collect.events import pseudonyms
from loop.config import Settings, load
from loop.cycle import policy, training_set
from loop.erase import Kind, retain, run
from loop.erase.subject import subject
from loop.errors import BadInputError, LoopError
from loop.home import Home
from loop.label import batches as labelling
from loop.release import taints
from loop.schema import BatchStatus
from loop.train import dataset
from loop.validate import batches, signal_days
from tests.rows import DAY, decision, event, land, ordinary_day


def build(home: Home, number: int) -> None:
    when = DAY + timedelta(days=number)
    made = batches.build(home.settings, home.lake, home.state, when, "comms")
    told = {"day": when, "workflow": "comms", "digest": made.digest, "rows": made.rows, "quarantined": made.quarantined}
    home.state.record_batch(**told, status=BatchStatus.ACCEPTED, reasons=[], author="test", run_id=None)
    labelling.build(home.settings, home.lake, home.state, when, "comms")


@pytest.fixture
def full(home: Home) -> Home:
    """Three days of comms, one of their rows set aside on each."""
    home = replace(home, settings=home.settings.model_copy(update={"held_out_share": 0.0, "base_steps": 4}))
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


def test_killed_before_a_file_is_removed_whoever_brings_next_removes_it(full: Home) -> None:
    script = """
import os, signal, pathlib, sys
from loop.config import load
from loop.erase import retain
from loop.home import open_home
from datetime import date
real = pathlib.Path.unlink
def killed(path, **more):
    if path.suffix == ".parquet":
        os.kill(os.getpid(), signal.SIGKILL)
    real(path, **more)
pathlib.Path.unlink = killed
with open_home(load()) as home:
    retain(home, today=date.fromisoformat(sys.argv[1]))
"""
    settings = keeping(full, interactions=30).settings
    command = [sys.executable, "-c", script, (DAY + timedelta(days=31)).isoformat()]
    done = subprocess.run(command, env={**os.environ, **settings.as_environment()}, check=False)
    assert done.returncode == -signal.SIGKILL
    visible = {row["path"] for row in full.state.arrow("landings").to_pylist()}
    files = {str(path.relative_to(settings.home)) for path in settings.landing.rglob("*.parquet")}
    assert len(files - visible) == 1, "out of sight, and still there"
    land(full, [event(decision(990, "reject"), DAY + timedelta(days=2))], "another.jsonl")
    visible = {row["path"] for row in full.state.arrow("landings").to_pylist()}
    assert {str(path.relative_to(settings.home)) for path in settings.landing.rglob("*.parquet")} == visible


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
    paths = [home.settings.training_sets / digest for digest in digests]
    assert [dataset.erased(path)[0] for path in paths] == [0, 0, 0]
    assert [dataset.expired(path) for path in paths] == [dataset.erased(paths[0])[1], 0, 0]
    assert dataset.expired(paths[0]) > 0
    assert [dataset.verify(home.settings.training_sets / digest) for digest in digests] == [[], [], []]


def test_a_model_is_not_tainted_by_it_and_its_cycle_may_be_trained_again(full: Home) -> None:
    frozen = training_set(full, DAY)
    model = {
        "version": "m-1",
        "parent": None,
        "cycle": DAY,
        "training_digest": frozen.digest,
        "recipe": "{}",
        "seed": 0,
    }
    made = {"code": "c", "weights_digest": "w", "path": "models/m-1", "mlflow_run": None, "created_at": frozen.cutoff}
    full.state.insert("models", [model | made])
    home = keeping(full, training_sets=30)
    retain(home, today=DAY + timedelta(days=31))
    with pytest.raises(LoopError, match="went with their retention"):
        policy(home, DAY)
    who = {"employee": "bob-4711"}
    land(home, [event(decision(900, "modify", 0, "words of Bob's own", **who), DAY + timedelta(days=1))], "bobs.jsonl")
    build(home, 1)
    run.erase(home, subject(home.settings, Kind.EMPLOYEE, "bob-4711"), reason="request 17", author="dpo")
    assert taints.tainted(home.state) == {}
    again = training_set(home, DAY)
    assert again.digest == frozen.digest
    assert dataset.load(home.settings.training_sets, again.digest).demonstrations.num_rows == frozen.demonstrations > 0


def test_a_person_is_found_where_interactions_are_no_longer_kept(full: Home) -> None:
    """By what outlives them: labels, signals and frozen sets."""
    who = {"employee": "anna-4711"}
    annas = [decision(n, "modify", 0, f"words of hers, number {n}", **who) for n in (900, 901)]
    land(full, [event(row, DAY) for row in annas], "annas.jsonl")
    build(full, 0)
    signal_days.build(full.lake, full.state, DAY, "comms")
    frozen = training_set(full, DAY)
    home = keeping(full, interactions=30)
    retain(home, today=DAY + timedelta(days=32))
    assert home.lake.read("interactions", days=(DAY, DAY)).num_rows == 0
    before = home.lake.read("demonstrations").num_rows
    report = run.erase(home, subject(home.settings, Kind.EMPLOYEE, "anna-4711"), reason="request 17", author="dpo")
    assert report.found == report.removed
    assert report.found["lake/demonstrations"] == report.found["lake/signals"] == 2
    assert report.found["training_sets"] == dataset.erased(frozen_path(home, frozen.digest))[0] == 2 + 6
    assert home.lake.read("demonstrations").num_rows == before - 2
    names = set(pseudonyms("anna-4711", home.settings))
    for rows in (home.lake.read(name) for name in ("demonstrations", "preferences", "conduct")):
        assert not names & set(rows["employee"].to_pylist())


def frozen_path(home: Home, digest: str) -> Path:
    return home.settings.training_sets / digest


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
