"""The organisation as a whole: days, events on the wire, the panel, delayed outcomes, the truth on disk."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from habitual import MONDAY, Base

from loop import schema
from loop.errors import BadInputError
from loop.simulate.organisation import HARM, SECOND_LOOKS, Organisation
from loop.simulate.world import PLEASING
from loop.workflows import WORKFLOWS

WEEK = [MONDAY + timedelta(days=i) for i in range(7)]


def test_an_event_has_exactly_the_clients_columns_and_is_json(events: list[dict[str, Any]]) -> None:
    columns = [c.name for c in schema.INTERACTIONS.columns if c.origin is schema.Origin.CLIENT]
    assert list(events[0]) == columns
    assert json.loads(json.dumps(events)) == events
    assert len({event["event_id"] for event in events}) == len(events) == 600


def test_what_was_decided_is_coherent(events: list[dict[str, Any]]) -> None:
    for event in events:
        shown = [candidate["text"] for candidate in event["candidates"]]
        match event["decision"]:
            case "accept":
                assert event["final_text"] == shown[event["chosen"]]
            case "modify":
                assert event["final_text"] not in (shown[event["chosen"]], "")
                assert event["reasons"]
            case _:
                assert event["chosen"] is None
                assert event["final_text"] is None
        assert (event["decided_at"] is None) == (event["dwell_ms"] is None) == (event["decision"] == "ignore")


def test_times_are_of_the_day_and_in_order(events: list[dict[str, Any]]) -> None:
    day = datetime.fromisoformat(events[0]["shown_at"]).date()
    late = 0
    for event in events:
        shown, received = (datetime.fromisoformat(event[name]) for name in ("shown_at", "received_at"))
        decided = datetime.fromisoformat(event["decided_at"]) if event["decided_at"] else shown
        assert shown.tzinfo == received.tzinfo == UTC
        assert shown.date() == decided.date() == day
        assert shown <= decided < received
        assert received < datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=2)
        late += received - decided > timedelta(hours=1)
    assert 0 < late < 0.05 * len(events)


def test_the_same_day_again_is_the_same_and_every_seed_and_day_is_another(base: Base) -> None:
    assert Base(Organisation(0)).day() == base.day()
    assert Base(Organisation(1)).day() != base.day()
    assert {r.prompt[0]["content"] for r in base.organisation.requests(WEEK[0])} != {
        r.prompt[0]["content"] for r in base.organisation.requests(WEEK[1])
    }


def test_one_workflow_alone_has_the_same_days(organisation: Organisation) -> None:
    alone = Organisation(0, workflows=("design",), employees=10).requests(MONDAY)
    assert alone == [r for r in organisation.requests(MONDAY) if r.workflow == "design"]


@pytest.mark.parametrize("seed", range(5))
def test_on_day_one_15_to_70_percent_are_accepted_in_every_workflow(seed: int) -> None:
    events = Base(Organisation(seed)).day()
    for workflow in WORKFLOWS:
        decisions = [e["decision"] for e in events if e["workflow"] == workflow]
        assert 0.15 < decisions.count("accept") / len(decisions) < 0.7
        for decision, (least, most) in WORKFLOWS[workflow].decision_mix.items():
            assert least <= decisions.count(decision) / len(decisions) <= most


def test_what_is_kept_is_better_than_what_was_shown(organisation: Organisation, events: list[dict[str, Any]]) -> None:
    for workflow in WORKFLOWS:
        mine = [e for e in events if e["workflow"] == workflow]
        shown = [organisation.utility(workflow, e["prompt"], c["text"]) for e in mine for c in e["candidates"]]
        kept = [organisation.utility(workflow, e["prompt"], e["final_text"]) for e in mine if e["final_text"]]
        assert abs(np.mean(shown)) < 0.1
        assert np.mean(kept) > np.mean(shown) + 0.08


def test_a_campaign_day_brings_more_work_and_more_thoughtless_use(base: Base) -> None:
    organisation = base.organisation
    campaigns = [day for day in WEEK if organisation.day(day).campaign]
    assert len(campaigns) == 1
    ordinary = next(day for day in WEEK if day not in campaigns)
    busy, calm = base.day(campaigns[0]), base.day(ordinary)
    assert (len(busy), len(calm)) == (840, 600)

    def unread(events: list[dict[str, Any]]) -> float:
        return float(np.mean([e["decision"] == "accept" and e["dwell_ms"] < 3_000 for e in events]))

    assert unread(busy) > 2 * unread(calm)


def test_difficulty_and_staffing_vary_by_day(organisation: Organisation) -> None:
    days = [organisation.day(day) for day in WEEK]
    assert len({day.difficulty for day in days}) == 7
    at_work = [len({r.employee for r in organisation.requests(day)}) for day in WEEK]
    assert len(set(at_work)) > 2
    assert all(20 <= n <= 40 for n in at_work)


def test_the_panel_prefers_the_better_answer_and_does_not_know_the_sides(organisation: Organisation) -> None:
    score = {"left": 1, "right": -1, "tie": 0, "neither": 0}
    world, house = organisation.world, WORKFLOWS["ads"]
    constant = house.render(world.constant("ads")[0])
    for swap in (False, True):
        scores = []
        for i, prompt in enumerate(organisation.benchmark("ads", 80)):
            best = house.render(world.best(organisation.brief("ads", prompt)))
            left, right = (constant, best) if swap else (best, constant)
            asked = {"comparison_id": str(i), "workflow": "ads", "prompt": prompt, "left": left, "right": right}
            answer = organisation.answer(asked)
            assert answer == organisation.answer(asked)
            assert answer.employee.startswith("p-ads-")
            scores.append(score[answer.choice])
        assert (np.mean(scores) < -0.5) if swap else (np.mean(scores) > 0.5)


def test_several_judges_are_different_people(organisation: Organisation) -> None:
    [prompt] = organisation.benchmark("comms", 1)
    asked = {"comparison_id": "c", "workflow": "comms", "prompt": prompt, "left": "Hello", "right": "Regards"}
    assert len({organisation.answer(asked, judge=j).employee for j in range(12)}) == 12


def test_outcomes_follow_utility_imperfectly_and_the_pleasing_value_does_harm(
    organisation: Organisation, events: list[dict[str, Any]]
) -> None:
    outcomes = organisation.outcomes(events)
    kept = {event["event_id"]: event for event in events if event["final_text"]}
    assert {o["event_id"] for o in outcomes} == set(kept)
    utility = np.array([o["utility"] for o in outcomes])
    outcome = np.array([o["outcome"] for o in outcomes])
    pleasing = np.array([PLEASING[o["workflow"]][1] in kept[o["event_id"]]["final_text"] for o in outcomes])
    assert 0.4 < np.corrcoef(utility, outcome)[0, 1] < 0.9
    assert (outcome - utility)[pleasing].mean() == pytest.approx(-HARM, abs=0.12)
    assert (outcome - utility)[~pleasing].mean() == pytest.approx(0, abs=0.06)
    for o in outcomes:
        assert o["observed_at"] > kept[o["event_id"]]["received_at"]


def test_an_answer_that_does_not_parse_is_worth_less_than_a_random_one(organisation: Organisation) -> None:
    for workflow in WORKFLOWS:
        for prompt in organisation.final_prompts(workflow, 20):
            assert organisation.utility(workflow, prompt, "") < -0.3


def test_the_constant_is_an_answer_and_worth_what_it_says(organisation: Organisation) -> None:
    for workflow in WORKFLOWS:
        answer, utility = organisation.constant(workflow)
        assert WORKFLOWS[workflow].grade("", answer)["house_list"] == 1.0
        assert utility <= 0.2
        prompts = organisation.final_prompts(workflow)
        assert np.mean([organisation.utility(workflow, p, answer) for p in prompts]) == pytest.approx(utility)


def test_the_truth_is_written_where_it_is_told(
    tmp_path: Path, organisation: Organisation, events: list[dict[str, Any]]
) -> None:
    path = organisation.write_truth(tmp_path / "home" / "truth")
    truth = json.loads(path.read_text())
    assert path == tmp_path / "home" / "truth" / "world.json"
    assert truth["fits"] == organisation.world.truth()
    assert len(truth["employees"]) == 40
    outcomes = organisation.write_outcomes(tmp_path / "home" / "truth", MONDAY, events).read_text().splitlines()
    assert [json.loads(line) for line in outcomes] == organisation.outcomes(events)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"workflows": ("ads", "sales")}, "sales"),
        ({"workflows": ()}, "at least one workflow"),
        ({"employees": 3}, "got 3 employees"),
    ],
)
def test_what_cannot_be_organised(given: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInputError, match=says):
        Organisation(0, **given)


def test_every_employee_is_hired() -> None:
    assert sum(map(len, Organisation(0, employees=42).staff.values())) == 42
    assert date.fromisoformat("2026-01-05") == MONDAY


def test_some_accepted_answers_are_edited_an_hour_later(organisation: Organisation, base: Base) -> None:
    day = next(day for day in WEEK if not organisation.day(day).campaign)
    requests = {request.id: request for request in organisation.requests(day)}
    events = base.day(day)
    accepted = [event for event in events if event["decision"] == "accept"]
    by_id = {event["event_id"].removeprefix("event-"): event for event in events}
    again = [(by_id[key], organisation.revise(request, by_id[key])) for key, request in requests.items()]
    revised = [(before, after) for before, after in again if after is not None]
    assert 0 < len(revised) < SECOND_LOOKS * len(accepted)
    for before, after in revised:
        assert before["decision"] == "accept"
        assert (after["decision"], after["revises"]) == ("modify", before["event_id"])
        assert after["final_text"] not in (before["final_text"], "")
        assert after["reasons"]
        waited = datetime.fromisoformat(after["decided_at"]) - datetime.fromisoformat(before["decided_at"])
        assert waited == timedelta(hours=1)
        same = {"suggestion_id", "employee", "prompt", "candidates", "chosen", "shown_at", "model_version"}
        assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert (
        organisation.revise(requests[revised[0][0]["event_id"].removeprefix("event-")], revised[0][0]) == revised[0][1]
    )
