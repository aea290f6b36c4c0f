"""A delivery is taken or turned down by its known items, with the evidence, and again when something changed."""

from __future__ import annotations

import json
from datetime import timedelta
from fractions import Fraction
from math import comb
from pathlib import Path

import pytest

from loop.errors import BadInputError
from loop.home import Home
from loop.label import annotations, gold, prongs
from loop.label.vendor import ledger
from loop.label.vendor.deliver import deliver
from loop.label.vendor.judge import judge
from loop.label.vendor.ledger import Batch, Verdict
from tests.label.vendor.batches import DAY, DUE, NOW, PLAN, answered, exported, filled
from tests.label.vendor.test_deliver import stored, take


def decide(home: Home, batch: Batch) -> Verdict:
    return judge(home.settings, home.lake, home.state, batch.batch_id, now=NOW, author="lead")


def counting(home: Home) -> int:
    return annotations.latest(home.state, DAY, "moderation").num_rows


def test_a_good_delivery_counts_from_then_on(home: Home, tmp_path: Path) -> None:
    filled(home)
    done, batch, _ = exported(home, tmp_path / "out")
    path = answered(batch, tmp_path / "answers.csv", wrong=PLAN.allowed)
    take(home, batch, path)
    verdict = decide(home, batch)
    assert (verdict.accepted, verdict.answers, counting(home)) == (True, done.sent, done.sent)
    assert take(home, batch, path) == {"rows": done.sent, "repeated": done.sent}
    assert counting(home) == done.sent  # the same file again takes nothing back
    again = decide(home, batch)
    assert again.accepted
    assert len(stored(home)) == 2 * done.sent  # not counted at first, then counted; not once more
    (known_to,) = {row["annotator"] for row in stored(home)}
    assert len(gold.judged(home.state, known_to)) == PLAN.inspected


def test_a_bad_delivery_is_kept_and_does_not_count(home: Home, tmp_path: Path) -> None:
    filled(home)
    done, batch, _ = exported(home, tmp_path / "out")
    take(home, batch, answered(batch, tmp_path / "answers.csv", wrong=PLAN.allowed + 1))
    verdict = decide(home, batch)
    evidence = verdict.evidence
    assert (verdict.accepted, counting(home), len(stored(home))) == (False, 0, done.sent)
    assert (evidence["inspected"], evidence["wrong"], evidence["allowed"]) == (
        PLAN.inspected,
        PLAN.allowed + 1,
        PLAN.allowed,
    )
    wrong = [item for item in evidence["items"] if item["wrong"]]
    assert [(item["right"], item["answered"]) for item in wrong] == [("fine", ["spam"])] * (PLAN.allowed + 1)
    assert all(batch.items[item["item"]].known for item in wrong)
    rate, n = Fraction(1, 10), PLAN.inspected
    exact = sum(comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(PLAN.allowed + 1, n + 1))
    assert evidence["p_value"] == pytest.approx(float(exact))
    assert evidence["consumer_risk"] == pytest.approx(PLAN.consumer_risk)
    (told,) = (row for row in home.state.arrow("audit").to_pylist() if row["action"].startswith("vendor."))
    assert (told["action"], told["subject"], told["actor"]) == ("vendor.reject", batch.batch_id, "lead")
    assert json.loads(told["detail"])["wrong"] == PLAN.allowed + 1


def test_a_corrected_known_answer_changes_the_verdict_and_both_stand(home: Home, tmp_path: Path) -> None:
    rows = {row["label_task_id"]: row for row in filled(home)}
    done, batch, _ = exported(home, tmp_path / "out")
    take(home, batch, answered(batch, tmp_path / "answers.csv", wrong=PLAN.allowed + 1))
    first = decide(home, batch)
    wrong = next(item for item in first.evidence["items"] if item["wrong"])
    gold.put(home.state, rows[wrong["label_task_id"]], label="spam", reason="appeal upheld", author="lead")
    second = decide(home, batch)
    assert (first.accepted, second.accepted, second.evidence["wrong"]) == (False, True, PLAN.allowed)
    assert counting(home) == done.sent
    assert [one.accepted for one in ledger.load(home.settings, batch.batch_id).verdicts] == [False, True]
    gold.put(home.state, rows[wrong["label_task_id"]], label="fine", reason="wrongly upheld", author="lead")
    assert not decide(home, batch).accepted
    assert counting(home) == 0  # what was taken can be turned down again


def test_a_known_item_that_is_left_out_or_late_is_wrong(home: Home, tmp_path: Path) -> None:
    filled(home)
    _, batch, _ = exported(home, tmp_path / "out")
    take(home, batch, answered(batch, tmp_path / "answers.csv", skip=PLAN.allowed + 1))
    verdict = decide(home, batch)
    assert (verdict.accepted, verdict.evidence["wrong"]) == (False, PLAN.allowed + 1)
    take(home, batch, answered(batch, tmp_path / "more.csv"), DUE + timedelta(hours=1))
    assert not decide(home, batch).accepted
    take(home, batch, answered(batch, tmp_path / "more.csv"), DUE)  # said already, however late
    assert not decide(home, batch).accepted


def test_a_contradiction_that_came_late_does_not_make_an_answer_in_time_none(home: Home, tmp_path: Path) -> None:
    filled(home)
    done, batch, _ = exported(home, tmp_path / "out")
    take(home, batch, answered(batch, tmp_path / "answers.csv"))
    late = answered(batch, tmp_path / "late.csv", wrong=PLAN.allowed + 1)
    assert take(home, batch, late, DUE + timedelta(hours=1))["late"] == PLAN.allowed + 1
    verdict = decide(home, batch)
    assert (verdict.accepted, verdict.evidence["wrong"], verdict.answers) == (True, 0, done.sent)
    assert set(annotations.latest(home.state, DAY, "moderation")["label"].to_pylist()) == {"fine"}
    assert counting(home) == done.sent


def test_once_turned_down_nothing_counts_also_not_what_was_corrected_since_it_was_taken(
    home: Home, tmp_path: Path
) -> None:
    filled(home)
    done, batch, _ = exported(home, tmp_path / "out")
    good = answered(batch, tmp_path / "answers.csv")
    take(home, batch, good)
    assert decide(home, batch).accepted
    take(home, batch, answered(batch, tmp_path / "corrected.csv", wrong=PLAN.allowed + 1))
    assert counting(home) == done.sent  # the verdict of before holds
    assert not decide(home, batch).accepted
    assert counting(home) == 0
    versions = len(stored(home))
    again = decide(home, batch)
    assert (again.accepted, again.answers, again.evidence["wrong"]) == (False, done.sent, PLAN.allowed + 1)
    assert (counting(home), len(stored(home))) == (0, versions)  # the same verdict stores nothing more
    take(home, batch, good)
    assert not decide(home, batch).accepted  # once turned down it is looked at no more
    assert counting(home) == 0


@pytest.mark.parametrize(("workers", "wrong"), [(2, PLAN.allowed + 1), (3, 0)])
def test_of_several_answers_to_a_known_item_half_must_not_be_wrong(
    home: Home, tmp_path: Path, workers: int, wrong: int
) -> None:
    filled(home)
    done, batch, _ = exported(home, tmp_path / "out")
    for n in range(workers):
        said = PLAN.allowed + 1 if n == 0 else 0
        take(home, batch, answered(batch, tmp_path / "answers.csv", wrong=said, worker=f"w{n}"))
    verdict = decide(home, batch)
    assert (verdict.evidence["wrong"], verdict.answers) == (wrong, workers * done.sent)
    assert counting(home) == (0 if wrong else workers * done.sent)


def test_once_turned_down_nothing_that_comes_later_is_looked_at(home: Home, tmp_path: Path) -> None:
    rows = {row["label_task_id"]: row for row in filled(home)}
    done, batch, _ = exported(home, tmp_path / "out")
    take(home, batch, answered(batch, tmp_path / "answers.csv", wrong=PLAN.allowed + 1))
    first = decide(home, batch)
    for worker in ("w1", "w2", "w3"):  # changed, and outvoted
        take(home, batch, answered(batch, tmp_path / "again.csv", worker=worker))
        again = decide(home, batch)
        assert (again.accepted, again.answers, again.evidence["items"]) == (False, done.sent, first.evidence["items"])
    assert counting(home) == 0
    wrong = next(item for item in first.evidence["items"] if item["wrong"])
    gold.put(home.state, rows[wrong["label_task_id"]], label="spam", reason="appeal upheld", author="lead")
    assert decide(home, batch).accepted
    assert counting(home) == done.sent


def test_fewer_known_items_keep_the_consumers_risk_or_decide_nothing(home: Home, tmp_path: Path) -> None:
    rows = {row["label_task_id"]: row for row in filled(home)}
    _, batch, _ = exported(home, tmp_path / "out")
    take(home, batch, answered(batch, tmp_path / "answers.csv"))
    known = [item.label_task_id for item in batch.items.values() if item.known]
    gold.put(home.state, rows[known[0]], label=None, reason="nobody knows", author="lead")
    evidence = decide(home, batch).evidence
    assert evidence["inspected"] == PLAN.inspected - 1
    assert evidence["consumer_risk"] <= PLAN.consumer
    for task in known[1:-1]:
        gold.put(home.state, rows[task], label=None, reason="nobody knows", author="lead")
    with pytest.raises(BadInputError, match=f"{PLAN.inspected} were planned"):
        decide(home, batch)
    assert len(ledger.load(home.settings, batch.batch_id).verdicts) == 1


def test_there_must_be_something_to_decide_on(home: Home, tmp_path: Path) -> None:
    filled(home)
    _, batch, _ = exported(home, tmp_path / "out")
    with pytest.raises(BadInputError, match=r"nothing of batch b.* came back in time"):
        decide(home, batch)
    path = answered(batch, tmp_path / "late.csv")
    deliver(home.settings, home.lake, home.state, batch.batch_id, path, now=DUE + timedelta(days=1), author="lead")
    with pytest.raises(BadInputError, match="came back in time"):
        decide(home, batch)


def test_an_answer_costs_what_was_agreed_on_for_its_batch(home: Home, tmp_path: Path) -> None:
    filled(home)
    done, batch, _ = exported(home, tmp_path / "out", price=0.08)
    other, unpriced, _ = exported(home, tmp_path / "other", vendor="bolt", most=1)
    for one, name in ((batch, "one"), (unpriced, "two")):
        take(home, one, answered(one, tmp_path / f"{name}.csv"))
        assert decide(home, one).accepted
    found = prongs.compare(home.settings, home.lake, home.state, "moderation", (DAY, DAY))
    (source,) = found.sources
    assumed = other.sent * home.settings.answer_cost
    assert (source.source, source.answers) == ("vendor", done.sent + other.sent)
    assert source.cost == pytest.approx(done.sent * 0.08 + assumed)
