"""The workflows: their formats read back what they write, and their rules know formats and house rules only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop import schema
from loop.workflows import WORKFLOWS, Workflow

EXAMPLES = {
    "ads": "target newcomers with price angle, playful tone, claim tested, bid low",
    "moderation": "remove for harm, severity high, then watch",
    "design": "solid work; fix contrast: enlarge for hierarchy",
    "comms": "Hi there, good news, please confirm. Warmly",
}
each_workflow = pytest.mark.parametrize("workflow", WORKFLOWS.values(), ids=list(WORKFLOWS))


def answers(workflow: Workflow) -> st.SearchStrategy[dict[str, str]]:
    return st.fixed_dictionaries({part: st.sampled_from(values) for part, values in workflow.parts.items()})


def test_they_stand_in_the_schemas_order() -> None:
    assert tuple(WORKFLOWS) == schema.WORKFLOWS
    assert all(name == workflow.name for name, workflow in WORKFLOWS.items())


@each_workflow
@given(data=st.data())
def test_what_is_written_is_read_back(workflow: Workflow, data: st.DataObject) -> None:
    parts = data.draw(answers(workflow))
    assert workflow.parse(workflow.render(parts)) == parts
    assert workflow.parse("\n " + workflow.render(parts).upper() + "  ") == parts


@each_workflow
@given(text=st.text(max_size=200))
def test_any_text_parses_or_does_not_but_never_raises(workflow: Workflow, text: str) -> None:
    parsed = workflow.parse(text)
    if workflow.free_text:
        assert (parsed is None) == (not text.strip())
    grades = workflow.grade(text, text)
    assert grades["format"] == float(parsed is not None)
    assert all(0.0 <= grade <= 1.0 for grade in grades.values())


@each_workflow
def test_the_house_lists_hold_no_value_twice_and_none_that_breaks_the_form(workflow: Workflow) -> None:
    values = [value.casefold() for part in workflow.parts.values() for value in part]
    assert len(set(values)) == len(values)
    assert not [value for value in values if set(value) & set(",.;:\n")]


@each_workflow
def test_limits_and_bounds_are_sane(workflow: Workflow) -> None:
    assert 0 < workflow.max_answer_tokens <= 32
    assert 0 < workflow.margin < 0.5
    assert set(workflow.decision_mix) == set(schema.Decision)
    assert all(0 <= least < most <= 1 for least, most in workflow.decision_mix.values())
    assert workflow.attribution_window.days >= 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ads", ""),
        ("ads", "target newcomers with price angle, playful tone, claim tested"),
        ("ads", EXAMPLES["ads"] + " and more. And more"),
        ("ads", EXAMPLES["moderation"]),
        ("moderation", "remove for harm"),
        ("design", "solid work; fix contrast"),
        ("design", "solid work; fix contrast: enlarge for hierarchy\nsolid work; fix type: crop for unity"),
        ("comms", "  \n"),
    ],
)
def test_what_does_not_parse(name: str, text: str) -> None:
    assert WORKFLOWS[name].parse(text) is None
    assert WORKFLOWS[name].grade("", text)["format"] == 0.0


def test_a_value_off_the_list_parses_and_is_graded_down() -> None:
    text = EXAMPLES["ads"].replace("tested", "probably  fine")
    assert WORKFLOWS["ads"].parse(text)["claim"] == "probably fine"
    assert WORKFLOWS["ads"].grade("", text)["house_list"] == pytest.approx(4 / 5)


def test_free_text_is_an_answer_and_its_known_parts_are_found() -> None:
    comms = WORKFLOWS["comms"]
    assert comms.parse("The quick brown fox jumped over the fence.") == {}
    assert comms.parse("Dear friend, I write with good news: we won.\n\nWARMLY, Ana") == {
        "greeting": "Dear friend",
        "lead": "good news",
        "close": "Warmly",
    }
    assert comms.parse("Hellowarmly thankyou") == {}
    assert comms.grade("", "The quick brown fox.") == {"format": 1.0, "length": 1.0, "house_list": 0.0}


@pytest.mark.parametrize(
    ("name", "prompt", "change", "rule", "grade"),
    [
        ("ads", "budget low", {}, "within_budget", 1.0),
        ("ads", "budget tiny", {}, "within_budget", 0.0),
        ("ads", "no money is named", {}, "within_budget", None),
        ("ads", "", {"claim": "unbeatable"}, "provable", 0.0),
        ("ads", "", {}, "provable", 1.0),
        ("moderation", "", {"decision": "keep", "severity": "critical"}, "proportionate", 0.0),
        ("moderation", "", {"decision": "keep", "severity": "minor"}, "proportionate", 1.0),
        ("moderation", "", {"severity": "high", "next": "close"}, "attended", 0.0),
        ("moderation", "", {"severity": "minor", "next": "close"}, "attended", None),
        ("design", "", {"verdict": "brilliant"}, "candid", 0.0),
        ("comms", "", {"lead": "you are the best"}, "substantial", 0.0),
        ("comms", "", {}, "signed", 1.0),
    ],
)
def test_house_rules(name: str, prompt: str, change: dict[str, str], rule: str, grade: float | None) -> None:
    workflow = WORKFLOWS[name]
    answer = workflow.render({**workflow.parse(EXAMPLES[name]), **change})
    assert workflow.grade(prompt, answer).get(rule) == grade


@each_workflow
def test_a_long_answer_breaks_the_rule_and_costs_no_time(workflow: Workflow) -> None:
    long = EXAMPLES[workflow.name].split()[0] + " with" * 200_000
    assert workflow.grade("", long)["length"] == 0.0
