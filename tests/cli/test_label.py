"""`loop label` as a person or a program meets it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from loop.cli.app import app
from loop.home import Home
from loop.label import batches, tasks
from loop.label.tasks import Kind, Origin
from loop.schema import BatchStatus
from tests.rows import DAY, interactions, ordinary_day

GOOD_AD = "target newcomers with price angle, playful tone, claim tested, bid low"


def loop(*words: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["label", *words, "--json"])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_functions_tell_what_they_cover(home: Home) -> None:
    given: dict[str, Any] = {"kind": Kind.PREFERENCE, "origin": Origin.IMPORT, "reason": "random", "workflow": "ads"}
    tasks.add(home.lake, home.state, [tasks.task(day=DAY, texts=[GOOD_AD, "buy our shoes"], **given)])
    told = loop("functions", "ads")
    assert (told["tasks"], told["votes"], told["new"], told["raised"]) == (1, 1, 1, {})
    [found] = [f for f in told["functions"] if f["function"] == "format"]
    assert (found["coverage"], found["polarity"], found["accuracy"]) == (1.0, ["first"], None)
    assert loop("functions", "ads")["new"] == 0


def test_prongs_tell_answers_and_cost(home: Home) -> None:
    home.lake.overwrite("interactions", interactions(*ordinary_day(100)), day=DAY, workflow="comms")
    told: dict[str, Any] = {"rows": 100, "quarantined": 0, "reasons": [], "author": "a", "run_id": None}
    home.state.record_batch(day=DAY, workflow="comms", digest="b", status=BatchStatus.ACCEPTED, **told)
    batches.build(home.settings, home.lake, home.state, DAY, "comms")
    [floor] = loop("prongs", "comms")["sources"]
    assert floor["source"] == "floor"
    assert floor["cost"] == pytest.approx(floor["answers"] * 0.02)


def test_nothing_is_synthesized_without_a_model_or_before_anything_is_labelled(home: Home) -> None:
    from loop.errors import BadInputError, LoopError

    with pytest.raises(BadInputError, match="nothing is labelled yet"):
        loop("synthesize", "comms")
    home.lake.overwrite("interactions", interactions(*ordinary_day(100)), day=DAY, workflow="comms")
    batches.build(home.settings, home.lake, home.state, DAY, "comms")
    with pytest.raises(LoopError, match="no model to write with"):
        loop("synthesize", "comms")
    with pytest.raises(BadInputError, match="expected one of"):
        loop("functions", "cooking")
