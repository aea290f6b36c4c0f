"""`loop erase`, `loop retain` and `loop dataset verify` as a privacy officer and a program meet them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loop.cli import main
from loop.config import Settings
from loop.home import open_home
from loop.train import dataset
from loop.validate import batches
from tests.rows import DAY, decision, event, land, ordinary_day

Command = Callable[..., tuple[int, Any, str]]
ANNA = "anna-4711"


@pytest.fixture
def loop(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command in this process: exit code, what it printed (the object, with --json), stderr."""

    def run(*arguments: str, human: bool = False) -> tuple[int, Any, str]:
        monkeypatch.setattr(sys, "argv", ["loop", *arguments, *([] if human else ["--json"])])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out if human else json.loads(out) if out.strip() else None, err

    return run


@pytest.fixture
def full(settings: Settings) -> Settings:
    with open_home(settings) as home:
        annas = (event(decision(n, "modify", 0, "her words", employee=ANNA), DAY) for n in (900, 901))
        land(home, [*(event(row, DAY) for row in ordinary_day(20)), *annas])
        batches.build(home.settings, home.lake, home.state, DAY, "comms")
    return settings


def test_an_erasure_ends_with_a_report(full: Settings, loop: Command) -> None:
    code, told, _ = loop("erase", "--employee", ANNA, "--reason", "request 17")
    assert code == 0
    assert told["found"] == {"landing/events": 2, "lake/interactions": 2}
    assert told["removed"] == told["found"]
    assert (told["nothing"], told["dry_run"]) == (False, False)
    assert any("backups" in line for line in told["not_reached"])
    (row,) = loop("sql", "SELECT kind, reason, stage FROM erasures")[1]["rows"]
    assert row == {"kind": "employee", "reason": "request 17", "stage": "done"}
    code, told, _ = loop("erase", "--employee", ANNA, "--reason", "request 17")
    assert (code, told["found"]) == (0, {})
    assert told["before"] is not None


def test_for_people_the_report_is_a_table(full: Settings, loop: Command) -> None:
    code, out, _ = loop("erase", "--employee", ANNA, "--dry-run", human=True)
    assert code == 0
    assert "There is" in out
    assert "lake/interactions" in out
    code, out, _ = loop("erase", "--employee", ANNA, "--reason", "request 17", human=True)
    assert code == 0
    assert "removed" in out
    assert "Not reached" in out
    assert ANNA not in out
    out = loop("erase", "--employee", ANNA, "--reason", "request 17", human=True)[1]
    assert "Nothing is left since the erasure of" in out


def test_a_dry_run_needs_no_reason_and_changes_nothing(full: Settings, loop: Command) -> None:
    code, told, _ = loop("erase", "--employee", ANNA, "--dry-run")
    assert (code, told["found"]["lake/interactions"], told["removed"]) == (0, 2, {})
    assert loop("sql", "SELECT count(*) AS n FROM interactions")[1] == {"rows": [{"n": 22}]}
    assert loop("sql", "SELECT count(*) AS n FROM erasures")[1] == {"rows": [{"n": 0}]}


def test_who_was_never_here_is_exit_code_3(full: Settings, loop: Command) -> None:
    code, told, _ = loop("erase", "--employee", "nobody", "--reason", "request 18")
    assert (code, told["nothing"], told["found"]) == (3, True, {})
    code, out, _ = loop("erase", "--interaction", "no-such-event", "--reason", "request 18", human=True)
    assert code == 3
    assert "Nothing was changed" in " ".join(out.split()) or "Nothing changed" in " ".join(out.split())
    assert loop("sql", "SELECT count(*) AS n FROM interactions")[1] == {"rows": [{"n": 22}]}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "--employee"),
        (("--employee", "a", "--interaction", "b", "--dry-run"), "one of"),
        (("--employee", ANNA), "--reason"),
        (("--employee", ANNA, "--reason", "  "), "--reason"),
        (("--employee", ANNA, "--reason", f"{ANNA} wants it"), "--reason"),
        (("--employee", "", "--reason", "r"), "--employee"),
    ],
)
def test_what_is_missing_or_wrong_is_bad_input(loop: Command, arguments: tuple[str, ...], told: str) -> None:
    code, _, err = loop("erase", *arguments)
    assert code == 2
    assert told in err


def test_retention_drops_what_is_named(full: Settings, loop: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert loop("retain") == (0, {"retention_days": {}, "dropped": {}}, "")
    monkeypatch.setenv("LOOP_RETENTION_DAYS", '{"interactions": 1}')
    assert loop("retain")[1]["dropped"] == {"interactions": 1}
    assert loop("sql", "SELECT count(*) AS n FROM interactions")[1] == {"rows": [{"n": 0}]}


def test_data_sets_are_checked(full: Settings, loop: Command) -> None:
    from loop import schema

    empty = [table.empty() for table in (schema.DEMONSTRATIONS, schema.PREFERENCES)]
    frozen = dataset.freeze(*empty, root=full.training_sets, salt_key=b"k" * 32, meta={})
    code, told, _ = loop("dataset", "verify")
    none = {"rows": 0, "erased": 0, "expired": 0, "problems": []}
    assert (code, told["training_sets"]) == (0, [{"digest": frozen.digest, **none}])
    assert loop("dataset", "verify", "0000")[0] == 2
    broken = Path(frozen.path / "demonstrations.parquet")
    broken.chmod(0o644)
    broken.write_bytes(b"no parquet")
    assert loop("dataset", "verify", frozen.digest[:8])[0] == 1
