from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from loop.label.aggregate import answers as columns


def rows(found: columns.Sorted) -> list[tuple[str, str, str]]:
    a = found.answers
    return [(a.workers[w], a.tasks[t], a.labels[said]) for w, t, said in zip(a.worker, a.task, a.label, strict=True)]


def test_a_repeated_answer_stands_once_and_of_contradicting_ones_the_last_counts() -> None:
    found = columns.sort(list("aaabbb"), list("ttuttu"), list("xxyxyz"))
    assert rows(found) == [("a", "t", "x"), ("a", "u", "y"), ("b", "t", "y"), ("b", "u", "z")]
    assert (found.repeated, found.contradicted, found.duplicates) == (1, 1, 2)
    assert found.kept.tolist() == [0, 2, 4, 5]
    assert found.changed == (("b", "t"),)


def test_who_goes_back_to_an_earlier_answer_contradicted_twice() -> None:
    found = columns.sort(list("aaa"), list("ttt"), list("xyx"))
    assert rows(found) == [("a", "t", "x")]
    assert (found.repeated, found.contradicted, found.kept.tolist()) == (0, 2, [2])


def test_of_nothing_there_is_nothing() -> None:
    found = columns.sort([], [], [])
    assert (len(found.answers), found.duplicates, found.answers.votes.shape) == (0, 0, (0, 0))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("tuv"), st.sampled_from("xyz")), max_size=40))
def test_nothing_is_lost_and_what_stands_is_each_persons_last_word(given_: list[tuple[str, str, str]]) -> None:
    worker, task, label = ([row[i] for row in given_] for i in range(3))
    found = columns.sort(worker, task, label)
    assert len(found.answers) + found.repeated + found.contradicted == len(given_)
    assert {(w, t): said for w, t, said in rows(found)} == {(w, t): said for w, t, said in given_}
    assert max(Counter((w, t) for w, t, _ in rows(found)).values(), default=1) == 1
    assert found.answers.votes.sum() == len(found.answers)


def test_some_tasks_keep_their_answers_and_the_workers_their_codes() -> None:
    whole = columns.sort(list("abab"), list("ttuu"), list("xyyy")).answers
    part = whole.of_tasks(np.array([1]))
    assert (part.tasks, part.workers, part.task.tolist(), part.label.tolist()) == (("u",), ("a", "b"), [0, 0], [1, 1])
