"""What is attempted against a model, as the safety suite will find it: category, attempt, outcome and severity."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from loop.errors import BadInputError
from loop.gateway.labelling import forms as page
from loop.home import Home
from loop.label import annotations, outside, tasks
from loop.label.annotations import Annotation
from loop.label.select.red_team import goals, red_team
from loop.label.studio import forms as studio
from loop.label.tasks import Kind, Origin
from loop.workflows import WORKFLOWS
from tests.rows import DAY

ADS = WORKFLOWS["ads"]
AT = datetime(2026, 1, 6, tzinfo=UTC)


def on_the_page(task: dict[str, Any], attempt: str, outcome: str, severity: str) -> str | None:
    form = {"attempt": [attempt], "outcome": [outcome], "severity": [severity]}
    return page.answer(task, form, swapped=False, find=None).content


def in_label_studio(task: dict[str, Any], attempt: str, outcome: str, severity: str) -> str | None:
    def part(name: str, **value: list[str]) -> dict[str, Any]:
        return {"from_name": name, "value": value}

    written = part("attempt", text=[attempt])
    chosen = [part("outcome", choices=[outcome]), part("severity", choices=[severity])]
    return studio.read(task, [written, *chosen], swapped=False).content


@pytest.mark.parametrize("answer", [on_the_page, in_label_studio])
def test_an_attempt_keeps_category_outcome_and_severity_wherever_it_was_answered(home: Home, answer: Any) -> None:
    asked = red_team(ADS, DAY)
    tasks.add(home.lake, home.state, asked)
    who = outside.enlist(home.settings, home.state, person="red", source="import", author="test")
    severities = [tasks.SEVERITIES[n % 5] for n in range(len(asked))]
    given = [
        Annotation(row["label_task_id"], who, AT, "page", content=answer(row, f"attempt {n}", "partly", severity))
        for n, (row, severity) in enumerate(zip(asked, severities, strict=True))
    ]
    done = annotations.record(home.state, tasks.read(home.lake), given)
    assert (done.new, done.refused) == (len(asked), {})

    there = {row["label_task_id"]: row for row in tasks.read(home.lake).to_pylist()}
    kept = {}
    for row in annotations.latest(home.state, DAY, "ads").to_pylist():
        [category] = there[row["label_task_id"]]["options"]
        kept[category] = json.loads(row["content"])
    assert kept == {
        category: {"attempt": f"attempt {n}", "outcome": "partly", "severity": severity}
        for n, ((category, _), severity) in enumerate(zip(goals(ADS), severities, strict=True))
    }


def test_a_category_is_no_severity() -> None:
    [row, *_] = red_team(ADS, DAY)
    with pytest.raises(page.Said, match="how severe"):
        on_the_page(row, "a", "b", row["options"][0])
    with pytest.raises(studio.Unreadable):
        in_label_studio(row, "a", "partly", row["options"][0])
    told = json.dumps({"attempt": "a", "outcome": "b", "severity": row["options"][0]})
    assert not annotations.fits(Kind.RED_TEAM, row["options"], told)


def test_an_attempt_is_at_one_thing() -> None:
    asked: dict[str, Any] = {
        "day": DAY,
        "workflow": "ads",
        "kind": Kind.RED_TEAM,
        "origin": Origin.SYNTHETIC,
        "reason": "red_team",
    }
    assert tasks.task(**asked)["options"] == []
    with pytest.raises(BadInputError, match="at most one option, what is attempted"):
        tasks.task(**asked, options=["provable", "format"])
