"""What is known of each annotator: always with an interval, always in the order of pseudonyms, never as a ranking."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from loop.label.aggregate.agreement import Estimate, wilson
from loop.label.aggregate.answers import Answers, Floats, expected

LEAST: Final = 10
"""Answers of which something is said to be an anomaly."""
FAST: Final = 0.25
"""A median of less than this share of the usual time of the same tasks is told."""
MONOTONE: Final = 1e-3
"""Probability, by the shares of labels, below which it is told that somebody always answers the same."""
CALL: Final = 0.01
"""Level of a test, before it is divided by the number of those tested (Bonferroni)."""


_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Anomaly:
    """Something to look at; no verdict on a person."""

    annotator: str
    what: str
    evidence: dict[str, Any]


def gold_accuracy(answers: Answers, gold: npt.NDArray[np.int64]) -> dict[str, Estimate]:
    """Share of right answers to tasks whose answer is known, by annotator; who met none is left out.

    Args:
        gold: place among the labels of each task, -1 where it is not known; a place behind the last: nobody said it.
    """
    known = gold[answers.task] >= 0
    people = len(answers.workers)
    right = np.bincount(answers.worker[known], answers.label[known] == gold[answers.task[known]], people)
    total = np.bincount(answers.worker[known], minlength=people)
    return _by_name(answers, {int(i): wilson(right[i], int(total[i])) for i in np.flatnonzero(total)})


def with_others(answers: Answers) -> Floats:
    """Share of the others' answers to the same task that say what one said, by answer; nan where there are no others.

    One's own answer is left out, so that nobody agrees with himself. No accuracy: the others err too.
    """
    votes = answers.votes
    others = votes.sum(1)[answers.task] - 1
    same = votes[answers.task, answers.label] - 1
    return np.where(others > 0, same / np.maximum(others, 1), np.nan)


def agreement_with_others(answers: Answers) -> dict[str, Estimate]:
    """Mean of `with_others` by annotator, Wilson's interval for that many answers; who met nobody is left out."""
    share = with_others(answers)
    met = np.isfinite(share)
    total = np.bincount(answers.worker[met], minlength=len(answers.workers))
    same = np.bincount(answers.worker[met], share[met], len(answers.workers))
    return _by_name(answers, {int(i): wilson(float(same[i]), int(total[i])) for i in np.flatnonzero(total)})


def confusion(answers: Answers, believed: Floats) -> dict[str, Floats]:
    """Expected answers by truth (rows) and by what was said (columns), of each annotator whom anything can judge.

    An answer is set beside what is believed of its task *without it*: with it, whoever answers tasks of few answers is
    compared with himself, and a newcomer who guesses beside another is told to be right on .73 instead of .50. What is
    believed errs as the others do: with few answers a task the matrix lies nearer to guessing than the person's own.

    Args:
        believed: of each answer, what is known of its task or believed without it (`SoftLabels.left_out`), shape
            (answers, labels); a row of nan leaves the answer out.
    """
    met = np.asarray(np.isfinite(believed).all(axis=1), dtype=np.bool_)
    counts = expected(answers.where(met), believed[met])
    return _by_name(answers, {int(i): counts[i] for i in np.unique(answers.worker[met])})


def drift(answers: Answers, order: npt.NDArray[Any]) -> dict[str, Estimate]:
    """Change of the agreement with the others from the earlier to the later half of a person's answers, by time.

    Newcombe's interval of a difference of two shares (Statistics in Medicine 1998, method 10). Who answered fewer than
    twice `LEAST` tasks that others answered too, or all at the same time, is left out. Nearer to 0 than the change of
    the accuracy: between two labels and with others who are right with probability q it is 2q - 1 of it.

    Args:
        order: when each answer was given, anything that can be sorted.
    """
    share = with_others(answers)
    found = {}
    by_time = np.lexsort((order, answers.worker))
    by_time = by_time[np.isfinite(share[by_time])]
    starts = np.searchsorted(answers.worker[by_time], np.arange(len(answers.workers) + 1))
    for i, (start, stop) in enumerate(pairwise(starts)):
        mine = share[by_time[start:stop]]
        if len(mine) < 2 * LEAST:
            continue
        half, times = len(mine) // 2, order[by_time[start:stop]]
        if times[half - 1] == times[half]:  # of an import that says no times: neither half is earlier
            continue
        found[i] = _difference(
            wilson(float(mine[half:].sum()), len(mine) - half), wilson(float(mine[:half].sum()), half)
        )
    return _by_name(answers, found)


def bias(answers: Answers, slices: Sequence[Any]) -> dict[str, dict[str, Estimate]]:
    """By annotator and slice (a workflow, a kind, whether the places were swapped): how much more one agrees with the
    others there than elsewhere. Newcombe's interval; where either side has fewer than `LEAST` answers that others can
    be set beside, nothing is said.
    """
    share = with_others(answers)
    met = np.isfinite(share)
    names = sorted({str(s) for s in slices})
    place = {name: i for i, name in enumerate(names)}
    code = np.array([place[str(s)] for s in slices], dtype=np.int64)
    shape = len(answers.workers), len(names)
    flat = (answers.worker * len(names) + code)[met]
    same = np.bincount(flat, share[met], shape[0] * shape[1]).reshape(shape)
    total = np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape)
    found: dict[int, dict[str, Estimate]] = {}
    for i, j in np.argwhere((total >= LEAST) & (total.sum(1, keepdims=True) - total >= LEAST)):
        there = wilson(float(same[i, j]), int(total[i, j]))
        elsewhere = wilson(float(same[i].sum() - same[i, j]), int(total[i].sum() - total[i, j]))
        found.setdefault(int(i), {})[names[j]] = _difference(there, elsewhere)
    return _by_name(answers, found)


def anomalies(
    answers: Answers, *, seconds: Floats | None = None, changed: Sequence[tuple[str, str]] = ()
) -> list[Anomaly]:
    """What stands out, by pseudonym.

    Args:
        seconds: time taken of each answer, nan where it is not known.
        changed: worker and task of each answer that contradicted the same worker's earlier one.
    """
    found = _monotone(answers)
    if seconds is not None:
        found += _fast(answers, seconds)
    total = Counter(answers.workers[i] for i in answers.worker)
    for worker, times in Counter(worker for worker, _ in changed).items():
        found.append(Anomaly(worker, "contradicts the own answer", {"tasks": times, "answers": total[worker]}))
    return sorted(found, key=lambda anomaly: (anomaly.annotator, anomaly.what))


def _monotone(answers: Answers) -> list[Anomaly]:
    """Who says the same in every answer, where that many in a row are improbable by how often others say it."""
    people, k = len(answers.workers), len(answers.labels)
    said = np.bincount(answers.worker * k + answers.label, minlength=people * k).reshape(people, k)
    total, most = said.sum(1), said.argmax(1)
    theirs = total.sum() - total
    others = (said.sum(0) - said)[np.arange(people), most] / np.maximum(theirs, 1)
    by_chance = np.maximum(others, 1e-12) ** total
    told = np.minimum(total, theirs) >= LEAST  # of fewer of the others' nobody knows how often they say it
    odd = np.flatnonzero(told & (said.max(1) == total) & (by_chance < MONOTONE / max(1, people)))
    return [
        Anomaly(
            answers.workers[i],
            "always the same answer",
            {"label": answers.labels[most[i]], "answers": int(total[i]), "share_of_others": round(float(others[i]), 3)},
        )
        for i in odd
    ]


def _fast(answers: Answers, seconds: Floats) -> list[Anomaly]:
    """Who takes, on the median, less than `FAST` of what others take for the same tasks, and so by a sign test."""
    from scipy.special import bdtrc

    told = np.isfinite(seconds) & (seconds >= 0)
    task, worker, took = answers.task[told], answers.worker[told], np.log(np.maximum(seconds[told], 0.1))
    ratio = took - _others_median(task, took, len(answers.tasks))
    met = np.isfinite(ratio)
    worker, ratio = worker[met], ratio[met]
    mine = _medians(worker, ratio, len(answers.workers))
    total = np.bincount(worker, minlength=len(answers.workers))
    below = np.bincount(worker, ratio < np.log(FAST), len(answers.workers))
    chance = bdtrc(np.maximum(below - 1, 0), np.maximum(total, 1), 0.5)
    odd = (total >= LEAST) & (mine < np.log(FAST)) & (chance < CALL / max(1, len(answers.workers)))
    return [
        Anomaly(
            answers.workers[i],
            "much faster than others at the same tasks",
            {"answers": int(total[i]), "median_share_of_usual_time": round(float(np.exp(mine[i])), 3)},
        )
        for i in np.flatnonzero(odd)
    ]


def _others_median(group: npt.NDArray[np.int64], values: Floats, groups: int) -> Floats:
    """Of each value the median of the others in its group, nan where there are none."""
    order = np.lexsort((values, group))
    size = np.bincount(group, minlength=groups)
    start = (np.cumsum(size) - size)[group[order]]
    rank, others = np.arange(len(order)) - start, size[group[order]] - 1
    ordered, median = np.append(values[order], np.nan), np.empty(len(order))
    # Without the one at `rank` each place from there on holds the next value.
    low, high = ((place + (place >= rank)) for place in (np.maximum(others - 1, 0) // 2, others // 2))
    median[order] = np.where(others > 0, (ordered[start + low] + ordered[start + high]) / 2, np.nan)
    return median


def _medians(group: npt.NDArray[np.int64], values: Floats, groups: int) -> Floats:
    """Median by group; nan where there is none."""
    order = np.lexsort((values, group))
    starts = np.searchsorted(group[order], np.arange(groups + 1))
    low, size = starts[:-1], np.diff(starts)
    ordered = np.append(values[order], np.nan)
    return (ordered[np.where(size, low + (size - 1) // 2, -1)] + ordered[np.where(size, low + size // 2, -1)]) / 2  # type: ignore[no-any-return]


def _difference(one: Estimate, other: Estimate) -> Estimate:
    assert one.low is not None and one.high is not None and other.low is not None and other.high is not None  # noqa: PT018
    value = one.value - other.value
    down = ((one.value - one.low) ** 2 + (other.high - other.value) ** 2) ** 0.5
    up = ((one.high - one.value) ** 2 + (other.value - other.low) ** 2) ** 0.5
    return Estimate(value, value - down, value + up, one.n + other.n)


def _by_name(answers: Answers, found: dict[int, _Value]) -> dict[str, _Value]:
    return {answers.workers[i]: found[i] for i in sorted(found, key=lambda i: answers.workers[i])}
