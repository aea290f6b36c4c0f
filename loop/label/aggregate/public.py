"""Public data sets of people's answers, as questions and answers: PandaLM's test set, Davidson's votes."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from loop.errors import BadInputError
from loop.label.aggregate.reading import Rows, read, text_of
from loop.label.tasks import Kind

SIDES: Final = {"0": "tie", "1": "first", "2": "second"}
CLASSES: Final = ("hate_speech", "offensive_language", "neither")
HARM: Final = "hate speech and offensive language"


class Format(StrEnum):
    """What files of answers look like."""

    ANSWERS = "answers"
    """`worker, task, label[, gold][, seconds]`: see `reading`."""
    PANDALM = "pandalm"
    """PandaLM's `testset-v1.json`: pairs of answers, three annotators each; verdicts of two judges beside it."""
    DAVIDSON = "davidson"
    """Davidson's `labeled_data.csv[.gz]`: votes by class."""


@dataclass
class Collection:
    """Answers, and the questions that they are to."""

    rows: Rows
    questions: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By the task's name in the file: what `tasks.task` takes."""
    judges: dict[str, dict[str, str]] = field(default_factory=dict)
    """What machines said, by the judge's name and the task's."""
    anonymous: bool = False
    """Whether the workers are places in an order that was drawn, and nobody in particular."""


def load(path: Path, form: Format) -> Collection:
    """What a file holds.

    Raises:
        BadInputError: it is not of that format.
    """
    match form:
        case Format.ANSWERS:
            return Collection(read(path))
        case Format.PANDALM:
            return _pandalm(path)
        case Format.DAVIDSON:
            return _davidson(path)


def _pandalm(path: Path) -> Collection:
    made = Collection(Rows())
    for place, row in enumerate(_objects(path), 1):
        missing = [n for n in ("idx", "instruction", "response1", "response2") if n not in row]
        if missing:
            raise BadInputError(f"{path}: row {place}: expected PandaLM's {missing[0]}, got none")
        task = str(row["idx"])
        asked = "\n\n".join(text_of(text) for text in (row["instruction"], row.get("input") or "") if text)
        made.questions[task] = {
            "kind": Kind.PREFERENCE,
            "prompt": [{"role": "user", "content": asked}],
            "texts": [text_of(row["response1"]), text_of(row["response2"])],  # some are true or a number
        }
        for who in ("annotator1", "annotator2", "annotator3"):
            said = SIDES.get(str(row.get(who)))
            if said is None:
                made.rows.refuse(place, f"label: expected one of 0, 1, 2, got {row.get(who)!r}")
            else:
                made.rows.add(place, {"worker": f"pandalm:{who}", "task": task, "label": said})
    for beside, column in (
        ("gpt-3.5-turbo-testset-v1.json", "gpt_result"),
        ("pandalm-7b-testset-v1.json", "pandalm_result"),
    ):
        verdicts = path.parent / beside
        if verdicts.exists():
            verdict_of = {str(row["idx"]): str(row.get(column)).lower() for row in _objects(verdicts)}
            made.judges[beside.removesuffix("-testset-v1.json")] = {
                task: SIDES.get(word, word) for task, word in verdict_of.items()
            }
    return made


def _davidson(path: Path) -> Collection:
    """Votes have no names. Each becomes an answer of the first, second, ... of a tweet, in an order drawn by the tweet.

    So the places are exchangeable, as the votes are: none of them is better at anything than another, and nothing that
    is computed of them is about a person.
    """
    made = Collection(Rows(), anonymous=True)
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode()
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise BadInputError(f"{path}: expected Davidson's labeled_data.csv: {error}") from None
    table = csv.DictReader(io.StringIO(text))
    if missing := {*CLASSES, "count", "tweet"} - set(table.fieldnames or ()):
        raise BadInputError(f"{path}: expected the columns of Davidson's data, got none called {min(missing)}")
    for row in table:
        task = row[""] if "" in row else str(table.line_num)
        votes = [name for name in CLASSES for _ in range(int(row[name] or 0))]
        if len(votes) != int(row["count"] or 0) or not votes or not (row["tweet"] or "").strip():
            made.rows.refuse(table.line_num, f"votes: expected {row['count']} to a tweet, got {len(votes)}")
            continue
        made.questions[task] = {"kind": Kind.CATEGORY, "texts": [row["tweet"]], "options": CLASSES, "harm": HARM}
        drawn = sorted(range(len(votes)), key=lambda i: hashlib.blake2b(f"{task}|{i}".encode()).digest())
        for place, vote in enumerate(drawn, 1):
            given: dict[str, str | None] = {"worker": f"davidson:vote {place}", "task": task, "label": votes[vote]}
            made.rows.add(table.line_num, given)
    return made


def _objects(path: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BadInputError(f"{path}: expected PandaLM's test set, a list of JSON objects: {error}") from None
    if not isinstance(found, list) or not found or not all(isinstance(row, dict) for row in found):
        raise BadInputError(f"{path}: expected PandaLM's test set, a list of JSON objects, got something else")
    return found
