"""What was acknowledged against what the lake has, content by content. Every figure but the first few must be 0."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from typing import Any

from benchmarks.crashing.clients import Told
from loop import schema
from loop.home import Home
from loop.label.derive import derive
from loop.lake import connect

IGNORE = "ignore"
_LAST = f"""
    SELECT suggestion_id, event_id FROM interactions
    QUALIFY lead(event_id) OVER (PARTITION BY suggestion_id ORDER BY {schema.lake.DECISION_ORDER}) IS NULL
"""


def compared(home: Home, told: Told) -> dict[str, int]:
    """Counts; those that begin with `wrong: ` must be 0."""
    rows = home.lake.read("interactions").to_pylist()
    results = home.lake.read("outcomes").to_pylist()
    ignored = [row for row in rows if row["decision"] == IGNORE]
    decided = [row for row in rows if row["decision"] != IGNORE]
    ours = {key for one in told.suggestions.values() for key in one.decisions}
    return {
        "sent": len(told.sent),
        "events acknowledged": len(told.events),
        "events stored": len(decided),
        "suggestions answered": len(told.suggestions),
        "of these decided on": sum(bool(one.decisions) for one in told.suggestions.values()),
        "decisions on them, acknowledged": len(ours),
        "revisions among them": sum(max(0, len(one.decisions) - 1) for one in told.suggestions.values()),
        "ignored": len(ignored),
        "ignored, then decided on after all": len({r["suggestion_id"] for r in ignored} & _suggestions(decided)),
        "outcomes acknowledged": len(told.outcomes),
        "outcomes stored": len(results),
        "outcomes put down to a decision or an ignore": sum(row["event_id"] is not None for row in results),
        **{f"wrong: {name}": count for name, count in _events(told, decided).items()},
        "wrong: decision that revises another than the one before it": len(histories(told, rows)),
        **{f"wrong: {name}": count for name, count in _ignores(told, decided, ignored).items()},
        **{f"wrong: {name}": count for name, count in _outcomes(home, told, results).items()},
        "wrong: last decision that does not count": _last(home, told),
        "wrong: set aside": home.lake.read("quarantine", columns=["quarantine_id"]).num_rows,
        "wrong: refused": len(told.refused),
    }


def _suggestions(rows: list[dict[str, Any]]) -> set[str]:
    return {row["suggestion_id"] for row in rows}


def _events(told: Told, decided: list[dict[str, Any]]) -> dict[str, int]:
    counts = Counter(row["event_id"] for row in decided)
    stood = {row["event_id"]: _content(row) for row in decided}
    return {
        "event not stored": len(told.events.keys() - stood.keys()),
        "event stored twice": sum(count > 1 for count in counts.values()),
        "event stored with other content": sum(stood.get(key, what) != what for key, what in told.events.items()),
        "event stored that nobody sent": len(stood.keys() - told.sent),
    }


def _content(row: dict[str, Any]) -> dict[str, Any]:
    names = ("suggestion_id", "model_version", "decision", "chosen", "final_text")
    return {name: row[name] for name in names} | {"texts": [candidate["text"] for candidate in row["candidates"]]}


def histories(told: Told, rows: list[dict[str, Any]]) -> list[str]:
    """Decisions that do not revise the one before them; the first one nothing, or the ignore that came before it."""
    stood = {row["event_id"]: row for row in rows}
    before = {row["suggestion_id"]: row["event_id"] for row in rows if row["decision"] == IGNORE}
    wrong = []
    for one in told.suggestions.values():
        for earlier, key in pairwise([before.get(one.suggestion_id), *one.decisions]):
            if key in stood and stood[key]["revises"] != earlier:
                names = [name for name in (before.get(one.suggestion_id), *one.decisions) if name]
                times = ", ".join(f"{name} at {stood[name]['received_at']:%H:%M:%S.%f}" for name in names)
                wrong.append(f"{key} revises {stood[key]['revises']}, not {earlier}; of {times}")
    return wrong


def _ignores(told: Told, decided: list[dict[str, Any]], ignored: list[dict[str, Any]]) -> dict[str, int]:
    when: dict[str, list[Any]] = defaultdict(list)
    for row in decided:
        when[row["suggestion_id"]].append(row["received_at"])
    counts = Counter(row["suggestion_id"] for row in ignored)
    nobody = {one.suggestion_id for one in told.suggestions.values() if not one.decisions}
    late = [row for row in ignored if any(at <= row["received_at"] for at in when[row["suggestion_id"]])]
    return {
        "ignored twice": sum(count > 1 for count in counts.values()),
        "ignored after it was decided on": len(late),
        "neither decided on nor ignored": len(nobody - counts.keys() - when.keys()),
        "ignore that revises something": sum(row["revises"] is not None for row in ignored),
    }


def _outcomes(home: Home, told: Told, results: list[dict[str, Any]]) -> dict[str, int]:
    """All were observed after their suggestion and inside the window: each belongs to the last decision, if any."""
    with connect(home.lake, {}) as connection:
        last = dict(connection.execute(_LAST).fetchall())
    names = ("suggestion_id", "name", "value")
    stood = {row["outcome_id"]: {name: row[name] for name in names} for row in results}
    return {
        "outcome not stored": len(told.outcomes.keys() - stood.keys()),
        "outcome stored twice": len(results) - len(stood),
        "outcome stored with other content": sum(stood.get(key, what) != what for key, what in told.outcomes.items()),
        "outcome stored that nobody sent": len(stood.keys() - told.sent),
        "outcome not of the last decision": sum(row["event_id"] != last.get(row["suggestion_id"]) for row in results),
    }


def _last(home: Home, told: Told) -> int:
    """Of each suggestion only the decision that was acknowledged last teaches, with its text."""
    rows = derive(home.lake.read("interactions"), held_out_share=0.0).demonstrations.to_pylist()
    stands: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row["superseded_at"] is None:
            stands[row["suggestion_id"]].append(row["answer"])
    wrong = 0
    for one in told.suggestions.values():
        final = told.events[one.decisions[-1]]["final_text"] if one.decisions else None
        wrong += stands[one.suggestion_id] != ([] if final is None else [final])
    return wrong
