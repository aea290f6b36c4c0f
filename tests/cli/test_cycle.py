"""`loop cycle` from what has landed to a decision, and `loop hold release`: real jobs, tiny training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.rows import DAY, decision, event, ordinary_day

pytestmark = pytest.mark.slow
PROGRAM = Path(sys.executable).with_name("loop")
SMALL = {"LOOP_BASE_STEPS": "4", "LOOP_SFT_STEPS": "3", "LOOP_DPO_STEPS": "2", "LOOP_SECRET_PSEUDONYM": "00" * 32}
NEXT = DAY + timedelta(days=1)
COAUTHOR = Path(__file__).parents[3] / "shared" / "data" / "coauthor" / "argumentative.tar.xz"
SMALL_DAY = "2021-08-20"
"""Of its twenty days one with 140 openings."""


def loop(home: Path, *arguments: str) -> Any:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LOOP_", "DAGSTER_", "MLFLOW_"))}
    done = subprocess.run(
        [PROGRAM, *arguments, "--json"],
        env=environment | SMALL | {"LOOP_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_a_cycle_is_told_and_a_held_batch_that_is_released_is_in_the_next(tmp_path: Path) -> None:
    blank = [{"position": i, "text": " ", "logprob": None} for i in range(2)]
    broken = ordinary_day(60) + [decision(n, "reject", candidates=blank) for n in range(100, 130)]
    sent = [event(row) for row in ordinary_day(60)] + [event(row, NEXT) for row in broken]
    (tmp_path / "days.jsonl").write_text("".join(json.dumps(e) + "\n" for e in sent))
    home, days = tmp_path / "home", ("cycle", "--from", f"{DAY}", "--to", f"{NEXT}")
    loop(home, "import", "jsonl", str(tmp_path / "days.jsonl"))

    told = loop(home, *days)
    assert list(told) == ["batches", "training", "release"]
    kept = ("day", "workflow", "status", "rows", "quarantined")
    assert [tuple(b[k] for k in kept) for b in told["batches"]] == [
        (f"{DAY}", "comms", "accepted", 60, 0),
        (f"{NEXT}", "comms", "held", 90, 0),
    ]
    training, release = told["training"], told["release"]
    assert training["demonstrations"] > 0
    assert training["preferences"] > 0
    assert (release["cycle"], release["decision"]) == (f"{NEXT}", "refused")
    assert release["challenger"].startswith("m-")
    assert release["reasons"][0] == "no panel evidence"

    verdict = loop(home, "hold", "release", f"{NEXT}", "comms", "--reason", "the tool showed blanks, people saw it")
    assert {k: verdict[k] for k in (*kept, "attempt", "reasons")} == {
        "day": f"{NEXT}",
        "workflow": "comms",
        "status": "overridden",
        "rows": 90,
        "quarantined": 0,
        "attempt": 2,
        "reasons": ["the tool showed blanks, people saw it"],
    }
    again = loop(home, *days)
    assert [b["status"] for b in again["batches"]] == ["accepted", "overridden"]
    assert again["training"]["digest"] != training["digest"]
    assert again["training"]["demonstrations"] > training["demonstrations"]
    assert (again["training"]["attempt"], again["release"]["attempt"]) == (2, release["attempt"] + 1)


@pytest.mark.skipif(not COAUTHOR.exists(), reason=f"the CoAuthor archive is not at {COAUTHOR}")
def test_coauthor_from_its_archive_to_a_decision(tmp_path: Path) -> None:
    done = loop(tmp_path, "import", "coauthor", str(COAUTHOR))
    assert (done["read"], done["accepted"], done["quarantined"]) == (6348, 6348, 0)
    query = "SELECT count(DISTINCT day) AS days, sum(rows) AS openings FROM landings"
    assert loop(tmp_path, "sql", query)["rows"] == [{"days": 20, "openings": 6348}]
    told = loop(tmp_path, "cycle", "--from", SMALL_DAY, "--to", SMALL_DAY, "--workflow", "comms")
    [batch] = told["batches"]
    assert (batch["status"], batch["rows"], batch["quarantined"]) == ("accepted", 140, 0)
    # The pseudonyms, and with them the side of the split that each writer is on, hang on the key above.
    assert (told["training"]["demonstrations"], told["training"]["preferences"]) == (74, 255)
    assert (told["release"]["cycle"], told["release"]["decision"]) == (SMALL_DAY, "refused")
    assert told["release"]["reasons"][0] == "no panel evidence"
    [release] = loop(tmp_path, "status")["releases"][1:]
    assert release["challenger"] == told["release"]["challenger"]
