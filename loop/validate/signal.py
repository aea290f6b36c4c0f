"""How much each decision's feedback says: a weight from 0 to 1 with its reasons; groups whose feedback says nothing.

For weighting data, never for judging staff: what is found about a person is that person's own to see; everybody else
sees groups of ten or more. How days are read and written is said in `signal_days.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import numpy as np
import pyarrow as pa

from loop.privacy import GROUP
from loop.validate import signal_content, signal_peers
from loop.validate import signal_evidence as judging
from loop.validate.signal_content import Content
from loop.validate.signal_evidence import STATISTICS, Evidence, Way
from loop.validate.signal_features import Facts, Flags, Reals, facts
from loop.validate.signal_position import Choices, choices

TURNS: Final = 3
"""Who is trusted decides what is learned of content, and the other way round."""
RUSHED: Final = 0.5
"""A group's day says nothing where half of its people accept most of what they get faster than anybody reads."""
TOLD: Final = 0.9
"""A weight below it is given with reasons: what takes more than `SLIGHT` from it."""
SLIGHT: Final = 0.05


@dataclass(frozen=True)
class Group:
    """A group and day whose feedback carries no information."""

    group: str
    """A workflow or a team."""
    day: date
    people: int
    decisions: int
    accepted: float
    """Share of the decisions."""
    instant: float
    """Share of the decisions that were accepted faster than anybody reads."""
    median_seconds: float

    def told(self) -> str:
        return (
            f"{self.group} on {self.day}: {self.accepted:.0%} accepted, half of all decided within "
            f"{self.median_seconds:.1f} s, {self.people} people, {self.decisions} decisions"
        )


@dataclass(frozen=True)
class Signals:
    """What the decisions of one or more days say; one entry per interaction, in the order of the rows."""

    facts: Facts
    weight: Reals
    reasons: list[list[str]]
    examination: Reals
    """Propensity of the place that was taken, relative to the place most looked at; nan where none was."""
    trust: Reals
    """Probability that they work honestly, by person, as `facts.employees`."""
    ways: dict[Way, Reals]
    choices: Choices
    groups: tuple[Group, ...]
    evidence: Evidence
    quality: Reals
    """Of the candidates, by what others hold, in logits; n by `signal_features.CANDIDATES`."""
    gain: Reals
    """Of that, what each edit adds."""
    peers: Reals
    """Log-likelihood of each decision by what others did on the same item, less that by chance."""


# -- judging --------------------------------------------------------------------------------------------------------


def judge(
    rows: pa.Table, *, before: Evidence | None = None, people: Sequence[str] = (), gold: pa.Table | None = None
) -> Signals:
    """Weigh the interactions of one workflow.

    Args:
        rows: schema `interactions`.
        before: statistics of other days, `person` an index into `people`; of these days' people who come again.
        gold: items with a known answer: see `signal_peers.gold`.
    """
    return weigh(rows, facts(rows), before=before, people=people, gold=gold)


def weigh(
    rows: pa.Table,
    found: Facts,
    *,
    before: Evidence | None = None,
    people: Sequence[str] = (),
    gold: pa.Table | None = None,
) -> Signals:
    """`judge`, where the facts are known."""
    from threadpoolctl import threadpool_limits

    # Its vectors are short: several threads of BLAS wait for each other ten times as long as they compute.
    with threadpool_limits(1, user_api="blas"):
        return _weigh(rows, found, before, people, gold)


def _weigh(
    rows: pa.Table, found: Facts, before: Evidence | None, people: Sequence[str], gold: pa.Table | None
) -> Signals:
    groups, rushed = _groups(rows, found)
    earlier = _as_of(before, people, found.employees)
    model, fitted, counts = _learn(found.take(np.flatnonzero(~rushed)), earlier, gold)
    seen = _seen(found, model, fitted, counts[found.employee], ~rushed, gold)
    total = _joined(seen.evidence, earlier).of_people(len(found.employees))
    ways = judging.ways(total)
    trust = ways[Way.HONEST]
    unread = _unread(found, total, trust, rushed)
    weight = believed(trust)[found.employee] * (1.0 - unread) * np.where(found.blank_edit, 0.5, 1.0)
    taken = (found.chosen >= 0) & (found.chosen < len(fitted.propensity))
    examination = np.where(taken, fitted.propensity[np.where(taken, found.chosen, 0)], np.nan)
    reasons = _reasons(found, weight, ways, unread, rushed)
    return Signals(
        found,
        weight,
        reasons,
        examination,
        trust,
        ways,
        fitted,
        groups,
        seen.evidence,
        seen.quality,
        seen.gain,
        seen.peers,
    )


def believed(trust: Reals) -> Reals:
    """What is left of the belief in somebody's work before any decision: 1 where nothing speaks against it."""
    return np.asarray(np.minimum(trust / judging.PRIOR[Way.HONEST], 1.0))


@dataclass(frozen=True)
class _Seen:
    """Interactions as a content model has them."""

    choices: Choices
    quality: Reals
    gain: Reals
    peers: Reals
    evidence: Evidence


def _learn(found: Facts, earlier: Evidence | None, gold: pa.Table | None) -> tuple[Content, Choices, Reals]:
    """What people hold to be good, how they choose, and how far each person's word counted (1 out of the sample).

    From a sample of people: who is trusted, and what is learned from them, in turns.
    """
    found = signal_content.sample(found)
    fold, examples = signal_content.folds(found), signal_content.examples(found)
    every = np.ones(len(found), bool)
    there = np.bincount(found.employee, minlength=len(found.employees)) > 0
    trust = np.ones(len(found.employees))
    model = signal_content.learn(examples, trust[found.employee], fold)
    for turn in range(TURNS):
        if turn:
            model = signal_content.learn(examples, trust[found.employee], fold, model)
        seen = _seen(found, model, None, trust[found.employee], every, gold)
        trust = judging.ways(_joined(seen.evidence, earlier).of_people(len(found.employees)))[Way.HONEST]
    return model, seen.choices, np.where(there, trust, 1.0)


def _seen(  # noqa: PLR0913, PLR0917
    found: Facts, model: Content, fitted: Choices | None, counts: Reals, which: Flags, gold: pa.Table | None
) -> _Seen:
    """Quality of what was shown and evidence on people.

    Args:
        fitted: how people choose, where that is known; else fitted to `counts`, how much each interaction counts.
        which: the interactions that say something of their people.
    """
    quality, final = model.quality(found, signal_content.folds(found))
    at = np.clip(found.chosen, 0, quality.shape[1] - 1)
    gain = np.where(found.modified, final - quality[np.arange(len(found)), at], 0.0)
    fitted = fitted or choices(found, quality, gain, counts)
    peers = signal_peers.evidence(found, fitted, counts, gold)
    return _Seen(fitted, quality, gain, peers, judging.evidence(found, fitted, quality, gain, peers, which))


def _groups(rows: pa.Table, found: Facts) -> tuple[tuple[Group, ...], Flags]:
    """Groups (a whole workflow, or a team) whose day says nothing, and the interactions of those days."""
    instant = found.accepted & (found.seconds < judging.floor(found))
    rushed = np.zeros(len(found), bool)
    flagged = []
    teams = rows["team"].combine_chunks().dictionary_encode()
    workflow = rows["workflow"][0].as_py() if len(found) else ""
    names = [f"workflow {workflow}", *(f"team {name}" for name in teams.dictionary.to_pylist())]
    of_team = np.asarray(teams.indices.fill_null(-1), np.int64) + 1
    for of, which in ((np.zeros(len(found), np.int64), [0]), (of_team, range(1, len(names)))):
        for day in np.unique(found.day):
            for group in which:
                mine = np.flatnonzero((of == group) & (found.day == day) & found.decided & np.isfinite(found.seconds))
                if rushed[mine].all():
                    continue  # its whole workflow is flagged already, or nothing was decided
                _, person = np.unique(found.employee[mine], return_inverse=True)
                hasty = np.bincount(person, instant[mine]) / np.bincount(person)
                if len(hasty) < GROUP or (hasty > 0.5).mean() < RUSHED:
                    continue
                rushed |= (of == group) & (found.day == day)
                when = date(1970, 1, 1) + timedelta(days=int(day))
                share, accepted = float(instant[mine].mean()), float(found.accepted[mine].mean())
                seconds = float(np.median(found.seconds[mine]))
                flagged.append(Group(names[group], when, len(hasty), len(mine), accepted, share, seconds))
    return tuple(flagged), rushed


def _unread(found: Facts, total: Evidence, trust: Reals, rushed: Flags) -> Reals:
    """Probability that each decision was taken unread, by its time against the text's length and the person's pace."""
    share, slower = _pace(found, total, trust, rushed)
    return judging.unread(found, np.where(rushed, 0.9, share[found.employee]), slower) * found.decided


def _pace(found: Facts, total: Evidence, trust: Reals, rushed: Flags) -> tuple[Reals, Reals]:
    """Share of unread decisions by person, and log of the seconds that each decision takes if read.

    Time against length is a regression on the log scale over those who read; a person's own pace is shrunk towards
    everybody's as four decisions of theirs.
    """
    timed = np.isfinite(found.seconds)
    length, x = np.log1p(found.chars), np.log(np.where(timed, np.maximum(found.seconds, 1e-3), 1.0))
    read = timed & found.decided & (found.seconds >= judging.floor(found)) & ~rushed
    w = trust[found.employee] * read
    if w.sum() < 1.0:
        w = np.asarray(timed, np.float64)
    total_w = max(float(w.sum()), 1e-9)
    mean_l, mean_x = float(w @ length) / total_w, float(w @ x) / total_w
    slope = float(w @ ((length - mean_l) * (x - mean_x))) / (float(w @ (length - mean_l) ** 2) + 1.0)
    expected = mean_x + min(max(slope, 0.0), 1.0) * (length - mean_l)
    n = np.bincount(found.employee, read, len(found.employees))
    own = np.bincount(found.employee, np.where(read, x - expected, 0.0), len(found.employees)) / (n + 4.0)
    sums = dict(zip(STATISTICS, total.sums.T, strict=True))
    return (sums["fast"] + 1.0) / (sums["timed"] + 13.0), expected + own[found.employee]


def _reasons(found: Facts, weight: Reals, ways: dict[Way, Reals], unread: Reals, rushed: Flags) -> list[list[str]]:
    """Why a weight is low, the person's main way first; empty where it is not."""
    others = [way for way in Way if way is not Way.HONEST]
    main = np.stack([ways[way] for way in others]).argmax(axis=0)[found.employee]
    distrusted = 1.0 - believed(ways[Way.HONEST])[found.employee] > SLIGHT
    told = {"rushed": rushed, "instant": unread > SLIGHT, "blank_edit": found.blank_edit}
    low = np.flatnonzero(weight < TOLD)
    reasons: list[list[str]] = [[] for _ in range(len(found))]
    code = np.where(distrusted, main + 1, 0) + sum(flag * (16 << i) for i, flag in enumerate(told.values()))
    lists = {
        int(c): ([others[c % 16 - 1].value] if c % 16 else []) + [name for i, name in enumerate(told) if c & (16 << i)]
        for c in np.unique(code[low])
    }
    for row, c in zip(low.tolist(), code[low].tolist(), strict=True):
        reasons[row] = lists[c]
    return reasons


def _as_of(before: Evidence | None, people: Sequence[str], employees: Sequence[str]) -> Evidence | None:
    """Earlier statistics of those who are among `employees`, by their index there."""
    if before is None:
        return None
    index = {name: i for i, name in enumerate(employees)}
    person = np.array([index.get(name, -1) for name in people], np.int64)[before.person]
    kept = person >= 0
    return Evidence(person[kept], before.day[kept], before.sums[kept], before.score[kept], before.information[kept])


def _joined(one: Evidence, other: Evidence | None) -> Evidence:
    if other is None:
        return one
    pairs = ((getattr(one, name), getattr(other, name)) for name in ("person", "day", "sums", "score", "information"))
    return Evidence(*(np.concatenate(pair) for pair in pairs))
