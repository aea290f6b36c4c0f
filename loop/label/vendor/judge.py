"""Whether a delivery is taken: its answers to the known items against a plan whose risks are stated.

Taken, its answers count from then on; turned down, they are kept and do not. Either way the verdict stands with its
evidence, and is passed anew when more came in or a known answer was corrected.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from loop.config import Settings
from loop.errors import BadInputError
from loop.label import gold
from loop.label.acceptance import inspect
from loop.label.annotations import Action, Annotation, record
from loop.label.vendor import ledger
from loop.label.vendor.deliver import answers, counting, tasks_of
from loop.label.vendor.ledger import Batch, Verdict
from loop.lake import Lake
from loop.state import State, audit


def judge(  # noqa: PLR0913 - by keyword
    settings: Settings, lake: Lake, state: State, batch_id: str, *, now: datetime, author: str
) -> Verdict:
    """Decide on all that came back of a batch so far; once it was turned down, on what had come by then alone.

    Looked at again with every change of the answers, any vendor would pass in the end: the risks are of one look. So
    what changes a rejection is a known answer that is corrected.

    A known item is wrong where at least half of its answers are, and where none came in time: what is hard cannot be
    left out. One whose task was erased, or whose answer is known no more, is inspected no more.

    Raises:
        BadInputError: nothing came back in time, or too few known items are left to tell good from bad.
    """
    with ledger.changing(settings, batch_id) as batch:
        asked = tasks_of(lake, batch)
        there = set(asked["label_task_id"].to_pylist())
        until = _until(batch)
        in_time = [row for row in answers(state, batch, until=until) if row["label_task_id"] in there]
        if not in_time:
            raise BadInputError(f"nothing of batch {batch_id} came back in time: there is nothing to decide on")
        with state.engine.connect() as connection:
            right = {name: known.label for name, known in gold.latest(connection, state).items()}
        items = _inspected(batch, in_time, right, there)
        found = inspect(batch.plan, len(items), sum(item["wrong"] for item in items))
        evidence = {**asdict(found), "plan": asdict(batch.plan), "items": items, "deliveries": until}
        verdict = Verdict(found.accepted, now, author, len(in_time), evidence)
        again = [replace(_annotation(row), counts=found.accepted) for row in in_time]
        if not found.accepted:  # also what a worker contradicted since it was taken counts no more
            taken = [_annotation(row) for row in counting(state, batch) if row["label_task_id"] in there]
            again = [*(replace(one, action=Action.UNDO, label=None, seconds=None) for one in taken), *again]
        told = record(state, asked, again)
        assert not told.refused, "an answer that was stored was refused"
        batch.verdicts.append(verdict)
        numbers = {"inspected": found.inspected, "wrong": found.wrong, "allowed": found.allowed}
        action = "vendor.accept" if found.accepted else "vendor.reject"
        with state.transaction() as connection:
            audit(connection, action, batch_id, author, {**numbers, "answers": len(in_time)})
    return verdict


def _until(batch: Batch) -> int:
    """The last delivery that is looked at: all of them, or what was when it was turned down and not taken since."""
    until = len(batch.deliveries)
    for verdict in reversed(batch.verdicts):
        if verdict.accepted:
            break
        until = verdict.evidence.get("deliveries", until)
    return until


def _inspected(
    batch: Batch, given: Sequence[Mapping[str, Any]], right: Mapping[str, str | None], there: set[str]
) -> list[dict[str, Any]]:
    """Each known item: what is right, what was answered, and whether that is wrong."""
    said: dict[str, list[str]] = defaultdict(list)
    for row in given:
        said[row["label_task_id"]].append(row["label"])
    items = []
    for name, item in sorted(batch.items.items()):
        task = item.label_task_id
        if item.known and right.get(task) is not None and task in there:
            wrong = sum(label != right[task] for label in said[task])
            told = {"item": name, "label_task_id": task, "right": right[task], "answered": sorted(said[task])}
            items.append({**told, "wrong": not said[task] or 2 * wrong >= len(said[task])})
    return items


def _annotation(row: Mapping[str, Any]) -> Annotation:
    """A stored answer as one to be stored again."""
    names = ("label_task_id", "annotator", "answered_at", "source", "label", "content", "reason", "swapped")
    return Annotation(**{name: row[name] for name in names}, source_id=row["source_id"], seconds=row["seconds"])
