"""All that is measured of answers together, as it is told: of a file, or of four weeks of the home."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt

from loop.collect.events import pseudonym
from loop.config import Settings
from loop.errors import BadInputError
from loop.label import gold as known
from loop.label.aggregate import agreement, annotators, partition
from loop.label.aggregate.agreement import Level
from loop.label.aggregate.answers import Answers, Floats, sort
from loop.label.aggregate.public import Collection
from loop.label.aggregate.reading import are_numbers
from loop.label.aggregate.stacking import aggregate
from loop.lake import Lake
from loop.state import State


def tell(  # noqa: PLR0913 - by keyword: what is known of the answers
    question: str,
    answers: Answers,
    *,
    level: Level,
    gold: npt.NDArray[np.int64] | None = None,
    seconds: Floats | None = None,
    order: npt.NDArray[Any] | None = None,
    slices: dict[str, list[str]] | None = None,
    changed: tuple[tuple[str, str], ...] = (),
) -> dict[str, Any]:
    """Everything with its interval; what is not measured is None. Annotators by name, which is no order of merit.

    Args:
        gold: see `annotators.gold_accuracy`.
        seconds: see `annotators.anomalies`; so `changed`.
        order: see `annotators.drift`; without, there is no time and no drift.
        slices: values by name of a column, in the order of the answers.
    """
    alpha = agreement.alpha(answers, level)
    by_gold = {} if gold is None else annotators.gold_accuracy(answers, gold)
    others = annotators.agreement_with_others(answers)
    confusion = annotators.confusion(answers, _beside(answers, gold)) if len(answers.labels) > 1 else {}
    drift = {} if order is None else annotators.drift(answers, order)
    bias = {name: annotators.bias(answers, values) for name, values in (slices or {}).items()}
    return {
        "question": question,
        "answers": len(answers),
        "tasks": len(answers.tasks),
        "level": level.value,
        "labels": list(answers.labels),
        "alpha": alpha and asdict(alpha),
        "pairs": [asdict(pair) for pair in agreement.pairs(answers)],
        "annotators": {
            name: {
                "gold": _told(by_gold.get(name)),
                "agreement_with_others": _told(others.get(name)),
                "drift": _told(drift.get(name)),
                "confusion": confusion[name].round(2).tolist() if name in confusion else None,
                "bias": {c: {s: asdict(e) for s, e in by[name].items()} for c, by in bias.items() if name in by},
            }
            for name in sorted(answers.workers)
        },
        "anomalies": [asdict(one) for one in annotators.anomalies(answers, seconds=seconds, changed=changed)],
    }


def of_file(
    collection: Collection,
    settings: Settings,
    *,
    level: Level,
    slices: str | None = None,
    options: Sequence[str] = (),
) -> dict[str, Any]:
    """Of a file. Workers are told by the pseudonyms that they have in the home.

    Args:
        options: the labels in their order, which `ordinal` needs where they are no numbers; those answered by default.

    Raises:
        BadInputError: the file has no such column, lacks an order, or has a label that is none of `options`.
    """
    labels = collection.rows.labels()
    if options and (strange := sorted(set(labels) - set(options))):
        raise BadInputError(f"--options: expected every label that was answered, got none called {strange[0]!r}")
    if level is Level.ORDINAL and not options and not are_numbers(labels):
        raise BadInputError(f"ordinal: expected --options, the labels in their order, for {', '.join(labels)}")
    rows, key = collection.rows, settings.secret("pseudonym")
    hidden = {name: pseudonym(name, key) for name in dict.fromkeys(rows.worker)}
    found = sort([hidden[name] for name in rows.worker], rows.task, rows.label, tuple(options) or labels)
    gold = rows.gold_of(found.answers)
    extra = [rows.extra[i] for i in found.kept]
    if slices is not None and not any(slices in row for row in extra):
        raise BadInputError(f"--slice: expected a column of the file, got {slices!r}")
    times = [row.get("answered_at", "") for row in extra]
    return tell(
        "the file",
        found.answers,
        level=level,
        gold=gold if (gold >= 0).any() else None,
        seconds=rows.took(found.kept),
        order=np.array(times) if all(times) else None,
        slices=None if slices is None else {slices: [row.get(slices, "") for row in extra]},
        changed=found.changed,
    )


def of_home(lake: Lake, state: State, day: date, workflow: str, *, level: Level) -> list[dict[str, Any]]:
    """Of the answers that stand to the tasks of four weeks, by question; drift by time, bias by place and source."""
    told = []
    with state.engine.connect() as connection:
        golds = known.latest(connection, state)
    for (kind, labels), group in partition.groups(lake, state, day, workflow).items():
        answers, rows = group.answers, group.rows
        place = {label: i for i, label in enumerate(labels)}
        right = [golds[task].label if task in golds else None for task in answers.tasks]
        gold = np.array([place.get(label or "", -1) for label in right], dtype=np.int64)
        told.append(
            tell(
                f"{kind}: {', '.join(labels)}",
                answers,
                level=level,
                gold=gold if (gold >= 0).any() else None,
                seconds=np.array([np.nan if row["seconds"] is None else row["seconds"] for row in rows]),
                order=np.array([row["answered_at"].timestamp() for row in rows]),
                slices={name: [str(row[name]) for row in rows] for name in ("swapped", "source")},
                # Who takes an answer back on the page does what the page is for.
                changed=tuple(
                    (r["annotator"], r["label_task_id"]) for r in rows if r["version"] > 1 and r["source"] != "page"
                ),
            )
        )
    return told


def _beside(answers: Answers, gold: npt.NDArray[np.int64] | None) -> Floats:
    """What each answer is set beside: what is known of its task, else what the others' answers make of it, else nan."""
    left_out = aggregate(answers, left_out=True).left_out
    assert left_out is not None, "was asked for"
    believed = np.where((answers.votes.sum(1) > 1)[answers.task][:, None], left_out, np.nan)
    if gold is not None:
        right = gold[answers.task]
        known = (right >= 0) & (right < len(answers.labels))
        believed[known] = np.eye(len(answers.labels))[right[known]]
    return believed


def _told(estimate: agreement.Estimate | None) -> dict[str, Any] | None:
    return None if estimate is None else asdict(estimate)
