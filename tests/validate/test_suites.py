from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from loop.validate import suites
from tests.rows import SHOWN, decision, interactions, ordinary_day


def failures(rows: list[dict[str, Any]], **kwargs: Any) -> list[str]:
    return [f.rule for f in suites.run(interactions(*rows), "comms", **kwargs).failures]


def test_an_ordinary_day_passes_every_rule() -> None:
    report = suites.run(interactions(*ordinary_day()), "comms", volumes=[90] * 10)
    assert [f for f in report.findings if not f.passed] == []
    assert report.passed
    assert report.rows == 100
    observed = {f.rule.split(":")[0]: f.observed for f in report.findings}
    assert [observed[r] for r in ("duplicate rate", "share of accept", "volume", "event_id")] == [
        "100.0%",
        "50.0%",
        "100",
        "0 of 100 rows (0.0%)",
    ]
    assert len(report.findings) > 20


def test_nothing_is_said_on_the_terminal() -> None:
    """A process of its own: Great Expectations sets the levels of its loggers when it is imported."""
    script = (
        "import logging, sys; logging.basicConfig(level=logging.WARNING)\n"
        "from loop.validate import suites; from tests.rows import interactions, ordinary_day\n"
        "assert suites.run(interactions(*ordinary_day()), 'comms').passed"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_empty_batch_passes_and_says_so() -> None:
    report = suites.run(interactions(), "comms")
    assert report.passed
    assert report.findings[0].observed == "0 rows: nothing to judge"


def test_a_feed_that_falls_silent_holds_the_batch() -> None:
    assert [f.observed for f in suites.run(interactions(), "comms", volumes=[100] * 7).failures] == [
        "0 rows, the trailing median is 100"
    ]
    assert suites.run(interactions(), "comms", volumes=[100] * 6).passed
    assert suites.run(interactions(), "comms", volumes=[5] * 14).passed


def test_blank_candidates_hold_the_batch() -> None:
    blank = [{"position": i, "text": " ", "logprob": None} for i in range(2)]
    rows = ordinary_day(80) + [decision(n, "reject", candidates=blank) for n in range(80, 100)]
    assert failures(rows) == ["empty candidates: at most 5 in 100 rows"]


def test_the_same_decision_sent_under_new_ids_holds_the_batch() -> None:
    again = [decision(n, "accept", 0, SHOWN[0], prompt=[{"role": "user", "content": "same"}]) for n in range(50, 100)]
    assert failures(ordinary_day(50) + again) == ["duplicate rate: at least 80 % of the decisions are distinct"]


def test_a_dwell_of_days_holds_the_batch_and_names_the_events() -> None:
    rows = ordinary_day()
    rows[3]["dwell_ms"] = rows[4]["dwell_ms"] = 10**9
    report = suites.run(interactions(*rows), "comms")
    [failure] = report.failures
    assert (failure.rule, failure.observed) == ("dwell_ms: 0 to a day", "2 of 100 rows (2.0%)")
    assert failure.examples == ("e3", "e4")


def test_a_decision_mix_out_of_bounds_holds_unless_it_was_imported() -> None:
    rows = [decision(n, "ignore", source="simulated") for n in range(100)]
    week = [100] * 7
    assert [f.split(":")[0] for f in failures(rows, volumes=week)] == ["share of accept", "share of ignore"]
    assert failures(rows, volumes=week[1:]) == []
    assert failures([row | {"source": "coauthor"} for row in rows], volumes=week) == []


@pytest.mark.parametrize(
    ("days", "source", "held"), [(7, "simulated", True), (6, "simulated", False), (9, "jsonl", False)]
)
def test_volume_holds_only_with_a_week_of_history_and_no_import(days: int, source: str, held: bool) -> None:
    rows = ordinary_day(40, source=source)
    report = suites.run(interactions(*rows), "comms", volumes=[400] * days)
    [volume] = [f for f in report.findings if f.rule.startswith("volume")]
    assert not volume.passed
    assert (volume in report.failures) is held


def test_texts_are_never_quoted() -> None:
    rows = ordinary_day()
    for row in rows[:30]:
        row["prompt"] = [{"role": "user", "content": ""}]
        row["final_text"] = "my private thoughts" if row["final_text"] else None
    markdown = suites.run(interactions(*rows), "comms").markdown()
    assert "e0, e1, e2, e3, e4" in markdown
    assert "private" not in markdown
    assert "first" not in markdown
