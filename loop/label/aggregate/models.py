"""Three ways in which answers may come about, each fitted without a known truth.

All have one latent truth a task and partially pooled workers: a worker's skill is a distribution, not a number, and the
distribution it is drawn from is learned of all workers (empirical Bayes), so that one with three answers is believed
like the average and one with three hundred like himself. They differ in what makes people wrong *together*, which
Dawid-Skene takes for chance and is sure of the wrong label for it:

- `difficulty`: some tasks are harder, for everybody (after GLAD, with the difficulty integrated out);
- `opinion`: each task has its own distribution of what a reader says, around the truth's;
- `torn`: a task pulls readers to one other label, more or less.

Each can say what a worker would answer to a task: by that, on answers held out, they are weighed (`stacking`).

`opinion` and `torn` do not learn how frequent labels are: they would explain a rare one away as an odd opinion on a
frequent one, even where all who answered gave it. Labels are equally probable beforehand, but one that is seldom said,
which is as rare as it is said: else a truth that hardly anybody tells is free to stand for another (`_frequency`).

A likelihood is the same when two labels change places in what is true, and everybody errs. So readers are held to be
right at least half the time (`opinion`), to be pulled to the other label at most half the time on the whole (`torn`),
and workers not to be worse than chance on the whole (`difficulty`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from loop.label.aggregate.answers import Answers, Floats, Ints, summed

ITERATIONS: Final = 40
"""At most; `_SETTLED` ends most fits earlier."""
_SETTLED: Final = 2e-4
"""Change of the posterior, the mean over tasks of the greatest of any label, at which a fit ends."""
_SMOOTHING: Final = 5.0
"""Answers that the uniform distribution of errors counts as much as."""
_STATES: Final = 4_000_000
"""Probabilities of latent states that are held at a time."""


@dataclass(frozen=True)
class Fitted:
    """What a model makes of answers."""

    posterior: Floats
    """Shape (tasks, labels)."""
    predict: Callable[[Ints, Ints], Floats]
    """Of workers and tasks, shape (n,) each: probability of each answer, shape (n, labels)."""
    without: Callable[[Ints], Floats]
    """Of answers by place, shape (n,): the posterior of each one's task had it not been given, shape (n, labels).

    Its likelihood is divided out (the cavity of expectation propagation: Minka, UAI 2001), with what was learned of
    workers and tasks held fixed. That others are trusted a little more or less because of it stays.
    """


Model = Callable[[Answers], Fitted]


def difficulty(answers: Answers) -> Fitted:
    """A worker of skill `a` is right on a task of difficulty `x` with log odds `a exp(-x) - log(labels - 1)`.

    At no skill, or on a hopeless task, that is chance; below, the worker is believed in reverse. After GLAD (Whitehill
    et al., NeurIPS 2009, eq. 1), whose log odds are `a exp(-x)` for any number of labels, with `x` a point estimate:
    `log(labels - 1)`, which makes no skill chance, is ours. Skill and difficulty are normal with learned variance, on
    grids, the difficulty is summed out and the skill averaged over (mean-field variational Bayes). With no variance of
    difficulty it is the hierarchical one-coin model.
    """
    from scipy.special import expit, log_expit

    k = len(answers.labels)
    skills, hardness = np.linspace(-4, 8, 33), np.linspace(-3, 3, 9)
    log_odds = skills[:, None] * np.exp(-hardness) - np.log(k - 1)
    right, wrong, chance = log_expit(log_odds), log_expit(-log_odds), expit(log_odds)
    q = len(hardness)
    states = _States(answers, np.repeat(np.arange(k), q))
    mean, spread, wide = 2.0, 1.0, 0.5
    prior, errors = np.full(k, 1 / k), _uniform_errors(k)
    believed = np.tile(_normal(skills, mean, spread), (len(answers.workers), 1))

    def table() -> tuple[Floats, Floats]:
        likely = _by_label(believed @ right, (believed @ wrong)[:, None, :], _log(errors))
        return likely, (np.log(prior)[:, None] + np.log(_normal(hardness, 0, wide))).ravel()

    counts, mass = states.expect(*table())
    for _ in range(ITERATIONS):
        by_state = counts.reshape(-1, k, k, q)
        hits = by_state[:, np.arange(k), np.arange(k)].sum(1)
        misses = by_state.sum((1, 2)) - hits
        believed = _softmax(np.log(_normal(skills, mean, spread)) + hits @ right.T + misses @ wrong.T)
        mean = max(float((believed @ skills).mean()), 0.0)
        spread = max(float((believed @ (skills - mean) ** 2).mean() ** 0.5), 0.1)
        shares = mass.reshape(k, q)
        wide = max(float((shares.sum(0) / shares.sum() @ hardness**2) ** 0.5), 0.1)
        prior = _shares(shares.sum(1))
        errors = _errors(by_state.sum((0, 3)).T)
        counts, mass = states.expect(*table())
        if states.settled:
            break

    def predict(worker: Ints, task: Ints) -> Floats:
        hit = believed @ chance
        return states.predicted(worker, task, _by_label(hit, (1 - hit)[:, None, :], errors, product=True))

    return Fitted(states.posterior, predict, lambda places: states.without(answers, places))


def torn(answers: Answers) -> Fitted:
    """A reader of a task takes a certain other label for the true one with probability `u`, else says what is true.

    Which other label is a matter of the task, drawn by the truth; `u`, of a learned Beta, may exceed one half: most are
    wrong then, and how often that is follows from how often they nearly are. A worker reads with a probability of his
    own, of a learned Beta, and else guesses, as in MACE (Hovy et al., NAACL 2013).
    """
    from scipy import sparse

    k, q = len(answers.labels), 9
    pulls = (np.arange(q) + 0.5) / q
    skills = (np.arange(20) + 0.5) / 20
    true, other = np.nonzero(~np.eye(k, dtype=bool))
    read = np.zeros((k, len(true), q))
    read[true, np.arange(len(true))] = 1 - pulls
    read[other, np.arange(len(true))] = pulls
    # A likelihood depends on a state through what a reader says with which probability: few distinct values.
    values, place = np.unique(read, return_inverse=True)
    where = (np.arange(k)[:, None] * len(values) + place.reshape(k, -1)).ravel()
    by_value = sparse.csr_matrix((np.ones(len(where)), (np.arange(len(where)), where)), (len(where), k * len(values)))
    states = _States(answers, np.repeat(true, q))
    prior = np.log(_frequency(answers))
    a, b, pull = np.array([4.0, 1.0]), _uniform_errors(k), np.array([1.0, 4.0])
    guess = np.full(k, 1 / k)
    believed = np.tile(_beta(skills, a), (len(answers.workers), 1))

    def chances() -> Floats:
        said = skills[:, None, None] * values + (1 - skills)[:, None, None] * guess[:, None]
        return np.maximum(said, 1e-6)  # type: ignore[no-any-return]

    def table() -> tuple[Floats, Floats]:
        likely = believed @ np.log(chances()).reshape(len(skills), -1)
        before = (prior[true] + np.log(b[true, other]))[:, None] + np.log(_beta(pulls, pull))
        return likely[:, where].reshape(-1, len(true) * q), before.ravel()

    counts, mass = states.expect(*table())
    for _ in range(ITERATIONS):
        seen = counts.reshape(-1, len(where)) @ by_value
        said = chances()
        believed = _softmax(np.log(_beta(skills, a)) + seen @ np.log(said).reshape(len(skills), -1).T)
        a = _beta_of(skills, believed.sum(0), a)
        guessed = (1 - skills)[:, None, None] * guess[:, None] / said
        guess = _shares((believed.T @ seen * guessed.reshape(len(skills), -1)).reshape(-1, k, len(values)).sum((0, 2)))
        by_pair = mass.reshape(len(true), q)
        pull = _beta_of(pulls, by_pair.sum(0), pull)
        pull[0] = min(pull)
        drawn = np.zeros((k, k))
        drawn[true, other] = by_pair.sum(1)
        b = _errors(drawn)
        counts, mass = states.expect(*table())
        if states.settled:
            break

    def predict(worker: Ints, task: Ints) -> Floats:
        likely = believed @ chances().reshape(len(skills), -1)
        return states.predicted(worker, task, likely[:, where].reshape(-1, len(true) * q))

    return Fitted(states.posterior, predict, lambda places: states.without(answers, places))


def opinion(answers: Answers) -> Fitted:
    """Each task has its own distribution of what a reader says: Dirichlet around the confusion row of the truth.

    So the answers to a task are no independent witnesses: the hundredth that says the same adds nothing, and how little
    is learned of how far tasks scatter. Workers read or guess as in `torn`. Inference is collapsed over that
    distribution, an answer's own share left out (CVB0: Asuncion et al., UAI 2009); the Dirichlet is fitted by Minka's
    fixed point ("Estimating a Dirichlet distribution", 2000).
    """
    from scipy.special import digamma, gammaln

    w, t, said = answers.worker, answers.task, answers.label
    people, tasks, k, n = len(answers.workers), len(answers.tasks), len(answers.labels), len(answers)
    by_worker = np.bincount(w, minlength=people).astype(np.float64)
    reads, trust, beta = np.full(n, 0.8), np.full(people, 0.8), np.array([4.0, 1.0])
    right, errors, strength = 0.75, _uniform_errors(k), 4.0
    guess = np.full(k, 1 / k)
    prior = np.log(_frequency(answers))
    posterior = np.zeros((tasks, k))
    for _ in range(ITERATIONS):
        counted = reads
        counts = np.bincount(t * k + said, weights=reads, minlength=tasks * k).reshape(tasks, k)
        total = counts.sum(1)
        rows = np.maximum(right * np.eye(k) + (1 - right) * errors, 1e-4)
        dirichlet = strength * rows / rows.sum(1, keepdims=True)
        score = np.stack([gammaln(counts + row).sum(1) for row in dirichlet], axis=1)
        score += prior - gammaln(dirichlet).sum(1)
        before, posterior = posterior, _softmax(score.copy())
        mean = posterior @ dirichlet
        opinion_ = np.clip((counts[t, said] - reads + mean[t, said]) / (total[t] - reads + strength), 1e-6, 1)
        told = trust[w] * opinion_
        reads = told / (told + (1 - trust[w]) * guess[said])
        read = summed(w, reads, people)
        trust = (beta[0] + read) / (beta.sum() + by_worker)
        beta = _beta_binomial(read, by_worker - read, beta)
        guess = _shares(summed(said, 1 - reads, k))
        gained = [posterior[:, c] @ (digamma(counts + row) - digamma(row)) for c, row in enumerate(dirichlet)]
        expected = np.array(gained) * dirichlet
        strength = float(np.clip(expected.sum() / (digamma(total + strength) - digamma(strength)).sum(), 0.2, 1e4))
        right = max(float(np.trace(expected) / expected.sum()), 0.5)
        errors = _errors(expected)
        if _settled(before, posterior):
            break

    def predict(worker: Ints, task: Ints) -> Floats:
        read = counts[task] + mean[task]
        read = read / read.sum(1, keepdims=True)
        return trust[worker][:, None] * read + (1 - trust[worker])[:, None] * guess  # type: ignore[no-any-return]

    def without(places: Ints) -> Floats:
        task, label = t[places], said[places]
        there, row = counts[task, label][:, None], dirichlet[:, label].T
        rest = np.maximum(there - counted[places][:, None], 0)
        return _softmax(score[task] + gammaln(rest + row) - gammaln(there + row))

    return Fitted(posterior, predict, without)


# -- latent states --------------------------------------------------------------------------------------------------


class _States:
    """Tasks whose answers depend on a latent state, of which each belongs to one label; held a block at a time."""

    def __init__(self, answers: Answers, label_of: Ints) -> None:
        """With the label that each state belongs to, shape (states,)."""
        from scipy import sparse

        self._k, tasks = len(answers.labels), len(answers.tasks)
        shape = tasks, len(answers.workers) * self._k
        ones = np.ones(len(answers), dtype=np.float32)
        self._votes = sparse.csr_matrix((ones, (answers.task, answers.worker * self._k + answers.label)), shape)
        step = max(1, _STATES // len(label_of))
        blocks = [self._votes[start : start + step] for start in range(0, tasks, step)]
        self._blocks = [(block, block.T.tocsr()) for block in blocks]
        self._member = np.eye(self._k, dtype=np.float32)[label_of]
        self._table: tuple[Floats, Floats] | None = None
        self.posterior: Floats = np.zeros((tasks, self._k))
        self.settled = False

    def expect(self, likely: Floats, prior: Floats) -> tuple[Floats, Floats]:
        """Expected answers by worker, label and state, shape (workers * labels, states), and tasks by state.

        Args:
            likely: log probability of each answer of each worker in each state, of the same shape.
            prior: log probability of each state.
        """
        self._table, before = (likely, prior), self.posterior
        counts, mass, told = np.zeros(likely.shape), np.zeros(len(prior)), []
        likely, prior = likely.astype(np.float32), prior.astype(np.float32)  # half the memory; sums are of float64
        for block, turned in self._blocks:
            states = _softmax(block @ likely + prior)
            counts += turned @ states
            mass += states.sum(0, dtype=np.float64)
            told.append(states @ self._member)
        self.posterior = np.concatenate(told).astype(np.float64)
        self.settled = _settled(before, self.posterior)
        return counts, mass

    def predicted(self, worker: Ints, task: Ints, chances: Floats) -> Floats:
        """Probability of each answer of workers to tasks, given those that were seen, shape (n, labels)."""
        assert self._table is not None, "nothing was fitted"
        likely, prior = self._table
        by_worker = chances.reshape(-1, self._k, len(prior))
        step = max(1, _STATES // len(prior) // self._k)
        found = [
            np.einsum(
                "ns,nls->nl",
                _softmax(self._votes[task[s : s + step]] @ likely + prior),
                by_worker[worker[s : s + step]],
            )
            for s in range(0, len(worker), step)
        ]
        told = np.concatenate(found) if found else np.empty((0, self._k))
        return told / told.sum(1, keepdims=True)  # type: ignore[no-any-return]

    def without(self, answers: Answers, places: Ints) -> Floats:
        """See `Fitted.without`."""
        assert self._table is not None, "nothing was fitted"
        likely, prior = self._table
        step, own = max(1, _STATES // len(prior)), answers.worker * self._k + answers.label
        told = [np.empty((0, self._k))]
        for s in range(0, len(places), step):
            some = places[s : s + step]
            score = self._votes[answers.task[some]] @ likely + prior - likely[own[some]]
            told.append(_softmax(score) @ self._member)
        return np.concatenate(told)


def _by_label(hit: Floats, miss: Floats, errors: Floats, *, product: bool = False) -> Floats:
    """What each answer has in each state (truth, x): shape (workers * labels, labels * x).

    Args:
        hit: of the answer that is the truth, shape (workers, x).
        miss: of any other, to which what `errors` has of it is added, or by which it is multiplied.
    """
    k, (people, x) = len(errors), hit.shape
    wrong = errors.T[None, :, :, None]
    told = np.array(
        np.broadcast_to(miss[:, :, None, :] * wrong if product else miss[:, :, None, :] + wrong, (people, k, k, x))
    )
    told[:, np.arange(k), np.arange(k)] = hit[:, None, :]
    return told.reshape(people * k, k * x)


# -- distributions --------------------------------------------------------------------------------------------------


def _softmax(score: Floats) -> Floats:
    """Along the rows, in place."""
    score -= score.max(1, keepdims=True)
    np.exp(score, out=score)
    score /= score.sum(1, keepdims=True)
    return score


def _settled(before: Floats, after: Floats) -> bool:
    return bool(np.abs(before - after).max(1).mean() < _SETTLED)


def _shares(counts: Floats) -> Floats:
    """Of each label, one more counted of each."""
    return (counts + 1) / (counts.sum() + len(counts))  # type: ignore[no-any-return]


def _frequency(answers: Answers) -> Floats:
    """Probability of each label beforehand: the same of all, but less of one that is said less often than that.

    What is said is counted by task, one task more of each label.
    """
    votes = answers.votes
    said = _shares((votes / np.maximum(votes.sum(1, keepdims=True), 1)).sum(0))
    even = np.minimum(said, 1 / len(said))
    return even / even.sum()  # type: ignore[no-any-return]


def _uniform_errors(k: int) -> Floats:
    return (1 - np.eye(k)) / max(1, k - 1)


def _errors(counts: Floats) -> Floats:
    """By truth, which label a wrong answer is: rows of counts without their diagonal, shrunk to the uniform."""
    k = len(counts)
    wrong = np.where(np.eye(k, dtype=bool), 0, counts)
    return (wrong + _SMOOTHING * _uniform_errors(k)) / (wrong.sum(1, keepdims=True) + _SMOOTHING)  # type: ignore[no-any-return]


def _log(errors: Floats) -> Floats:
    """The diagonal, which no error has, becomes 0."""
    return np.log(np.where(errors > 0, errors, 1))


def _normal(grid: Floats, mean: float, spread: float) -> Floats:
    density = np.exp(-((grid - mean) ** 2) / 2 / spread**2) + 1e-300
    return density / density.sum()  # type: ignore[no-any-return]


def _beta(grid: Floats, ab: Floats) -> Floats:
    return _softmax(((ab[0] - 1) * np.log(grid) + (ab[1] - 1) * np.log1p(-grid))[None])[0] + 1e-12  # type: ignore[no-any-return]


def _beta_of(grid: Floats, weights: Floats, ab: Floats) -> Floats:
    """The Beta on a grid that weights are likeliest of: Newton, in the exponential family of log x and log(1 - x)."""
    told = np.stack([np.log(grid), np.log1p(-grid)])
    target = told @ weights / weights.sum()
    for _ in range(30):
        density = _beta(grid, ab)
        around = told - (told @ density)[:, None]
        step = np.linalg.solve((around * density) @ around.T + 1e-6 * np.eye(2), target - told @ density)
        while (ab + step < 0.05).any() and np.abs(step).max() > 1e-9:
            step = step / 2
        ab = np.clip(ab + step, 0.05, 200)
        if np.abs(step).max() < 1e-6:
            break
    return ab


def _beta_binomial(hits: Floats, misses: Floats, ab: Floats) -> Floats:
    """The Beta that successes and failures of many come of, two steps of Minka's fixed point on."""
    from scipy.special import digamma

    for _ in range(2):
        both = (digamma(hits + misses + ab.sum()) - digamma(ab.sum())).sum()
        gained = np.array([(digamma(x + c) - digamma(c)).sum() for x, c in zip((hits, misses), ab, strict=True)])
        ab = np.clip(ab * gained / both, 0.05, 200)
    return ab
