"""Label Studio shows every project to everybody: what may upset goes there only if all of them agreed to see such."""

from __future__ import annotations

from typing import Any

import pytest

from loop.home import Home
from loop.label import annotators, tasks
from loop.label.outside import enlist
from loop.label.studio import push
from loop.label.tasks import Kind
from tests.label.studio import studios
from tests.label.studio.memory import Memory
from tests.label.studio.studios import question


@pytest.fixture
def asked(home: Home) -> Home:
    tasks.add(home.lake, home.state, [question(Kind.CATEGORY, 1), question(Kind.CATEGORY, 2, harm="insults")])
    return home


def invited(home: Home, person: str, *, harmful: bool) -> str:
    name = enlist(home.settings, home.state, person=person, source="studio", author="lead")
    assert annotators.agree(home.state, name, harmful=harmful, source="studio")
    return name


def send(home: Home, there: Memory, **given: Any) -> tuple[int, dict[str, int]]:
    done = push.push(home.settings, home.lake, home.state, there, now=studios.now(), **given)
    return done.new, dict(done.left_out)


def test_what_may_upset_goes_only_where_everybody_agreed(asked: Home) -> None:
    there = Memory()
    there.people = {1: "loop@localhost", 2: "Ann@example.org", 3: "ben@example.org"}
    not_agreed = {push.NOT_AGREED: 1}
    assert send(asked, there) == (1, {"harmful": 1})
    invited(asked, "ann@example.org", harmful=True)
    assert send(asked, there, harmful=True) == (0, not_agreed), "ben has an account and was not invited"
    ben = invited(asked, "ben@example.org", harmful=False)
    assert send(asked, there, harmful=True) == (0, not_agreed)
    assert annotators.agree(asked.state, ben, harmful=True, source="studio")
    assert send(asked, there, harmful=True) == (1, {})
    assert [project["title"] for project in there.made][-1] == "Loop moderation: category (harmful)"


def test_agreement_ends_with_whoever_gave_it_and_nobody_is_not_everybody(asked: Home) -> None:
    there = Memory()
    there.people = {1: "loop@localhost"}
    assert send(asked, there, harmful=True) == (1, {push.NOT_AGREED: 1})
    there.people[2] = "ann@example.org"
    ann = invited(asked, "ann@example.org", harmful=True)
    annotators.remove(asked.settings, asked.state, ann, "lead")
    assert send(asked, there, harmful=True) == (0, {push.NOT_AGREED: 1}), "the account is still there"


def test_nobody_agrees_for_a_person_of_the_page(home: Home) -> None:
    (ann, _) = annotators.add(home.settings, home.state, person="ann@example.org", workflows=["ads"], author="lead")
    name = enlist(home.settings, home.state, person="ann@example.org", source="studio", author="lead")
    assert name == ann.annotator
    assert not annotators.agree(home.state, name, harmful=True, source="studio")
    assert [one.harmful for one in annotators.annotators(home.state)] == [False]
    assert annotators.agree(home.state, name, harmful=True)


def test_who_is_known_from_a_file_can_agree_when_invited(home: Home) -> None:
    name = enlist(home.settings, home.state, person="ann@example.org", source="import", author="lead")
    assert not annotators.agree(home.state, name, harmful=True), "nobody logged in as that person"
    assert annotators.agree(home.state, name, harmful=True, source="studio")
    assert [one.harmful for one in annotators.annotators(home.state)] == [True]
