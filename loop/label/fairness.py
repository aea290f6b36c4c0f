"""What labelling asks of people, in figures: how long a task takes, what is paid for it, and what each has done.

Who sees what is decided here. A person sees everything about themselves. Whoever leads sees of each what is needed to
pay and to limit, and how often known answers were met only with an interval and from `LEAST` of them on; how fast
people are and how much they skip is conduct, told of all together and from `LEAST` people on. Nothing is ordered by it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from loop.label import gold
from loop.label.annotations import FUNCTION, WORDS, Action
from loop.label.annotators import annotators
from loop.label.queue import IDLE_SECONDS
from loop.label.tasks import Kind
from loop.lake import Lake
from loop.state import State

CUMULATIVE: Final = ("studio", "vendor")
"""Sources that tell with each version the time of all of them."""
LEAST: Final = 10
"""Of fewer people, or of fewer known answers of a person, nothing is told about conduct."""
RECENT: Final = 200
"""Answers of each person from which times are estimated: nobody's outweigh the others'."""
PRIOR: Final = 10.0
"""Answers that weigh as much as what was assumed before there were any."""
SPREAD: Final = 0.7
"""Standard deviation of the logarithm of times that is assumed before there are any: a factor of two either way."""
READING: Final = 20.0
"""Characters a second that are read before there are measurements: some 230 words a minute."""
EDGES: Final = (200, 500, 1_000, 2_000, 5_000)
"""Lengths of texts, in characters, that part the cells."""
_SETTING_OUT: Final = {
    Kind.PREFERENCE: 8.0,
    Kind.RATING: 6.0,
    Kind.CATEGORY: 5.0,
    Kind.SPAN: 20.0,
    Kind.REWRITE: 90.0,
    Kind.RED_TEAM: 180.0,
}
"""Seconds beside the reading that are assumed before there are measurements."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Time:
    """How long a task takes, in seconds."""

    seconds: float
    """Median."""
    mean: float
    """What is paid for: the slow answers are somebody's time too."""
    low: float | None
    high: float | None
    """95 % interval of the median, over people's medians; None where they are fewer than six."""
    answers: int
    """Of that kind and length; 0: it is what is assumed, drawn to what the kind's other lengths take."""


class Times:
    """Times by kind and length of the texts: medians of log seconds, and means of seconds, over what is assumed.

    A cell of few answers is drawn to its kind, and a kind of few to what was assumed, each as if by `PRIOR` answers.
    """

    def __init__(
        self,
        kinds: Sequence[str] = (),
        chars: npt.ArrayLike = (),
        seconds: npt.ArrayLike = (),
        people: Sequence[str] = (),
    ) -> None:
        """Answers, shape (n,) each; `chars` of all texts that were to be read, `seconds` of one answer, and whose."""
        names, who = np.asarray(kinds, dtype=object), np.asarray(people, dtype=object)
        long = np.asarray(chars, dtype=np.float64)
        spent = np.asarray(seconds, dtype=np.float64)
        sound = np.isfinite(spent) & (spent > 0)
        names, long, who = names[sound], long[sound], who[sound]
        spent = np.minimum(spent[sound], IDLE_SECONDS)
        over = np.log(spent) - np.log([_assumed(kind, of) for kind, of in zip(names, long, strict=True)])
        bins = np.searchsorted(EDGES, long, side="right")
        self._cells: dict[tuple[str, int], tuple[float, float, tuple[float, float] | None, int]] = {}
        for kind in Kind:
            middle, ratio = _drawn(over[names == kind], 0.0, math.exp(SPREAD**2 / 2))
            for cell in range(len(EDGES) + 1):
                inside = (names == kind) & (bins == cell)
                medians = [float(np.median(over[inside & (who == one)])) for one in sorted(set(who[inside]))]
                found = *_drawn(over[inside], middle, ratio), median_interval(medians), int(inside.sum())
                self._cells[kind, cell] = found

    def of(self, kind: str, chars: int) -> Time:
        """How long a task of that kind takes whose texts have so many characters."""
        middle, ratio, ends, answers = self._cells[Kind(kind), int(np.searchsorted(EDGES, chars, side="right"))]
        whole = _assumed(kind, chars)
        # What was assumed, and people of many answers, may draw the median out of the interval, which then is wider.
        low, high = (
            (None, None)
            if ends is None
            else (whole * math.exp(min(ends[0], middle)), whole * math.exp(max(ends[1], middle)))
        )
        return Time(whole * math.exp(middle), whole * ratio, low, high, answers)


def _assumed(kind: str, chars: float) -> float:
    return _SETTING_OUT[Kind(kind)] + chars / READING


def _drawn(logs: Floats, median: float, mean: float) -> tuple[float, float]:
    """Median of logarithms and mean of what they are of, drawn to what is believed without them."""
    n = len(logs)
    if not n:
        return median, mean
    told = float(np.median(logs)), float(np.exp(logs).mean())
    return (n * told[0] + PRIOR * median) / (n + PRIOR), (n * told[1] + PRIOR * mean) / (n + PRIOR)


def characters(tasks: pa.Table) -> npt.NDArray[np.int64]:
    """Characters to be read of each task, shape (n,); of a table with `prompt` and `texts`."""
    tasks = tasks.combine_chunks()
    total = np.zeros(tasks.num_rows, np.int64)
    if not tasks.num_rows:
        return total
    for name in ("prompt", "texts"):
        (column,) = tasks[name].chunks
        values = column.values.field("content") if name == "prompt" else column.values
        sums = np.concatenate([[0], np.cumsum(pc.fill_null(pc.utf8_length(values), 0).to_numpy(zero_copy_only=False))])
        ends = column.offsets.to_numpy()
        total += (sums[ends[1:]] - sums[ends[:-1]]).astype(np.int64)
    return total


def _worked(said: sa.FromClause) -> sa.ColumnElement[bool]:
    """Whether a version is work of its own, of a table of `annotations`.

    It is none where it says what the version before says, as where that counts from now on. Of `CUMULATIVE` sources the
    last version holds the time of all.
    """
    other = said.alias()
    whole = said.c.source.in_(CUMULATIVE)
    later = sa.and_(
        whole,
        other.c.source == said.c.source,
        other.c.version > said.c.version,
        other.c.action != Action.UNDO.value,
    )
    again = sa.and_(
        ~whole,
        other.c.version == said.c.version - 1,
        *(other.c[name].is_not_distinct_from(said.c[name]) for name in WORDS),
    )
    same = sa.and_(other.c.label_task_id == said.c.label_task_id, other.c.annotator == said.c.annotator)
    return ~sa.exists(sa.select(1).select_from(other).where(same, sa.or_(later, again)))


def _spent(said: sa.FromClause, *where: sa.ColumnElement[bool]) -> sa.ColumnElement[float]:
    """Seconds of work, added up. SQL's LEAST passes over a null, so that what has no time would take the longest."""
    capped = sa.func.sum(sa.func.least(said.c.seconds, IDLE_SECONDS)).filter(said.c.seconds.is_not(None), *where)
    return sa.func.coalesce(capped, 0.0)


def times(lake: Lake, state: State) -> Times:
    """Times as the last answers of everybody have them. What it costs grows with people, not with history."""
    people, said = state.tables["annotators"], state.tables["annotations"]
    last = (
        sa.select(said.c.label_task_id, said.c.day, said.c.workflow, said.c.seconds, said.c.annotator)
        .where(said.c.annotator == people.c.annotator, said.c.action == Action.ANSWER.value, said.c.seconds > 0)
        .where(_worked(said))
        .order_by(said.c.answered_at.desc())
        .limit(RECENT)
        .lateral()
    )
    with state.engine.connect() as connection:
        rows = connection.execute(sa.select(last).select_from(people.join(last, sa.true()))).all()
    about = _about(lake, rows)
    found = [(*about[row.label_task_id], row.seconds, row.annotator) for row in rows if row.label_task_id in about]
    return Times(*zip(*found, strict=True)) if found else Times()


def _about(lake: Lake, rows: Sequence[Any]) -> dict[str, tuple[str, int]]:
    """Kind and characters of the tasks of some answers, as far as the lake still has them."""
    if not rows:
        return {}
    days = (min(row.day for row in rows), max(row.day for row in rows))
    asked = lake.read("label_tasks", days=days, columns=["label_task_id", "kind", "prompt", "texts"])
    asked = asked.filter(pc.is_in(asked["label_task_id"], pa.array(sorted({row.label_task_id for row in rows}))))
    told = zip(asked["kind"].to_pylist(), characters(asked).tolist(), strict=True)
    return dict(zip(asked["label_task_id"].to_pylist(), told, strict=True))


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """A 95 % interval of the median by order statistics (Conover 1999, 3.2); None of fewer than six values."""
    n = len(values)
    if n < 6:
        return None
    ordered, half = sorted(values), 0.98 * math.sqrt(n)
    return ordered[max(0, math.floor(n / 2 - half))], ordered[min(n - 1, math.ceil(n / 2 + half))]


# -- one person -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pace:
    """How long one person takes for a kind of task."""

    kind: str
    answers: int
    seconds: float
    """Median."""
    low: float | None
    high: float | None
    """95 % interval of it; None where there are too few."""


@dataclass(frozen=True)
class Own:
    """What a person is told about themselves."""

    answers: int
    skips: int
    minutes: float
    since: datetime | None
    pace: tuple[Pace, ...]
    right: int
    known: int
    """So many of so many answers of more than an hour ago met the known one."""


def own(state: State, lake: Lake, annotator: str, *, settled: datetime) -> Own:
    """A person's figures, for that person alone.

    Args:
        settled: what was answered later is not judged yet.
    """
    said = state.tables["annotations"]
    mine = said.c.annotator == annotator
    query = sa.select(
        sa.func.count().filter(said.c.action == Action.ANSWER.value),
        sa.func.count().filter(said.c.action == Action.SKIP.value),
        _spent(said),
        sa.func.min(said.c.answered_at),
    ).where(mine, _worked(said))
    recent = (
        sa.select(said.c.label_task_id, said.c.day, said.c.seconds)
        .where(mine, said.c.action == Action.ANSWER.value, said.c.seconds > 0, _worked(said))
        .order_by(said.c.answered_at.desc())
        .limit(RECENT)
    )
    with state.engine.connect() as connection:
        answers, skips, seconds, since = connection.execute(query).one()
        spent = connection.execute(recent).all()
    about = _about(lake, spent)
    by_kind: dict[str, list[float]] = {}
    for row in spent:
        if row.label_task_id in about:
            by_kind.setdefault(about[row.label_task_id][0], []).append(row.seconds)
    pace = tuple(
        Pace(kind, len(values), float(np.median(values)), *(median_interval(values) or (None, None)))
        for kind, values in sorted(by_kind.items())
    )
    judged = gold.judged(state, annotator, before=settled)
    return Own(answers, skips, seconds / 60, since, pace, sum(one.right for one in judged), len(judged))


# -- whoever leads ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Person:
    """What whoever leads sees of one person: what is needed to pay and to limit, and known answers from `LEAST` on."""

    annotator: str
    source: str
    removed: bool
    answers: int
    minutes: float
    minutes_today: float
    daily_minutes: int
    pay_per_hour: float | None
    earned: float | None
    """Minutes at that pay."""
    below_floor: bool | None
    """None where there is no floor, or no pay by the hour."""
    right: int | None
    known: int | None
    """So many of so many known answers were met; None of fewer than `LEAST`."""


@dataclass(frozen=True)
class Together:
    """Conduct of all together; None each where they are fewer than `LEAST` people."""

    people: int
    skipped: float | None
    """Share of tasks that were skipped: median over people."""
    seconds: float | None
    """A task's time: median over people of their medians."""


def people(state: State, *, floor: float | None, now: datetime | None = None) -> list[Person]:
    """Everybody who answers, by pseudonym."""
    now = now or datetime.now(UTC)
    midnight = datetime(now.year, now.month, now.day, tzinfo=UTC)
    said = state.tables["annotations"]
    query = (
        sa.select(
            said.c.annotator,
            sa.func.count().filter(said.c.action == Action.ANSWER.value),
            _spent(said),
            _spent(said, said.c.answered_at >= midnight),
        )
        .where(_worked(said))
        .group_by(said.c.annotator)
    )
    with state.engine.connect() as connection:
        done = {who: (answers, seconds / 60, new / 60) for who, answers, seconds, new in connection.execute(query)}
    met: dict[str, list[bool]] = {}
    for one in gold.judged(state):
        met.setdefault(one.annotator, []).append(one.right)
    found = []
    for who in annotators(state):
        answers, minutes, minutes_today = done.get(who.annotator, (0, 0.0, 0.0))
        judged = met.get(who.annotator, [])
        told: tuple[int | None, int | None] = (sum(judged), len(judged)) if len(judged) >= LEAST else (None, None)
        pay = who.pay_per_hour
        found.append(
            Person(
                who.annotator,
                who.source,
                who.removed_at is not None,
                answers,
                minutes,
                minutes_today,
                who.daily_minutes,
                pay,
                None if pay is None else pay * minutes / 60,
                None if pay is None or floor is None else pay < floor,
                *told,
            )
        )
    return found


def together(state: State) -> Together:
    """How much people skip and how fast they are, of all together."""
    said = state.tables["annotations"]
    query = (
        sa.select(
            sa.func.count().filter(said.c.action == Action.SKIP.value),
            sa.func.count().filter(said.c.action != Action.UNDO.value),
            sa.func.percentile_cont(0.5).within_group(said.c.seconds),
        )
        .where(said.c.source != FUNCTION, _worked(said))
        .group_by(said.c.annotator)
    )
    with state.engine.connect() as connection:
        rows = connection.execute(query).all()
    if len(rows) < LEAST:
        return Together(len(rows), None, None)
    skipped = [skips / of for skips, of, _ in rows if of]
    spent = [seconds for _, _, seconds in rows if seconds is not None]
    return Together(
        len(rows),
        float(np.median(skipped)) if skipped else None,
        float(np.median(spent)) if len(spent) >= LEAST else None,
    )


def pay(times_: Times, rate: float | None, kind: str, chars: int) -> float | None:
    """What a task of that kind and length brings at a rate by the hour, on average; None without one."""
    return None if rate is None else rate * times_.of(kind, chars).mean / 3600


def cells(times_: Times) -> list[tuple[str, str, Time, int]]:
    """Every kind and length: their names, the time, and the length that stands for them, in characters."""
    ends = (0, *EDGES)
    found: list[tuple[str, str, Time, int]] = []
    for kind in Kind:
        for place, least in enumerate(ends):
            most = ends[place + 1] if place + 1 < len(ends) else None
            middle = (least + most) // 2 if most else 2 * least
            named = f"under {most:,}" if not least else f"{least:,} to {most:,}" if most else f"over {least:,}"
            found.append((kind.value, named, times_.of(kind, middle), middle))
    return found
