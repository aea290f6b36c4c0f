"""Helpers: tasks of which some are known, a batch of them, and a vendor that answers it."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from loop.home import Home
from loop.label import acceptance, gold, tasks
from loop.label.acceptance import Plan
from loop.label.tasks import Kind, Origin
from loop.label.vendor import ledger
from loop.label.vendor.export import Exported, export
from loop.label.vendor.ledger import Batch

DAY = date(2026, 1, 5)
NOW = datetime(2026, 1, 6, 9, tzinfo=UTC)
DUE = NOW + timedelta(days=7)
PLAN = acceptance.plan(acceptable=0.1, limiting=0.4, producer=0.1, consumer=0.2)
"""Small: it hides few known items."""
OPTIONS = ("spam", "hate", "fine")
PERSON = "p_0123456789abcdef0123456789abcdef"


def category(n: int, **given: Any) -> dict[str, Any]:
    asked = {"kind": Kind.CATEGORY, "workflow": "moderation", "options": list(OPTIONS), "texts": [f"text {n}"]}
    source = {"origin": Origin.DECISION, "reason": "random", "event_id": f"event-{n}", "employee": PERSON}
    return tasks.task(day=DAY, **{**asked, **source, **given})


def preference(n: int, **given: Any) -> dict[str, Any]:
    texts = [f"one {n}", f"two {n}"]
    return category(n, kind=Kind.PREFERENCE, workflow="ads", texts=texts, options=[], **given)


def known(home: Home, rows: list[dict[str, Any]], label: str) -> None:
    for row in rows:
        gold.put(home.state, row, label=label, reason="experts agreed", author="lead")


def filled(home: Home, others: int = 20, plan: Plan = PLAN, **given: Any) -> list[dict[str, Any]]:
    """Tasks of moderation, twice as many known ones as a plan hides among them: those are all fine."""
    rows = [category(n, **given) for n in range(others + 2 * plan.inspected)]
    tasks.add(home.lake, home.state, rows)
    known(home, rows[others:], "fine")
    return rows


def exported(home: Home, folder: Path, **given: Any) -> tuple[Exported, Batch, list[dict[str, Any]]]:
    """A batch, what is noted of it, and its lines."""
    asked = {"vendor": "acme", "workflow": "moderation", "kind": Kind.CATEGORY, "plan": PLAN, "due_at": DUE, "now": NOW}
    done = export(home.settings, home.lake, home.state, folder, **{**asked, "random": Random(5), **given})
    lines = [json.loads(line) for line in (folder / "tasks.jsonl").read_text().splitlines()]
    return done, ledger.load(home.settings, done.batch_id), lines


def answered(batch: Batch, path: Path, *, wrong: int = 0, skip: int = 0, worker: str = "w1") -> Path:
    """A delivery in which so many known items are wrong, and so many left out; the others are fine."""
    left = {"wrong": wrong, "skip": skip}
    rows = []
    for name, item in batch.items.items():
        label = "fine"
        if item.known and left["skip"]:
            left["skip"] -= 1
            continue
        if item.known and left["wrong"]:
            left["wrong"] -= 1
            label = "spam"
        rows.append(f"{name},{worker},{label},3.5")
    path.write_text("\n".join(["item,worker,label,seconds", *rows]) + "\n")
    return path
