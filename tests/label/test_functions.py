"""Labelling functions: what each says, what is reported of them, and their votes as answers of annotators."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from loop import schema
from loop.home import Home
from loop.label import gold, tasks
from loop.label.annotations import latest
from loop.label.functions import Votes, analyse, annotator, functions_of, run, vote
from loop.label.tasks import Kind, Origin
from loop.lake import from_rows
from loop.workflows import BAD, GOOD, WORKFLOWS, Function
from tests.rows import DAY

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
GOOD_AD = "target newcomers with price angle, playful tone, claim tested, bid low"


def task(kind: Kind, *texts: str, workflow: str = "ads", prompt: str = "", options: tuple[str, ...] = ()) -> Any:
    return tasks.task(
        day=DAY,
        workflow=workflow,
        kind=kind,
        origin=Origin.IMPORT,
        reason="random",
        prompt=[{"role": "user", "content": prompt}],
        texts=texts,
        options=options,
        selected_at=datetime(2026, 1, 6, tzinfo=UTC),
    )


def said(rows: list[Any], *functions: Function, **more: Any) -> set[tuple[str, str, str]]:
    found = vote(from_rows(rows, schema.LABEL_TASKS), functions, **more)
    names = {row["label_task_id"]: str(i) for i, row in enumerate(rows)}
    return {(row["worker"], names[row["task"]], row["label"]) for row in found.rows.to_pylist()}


def silent(name: str) -> Function:
    return Function(name, "", lambda *_: None)


def one(name: str, workflow: str) -> Function:
    return next(f for f in functions_of(WORKFLOWS[workflow]) if f.name == name)


@pytest.mark.parametrize(
    ("workflow", "name", "prompt", "bad", "silent"),
    [
        ("ads", "format", "", "buy our shoes", GOOD_AD),
        ("ads", "house_list", "", GOOD_AD.replace("playful", "silly"), GOOD_AD),
        ("ads", "length", "", "x" * 401, GOOD_AD),
        ("ads", "within_budget", "budget tiny", GOOD_AD, GOOD_AD.replace("bid low", "bid tiny")),
        ("ads", "provable", "", GOOD_AD.replace("tested", "unbeatable"), GOOD_AD),
        ("ads", "banned_claim", "", "Guaranteed to fit", "made to fit"),
        ("ads", "repeats", "", "very very Very very good", "very very good"),
        ("comms", "echoes", "Please write to Jane about the new office in Leeds. Thanks.", None, "new office"),
        ("comms", "left_blank", "", "Dear [Name], hello", "Dear Jane, hello"),
        ("comms", "shouted", "", "THIS IS THE LAST REMINDER, jane", "The BBC called."),
        ("comms", "signed", "", "Hello, good news", "Hello, good news. Regards"),
        ("design", "praise_alone", "", "A stunning page!", "A stunning page, but move the button."),
        (
            "moderation",
            "attended",
            "",
            "hide for harm, severity high, then close",
            "hide for harm, severity high, then warn",
        ),
    ],
)
def test_what_a_function_speaks_against(workflow: str, name: str, prompt: str, bad: str | None, silent: str) -> None:
    function = one(name, workflow)
    assert function.vote(prompt, bad or prompt) == BAD
    assert function.vote(prompt, silent) is None


def test_a_vote_on_texts_becomes_an_answer_to_the_task() -> None:
    longer = Function("f", "", lambda _, text: {"x": BAD, "y": GOOD, "v": "violence"}.get(text))
    rows = [
        task(Kind.PREFERENCE, "x", "plain"),
        task(Kind.PREFERENCE, "plain", "x"),
        task(Kind.PREFERENCE, "y", "plain"),
        task(Kind.PREFERENCE, "x", "x "[:1]),
        task(Kind.PREFERENCE, "plain", "other"),
        task(Kind.RATING, "x", options=("1", "2", "3")),
        task(Kind.RATING, "y", options=("1", "2", "3")),
        task(Kind.CATEGORY, "v", options=("violence", "none")),
        task(Kind.CATEGORY, "v", options=("V", "none")),
        task(Kind.REWRITE, "x"),
        task(Kind.RED_TEAM, options=("format",)),
    ]
    assert said(rows, longer) == {
        ("f", "0", "second"),
        ("f", "1", "first"),
        ("f", "2", "first"),
        ("f", "5", "1"),
        ("f", "7", "violence"),
    }
    assert ("f", "8", "V") in said(rows, longer, names={"violence": "V"})


def test_a_function_that_raises_abstains_and_is_told() -> None:
    def broken(prompt: str, text: str) -> str | None:
        raise ZeroDivisionError

    rows = from_rows([task(Kind.PREFERENCE, "a", "b"), task(Kind.PREFERENCE, "c", "d")], schema.LABEL_TASKS)
    found = vote(
        rows, [Function("broken", "", broken), Function("fine", "", lambda _, text: BAD if text == "a" else None)]
    )
    assert found.rows.num_rows == 1
    assert (found.abstained, found.raised) == ({"broken": 2, "fine": 1}, {("broken", "ZeroDivisionError"): 2})


def test_coverage_overlap_conflict_and_accuracy() -> None:
    names = ("a", "b", "c")
    rows = [("a", "1", "x"), ("a", "2", "x"), ("a", "3", "y"), ("b", "2", "x"), ("b", "3", "x")]
    table = pa.table({c: [r[i] for r in rows] for i, c in enumerate(("worker", "task", "label"))})
    found = analyse(Votes(table, 4), [silent(n) for n in names], {"1": "x", "3": "x"})
    told = [
        (f.function, f.polarity, f.coverage, f.overlaps, f.conflicts, f.correct, f.incorrect, f.accuracy) for f in found
    ]
    assert told == [
        ("a", ("x", "y"), 0.75, 0.5, 0.25, 1, 1, 0.5),
        ("b", ("x",), 0.5, 0.5, 0.25, 1, 0, 1.0),
        ("c", (), 0.0, 0.0, 0.0, 0, 0, None),
    ]


def test_functions_answer_as_annotators_once_and_withdraw_what_they_no_longer_say(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = task(Kind.PREFERENCE, GOOD_AD, "buy our shoes")
    tasks.add(home.lake, home.state, [asked, task(Kind.PREFERENCE, GOOD_AD, GOOD_AD + " ")])
    gold.put(home.state, asked, label="first", hidden=False, reason="plain", author="me")
    ran = run(home.lake, home.state, "ads", (DAY, DAY), author="me")
    assert (ran.votes.rows.num_rows, ran.recorded.new, ran.withdrawn) == (1, 1, 0)
    [row] = latest(home.state, DAY, "ads").to_pylist()
    assert (row["annotator"], row["label"], row["source"]) == (annotator("ads", "format"), "first", "function")
    [found] = [f for f in ran.analysis if f.function == "format"]
    assert (found.coverage, found.accuracy) == (0.5, 1.0)
    again = run(home.lake, home.state, "ads", (DAY, DAY), author="me")
    assert (again.recorded.new, again.recorded.repeated, again.recorded.changed) == (0, 1, 0)
    monkeypatch.setattr("loop.label.functions.functions_of", lambda _: [silent("format")])
    assert run(home.lake, home.state, "ads", (DAY, DAY), author="me").withdrawn == 1
    assert latest(home.state, DAY, "ads").num_rows == 0


CODES = {"sexual": "S", "hate": "H", "violence": "V", "harassment": "HR", "self-harm": "SH"}


def test_cues_name_what_people_found_in_real_posts() -> None:
    path = SHARED / "openai_moderation" / "data" / "samples-1680.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{path} is not here: the shared data are no part of the repository")
    with gzip.open(path, "rt") as file:
        posts = [json.loads(line) for line in file]
    options = (*CODES.values(), "none")
    rows = [task(Kind.CATEGORY, post["prompt"], workflow="moderation", options=options) for post in posts]
    asked = {row["label_task_id"]: row for row in rows}
    cued = [f for f in functions_of(WORKFLOWS["moderation"]) if f.name.startswith("cue_")]
    votes = vote(from_rows(list(asked.values()), schema.LABEL_TASKS), cued, CODES)
    told = {row["label_task_id"]: post for row, post in zip(rows, posts, strict=True)}
    judged = [(r["worker"], told[r["task"]].get(r["label"])) for r in votes.rows.to_pylist()]
    known = [(worker, is_so) for worker, is_so in judged if is_so is not None]
    chance = {code: [post[code] for post in posts if code in post] for code in CODES.values()}
    for kind, least in {"sexual": 3.0, "violence": 3.0, "harassment": 5.0}.items():  # hate: eleven votes, no better
        hits = [is_so for worker, is_so in known if worker == f"cue_{kind}"]
        base = sum(chance[CODES[kind]]) / len(chance[CODES[kind]])
        assert len(hits) > 40
        assert sum(hits) / len(hits) > least * base, kind
