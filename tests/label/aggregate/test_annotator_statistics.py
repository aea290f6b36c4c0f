from __future__ import annotations

import numpy as np
import pytest
from crowds import Crowd, crowd
from hypothesis import given, settings
from hypothesis import strategies as st

from loop.label.aggregate import annotators, measured
from loop.label.aggregate.agreement import Level
from loop.label.aggregate.answers import Answers, sort
from loop.label.aggregate.stacking import aggregate


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
    a = made.answers
    told = annotators.confusion(a, certain(made)[a.task])
    assert sum(matrix.sum() for matrix in told.values()) == len(a)
    worker = a.workers.index("w3")
    mine = a.worker == worker
    assert told["w3"][1, 2] == ((made.truth[a.task] == 1) & (a.label == 2))[mine].sum()


def test_a_guesser_beside_one_other_is_right_on_half_and_no_more() -> None:
    """Two newcomers in a good crowd: a says x and y as often whatever b says, so that only a's own answer is for a."""
    rows = [(who, f"t{i}", "xy"[i % 2]) for i in range(40) for who in "cde"]
    rows += [(who, f"u{i}", line[i % 4]) for i in range(8) for who, line in (("a", "xxyy"), ("b", "xyxy"))]
    answers = sort(*zip(*rows, strict=True)).answers
    soft = aggregate(answers, left_out=True)
    assert soft.left_out is not None
    assert annotators.confusion(answers, soft.left_out)["a"] == pytest.approx(np.full((2, 2), 2.0), abs=1e-3)
    flattered = annotators.confusion(answers, soft.probabilities[answers.task])["a"]
    assert np.trace(flattered) / 8 > 0.7
    told = measured.tell("q", answers, level=Level.NOMINAL)["annotators"]
    assert told["a"]["confusion"] == [[2.0, 2.0], [2.0, 2.0]]


def test_an_answer_is_set_beside_what_is_known_and_else_beside_the_others_alone() -> None:
    # t0 is known to be x; t1 has two answers; t2 has one and is not known.
    answers = sort(["a", "b", "a", "b", "a"], ["t0", "t0", "t1", "t1", "t2"], list("xyxxy")).answers
    beside = measured._beside(answers, np.array([0, -1, -1]))
    assert beside[:2].tolist() == [[1, 0], [1, 0]]
    assert np.isnan(beside[4]).all()
    told = annotators.confusion(answers, beside)
    assert {name: matrix.sum() for name, matrix in told.items()} == {"a": pytest.approx(2), "b": pytest.approx(2)}
    assert told["b"][0, 1] == 1  # says y where x is known
    nobody = sort(["a", "b"], ["t0", "t1"], ["x", "y"]).answers
    assert annotators.confusion(nobody, measured._beside(nobody, None)) == {}


def test_who_gets_worse_is_told_and_who_answered_little_is_not() -> None:
    answers = one("x" * 20 + "y" * 20, b="x" * 40, c="x" * 40)
    order = np.tile(np.arange(40), 3)
    told = annotators.drift(answers, order)
    assert told["a"].value == -1.0
    assert told["a"].high is not None
    assert told["a"].high < -0.7
    assert annotators.drift(answers, -order)["a"].value == 1.0
    assert annotators.drift(answers, np.zeros(120)) == {}  # nothing says what came first
    few = answers.where(answers.task < 19)
    assert annotators.drift(few, few.task) == {}
    alone = one("x" * 20 + "y" * 20)
    assert annotators.drift(alone, alone.task) == {}


def test_drift_is_told_without_the_own_answer_and_nearer_to_0_than_the_accuracy() -> None:
    rng = np.random.default_rng(0)
    n = 20_000
    truth = rng.integers(2, size=n)
    skill = np.stack([np.where(np.arange(n) < n // 2, 0.9, 0.5), np.full(n, 0.8)])  # of a, and of one other
    right = rng.random(skill.shape) < skill
    label = np.where(right, truth, 1 - truth).ravel()
    people = np.repeat([0, 1], n), np.tile(np.arange(n), 2)
    answers = Answers(("a", "b"), tuple(map(str, range(n))), ("x", "y"), *people, label)
    told = annotators.drift(answers, answers.task)["a"].value
    assert told == pytest.approx(-0.4 * (2 * 0.8 - 1), abs=0.02)


def test_bias_by_slice_is_a_difference_with_an_interval() -> None:
    answers = one("x" * 20 + "y" * 20, b="x" * 40, c="x" * 40)
    told = annotators.bias(answers, (["left"] * 20 + ["right"] * 20) * 3)
    assert (told["a"]["left"].value, told["a"]["right"].value) == (1.0, -1.0)
    assert told["b"]["left"].value == 0.5  # one of the two others says on the right what nobody else says
    assert annotators.bias(answers, (["left"] * 35 + ["right"] * 5) * 3) == {}
    assert annotators.bias(one("x" * 40), ["left"] * 20 + ["right"] * 20) == {}


def test_always_the_same_answer_is_told_only_where_that_is_improbable() -> None:
    mixed = "xyz" * 10
    told = annotators.anomalies(one("x" * 30, b=mixed, c=mixed))
    assert [(t.annotator, t.what, t.evidence["answers"]) for t in told] == [("a", "always the same answer", 30)]
    # Where nearly everybody says it of nearly everything, it is no anomaly.
    assert annotators.anomalies(one("x" * 30, b="x" * 29 + "y", c="x" * 30)) == []
    assert annotators.anomalies(one("xxxxx", b="xyzxy", c="zyxzy")) == []
    assert annotators.anomalies(one("x" * 30)) == []  # nobody else says how often it is right


def test_much_faster_than_others_at_the_same_tasks_is_told() -> None:
    mixed = "xyz" * 10
    answers = one(mixed, b=mixed, c=mixed)
    seconds = np.concatenate([np.full(30, 1.0), np.linspace(8, 20, 30), np.linspace(9, 15, 30)])
    (told,) = annotators.anomalies(answers, seconds=seconds)
    assert (told.annotator, told.what) == ("a", "much faster than others at the same tasks")
    assert told.evidence["answers"] == 30
    assert told.evidence["median_share_of_usual_time"] < 0.2
    assert annotators.anomalies(answers, seconds=np.full(90, np.nan)) == []


@pytest.mark.parametrize(("share", "told"), [(0.2, ["a"]), (0.3, [])])
def test_a_quarter_of_the_time_is_of_the_others_time_alone(share: float, told: list[str]) -> None:
    answers = one("xy" * 15, b="xy" * 15)
    seconds = np.concatenate([np.full(30, share * 10), np.full(30, 10.0)])
    found = annotators.anomalies(answers, seconds=seconds)
    assert [(a.annotator, a.evidence["median_share_of_usual_time"]) for a in found] == [(name, share) for name in told]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-5, 5)), min_size=1, max_size=20))
def test_the_median_of_the_others_is_the_median_of_the_others(given: list[tuple[int, float]]) -> None:
    group, values = np.array([g for g, _ in given]), np.array([v for _, v in given])
    told = annotators._others_median(group, values, 4)
    for i, one_told in enumerate(told):
        others = values[(group == group[i]) & (np.arange(len(group)) != i)]
        assert one_told == pytest.approx(np.median(others) if len(others) else np.nan, nan_ok=True)


def test_who_contradicts_the_own_answer_is_told_with_how_often() -> None:
    told = annotators.anomalies(one("xyz"), changed=[("a", "t0"), ("a", "t1")])
    assert [(t.annotator, t.what, t.evidence) for t in told] == [
        ("a", "contradicts the own answer", {"tasks": 2, "answers": 3})
    ]


def test_nobody_agrees_with_himself() -> None:
    assert annotators.agreement_with_others(one("xyx")) == {}
    told = annotators.agreement_with_others(one("xxxx", b="xxyy", c="xyyz"))
    assert {name: (e.value, e.n) for name, e in told.items()} == {
        "a": (pytest.approx((1 + 0.5 + 0 + 0) / 4), 4),
        "b": (pytest.approx((1 + 0.5 + 0.5 + 0) / 4), 4),
        "c": (pytest.approx((1 + 0 + 0.5 + 0) / 4), 4),
    }
