"""Which task a person gets next, and what the queue does not let happen to anybody."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from loop.home import Home
from loop.label import annotators, gold, tasks
from loop.label.annotations import Action, Annotation, record
from loop.label.annotators import Annotator
from loop.label.pool import Pool, Task
from loop.label.queue import LEASE, SETTLED, Queue, Stop
from loop.label.tasks import Kind, Origin

DAY = date(2026, 1, 5)
NINE = datetime(2026, 1, 6, 9, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.time = NINE

    def __call__(self) -> datetime:
        return self.time

    def on(self, **more: float) -> None:
        self.time += timedelta(**more)


def question(n: int, **given: Any) -> dict[str, Any]:
    asked = {"kind": Kind.PREFERENCE, "texts": [f"one {n}", f"two {n}"], "origin": Origin.IMPORT, "reason": "random"}
    told = {"workflow": "ads", "selected_at": NINE - timedelta(days=1)}
    return tasks.task(day=DAY, **{**asked, **told, **given})


class Room:
    """A home's queue, its clock in our hands."""

    def __init__(self, home: Home, **settings: Any) -> None:
        self.home = home
        self.settings = home.settings.model_copy(update={"gold_share": 0.0, **settings})
        self.clock = Clock()
        self.again()

    def again(self) -> None:
        """As a gateway that starts anew."""
        self.pool = Pool(self.home.lake, self.home.state)
        self.pool.refresh()
        self.queue = Queue(self.settings, self.home.state, self.pool, now=self.clock)

    def ask(self, *rows: dict[str, Any]) -> list[str]:
        tasks.add(self.home.lake, self.home.state, rows)
        self.pool.refresh()
        return [row["label_task_id"] for row in rows]

    def join(self, person: str = "ann", **given: Any) -> Annotator:
        values = {"workflows": ["ads", "comms"], "author": "lead", **given}
        return annotators.add(self.settings, self.home.state, person=person, **values)[0]

    def answer(self, person: Annotator, *, action: Action = Action.ANSWER, **later: float) -> Task:
        """Take the next task, and answer it after so long."""
        offer = self.queue.offer(person)
        assert offer.task is not None, offer
        self.queue.reveal(person)
        shown_at = self.queue.offer(person).shown_at
        self.clock.on(**later)
        said = {"label": "first"} if action is Action.ANSWER else {"reason": "unclear"}
        seconds = (self.clock() - (shown_at or self.clock())).total_seconds()
        told = {"shown_at": shown_at, "seconds": seconds, "action": action, **said}
        taken = Annotation(offer.task.label_task_id, person.annotator, self.clock(), "page", **told)
        assert record(self.home.state, offer.task.row, [taken]).new == 1
        self.queue.stored(person, offer.task, action, self.clock(), shown_at)
        return offer.task


@pytest.fixture
def room(home: Home) -> Room:
    return Room(home)


def test_each_gets_every_task_that_is_theirs_once(room: Room) -> None:
    mine = room.ask(*(question(n, wanted=2) for n in range(30)))
    room.ask(question(90, workflow="moderation"), question(91, kind=Kind.REWRITE, texts=["x"]))
    ann, ben, eve = (room.join(who, kinds=["preference"]) for who in ("ann", "ben", "eve"))
    got = {who.annotator: [room.answer(who, seconds=1).label_task_id for _ in mine] for who in (ann, ben)}
    assert all(sorted(theirs) == sorted(mine) for theirs in got.values())
    assert got[ann.annotator] != got[ben.annotator], "each in another order: one in 30! they are the same"
    for who in (ann, ben, eve):
        assert room.queue.offer(who).stop is Stop.NOTHING


def test_the_same_task_stays_until_it_is_answered(room: Room) -> None:
    room.ask(*(question(n) for n in range(5)))
    ann = room.join()
    first = room.queue.offer(ann)
    room.clock.on(minutes=3)
    assert room.queue.offer(ann) == first
    assert first.shown_at == NINE


def test_what_is_due_comes_first_and_what_others_began_second(room: Room) -> None:
    due, begun, *_ = room.ask(
        question(0, due_at=NINE + timedelta(hours=3)),
        question(1, wanted=3),
        *(question(n, wanted=3) for n in range(2, 8)),
    )
    past = room.ask(question(9, due_at=NINE - timedelta(seconds=1)))
    ben, ann = room.join("ben"), room.join("ann")
    said = room.pool.find(begun, DAY, "ads")
    assert said is not None
    record(room.home.state, said.row, [Annotation(begun, ben.annotator, NINE, "page", label="tie")])
    room.pool.refresh()
    order = [room.answer(ann, seconds=1).label_task_id for _ in range(8)]
    assert order[:2] == [due, begun]
    assert not set(past) & set(order)


def test_a_task_on_somebodys_desk_is_not_given_to_more_than_are_wanted(room: Room) -> None:
    room.ask(question(0, wanted=2))
    ann, ben, eve = (room.join(who) for who in ("ann", "ben", "eve"))
    assert room.queue.offer(ann).task == room.queue.offer(ben).task
    assert room.queue.offer(eve).stop is Stop.NOTHING
    room.clock.time += LEASE + timedelta(seconds=1)
    assert room.queue.offer(eve).task is not None, "nobody waits for ever for somebody who went away"


# -- limits -----------------------------------------------------------------------------------------------------------


def test_the_days_minutes_end_the_day_also_after_a_restart(room: Room) -> None:
    room.ask(*(question(n) for n in range(9)))
    ann = room.join(daily_minutes=10)
    for _ in range(2):
        room.answer(ann, minutes=5)
    assert room.queue.offer(ann).stop is Stop.ENOUGH
    room.again()
    assert room.queue.offer(ann).stop is Stop.ENOUGH
    assert room.queue.progress(ann).minutes == pytest.approx(10)
    room.clock.time = datetime(2026, 1, 7, tzinfo=UTC)
    assert room.queue.offer(ann).task is not None
    assert room.queue.progress(ann).answered == 0


def test_a_page_that_was_left_open_does_not_use_up_the_day(room: Room) -> None:
    room.ask(*(question(n) for n in range(9)))
    ann = room.join(daily_minutes=60)
    room.answer(ann, hours=3)
    assert room.queue.progress(ann).minutes == pytest.approx(15)


def test_a_break_is_due_after_so_long_and_a_pause_of_ones_own_is_one(home: Home) -> None:
    room = Room(home, break_after_minutes=20, break_minutes=5)
    room.ask(*(question(n) for n in range(20)))
    ann = room.join()
    for _ in range(4):
        room.answer(ann, minutes=5)
    offer = room.queue.offer(ann)
    assert (offer.stop, offer.until) == (Stop.BREAK, room.clock() + timedelta(minutes=5))
    room.again()
    assert room.queue.offer(ann).stop is Stop.BREAK
    room.clock.on(minutes=5)
    room.answer(ann, minutes=10)
    room.clock.on(minutes=6)
    room.answer(ann, minutes=15)
    assert room.queue.offer(ann).task is not None, "the pause in between was a break"


def test_harmful_texts_go_only_to_those_who_agreed_and_only_so_many(room: Room) -> None:
    room.ask(*(question(n, harm="hatred", wanted=2) for n in range(5)))
    ann, ben = room.join("ann", harmful=True, daily_harmful=2), room.join("ben")
    assert room.queue.offer(ben).stop is Stop.NOTHING
    offer = room.queue.offer(ann)
    assert offer.task is not None
    assert offer.shown_at is None, "it waits behind its warning"
    room.answer(ann, action=Action.SKIP, minutes=1)
    room.answer(ann, minutes=1)
    assert room.queue.progress(ann).harmful == 2
    assert room.queue.offer(ann).stop is Stop.NOTHING
    room.again()
    assert room.queue.offer(ann).stop is Stop.NOTHING


def test_a_harmful_text_that_was_not_looked_at_does_not_count(room: Room) -> None:
    room.ask(*(question(n, harm="hatred") for n in range(3)))
    ann = room.join(harmful=True, daily_harmful=1)
    offer = room.queue.offer(ann)
    assert offer.task is not None
    said = Annotation(offer.task.label_task_id, ann.annotator, NINE, "page", action=Action.SKIP, reason="not shown")
    record(room.home.state, offer.task.row, [said])
    room.queue.stored(ann, offer.task, Action.SKIP, NINE, None)
    assert room.queue.progress(ann).harmful == 0
    assert room.queue.offer(ann).task is not None


# -- known answers ----------------------------------------------------------------------------------------------------


def test_known_answers_are_hidden_among_the_rest_at_their_share(home: Home) -> None:
    room = Room(home, gold_share=0.2)
    rows = [question(n, wanted=1) for n in range(60)]
    golden = {row["label_task_id"] for row in rows[:30]}
    room.ask(*rows, *(question(n) for n in range(100, 200)))
    for row in rows[:30]:
        gold.put(home.state, row, label="first", reason="experts", author="lead")
    for row in rows[30:]:
        gold.put(home.state, row, label="first", reason="experts", author="lead", hidden=False)
    room.pool.refresh()
    room.queue._random.seed(1)
    ann = room.join()
    got = [room.answer(ann, seconds=1).label_task_id for _ in range(100)]
    assert len(set(got)) == 100
    assert 10 <= sum(key in golden for key in got) <= 30
    ben = room.join("ben")
    seen = {room.answer(ben, seconds=1).label_task_id for _ in range(30)}
    assert seen & golden, "what is known is asked of everybody"


def test_of_a_task_that_had_left_and_is_known_now_its_partition_alone_is_read(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room(home)
    row = question(0, wanted=1)
    room.ask(question(1, workflow="comms"), row)
    ann = room.join(workflows=["ads"])
    assert room.answer(ann, seconds=9).label_task_id == row["label_task_id"]
    room.again()
    assert len(room.pool) == 1
    gold.put(home.state, row, label="first", reason="experts", author="lead")
    read: list[tuple[date, str]] = []
    rows = Pool._rows
    monkeypatch.setattr(Pool, "_rows", lambda self, part: read.append(part) or rows(self, part))  # type: ignore[func-returns-value]
    room.pool.refresh()
    assert read == [(DAY, "ads")]
    assert [task.label_task_id for task in room.pool.hidden()] == [row["label_task_id"]]
    room.pool.refresh()
    assert len(read) == 1


# -- undoing ----------------------------------------------------------------------------------------------------------


def test_what_is_undone_is_asked_next_and_only_for_an_hour(room: Room) -> None:
    room.ask(*(question(n) for n in range(3)))
    ann = room.join()
    first, second = room.answer(ann, seconds=9), room.answer(ann, seconds=9)
    for task in (second, first):
        assert room.queue.last(ann) == task
        undo = Annotation(task.label_task_id, ann.annotator, room.clock(), "page", action=Action.UNDO)
        assert record(room.home.state, task.row, [undo]).changed == 1
        room.queue.undone(ann, task)
    assert room.queue.last(ann) is None
    assert room.queue.offer(ann).task == first
    room.again()
    assert room.queue.last(ann) is None
    third = room.queue.offer(ann).task
    assert third is not None
    record(
        room.home.state, third.row, [Annotation(third.label_task_id, ann.annotator, room.clock(), "page", label="tie")]
    )
    room.queue.stored(ann, third, Action.ANSWER, room.clock(), room.clock())
    room.clock.time += SETTLED
    assert room.queue.last(ann) is None


# -- the pool ---------------------------------------------------------------------------------------------------------


def test_only_what_changed_is_read_and_what_is_answered_elsewhere_is_asked_no_more(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.ask(question(0), question(1), question(2, workflow="comms"))
    read: list[tuple[date, str]] = []
    rows = Pool._rows
    monkeypatch.setattr(Pool, "_rows", lambda self, part: read.append(part) or rows(self, part))  # type: ignore[func-returns-value]
    room.pool.refresh()
    assert read == []
    room.ask(question(3, workflow="comms"))
    assert read == [(DAY, "comms")]
    (task,) = (t for t in room.pool.of(["ads"], ["preference"], harmful=False) if t.content["texts"][0] == "one 0")
    said = Annotation(task.label_task_id, room.join("eve").annotator, NINE, "studio", label="tie")
    function = Annotation(task.label_task_id, "words", NINE, "function", label="tie")
    record(room.home.state, task.row, [function])
    room.pool.refresh()
    assert room.pool.answered(task.label_task_id) == 0, "a labelling function is nobody"
    record(room.home.state, task.row, [said])
    room.pool.refresh()
    ann = room.join()
    got = {room.answer(ann, seconds=1).label_task_id for _ in range(3)}
    assert task.label_task_id not in got
    room.again()
    assert len(room.pool) == 0, "what has its answers is not held"
    assert room.pool.find(task.label_task_id, DAY, "ads") == task


def test_another_answer_after_the_deadline_opens_no_task_again(room: Room) -> None:
    (key,) = room.ask(question(0, due_at=NINE))
    ann = room.join()
    (task,) = room.pool.of(["ads"], ["preference"], harmful=False)
    said = [
        Annotation(key, ann.annotator, NINE + timedelta(seconds=n), "page", label=("first", "tie")[n]) for n in (0, 1)
    ]
    assert record(room.home.state, task.row, said).changed == 1
    room.pool.refresh()
    assert room.pool.answered(key) == 1
    assert room.pool.size(["ads"], ["preference"], harmful=False) == 0
