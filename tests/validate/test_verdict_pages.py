from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from loop.validate import pages, suites
from tests.rows import interactions, ordinary_day

DAY = date(2026, 1, 5)


def test_a_verdict_has_a_page_of_great_expectations_and_one_that_needs_no_network(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = ordinary_day()
    rows[3]["dwell_ms"] = 10**9
    report = suites.run(interactions(*rows), "comms")
    page = pages.write(tmp_path, DAY, "comms", 1, markdown="# told", result=report.result)
    assert page.read_text() == "# told"
    rendered = page.with_suffix(".html").read_text()
    assert "interactions_comms" in rendered
    assert "dwell_ms" in rendered
    assert not caplog.records  # it logs what it cannot render
    assert not any(text in rendered for text in ("draft number", "first", "person 3", ">e3<"))
    assert "comms/2026-01-05-attempt-000001.md" in (tmp_path / "index.html").read_text()


def test_only_the_last_verdicts_have_pages(tmp_path: Path) -> None:
    for n in range(pages.KEPT + 3):
        pages.write(tmp_path, DAY + timedelta(days=n), "comms", 1, markdown=f"{n}", result=None)
    pages.write(tmp_path, DAY, "ads", 12, markdown="ads", result=None)
    kept = sorted(file.name for file in (tmp_path / "comms").iterdir())
    assert len(kept) == pages.KEPT
    assert kept[0] == f"{DAY + timedelta(days=3)}-attempt-000001.md"
    index = (tmp_path / "index.html").read_text()
    assert index.count("<li>") == pages.KEPT + 1
    assert index.index("2026-02-06") < index.index("2026-01-08")  # the newest first
