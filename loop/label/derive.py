"""What each decision honestly teaches, derived in bulk.

An accepted text that still stands is a demonstration, and so is what a person made of a suggestion; not one of which
the source says that it was changed later and not into what. A taken candidate
is preferred over each other one that was shown; an edited text over the suggestion it came from, unless only white
space was changed. A dismissed suggestion says that nothing shown was good enough, which is no preference between two
texts: it is counted, not invented.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pyarrow as pa

from loop import schema
from loop.lake import conform
from loop.schema import Split
from loop.schema.lake import DECISION_ORDER


@dataclass(frozen=True)
class Labels:
    """The labels of one batch. Every interaction taught something or stands in `set_aside` under one reason."""

    interactions: int
    demonstrations: pa.Table
    preferences: pa.Table
    set_aside: dict[str, int]

    @property
    def taught(self) -> int:
        return self.interactions - sum(self.set_aside.values())


def derive(interactions: pa.Table, *, held_out_share: float, seed: int = 0, signals: pa.Table | None = None) -> Labels:
    """Demonstrations and preferences of one batch.

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
    """
    import duckdb

    connection = duckdb.connect(":memory:")
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("interactions", interactions)
    connection.register("held_out", _held_out(interactions, held_out_share, seed))
    connection.register("signals", schema.SIGNALS.empty() if signals is None else signals)
    connection.execute(_DECISIONS)
    demonstrations = connection.sql(_DEMONSTRATIONS).to_arrow_table()
    preferences = connection.sql(_PREFERENCES).to_arrow_table()
    connection.register("d", demonstrations)
    connection.register("p", preferences)
    reasons = connection.execute(_SET_ASIDE).fetchall()
    labels = Labels(
        interactions=interactions.num_rows,
        demonstrations=conform(demonstrations, schema.DEMONSTRATIONS),
        preferences=conform(preferences, schema.PREFERENCES),
        set_aside={str(reason): int(count) for reason, count in reasons if reason != "taught"},
    )
    assert sum(count for _, count in reasons) == interactions.num_rows, "an interaction was lost by the derivation"
    return labels


def split_of(value: str | None, share: float, seed: int) -> Split:
    """The side on which a writer or a task stands: by hash, so that it never changes as more data comes in."""
    if value is None:
        return Split.TRAIN
    drawn = int.from_bytes(hashlib.blake2b(f"split|{seed}|{value}".encode(), digest_size=8).digest()) / 2**64
    return Split.HELD_OUT if drawn < share else Split.TRAIN


def _held_out(interactions: pa.Table, share: float, seed: int) -> pa.Table:
    values = {v for name in ("employee", "task_id") for v in interactions[name].unique().to_pylist()}
    held = sorted(v for v in values if split_of(v, share, seed) is Split.HELD_OUT)
    return pa.table({"value": pa.array(held, pa.string())})


# The decisions that may teach, each with its side and the time from which a later decision replaces it. The side is a
# matter of the row's own writer and task, so that no later row moves it; of an episode that has both sides after all
# (two people at one piece of work), evaluation leaves the held-out rows aside.
_DECISIONS = rf"""
CREATE TABLE decisions AS
WITH sided AS (
    SELECT *, employee IN (FROM held_out) OR coalesce(task_id IN (FROM held_out), false) AS is_held_out
    FROM interactions
), weighed AS (
    SELECT sided.*, coalesce(s.weight, 1.0) AS trusted, coalesce(least_seen.examination / s.examination, 1.0) AS inverse
    FROM sided LEFT JOIN signals s USING (event_id)
    CROSS JOIN (SELECT min(examination) AS examination FROM signals) AS least_seen
)
SELECT *,
    CASE WHEN is_held_out THEN 'held_out' ELSE 'train' END AS split,
    list_contains(purposes, CASE WHEN is_held_out THEN 'evaluation' ELSE 'training' END) AS consented,
    lead(received_at) OVER (PARTITION BY suggestion_id
        ORDER BY {DECISION_ORDER}) AS superseded_at,
    coalesce(regexp_matches(final_text, '\S'), false) AND NOT list_contains(reasons, 'edited_later') AS stands,
    list_filter(candidates, lambda c: c.position = chosen)[1] AS taken
FROM weighed
"""  # noqa: S608

_SOURCE = (
    "event_id, suggestion_id, day, workflow, employee, episode_id, task_id, split, trusted AS weight, received_at, "
    "superseded_at, batch"
)

_DEMONSTRATIONS = f"""
SELECT md5('demonstration|' || event_id) AS demonstration_id,
    CASE decision WHEN 'accept' THEN 'accepted' ELSE 'edited' END AS kind,
    prompt, final_text AS answer, {_SOURCE}
FROM decisions
WHERE consented AND decision IN ('accept', 'modify') AND stands
ORDER BY demonstration_id
"""  # noqa: S608

# One decision weighs one whole in each kind: a choice among five is four pairs of a quarter.
_PREFERENCES = rf"""
WITH others AS (
    SELECT *, unnest(list_filter(candidates, lambda c: c.position <> chosen AND c.text <> taken.text)) AS other
    FROM decisions WHERE consented AND decision IN ('accept', 'modify')
), pairs AS (
    SELECT 'choice' AS kind, prompt, taken.text AS chosen_text, other.text AS rejected,
        taken.position AS chosen_position, other.position AS rejected_position,
        taken.logprob AS chosen_logprob, other.logprob AS rejected_logprob,
        * EXCLUDE (prompt, chosen, taken, other),
        inverse / count(*) OVER (PARTITION BY event_id) AS share
    FROM others
    UNION ALL BY NAME
    SELECT 'edit' AS kind, prompt, final_text AS chosen_text, taken.text AS rejected,
        taken.position AS chosen_position, taken.position AS rejected_position,
        NULL::DOUBLE AS chosen_logprob, taken.logprob AS rejected_logprob,
        * EXCLUDE (prompt, chosen, taken), 1.0 AS share
    FROM decisions
    WHERE consented AND decision = 'modify' AND stands
        AND trim(regexp_replace(final_text, '\s+', ' ', 'g')) <> trim(regexp_replace(taken.text, '\s+', ' ', 'g'))
)
SELECT md5('preference|' || event_id || '|' || kind || '|' || rejected_position) AS preference_id,
    kind, prompt, chosen_text AS chosen, rejected, chosen_position, rejected_position, chosen_logprob,
    rejected_logprob, {_SOURCE.replace("trusted AS weight", "trusted * share AS weight")}
FROM pairs
ORDER BY preference_id
"""  # noqa: S608

_SET_ASIDE = """
WITH taught AS (SELECT event_id FROM d UNION SELECT event_id FROM p)
SELECT CASE
        WHEN taught.event_id IS NOT NULL THEN 'taught'
        WHEN NOT consented THEN 'no consent to ' || CASE split WHEN 'train' THEN 'training' ELSE 'evaluation' END
        WHEN decision = 'ignore' THEN 'ignored'
        WHEN decision = 'reject' THEN 'rejected: no preferred text'
        WHEN list_contains(reasons, 'edited_later') THEN 'edited later: what stands in the end is not known'
        ELSE 'deleted: nothing stands and nothing else was shown'
    END AS reason, count(*)
FROM decisions LEFT JOIN taught USING (event_id)
GROUP BY reason ORDER BY reason
"""
