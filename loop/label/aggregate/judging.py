"""People's answers as a benchmark: how far a judge agrees with people, and people with each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from loop.label.aggregate.agreement import Estimate, wilson
from loop.label.aggregate.answers import Answers, Floats
from loop.label.aggregate.stacking import SoftLabels

RESAMPLES: Final = 2_000


@dataclass(frozen=True)
class Agreement:
    """A judge against people. Intervals are bootstraps over tasks; a task counts once however many answered it."""

    judge: str
    tasks: int
    """That the judge gave a verdict on and at least two people answered."""
    without_verdict: int
    with_a_person: Estimate
    """Probability that the judge says what a person says who is drawn of those who answered."""
    between_people: Estimate
    """The ceiling: that two people who are drawn say the same."""
    difference: Estimate
    """The judge's less people's, on the same tasks."""
    with_the_label: Estimate | None
    """Share of tasks that do not abstain on which the judge says the most probable label (Wilson)."""
    expected: Estimate
    """Mean probability of what the judge says in the soft labels."""


def compare(told: SoftLabels, judge: str, verdicts: Mapping[str, str], *, seed: int = 0) -> Agreement | None:
    """How far a judge agrees with people; None where no task has both a verdict and two answers.

    Args:
        verdicts: label by task; one that nobody could answer counts as a disagreement with everybody.
    """
    answers = told.answers
    place = {label: i for i, label in enumerate(answers.labels)}
    said = np.array([place.get(verdicts[task], len(place)) if task in verdicts else -1 for task in answers.tasks])
    votes = answers.votes
    chosen = np.flatnonzero((said >= 0) & (votes.sum(1) >= 2))
    if not len(chosen):
        return None
    counted = np.concatenate([votes, np.zeros((len(votes), 1))], axis=1)
    with_person = counted[chosen, said[chosen]] / votes[chosen].sum(1)
    among = pairwise_agreement(answers)[chosen]
    believed = np.concatenate([told.probabilities, np.zeros((len(votes), 1))], axis=1)[chosen, said[chosen]]
    sure = ~told.abstain[chosen]
    hits = int((said[chosen] == told.label[chosen])[sure].sum())
    rng = np.random.default_rng(seed)
    return Agreement(
        judge=judge,
        tasks=len(chosen),
        without_verdict=int((said < 0).sum()),
        with_a_person=mean(with_person, rng),
        between_people=mean(among, rng),
        difference=mean(with_person - among, rng),
        with_the_label=wilson(hits, int(sure.sum())) if sure.any() else None,
        expected=mean(believed, rng),
    )


def pairwise_agreement(answers: Answers) -> Floats:
    """Share of the pairs of answers to each task that are the same, shape (tasks,); nan where there is no pair."""
    votes = answers.votes
    n = votes.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(n > 1, (votes * (votes - 1)).sum(1) / (n * (n - 1)), np.nan)


def mean(values: Floats, rng: np.random.Generator, resamples: int = RESAMPLES) -> Estimate:
    """A mean with its percentile bootstrap interval."""
    kinds, counts = np.unique(values, return_counts=True)
    drawn = rng.multinomial(len(values), counts / len(values), size=resamples) @ kinds / len(values)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(float(values.mean()), float(low), float(high), len(values))
