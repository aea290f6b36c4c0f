"""What each decision honestly teaches, derived in bulk.

An accepted text that still stands is a demonstration, and so is what a person made of a suggestion; not one of which
the source says that it was changed later and not into what. A taken candidate
is preferred over each other one that was shown; an edited text over the suggestion it came from, unless only white
space was changed; what was changed is an edit. A dismissed suggestion says that nothing shown was good enough, which is
no preference between two texts: each text that was shown is undesirable, as one that was taken as it was is desirable
(unpaired feedback, Ethayarajh et al. 2024, arXiv:2402.01306).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from loop import schema
from loop.label import edits
from loop.lake import conform
from loop.schema import Split
from loop.schema.lake import DECISION_ORDER

if TYPE_CHECKING:
    import duckdb

PIECE: Final = 50_000
"""Decisions of which labels are made at a time."""
TABLES: Final = ("demonstrations", "preferences", "unpaired", "edits")
"""What is derived from decisions alone; what became of them later, see `rewards`."""
TAUGHT: Final = "taught"
"""Where reasons are counted: what was not set aside."""


@dataclass(frozen=True)
class Labels:
    """The labels of some decisions. Every interaction taught something or stands in `set_aside` under one reason."""

    interactions: int
    demonstrations: pa.Table
    preferences: pa.Table
    unpaired: pa.Table
    edits: pa.Table
    set_aside: dict[str, int]

    @property
    def taught(self) -> int:
        return self.interactions - sum(self.set_aside.values())


def derive(
    interactions: pa.Table,
    *,
    held_out_share: float,
    seed: int = 0,
    signals: pa.Table | None = None,
    tables: tuple[str, ...] = TABLES,
) -> Labels:
    """What the decisions of one batch teach.

    A later decision on the same suggestion ends the earlier one's validity (`superseded_at`) and does not delete it:
    a cycle whose cut-off lies between the two still meets the earlier.

    Args:
        interactions: rows of one or more partitions, in the schema of `interactions`.
        held_out_share: share of writers, and of tasks, whose rows are for evaluation only.
        seed: of the assignment of writers and tasks to a side.
        signals: how much each decision says (schema `signals`); without, every one says all. A choice made where
            people look anyway says less than one made where they seldom do: its pairs are weighted by the inverse of
            the propensity that its place is examined, relative to the least examined place (Wang et al. 2018), which
            `signals` bounds.
        tables: which labels are wanted; the others are left empty.
    """
    import duckdb

    with duckdb.connect(":memory:", config={"threads": 2}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("interactions", interactions)
        connection.register("signals", schema.SIGNALS.empty() if signals is None else signals)
        prepare(connection, held_out_share=held_out_share, seed=seed)
        found = {
            name: pa.concat_tables([schema.LAKE[name].empty(), *(pieces(connection, name) if name in tables else ())])
            for name in TABLES
        }
        set_aside = set_aside_of(connection)
    set_aside.pop(TAUGHT, None)
    return Labels(
        interactions=interactions.num_rows,
        **{name: rows.sort_by(schema.LAKE[name].key[0]) for name, rows in found.items()},
        set_aside=dict(set_aside),
    )


def prepare(connection: duckdb.DuckDBPyConnection, *, held_out_share: float, seed: int = 0) -> None:
    """Make the views from which labels are derived.

    Args:
        connection: in UTC, with the batch as the view `interactions`, and `signals`; see `derive`.
    """
    values = connection.sql(_VALUES).to_arrow_table()["value"].to_pylist()
    held_out = sorted(value for value in values if split_of(value, held_out_share, seed) is Split.HELD_OUT)
    connection.register("held_out", pa.table({"value": pa.array(held_out, pa.string())}))
    for query in (_SUPERSEDED, _WEIGHED, _DECISIONS):
        connection.execute(query)


def pieces(connection: duckdb.DuckDBPyConnection, table: str) -> Iterator[pa.Table]:
    """The labels of one table, a piece after the other: no more of the batch is held in memory, and read no more of it.

    Args:
        connection: see `prepare`.
    """
    for batch in connection.sql(_QUERIES[table]).to_arrow_reader(PIECE):
        rows = pa.table(batch)
        yield conform(_with_spans(rows) if table == schema.EDITS.name else rows, schema.LAKE[table])


def set_aside_of(connection: duckdb.DuckDBPyConnection) -> Counter[str]:
    """How many interactions teach nothing, by reason; `TAUGHT` is how many teach something.

    Args:
        connection: see `prepare`.
    """
    [(rows,)] = connection.execute("SELECT count(*) FROM interactions").fetchall()
    found = Counter({str(reason): int(count) for reason, count in connection.execute(_SET_ASIDE).fetchall()})
    assert found.total() == rows, "an interaction was lost by the derivation"
    return found


def _with_spans(rows: pa.Table) -> pa.Table:
    """Rows of `edits` from those that still have both texts."""
    texts = zip(*(rows[name].to_pylist() for name in ("before", "after")), strict=True)
    found = [(edits.changes(before, after), before) for before, after in texts]
    types = schema.EDITS.arrow
    columns: dict[str, list[Any]] = {
        "spans": [[span._asdict() for span in changed.spans] for changed, _ in found],
        "kept": [edits.kept(before, changed.spans) for changed, before in found],
        "exact": [changed.exact for changed, _ in found],
    }
    rows = rows.drop_columns(["before", "after"])
    for name, values in columns.items():
        rows = rows.append_column(name, pa.array(values, types.field(name).type))
    return rows


def split_of(value: str | None, share: float, seed: int) -> Split:
    """The side on which a writer or a task stands: by hash, so that it never changes as more data comes in."""
    if value is None:
        return Split.TRAIN
    drawn = int.from_bytes(hashlib.blake2b(f"split|{seed}|{value}".encode(), digest_size=8).digest()) / 2**64
    return Split.HELD_OUT if drawn < share else Split.TRAIN


_VALUES = """
SELECT DISTINCT employee AS value FROM interactions WHERE employee IS NOT NULL
UNION SELECT DISTINCT task_id FROM interactions WHERE task_id IS NOT NULL
"""

_SUPERSEDED = f"""
CREATE OR REPLACE TEMP TABLE superseded AS
SELECT event_id, later AS superseded_at FROM (
    SELECT event_id, lead(received_at) OVER (PARTITION BY suggestion_id ORDER BY {DECISION_ORDER}) AS later
    FROM interactions
) WHERE later IS NOT NULL
"""  # noqa: S608

# Each decision with what others say of it: its side, the time from which a later decision replaces it, its weight. The
# side is a matter of the row's own writer and task, so that no later row moves it; of an episode that has both sides
# after all (two people at one piece of work), evaluation leaves the held-out rows aside.
_WEIGHED = """
CREATE OR REPLACE TEMP VIEW weighed AS
SELECT i.*, employee IN (FROM held_out) OR coalesce(task_id IN (FROM held_out), false) AS is_held_out,
    superseded_at, coalesce(s.weight, 1.0) AS trusted,
    coalesce((SELECT min(examination) FROM signals) / s.examination, 1.0) AS inverse
FROM interactions i LEFT JOIN superseded USING (event_id) LEFT JOIN signals s USING (event_id)
"""

# The decisions that may teach. `others`: those over which the taken one is preferred.
_DECISIONS = r"""
CREATE OR REPLACE TEMP VIEW decisions AS
WITH sided AS (
    SELECT *,
        CASE WHEN is_held_out THEN 'held_out' ELSE 'train' END AS split,
        list_contains(purposes, CASE WHEN is_held_out THEN 'evaluation' ELSE 'training' END) AS consented,
        coalesce(regexp_matches(final_text, '\S'), false) AND NOT list_contains(reasons, 'edited_later') AS stands,
        list_filter(candidates, lambda c: c.position = chosen)[1] AS taken,
        consented AND decision IN ('accept', 'modify') AS teaches
    FROM weighed
)
SELECT *, teaches AND stands AS demonstrates,
    CASE WHEN teaches THEN list_filter(candidates, lambda c: c.position <> chosen AND c.text <> taken.text)
        ELSE [] END AS others,
    CASE WHEN consented AND decision = 'reject' THEN list_filter(candidates, lambda c, i: regexp_matches(c.text, '\S')
            AND list_position(list_transform(candidates, lambda d: d.text), c.text) = i)
        ELSE [] END AS dismissals,
    consented AND decision = 'modify' AND stands
        AND trim(regexp_replace(final_text, '\s+', ' ', 'g')) <> trim(regexp_replace(taken.text, '\s+', ' ', 'g'))
        AS is_edit
FROM sided
"""

SOURCE: Final = (
    "event_id, suggestion_id, day, workflow, employee, episode_id, task_id, split, trusted AS weight, received_at, "
    "superseded_at, batch"
)

_DEMONSTRATIONS = f"""
SELECT md5('demonstration|' || event_id) AS demonstration_id,
    CASE decision WHEN 'accept' THEN 'accepted' ELSE 'edited' END AS kind,
    prompt, final_text AS answer, {SOURCE}
FROM decisions WHERE demonstrates
"""  # noqa: S608

# One decision weighs one whole in each kind: a choice among five is four pairs of a quarter.
_PREFERENCES = f"""
WITH pairs AS (
    SELECT 'choice' AS kind, taken.text AS chosen_text, other.text AS rejected, taken.position AS chosen_position,
        other.position AS rejected_position, taken.logprob AS chosen_logprob, other.logprob AS rejected_logprob,
        * EXCLUDE (chosen, taken, other), inverse / len(others) AS share
    FROM (SELECT *, unnest(others) AS other FROM decisions)
    UNION ALL BY NAME
    SELECT 'edit' AS kind, final_text AS chosen_text, taken.text AS rejected,
        taken.position AS chosen_position, taken.position AS rejected_position,
        NULL::DOUBLE AS chosen_logprob, taken.logprob AS rejected_logprob,
        * EXCLUDE (chosen, taken), 1.0 AS share
    FROM decisions WHERE is_edit
)
SELECT md5('preference|' || event_id || '|' || kind || '|' || rejected_position) AS preference_id,
    kind, prompt, chosen_text AS chosen, rejected, chosen_position, rejected_position, chosen_logprob,
    rejected_logprob, {SOURCE.replace("trusted AS weight", "trusted * share AS weight")}
FROM pairs
"""  # noqa: S608

# Of texts that were shown twice the first counts. One decision weighs one whole here too.
_UNPAIRED = rf"""
WITH judged AS (
    SELECT 'desirable' AS label, final_text AS text, taken.position AS position, 1.0 AS share, *
    FROM decisions WHERE demonstrates AND decision = 'accept' AND taken IS NOT NULL
    UNION ALL BY NAME
    SELECT 'undesirable' AS label, dismissed.text AS text, dismissed.position AS position,
        1.0 / len(dismissals) AS share, * EXCLUDE (dismissed)
    FROM (SELECT *, unnest(dismissals) AS dismissed FROM decisions)
)
SELECT md5('unpaired|' || event_id || '|' || position) AS unpaired_id, label, prompt, text AS answer, position,
    {SOURCE.replace("trusted AS weight", "trusted * share AS weight")}
FROM judged
"""  # noqa: S608

_EDITS = f"""
SELECT md5('edit|' || event_id) AS edit_id, taken.position AS position, taken.text AS before, final_text AS after,
    {SOURCE}
FROM decisions WHERE demonstrates AND decision = 'modify' AND final_text <> taken.text
"""  # noqa: S608

_QUERIES: Final = {
    "demonstrations": _DEMONSTRATIONS,
    "preferences": _PREFERENCES,
    "unpaired": _UNPAIRED,
    "edits": _EDITS,
}

_SET_ASIDE = f"""
SELECT CASE
        WHEN demonstrates OR is_edit OR len(others) > 0 OR len(dismissals) > 0 THEN '{TAUGHT}'
        WHEN NOT consented THEN 'no consent to ' || CASE split WHEN 'train' THEN 'training' ELSE 'evaluation' END
        WHEN decision = 'ignore' THEN 'ignored'
        WHEN decision = 'reject' THEN 'rejected: nothing legible was shown'
        WHEN list_contains(reasons, 'edited_later') THEN 'edited later: what stands in the end is not known'
        ELSE 'deleted: nothing stands and nothing else was shown'
    END AS reason, count(*)
FROM decisions
GROUP BY reason
"""  # noqa: S608
