"""How people decide: by utility with noise, position, anchoring, fatigue; edits repair little and never everything."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from loop.schema import Decision
from loop.simulate import people
from loop.simulate.organisation import Organisation
from loop.simulate.people import Circumstances, Employee, Moment
from loop.simulate.prompts import Brief, Purpose, distinct, read
from loop.simulate.streams import stream
from loop.simulate.world import PLEASING, World
from loop.workflows import WORKFLOWS

FRESH = Circumstances(fatigue=0.0, difficulty=1.0, haste=0.0)
SOMEONE = Employee("e", "ads", "t", "emea", 0.3, 1.0, 0.4, 0.0, 0.5, 0.0, 0.0)
BRIEFS = distinct(stream("people"), "ads", Purpose.TRAIN, 400)
LISTS = WORKFLOWS["ads"].parts
WORLD = World(0)


def someone_before(i: int, person: Employee = SOMEONE, state: Circumstances = FRESH) -> Moment:
    return Moment(stream("moment", i), WORLD, BRIEFS[i], person, state)


def random_answer(i: int, name: str = "") -> str:
    rng = stream("answer", i, name)
    return WORKFLOWS["ads"].render({part: str(rng.choice(values)) for part, values in LISTS.items()})


def utility(brief: Brief, text: str) -> float:
    return WORLD.utility(brief, WORKFLOWS[brief.workflow].parse(text))


def agreement(person: Employee = SOMEONE, state: Circumstances = FRESH) -> float:
    """How often a clearly better answer is preferred, among preferences for a side."""
    right = []
    for i, brief in enumerate(BRIEFS):
        left, other = random_answer(i, "left"), random_answer(i, "right")
        difference = utility(brief, left) - utility(brief, other)
        choice, _ = someone_before(i, person, state).compare(left, other)
        if abs(difference) > 0.2 and choice in ("left", "right"):
            right.append((choice == "left") == (difference > 0))
    return float(np.mean(right))


def test_people_agree_with_the_truth_on_clear_pairs_but_not_always() -> None:
    assert 0.7 < agreement() < 0.9


def test_skill_helps_and_fatigue_and_difficulty_hurt() -> None:
    ordinary = agreement()
    assert agreement(replace(SOMEONE, skill=2.0)) > ordinary
    assert agreement(replace(SOMEONE, tiring=2.0), Circumstances(1.0, 1.0, 0.0)) < ordinary
    assert agreement(state=Circumstances(0.0, 3.0, 0.0)) < ordinary


def decisions(person: Employee, state: Circumstances = FRESH, *, edits: bool = True) -> list[people.Judgement]:
    return [
        someone_before(i, person, state).decide((random_answer(i, "left"), random_answer(i, "right")), edits=edits)
        for i in range(len(BRIEFS))
    ]


def share(judged: list[people.Judgement], decision: Decision) -> float:
    return float(np.mean([j.decision is decision for j in judged]))


def test_the_strict_accept_less() -> None:
    accepted = [share(decisions(replace(SOMEONE, strictness=s)), Decision.ACCEPT) for s in (0.0, 0.3, 0.6)]
    assert accepted[0] > accepted[1] > accepted[2] > 0


def test_what_stands_first_is_taken_more_often_by_the_biased() -> None:
    def first(bias: float) -> float:
        judged = decisions(replace(SOMEONE, position_bias=bias))
        return float(np.mean([j.chosen == 0 for j in judged if j.chosen is not None]))

    assert first(0.0) == pytest.approx(0.5, abs=0.08)
    assert first(0.3) > 0.65


def test_the_anchored_repair_less() -> None:
    def repairs(anchoring: float) -> Counter[int]:
        judged = decisions(replace(SOMEONE, anchoring=anchoring))
        return Counter(len(j.reasons) for j in judged if j.decision is Decision.MODIFY)

    assert set(repairs(1.0)) == {1}
    assert set(repairs(0.0)) <= {1, 2}
    assert repairs(0.0)[2] > 10 * repairs(0.0)[1]


def test_careless_people_take_the_first_unread_and_absent_ones_nothing() -> None:
    careless = decisions(replace(SOMEONE, carelessness=1.0))
    assert all(j.decision is Decision.ACCEPT and j.chosen == 0 and j.dwell.total_seconds() < 5 for j in careless)
    assert all(j.decision is Decision.IGNORE and j.dwell is None for j in decisions(replace(SOMEONE, absence=1.0)))
    hasty = decisions(SOMEONE, replace(FRESH, haste=0.9))
    assert share(hasty, Decision.ACCEPT) > 0.85


def test_without_the_edit_button_nothing_is_edited() -> None:
    assert share(decisions(SOMEONE, edits=False), Decision.MODIFY) == 0
    assert share(decisions(SOMEONE), Decision.MODIFY) > 0.2


def test_the_pleasing_value_looks_better_than_it_is() -> None:
    part, value = PLEASING["ads"]
    place = LISTS[part].index(value)
    gaps = []
    for i, brief in enumerate(BRIEFS):
        gaps.append(someone_before(i).seen[part] - WORLD.gains("ads", brief.attributes)[part])
    assert np.mean(gaps, axis=0)[place] == pytest.approx(people.PLEASURE, abs=0.03)
    assert np.delete(np.mean(gaps, axis=0), place) == pytest.approx(np.zeros(len(LISTS[part]) - 1), abs=0.03)


def edited(events: list[dict[str, Any]]) -> list[tuple[Brief, dict[str, str], dict[str, str]]]:
    """Brief, the parts of the taken candidate and the parts of the final text, of every edit."""
    found = []
    for event in events:
        if event["decision"] == "modify":
            parse = WORKFLOWS[event["workflow"]].parse
            taken = parse(event["candidates"][event["chosen"]]["text"])
            found.append((read(event["workflow"], event["prompt"]), taken, parse(event["final_text"])))
    return found


def test_an_edit_repairs_one_or_two_parts_and_never_writes_the_best_answer(
    organisation: Organisation, events: list[dict[str, Any]]
) -> None:
    edits = edited(events)
    assert len(edits) > 100
    changes = Counter(sum(taken[part] != final[part] for part in taken) for _, taken, final in edits)
    assert set(changes) == {1, 2}
    assert not [1 for brief, _, final in edits if final == organisation.world.best(brief)]


def test_an_answer_one_repair_short_of_the_best_is_never_completed() -> None:
    eager = replace(SOMEONE, strictness=5.0, skill=100.0, anchoring=0.0)
    for i, brief in enumerate(BRIEFS[:100]):
        best = WORLD.best(brief)
        near = {**best, "tone": next(v for v in LISTS["tone"] if v != best["tone"])}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(people, "EDITABLE", 100.0)
            judged = someone_before(i, eager).decide((WORKFLOWS["ads"].render(near),) * 2)
        assert judged.final_text is None or WORKFLOWS["ads"].parse(judged.final_text) != best


def test_edits_are_mostly_right_and_sometimes_wrong(organisation: Organisation, events: list[dict[str, Any]]) -> None:
    world = organisation.world
    gains = [world.utility(brief, final) - world.utility(brief, taken) for brief, taken, final in edited(events)]
    assert 0.7 < np.mean(np.array(gains) > 0) < 0.98
    assert np.mean(gains) > 0.2


def test_a_text_that_does_not_parse_is_neither_accepted_nor_edited_unless_unread() -> None:
    judged = [someone_before(i).decide(("no idea", "none either")) for i in range(100)]
    assert {j.decision for j in judged} == {Decision.REJECT}
    assert someone_before(0).compare("no idea", "none either")[0] == "neither"


def test_the_panel_calls_the_same_text_a_tie() -> None:
    for i, brief in enumerate(BRIEFS[:50]):
        best = WORKFLOWS["ads"].render(WORLD.best(brief))
        assert someone_before(i).compare(best, best)[0] == "tie"


def test_those_who_teach_and_those_who_judge_are_different_people() -> None:
    staff, panel = people.hire(0, "ads", 10), people.hire(0, "ads", 10, role="p")
    assert not {p.id for p in staff} & {p.id for p in panel}
    assert len({p.strictness for p in staff + panel}) == 20
    assert people.hire(0, "ads", 10) == staff
    assert people.hire(1, "ads", 10) != staff
