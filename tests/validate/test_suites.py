from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from loop import schema
from loop.errors import BadInputError, LoopError
from loop.validate import suites
from loop.validate.suites.files import digest
from tests.rows import SHOWN, decision, interactions, ordinary_day


def failures(rows: list[dict[str, Any]], **kwargs: Any) -> list[str]:
    return [f.rule for f in suites.run(interactions(*rows), "comms", **kwargs).failures]


def test_an_ordinary_day_passes_every_rule() -> None:
    report = suites.run(interactions(*ordinary_day()), "comms", history=10)
    assert [f for f in report.findings if not f.passed] == []
    assert report.passed
    assert report.rows == 100
    observed = {f.rule.split(":")[0]: f.observed for f in report.findings}
    assert [observed[r] for r in ("duplicate rate", "share of accept", "event_id")] == [
        "100.0%",
        "50.0%",
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
    assert [f.split(":")[0] for f in failures(rows, history=7)] == ["share of accept", "share of ignore"]
    assert failures(rows, history=6) == []
    assert failures([row | {"source": "coauthor"} for row in rows], history=7) == []


def test_texts_in_another_form_hold_the_batch_unless_they_were_imported() -> None:
    rows = [decision(n, "modify", 0, f"print({n})", workflow="design", source="gateway") for n in range(50)]
    parse = "final texts that parse: at least 80 %"
    report = suites.run(interactions(*rows), "design")
    assert [f.rule for f in report.failures] == [parse]
    assert report.failures[0].examples == ("e0", "e1", "e2", "e3", "e4")
    imported = suites.run(interactions(*(row | {"source": "cups"} for row in rows)), "design")
    assert [(f.rule, f.blocking) for f in imported.findings if not f.passed][:1] == [(parse, False)]
    assert imported.passed


def test_a_batch_in_files_is_judged_like_one_in_memory(tmp_path: Path) -> None:
    rows = ordinary_day()
    rows[3]["dwell_ms"] = 10**9
    pq.write_table(interactions(*rows), tmp_path / "rows.parquet")
    connection = duckdb.connect()
    connection.execute(f"CREATE VIEW batch AS FROM read_parquet('{tmp_path / 'rows.parquet'}')")
    assert suites.run(connection, "comms").findings == suites.run(interactions(*rows), "comms").findings


# -- the files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workflow", schema.BUILT_IN)
def test_the_files_are_in_step_with_the_code(workflow: str) -> None:
    suite = suites.load(workflow)
    assert suite == suites.current(workflow, suite.version), "run `loop suites write`"
    assert suites.path_of(workflow).read_text().count('"reason":') == len(suite.rules)


def test_great_expectations_reads_the_files_as_they_are() -> None:
    import great_expectations as gx

    told = json.loads(suites.path_of("ads").read_text())
    suite = gx.ExpectationSuite(**told)
    assert len(suite.expectations) == len(told["expectations"])
    assert {e.severity.value for e in suite.expectations} == {"critical", "warning"}


def test_a_change_of_a_rule_is_a_new_version_and_a_file_changed_by_hand_is_refused(tmp_path: Path) -> None:
    assert set(suites.write(tmp_path, check=True).values()) == {"differs"}
    assert set(suites.write(tmp_path).values()) == {"version 1"}
    assert set(suites.write(tmp_path).values()) == {"unchanged"}
    path = suites.path_of("ads", tmp_path)
    told = json.loads(path.read_text())
    told["expectations"][0]["severity"] = "info"
    path.write_text(json.dumps(told))
    with pytest.raises(LoopError, match=r"expected what its digest .* says, got other rules"):
        suites.read(path)
    told["meta"]["digest"] = digest(told["expectations"])
    path.write_text(json.dumps(told))
    assert suites.read(path).rules[0].severity is suites.Severity.INFO
    assert suites.write(tmp_path)["ads"] == "version 2"
    assert suites.read(path) == suites.current("ads", 2)


def test_a_suite_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LoopError, match="loop suites write"):
        suites.read(tmp_path / "ads.json")
    (tmp_path / "ads.json").write_text("{}")
    with pytest.raises(LoopError, match="expected a suite of Great Expectations"):
        suites.read(tmp_path / "ads.json")
    with pytest.raises(BadInputError, match="expected one of ads"):
        suites.current("cooking")


def test_texts_are_never_quoted() -> None:
    rows = ordinary_day()
    for row in rows[:30]:
        row["prompt"] = [{"role": "user", "content": ""}]
        row["final_text"] = "my private thoughts" if row["final_text"] else None
    report = suites.run(interactions(*rows), "comms")
    markdown = report.broken() + report.kept()
    assert "e0, e1, e2, e3, e4" in markdown
    assert "private" not in markdown
    assert "first" not in markdown
