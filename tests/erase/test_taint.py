"""An erasure while a model is being trained, and what becomes of models that learned from what was erased."""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from loop import cycle
from loop.cli import data
from loop.config import Settings
from loop.cycle import learning
from loop.cycle.reading import latest
from loop.erase import Kind, run
from loop.erase.subject import subject
from loop.evaluate import answers, evidence
from loop.home import Home, open_home
from loop.label import batches as labelling
from loop.release import releases, taints
from loop.schema import BatchStatus
from loop.services import prepare, session
from loop.train import nano, sft
from loop.validate import batches
from tests.rows import DAY, decision, event, land, ordinary_day

pytestmark = pytest.mark.slow
ANNA = "anna-4711"
SMALL = {"base_steps": 4, "sft_steps": 3, "dpo_steps": 2, "benchmark_items": 10, "held_out_share": 0.0}


@pytest.fixture
def home(prepared: Settings) -> Home:
    small = prepared.model_copy(update=SMALL)
    with session(small) as urls:
        prepare(small, urls)
        (small.make_home() / "corpus").mkdir()
        given = '{"prompt": [{"role": "user", "content": "a draft"}], "answer": "a common text"}\n'
        (small.corpus / "given.jsonl").write_text(given * 40)
        with open_home(small) as opened:
            annas = (event(decision(n, "modify", 0, f"her words {n}", employee=ANNA), DAY) for n in (900, 901))
            land(opened, [*(event(row, DAY) for row in ordinary_day(40)), *annas])
            made = batches.build(small, opened.lake, opened.state, DAY, "comms")
            told = {"day": DAY, "workflow": "comms", "digest": made.digest, "rows": made.rows, "quarantined": 0}
            opened.state.record_batch(**told, status=BatchStatus.ACCEPTED, reasons=[], author="test", run_id=None)
            labelling.build(small, opened.lake, opened.state, DAY, "comms")
            yield opened


def erase(home: Home) -> run.Report:
    return run.erase(home, subject(home.settings, Kind.EMPLOYEE, ANNA), reason="request 17", author="dpo")


def test_a_model_that_was_being_trained_is_tainted_and_never_promoted(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, reports = sft.train, []

    def meanwhile(*arguments: Any, **more: Any) -> Any:
        curve = real(*arguments, **more)
        reports.append(erase(home))
        return curve

    monkeypatch.setattr(sft, "train", meanwhile)
    cycle.training_set(home, DAY)
    made = cycle.policy(home, DAY)
    taint = taints.tainted(home.state)[made.version]
    assert (taint.rows, taint.ancestor) == (2 + 6, None)
    assert reports[0].tainted == [], "it was no version yet"

    answers.add_items(home.lake, DAY, "comms", [[{"role": "user", "content": f"item {n}"}] for n in range(10)])
    cycle.comparisons(home, DAY)
    cycle.evaluation(home, DAY)
    decided = cycle.release(home, DAY)
    assert decided.decision == "refused"
    assert decided.reasons[0].startswith("tainted: it learned from rows that were erased since (8 of ")


def test_a_base_that_was_being_pretrained_is_tainted(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """An erasure knows of no base that is none yet; and one that is half-way is waited for."""
    shutil.rmtree(home.settings.corpus)
    real, threads = nano.build, []

    def meanwhile(*arguments: Any, **more: Any) -> Any:
        curve = real(*arguments, **more)
        looked = threading.Event()

        def step(what: str) -> None:
            if what.startswith("partition"):  # it has looked for bases, and the rows are still there
                looked.set()
                time.sleep(4.0)

        who = subject(home.settings, Kind.EMPLOYEE, ANNA)
        told = {"reason": "request 17", "author": "dpo", "step": step}
        threads.append(threading.Thread(target=run.erase, args=(home, who), kwargs=told))
        threads[0].start()
        looked.wait(60)
        return curve

    monkeypatch.setattr(nano, "build", meanwhile)
    made = learning.base(home, DAY)
    threads[0].join()
    taint = taints.tainted(home.state)[made.version]
    assert (taint.rows, taint.of) == (2 * 3, 42 * 3), "three candidates were shown each time"


def test_a_tainted_champion_serves_and_its_successor_comes_from_its_clean_ancestor(home: Home) -> None:
    cycle.training_set(home, DAY)
    made = cycle.policy(home, DAY)
    base = made.parent
    promoted = releases.history(home.state)[0]
    verdict = releases.Verdict(releases.Decision.PROMOTED, ("better",))
    releases.record_release(
        home.state,
        verdict,
        cycle=DAY,
        challenger=made.version,
        champion_before=base,
        evidence="{}",
        author="test",
        run_id=None,
    )
    assert promoted.challenger == base
    following = DAY.replace(day=DAY.day + 1)
    assert learning.parent_of(home, following).version == made.version

    report = erase(home)
    assert [t["version"] for t in report.tainted] == [made.version], "the base learned what the organisation gave"
    run_of = releases.model_version(home.state, made.version).mlflow_run
    assert run_of is not None
    tags = home.registry.client.get_run(run_of).data.tags
    assert (tags["tainted"], float(tags["tainted_share"])) == (
        "true",
        pytest.approx(report.tainted[0]["share"], abs=1e-6),
    )
    assert releases.champion_now(home.state) == made.version, "it goes on serving"
    assert data._status(home)["champion"] == {"version": made.version, "cycle": DAY, "tainted": True}
    cycle.training_set(home, following)
    again = cycle.policy(home, following)
    assert again.parent == base
    frozen = latest(home, "training_sets", following)
    assert frozen["demonstrations"] == 28, "all of it is fresh to the base: what Anna did is gone"
    assert taints.untainted(home.state, again.version) == again.version
    cycle.comparisons(home, following)
    cycle.evaluation(home, following)
    cycle.release(home, following)
    read = evidence.from_json(latest(home, "releases", following)["evidence"]).evidence
    assert (read.champion, read.champion_tainted) == (made.version, True), "not to be worse is enough"


def test_a_dry_run_says_which_models_it_would_taint(home: Home) -> None:
    cycle.training_set(home, DAY)
    made = cycle.policy(home, DAY)
    who = subject(home.settings, Kind.EMPLOYEE, ANNA)
    told = run.erase(home, who, reason="", author="dpo", dry_run=True).tainted
    assert [(t["version"], t["rows"]) for t in told] == [(made.version, 8)]
    assert taints.tainted(home.state) == {}
    assert erase(replace(home)).tainted[0]["share"] == told[0]["share"]
