"""The texts on which a nano base is pretrained: given by the organisation, or what its people were shown."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from loop.errors import BadInputError
from loop.label.derive import split_of
from loop.schema import Split

Messages = list[dict[str, str]]
Pair = tuple[Messages, str]

MOST = 20_000
"""Pairs that a base is pretrained on at most: about a minute's worth."""


def read(folder: Path) -> list[Pair]:
    """The pairs in the `.jsonl` files of a folder, each line `{"prompt": [messages], "answer": "..."}`; in order.

    Raises:
        BadInputError: a line is not of that form.
    """
    pairs: list[Pair] = []
    for path in sorted(folder.glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                row = json.loads(line)
                pairs.append(
                    ([{"role": m["role"], "content": m["content"]} for m in row["prompt"]], str(row["answer"]))
                )
            except (ValueError, KeyError, TypeError) as error:
                raise BadInputError(
                    f'{path.name}:{number}: expected {{"prompt": [...], "answer": "..."}}: {error}'
                ) from None
    return pairs


def shown(
    interactions: pa.Table, *, accepted: Collection[str], cutoff: datetime, held_out_share: float, seed: int
) -> list[Pair]:
    """Prompts and the suggestions shown for them, from accepted batches and the training side, up to a cut-off.

    No text that a person wrote in answer is among them. Of more than `MOST` the first by digest are taken.
    """
    rows = interactions.filter(
        pc.and_(
            pc.less(interactions["received_at"], cutoff),
            pc.is_in(interactions["batch"], pa.array(sorted(accepted), pa.string())),
        )
    )
    sides: dict[str | None, bool] = {}
    for name in ("employee", "task_id"):
        for value in rows[name].unique().to_pylist():
            sides[value] = split_of(value, held_out_share, seed) is Split.HELD_OUT
    columns = ("event_id", "employee", "task_id", "purposes", "prompt", "candidates")
    found: list[tuple[str, Pair]] = []
    for event, who, task, purposes, prompt, candidates in zip(*(rows[c].to_pylist() for c in columns), strict=True):
        if sides[who] or sides[task] or "training" not in purposes:
            continue
        for candidate in candidates:
            key = hashlib.blake2b(f"{seed}|{event}|{candidate['position']}".encode(), digest_size=16).hexdigest()
            found.append((key, (prompt, candidate["text"])))
    return [pair for _, pair in sorted(found, key=lambda item: item[0])[:MOST]]


def digest(pairs: Sequence[Pair]) -> str:
    """SHA-256 over the pairs in order, 32 hexadecimal digits."""
    sha = hashlib.sha256()
    for prompt, answer in pairs:
        sha.update(json.dumps([prompt, answer], ensure_ascii=False, sort_keys=True).encode())
    return sha.hexdigest()[:32]
