from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loop.errors import BadInputError
from loop.label.aggregate import annotators, judging, measured, reading, stacking
from loop.label.aggregate.agreement import Level
from loop.label.aggregate.public import Format, load
from loop.label.aggregate.reading import read

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
GOLD = SHARED / "crowd_gold"
beside = pytest.mark.skipif(not GOLD.exists(), reason="the public data are not beside the repository (../shared/data)")


def file(folder: Path, content: bytes | str) -> Path:
    path = folder / "answers.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def problems(rows: reading.Rows) -> list[tuple[int, str]]:
    return [(problem.line, problem.reason) for problem in rows.problems]


def test_a_header_names_the_columns_in_any_order_and_others_are_kept(tmp_path: Path) -> None:
    rows = read(file(tmp_path, "Label,worker,swapped,task\nx,a,yes,t\n"))
    assert (rows.worker, rows.task, rows.label, rows.extra) == (["a"], ["t"], ["x"], [{"swapped": "yes"}])
    assert (rows.gold, rows.seconds, rows.has_gold) == ([None], [None], False)


@pytest.mark.parametrize(
    ("line", "gold", "seconds"), [("a,t,x", None, None), ("a,t,x,y", "y", None), ("a,t,x,y,2.5", "y", 2.5)]
)
def test_without_a_header_the_first_line_is_an_answer(
    tmp_path: Path, line: str, gold: str | None, seconds: float | None
) -> None:
    rows = read(file(tmp_path, line))
    assert (rows.worker, rows.gold, rows.seconds, rows.rows) == (["a"], [gold], [seconds], 1)


def test_broken_rows_are_told_with_their_line_and_break_no_other(tmp_path: Path) -> None:
    content = (
        b'worker,task,label,seconds\na,t,x,1\n\na,t\nb,,x,1\nc,t,"x,1\nd,\xff,x,1\ne,t,x,soon\nf,t,"x, y",\n,t,x,-1\n'
    )
    rows = read(file(tmp_path, content))
    assert (rows.worker, rows.label, rows.line) == (["a", "f"], ["x", "x, y"], [2, 9])
    assert problems(rows) == [
        (4, "number of columns: expected 4, got 2"),
        (5, "no task"),
        (6, "broken quotes: unexpected end of data"),
        (7, "not UTF-8: byte 2 is 0xff"),
        (8, "seconds: expected a number from 0, got 'soon'"),
        (10, "no worker"),
    ]
    assert rows.rows == 8


def test_json_lines_are_read_too(tmp_path: Path) -> None:
    lines = [{"worker": "a", "task": 1, "label": True}, {"worker": "b", "task": 1}, ["no"]]
    rows = read(file(tmp_path, "".join(json.dumps(line) + "\n" for line in lines) + "{"))
    assert (rows.worker, rows.task, rows.label) == (["a"], ["1"], ["true"])
    assert [line for line, _ in problems(rows)] == [2, 3, 4]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "at least one answer, got an empty file"),
        (b" \n\n", "at least one answer, got an empty file"),
        (b"worker,task\na,b\n", "expected the columns worker, task, label, got none called label"),
        (b"a,b\n", "expected 3 to 5 columns"),
        (b"worker,task,label\n", "got 0 rows that are none"),
        (b"worker,task,label\na,b\n", "got 1 rows that are none; line 2"),
        ("worker,task,label\na,t,x\n".encode("utf-16"), "expected UTF-8, got UTF-16"),
    ],
)
def test_what_is_no_file_of_answers_is_said_to_be_none(tmp_path: Path, content: bytes, told: str) -> None:
    with pytest.raises(BadInputError, match=told):
        read(file(tmp_path, content))
    with pytest.raises(BadInputError, match="expected a file of answers, got none"):
        read(tmp_path / "missing.csv")


def test_a_task_with_two_known_answers_has_none(tmp_path: Path) -> None:
    rows = read(file(tmp_path, "a,t,x,x\nb,t,x,y\na,u,x,y\n"))
    assert rows.golds() == ({"u": "y"}, 1)
    _, _, gold = reading.answers_of(rows)
    assert gold.tolist() == [-1, 1]


def test_gold_that_nobody_gave_makes_no_label_and_is_no_answer(tmp_path: Path) -> None:
    lines = [(f"w{w}", f"t{t}", "xy"[(t + (w == t)) % 2]) for t in range(6) for w in range(3)]
    plain = read(file(tmp_path, "".join(f"{','.join(line)}\n" for line in lines)))
    known = read(file(tmp_path, "".join(f"{','.join(line)},{'z' if line[1] == 't0' else 'x'}\n" for line in lines)))
    answers, _, gold = reading.answers_of(known)
    assert (answers.labels, gold.tolist()) == (("x", "y"), [2, 0, 0, 0, 0, 0])
    without, told = (stacking.aggregate(reading.answers_of(rows)[0]) for rows in (plain, known))
    assert (told.probabilities == without.probabilities).all()
    accuracy = annotators.gold_accuracy(answers, gold)
    assert {name: estimate.n for name, estimate in accuracy.items()} == {"w0": 6, "w1": 6, "w2": 6}
    first = [label == "x" and task != "t0" for worker, task, label in lines if worker == "w0"]
    assert accuracy["w0"].value == sum(first) / 6
    measured.tell("", answers, level=Level.NOMINAL, gold=gold)


def test_labels_that_are_numbers_are_in_their_order(tmp_path: Path) -> None:
    assert read(file(tmp_path, "a,t,10\nb,t,2\nc,t,1\n")).labels() == ["1", "2", "10"]
    assert read(file(tmp_path, "a,t,10\nb,t,2\nc,t,nan\n")).labels() == ["10", "2", "nan"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=12), max_size=12))
def test_no_row_is_ever_lost(tmp_path: Path, lines: list[bytes]) -> None:
    whole = b"worker,task,label\na,t,x\n" + b"\n".join(lines)
    rows = read(file(tmp_path, whole))
    there = [line for line in whole.splitlines() if line.strip()]
    assert len(rows.worker) + len(rows.problems) == rows.rows == len(there) - 1


# -- the public sets ------------------------------------------------------------------------------------------------


@beside
@pytest.mark.parametrize(
    ("name", "counts", "least"),
    [
        ("CF", (1720, 0, 300, 461), 0.8866),
        ("CF_amt", (6030, 5, 300, 110), 0.86),
        ("SP", (27746, 0, 4999, 203), 0.9166),
        ("SP_amt", (10000, 0, 500, 143), 0.946),
    ],
)
def test_the_default_is_no_worse_than_the_best_of_four_known_methods(
    name: str, counts: tuple[int, ...], least: float
) -> None:
    """`least`: the best of majority vote, Dawid-Skene, one-coin and GLAD, as crowd-kit 1.4.2 computes them."""
    rows = read(GOLD / f"{name}.csv")
    answers, found, gold = reading.answers_of(rows)
    assert (rows.rows, found.duplicates, len(answers.tasks), len(answers.workers)) == counts
    assert (rows.problems, found.contradicted) == ([], 0)
    assert (stacking.aggregate(answers).label == gold).mean() >= least


@beside
def test_pandalm_is_999_pairs_with_three_annotators_and_two_judges() -> None:
    collection = load(SHARED / "pandalm" / "data" / "testset-v1.json", Format.PANDALM)
    assert (collection.rows.rows, len(collection.questions), collection.rows.problems) == (2997, 999, [])
    assert {name: len(verdicts) for name, verdicts in collection.judges.items()} == {
        "gpt-3.5-turbo": 999,
        "pandalm-7b": 999,
    }
    assert all(isinstance(text, str) for asked in collection.questions.values() for text in asked["texts"])
    answers = reading.answers_of(collection.rows)[0]
    assert int((judging.pairwise_agreement(answers) == 1).sum()) == 879  # unanimous, as the set's README says
    told = stacking.aggregate(answers)
    found = judging.compare(told, "gpt-3.5-turbo", collection.judges["gpt-3.5-turbo"])
    assert found is not None
    assert (found.tasks, found.without_verdict) == (999, 0)
    assert found.between_people.value == pytest.approx(0.9199, abs=1e-3)
    assert found.difference.high is not None
    assert found.difference.high < -0.15


def test_a_judge_who_says_what_people_say_is_at_the_ceiling_and_garbage_is_a_disagreement(tmp_path: Path) -> None:
    rows = read(file(tmp_path, "".join(f"w{w},t{t},{'xy'[t % 2]}\n" for t in range(20) for w in range(3))))
    told = stacking.aggregate(reading.answers_of(rows)[0])
    right = {f"t{t}": "xy"[t % 2] for t in range(20)}
    same = judging.compare(told, "same", right)
    assert same is not None
    assert (same.with_a_person.value, same.between_people.value, same.difference.value) == (1.0, 1.0, 0.0)
    wrong = judging.compare(told, "none", dict.fromkeys(list(right)[:10], "garbage"))
    assert wrong is not None
    assert (wrong.tasks, wrong.without_verdict, wrong.with_a_person.value, wrong.expected.value) == (10, 10, 0.0, 0.0)
    assert judging.compare(told, "silent", {}) is None


DAVIDSON = (
    ",count,hate_speech,offensive_language,neither,class,tweet\n0,3,0,2,1,1,one\n1,3,1,1,2,2,broken\n7,6,6,0,0,0,two\n"
)


@pytest.mark.parametrize("packed", [True, False])
def test_davidsons_votes_become_answers_of_nobody_in_particular(tmp_path: Path, packed: bool) -> None:
    path = file(tmp_path, gzip.compress(DAVIDSON.encode()) if packed else DAVIDSON)
    made = load(path, Format.DAVIDSON)
    assert made.anonymous
    assert sorted(zip(made.rows.task, made.rows.label, strict=True)) == [
        *[("0", "neither"), ("0", "offensive_language"), ("0", "offensive_language")],
        *[("7", "hate_speech")] * 6,
    ]
    assert problems(made.rows) == [(3, "votes: expected 3 to a tweet, got 4")]
    assert made.questions["0"]["texts"] == ["one"]


@beside
def test_the_places_of_davidsons_votes_are_exchangeable() -> None:
    made = load(SHARED / "davidson_hate" / "labeled_data.csv.gz", Format.DAVIDSON)
    assert (len(made.questions), made.rows.problems) == (24783, [])
    label = np.array(made.rows.label)
    worker = np.array(made.rows.worker)
    shares = [(label[worker == f"davidson:vote {i}"] == "hate_speech").mean() for i in (1, 2, 3)]
    assert max(shares) - min(shares) < 0.01


@beside
def test_a_rare_label_that_all_who_voted_gave_is_not_explained_away() -> None:
    """Nobody is known of exchangeable votes: a model that learns how rare a label is overturns all its votes."""
    answers = reading.answers_of(load(SHARED / "davidson_hate" / "labeled_data.csv.gz", Format.DAVIDSON).rows)[0]
    part = answers.of_tasks(np.arange(0, len(answers.tasks), 12))
    hate = part.labels.index("hate_speech")
    unanimous = part.votes[:, hate] == part.votes.sum(1)
    told = stacking.aggregate(part)
    assert unanimous.sum() > 10
    assert (told.label[unanimous] == hate).all()


@pytest.mark.parametrize(
    ("form", "content", "told"),
    [
        (Format.PANDALM, "[]", "a list of JSON objects"),
        (Format.PANDALM, '[{"idx": 1}]', "expected PandaLM's instruction"),
        (Format.DAVIDSON, "a,b\n", "got none called count"),
    ],
)
def test_what_is_none_of_the_public_sets_is_said_to_be_none(
    tmp_path: Path, form: Format, content: str, told: str
) -> None:
    with pytest.raises(BadInputError, match=told):
        load(file(tmp_path, content), form)
