"""How many answers a task has, as Label Studio's projects are filled by it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from loop import schema
from loop.home import Home
from loop.label import annotators, pool
from loop.label.annotations import Annotation, record
from loop.label.tasks import Kind
from loop.lake import from_rows
from tests.label.studio.studios import question

AT = datetime(2026, 1, 6, 9, tzinfo=UTC)


def test_only_answers_of_people_that_stand_are_answers(home: Home) -> None:
    row = question(Kind.RATING, due_at=AT)
    key = row["label_task_id"]
    (ann, words) = (
        annotators.add(home.settings, home.state, person=person, workflows=["design"], author="lead")[0].annotator
        for person in ("ann", "words")
    )
    said = [
        Annotation(key, words, AT, "function", label="good"),
        Annotation(key, ann, AT, "page", label="good"),
        Annotation(key, ann, AT + timedelta(seconds=1), "page", label="poor"),
    ]
    for given, answers in ((said[:1], {}), (said[1:2], {key: 1}), (said[2:], {key: 1})):
        record(home.state, from_rows([row], schema.LABEL_TASKS), given)
        assert pool.standing_of(home.state, [key]) == answers
