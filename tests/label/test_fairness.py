"""How long tasks take and what is told of people: to themselves, and to whoever leads."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from loop import schema
from loop.errors import BadInputError
from loop.home import Home
from loop.label import annotators, fairness, gold, tasks
from loop.label.annotations import Action, Annotation, record
from loop.label.fairness import LEAST, PRIOR, Times, characters, median_interval
from loop.label.tasks import Kind, Origin
from loop.lake import from_rows

NINE = datetime(2026, 1, 6, 9, tzinfo=UTC)


PROMPT = [{"role": "user", "content": "xyz"}, {"role": "system", "content": ""}]


def question(n: int, **given: Any) -> dict[str, Any]:
    asked = {"kind": Kind.CATEGORY, "texts": ["x" * 100], "options": ["a", "b"], "reason": f"{n}"}
    return tasks.task(
        day=date(2026, 1, 5), workflow="ads", origin=Origin.IMPORT, event_id=f"e{n}", **{**asked, **given}
    )


# -- times ------------------------------------------------------------------------------------------------------------


def test_without_answers_a_task_takes_what_is_assumed() -> None:
    time = Times().of("category", 200)
    assert time.seconds == pytest.approx(5 + 200 / 20)
    assert time.mean == pytest.approx(15 * math.exp(0.7**2 / 2)), "of a lognormal, that is more than the median"
    assert (time.low, time.high, time.answers) == (None, None, 0)


def test_many_answers_outweigh_what_was_assumed_and_few_do_not() -> None:
    truth = 40.0
    errors = []
    for n in (0, 1, 10, 100, 1000):
        time = Times(["category"] * n, [100] * n, [truth] * n, ["ann"] * n).of("category", 100)
        errors.append(abs(math.log(time.seconds / truth)))
        assert time.answers == n
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.01
    # one answer moves the kind and the cell by one in eleven each, in logarithms
    one = Times(["category"], [100], [truth], ["ann"]).of("category", 100).seconds
    kind = math.log(truth / 10) / (1 + PRIOR)
    assert math.log(one / 10) == pytest.approx((math.log(truth / 10) + PRIOR * kind) / (1 + PRIOR))


def test_the_median_is_not_moved_by_pages_left_open_nor_by_what_is_no_time() -> None:
    rng = np.random.default_rng(3)
    spent = rng.lognormal(math.log(30), 0.3, 300)
    who = [f"p{n % 15}" for n in range(303)]
    clean = Times(["rating"] * 300, [100] * 300, spent, who[:300]).of("rating", 100)
    spent[:30] = 80_000.0
    dirty = Times(["rating"] * 303, [100] * 303, [*spent, 0.0, -5.0, math.nan], who).of("rating", 100)
    assert dirty.seconds == pytest.approx(clean.seconds, rel=0.1)
    assert clean.low is not None
    assert clean.high is not None
    assert clean.low < 30 < clean.high
    assert dirty.answers == 300
    assert dirty.mean > 100, "what is paid is the time that counts, and that is fifteen minutes of such a page"


def test_a_length_nobody_met_follows_its_kind() -> None:
    slow = Times(["span"] * 200, [100] * 200, [2 * (20 + 5)] * 200, ["ann"] * 200)
    assert slow.of("span", 10_000).seconds == pytest.approx(2 * (20 + 500), rel=0.05)
    assert slow.of("category", 100).seconds == pytest.approx(10)


def test_the_interval_covers_the_median_also_where_people_differ_more_than_their_answers() -> None:
    rng = np.random.default_rng(0)
    hits, who = 0, [f"p{n // 20}" for n in range(240)]
    for _ in range(400):
        own = np.repeat(rng.lognormal(math.log(30), 0.5, 12), 20)
        time = Times(["rating"] * 240, [100] * 240, own * rng.lognormal(0, 0.3, 240), who).of("rating", 100)
        assert time.low is not None
        assert time.high is not None
        hits += time.low <= 30 <= time.high
    assert hits / 400 >= 0.93


def test_of_fewer_than_six_people_there_is_no_interval_however_much_they_answer() -> None:
    for people, told in ((5, False), (6, True)):
        who = [f"p{n % people}" for n in range(300)]
        time = Times(["rating"] * 300, [100] * 300, [20.0] * 300, who).of("rating", 100)
        assert (time.low is not None) is told


def test_pay_is_of_the_mean_which_the_slow_answers_raise() -> None:
    spent = [10.0] * 900 + [100.0] * 100
    times = Times(["category"] * 1_000, [100] * 1_000, spent, ["ann"] * 1_000)
    assert times.of("category", 100).seconds == pytest.approx(10)
    assert fairness.pay(times, 3600.0, "category", 100) == pytest.approx(19, rel=0.01)


def test_characters_are_those_of_prompt_and_texts() -> None:
    rows = [
        question(
            0, texts=["ab\U0001f600"], prompt=[{"role": "user", "content": "xyz"}, {"role": "system", "content": ""}]
        ),
        question(1, kind=Kind.PREFERENCE, texts=["a", "bc"], options=[]),
        question(2, kind=Kind.RED_TEAM, texts=[], options=[]),
    ]
    table = from_rows(rows, schema.LABEL_TASKS)
    assert characters(table).tolist() == [6, 3, 0]
    assert characters(table.slice(1, 2)).tolist() == [3, 0]
    assert characters(pa.concat_tables([table, table])).tolist() == [6, 3, 0] * 2
    assert characters(table.slice(0, 0)).tolist() == []


def test_an_interval_of_a_median_needs_six_values() -> None:
    assert median_interval([1.0] * 5) is None
    low, high = median_interval(list(map(float, range(101)))) or (None, None)
    assert (low, high) == (40.0, 61.0)


# -- people -----------------------------------------------------------------------------------------------------------


class Room:
    def __init__(self, home: Home) -> None:
        self.home = home
        self.rows = [question(n) for n in range(12)]
        tasks.add(home.lake, home.state, self.rows)
        for row in self.rows:
            gold.put(home.state, row, label="a", reason="experts", author="lead")

    def join(self, person: str, **given: Any) -> str:
        values = {"workflows": ["ads"], "author": "lead", **given}
        return annotators.add(self.home.settings, self.home.state, person=person, **values)[0].annotator

    def say(self, who: str, count: int, label: str = "a", seconds: float = 30.0) -> None:
        """At noon of the day after the tasks and after whoever joins now joined."""
        for n, row in enumerate(self.rows[:count]):
            at = NINE + timedelta(minutes=n)
            said = Annotation(row["label_task_id"], who, at, "page", label=label, shown_at=at, seconds=seconds)
            record(self.home.state, from_rows([row], schema.LABEL_TASKS), [said])


@pytest.fixture
def room(home: Home) -> Room:
    return Room(home)


def test_whoever_leads_sees_what_is_paid_and_known_answers_only_from_ten_on(room: Room) -> None:
    ann = room.join("ann", pay_per_hour=15.0, daily_minutes=60)
    ben = room.join("ben")
    room.say(ann, LEAST, seconds=60)
    room.say(ben, LEAST - 1, label="b", seconds=5_000)
    told = {one.annotator: one for one in fairness.people(room.home.state, floor=16.0, now=NINE)}
    assert list(told) == sorted(told), "ordered by pseudonym and by nothing else"
    mine, his = told[ann], told[ben]
    assert (mine.answers, mine.minutes, mine.minutes_today) == (10, 10.0, 10.0)
    assert (mine.earned, mine.below_floor, mine.right, mine.known) == (2.5, True, 10, 10)
    assert (his.answers, his.minutes, his.earned, his.below_floor) == (9, 9 * 15.0, None, None)
    assert (his.right, his.known) == (None, None)
    tomorrow = fairness.people(room.home.state, floor=None, now=NINE + timedelta(days=1))
    assert [one.minutes_today for one in tomorrow] == [0, 0]


def test_how_much_people_skip_is_told_of_ten_together_and_never_of_one(room: Room) -> None:
    for n in range(LEAST - 1):
        room.say(room.join(f"p{n}"), 2, seconds=20)
    assert fairness.together(room.home.state) == fairness.Together(LEAST - 1, None, None)
    last = room.join("last")
    room.say(last, 1, seconds=20)
    row = room.rows[5]
    skipped = Annotation(row["label_task_id"], last, NINE, "page", action=Action.SKIP, reason="no")
    record(room.home.state, from_rows([row], schema.LABEL_TASKS), [skipped])
    assert fairness.together(room.home.state) == fairness.Together(LEAST, 0.0, 20.0)


def test_a_person_sees_their_own_figures_and_nobody_elses(room: Room) -> None:
    ann, ben = room.join("ann"), room.join("ben")
    room.say(ann, 8, seconds=40)
    room.say(ben, 12, label="b", seconds=10)
    own = fairness.own(room.home.state, room.home.lake, ann, settled=NINE + timedelta(minutes=4))
    assert (own.answers, own.skips, own.known, own.right) == (8, 0, 4, 4), "the last four are not judged yet"
    assert own.minutes == pytest.approx(8 * 40 / 60)
    (pace,) = own.pace
    assert (pace.kind, pace.answers, pace.seconds, pace.low, pace.high) == ("category", 8, 40.0, 40.0, 40.0)


@pytest.mark.parametrize("source", ["page", "studio", "vendor", "import"])
def test_what_only_begins_or_ceases_to_count_is_no_work_of_its_own(room: Room, source: str) -> None:
    ann, row = room.join("ann", pay_per_hour=60.0), room.rows[0]
    said = Annotation(row["label_task_id"], ann, NINE, source, label="a", shown_at=NINE, seconds=60.0, counts=False)
    for given in (said, replace(said, counts=True), said):
        assert record(room.home.state, from_rows([row], schema.LABEL_TASKS), [given]).repeated == 0
    (told,) = fairness.people(room.home.state, floor=None, now=NINE)
    assert (told.answers, told.minutes, told.minutes_today, told.earned) == (1, 1.0, 1.0, 1.0)
    own = fairness.own(room.home.state, room.home.lake, ann, settled=NINE)
    assert (own.answers, own.minutes, [pace.answers for pace in own.pace]) == (1, 1.0, [1])
    assert fairness.times(room.home.lake, room.home.state).of("category", 100).answers == 1


@pytest.mark.parametrize(("source", "minutes", "answers"), [("page", 5, 3), ("studio", 3, 1), ("vendor", 3, 1)])
def test_times_of_versions_add_up_but_where_the_last_holds_them_all(
    room: Room, source: str, minutes: int, answers: int
) -> None:
    """Label Studio's time of an answer grows with each change of it."""
    ann, row = room.join("ann"), room.rows[0]
    given = [("a", 60.0), ("b", 60.0), ("a", 180.0), (None, None)]
    for n, (label, seconds) in enumerate(given):
        at, action = NINE + timedelta(minutes=n), Action.ANSWER if label else Action.UNDO
        said = Annotation(row["label_task_id"], ann, at, source, action=action, label=label, seconds=seconds)
        record(room.home.state, from_rows([row], schema.LABEL_TASKS), [said])
    (told,) = fairness.people(room.home.state, floor=None, now=NINE)
    assert (told.answers, told.minutes) == (answers, minutes)


def test_times_are_of_the_last_answers_of_each(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fairness, "RECENT", 5)
    room.say(room.join("ann"), 12)
    room.say(room.join("ben"), 3)
    assert fairness.times(room.home.lake, room.home.state).of("category", 100).answers == 8
    assert fairness.pay(Times(), 36.0, "category", 100) == pytest.approx(0.1 * math.exp(0.7**2 / 2))
    assert fairness.pay(Times(), None, "category", 100) is None


# -- who joins --------------------------------------------------------------------------------------------------------


def test_nobody_joins_below_the_floor(home: Home) -> None:
    settings = home.settings.model_copy(update={"pay_floor_per_hour": 12.5, "pay_currency": "EUR"})
    told = {"person": "ann", "workflows": ["ads"], "author": "lead"}
    with pytest.raises(BadInputError, match=r"at least the floor of 12\.5 EUR, got 12"):
        annotators.add(settings, home.state, pay_per_hour=12.0, **told)
    assert annotators.annotators(home.state) == []
    assert annotators.add(settings, home.state, pay_per_hour=12.5, **told)[0].pay_per_hour == 12.5


def test_a_person_is_in_once_may_leave_come_back_and_get_a_new_token(home: Home) -> None:
    told = {"person": "ann@example.org", "workflows": ["ads"], "author": "lead"}
    first, token = annotators.add(home.settings, home.state, **told)

    def owner(of: str) -> str | None:
        with home.state.engine.connect() as connection:
            found = annotators.owner(of, annotators.known(connection, home.state.tables))
        return found and found.annotator.annotator

    assert owner(token) == first.annotator
    home.settings.rotate("pseudonym")
    with pytest.raises(BadInputError, match="annotates already"):
        annotators.add(home.settings, home.state, **told)
    second = annotators.renew(home.settings, home.state, "ann@example.org", "lead")
    assert (owner(token), owner(second)) == (None, first.annotator)
    gone = annotators.remove(home.settings, home.state, second, "lead")
    assert gone.removed_by == "lead"
    assert owner(second) is None
    assert annotators.remove(home.settings, home.state, first.annotator, "again").removed_by == "lead"
    with pytest.raises(BadInputError, match="was removed"):
        annotators.renew(home.settings, home.state, first.annotator, "lead")
    back, third = annotators.add(home.settings, home.state, **told)
    assert back.annotator == first.annotator, "the name of before, though the key is another"
    assert owner(third) == first.annotator
    acts = [row["action"] for row in home.state.arrow("audit").to_pylist()]
    assert sorted(acts) == ["annotator.add", "annotator.add", "annotator.remove", "annotator.token"]
    text = str(home.state.arrow("audit").to_pylist()) + str(home.state.arrow("annotators").to_pylist())
    assert "ann@example.org" not in text
    assert token.split("_")[2] not in text


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"person": " "}, "expected an id"),
        ({"workflows": []}, "expected at least one"),
        ({"workflows": ["adds"]}, "expected some of ads"),
        ({"kinds": ["rate"]}, "expected some of preference"),
        ({"daily_minutes": 0}, "expected 1 to 1,440"),
        ({"pay_per_hour": -1.0}, "expected an amount"),
        ({"pay_per_hour": math.nan}, "expected an amount"),
    ],
)
def test_what_nobody_can_be_asked_is_refused(home: Home, given: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInputError, match=told):
        annotators.add(home.settings, home.state, **{"person": "x", "workflows": ["ads"], "author": "lead", **given})
    with pytest.raises(BadInputError, match="expected the id of a person who annotates"):
        annotators.remove(home.settings, home.state, "nobody", "lead")
