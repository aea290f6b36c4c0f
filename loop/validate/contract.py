"""The row contract: what one event must satisfy beyond its types, whatever came before it.

One list of rules, run as one DuckDB query; at import and again when a batch is made. What a whole batch must satisfy is
in `suites.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from loop import schema
from loop.collect.events import CLOCK_BACKWARDS, DELETED, Reason
from loop.schema import Decision
from loop.workflows import WORKFLOWS

if TYPE_CHECKING:
    import duckdb

SKEW: Final = timedelta(minutes=5)
"""Clocks of honest clients differ by this much at most."""
EARLIEST: Final = datetime.combine(schema.FIRST_DAY, time(), UTC)
"""An earlier time is a broken clock."""
PROMPT_CHARS: Final = 200_000
"""The longest prompt of any workflow; most allow less."""
TEXT_CHARS: Final = 20_000
"""The longest candidate and the longest final text."""
ID_CHARS: Final = 200
ITEMS: Final = 100
"""Most candidates, messages, and tags of one kind."""
PURPOSES: Final = ("training", "evaluation")
ROLES: Final = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class Rule:
    """One rule in SQL over a row of `interactions`: when it is broken, and what to say then."""

    reason: Reason
    broken: str
    told: str


def split(rows: pa.Table, *, now: datetime) -> tuple[pa.Table, pa.Table]:
    """Part the rows that keep the contract from those that break it.

    Args:
        rows: the columns of `interactions`, possibly with others, which are kept.
        now: aware; what lies more than `SKEW` after it is in the future.

    Returns:
        The good rows as they came, and the bad ones with two more columns: `breaches` (list of `Reason`, in the order
        of the rules) and `explanation` (what was expected and what came).
    """
    import duckdb

    connection = duckdb.connect(":memory:", config={"threads": 2, "enable_external_access": False})
    try:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("given", rows.append_column("_ordinal", pa.array(range(rows.num_rows), pa.int64())))
        bad = breaking(connection, "given", now=now, order="_ordinal")
    finally:
        connection.close()
    if not bad.num_rows:
        return rows, bad.drop_columns("_ordinal")
    good = np.ones(rows.num_rows, bool)
    good[bad["_ordinal"].to_numpy()] = False
    kept = rows.filter(pa.array(good))
    assert rows.num_rows == kept.num_rows + bad.num_rows
    return kept, bad.drop_columns("_ordinal")


def breaking(connection: duckdb.DuckDBPyConnection, view: str, *, now: datetime, order: str) -> pa.Table:
    """The rows of a view that break the contract, with `breaches` and `explanation` as `split` has them.

    Args:
        connection: in UTC. No more of the view is held in memory than what breaks the contract.
        order: SQL by which they are ordered.
    """
    connection.execute("SET VARIABLE now = $now", {"now": now.astimezone(UTC)})
    bad = connection.sql(_BROKEN.format(view=view, order=order)).to_arrow_table()
    broken = bad["_broken"].to_pylist()
    bad = bad.drop_columns("_broken")
    told = _explained(connection, bad, broken)
    reasons = [list(dict.fromkeys(RULES[i].reason.value for i in rules)) for rules in broken]
    bad = bad.append_column("breaches", pa.array(reasons, pa.list_(pa.string())))
    return bad.append_column("explanation", pa.array(told, pa.string()))


def _explained(connection: duckdb.DuckDBPyConnection, bad: pa.Table, broken: list[list[int]]) -> list[str]:
    """What the rules that each bad row breaks have to say. Mostly few are broken: only those are put into the query."""
    rules = sorted({i for each in broken for i in each})
    if not rules:
        return []
    connection.register("bad", bad)
    query = f"SELECT {', '.join(RULES[i].told for i in rules)} FROM bad"  # noqa: S608 - made of the constants below
    said = connection.execute(query).fetchall()
    place = {rule: i for i, rule in enumerate(rules)}
    return ["; ".join(texts[place[i]] for i in each) for each, texts in zip(broken, said, strict=True)]


def _listed(values: tuple[str, ...]) -> str:
    return ", ".join(f"'{value}'" for value in values)


_IDS = ("event_id", "suggestion_id", "revises", "episode_id", "task_id", "team", "region", "model_version")


def _id(name: str) -> Rule:
    return Rule(
        Reason.ID,
        rf"length({name}) NOT BETWEEN 1 AND {ID_CHARS} OR regexp_matches({name}, '[\x00-\x1f\x7f]')",
        f"'{name}: expected 1 to {ID_CHARS} characters and no control character, got ' || length({name})",
    )


def _long(what: str, size: str, limit: str) -> Rule:
    return Rule(Reason.TOO_LONG, f"{size} > {limit}", f"'{what}: expected at most ' || {limit} || ', got ' || {size}")


# What was masked is counted without its placeholders: a text that the edge took may not become too long by them.
_CHARS = "length(CASE WHEN length({0}) > 1000 THEN regexp_replace({0}, '<[A-Z][A-Z_]+_[0-9]+>', '', 'g') ELSE {0} END)"
_SHORT_TEXT = "CASE WHEN length({0}) > 60 THEN left({0}, 60) || '...' ELSE {0} END"
_PROMPT_LIMIT = (
    "CASE workflow "
    + " ".join(f"WHEN '{w.name}' THEN {min(w.max_prompt_chars, PROMPT_CHARS)}" for w in WORKFLOWS.values())
    + f" ELSE {PROMPT_CHARS} END"
)
_TAKEN = "list_filter(candidates, lambda c: c.position = chosen)[1].text"
_POSITIONS = "list_transform(candidates, lambda c: c.position)"
_CHOSE = f"decision IN ('{Decision.ACCEPT}', '{Decision.MODIFY}')"
_IS_DELETED = f"list_contains(reasons, '{DELETED}')"
_SKEW = f"INTERVAL {int(SKEW.total_seconds())} SECOND"
_EARLIEST = f"TIMESTAMPTZ '{EARLIEST.isoformat()}'"

RULES: Final = (
    *(_id(name) for name in _IDS),
    Rule(Reason.ID, "revises = event_id", "'revises: expected an earlier event, got the event itself'"),
    Rule(
        Reason.WORKFLOW,
        f"workflow NOT IN ({_listed(schema.WORKFLOWS)})",
        f"'workflow: expected one of {', '.join(schema.WORKFLOWS)}, got ' || {_SHORT_TEXT.format('workflow')}",
    ),
    _long(
        "prompt, characters", f"list_sum(list_transform(prompt, lambda m: {_CHARS.format('m.content')}))", _PROMPT_LIMIT
    ),
    _long(
        "candidate, characters",
        f"list_max(list_transform(candidates, lambda c: {_CHARS.format('c.text')}))",
        str(TEXT_CHARS),
    ),
    _long("final_text, characters", _CHARS.format("final_text"), str(TEXT_CHARS)),
    *(
        _long(f"{name}, items", f"len({name})", str(ITEMS))
        for name in ("prompt", "candidates", "visibility", "reasons", "purposes")
    ),
    *(
        _long(f"{name}, characters", f"list_max(list_transform({name}, lambda t: length(t)))", str(ID_CHARS))
        for name in ("visibility", "reasons")
    ),
    Rule(Reason.PROMPT, "len(prompt) = 0", "'prompt: expected at least one message, got none'"),
    Rule(
        Reason.PROMPT,
        f"len(list_filter(prompt, lambda m: m.role NOT IN ({_listed(ROLES)}))) > 0",
        f"'prompt: expected roles among {', '.join(ROLES)}'",
    ),
    Rule(
        Reason.CANDIDATES,
        f"len(candidates) = 0 OR {_POSITIONS}::BIGINT[] <> range(len(candidates))",
        f"'candidates: expected positions 0, 1, 2 and so on in this order, got ' || {_POSITIONS}::VARCHAR",
    ),
    Rule(
        Reason.LOGPROB,
        "len(list_filter(candidates, lambda c: c.logprob > 1e-6 OR isinf(c.logprob))) > 0",
        "'candidates: expected log-probabilities of at most 0, got ' "
        "|| list_transform(candidates, lambda c: c.logprob)::VARCHAR",
    ),
    Rule(Reason.TIMES, f"shown_at < {_EARLIEST}", f"'shown_at: expected after {EARLIEST.date()}, got ' || shown_at"),
    Rule(
        Reason.TIMES,
        "decided_at < shown_at",
        "'decided_at: expected not before shown_at ' || shown_at || ', got ' || decided_at",
    ),
    Rule(
        Reason.TIMES,
        f"received_at < coalesce(decided_at, shown_at) - {_SKEW}",
        "'received_at: expected not before ' || coalesce(decided_at, shown_at) || ', got ' || received_at",
    ),
    *(
        Rule(
            Reason.FUTURE,
            f"{name} > getvariable('now') + {_SKEW}",
            f"'{name}: expected not after now, ' || getvariable('now') || ', got ' || {name}",
        )
        for name in ("shown_at", "decided_at", "received_at")
    ),
    Rule(
        Reason.DECISION,
        f"decision NOT IN ({_listed(tuple(Decision))})",
        f"'decision: expected one of {', '.join(Decision)}, got ' || {_SHORT_TEXT.format('decision')}",
    ),
    Rule(
        Reason.DECISION,
        f"decision = '{Decision.IGNORE}' AND decided_at IS NOT NULL",
        "'decided_at: expected null for ignore, got ' || decided_at",
    ),
    Rule(
        Reason.DECISION,
        f"decision <> '{Decision.IGNORE}' AND decided_at IS NULL AND NOT list_contains(reasons, '{CLOCK_BACKWARDS}')",
        f"'decided_at: expected a time for ' || decision || ' (or the reason {CLOCK_BACKWARDS}), got null'",
    ),
    Rule(
        Reason.CHOSEN,
        f"{_CHOSE} AND NOT coalesce(list_contains({_POSITIONS}, chosen), false)",
        "'chosen: expected a shown position for ' || decision || ', got ' || coalesce(chosen::VARCHAR, 'null')",
    ),
    Rule(
        Reason.CHOSEN,
        f"NOT {_CHOSE} AND chosen IS NOT NULL",
        "'chosen: expected null for ' || decision || ', got ' || chosen",
    ),
    Rule(
        Reason.FINAL_TEXT,
        f"{_CHOSE} AND final_text IS NULL",
        "'final_text: expected a text for ' || decision || ', got null'",
    ),
    Rule(
        Reason.FINAL_TEXT,
        f"NOT {_CHOSE} AND final_text IS NOT NULL",
        "'final_text: expected null for ' || decision || ', got a text'",
    ),
    Rule(
        Reason.FINAL_TEXT,
        f"decision = '{Decision.ACCEPT}' AND final_text <> {_TAKEN}",
        "'final_text: expected the chosen candidate verbatim for accept, got another text'",
    ),
    Rule(
        Reason.FINAL_TEXT,
        f"decision = '{Decision.MODIFY}' AND final_text = {_TAKEN}",
        "'final_text: expected another text than the chosen candidate for modify, got the same'",
    ),
    Rule(
        Reason.FINAL_TEXT,
        f"decision = '{Decision.MODIFY}' AND (final_text = '') <> {_IS_DELETED}",
        f"'final_text: expected an empty text for modify with the reason {DELETED} and only then'",
    ),
    *(
        Rule(
            Reason.PROPENSITY,
            f"NOT ({name} > 0 AND {name} <= 1)",
            f"'{name}: expected a probability above 0 and at most 1, got ' || {name}",
        )
        for name in ("arm_propensity", "order_propensity")
    ),
    Rule(Reason.DWELL, "dwell_ms < 0", "'dwell_ms: expected at least 0, got ' || dwell_ms"),
    Rule(Reason.TURN, "turn < 0", "'turn: expected at least 0, got ' || turn"),
    Rule(
        Reason.PURPOSES,
        f"len(list_filter(purposes, lambda p: p NOT IN ({_listed(PURPOSES)}))) > 0",
        f"'purposes: expected some of {', '.join(PURPOSES)}'",
    ),
)


_BROKEN: Final = f"""
    SELECT * EXCLUDE (_found), list_filter(range({len(RULES)}), lambda i: _found[i + 1]) AS _broken
    FROM (SELECT *, [{", ".join(f"({rule.broken})" for rule in RULES)}] AS _found FROM {{view}})
    WHERE list_contains(_found, true) ORDER BY {{order}}
"""  # noqa: S608 - made of the constants above
"""The rows that break rules, with the places of these in `RULES`."""
