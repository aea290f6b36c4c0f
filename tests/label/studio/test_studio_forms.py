"""What a task looks like in Label Studio, and what may come back: answers, and whatever else can be sent to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.config import load
from loop.label import annotations
from loop.label.annotations import Action, Annotation
from loop.label.studio import forms, hook
from loop.label.studio.forms import Form, Said, Unreadable, data, read, reason_of
from loop.label.tasks import Kind
from loop.privacy.recognise import find
from tests.label.studio.studios import now, question

TASKS = {kind: question(kind) for kind in Kind}


def part(name: str, **value: Any) -> dict[str, Any]:
    return {"from_name": name, "to_name": "text", "type": "any", "value": value}


def chosen(label: str) -> list[dict[str, Any]]:
    return [part("answer", choices=[label])]


@pytest.mark.parametrize("kind", Kind)
def test_an_interface_shows_all_that_the_task_has_and_asks_for_what_is_read(kind: Kind) -> None:
    row = TASKS[kind]
    view = ET.fromstring(Form.of(row).config())
    values = {tag.get("value", "")[1:] for tag in view.iter() if tag.get("value", "").startswith("$")}
    assert values == set(data(row, swapped=False))
    named = {tag.get("name") for tag in view.iter()} - {None}
    for tag in view.iter():
        assert tag.get("toName") in {None, *named}
    asked = {tag.get("name") for tag in view.iter() if tag.get("toName")}
    assert asked == ({"attempt", "outcome", "severity", "reason"} if kind is Kind.RED_TEAM else {"answer", "reason"})


def test_a_project_is_of_one_workflow_kind_and_make_up() -> None:
    rows = [*TASKS.values(), question(Kind.CATEGORY, harm="insults"), question(Kind.CATEGORY, images=["a"], texts=[])]
    made = [Form.of(row) for row in rows]
    assert len({form.mark("home") for form in made}) == len({form.title for form in made}) == len(rows)
    assert [form.title for form in made][-2:] == [
        "Loop moderation: category (harmful)",
        "Loop moderation: category images",
    ]
    assert all(len(form.title) <= 50 for form in made)  # no longer one is taken
    assert "Warning: $warning" in made[-2].config()
    assert data(rows[-2], swapped=False)["warning"] == "insults"


def test_sides_are_swapped_together_and_named_as_the_tasks_own() -> None:
    row = question(Kind.PREFERENCE, images=["a.png", "b.png"])
    shown = data(row, swapped=True)
    assert (shown["left_text"], shown["right_text"]) == (row["texts"][1], row["texts"][0])
    assert (shown["left_image"], shown["right_image"]) == ("b.png", "a.png")
    for swapped, labels in ((False, ["first", "second"]), (True, ["second", "first"])):
        assert [read(row, chosen(side), swapped=swapped).label for side in ("left", "right")] == labels
        assert [read(row, chosen(side), swapped=swapped).label for side in ("tie", "neither")] == ["tie", "neither"]


def test_answers_of_the_other_kinds() -> None:
    span = part("answer", start=3, end=4, text="\U0001f600", labels=["tone"])
    lines = part("answer", start=5, end=16, text="world,\\nline", labels=["error"])
    said = {
        Kind.RATING: (chosen("fair"), Said("fair")),
        Kind.CATEGORY: ([*chosen("spam"), part("reason", text=["sure"])], Said("spam", reason="sure")),
        Kind.SPAN: (
            [lines, span, span],
            Said(
                content='[{"start": 3, "end": 4, "type": "tone"}, {"start": 5, "end": 16, "type": "error"}]',
            ),
        ),
        Kind.REWRITE: ([part("answer", text=["better"])], Said(content='"better"')),
        Kind.RED_TEAM: (
            [part("attempt", text=["x"]), part("outcome", choices=["partly"]), part("severity", choices=["low"])],
            Said(content='{"attempt": "x", "outcome": "partly", "severity": "low"}'),
        ),
    }
    for kind, (result, expected) in said.items():
        assert read(TASKS[kind], result, swapped=False) == expected
    assert read(TASKS[Kind.SPAN], [], swapped=False) == Said(content="[]")  # there is nothing to mark


def test_personal_data_that_a_person_writes_is_masked() -> None:
    written = [part("answer", text=["ask jane@example.org"]), part("reason", text=["or jane@example.org"])]
    told = read(TASKS[Kind.REWRITE], written, swapped=False, find=find)
    assert told == Said(content='"ask <EMAIL_ADDRESS_1>"', reason="or <EMAIL_ADDRESS_1>")
    assert reason_of([part("reason", text=["as jane@example.org says"])], find) == "as <EMAIL_ADDRESS_1> says"


@pytest.mark.parametrize(
    ("kind", "result", "why"),
    [
        (Kind.PREFERENCE, chosen("first"), "a choice that the task does not offer"),
        (Kind.PREFERENCE, [], "no answer"),
        (Kind.PREFERENCE, chosen("left") * 2, "several answers in one"),
        (Kind.PREFERENCE, [part("answer", choices=["left", "tie"])], "several answers in one"),
        (Kind.PREFERENCE, [part("nope", choices=["left"])], "a name that the interface does not have"),
        (Kind.CATEGORY, chosen("eggs"), "a choice that the task does not offer"),
        (Kind.CATEGORY, {"answer": "spam"}, "a result that is none of Label Studio's"),
        (Kind.CATEGORY, [{"from_name": "answer"}], "a result that is none of Label Studio's"),
        (Kind.SPAN, [part("answer", start=0, end=99, labels=["tone"])], "a passage that is not of the text"),
        (Kind.SPAN, [part("answer", start=0, end=2, text="Ho", labels=["tone"])], "a passage that is not of the text"),
        (Kind.SPAN, [part("answer", start=True, end=2, labels=["tone"])], "a passage that is not of the text"),
        (Kind.SPAN, [part("answer", start=0, end=2, labels=["odd"])], "a choice that the task does not offer"),
        (Kind.REWRITE, [part("answer", text=[" "])], "no answer"),
        (Kind.REWRITE, [part("answer", text=["bad 0"])], "a text that is as it was"),
        (Kind.RED_TEAM, [part("attempt", text=["x"])], "no answer"),
    ],
)
def test_what_means_nothing_is_set_aside_with_a_reason(kind: Kind, result: Any, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        read(TASKS[kind], result, swapped=False)


WORDS = st.sampled_from(
    ["answer", "reason", "attempt", "left", "tie", "spam", "fair", "tone", "broken", "high", "Hi", "choices", "labels"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 30) | st.floats(allow_nan=True) | WORDS | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.sampled_from(["text", "start", "end"]), inner)
    ),
    max_leaves=8,
)
PARTS = st.lists(
    st.fixed_dictionaries(
        {
            "from_name": st.sampled_from(["answer", "reason", "attempt", "outcome", "severity", "x"]),
            "value": st.dictionaries(st.sampled_from(["choices", "text", "labels", "start", "end"]), JSON),
        }
    ),
    max_size=4,
)


@given(st.sampled_from(list(Kind)), JSON | PARTS, st.booleans())
def test_whatever_is_sent_fits_its_task_or_is_set_aside(kind: Kind, result: Any, swapped: bool) -> None:
    row = TASKS[kind]
    assert reason_of(result) is None or isinstance(reason_of(result), str)
    try:
        said = read(row, result, swapped=swapped)
    except Unreadable as why:
        assert str(why) in REASONS  # noqa: PT017 - few, so that they can be counted
        return
    told = {"label": said.label, "content": said.content, "reason": said.reason}
    made = Annotation(row["label_task_id"], "p", now(), "studio", action=Action.ANSWER, **told)
    assert annotations.problem_of(row, made) is None
    assert said.content is None or json.loads(said.content) is not None


REASONS = {
    "a result that is none of Label Studio's",
    "a name that the interface does not have",
    "no answer",
    "several answers in one",
    "a choice that the task does not offer",
    "a passage that is not of the text",
    "a text that is as it was",
}


def test_the_mark_leads_back_to_the_project(tmp_path: Path) -> None:
    from loop.label.studio.push import ours

    form, settings = Form.of(TASKS[Kind.SPAN]), load(home=tmp_path)
    mark = form.mark(hook.owner(settings))
    theirs = {"id": 1, "description": "somebody's own"}
    others = [
        {"id": 5, "description": form.mark("0123456789abcdef")},
        {"id": 6, "description": "[loop:comms/span/texts]"},
    ]
    older, newer = ({"id": n, "description": f"renamed. {mark}"} for n in (2, 3))
    assert ours(settings, [newer, theirs, older, *others, {"id": 4, "description": None}]) == {mark: older}
    assert forms.ANSWER in form.config()
