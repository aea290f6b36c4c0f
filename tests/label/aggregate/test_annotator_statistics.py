from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from crowds import Crowd, crowd

from loop.label.aggregate import annotators
from loop.label.aggregate.answers import Answers


def certain(made: Crowd) -> np.ndarray:
    return np.eye(len(made.answers.labels))[made.truth]


def one(labels: str, **given: str) -> Answers:
    """Answers of the person `a` to as many tasks, beside others."""
    n = len(labels)
    people = ("a", *given)
    said = [labels, *given.values()]
    worker = np.repeat(np.arange(len(people)), n)
    label = np.array([ord(c) - ord("x") for line in said for c in line])
    return Answers(
        people, tuple(f"t{i}" for i in range(n)), ("x", "y", "z"), worker, np.tile(np.arange(n), len(people)), label
    )


def test_gold_accuracy_is_of_the_known_tasks_alone_and_in_the_order_of_names() -> None:
    made = crowd(seed=0)
    gold = np.where(np.arange(300) < 100, made.truth, -1)
    told = annotators.gold_accuracy(made.answers, gold)
    assert list(told) == sorted(told)
    a = made.answers
    for name, estimate in told.items():
        mine = (a.worker == a.workers.index(name)) & (a.task < 100)
        assert estimate.n == mine.sum()
        assert estimate.value == pytest.approx((a.label[mine] == made.truth[a.task[mine]]).mean())


def test_the_confusion_of_a_person_adds_up_to_the_persons_answers() -> None:
    made = crowd(seed=1)
    told = annotators.confusion(made.answers, certain(made))
    assert sum(matrix.sum() for matrix in told.values()) == pytest.approx(len(made.answers))
    a = made.answers
    worker = a.workers.index("w3")
    mine = a.worker == worker
    assert told["w3"][1, 2] == ((made.truth[a.task] == 1) & (a.label == 2))[mine].sum()


def test_who_gets_worse_is_told_and_who_answered_little_is_not() -> None:
    answers = one("x" * 20 + "y" * 20)
    believed = np.tile([1.0, 0, 0], (40, 1))
    told = annotators.drift(answers, believed, np.arange(40))
    assert told["a"].value == -1.0
    assert told["a"].high is not None
    assert told["a"].high < -0.7
    assert annotators.drift(answers, believed, np.arange(40)[::-1])["a"].value == 1.0
    assert annotators.drift(answers, believed, np.zeros(40)) == {}  # nothing says what came first
    few = answers.where(answers.task < 19)
    assert annotators.drift(few, believed, np.arange(19)) == {}


def test_bias_by_slice_is_a_difference_with_an_interval() -> None:
    answers = one("x" * 20 + "y" * 20)
    believed = np.tile([1.0, 0, 0], (40, 1))
    told = annotators.bias(answers, believed, ["left"] * 20 + ["right"] * 20)
    assert (told["a"]["left"].value, told["a"]["right"].value) == (1.0, -1.0)
    assert annotators.bias(answers, believed, ["left"] * 35 + ["right"] * 5) == {}


def test_always_the_same_answer_is_told_only_where_that_is_improbable() -> None:
    mixed = "xyz" * 10
    told = annotators.anomalies(one("x" * 30, b=mixed, c=mixed))
    assert [(t.annotator, t.what, t.evidence["answers"]) for t in told] == [("a", "always the same answer", 30)]
    # Where nearly everybody says it of nearly everything, it is no anomaly.
    assert annotators.anomalies(one("x" * 30, b="x" * 29 + "y", c="x" * 30)) == []
    assert annotators.anomalies(one("xxxxx", b="xyzxy", c="zyxzy")) == []


def test_much_faster_than_others_at_the_same_tasks_is_told() -> None:
    mixed = "xyz" * 10
    answers = one(mixed, b=mixed, c=mixed)
    seconds = np.concatenate([np.full(30, 1.0), np.linspace(8, 20, 30), np.linspace(9, 15, 30)])
    (told,) = annotators.anomalies(answers, seconds=seconds)
    assert (told.annotator, told.what) == ("a", "much faster than others at the same tasks")
    assert told.evidence["answers"] == 30
    assert told.evidence["median_share_of_usual_time"] < 0.2
    assert annotators.anomalies(answers, seconds=np.full(90, np.nan)) == []


def test_who_contradicts_the_own_answer_is_told_with_how_often() -> None:
    told = annotators.anomalies(one("xyz"), changed=[("a", "t0"), ("a", "t1")])
    assert [(t.annotator, t.what, t.evidence) for t in told] == [
        ("a", "contradicts the own answer", {"tasks": 2, "answers": 3})
    ]


def test_nobody_agrees_with_himself_in_the_expected_accuracy() -> None:
    alone = replace(one("xyx"), worker=np.zeros(3, dtype=np.int64))
    assert annotators.expected_accuracy(alone, np.eye(3)[alone.label]) == {}
    made = crowd(seed=2, each=9)
    told = annotators.expected_accuracy(made.answers, certain(made))
    assert 0.5 < np.mean([estimate.value for estimate in told.values()]) < 0.85
