"""One run of synthesis: where answers are few a model writes them, what passes is kept, and whether it helps is noted.

Every answer that was written is a row, kept or dropped with its reasons; each has one parent, the decision whose prompt
it answers: when that goes, it goes. Nothing is locked while a model writes: what is written down names only parents
that are still there then.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from loop import schema
from loop.config import Settings
from loop.label.synthesize import checks
from loop.label.synthesize.ablation import PROXY, Ablated, Pair, ablate
from loop.label.synthesize.generate import TEMPERATURE, Generator
from loop.label.synthesize.thin import Slice, slices
from loop.label.synthesize.using import helping, most_of, text_of
from loop.lake import Lake, from_rows
from loop.schema import Split
from loop.state import State
from loop.workflows import WORKFLOWS

Scorer = Callable[[pa.Array, pa.Array], np.ndarray]
"""How good answers are, given prompts (texts) and answers; a reward model, or a committee of scorers."""
KEPT, DROPPED = "kept", "dropped"
GONE: Final = "the parent was erased meanwhile"


@dataclass
class Synthesised:
    """What came of a run: `written == kept + dropped + gone`, asserted."""

    run: str
    model_version: str
    thin: dict[str, int]
    """Thin slices and their real demonstrations."""
    parents: int
    answered: int
    """Prompts left out, for a run that helps has answered them already."""
    written: int
    kept: int = 0
    dropped: int = 0
    gone: int = 0
    """Not stored, for their parent was erased while the model wrote."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Why rows were dropped; one may have several."""
    raised: Counter[str] = field(default_factory=Counter)
    """Labelling functions that raised, and abstained."""
    ablation: Ablated | None = None
    """None where nothing was kept."""

    def told(self) -> dict[str, Any]:
        plain = {k: v for k, v in vars(self).items() if k != "ablation"}
        figures = self.ablation and {**vars(self.ablation), "helps": self.ablation.helps, "proxy": PROXY}
        return plain | {"reasons": dict(self.reasons), "raised": dict(self.raised), "ablation": figures}


def synthesise(  # noqa: PLR0913, PLR0917 - by keyword
    settings: Settings,
    lake: Lake,
    state: State,
    workflow: str,
    days: tuple[date, date],
    generator: Generator,
    *,
    now: datetime,
    by: str = "team",
    n: int = 4,
    most: int = 200,
    scorer: Scorer | None = None,
) -> Synthesised:
    """Write answers for the thin slices of a workflow, check them, keep the best of each prompt, measure, store.

    Args:
        by: the column of `interactions` that cuts the workflow into slices.
        n: answers to each prompt, of which at most one is kept.
        most: prompts that are answered, at most; of a slice no more than it lacks, and none that a run which helps
            has answered already: the same answers twice would weigh twice in training.
    """
    thin = [
        s for s in slices(settings, lake, state, workflow, days, by=by) if s.demonstrations < settings.synthesis_thin
    ]
    lacking = _lacking(settings, thin)
    # of a run that does not help nothing is used: its prompts may be answered again, by a better model
    there_already = {text_of(prompt) for prompt in helping(lake, days, now, [workflow])["prompt"].to_pylist()}
    unanswered = [row for row in lacking if text_of(row["prompt"]) not in there_already]
    parents = unanswered[:most]
    recipe = {
        "generator": generator.version,
        "temperature": TEMPERATURE,
        "answers": n,
        "by": by,
        "thin": settings.synthesis_thin,
        "seed": settings.seed,
        "scored": scorer is not None,
    }
    run = _digest([workflow, recipe, now.isoformat()])
    answers = generator.write([row["prompt"] for row in parents], n, seed=settings.seed) if parents else []
    rows = [
        _row(parent, answer, run, generator.version, recipe, now)
        for parent, group in zip(parents, answers, strict=True)
        for answer in group
    ]
    answered = len(lacking) - len(unanswered)
    named = {s.name: s.demonstrations for s in thin}
    done = Synthesised(run, generator.version, named, parents=len(parents), answered=answered, written=len(rows))
    there = _real(lake, state, workflow, days)
    done.raised = _checked(rows, lake, workflow, there)
    _chosen(rows, scorer)
    done.gone = _store(lake, state, workflow, rows)
    done.kept = sum(row["status"] == KEPT for row in rows)
    done.dropped = sum(row["status"] == DROPPED for row in rows)
    done.reasons = Counter(reason for row in rows for reason in row["reasons"])
    assert done.written == done.kept + done.dropped + done.gone, "a synthetic row was lost"
    if done.kept:
        made = [(text_of(row["prompt"]), row["answer"]) for row in rows if row["status"] == KEPT]
        cap = most_of(settings, len(there.real))
        done.ablation = ablate(there.real, made[:cap], there.held_out, there.people)
        _note(lake, state, workflow, done, now)
    return done


# -- inside -----------------------------------------------------------------------------------------------------------


def _lacking(settings: Settings, thin: Sequence[Slice]) -> list[dict[str, Any]]:
    """Parents, of each slice as many as it lacks demonstrations."""
    return [
        {**row, "slice": part.name}
        for part in thin
        for row in part.parents.slice(0, settings.synthesis_thin - part.demonstrations).to_pylist()
    ]


@dataclass(frozen=True)
class _There:
    """What is there already: answers to learn from, and those of people who are held out."""

    real: list[Pair]
    held_out: list[Pair]
    people: list[str]


def _real(lake: Lake, state: State, workflow: str, days: tuple[date, date]) -> _There:
    columns = ["demonstration_id", "prompt", "answer", "split", "employee", "superseded_at", "batch"]
    rows = lake.read("demonstrations", days=days, workflows=[workflow], columns=columns)
    accepted = pa.array(sorted(state.accepted_digests(*days)), pa.string())
    rows = rows.filter(pc.and_(pc.is_in(rows["batch"], accepted), pc.is_null(rows["superseded_at"])))
    sides: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows.sort_by("demonstration_id").to_pylist():  # by a digest: whatever is cut off is cut at random
        sides[row["split"]].append(row)
    pairs = {side: [(text_of(row["prompt"]), row["answer"]) for row in found] for side, found in sides.items()}
    held_out = Split.HELD_OUT.value
    return _There(
        pairs.get(Split.TRAIN.value, []), pairs.get(held_out, []), [row["employee"] for row in sides[held_out]]
    )


def _row(  # noqa: PLR0913, PLR0917 - the columns
    parent: Mapping[str, Any], answer: str, run: str, version: str, recipe: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    source = {c.name: parent[c.name] for c in schema.lake.SOURCE_OF_LABEL}
    return {
        **source,
        "weight": 1.0,
        "received_at": now,
        "superseded_at": None,
        "synthetic_id": _digest([run, parent["event_id"], answer]),
        "run": run,
        "slice": parent["slice"],
        "prompt": parent["prompt"],
        "answer": answer,
        "model_version": version,
        "recipe": json.dumps(recipe, sort_keys=True),
        "score": None,
        "status": KEPT,
        "reasons": [],
    }


def _checked(rows: Sequence[dict[str, Any]], lake: Lake, workflow: str, there: _There) -> Counter[str]:
    """Give each row its reasons to be dropped; how often labelling functions raised."""
    prompts, texts = [text_of(row["prompt"]) for row in rows], [row["answer"] for row in rows]
    whole = [f"{prompt}\n{text}" for prompt, text in zip(prompts, texts, strict=True)]
    broken, raised = checks.broken(WORKFLOWS[workflow], prompts, texts)
    asked = lake.read("benchmark", workflows=[workflow], columns=["prompt"])["prompt"].to_pylist()
    judged_on = [*map(text_of, asked), *(f"{prompt}\n{answer}" for prompt, answer in there.held_out)]
    real = [f"{prompt}\n{answer}" for prompt, answer in there.real]
    leaks = checks.leaked(whole, judged_on, real) | checks.leaked(prompts, judged_on, real)
    copies = checks.nearest(whole, real) >= checks.ALIKE
    seen: set[str] = set()
    for row, text, rules, leak, copy in zip(rows, whole, broken, leaks, copies, strict=True):
        told = {"nothing was written": not row["answer"].strip(), "leaked: of the benchmark": leak}
        told |= {"a copy of a real answer": copy, "written twice": text in seen}
        seen.add(text)
        row["reasons"] += [*rules, *(reason for reason, holds in told.items() if holds)]
    return raised


def _chosen(rows: Sequence[dict[str, Any]], scorer: Scorer | None) -> None:
    """Of what passed, keep one answer a parent: the best by the scorer, else the first."""
    if scorer is not None and rows:
        prompts = pa.array([row["prompt"][-1]["content"] if row["prompt"] else "" for row in rows])
        for row, score in zip(rows, scorer(prompts, pa.array([row["answer"] for row in rows])), strict=True):
            row["score"] = float(score)
    by_parent: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if not row["reasons"]:
            by_parent[row["event_id"]].append(row)
    for group in by_parent.values():
        best = max(group, key=lambda row: row["score"] or 0.0)
        for row in group:
            row["reasons"] += [] if row is best else ["another answer to the same prompt is kept"]
    for row in rows:
        row["status"] = DROPPED if row["reasons"] else KEPT


def _store(lake: Lake, state: State, workflow: str, rows: Sequence[dict[str, Any]]) -> int:
    """Add rows to the partitions of their parents; how many are not, for their parent has gone."""
    gone = 0
    by_day: dict[date, dict[str, dict[str, Any]]] = defaultdict(dict)
    for row in rows:
        if row["synthetic_id"] in by_day[row["day"]]:  # the very same text twice
            row["synthetic_id"] = _digest([row["synthetic_id"], len(by_day[row["day"]])])
        by_day[row["day"]][row["synthetic_id"]] = row
    for day, mine in sorted(by_day.items()):
        where: dict[str, Any] = {"day": day, "workflow": workflow}
        with state.building(day, workflow), lake.pinned("interactions", "synthetic"):
            parents = pa.array(sorted({row["event_id"] for row in mine.values()}), pa.string())
            left = lake.matching("interactions", "event_id", parents, **where, columns=["event_id"])
            here = set(left["event_id"].to_pylist())
            for row in mine.values():
                row["status"] = row["status"] if row["event_id"] in here else GONE
            stored = from_rows([row for row in mine.values() if row["status"] != GONE], schema.SYNTHETIC)
            gone += len(mine) - stored.num_rows
            before = lake.read("synthetic", days=(day, day), workflows=[workflow])
            lake.overwrite("synthetic", pa.concat_tables([before, stored]), **where)
    return gone


def _note(lake: Lake, state: State, workflow: str, done: Synthesised, now: datetime) -> None:
    assert done.ablation is not None
    row = {**vars(done.ablation), "run": done.run, "day": now.date(), "workflow": workflow, "proxy": PROXY}
    row |= {"rows": done.kept, "helps": done.ablation.helps, "measured_at": now}
    with state.building(now.date(), workflow), lake.pinned("ablations"):
        before = lake.read("ablations", days=(now.date(), now.date()), workflows=[workflow])
        together = pa.concat_tables([before, from_rows([row], schema.ABLATIONS)])
        lake.overwrite("ablations", together, day=now.date(), workflow=workflow)


def _digest(told: Any) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()[:32]
