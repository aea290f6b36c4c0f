"""Labelling functions at work: rules of thumb that vote on label tasks as annotators do, and how far to believe them.

A function votes on a text; here its votes become answers to tasks, in the same table as people's and aggregated with
them: its accuracy is estimated as a person's is, and a function that is wrong is believed as little. A function that
raises abstains, and is told.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy.dialects import postgresql

from loop.label import gold, tasks
from loop.label.annotations import FUNCTION, Action, Annotation, Recorded, latest, record
from loop.label.select import risk
from loop.label.tasks import Kind
from loop.lake import Lake
from loop.state import State
from loop.workflows import BAD, GOOD, WORKFLOWS, Function, Workflow
from loop.workflows.workflow import mentions

_REPEATED: Final = re.compile(r"\b(\w+)(?:\W+\1\b){3,}", re.IGNORECASE)
_ECHO: Final = 40
"""Characters from which an answer that stands in its prompt word for word only repeats it."""
VOTES: Final = pa.schema([("worker", pa.string()), ("task", pa.string()), ("label", pa.string())])
"""Answers as the aggregation takes them."""


@dataclass
class Votes:
    """What functions said of tasks: `rows.num_rows + abstained.total()` is functions times tasks, asserted."""

    rows: pa.Table
    """Schema `VOTES`; the worker is the function's name."""
    tasks: int
    abstained: Counter[str] = field(default_factory=Counter)
    """By function: tasks of which it says nothing, those on which it raised among them."""
    raised: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By function and error."""


@dataclass(frozen=True)
class Analysis:
    """What is known of one function; the measures of Snorkel's LFAnalysis. Shares are of all tasks, 0 to 1."""

    function: str
    polarity: tuple[str, ...]
    """The labels that it gave."""
    coverage: float
    """Share of the tasks on which it voted."""
    overlaps: float
    """Share on which it and another voted."""
    conflicts: float
    """Share on which another voted for another label."""
    correct: int
    """Votes that agree with gold."""
    incorrect: int
    accuracy: float | None
    """Of those; None where no vote was on a task with gold."""


def functions_of(workflow: Workflow) -> tuple[Function, ...]:
    """Those that the workflow's definition makes (format, house list, length, rules, cues of harm), and its own.

    A broken rule speaks against an answer; one that is kept says nothing, for bad answers keep rules too.
    """
    measures = [] if workflow.free_text else ["format", "house_list"]
    made = [
        *(_measured(workflow, name, f"the house's {name}") for name in [*measures, "length"]),
        *(_measured(workflow, rule.name, rule.meaning) for rule in workflow.rules),
        Function("repeats", "a word four times running", _repeats),
        Function("echoes", "a piece of the prompt, word for word", _echoes),
        *(_cued(kind, words) for kind, words in risk.cues(workflow).items()),
        *workflow.functions,
    ]
    assert len({f.name for f in made}) == len(made), f"{workflow.name}: two functions of one name"
    return tuple(made)


def vote(rows: pa.Table, functions: Sequence[Function], names: Mapping[str, str] | None = None) -> Votes:
    """What functions say of tasks.

    Args:
        rows: of `label_tasks`. Of kinds that are answered with content, nobody says anything.
        names: what a category that functions name is called among the options of these tasks, as `{"violence": "V"}`.
    """
    found = Votes(VOTES.empty_table(), rows.num_rows)
    said: list[tuple[str, str, str]] = []
    asked = rows.select(["label_task_id", "kind", "prompt", "texts", "options"]).to_pylist()
    for function in functions:
        for task in asked:
            try:
                label = _label(task, function, names or {})
            except Exception as error:  # noqa: BLE001 - whatever somebody's rule raises
                found.raised[function.name, type(error).__name__] += 1
                label = None
            if label is None:
                found.abstained[function.name] += 1
            else:
                said.append((function.name, task["label_task_id"], label))
    found.rows = pa.table([pa.array(column, pa.string()) for column in _columns(said)], schema=VOTES)
    assert found.rows.num_rows + found.abstained.total() == len(functions) * rows.num_rows, "a vote was lost"
    return found


def analyse(votes: Votes, functions: Sequence[Function], known: Mapping[str, str] | None = None) -> list[Analysis]:
    """Coverage, overlap and conflict of each function, and its accuracy where the answer is known.

    Args:
        known: task to the right label.
    """
    known, total = known or {}, max(1, votes.tasks)
    by_task: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for row in votes.rows.to_pylist():
        by_task[row["task"]][row["worker"]] = row["label"]
    found = []
    for function in functions:
        mine = {task: said[function.name] for task, said in by_task.items() if function.name in said}
        others = {task: {w: v for w, v in by_task[task].items() if w != function.name} for task in mine}
        hits = [mine[task] == known[task] for task in mine if task in known]
        found.append(
            Analysis(
                function.name,
                tuple(sorted(set(mine.values()))),
                len(mine) / total,
                sum(bool(others[task]) for task in mine) / total,
                sum(any(v != mine[task] for v in others[task].values()) for task in mine) / total,
                sum(hits),
                len(hits) - sum(hits),
                sum(hits) / len(hits) if hits else None,
            )
        )
    return found


@dataclass(frozen=True)
class Ran:
    """What came of running a workflow's functions over its tasks."""

    votes: Votes
    analysis: list[Analysis]
    recorded: Recorded
    withdrawn: int
    """Answers given before on which a function abstains by now."""


def run(lake: Lake, state: State, workflow: str, days: tuple[date, date], *, author: str) -> Ran:
    """Let a workflow's functions answer its tasks of some days, as annotators whose `source` is `function`.

    Done again it adds what is new; what a function no longer says is withdrawn.
    """
    functions = functions_of(WORKFLOWS[workflow])
    rows = tasks.read(lake, days=days, workflows=[workflow])
    votes = vote(rows, functions)
    _register(state, workflow, functions, author)
    now = datetime.now(UTC)
    said = [
        Annotation(row["task"], annotator(workflow, row["worker"]), now, FUNCTION, label=row["label"])
        for row in votes.rows.to_pylist()
    ]
    standing = {(a.label_task_id, a.annotator) for a in said}
    gone = [
        Annotation(task, who, now, FUNCTION, Action.UNDO)
        for task, who in sorted(_standing(state, rows, workflow) - standing)
    ]
    recorded = record(state, rows, [*said, *gone])
    with state.engine.connect() as connection:
        known = {task: g.label for task, g in gold.latest(connection, state).items() if g.label is not None}
    return Ran(votes, analyse(votes, functions, known), recorded, len(gone))


def annotator(workflow: str, function: str) -> str:
    """By what a function is known among the annotators."""
    return f"{FUNCTION}:{workflow}:{function}"


# -- inside -----------------------------------------------------------------------------------------------------------


def _label(task: Mapping[str, Any], function: Function, names: Mapping[str, str]) -> str | None:
    """What a function says to a task; None where it abstains."""
    prompt = "\n".join(message["content"] for message in task["prompt"] or [])
    held = [function.vote(prompt, text) for text in task["texts"] or []]
    match task["kind"]:
        case Kind.PREFERENCE if len(held) == 2:
            worth = [{BAD: -1, GOOD: 1}.get(h or "", 0) for h in held]
            return None if worth[0] == worth[1] else "first" if worth[0] > worth[1] else "second"
        case Kind.RATING:
            return task["options"][0] if held == [BAD] else None  # the worst; how good is more than a rule knows
        case Kind.CATEGORY if held and held[0] is not None:
            option = names.get(held[0], held[0])
            return option if option in task["options"] else None
        case _:
            return None


def _measured(workflow: Workflow, name: str, meaning: str) -> Function:
    """A grade of the workflow as a function: below 1 it speaks against the answer."""

    def broken(prompt: str, text: str) -> str | None:
        grade = workflow.grade(prompt, text).get(name)
        return BAD if grade is not None and grade < 1 else None

    return Function(name, meaning, broken)


def _cued(kind: str, words: Sequence[str]) -> Function:
    """Words that tell of a kind of harm name it."""
    told = mentions(*words)

    def named(prompt: str, text: str) -> str | None:
        return kind if told(text) else None

    return Function(f"cue_{kind}", f"words that tell of {kind}", named)


def _repeats(prompt: str, text: str) -> str | None:
    return BAD if _REPEATED.search(text) else None


def _echoes(prompt: str, text: str) -> str | None:
    answer = " ".join(text.split()).casefold()
    return BAD if len(answer) >= _ECHO and answer in " ".join(prompt.split()).casefold() else None


def _columns(rows: Sequence[tuple[str, ...]]) -> list[list[str]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in VOTES]


def _register(state: State, workflow: str, functions: Sequence[Function], author: str) -> None:
    """Functions are annotators; one that is known already stays as it is."""
    table = state.tables["annotators"]
    plain = {
        "source": FUNCTION,
        "workflows": [workflow],
        "kinds": [Kind.PREFERENCE.value, Kind.RATING.value, Kind.CATEGORY.value],
        "harmful": True,
        "daily_minutes": 0,
        "daily_harmful": 0,
        "joined_at": datetime.now(UTC),
        "joined_by": author,
    }
    query = postgresql.insert(table).values([{"annotator": annotator(workflow, f.name), **plain} for f in functions])
    with state.transaction() as connection:
        connection.execute(query.on_conflict_do_nothing())


def _standing(state: State, rows: pa.Table, workflow: str) -> set[tuple[str, str]]:
    """Tasks and functions of answers that stand."""
    ids = set(rows["label_task_id"].to_pylist())
    found: set[tuple[str, str]] = set()
    for day in pc.unique(rows["day"]).to_pylist():
        said = latest(state, day, workflow)
        said = said.filter(pc.equal(said["source"], FUNCTION))
        found.update(zip(said["label_task_id"].to_pylist(), said["annotator"].to_pylist(), strict=True))
    return {key for key in found if key[0] in ids}
