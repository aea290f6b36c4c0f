"""A batch of tasks for a vendor: masked, shuffled, under ids that say nothing, known items hidden among the others."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from random import Random, SystemRandom
from typing import Any, Final

from loop.config import Settings
from loop.errors import BadInputError
from loop.label import gold, tasks
from loop.label.acceptance import Plan
from loop.label.pool import standing_of
from loop.label.tasks import CHOSEN, Kind, Origin
from loop.label.vendor import ledger
from loop.label.vendor.ledger import Batch, Item
from loop.lake import Lake
from loop.privacy.masking import mask
from loop.privacy.recognise import find as patterns
from loop.privacy.recognise import recogniser
from loop.state import State

TASKS: Final = "tasks.jsonl"
MANIFEST: Final = "manifest.json"
_ASKED: Final = {
    Kind.PREFERENCE: "Which of the two texts is the better answer to the prompt: first, second, tie or neither?",
    Kind.RATING: "Which of the options fits the text? They stand from worst to best.",
    Kind.CATEGORY: "Which of the options is the text?",
}


@dataclass
class Exported:
    """What became of the tasks: `sent + left_out.total()` is all that were to be chosen from."""

    batch_id: str
    sent: int = 0
    known: int = 0
    """Known items that were hidden among those sent."""
    left_out: Counter[str] = field(default_factory=Counter)
    masked: Counter[str] = field(default_factory=Counter)
    """Spans of personal data that were masked now, by type."""


def export(  # noqa: PLR0913 - by keyword
    settings: Settings,
    lake: Lake,
    state: State,
    folder: Path,
    *,
    vendor: str,
    workflow: str,
    kind: Kind,
    plan: Plan,
    due_at: datetime,
    now: datetime,
    most: int | None = None,
    price: float | None = None,
    harmful: bool = False,
    again: bool = False,
    random: Random | None = None,
) -> Exported:
    """Write `tasks.jsonl` and `manifest.json` into a folder that is empty or not there yet.

    Args:
        plan: how many known items are hidden; see `loop.label.acceptance`.
        most: tasks to send at most, drawn at random; None: all that want answers.
        harmful: whether tasks with a warning go too, with the warning.
        again: whether known items go that this vendor had before: it may know them again.
        random: of the choice, the order and the sides; by default the system's.

    Raises:
        BadInputError: a kind without known answers, a deadline that is past, a folder in use, nothing to send, or too
            few known items for the plan.
    """
    random = random or SystemRandom()
    _check(folder, kind, due_at, now, vendor)
    found = tasks.read(lake, workflows=[workflow]).to_pylist()
    with state.engine.connect() as connection:
        right = gold.latest(connection, state)
    answered = standing_of(state, [row["label_task_id"] for row in found])
    had = {task for batch in ledger.batches(settings) if batch.vendor == vendor for task in _all(batch)}
    done = Exported(f"b{secrets.token_hex(6)}")
    known: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    for row in found:
        known_as = right.get(row["label_task_id"])
        is_gold = known_as is not None and known_as.hidden
        why = _left_out(row, kind, now, had, harmful=harmful, is_gold=is_gold, again=again)
        if not is_gold and why is None:
            why = _needless(row, answered, known=known_as is not None)
        if why is not None:
            done.left_out[why] += 1
        else:
            (known if is_gold else others).append(row)
    if not others:
        raise BadInputError(f"no {kind} task of {workflow} waits for a vendor; left out: {dict(done.left_out)}")
    if len(known) < plan.inspected:
        raise BadInputError(
            f"the plan hides {plan.inspected} known items, and {vendor} can be given {len(known)} {kind} tasks of "
            f"{workflow} whose answer is known and hidden; make more known, allow more risk, or give some `--again`"
        )
    chosen = random.sample(others, min(most or len(others), len(others)))
    hidden = random.sample(known, plan.inspected)
    done.left_out["not drawn"] += len(others) - len(chosen)
    done.left_out["known, not needed"] += len(known) - len(hidden)
    done.sent, done.known = len(chosen) + len(hidden), len(hidden)
    rows = [(row, False) for row in chosen] + [(row, True) for row in hidden]
    random.shuffle(rows)
    batch, lines = _batch(settings, rows, done, random)
    assert done.sent + done.left_out.total() == len(found), "a task was lost"
    body = b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)
    sha256 = hashlib.sha256(body).hexdigest()
    noted = Batch(
        batch_id=done.batch_id,
        vendor=vendor,
        workflow=workflow,
        kind=kind.value,
        exported_at=now,
        due_at=due_at,
        sha256=sha256,
        plan=plan,
        price=price,
        items=batch,
    )
    ledger.save(settings, noted)
    _write(folder, body, _manifest(done.batch_id, kind, len(lines), sha256, due_at))
    return done


def _check(folder: Path, kind: Kind, due_at: datetime, now: datetime, vendor: str) -> None:
    if kind not in CHOSEN:
        raise BadInputError(f"kind: expected one of {', '.join(CHOSEN)}, whose answers can be known; got {kind}")
    if due_at <= now:
        raise BadInputError(f"deadline: expected a time to come, got {due_at.isoformat()}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInputError(f"expected an empty folder or none at {folder}, got one in use")
    if not vendor.strip() or len(vendor) > 100 or not vendor.isprintable():
        raise BadInputError("vendor: expected a name of 1 to 100 printable characters")


def _all(batch: Batch) -> list[str]:
    return [item.label_task_id for item in batch.items.values()]


def _left_out(  # noqa: PLR0913 - what is asked of a task
    row: Mapping[str, Any],
    kind: Kind,
    now: datetime,
    had: set[str],
    *,
    harmful: bool,
    is_gold: bool,
    again: bool,
) -> str | None:
    told = {
        "of another kind": row["kind"] != kind,
        "shows images, which are not sent": bool(row["images"]),
        "of a benchmark": row["origin"] == Origin.BENCHMARK,
        "harmful": row["harm"] is not None and not harmful,
        "known, and the vendor had it before": is_gold and not again and row["label_task_id"] in had,
        "the vendor has it already": not is_gold and row["label_task_id"] in had,
        "after its deadline": not is_gold and row["due_at"] is not None and row["due_at"] <= now,
    }
    return next((why for why, holds in told.items() if holds), None)


def _needless(row: Mapping[str, Any], answered: Mapping[str, int], *, known: bool) -> str | None:
    """Why nobody need be paid for an answer; None where somebody must."""
    if known:
        return "known, and not hidden"
    return "has its answers" if answered.get(row["label_task_id"], 0) >= row["wanted"] else None


def _batch(
    settings: Settings, rows: Sequence[tuple[dict[str, Any], bool]], done: Exported, random: Random
) -> tuple[dict[str, Item], list[dict[str, Any]]]:
    """What is noted of each item here, and what is said of it there."""
    find = recogniser(settings.privacy) or patterns  # what goes out of the house is masked in any case
    key = settings.secret("vendor")
    items: dict[str, Item] = {}
    lines: list[dict[str, Any]] = []
    for row, known in rows:
        swapped = row["kind"] == Kind.PREFERENCE and random.random() < 0.5
        given = [message["content"] for message in row["prompt"]]
        texts = row["texts"][::-1] if swapped else row["texts"]
        masked, counts = mask([*given, *texts, row["harm"]], find)
        done.masked.update(counts)
        named = hmac.new(key, f"{done.batch_id}|{row['label_task_id']}".encode(), hashlib.sha256)
        item = named.hexdigest()[:20]
        items[item] = Item(row["label_task_id"], swapped, known)
        roles = [message["role"] for message in row["prompt"]]
        line = {
            "item": item,
            "prompt": [{"role": role, "content": text} for role, text in zip(roles, masked, strict=False)],
            "texts": masked[len(roles) : -1],
            "options": list(tasks.labels_of(row["kind"], row["options"])),
        }
        lines.append(line if row["harm"] is None else {**line, "warning": masked[-1]})
    assert len(items) == len(rows), "two items have one id"
    return items, lines


def _manifest(batch_id: str, kind: Kind, items: int, sha256: str, due_at: datetime) -> bytes:
    told = {
        "batch": batch_id,
        "file": TASKS,
        "items": items,
        "sha256": sha256,
        "kind": kind.value,
        "question": _ASKED[kind],
        "due_at": due_at.isoformat(),
        "answers": {
            "formats": "CSV with a header, or JSON lines; UTF-8",
            "columns": {
                "item": "as in the tasks",
                "worker": "who answered: the same name for the same person, no real one",
                "label": "one of the item's options",
                "seconds": "time taken; may be left out",
                "answered_at": "ISO 8601 with a zone; may be left out",
            },
        },
    }
    return json.dumps(told, indent=2, ensure_ascii=False).encode() + b"\n"


def _write(folder: Path, body: bytes, manifest: bytes) -> None:
    """The manifest last: where it stands, the batch is whole."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, content in ((TASKS, body), (MANIFEST, manifest)):
        with os.fdopen(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
