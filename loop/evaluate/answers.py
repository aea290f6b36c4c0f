"""The benchmark's items as of a cycle, and what a model version answers to them, decoded as it is served.

A model is judged by what people would be shown: its answers are sampled with the settings of serving, one to an item.
Greedy answers would have less noise and belong to a policy that nobody meets.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from loop import schema
from loop.lake import Lake, from_rows
from loop.workflows import WORKFLOWS

if TYPE_CHECKING:
    from loop.models import Messages, Model, Progress


@dataclass(frozen=True)
class Decoding:
    """How answers are sampled. Where they stop is the workflow's `max_answer_tokens`."""

    temperature: float = 0.9
    top_p: float = 0.95


SERVED: Final = Decoding()
"""What serving and evaluation share."""

_CACHED: Final = pa.schema([pa.field("item_id", pa.string(), False), pa.field("answer", pa.string(), False)])


def items(day: date, workflow: str, prompts: Sequence[Messages]) -> list[dict[str, Any]]:
    """Rows of `benchmark`, one for each different prompt: its id is a digest of workflow and prompt."""
    rows = {}
    for prompt in prompts:
        told = json.dumps([workflow, prompt], sort_keys=True, ensure_ascii=False)
        item_id = hashlib.sha256(told.encode()).hexdigest()[:32]
        rows[item_id] = {"item_id": item_id, "day": day, "workflow": workflow, "prompt": prompt}
    return list(rows.values())


def add_items(lake: Lake, day: date, workflow: str, prompts: Sequence[Messages]) -> int:
    """Add prompts to the benchmark of a workflow, as of `day`; how many are new to it."""
    with lake.pinned("benchmark"):  # what is erased meanwhile is looked for once it stands there
        known = lake.read("benchmark", workflows=[workflow], columns=["item_id"])["item_id"].to_pylist()
        rows = [row for row in items(day, workflow, prompts) if row["item_id"] not in set(known)]
        if rows:
            there = lake.read("benchmark", days=(day, day), workflows=[workflow])
            together = pa.concat_tables([there, from_rows(rows, schema.BENCHMARK)])
            lake.overwrite("benchmark", together, day=day, workflow=workflow)
    return len(rows)


def benchmark(lake: Lake, cycle: date, most: int) -> pa.Table:
    """The items that cycle is judged on: of each workflow the `most` oldest known by then, schema `benchmark`.

    Oldest first, then by id, so that items added later change nothing while there are enough, and answers stay cached.
    A prompt that was added twice counts once.
    """
    rows = lake.read("benchmark", days=(date.min, cycle)).sort_by([("day", "ascending"), ("item_id", "ascending")])
    taken: list[int] = []
    seen: set[str] = set()
    room = dict.fromkeys(schema.WORKFLOWS, most)
    for place, (workflow, item) in enumerate(
        zip(rows["workflow"].to_pylist(), rows["item_id"].to_pylist(), strict=True)
    ):
        if item not in seen and room.get(workflow, 0):
            seen.add(item)
            room[workflow] -= 1
            taken.append(place)
    return rows.take(pa.array(taken, pa.int64()))


def answers_of(  # noqa: PLR0913 - one argument a fact
    version: str,
    path: Path,
    asked: pa.Table,
    *,
    cache: Path,
    seed: int,
    decoding: Decoding = SERVED,
    progress: Progress | None = None,
) -> list[str]:
    """One answer of the model to each item, in the items' order.

    An answer depends on model, item, seed and decoding alone, so each is sampled once and kept in `cache`.

    Args:
        version: names the model; `path` is its folder, opened only if an answer is missing.
        asked: items, schema `benchmark`.
        cache: folder, made if absent; may be deleted at any time.
    """
    key = hashlib.sha256(json.dumps([version, seed, asdict(decoding)]).encode()).hexdigest()[:32]
    file = cache / "answers" / f"{key}.parquet"
    known: dict[str, str] = {}
    if file.exists():
        table = pq.read_table(file, schema=_CACHED)
        known = dict(zip(table["item_id"].to_pylist(), table["answer"].to_pylist(), strict=True))
    wanted = asked["item_id"].to_pylist()
    missing = asked.filter(pc.invert(pc.is_in(asked["item_id"], pa.array(list(known), pa.string()))))
    if missing.num_rows:
        from loop.models import Model

        known |= _sample(Model.load(path), missing, seed, decoding, progress)
        _write(file, known)
    return [known[item] for item in wanted]


def _sample(model: Model, asked: pa.Table, seed: int, decoding: Decoding, progress: Progress | None) -> dict[str, str]:
    found: dict[str, str] = {}

    def told(done: int, _: int) -> None:
        if progress is not None:
            progress(len(found) + done, asked.num_rows)

    for workflow in sorted(set(asked["workflow"].to_pylist())):
        rows = {row["item_id"]: row["prompt"] for row in asked.to_pylist() if row["workflow"] == workflow}
        drawn = model.sample(
            list(rows.values()),
            n=1,
            max_new_tokens=WORKFLOWS[workflow].max_answer_tokens,
            temperature=decoding.temperature,
            top_p=decoding.top_p,
            seed=seed,
            progress=told,
        )
        found |= {item: answer.text for item, [answer] in zip(rows, drawn, strict=True)}
    return found


def _write(file: Path, known: dict[str, str]) -> None:
    """All or nothing: a reader meets the old file or the new one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}.partial")
    pq.write_table(pa.table([list(known), list(known.values())], schema=_CACHED), partial)
    partial.replace(file)
