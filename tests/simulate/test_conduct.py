"""Kinds of conduct: as many of each as was said, each doing what its name says, and nobody else disturbed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from habitual import MONDAY, Base

from loop.simulate.conduct import MISCONDUCT, MIXED, Conduct, Kind
from loop.simulate.organisation import Organisation

WEEK = [MONDAY + timedelta(days=i) for i in range(7)]
Events = list[dict[str, Any]]


@pytest.fixture(scope="module")
def mixed() -> Organisation:
    shares = {Kind.EXPERT: 0.1, **dict.fromkeys(MISCONDUCT, 0.1)}
    return Organisation(5, employees=200, requests=4000, conduct=Conduct(shares))


@pytest.fixture(scope="module")
def sent(mixed: Organisation) -> Events:
    return Base(mixed).day(next(day for day in WEEK if not mixed.day(day).campaign))


@pytest.fixture(scope="module")
def by(mixed: Organisation, sent: Events) -> Callable[[Kind], Events]:
    return lambda kind: [event for event in sent if mixed.kinds[event["employee"]] is kind]


def accepts(events: Events) -> float:
    return sum(event["decision"] == "accept" for event in events) / len(events)


def dwells(events: Events) -> np.ndarray:
    return np.array([event["dwell_ms"] for event in events if event["dwell_ms"] is not None])


def kept(organisation: Organisation, events: Events) -> float:
    """Mean true utility of what people took, less that of what they were shown."""
    taken = [event for event in events if event["final_text"]]
    shown = [
        np.mean([organisation.utility(e["workflow"], e["prompt"], c["text"]) for c in e["candidates"]]) for e in taken
    ]
    final = [organisation.utility(e["workflow"], e["prompt"], e["final_text"]) for e in taken]
    return float(np.mean(final) - np.mean(shown))


def test_as_many_of_each_kind_as_was_said(mixed: Organisation) -> None:
    for staff in mixed.staff.values():
        counted = Counter(mixed.kinds[person.id] for person in staff)
        assert counted == {Kind.HONEST: 15, Kind.EXPERT: 5, **dict.fromkeys(MISCONDUCT, 5)}
    other = Organisation(6, employees=200, conduct=mixed.conduct)
    assert [k for k, kind in other.kinds.items() if kind is Kind.BOT] != [
        k for k, kind in mixed.kinds.items() if kind is Kind.BOT
    ]


def test_without_shares_nothing_is_disturbed(events: Events, organisation: Organisation) -> None:
    day = datetime.fromisoformat(events[0]["shown_at"]).date()
    assert Base(Organisation(0, conduct=Conduct({Kind.BOT: 0.0}))).day(day) == events
    assert set(organisation.kinds.values()) == {Kind.HONEST}


def test_an_honest_person_decides_alike_whoever_else_works_there(mixed: Organisation, by: Any) -> None:
    alone = Organisation(5, employees=200, requests=4000)
    day = datetime.fromisoformat(by(Kind.HONEST)[0]["shown_at"]).date()
    assert [e for e in Base(alone).day(day) if mixed.kinds[e["employee"]] is Kind.HONEST] == by(Kind.HONEST)


def test_the_performative_accept_what_they_did_not_read(by: Any) -> None:
    assert accepts(by(Kind.PERFORMATIVE)) > 0.9
    assert np.mean(dwells(by(Kind.PERFORMATIVE)) < 1000) > 0.85
    assert {event["chosen"] for event in by(Kind.PERFORMATIVE)} == {0, None}


def test_the_plausible_look_honest_and_their_choices_say_nothing(mixed: Organisation, by: Any) -> None:
    honest, plausible = by(Kind.HONEST), by(Kind.PLAUSIBLE)
    assert abs(accepts(plausible) - accepts(honest)) < 0.08
    assert abs(np.log(np.median(dwells(plausible)) / np.median(dwells(honest)))) < 0.1
    assert kept(mixed, honest) > 0.08
    assert abs(kept(mixed, plausible)) < 0.05


def test_a_ring_agrees_on_what_is_not_true(mixed: Organisation, by: Any) -> None:
    assert abs(kept(mixed, by(Kind.COLLUDING))) < 0.06
    for events in ([e for e in by(Kind.COLLUDING) if e["workflow"] == "ads"],):
        from loop.simulate.conduct import world_of_ring
        from loop.workflows import BUILT_IN

        people = {person.id: person for person in mixed.staff["ads"]}
        held = [
            world_of_ring(5, people[e["employee"]]).utility(
                mixed.brief("ads", e["prompt"]), BUILT_IN["ads"].parse(e["final_text"])
            )
            for e in events
            if e["final_text"]
        ]
        assert np.mean(held) > 0.2, "by their own truth they choose well"


def test_the_biased_take_the_first_place_or_their_value(mixed: Organisation, by: Any) -> None:
    first = {
        person: np.mean(
            [e["chosen"] == 0 for e in by(Kind.BIASED) if e["employee"] == person and e["chosen"] is not None]
        )
        for person in {e["employee"] for e in by(Kind.BIASED)}
    }
    assert sum(share > 0.9 for share in first.values()) >= 5
    assert sum(share < 0.8 for share in first.values()) >= 5


def test_bots_keep_time(mixed: Organisation, by: Any) -> None:
    for person in {event["employee"] for event in by(Kind.BOT)}:
        mine = sorted(event["shown_at"] for event in by(Kind.BOT) if event["employee"] == person)
        gaps = np.diff([datetime.fromisoformat(time).timestamp() for time in mine])
        assert np.abs(gaps / 20.0 - 1).max() < 0.03
        took = dwells([event for event in by(Kind.BOT) if event["employee"] == person])
        assert took.max() / took.min() < 1.06


def test_poisoners_prefer_the_bad_and_write_their_target(mixed: Organisation, by: Any) -> None:
    from loop.simulate.conduct import favourite
    from loop.workflows import BUILT_IN

    assert kept(mixed, by(Kind.POISONER)) < -0.08
    part, value = favourite(5, "comms", "target")

    def with_target(kind: Kind) -> float:
        written = [e for e in by(kind) if e["workflow"] == "comms" and e["decision"] == "modify"]
        return float(np.mean([BUILT_IN["comms"].parse(e["final_text"])[part] == value for e in written]))

    assert with_target(Kind.POISONER) > with_target(Kind.HONEST) + 0.2


def test_experts_are_fast_and_right(mixed: Organisation, by: Any) -> None:
    accepted = [event for event in by(Kind.EXPERT) if event["decision"] == "accept"]
    assert 1500 < np.median(dwells(accepted)) < 3000
    assert kept(mixed, by(Kind.EXPERT)) > kept(mixed, by(Kind.HONEST))


def test_on_a_rushed_day_a_whole_group_accepts_within_a_second() -> None:
    organisation = Organisation(5, requests=4000, conduct=Conduct(rush=True))
    campaign = next(day for day in WEEK if organisation.day(day).campaign)
    events = Base(organisation).day(campaign)
    rushed = [event for event in events if event["workflow"] == "ads"]
    assert abs(accepts(rushed) - 0.96) < 0.02
    assert np.median(dwells(rushed)) < 1000
    assert accepts([event for event in events if event["workflow"] != "ads"]) < 0.8


def test_the_truth_about_conduct_is_written_with_the_rest(mixed: Organisation, tmp_path: Path) -> None:
    told = json.loads(mixed.write_truth(tmp_path).read_text())
    assert told["conduct"] == {person: kind.value for person, kind in mixed.kinds.items()}


def test_the_mixture_for_benchmarks_has_every_kind() -> None:
    assert set(MIXED.shares) == {Kind.EXPERT, *MISCONDUCT}
