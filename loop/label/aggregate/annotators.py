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
from loop.label.aggregate.answers import Answers, Floats

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
        gold: place among the labels of each task, -1 where it is not known.
    """
    known = gold[answers.task] >= 0
    people = len(answers.workers)
    right = np.bincount(answers.worker[known], answers.label[known] == gold[answers.task[known]], people)
    total = np.bincount(answers.worker[known], minlength=people)
    return _by_name(answers, {int(i): wilson(right[i], int(total[i])) for i in np.flatnonzero(total)})


def expected_accuracy(answers: Answers, believed: Floats) -> dict[str, Estimate]:
    """Share of answers that are right by what is believed of each task without one's own answer, roughly.

    The own answer is taken out by removing its share of the votes from its label, so that nobody agrees with himself.
    The interval is Wilson's for that many answers.
    """
    votes = answers.votes.sum(1)[answers.task]
    own = believed[answers.task, answers.label]
    several = votes > 1
    share = np.where(several, np.clip((own * votes - 1) / np.maximum(votes - 1, 1), 0, 1), 0)
    total = np.bincount(answers.worker[several], minlength=len(answers.workers))
    right = np.bincount(answers.worker[several], share[several], len(answers.workers))
    return _by_name(answers, {int(i): wilson(float(right[i]), int(total[i])) for i in np.flatnonzero(total)})


def confusion(answers: Answers, believed: Floats) -> dict[str, Floats]:
    """Expected answers by truth (rows) and by what was said (columns), of each annotator."""
    from scipy import sparse

    k, people = len(answers.labels), len(answers.workers)
    said = sparse.csr_matrix(
        (np.ones(len(answers)), (answers.worker * k + answers.label, answers.task)), (people * k, len(answers.tasks))
    )
    counts = (said @ believed).reshape(people, k, k).transpose(0, 2, 1)
    return _by_name(answers, dict(enumerate(counts)))


def drift(answers: Answers, believed: Floats, order: npt.NDArray[Any]) -> dict[str, Estimate]:
    """Change of the share of right answers from the earlier to the later half of a person's answers, by time.

    Newcombe's interval of a difference of two shares (Statistics in Medicine 1998, method 10). Who answered fewer than
    twice `LEAST`, or all at the same time, is left out.

    Args:
        order: when each answer was given, anything that can be sorted.
    """
    right = believed[answers.task, answers.label]
    found = {}
    by_time = np.lexsort((order, answers.worker))
    starts = np.searchsorted(answers.worker[by_time], np.arange(len(answers.workers) + 1))
    for i, (start, stop) in enumerate(pairwise(starts)):
        mine = right[by_time[start:stop]]
        if len(mine) < 2 * LEAST:
            continue
        half, times = len(mine) // 2, order[by_time[start:stop]]
        if times[half - 1] == times[half]:  # of an import that says no times: neither half is earlier
            continue
        found[i] = _difference(
            wilson(float(mine[half:].sum()), len(mine) - half), wilson(float(mine[:half].sum()), half)
        )
    return _by_name(answers, found)


def bias(answers: Answers, believed: Floats, slices: Sequence[Any]) -> dict[str, dict[str, Estimate]]:
    """By annotator and slice (a workflow, a kind, whether the places were swapped): how much more often he is right
    there than elsewhere. Newcombe's interval; where either side has fewer than `LEAST` answers nothing is said.
    """
    names = sorted({str(s) for s in slices})
    place = {name: i for i, name in enumerate(names)}
    code = np.array([place[str(s)] for s in slices], dtype=np.int64)
    shape = len(answers.workers), len(names)
    flat = answers.worker * len(names) + code
    right = np.bincount(flat, believed[answers.task, answers.label], shape[0] * shape[1]).reshape(shape)
    total = np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape)
    found: dict[int, dict[str, Estimate]] = {}
    for i, j in np.argwhere((total >= LEAST) & (total.sum(1, keepdims=True) - total >= LEAST)):
        there = wilson(float(right[i, j]), int(total[i, j]))
        elsewhere = wilson(float(right[i].sum() - right[i, j]), int(total[i].sum() - total[i, j]))
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
    others = (said.sum(0) - said)[np.arange(people), most] / np.maximum(total.sum() - total, 1)
    by_chance = np.maximum(others, 1e-12) ** total
    odd = np.flatnonzero((total >= LEAST) & (said.max(1) == total) & (by_chance < MONOTONE / max(1, people)))
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
    usual = _medians(task, took, len(answers.tasks))
    ratio = took - usual[task]
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
