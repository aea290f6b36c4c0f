"""Which task a person gets next: the open ones of a home in memory, and one desk a person over them.

What is fair is enforced here and not asked for: minutes and harmful texts a day, breaks, nothing harmful without
consent. Tasks whose answer is known are drawn among the rest, and nothing tells them apart. What is kept here is made
of the lake and of `annotations`: a process that starts anew goes on where the last one ended.
"""

from __future__ import annotations

import hashlib
import heapq
import random
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa

from loop.config import Settings
from loop.label.annotations import Action
from loop.label.annotators import Annotator
from loop.label.pool import Pool, Task
from loop.state import State

LEASE: Final = timedelta(minutes=30)
"""How long a task that was shown waits for its answer before it is given to another person too."""
SETTLED: Final = timedelta(hours=1)
"""Until then an answer can be undone; from then on the person is told what is known to be right."""
IDLE_SECONDS: Final = 900.0
"""No more of the time of one task counts as work: beyond it somebody went away."""
AHEAD: Final = 20
"""Tasks that are looked out at a time, so that not every answer looks through all of them."""


LOOKED: Final = 4
"""Times as many are looked at."""


class Stop(StrEnum):
    """Why there is no task."""

    ENOUGH = "enough"
    """The day's minutes are used up."""
    BREAK = "break"
    NOTHING = "nothing"
    """No task is left that the person may be asked."""


@dataclass(frozen=True)
class Offer:
    """What a person is shown next: a task, or why there is none."""

    task: Task | None = None
    shown_at: datetime | None = None
    """None while the task waits behind its warning."""
    stop: Stop | None = None
    until: datetime | None = None
    """End of the break."""


@dataclass(frozen=True)
class Progress:
    """What a person has done today, and what is left."""

    answered: int
    skipped: int
    minutes: float
    harmful: int
    """Harmful texts that were shown."""
    left: int
    """Tasks that the person may be asked, about."""


@dataclass
class Desk:
    """What is known of one person's work, as far as the next task depends on it."""

    day: date
    said: dict[str, Action] = field(default_factory=dict)
    """Tasks that the person has answered or skipped."""
    recent: list[tuple[Task, datetime]] = field(default_factory=list)
    """Today's answers and skips in their order, for undoing."""
    returned: list[Task] = field(default_factory=list)
    """Tasks that were undone: the last is asked first."""
    ahead: deque[Task] = field(default_factory=deque)
    left: int = 0
    current: Task | None = None
    shown_at: datetime | None = None
    seconds: float = 0.0
    answered: int = 0
    skipped: int = 0
    harmful: set[str] = field(default_factory=set)
    began: datetime | None = None
    """Since when the person has worked without a pause."""
    last: datetime | None = None


class Queue:
    """The desks of everybody over one pool. Safe for several threads."""

    def __init__(
        self, settings: Settings, state: State, pool: Pool, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.settings, self.state, self.pool, self.now = settings, state, pool, now
        self._key = settings.secret("labelling")
        self._desks: dict[str, Desk] = {}
        self._leases: dict[str, dict[str, datetime]] = defaultdict(dict)
        self._lock = threading.Lock()
        self._random = random.Random()  # noqa: S311 - which task is next is no secret

    def swapped(self, task: Task, annotator: str) -> bool:
        """Whether the second text stands first on this person's page: a keyed hash, so the same at every look."""
        told = f"{annotator}\0{task.label_task_id}".encode()
        return bool(hashlib.blake2b(told, key=self._key[:64], digest_size=1).digest()[0] & 1)

    def offer(self, person: Annotator) -> Offer:
        """The person's task: the one that is on the desk, or the next one."""
        desk, now = self._desk(person), self.now()
        with self._lock:
            if desk.current is not None and self._fits(desk.current, person, desk, now):
                return Offer(desk.current, desk.shown_at)
            desk.current = desk.shown_at = None
            if desk.seconds >= 60 * person.daily_minutes:
                return Offer(stop=Stop.ENOUGH)
            if (until := self._break(desk)) is not None and now < until:
                return Offer(stop=Stop.BREAK, until=until)
            task = self._next(person, desk, now)
            if task is None:
                return Offer(stop=Stop.NOTHING)
            desk.current = task
            desk.shown_at = None if task.harm else now
            self._leases[task.label_task_id][person.annotator] = now + LEASE
            return Offer(task, desk.shown_at)

    def reveal(self, person: Annotator) -> None:
        """The person has read the warning and wants to see the text: it counts as seen from now on."""
        desk, now = self._desk(person), self.now()
        with self._lock:
            if desk.current is not None and desk.current.harm and desk.shown_at is None:
                desk.shown_at = now
                desk.harmful.add(desk.current.label_task_id)

    def stored(self, person: Annotator, task: Task, action: Action, at: datetime, shown_at: datetime | None) -> None:
        """Note what the database has taken: an answer, or a skip."""
        desk = self._desk(person)
        with self._lock:
            self._turn(desk, at)
            self._count(desk, task, action, at, shown_at)
            self.pool.count(task.label_task_id, (action is Action.ANSWER) - (self._said(desk, task) is Action.ANSWER))
            desk.said[task.label_task_id] = action
            desk.recent = [one for one in desk.recent if one[0].label_task_id != task.label_task_id]
            desk.recent.append((task, at))
            self._off(person, desk, task)

    def cleared(self, person: Annotator, task: Task) -> None:
        """Note that nothing new was stored of a task: it is off the desk all the same."""
        desk = self._desk(person)
        with self._lock:
            self._off(person, desk, task)

    def said(self, person: Annotator, task: Task) -> Action | None:
        """What the person last did with a task: answer or skip; None where nothing stands."""
        desk = self._desk(person)
        with self._lock:
            return self._said(desk, task)

    def last(self, person: Annotator) -> Task | None:
        """The task whose answer, or skip, the person may undo now."""
        desk, now = self._desk(person), self.now()
        with self._lock:
            return desk.recent[-1][0] if desk.recent and now - desk.recent[-1][1] < SETTLED else None

    def undone(self, person: Annotator, task: Task) -> None:
        """Note that the database has the undoing: the task is the person's next."""
        desk = self._desk(person)
        with self._lock:
            if self._said(desk, task) is Action.ANSWER:
                self.pool.count(task.label_task_id, -1)
            desk.said.pop(task.label_task_id, None)
            desk.recent = [one for one in desk.recent if one[0].label_task_id != task.label_task_id]
            if desk.current is not None and desk.current != task:
                desk.ahead.appendleft(desk.current)
            desk.current = desk.shown_at = None
            self.pool.keep(task)
            desk.returned.append(task)

    def progress(self, person: Annotator) -> Progress:
        desk = self._desk(person)
        with self._lock:
            self._turn(desk, self.now())
            waiting = len(desk.returned) + (desk.current is not None)
            left = max(desk.left, len(desk.ahead)) + waiting
            return Progress(desk.answered, desk.skipped, desk.seconds / 60, len(desk.harmful), left)

    def forget(self, annotator: str) -> None:
        """Read the person's work anew at the next look."""
        with self._lock:
            self._desks.pop(annotator, None)

    # -- the next task ----------------------------------------------------------------------------------------------

    def _next(self, person: Annotator, desk: Desk, now: datetime) -> Task | None:
        while desk.returned:
            task = desk.returned.pop()
            if self._fits(task, person, desk, now):
                return task
        if self._random.random() < self.settings.gold_share:
            golden = [t for t in self.pool.hidden() if self._fits(t, person, desk, now)]
            if golden:
                desk.left = max(0, desk.left - 1)  # else it would tell by standing still
                return self._random.choice(golden)
        for again in (False, True):
            while desk.ahead:
                task = desk.ahead.popleft()
                if self._fits(task, person, desk, now) and self._room(task, person, now):
                    desk.left = max(0, desk.left - 1)
                    return task
            if not again:
                self._look_ahead(person, desk, now)
        return None

    def _look_ahead(self, person: Annotator, desk: Desk, now: datetime) -> None:
        """Those due first, then those that others have begun, then at random: each person in another order.

        Of what comes first in the pool a few times as many are looked at as are wanted; what it costs does not grow
        with the pool.
        """
        hidden = {task.label_task_id for task in self.pool.hidden()}
        open_: list[Task] = []
        for task in self.pool.of(person.workflows, person.kinds, harmful=person.harmful):
            if (
                task.label_task_id not in hidden
                and self._fits(task, person, desk, now)
                and self._room(task, person, now)
            ):
                open_.append(task)
                if len(open_) == LOOKED * AHEAD:
                    break
        size = self.pool.size(person.workflows, person.kinds, harmful=person.harmful)
        more = max(0, size - len(desk.said) - len(hidden)) if len(open_) == LOOKED * AHEAD else 0
        left = max(len(open_), more)
        unseen = sum(self._fits(task, person, desk, now) for task in self.pool.hidden())
        desk.left = left + min(unseen, round(left * self.settings.gold_share / (1 - self.settings.gold_share)))
        never = datetime.max.replace(tzinfo=UTC)

        def rank(task: Task) -> tuple[datetime, int, float]:
            return task.due_at or never, -self.pool.answered(task.label_task_id), self._random.random()

        desk.ahead.extend(heapq.nsmallest(AHEAD, open_, key=rank))

    def _fits(self, task: Task, person: Annotator, desk: Desk, now: datetime) -> bool:
        """Whether the person may be asked this now, whoever else was."""
        return (
            task.label_task_id not in desk.said
            and task.workflow in person.workflows
            and task.kind in person.kinds
            and (task.due_at is None or now <= task.due_at)
            and (task.harm is None or self._may_see(task, person, desk))
            and self.pool.has(task)
        )

    @staticmethod
    def _may_see(task: Task, person: Annotator, desk: Desk) -> bool:
        return person.harmful and (task.label_task_id in desk.harmful or len(desk.harmful) < person.daily_harmful)

    def _room(self, task: Task, person: Annotator, now: datetime) -> bool:
        """Whether another answer is wanted, those that are being given counted in."""
        leases = self._leases.get(task.label_task_id)
        others = 0
        if leases:
            others = sum(until > now for who, until in leases.items() if who != person.annotator)
        return self.pool.answered(task.label_task_id) + others < task.wanted

    def _off(self, person: Annotator, desk: Desk, task: Task) -> None:
        """The task is off the desk."""
        if leases := self._leases.get(task.label_task_id):
            leases.pop(person.annotator, None)
            if not leases:
                del self._leases[task.label_task_id]
        desk.returned = [one for one in desk.returned if one.label_task_id != task.label_task_id]
        if desk.current is not None and desk.current.label_task_id == task.label_task_id:
            desk.current = desk.shown_at = None

    # -- the desk ---------------------------------------------------------------------------------------------------

    def _desk(self, person: Annotator) -> Desk:
        with self._lock:
            desk = self._desks.get(person.annotator)
            if desk is not None:
                self._turn(desk, self.now())
                return desk
        made = self._read(person)
        with self._lock:
            return self._desks.setdefault(person.annotator, made)

    def _read(self, person: Annotator) -> Desk:
        """A desk as the database says it was left. What is older than the oldest open task is not asked for."""
        now = self.now()
        desk = Desk(now.date())
        midnight = datetime(now.year, now.month, now.day, tzinfo=UTC)
        said = self.state.tables["annotations"]
        query = (
            sa.select(
                *(said.c[name] for name in ("label_task_id", "day", "workflow", "action", "answered_at", "shown_at"))
            )
            .where(said.c.annotator == person.annotator, said.c.answered_at >= min(midnight, self.pool.oldest))
            .order_by(said.c.answered_at, said.c.version)
        )
        with self.state.engine.connect() as connection:
            rows = connection.execute(query).mappings().all()
        for row in rows:
            self._again(desk, row, today=row["answered_at"] >= midnight)
        return desk

    def _again(self, desk: Desk, row: Mapping[Any, Any], *, today: bool) -> None:
        key, action = row["label_task_id"], Action(row["action"])
        if action is Action.UNDO:
            desk.said.pop(key, None)
            desk.recent = [one for one in desk.recent if one[0].label_task_id != key]
            return
        if today:
            task = self.pool.find(key, row["day"], row["workflow"])
            if task is not None:
                self._count(desk, task, action, row["answered_at"], row["shown_at"])
                desk.recent.append((task, row["answered_at"]))
        desk.said[key] = action

    def _count(self, desk: Desk, task: Task, action: Action, at: datetime, shown_at: datetime | None) -> None:
        before = self._said(desk, task)
        desk.answered += (action is Action.ANSWER) - (before is Action.ANSWER)
        desk.skipped += (action is Action.SKIP) - (before is Action.SKIP)
        if task.harm and shown_at is not None:
            desk.harmful.add(task.label_task_id)
        began = at if shown_at is None else max(shown_at, at - timedelta(seconds=IDLE_SECONDS))
        desk.seconds += max(0.0, (at - began).total_seconds())
        pause = timedelta(minutes=self.settings.break_minutes)
        if desk.began is None or desk.last is None or began - desk.last >= pause:
            desk.began = began
        desk.last = at

    def _break(self, desk: Desk) -> datetime | None:
        """When the break ends that the person is due, if one is."""
        pause = timedelta(minutes=self.settings.break_minutes)
        if not pause or desk.began is None or desk.last is None:
            return None
        tired = desk.last - desk.began >= timedelta(minutes=self.settings.break_after_minutes)
        return desk.last + pause if tired else None

    @staticmethod
    def _said(desk: Desk, task: Task) -> Action | None:
        return desk.said.get(task.label_task_id)

    @staticmethod
    def _turn(desk: Desk, now: datetime) -> None:
        """A new day, in UTC, begins with nothing done."""
        if desk.day != now.date():
            desk.day = now.date()
            desk.seconds, desk.answered, desk.skipped = 0.0, 0, 0
            desk.harmful.clear()
            desk.recent.clear()
