"""What decisions say: of people whose conduct is known, of groups, and over days."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import date, datetime, timedelta
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from loop import schema
from loop.lake import Lake, from_rows
from loop.privacy import GROUP
from loop.simulate.conduct import Conduct, Kind
from loop.simulate.corpus import answer, habits
from loop.simulate.organisation import Organisation, Suggestion
from loop.simulate.streams import stream
from loop.validate import signal, signal_days
from loop.validate.signal import Signals, judge
from loop.validate.signal_evidence import PRIOR, Way
from loop.workflows import BUILT_IN
from tests.rows import DAY, SHOWN, decision, interactions

MONDAY = date(2026, 1, 5)
SHARES = {
    Kind.EXPERT: 0.15,
    Kind.PERFORMATIVE: 0.1,
    Kind.BIASED: 0.1,
    Kind.BOT: 0.1,
    Kind.POISONER: 0.1,
}


def rows_of(organisation: Organisation, days: list[date], good: float = 0.0) -> pa.Table:
    """What people did with answers by habit, or with the best one that often."""
    drawn = {name: habits(organisation.world, name) for name in organisation.workflows}
    rows = []
    for request in (request for day in days for request in organisation.requests(day)):
        brief = organisation.brief(request.workflow, request.prompt)
        rng = stream("served", request.id)
        best, old = BUILT_IN["ads"].render(organisation.world.best(brief)), drawn[request.workflow]
        texts = tuple(best if rng.random() < good else answer(rng, old, brief) for _ in range(2))
        event = organisation.decide(request, Suggestion(f"s-{request.id}", "m", texts, order_propensity=0.5))
        times = {n: event[n] and datetime.fromisoformat(event[n]) for n in ("shown_at", "decided_at", "received_at")}
        rows.append(
            event | times | {"day": times["shown_at"].date(), "source": "simulated", "content": "", "batch": "b"}
        )
    return from_rows(rows, schema.INTERACTIONS)


@cache
def mixed() -> tuple[Organisation, Signals]:
    organisation = Organisation(11, employees=60, workflows=("ads",), requests=6000, conduct=Conduct(SHARES))
    week = [MONDAY + timedelta(days=i) for i in range(4)]
    return organisation, judge(rows_of(organisation, [day for day in week if not organisation.day(day).campaign]))


def of_kind(kind: Kind) -> np.ndarray:
    organisation, found = mixed()
    return np.array([organisation.kinds[name] is kind for name in found.facts.employees])


@pytest.mark.parametrize(
    ("kind", "ways"),
    [
        (Kind.PERFORMATIVE, {Way.UNREAD}),
        (Kind.BOT, {Way.AUTOMATED}),
        (Kind.BIASED, {Way.PLACE, Way.FAVOURITE}),
        (Kind.POISONER, {Way.CONTRARY, Way.FAVOURITE, Way.UNRELATED}),
    ],
)
def test_misconduct_is_known_for_what_it_is(kind: Kind, ways: set[Way]) -> None:
    _, found = mixed()
    who = of_kind(kind)
    assert found.trust[who].max() < 0.1
    main = np.stack([found.ways[way] for way in Way]).argmax(axis=0)[who]
    assert {list(Way)[i] for i in main} <= ways


def test_honest_people_keep_their_weight_and_fast_experts_too() -> None:
    _, found = mixed()
    assert (found.trust[of_kind(Kind.HONEST)] > 0.5).mean() > 0.9
    assert found.trust[of_kind(Kind.EXPERT)].min() > 0.5
    of_experts = of_kind(Kind.EXPERT)[found.facts.employee] & found.facts.decided
    assert found.weight[of_experts].mean() > 0.8


def test_weights_are_shares_and_low_ones_have_reasons() -> None:
    _, found = mixed()
    assert ((found.weight >= 0) & (found.weight <= 1)).all()
    told = np.array([bool(reasons) for reasons in found.reasons])
    assert (told == (found.weight < signal.TOLD)).all()


def test_the_ways_of_a_person_are_a_distribution() -> None:
    _, found = mixed()
    assert np.allclose(sum(found.ways.values()), 1.0)
    assert sum(PRIOR.values()) == pytest.approx(1.0)


def test_nobody_is_distrusted_for_one_decision() -> None:
    found = judge(interactions(decision(1, "accept", 0, "first")))
    assert found.trust.tolist() == [pytest.approx(PRIOR[Way.HONEST], abs=0.1)]


def test_no_decisions_no_signals() -> None:
    found = judge(interactions())
    assert (len(found.weight), found.groups) == (0, ())


def test_under_a_good_champion_fast_experts_are_no_campaign() -> None:
    experts = Conduct({Kind.EXPERT: 1.0})
    organisation = Organisation(12, employees=30, workflows=("ads",), requests=2400, conduct=experts)
    found = judge(rows_of(organisation, [MONDAY], good=0.9))
    accepts = found.facts.accepted.sum() / found.facts.decided.sum()
    assert accepts > 0.8
    assert found.groups == ()
    assert (found.trust < 0.5).mean() <= 0.05


def test_a_campaign_day_is_the_groups_and_nobodys_own() -> None:
    organisation = Organisation(13, employees=24, workflows=("ads",), requests=2400, conduct=Conduct(rush=True))
    week = [MONDAY + timedelta(days=i) for i in range(7)]
    campaign = next(day for day in week if organisation.day(day).campaign)
    calm = next(day for day in week if day != campaign)
    found = judge(rows_of(organisation, [calm, campaign]))
    [group] = found.groups
    assert (group.group, group.day) == ("workflow ads", campaign)
    assert group.accepted > 0.93
    assert "96 %" not in group.told()
    assert group.told().startswith(f"workflow ads on {campaign}: 9")
    that_day = found.facts.day == (campaign - date(1970, 1, 1)).days
    taken = found.facts.decided
    assert found.weight[that_day & taken].mean() < 0.2
    assert found.weight[~that_day & taken].mean() > 0.7
    assert all("rushed" in reasons for reasons, day in zip(found.reasons, that_day & taken, strict=True) if day)
    assert (found.trust > 0.5).mean() > 0.9, "people are not judged by a day on which everybody rushed"


def test_fewer_than_ten_people_are_no_group() -> None:
    rows = [
        decision(n, "accept", 0, "first", employee=f"p_{n % (GROUP - 1)}", dwell_ms=100, team=None) for n in range(90)
    ]
    assert judge(interactions(*rows)).groups == ()
    more = [row | {"employee": f"p_{n % GROUP}"} for n, row in enumerate(rows)]
    assert len(judge(interactions(*more)).groups) == 1


def test_agreement_on_the_same_item_counts() -> None:
    """Twelve people on the same items; one always takes what nobody else takes."""
    rows = []
    for item in range(12):
        prompt = [{"role": "user", "content": f"item {item}"}]
        for who in range(12):
            chosen = item % 3 if who else (item + 1) % 3
            n = item * 12 + who
            rows.append(
                decision(
                    n,
                    "accept",
                    chosen,
                    SHOWN[chosen],
                    employee=f"p_{who}",
                    prompt=prompt,
                    dwell_ms=3000 + 997 * n % 4001,
                )
            )
    found = judge(interactions(*rows))
    odd = found.facts.employees.index("p_0")
    assert found.peers[found.facts.employee == odd].max() < 0
    assert found.peers[found.facts.employee != odd].min() > 0
    assert found.trust[odd] < np.delete(found.trust, odd).min()


class TestDays:
    """Signals of partitions, in a lake."""

    def test_signals_of_a_day_are_those_of_its_rows(self, tmp_path) -> None:
        lake = Lake(tmp_path)
        organisation = Organisation(11, employees=40, workflows=("ads",), requests=1200, conduct=Conduct(SHARES))
        days = [MONDAY + timedelta(days=i) for i in range(2)]
        for day in days:
            lake.overwrite("interactions", rows_of(organisation, [day]), day=day, workflow="ads")
            told = signal_days.build(lake, _Accepts(), day, "ads")
            assert told.rows == lake.read("interactions", days=(day, day)).num_rows
        for day in days:
            rows = lake.read("interactions", days=(day, day))
            signals = lake.read("signals", days=(day, day))
            assert signals["event_id"].to_pylist() == rows["event_id"].to_pylist()
        conduct = lake.read("conduct", days=(days[1], days[1]))
        decided = lake.read("interactions", days=(days[1], days[1]))
        decided = decided.filter(pc.not_equal(decided["decision"], "ignore"))
        assert sorted(conduct["employee"].to_pylist()) == sorted(set(decided["employee"].to_pylist()))

    def test_a_day_again_is_the_same(self, tmp_path) -> None:
        lake = Lake(tmp_path)
        organisation = Organisation(11, employees=40, workflows=("ads",), requests=1200, conduct=Conduct(SHARES))
        lake.overwrite("interactions", rows_of(organisation, [MONDAY]), day=MONDAY, workflow="ads")
        signal_days.build(lake, _Accepts(), MONDAY, "ads")
        first = lake.read("signals"), lake.read("conduct")
        signal_days.build(lake, _Accepts(), MONDAY, "ads")
        assert (lake.read("signals"), lake.read("conduct")) == first

    def test_what_is_remembered_counts_as_if_it_were_read(self, tmp_path, monkeypatch) -> None:
        """With a short window the first day is known by its statistics alone, and weighs on people all the same."""
        monkeypatch.setattr(signal_days.signal_content, "MOST", 1)
        lake = Lake(tmp_path)
        organisation = Organisation(11, employees=40, workflows=("ads",), requests=1200, conduct=Conduct(SHARES))
        days = [MONDAY + timedelta(days=i) for i in range(3)]
        for day in days:
            lake.overwrite("interactions", rows_of(organisation, [day]), day=day, workflow="ads")
            signal_days.build(lake, _Accepts(), day, "ads")
        bots = [name for name, kind in organisation.kinds.items() if kind is Kind.BOT]
        trust = {(r["employee"], r["day"]): r["trust"] for r in lake.read("conduct").to_pylist()}
        for bot in bots:
            mine = [trust[bot, day] for day in days if (bot, day) in trust]
            assert mine[-1] <= min(mine[0], 0.05) + 1e-9

    def test_little_is_told_of_few(self, tmp_path) -> None:
        lake = Lake(tmp_path)
        rows = [decision(n, "accept", 0, "first", employee=f"p_{n % 3}") for n in range(30)]
        lake.overwrite("interactions", interactions(*rows), day=DAY, workflow="comms")
        told = signal_days.build(lake, _Accepts(), DAY, "comms").told()
        assert told["people"] == f"fewer than {GROUP}"
        assert not {"mean weight", "distrusted", "instant"} & set(told)

    def test_hindsight_takes_back_what_was_given_in_good_faith(self, tmp_path) -> None:
        lake = Lake(tmp_path)
        later = DAY + timedelta(days=1)
        for day, trust in ((DAY, 0.8), (later, 0.2)):
            row = {"employee": "p_1", "day": day, "workflow": "comms", "trust": trust, "batch": "b"}
            empty = {"statistics": [], "words": [], "score": [], "information": []}
            lake.overwrite("conduct", from_rows([row | empty], schema.CONDUCT), day=day, workflow="comms")
        label = {c.name: None for c in schema.DEMONSTRATIONS.columns} | {
            "demonstration_id": "d",
            "kind": "accepted",
            "answer": "a",
            "event_id": "e",
            "suggestion_id": "s",
            "day": DAY,
            "workflow": "comms",
            "split": "train",
            "received_at": datetime.fromisoformat("2026-01-05T12:00:00+00:00"),
            "batch": "b",
            "prompt": [],
        }
        labels = from_rows(
            [
                label | {"employee": "p_1", "weight": 0.4},
                label | {"demonstration_id": "x", "employee": "p_2", "weight": 0.4},
            ],
            schema.DEMONSTRATIONS,
        )
        assert signal_days.revised(lake, labels, DAY)["weight"].to_pylist() == [0.4, 0.4]
        assert signal_days.revised(lake, labels, later)["weight"].to_pylist() == [pytest.approx(0.1), 0.4]


class _Accepts:
    """A state in which every batch is accepted and no panel was asked, and of which nobody else knows."""

    def building(self, day: date, workflow: str) -> nullcontext[None]:
        return nullcontext()

    def accepted_digests(self, first: date, last: date) -> set[str]:
        return {"b"}
