from __future__ import annotations

import numpy as np
import pytest
from crowds import crowd, log_loss
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loop.label.aggregate import answers as columns
from loop.label.aggregate import simple, stacking
from loop.label.aggregate.answers import Answers
from loop.label.aggregate.stacking import Method, aggregate
from loop.label.tasks import SIDES


@pytest.mark.parametrize("method", list(Method))
def test_every_method_finds_most_of_a_truth_that_most_people_know(method: Method) -> None:
    made = crowd(seed=1)
    told = aggregate(made.answers, method)
    assert np.allclose(told.probabilities.sum(1), 1)
    assert (told.label == made.truth).mean() > 0.88
    assert (told.confidence == told.probabilities.max(1)).all()


@pytest.mark.parametrize("model", list(stacking.MODELS))
def test_each_model_foretells_answers_better_than_their_shares_do(model: str) -> None:
    made = crowd(seed=2, hard=0.2).answers
    rng = np.random.default_rng(0)
    held = rng.random(len(made)) < 0.2
    train, test = made.where(~held), made.where(held)
    told = stacking.MODELS[model](train).predict(test.worker, test.task)
    assert np.allclose(told.sum(1), 1)
    assert told.min() > 0
    shares = np.bincount(train.label, minlength=3) / len(train)
    assert log_loss(told, test.label) < log_loss(np.tile(shares, (len(test), 1)), test.label) - 0.1


@pytest.mark.parametrize("model", list(stacking.MODELS))
def test_what_is_believed_without_an_answer_is_nearly_what_a_fit_without_it_believes(model: str) -> None:
    made = crowd(seed=1, each=2).answers
    fitted = stacking.MODELS[model](made)
    left_out = fitted.without(np.arange(len(made)))
    for i in np.random.default_rng(0).choice(len(made), 6, replace=False):
        again = stacking.MODELS[model](made.where(np.arange(len(made)) != i)).posterior[made.task[i]]
        assert np.abs(left_out[i] - again).max() < 0.02
    with_it = np.abs(left_out - fitted.posterior[made.task]).max(1)
    assert with_it.mean() > 0.15  # so much does the own answer say


@pytest.mark.parametrize(("hard", "torn"), [(0.3, 0.0), (0.0, 0.2)])
def test_where_people_err_together_the_default_is_better_calibrated_than_one_coin(hard: float, torn: float) -> None:
    """The errors that all make alike are what one-coin Dawid-Skene takes for certain."""
    gains = []
    for seed in range(2):
        made = crowd(seed=seed, tasks=150, each=10, people=30, hard=hard, torn=torn)
        told = aggregate(made.answers)
        gains.append(log_loss(simple.one_coin(made.answers), made.truth) - log_loss(told.probabilities, made.truth))
    assert np.mean(gains) > 0.02, gains


def test_where_people_err_together_the_default_is_less_sure_than_its_models_and_nearer_to_the_truth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = crowd(seed=0, tasks=300, each=7, people=60, torn=0.2)
    told = aggregate(made.answers, left_out=True)
    monkeypatch.setattr(stacking, "temperature", lambda *_: 1.0)
    surer = aggregate(made.answers, left_out=True)
    assert told.temperature > 1.2
    assert (told.label == surer.label).all()
    assert log_loss(told.probabilities, made.truth) < log_loss(surer.probabilities, made.truth) - 0.02
    assert told.left_out is not None
    assert surer.left_out is not None
    assert (told.left_out.max(1) <= surer.left_out.max(1) + 1e-9).all()


def test_the_task_that_divides_people_abstains_and_stays_divided() -> None:
    made = crowd(seed=3, hard=0.3)
    told = aggregate(made.answers)
    wrong = told.label != made.truth
    assert wrong[told.abstain].mean() > 4 * wrong[~told.abstain].mean()
    assert told.probabilities[told.abstain].min() > 0


def test_a_task_with_one_answer_and_a_set_with_one_label_abstain() -> None:
    alone = columns.sort(["a", "b", "a"], ["t", "t", "u"], ["x", "x", "y"]).answers
    told = aggregate(alone)
    assert told.abstain.tolist()[1]
    same = columns.sort(["a", "b"], ["t", "t"], ["x", "x"]).answers
    assert (aggregate(same).abstain.tolist(), aggregate(same).confidence.tolist()) == ([True], [1.0])
    nothing = aggregate(columns.sort([], [], []).answers)
    assert (nothing.label.tolist(), nothing.abstain.tolist()) == ([], [])


def test_the_weights_come_of_held_out_answers_and_the_same_seed_gives_the_same() -> None:
    made = crowd(seed=4, hard=0.2).answers
    one, again = aggregate(made, seed=7), aggregate(made, seed=7)
    assert (one.probabilities == again.probabilities).all()
    assert sum(one.weights.values()) == pytest.approx(1, abs=1e-3)
    assert one.held_out is not None
    assert 0 < one.held_out < np.log(3)


def test_who_always_says_the_opposite_is_no_worse_than_nobody() -> None:
    made = crowd(seed=5, labels=2, tasks=200, each=5)
    said = made.answers.label.copy()
    liar = np.isin(made.answers.worker, np.arange(8))
    said[liar] = 1 - made.truth[made.answers.task[liar]]
    a = made.answers
    lied = columns.Answers(a.workers, a.tasks, a.labels, a.worker, a.task, said)
    told, votes = aggregate(lied), simple.majority(lied)
    assert (told.label == made.truth).mean() > (votes.argmax(1) == made.truth).mean() + 0.02


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from("tuvw"), st.sampled_from("xyz")), min_size=1, max_size=25
    )
)
def test_whatever_is_answered_every_task_has_a_distribution(given_: list[tuple[str, str, str]]) -> None:
    made = columns.sort(*([row[i] for row in given_] for i in range(3))).answers
    for method in Method:
        told = aggregate(made, method)
        assert np.isfinite(told.probabilities).all()
        assert np.allclose(told.probabilities.sum(1), 1)
        assert len(told.label) == len(made.tasks)


def compared(seed: int) -> tuple[Answers, np.ndarray]:
    """480 pairs of texts, three answers each: hardly anybody says tie or neither, which are never true."""
    rng = np.random.default_rng(seed)
    truth, task = rng.integers(2, size=480), np.repeat(np.arange(480), 3)
    worker = np.concatenate([rng.choice(15, 3, replace=False) for _ in range(480)])
    first = np.array([[0.67, 0.22, 0.07, 0.04], [0.22, 0.67, 0.07, 0.04]])
    said = [int(rng.choice(4, p=first[truth[t]])) for t in task]
    who, what, word = [f"w{i}" for i in worker], [f"t{i:03d}" for i in task], [SIDES[i] for i in said]
    return columns.sort(who, what, word, SIDES).answers, truth


@pytest.mark.parametrize("seed", range(4))
def test_labels_that_are_seldom_said_stand_for_no_others(seed: int) -> None:
    answers, truth = compared(seed)
    plain = (simple.majority(answers).argmax(1) == truth).mean()
    for name, model in stacking.MODELS.items():
        believed = model(answers).posterior
        assert (believed.argmax(1) == truth).mean() > plain - 0.08, name
        assert believed[:, 2:].sum(1).mean() < 0.2, name
    told = aggregate(answers)
    assert (told.label == truth).mean() > plain - 0.02
    assert log_loss(told.probabilities, truth) < 0.65
