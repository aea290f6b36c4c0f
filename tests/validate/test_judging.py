"""The verdict on a batch in a real lake and a real database: what it is compared with, and what it leaves behind."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest

from loop.errors import BadInputError
from loop.home import Home
from loop.schema import BatchStatus
from loop.validate import batches, suites, verdicts
from tests.rows import DAY, event, interactions, land, ordinary_day

GERMAN = "Wir bitten Sie um eine Antwort bis zum Ende der nächsten Woche, denn sonst ist die Frist vorbei."


def write(home: Home, day: date, rows: list[dict[str, Any]], digest: str | None = None) -> None:
    """Rows of the gateway into a partition, as if a batch had been made of them."""
    mine = [row | {"day": day, "event_id": f"{day}-{row['event_id']}", "source": "gateway"} for row in rows]
    batch = interactions(*mine)
    named = digest or batches.digest_of(batch, day, "comms")
    home.lake.overwrite(
        "interactions", interactions(*(row | {"batch": named} for row in mine)), day=day, workflow="comms"
    )


def judge(home: Home, day: date) -> verdicts.Verdict:
    return verdicts.judge(home.settings, home.lake, home.state, day, "comms")


def german(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    shown = [{"position": 0, "text": GERMAN, "logprob": None}]
    taken = {"candidates": shown, "decision": "accept", "chosen": 0, "final_text": GERMAN}
    return [row | taken | {"decided_at": row["shown_at"]} for row in rows]


def test_a_verdict_names_its_suite_and_leaves_a_profile_and_a_page(home: Home) -> None:
    write(home, DAY, ordinary_day(60))
    verdict = judge(home, DAY)
    assert (verdict.status, verdict.attempt, verdict.reasons) == (BatchStatus.ACCEPTED, 1, ())
    [batch] = home.state.batches(DAY, DAY)
    suite = suites.load("comms")
    assert batch["author"] == f"suite interactions_comms v{suite.version} ({suite.digest})"
    [kept] = home.state.arrow("profiles").to_pylist()
    assert (kept["digest"], kept["rows"]) == (batch["digest"], 60)
    assert verdict.page is not None
    text = verdict.page.read_text()
    assert suite.title in text
    assert "| ✓ | drift of volume | 60 rows, no day before |" in text
    assert verdict.page.with_suffix(".html").exists()


def test_the_digest_is_that_of_the_build(home: Home) -> None:
    land(home, (event(row) for row in ordinary_day(30)))
    built = batches.build(home.settings, home.lake, home.state, DAY, "comms")
    assert (
        judge(home, DAY).digest
        == built.digest
        == batches.digest_of(batches.rows_of(home.lake, DAY, "comms"), DAY, "comms")
    )


def test_a_day_unlike_the_week_before_it_is_held_and_does_not_become_usual(home: Home) -> None:
    days = [DAY + timedelta(days=n) for n in range(9)]
    for day in days[:7]:
        write(home, day, ordinary_day(100))
        assert judge(home, day).passed
    write(home, days[7], german(ordinary_day(100)))
    held = judge(home, days[7])
    assert held.status is BatchStatus.HELD
    assert any(reason.startswith("drift of language: 1.000") for reason in held.reasons)
    assert [b["day"] for b in verdicts.held(home.state)] == [days[7]]
    after = verdicts.reference(home.state, days[8], "comms")
    assert (after.days, len(after.profiles)) == (7, 7)  # the held day is none of them

    verdicts.release(home.state, days[7], "comms", reason="we moved to Berlin", author="lead")
    let = judge(home, days[7])
    assert (let.status, let.override) == (BatchStatus.OVERRIDDEN, "lead: we moved to Berlin")
    assert "Let through by lead: we moved to Berlin" in let.markdown()
    assert let.told() == f"let through by lead: we moved to Berlin (would be held for {'; '.join(held.reasons)})"
    assert verdicts.reference(home.state, days[8], "comms").days == 8


def test_the_reference_is_a_fortnight_however_long_the_history(home: Home) -> None:
    for n in range(20):
        write(home, DAY + timedelta(days=n), ordinary_day(10))
        if n:
            judge(home, DAY + timedelta(days=n))
    reference = verdicts.reference(home.state, DAY + timedelta(days=20), "comms")
    assert (reference.days, len(reference.profiles)) == (14, 14)


def test_a_day_whose_content_changed_since_it_was_accepted_is_not_compared_with(home: Home) -> None:
    write(home, DAY, ordinary_day(60))
    judge(home, DAY)
    told = {"status": BatchStatus.ACCEPTED, "rows": 60, "quarantined": 0, "reasons": [], "author": "a", "run_id": None}
    home.state.record_batch(day=DAY, workflow="comms", digest="another", **told)
    assert verdicts.reference(home.state, DAY + timedelta(days=1), "comms").profiles == ()


def test_a_feed_that_falls_silent_holds_the_batch(home: Home) -> None:
    for n in range(7):
        write(home, DAY + timedelta(days=n), ordinary_day(40))
        judge(home, DAY + timedelta(days=n))
    silent = judge(home, DAY + timedelta(days=7))
    assert silent.reasons == ("drift of volume: 0 rows, the median is 40",)
    assert judge(home, DAY - timedelta(days=30)).passed


@pytest.mark.parametrize(
    ("reason", "told"), [("  ", "expected a sentence"), ("good", "expected a held batch, it was never judged")]
)
def test_a_release_needs_a_held_batch_and_a_reason(home: Home, reason: str, told: str) -> None:
    with pytest.raises(BadInputError, match=told):
        verdicts.release(home.state, DAY, "comms", reason=reason, author="lead")
