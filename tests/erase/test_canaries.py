"""The proof: canaries in every store of a home that has lived, found by a decoding search, and afterwards nowhere.

The erasure is a process of its own; it is killed once half-way. Meanwhile people send what they do through the gateway,
it is moved to the lake, and others read.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import dagster as dg
import pytest
import sqlalchemy as sa

from loop import cycle, lake, schema
from loop.cli.dagster import orchestrator
from loop.collect.events import pseudonyms
from loop.config import Settings
from loop.errors import LoopError
from loop.evaluate import answers, panel
from loop.home import Home, open_home
from loop.release import releases, taints
from loop.services import prepare, session
from loop.train import dataset
from loop.validate import inflow
from tests.erase.searching import search
from tests.gateway.fronts import _SECRET, TOKENS, Running, feedback, serving, wait, whole
from tests.rows import decision, event, land, ordinary_day

pytestmark = pytest.mark.slow

PERSON = "zqperson-4711"
WORDS = "zqwords heron over the quiet canal"
PROMPT = "zqprompt lantern beside the stone gate"
WAITING = "zqwaiting barge with a cargo of slate"
ASKED = "zqasked weir below the old paper mill"
REPLACED = "zqreplaced ferry that no longer sails"
IMPORTED = "zqimported signal box at the junction"
EVENT = "zqevent-of-the-person"
OUTCOME = "zqoutcome-of-the-person"

TODAY = datetime.now(UTC).date()
YESTERDAY = TODAY - timedelta(days=1)
SMALL: dict[str, Any] = {"base_steps": 4, "sft_steps": 3, "dpo_steps": 2, "benchmark_items": 20, "held_out_share": 0.0}


def told(**changes: Any) -> dict[str, Any]:
    return whole(workflow="comms", **changes)


def mine(**changes: Any) -> dict[str, Any]:
    return told(**{"employee": PERSON, "prompt": [{"role": "user", "content": PROMPT}], "final_text": WORDS} | changes)


@contextlib.contextmanager
def living(home: Home) -> Iterator[Running]:
    """A front of the home, whose tokens are in the database."""
    rows = [
        {name: list(v) if isinstance(v := getattr(token, name), tuple) else v for name in token.__dataclass_fields__}
        | {"workflows": list(schema.WORKFLOWS), "secret_hash": hashlib.sha256(_SECRET.encode()).hexdigest()}
        for token in TOKENS.values()
    ]
    with home.state.transaction() as connection:
        connection.execute(sa.insert(home.state.tables["tokens"]), rows)
    with serving(home.settings) as running:
        yield running


def move(home: Home) -> None:
    """What the front has acknowledged so far, to the lake."""
    wait(lambda: not list(home.settings.spool.glob("*.open")))
    inflow.drain(home.settings, home.lake, home.state)


@dataclass
class Planted:
    """What there is to be looked for, besides the texts above."""

    version: str
    """The model that learned from the person's rows."""
    suggestion: str
    names: tuple[str, ...]
    """The person's pseudonyms."""

    @property
    def canaries(self) -> tuple[str, ...]:
        texts = (PERSON, WORDS, PROMPT, WAITING, ASKED, REPLACED, IMPORTED, EVENT, OUTCOME)
        return (*texts, self.suggestion, *self.names)


def plant(home: Home, running: Running) -> Planted:
    """A home that has lived, with the person's traces in all of it."""
    settings = home.settings
    land(home, (event(row, YESTERDAY) for row in ordinary_day(60)), "people.jsonl")
    land(home, [event(decision(70, "modify", 0, IMPORTED, employee=PERSON), YESTERDAY)], "person.jsonl")
    bad = json.dumps(event(decision(71, "reject", employee=PERSON), YESTERDAY))
    land_raw(home, [bad.replace('"employee"', '"who"').encode()[:-5], bad.replace("dwell_ms", "dwell").encode()])
    settings.rotate("pseudonym")
    wait(lambda: running.front.gate.pseudonym_key == settings.secret("pseudonym"))

    for row in (mine(event_id=EVENT), *(told(employee=f"colleague-{n}") for n in range(30))):
        assert running.post("/v1/feedback", row, token="all").status_code == 200
    served = running.suggest(workflow="comms", employee=PERSON, messages=[{"role": "user", "content": PROMPT}])
    assert running.post("/v1/feedback", feedback(served), token="all").status_code == 200
    assert running.post("/v1/outcomes", outcome(served), token="desk").status_code == 200
    move(home)
    with orchestrator(settings) as dagster:
        for day in (YESTERDAY, TODAY):
            dagster.data(day, "comms")
        quoting = dg.AssetMaterialization("interactions", metadata={"a row": f'{{"text": "{WORDS}"}}', "id": EVENT})
        dagster.instance.report_runless_asset_event(quoting)
    frozen = cycle.training_set(home, TODAY)
    assert frozen.demonstrations > 3
    made = cycle.policy(home, TODAY)
    run = releases.model_version(home.state, made.version).mlflow_run
    assert run is not None
    home.registry.client.set_tag(run, "note", f"see {EVENT}: {WORDS}")
    home.registry.client.log_text(run, f"worst row: {WORDS}", "worst.txt")
    prompts = [[{"role": "user", "content": text}] for text in (PROMPT, "a common brief", "another common brief")]
    answers.add_items(home.lake, TODAY, "comms", prompts)
    cycle.comparisons(home, TODAY)
    posed = home.lake.read("comparisons")["comparison_id"].to_pylist()
    who = pseudonyms(PERSON, settings)[0]
    panel.record_answers(home.state, [panel.Answer(posed[0], who, panel.Choice.LEFT, datetime.now(UTC))])

    past = home.lake.read("demonstrations", days=(TODAY, TODAY), workflows=["comms"])
    at = past.schema.get_field_index("answer")
    replaced = past.set_column(at, past.schema.field(at), [[REPLACED] * past.num_rows])
    for rows in (replaced, past):
        home.lake.overwrite("demonstrations", rows, day=TODAY, workflow="comms")
    docs = settings.home / "data_docs" / "planted"
    docs.mkdir(parents=True, exist_ok=True)
    (docs / "page.html").write_text(f"<td>{EVENT}</td><td>{WORDS}</td>")
    (settings.services / "noise.log").write_text(f"a library said: {WORDS}\n")
    logs = settings.dagster_home / "storage" / "old"
    logs.mkdir(parents=True)
    (logs / "compute.log.gz").write_bytes(gzip.compress(f"printed {WORDS}".encode()))

    for row in (mine(final_text=WAITING), told(employee="colleague-1")):
        assert running.post("/v1/feedback", row, token="all").status_code == 200
    running.suggest(workflow="comms", employee=PERSON, messages=[{"role": "user", "content": ASKED}])
    with home.state.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("CHECKPOINT"))  # so that pages are on disk
    return Planted(made.version, served["suggestion_id"], pseudonyms(PERSON, settings))


def land_raw(home: Home, lines: list[bytes]) -> None:
    from loop.collect import landing
    from loop.collect.record import Record
    from loop.validate import contract

    records = [Record(n, line, "garbage.jsonl") for n, line in enumerate(lines, 1)]
    landing.land(
        home.settings,
        home.lake,
        home.state,
        source="jsonl",
        name="garbage.jsonl",
        records=records,
        contract=contract.split,
    )


def outcome(served: dict[str, Any]) -> dict[str, Any]:
    return {
        "outcome_id": OUTCOME,
        "suggestion_id": served["suggestion_id"],
        "name": "click",
        "value": 1.0,
        "observed_at": datetime.now(UTC).isoformat(),
    }


class Others:
    """People who go on working, and people who go on reading, until the end; and what broke."""

    def __init__(self, home: Home, running: Running) -> None:
        self.home, self.running = home, running
        self.sent = self.read = 0
        self.broken: list[BaseException] = []
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._go, args=(work,)) for work in (self._write, self._look)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _go(self, work: Any) -> None:
        try:
            while not self._end.is_set():
                work()
        except BaseException as error:  # noqa: BLE001 - the test tells it
            self.broken.append(error)

    def _write(self) -> None:
        reply = self.running.post("/v1/feedback", told(employee=f"later-{self.sent % 9}"), token="all")
        assert reply.status_code == 200, reply.text
        self.sent += 1
        if self.sent % 20 == 0:
            inflow.drain(self.home.settings, self.home.lake, self.home.state)

    def _look(self) -> None:
        assert self.home.lake.read("interactions").num_rows > 80
        with lake.connect(self.home.lake, {}) as connection:
            query = "SELECT count(*) FROM interactions JOIN demonstrations USING (event_id)"
            assert connection.execute(query).fetchall()[0][0] > 0
        for path in dataset.sets(self.home.settings.training_sets):
            assert dataset.verify(path) == []
            dataset.load(path.parent, path.name)
        self.read += 1


def command(settings: Settings, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, **settings.as_environment()}
    program = [sys.executable, "-c", "from loop.cli import main; main()", *arguments, "--json"]
    return subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def stage(home: Home) -> str:
    """How far the erasure is."""
    table = home.state.tables["erasures"]
    with home.state.engine.connect() as connection:
        return connection.execute(sa.select(table.c.stage)).scalar() or ""


EVERYWHERE = {
    WORDS: {
        "landing/comms",
        "lake/interactions",
        "lake/demonstrations",
        "lake/preferences",
        "dagster.event_logs",
        "dagster.asset_keys",
        "dagster/storage",
        "mlflow.tags",
        "services",
        "services/mlflow",
        "services/postgres",
        "services/postgres/pg_wal",
        "data_docs/planted",
    },
    EVENT: {
        "lake/interactions/_delta_log",
        "loop.event_index",
        "dagster.event_logs",
        "services/postgres",
        "services/postgres/pg_wal",
    },
    PROMPT: {"gateway/ledger", "lake/benchmark", "lake/comparisons", "landing/comms"},
    ASKED: {"gateway/ledger", "gateway/spool"},
    WAITING: {"gateway/spool"},
    IMPORTED: {"landing/comms", "lake/interactions", "lake/demonstrations", "lake/edits"},
    REPLACED: {"lake/demonstrations"},
    PERSON: {"landing/unplaced", "lake/quarantine"},
    OUTCOME: {"landing/comms", "lake/outcomes", "loop.event_index"},
}
"""Text to stores in which it must be found before: else its absence afterwards says nothing."""


def erase(settings: Settings, *arguments: str) -> subprocess.Popen[str]:
    return command(settings, "erase", *arguments, "--reason", "request 17")


def test_canaries_are_in_every_store_and_afterwards_in_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(home=tmp_path / "home", spool_segment_seconds=0.3, **SMALL)
    caches = tmp_path / "huggingface"
    monkeypatch.setenv("HF_HOME", str(caches))
    with session(settings) as urls:
        prepare(settings, urls)
        with open_home(settings) as home, living(home) as running:
            planted = plant(home, running)
            before = search(settings, planted.canaries, also=[caches])
            for canary, stores in EVERYWHERE.items():
                assert stores <= before[canary], canary
            for name in (*planted.names, planted.suggestion):
                assert {"landing/comms", "lake/interactions"} <= before[name]
            assert any(store.startswith("training_sets/") for store in before[IMPORTED])
            others = of_others(home, planted.names)

            with Others(home, running) as work:
                first = erase(settings, "--employee", PERSON)
                wait(lambda: stage(home) == "rows" or first.poll() is not None, 120)
                first.send_signal(signal.SIGKILL)
                assert first.wait() == -signal.SIGKILL, first.communicate()
                assert stage(home) not in {"", "asked", "done"}, "it was killed half-way"
                out, err = erase(settings, "--employee", PERSON).communicate(timeout=300)
            assert work.broken == []
            assert work.sent > 20
            assert work.read > 2
            report = json.loads(out)
            assert report["resumed"], err

            move(home)
            assert search(settings, planted.canaries, also=[caches]) == {}
            assert others <= of_others(home, planted.names), "somebody else lost a row"
            check_models(home, planted.version)
            check_again(settings, running)


def of_others(home: Home, names: tuple[str, ...]) -> set[str]:
    """The events of everybody else."""
    rows = home.lake.read("interactions", columns=["event_id", "employee"]).to_pylist()
    return {row["event_id"] for row in rows if row["employee"] not in names}


def check_models(home: Home, version: str) -> None:
    """What learned from the person is tagged, here and in MLflow; the next cycle does not train from it."""
    marked = taints.tainted(home.state)
    base = releases.champion_now(home.state)
    assert set(marked) == {base, version}, "the base was pretrained on what people were shown"
    assert 0 < marked[version].share < 0.1
    run = releases.model_version(home.state, version).mlflow_run
    tags = home.registry.client.get_run(run).data.tags
    assert (tags["tainted"], tags["tainted_by"]) == ("true", base)
    with pytest.raises(LoopError, match="were erased"):
        cycle.policy(home, TODAY)
    for path in dataset.sets(home.settings.training_sets):
        assert dataset.verify(path) == []
    cycle.training_set(home, TODAY)
    made = cycle.policy(home, TODAY)
    assert made.parent not in marked
    assert made.version not in taints.tainted(home.state)


def check_again(settings: Settings, running: Running) -> None:
    """What is sent again is nothing new; who is erased again, or never was, is told so."""
    again = running.post("/v1/feedback", mine(event_id=EVENT), token="all")
    assert again.json()["status"] == "duplicate"
    process = erase(settings, "--employee", PERSON)
    told = json.loads(process.communicate(timeout=120)[0])
    assert (process.returncode, told["found"], told["before"] is not None) == (0, {}, True)
    process = erase(settings, "--employee", "zq-who-never-was")
    assert json.loads(process.communicate(timeout=120)[0])["nothing"]
    assert process.returncode == 3
