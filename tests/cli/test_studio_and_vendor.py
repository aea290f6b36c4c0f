"""`loop studio` without a Label Studio, and `loop vendor` from the batch to the verdict, as a program meets them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from loop.config import Settings
from loop.home import open_home
from loop.label.vendor import ledger
from tests.label.vendor.batches import PLAN, answered, filled

Command = Callable[..., tuple[int, str, str]]
RATES = ("--acceptable", "0.1", "--limiting", "0.4", "--producer", "0.1", "--consumer", "0.2")
DUE = f"{datetime.now(UTC) + timedelta(days=2):%Y-%m-%d}"


def told(loop: Command, *arguments: str, code: int = 0) -> Any:
    ended, out, _ = loop(*arguments, "--json")
    assert ended == code, out
    return json.loads(out)


def test_studio_says_that_it_does_not_run(loop: Command) -> None:
    for command in ("push", "pull", "invite ann@example.org"):
        code, _, err = loop("studio", *command.split())
        assert code == 1
        assert "loop: Label Studio does not run for this home: `loop studio up` starts it" in err
    status = told(loop, "studio", "status")
    assert (status["installed"], status["url"], status["projects"]) == (False, None, [])
    assert told(loop, "studio", "down") == {"stopped": []}
    assert loop("studio", "push", "--workflow", "nope")[0] == 2


def test_studio_that_does_not_answer_is_said_and_nothing_moves(
    loop: Command, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOP_STUDIO_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("LOOP_SECRET_STUDIO", "0" * 40)
    code, _, err = loop("studio", "pull")
    assert code == 1
    assert "Label Studio at http://127.0.0.1:9 does not answer" in err
    assert not (settings.studio / "cursor.json").exists()


def test_a_batch_goes_out_comes_back_and_is_decided_on(loop: Command, settings: Settings, tmp_path: Path) -> None:
    with open_home(settings) as home:
        filled(home)
    plan = told(loop, "vendor", "plan", *RATES)
    assert (plan["inspected"], plan["allowed"]) == (PLAN.inspected, PLAN.allowed)
    assert plan["producer_risk"] <= 0.1
    assert plan["consumer_risk"] <= 0.2
    options = ("--vendor", "acme", "--workflow", "moderation", "--kind", "category", "--due", DUE, *RATES)
    out = told(loop, "vendor", "export", str(tmp_path / "out"), *options)
    assert (out["sent"], out["known"]) == (20 + PLAN.inspected, PLAN.inspected)
    batch = ledger.load(settings, out["batch_id"])
    bad = answered(batch, tmp_path / "bad.csv", wrong=PLAN.allowed + 1)
    taken = told(loop, "vendor", "import", batch.batch_id, str(bad))
    assert (taken["rows"], taken["new"], taken["problems"]) == (out["sent"], out["sent"], [])
    code, shown, _ = loop("vendor", "accept", batch.batch_id)
    assert code == 1
    assert f"is REJECTED: {PLAN.allowed + 1} of {PLAN.inspected}" in shown
    good = answered(batch, tmp_path / "good.csv")
    again = told(loop, "vendor", "import", batch.batch_id, str(good))
    assert (again["changed"], again["repeated"]) == (PLAN.allowed + 1, out["sent"] - PLAN.allowed - 1)
    verdict = told(loop, "vendor", "accept", batch.batch_id, code=1)
    assert (verdict["wrong"], verdict["answers"]) == (PLAN.allowed + 1, out["sent"])  # as when it was turned down
    options = ("--vendor", "bolt", *options[2:])
    out = told(loop, "vendor", "export", str(tmp_path / "anew"), *options)
    assert (out["sent"], out["known"]) == (20 + PLAN.inspected, PLAN.inspected)
    batch = ledger.load(settings, out["batch_id"])
    told(loop, "vendor", "import", batch.batch_id, str(answered(batch, tmp_path / "anew.csv")))
    verdict = told(loop, "vendor", "accept", batch.batch_id)
    assert (verdict["accepted"], verdict["wrong"], verdict["answers"]) == (True, 0, out["sent"])
    first, last = told(loop, "vendor", "status")["batches"]
    assert (first["deliveries"], first["verdict"]) == (2, "rejected")
    assert (last["batch"], last["deliveries"], last["verdict"]) == (batch.batch_id, 1, "accepted")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("plan", "--acceptable", "0.2", "--limiting", "0.1"), "expected 0 <= acceptable < limiting < 1"),
        (("import", "b0", "none.csv"), "none.csv: cannot be read"),
        (("accept", "b0"), "expected the id of a batch that was exported here"),
        (
            ("export", "out", "--vendor", "a", "--workflow", "ads", "--kind", "odd", "--due", DUE),
            "kind: expected preference, rating or category",
        ),
    ],
)
def test_what_is_wrong_is_said(loop: Command, arguments: tuple[str, ...], error: str) -> None:
    assert error in told(loop, "vendor", *arguments, code=2)["error"]
