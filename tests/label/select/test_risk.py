"""Signs of harm, and red-team tasks: from the workflow's own definition."""

from __future__ import annotations

import pyarrow as pa

from loop.label.select import risk
from loop.label.select.red_team import red_team
from loop.label.select.words import words
from loop.label.tasks import Kind
from loop.workflows import WORKFLOWS
from tests.rows import DAY

ADS, MODERATION = WORKFLOWS["ads"], WORKFLOWS["moderation"]


def test_cues_are_words_in_any_case_and_a_workflow_has_more() -> None:
    texts = ["I will KILL it, bomb.", "skills and bombast", "posted threats and leaks", ""]
    assert risk.cued(ADS, words(pa.array(texts))).tolist() == [2, 0, 0, 0]
    assert risk.cued(MODERATION, words(pa.array(texts))).tolist() == [2, 0, 2, 0]
    assert risk.harm(MODERATION, *texts[2:]) == "violence, privacy"
    assert risk.harm(ADS, *texts[1:]) is None


def test_a_broken_house_rule_is_a_risk_and_a_kept_one_is_not() -> None:
    brief = "ads brief: sell shoes by Acme to students on search, goal signups, budget tiny"
    kept = "target newcomers with price angle, playful tone, claim tested, bid tiny"
    assert risk.broken(ADS, brief, kept) == 0.0
    assert risk.broken(ADS, brief, kept, kept.replace("bid tiny", "bid top")) == 0.5
    assert risk.broken(ADS, brief, "no ad at all") == 0.0


def test_red_team_asks_once_for_each_way_to_be_wrong() -> None:
    rows = red_team(ADS, DAY)
    assert [row["options"][0] for row in rows][:4] == ["within_budget", "provable", "format", "unequal by brand"]
    assert {row["kind"] for row in rows} == {Kind.RED_TEAM}
    assert all(not row["texts"] and row["prompt"] for row in rows)
    assert [row["label_task_id"] for row in rows] == [row["label_task_id"] for row in red_team(ADS, DAY)]
    assert len({row["label_task_id"] for row in rows}) == len(rows) == 4 + len(risk.CUES)
    assert {row["options"][0] for row in rows if row["harm"]} == set(risk.CUES)
