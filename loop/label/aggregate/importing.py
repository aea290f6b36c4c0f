"""Answers from outside into the home: tasks where there are none, annotators by pseudonym, annotations once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final

from loop.config import Settings
from loop.errors import BadInputError
from loop.label import annotations as answered
from loop.label import gold, outside, tasks
from loop.label.aggregate.answers import sort
from loop.label.aggregate.public import Collection
from loop.label.aggregate.reading import in_order
from loop.label.annotations import Annotation
from loop.label.tasks import Kind, Origin
from loop.lake import Lake
from loop.privacy.masking import mask
from loop.privacy.recognise import recogniser
from loop.state import State

EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_KNOWN: Final = "known in the imported file"
"""Reason of a known answer that is the import's own."""


@dataclass
class Imported:
    """What became of the rows: `rows == new + repeated + changed + refused.total()`."""

    rows: int = 0
    new: int = 0
    repeated: int = 0
    changed: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    problems: list[tuple[int, str]] = field(default_factory=list)
    """Line and reason of each refused one."""
    uncounted: Counter[str] = field(default_factory=Counter)
    tasks: tasks.Added = field(default_factory=lambda: tasks.Added(0, 0))
    annotators: int = 0
    gold: int = 0


def store(  # noqa: PLR0913 - where it goes, and what is said of it
    settings: Settings,
    lake: Lake,
    state: State,
    collection: Collection,
    *,
    day: date,
    workflow: str,
    kind: Kind = Kind.CATEGORY,
    options: Sequence[str] = (),
    origin: Origin = Origin.IMPORT,
    answered_at: datetime | None = None,
    author: str,
) -> Imported:
    """Store a collection. The same again changes nothing.

    What the file does not say of a task is its name and the labels that occur: give `options` where the file will grow,
    for a task of other options is another task. A raw worker's id becomes a pseudonym, and texts are masked as they are
    everywhere in the home. What somebody said who was erased is set aside.

    Args:
        answered_at: when answers were given that carry no time; now by default. It decides what is after a deadline,
            after somebody was removed or before somebody was erased.

    Raises:
        BadInputError: an annotator was removed, a task is not of its kind, or the day is to come.
    """
    if day > datetime.now(UTC).date():
        raise BadInputError(f"--day: expected one that has begun, got {day}")
    rows, done = collection.rows, Imported(rows=collection.rows.rows)
    done.refused.update(rows.reasons)
    done.problems = [(problem.line, problem.reason) for problem in rows.problems]
    chosen = tuple(options or (() if kind is Kind.PREFERENCE else in_order([*rows.label, *rows.golds()[0].values()])))
    asked: dict[str, dict[str, Any]] = {}
    find = recogniser(settings.privacy)
    for name, extra in zip(rows.task, rows.extra, strict=True):
        if name not in asked:
            told = collection.questions.get(name) or _question(name, extra, kind, chosen)
            shown = _masked(told, find)
            asked[name] = tasks.task(day=day, workflow=workflow, origin=origin, reason=origin.value, **shown)
    done.tasks = tasks.add(lake, state, list(asked.values()))
    otherwise = answered_at or datetime.now(UTC)
    gone = outside.erased(settings, state, dict.fromkeys(rows.worker))
    times = [_time(extra.get("answered_at")) or otherwise for extra in rows.extra]
    kept = [i for i, worker in enumerate(rows.worker) if worker not in gone or times[i] >= gone[worker]]
    names = {
        worker: outside.enlist(settings, state, person=worker, source="import", workflows=[workflow], author=author)
        for worker in dict.fromkeys(rows.worker[i] for i in kept)
    }
    done.annotators = len(names)
    left = sorted(set(range(len(rows.worker))).difference(kept))
    done.refused.update(["erased"] * len(left))
    done.problems += [(rows.line[i], "erased") for i in left]
    made = [
        Annotation(
            asked[rows.task[i]]["label_task_id"],
            names[rows.worker[i]],
            answered_at=times[i],
            source="import",
            label=rows.label[i],
            seconds=rows.seconds[i],
        )
        for i in kept
    ]
    _record(lake, state, made, [rows.line[i] for i in kept], done, day=day, workflow=workflow)
    done.gold = _gold(state, collection, asked, author)
    assert done.rows == done.new + done.repeated + done.changed + done.refused.total(), "a row was lost"
    return done


def _record(  # noqa: PLR0913 - what is stored, where, and how it is told
    lake: Lake,
    state: State,
    made: list[Annotation],
    lines: list[int],
    done: Imported,
    *,
    day: date,
    workflow: str,
) -> None:
    """Store the annotations but those whose contradictions ended before as they end now: they are there already."""
    changed = set(sort([a.annotator for a in made], [a.label_task_id for a in made], [a.label for a in made]).changed)
    ends = {(a.annotator, a.label_task_id): a.label for a in made if (a.annotator, a.label_task_id) in changed}
    there: set[tuple[str, str]] = set()
    if ends:
        stand = answered.latest(state, day, workflow).select(["annotator", "label_task_id", "label"]).to_pylist()
        said = {(row["annotator"], row["label_task_id"]): row["label"] for row in stand}
        there = {pair for pair, label in ends.items() if said.get(pair) == label}
    places = [i for i, a in enumerate(made) if (a.annotator, a.label_task_id) not in there]
    known = tasks.read(lake, days=(day, day), workflows=[workflow])
    told = answered.record(state, known, [made[i] for i in places])
    done.new, done.changed = told.new, told.changed
    done.repeated = told.repeated + len(made) - len(places)
    done.refused.update(told.refused)
    done.problems += [(lines[places[place]], reason) for place, reason in told.problems]
    done.uncounted = told.uncounted


def _gold(state: State, collection: Collection, asked: dict[str, dict[str, Any]], author: str) -> int:
    """Note the known answers of the file as such, hidden among no tasks; how many there are.

    Where somebody else has had the last word since, as an appeal that was upheld, theirs stands.
    """
    known = {
        task: label
        for task, label in collection.rows.golds()[0].items()
        if label in tasks.labels_of(asked[task]["kind"], asked[task]["options"])
    }
    noted = 0
    for task, label in known.items():
        before = gold.history(state, asked[task]["label_task_id"])
        if not before or before[-1].reason == _KNOWN:
            gold.put(state, asked[task], label=label, reason=_KNOWN, author=author, hidden=False)
            noted += 1
    return noted


def _question(name: str, extra: dict[str, str], kind: Kind, options: Sequence[str]) -> dict[str, Any]:
    """What is asked, of the file's columns: `prompt`, `text` or `first` and `second`; else the task's name."""
    told: dict[str, Any] = {"kind": kind, "options": options}
    if extra.get("prompt"):
        told["prompt"] = [{"role": "user", "content": extra["prompt"]}]
    if kind is Kind.PREFERENCE:
        if not (extra.get("first") and extra.get("second")):
            raise BadInputError("preference: expected the two texts in columns called first and second, got none")
        return {**told, "texts": [extra["first"], extra["second"]]}
    return {**told, "texts": [extra.get("text") or name]}


def _masked(question: dict[str, Any], find: Any) -> dict[str, Any]:
    if find is None:
        return question
    prompt = question.get("prompt", [])
    texts, _ = mask([*question["texts"], *(message["content"] for message in prompt)], find)
    split = len(question["texts"])
    told = [{**message, "content": text} for message, text in zip(prompt, texts[split:], strict=True)]
    return {**question, "texts": texts[:split], "prompt": told}


def moment(given: str) -> datetime:
    """A time in ISO 8601, in UTC where it names no zone.

    Raises:
        BadInputError: it is none, or not yet.
    """
    try:
        at = datetime.fromisoformat(given.strip())
    except ValueError:
        raise BadInputError(f"--answered-at: expected a time such as 2026-01-05T12:00Z, got {given!r}") from None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    if not EARLIEST <= at <= datetime.now(UTC):
        raise BadInputError(f"--answered-at: expected a time from {EARLIEST.year} to now, got {at.isoformat()}")
    return at


def _time(given: str | None) -> datetime | None:
    if not given:
        return None
    try:
        at = datetime.fromisoformat(given)
    except ValueError:
        raise BadInputError(f"answered_at: expected an ISO time with its zone, got {given!r}") from None
    if at.tzinfo is None:
        raise BadInputError(f"answered_at: expected an ISO time with its zone, got {given!r}")
    return at
