"""Annotators of the simulated organisation: people who are hired to answer label tasks, with skill that is known here.

They read as everybody does (`people.Moment`), and differ more than employees do: in skill, in how much what stands
first looks better, in how fast they tire, in pace, and in how often they answer without reading. What they are is the
truth and stays outside the lake; what they say goes in like anybody's answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from loop.errors import BadInputError
from loop.simulate.people import REGIONS, Circumstances, Employee, Moment, dwell
from loop.simulate.prompts import read
from loop.simulate.streams import stream
from loop.simulate.world import World
from loop.workflows import BUILT_IN

LOAD: Final = 120
"""Tasks after which a day is done, and somebody as tired as they get."""
UNREAD: Final = 1.5
"""Median seconds of an answer that was given without reading."""
_SIDES: Final = {"left": "first", "right": "second", "tie": "tie", "neither": "neither"}
_SWAPPED: Final = {"first": "second", "second": "first", "tie": "tie", "neither": "neither"}


@dataclass(frozen=True)
class Said:
    """One answer, as the page would send it."""

    label_task_id: str
    annotator: str
    """Raw id."""
    label: str | None
    content: str | None
    """JSON."""
    swapped: bool
    """Whether the second text stood first."""
    seconds: float


def hire(seed: int, workflow: str, n: int) -> list[Employee]:
    """`n` annotators for a workflow, from the skilled to those who mostly guess."""
    hired = []
    for i in range(n):
        rng = stream(seed, "annotator", workflow, i)
        careless = float(rng.choice([0.0, 0.05, 0.15, 0.5], p=[0.4, 0.3, 0.2, 0.1]))
        hired.append(
            Employee(
                id=f"a-{workflow}-{i:03d}",
                workflow=workflow,
                team=f"{workflow}-annotators",
                region=list(REGIONS)[i % len(REGIONS)],
                strictness=0.35,
                skill=float(np.exp(rng.normal(0.0, 0.4))),
                tiring=float(rng.uniform(0.0, 0.8)),
                position_bias=float(rng.uniform(0.0, 0.2)),
                anchoring=float(rng.uniform(0.3, 0.7)),
                carelessness=careless,
                absence=0.0,
                pace=float(np.exp(rng.normal(0.0, 0.3))),
            )
        )
    return hired


def answer(world: World, task: Mapping[str, Any], annotator: Employee, *, done: int = 0) -> Said:
    """What an annotator says to a task; the same task, the same person and place in the day give the same answer.

    Args:
        task: a row of `label_tasks` of kind preference, rating, category or rewrite.
        done: tasks that the person answered before that day.

    Raises:
        BadInputError: a kind of task on which the simulation has no truth.
    """
    workflow, kind = task["workflow"], task["kind"]
    rng = stream(world.seed, "annotation", task["label_task_id"], annotator.id)
    brief = read(workflow, task["prompt"] or [{"role": "user", "content": task["texts"][0]}])
    moment = Moment(rng, world, brief, annotator, Circumstances(min(1.0, done / LOAD), 1.0, 0.0))
    unread = bool(rng.random() < annotator.carelessness * (1 + moment.state.fatigue))
    swapped = bool(kind == "preference" and rng.random() < 0.5)
    label: str | None = None
    content: str | None = None
    match kind:
        case "preference":
            label = _preferred(moment, task["texts"], swapped=swapped, unread=unread)
        case "rating":
            label = _rated(moment, task["texts"][0], task["options"], unread=unread)
        case "category":
            label = _category(moment, task["options"], unread=unread)
        case "rewrite":
            content = json.dumps(task["texts"][0] if unread else moment.rewrite(task["texts"][0]))
        case _:
            raise BadInputError(f"expected a preference, rating, category or rewrite, got a task of kind {kind!r}")
    took = dwell(rng, UNREAD if unread else annotator.pace * (25.0 if kind == "rewrite" else 9.0))
    return Said(task["label_task_id"], annotator.id, label, content, swapped, took.total_seconds())


def truth(world: World, task: Mapping[str, Any]) -> str | None:
    """The right label of a preference or a category; None where the two texts are equally good, or nothing is known."""
    workflow = task["workflow"]
    brief = read(workflow, task["prompt"] or [{"role": "user", "content": task["texts"][0]}])
    if task["kind"] == "preference":
        first, second = (world.utility(brief, BUILT_IN[workflow].parse(text)) for text in task["texts"])
        return None if first == second else "first" if first > second else "second"
    categories = BUILT_IN[workflow].categories
    return world.best(brief)[categories] if task["kind"] == "category" and categories else None


def told(annotators: Sequence[Employee]) -> list[dict[str, Any]]:
    """What there is to know of them, for the truth's folder."""
    return [asdict(annotator) for annotator in annotators]


def _preferred(moment: Moment, texts: Sequence[str], *, swapped: bool, unread: bool) -> str:
    """The side in the task, whichever stood first on the page."""
    if unread:
        return "first" if moment.rng.random() < 0.5 else "second"
    shown = texts[::-1] if swapped else texts
    side = _SIDES[moment.compare(shown[0], shown[1])[0]]
    return _SWAPPED[side] if swapped else side


def _rated(moment: Moment, text: str, options: Sequence[str], *, unread: bool) -> str:
    """A point of a rubric, worst first: how good the text looks, evenly from the worst to the best answer."""
    if unread:
        return str(moment.rng.choice(list(options)))
    looks = moment.impression(BUILT_IN[moment.brief.workflow].parse(text))
    worst = sum(float(row.min()) for row in moment.seen.values())
    best = sum(float(row.max()) for row in moment.seen.values())
    return options[int(np.clip((looks - worst) / (best - worst) * len(options), 0, len(options) - 1))]


def _category(moment: Moment, options: Sequence[str], *, unread: bool) -> str:
    part = BUILT_IN[moment.brief.workflow].categories
    if unread or part is None:
        return str(moment.rng.choice(list(options)))
    return BUILT_IN[moment.brief.workflow].parts[part][int(moment.seen[part].argmax())]
