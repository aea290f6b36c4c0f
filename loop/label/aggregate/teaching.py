"""What annotators' answers teach a model: which of two texts people hold to be better, and what they wrote instead.

Only decisions of this home are learned about, by their people's consent and from accepted batches, so that every row
leads back to a decision and an erasure reaches it. A soft label that leans to one of two texts is a preference that
weighs by how far it leans, also while it waits for adjudication: disagreement makes it light, and no less true. A text
that an annotator wrote in the place of a suggestion is a demonstration, and is preferred over that suggestion; of
several for the same suggestion each weighs its part of one.

Nothing is stored here: what a cycle may learn from is made of `task_labels` and `annotations` when the cycle asks, and
frozen then.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from loop import schema
from loop.config import Settings
from loop.label import gold
from loop.label.aggregate.partition import ADJUDICATED
from loop.label.annotations import FUNCTION, standing
from loop.label.derive import split_of
from loop.label.tasks import SIDES, Kind, Origin
from loop.lake import Days, Lake, from_rows
from loop.schema import Split
from loop.state import State

JUDGED: Final = "judged"
"""`kind` of preferences between two texts that annotators were asked to compare."""
REWRITTEN: Final = "rewritten"
"""`kind` of demonstrations that annotators wrote, and of the preferences for them over what stood there."""
LEAST: Final = 0.4
"""How far a soft label leans at least. In three days of a simulated organisation (world 5, two answers a task, commit
`d70772b`) the 373 that leaned further named the better text in 86 of 100 pairs, the 151 others in 48, clicks in 71."""
_DECIDED: Final = (
    *("event_id", "suggestion_id", "employee", "episode_id", "task_id"),
    *("purposes", "candidates", "chosen", "batch"),
)
_ASKED: Final = ("label_task_id", "day", "workflow", "kind", "prompt", "texts", "origin", "event_id")
_PAIR: Final = ("preference_id", "suggestion_id", "chosen", "rejected")


@dataclass(frozen=True)
class Taught:
    """Rows for a training set. Each soft label and each text taught something or stands in `set_aside`, by reason:
    `given == preferences of kind judged + demonstrations + set_aside.total()`.
    """

    given: int
    """Soft labels of the days, and texts that annotators wrote in them."""
    demonstrations: pa.Table
    preferences: pa.Table
    set_aside: Counter[str]


def taught(  # noqa: PLR0913 - what is read, and as of when
    settings: Settings,
    lake: Lake,
    state: State,
    days: Days,
    cutoff: datetime,
    *,
    versions: Mapping[str, int | None] | None = None,
) -> Taught:
    """What annotators had said before a cut-off about decisions of some days, as rows that may be learned from.

    A text is the one that stood at the cut-off. A label is learned from if two people or more had answered by then, and
    none of its answers came here later, however long ago it was given: it is a later cycle's then. What is known to be
    right (gold) measures, and is not learned from; nor is what the benchmark asks.

    Args:
        days: first and last day of the decisions.
        versions: of `label_tasks` and `task_labels`; by default the current ones.
    """
    versions = versions or {}
    said, later = _said(state, days, cutoff)
    asked = {row["label_task_id"]: row for row in _rows(lake, "label_tasks", days, versions, _ASKED)}
    given = []
    for row in _rows(lake, "task_labels", days, versions):
        of = said.get(row["label_task_id"], [])
        people = [one["recorded_at"] for one in of if one["source"] != FUNCTION]
        anew = len(of) != row["answers"] or any(one["recorded_at"] > row["aggregated_at"] for one in of)
        at, task, since = max(people, default=cutoff), asked.get(row["label_task_id"]), row["label_task_id"] in later
        given.append(_Given(task, at, label=row, people=len(people), later=since, anew=anew))
    for task_id, of in said.items():
        if (task := asked.get(task_id)) and task["kind"] == Kind.REWRITE:
            given += [
                _Given(task, row["recorded_at"], text=json.loads(row["content"]), who=row["annotator"]) for row in of
            ]
    with state.engine.connect() as connection:
        known = gold.latest(connection, state).keys()
    decisions = _decisions(lake, [one.task for one in given if one.task is not None])
    accepted = state.accepted_digests(*days)

    aside: Counter[str] = Counter()
    fit: _Fit = []
    for one in given:
        decision = decisions.get(one.task["event_id"]) if one.task else None
        if reason := _why_not(settings, one, decision, known, accepted):
            aside[reason] += 1
        elif decision is not None:
            fit.append((one, decision))
    fit, again = _written_once(fit)
    aside.update({"written again later": again} if again else {})
    texts = Counter(one.task["label_task_id"] for one, _ in fit if one.task and one.text is not None)
    demonstrations, preferences = [], []
    for one, decision in fit:
        if one.text is None:
            preferences.append(_judged(one, decision))
        else:
            written = _written(one, decision, share=1.0 / texts[one.label_task_id])
            demonstrations.append(written[0])
            preferences.append(written[1])
    assert len(given) == len(fit) + aside.total(), "an answer of an annotator was lost"
    return Taught(
        len(given),
        from_rows(demonstrations, schema.DEMONSTRATIONS).sort_by("demonstration_id"),
        from_rows(preferences, schema.PREFERENCES).sort_by("preference_id"),
        aside,
    )


def lean(probabilities: Iterable[Mapping[str, Any]]) -> float:
    """How far a soft label of a preference leans to the first text (1) or the second (-1)."""
    believed = {p["label"]: float(p["probability"]) for p in probabilities}
    return believed.get(SIDES[0], 0.0) - believed.get(SIDES[1], 0.0)


def instead_of(rows: pa.Table, judged: pa.Table) -> pa.Table:
    """Preferences of decisions without those between two texts that annotators compared: their label replaces these.

    Args:
        rows: schema `preferences`, of decisions; `judged`: of annotators.
    """
    compared = {_pair(row) for row in judged.select(_PAIR).to_pylist()}
    near = rows.filter(pc.is_in(rows["suggestion_id"], judged["suggestion_id"].combine_chunks())).select(_PAIR)
    replaced = [row["preference_id"] for row in near.to_pylist() if _pair(row) in compared]
    return rows.filter(pc.invert(pc.is_in(rows["preference_id"], pa.array(replaced, pa.string()))))


def written_id(event_id: str, annotator: str) -> str:
    """Id of the rows that an annotator's text makes: whoever knows the annotator can tell by a row alone whose it is.

    The annotation is not needed for it: that may have gone with its retention while frozen rows are there still.
    """
    return hashlib.sha256(f"{REWRITTEN}|{event_id}|{annotator}".encode()).hexdigest()[:32]


# -- inside -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Given:
    """A soft label, or a text that somebody wrote."""

    task: Mapping[str, Any] | None
    at: datetime
    label: Mapping[str, Any] | None = None
    people: int = 0
    """Who answered, of a label; labelling functions are none."""
    later: bool = False
    """Whether it was answered after the cut-off, so that the label may say what was not known then."""
    anew: bool = False
    """Whether other answers stand than those that it was made of."""
    text: str | None = None
    who: str = ""

    @property
    def label_task_id(self) -> str:
        return str(self.task["label_task_id"]) if self.task else ""


_Fit = list[tuple[_Given, dict[str, Any]]]
"""What may be learned from, with the decision that it is about."""


def _why_not(
    settings: Settings,
    one: _Given,
    decision: Mapping[str, Any] | None,
    known: Collection[str],
    accepted: Collection[str],
) -> str | None:
    """Why something given teaches nothing; None where it does."""
    label, task = one.label or {}, one.task or {}
    told = {
        "no preference": bool(label) and label["kind"] != Kind.PREFERENCE,
        "asked no more": not task,
        "of the benchmark": task.get("origin") == Origin.BENCHMARK,
        "the right answer is known": one.label_task_id in known,
        "later than the cut-off": one.later,
        "to be aggregated anew": one.anew,
        "answered by fewer than two people": bool(label) and one.people < 2 and label["method"] != ADJUDICATED,
        "a tie, or neither": bool(label) and label["label"] not in SIDES[:2],
        "too unsure": bool(label) and abs(lean(label["probabilities"])) < LEAST,
    }
    if reason := next((reason for reason, holds in told.items() if holds), None):
        return reason
    if decision is None:
        return "of no decision here"
    sides = {split_of(decision[name], settings.held_out_share, settings.seed) for name in ("employee", "task_id")}
    told = {
        "the batch is not accepted": decision["batch"] not in accepted,
        "held out": Split.HELD_OUT in sides,
        "no consent to training": "training" not in decision["purposes"],
        "written as it stood": one.text is not None and one.text.split() == task["texts"][0].split(),
        "two images": label.get("kind") == Kind.PREFERENCE and len(task["texts"]) < len(SIDES[:2]),
    }
    return next((reason for reason, holds in told.items() if holds), None)


def _written_once(fit: _Fit) -> tuple[_Fit, int]:
    """Of the texts that somebody wrote for the same decision, in several tasks, the last alone; and how many went."""
    last: dict[tuple[str, str], _Given] = {}
    for one, decision in fit:
        if one.text is not None:
            key = (decision["event_id"], one.who)
            last[key] = max(last.get(key, one), one, key=lambda other: (other.at, other.label_task_id))
    left = [(one, decision) for one, decision in fit if last.get((decision["event_id"], one.who), one) is one]
    return left, len(fit) - len(left)


def _judged(one: _Given, decision: Mapping[str, Any]) -> dict[str, Any]:
    assert one.task is not None
    assert one.label is not None
    leaning = lean(one.label["probabilities"])
    chosen, rejected = one.task["texts"] if leaning > 0 else one.task["texts"][::-1]
    row = _pair_of(decision, chosen, rejected) | _source(one, decision, weight=abs(leaning))
    digest = hashlib.sha256(f"{JUDGED}|{one.label_task_id}".encode()).hexdigest()[:32]
    return row | {"preference_id": digest, "kind": JUDGED, "prompt": one.task["prompt"]}


def _written(one: _Given, decision: Mapping[str, Any], *, share: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """The text as a demonstration, and as preferred over what it was written in the place of."""
    assert one.task is not None
    assert one.text is not None
    digest = written_id(decision["event_id"], one.who)
    plain = _source(one, decision, weight=share) | {"kind": REWRITTEN, "prompt": one.task["prompt"]}
    over = _pair_of(decision, one.text, one.task["texts"][0])
    return plain | {"demonstration_id": digest, "answer": one.text}, plain | over | {"preference_id": digest}


def _source(one: _Given, decision: Mapping[str, Any], *, weight: float) -> dict[str, Any]:
    """The columns that lead back to the decision; `received_at` is when the annotators' last word came."""
    assert one.task is not None
    plain = {name: decision[name] for name in ("event_id", "suggestion_id", "employee", "episode_id", "task_id")}
    where = {name: one.task[name] for name in ("day", "workflow")}
    told = {"split": Split.TRAIN.value, "weight": weight, "received_at": one.at, "superseded_at": None}
    return plain | where | told | {"batch": decision["batch"]}


def _pair_of(decision: Mapping[str, Any], chosen: str, rejected: str) -> dict[str, Any]:
    """Two texts with their places and log-probabilities as served; a text that was none of those served has the place
    of what it was made of.
    """
    by_text = {candidate["text"]: candidate for candidate in reversed(decision["candidates"])}
    found: dict[str, Any] = {"chosen": chosen, "rejected": rejected}
    other = by_text.get(rejected) or by_text.get(chosen) or {}
    for name, text in (("chosen", chosen), ("rejected", rejected)):
        candidate = by_text.get(text)
        found[f"{name}_position"] = (candidate or other).get("position", decision["chosen"] or 0)
        found[f"{name}_logprob"] = candidate["logprob"] if candidate else None
    return found


def _pair(row: Mapping[str, Any]) -> tuple[str, frozenset[str]]:
    return row["suggestion_id"], frozenset((row["chosen"], row["rejected"]))


def _rows(
    lake: Lake, table: str, days: Days, versions: Mapping[str, int | None], columns: Collection[str] | None = None
) -> list[dict[str, Any]]:
    only = None if columns is None else list(columns)
    rows = lake.read(table, days=days, columns=only, version=versions.get(table))
    return [dict(row) for row in rows.sort_by("label_task_id").to_pylist()]


def _said(state: State, days: Days, cutoff: datetime) -> tuple[dict[str, list[dict[str, Any]]], set[str]]:
    """The answers that stood at a cut-off to the tasks of some days, by task; and the tasks answered since."""
    table = state.tables["annotations"]
    of_days = table.c.day.between(*days)
    last = standing(table, of_days, table.c.recorded_at < cutoff)
    names = ("label_task_id", "annotator", "content", "recorded_at", "source")
    query = sa.select(*(last.c[name] for name in names)).order_by(last.c.label_task_id, last.c.annotator)
    since = sa.select(table.c.label_task_id).where(of_days, table.c.recorded_at >= cutoff).distinct()
    said: dict[str, list[dict[str, Any]]] = {}
    with state.engine.connect() as connection:
        for row in connection.execute(query).mappings():
            said.setdefault(row["label_task_id"], []).append(dict(row))
        return said, set(connection.execute(since).scalars())


def _decisions(lake: Lake, tasks: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The decisions that tasks came from, by their ids."""
    events: dict[tuple[Any, str], set[str]] = {}
    for task in tasks:
        if task["event_id"] is not None and task["kind"] in {Kind.PREFERENCE, Kind.REWRITE}:
            events.setdefault((task["day"], task["workflow"]), set()).add(task["event_id"])
    found: dict[str, dict[str, Any]] = {}
    for (day, workflow), ids in sorted(events.items()):
        wanted: dict[str, Any] = {"day": day, "workflow": workflow, "columns": _DECIDED}
        rows = lake.matching("interactions", "event_id", pa.array(sorted(ids), pa.string()), **wanted)
        found.update({row["event_id"]: row for row in rows.to_pylist()})
    return found
