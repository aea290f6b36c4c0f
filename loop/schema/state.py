"""The small transactional tables, in Postgres."""

from __future__ import annotations

from typing import Final

from loop.schema.base import DAY, FLAG, INT, TEXT, TEXTS, TIME, Column, Privacy, Store, Table

LANDINGS: Final = Table(
    name="landings",
    store=Store.STATE,
    row="one row per file in the landing area; a file without a row here is not visible",
    key=("landing_id",),
    columns=(
        Column("landing_id", TEXT, "digest of the file's rows"),
        Column("kind", TEXT, "events or rejects"),
        Column("source", TEXT, "jsonl, coauthor, simulated"),
        Column("day", DAY, "the partition that its rows belong to"),
        Column("workflow", TEXT, "the partition that its rows belong to"),
        Column("path", TEXT, "below the home"),
        Column("rows", INT, "number of rows in the file"),
        Column("landed_at", TIME, "when it became visible"),
        Column(
            "lake_write",
            INT,
            "number of the write that takes its rows to the lake: it is there if the table's log "
            "has that number, or a later one, for the partition",
            nullable=True,
        ),
        Column(
            "rewarded",
            FLAG,
            "of outcomes: whether `rewards` were made of its rows; null of what is not outcomes",
            nullable=True,
        ),
    ),
    index=(("day", "workflow"), ("rewarded",)),
)

EVENT_INDEX: Final = Table(
    name="event_index",
    store=Store.STATE,
    row="one row per event id ever landed, and per row ever set aside, so that a second coming is known",
    key=("event_id",),
    columns=(
        Column("event_id", TEXT, "the client's key, or the quarantine_id of a row that was set aside"),
        Column("content", TEXT, "digest of its content"),
        Column("landing_id", TEXT, "the file that holds it"),
    ),
)

BATCHES: Final = Table(
    name="batches",
    store=Store.STATE,
    row="one row per verdict on a day and workflow; the last attempt counts",
    key=("day", "workflow", "attempt"),
    columns=(
        Column("day", DAY, "the partition"),
        Column("workflow", TEXT, "the partition"),
        Column("attempt", INT, "from 1"),
        Column("digest", TEXT, "digest of the batch's content"),
        Column("status", TEXT, "accepted, held or overridden"),
        Column("rows", INT, "rows in interactions"),
        Column("quarantined", INT, "rows set aside"),
        Column("reasons", TEXTS, "what failed, or why it was overridden"),
        Column("author", TEXT, "the check, or the person who overrode it"),
        Column("run_id", TEXT, "the Dagster run", nullable=True),
        Column("decided_at", TIME, "when"),
    ),
)

BUILDS: Final = Table(
    name="builds",
    store=Store.STATE,
    row="one row per day and workflow that was made from what has landed; compared with landings and batches, it tells "
    "what waits to be read or judged",
    key=("day", "workflow"),
    columns=(
        Column("day", DAY, "the partition"),
        Column("workflow", TEXT, "the partition"),
        Column("landed", INT, "landed events that were read"),
        Column("digest", TEXT, "digest of the batch's content"),
        Column("built_at", TIME, "when"),
    ),
)

TRAINING_SETS: Final = Table(
    name="training_sets",
    store=Store.STATE,
    row="one row per training set frozen for a cycle's attempt",
    key=("cycle", "attempt"),
    columns=(
        Column("cycle", DAY, "the learning cycle"),
        Column("attempt", INT, "from 1"),
        Column("digest", TEXT, "Merkle root over the salted hashes of its rows"),
        Column("cutoff", TIME, "only events received before it were read"),
        Column("demonstrations", INT, "rows"),
        Column("preferences", INT, "rows"),
        Column("table_versions", TEXT, "JSON: the Delta version of each table that was read"),
        Column("path", TEXT, "below the home"),
        Column("frozen_at", TIME, "when"),
    ),
)

MODELS: Final = Table(
    name="models",
    store=Store.STATE,
    row="one row per model version",
    key=("version",),
    columns=(
        Column("version", TEXT, "names the model everywhere"),
        Column("parent", TEXT, "the version it was trained from", nullable=True),
        Column("cycle", DAY, "the learning cycle that made it"),
        Column("training_digest", TEXT, "digest of the training set, or of a base's corpus", nullable=True),
        Column("recipe", TEXT, "JSON: methods, steps, rates"),
        Column("seed", INT, "of every random choice in training"),
        Column("code", TEXT, "version of the code"),
        Column("weights_digest", TEXT, "SHA-256 of the safetensors file"),
        Column("path", TEXT, "below the home"),
        Column("mlflow_run", TEXT, "the MLflow run", nullable=True),
        Column("created_at", TIME, "when"),
    ),
)

EVALUATIONS: Final = Table(
    name="evaluations",
    store=Store.STATE,
    row="one row per evaluation of a cycle's challenger against the champion",
    key=("cycle", "attempt"),
    columns=(
        Column("cycle", DAY, "the learning cycle"),
        Column("attempt", INT, "from 1"),
        Column("challenger", TEXT, "model version"),
        Column("champion", TEXT, "model version"),
        Column("evidence", TEXT, "JSON: every figure that is known; null where not measured"),
        Column("evaluated_at", TIME, "when"),
    ),
)

RELEASES: Final = Table(
    name="releases",
    store=Store.STATE,
    row="one row per release decision; the champion as of a day is read from here",
    key=("cycle", "attempt"),
    columns=(
        Column("cycle", DAY, "the learning cycle"),
        Column(
            "attempt", INT, "from 1; at most one attempt of a cycle is live, and none that comes after a later cycle"
        ),
        Column("challenger", TEXT, "model version", nullable=True),
        Column("champion_before", TEXT, "model version that served when the cycle began", nullable=True),
        Column("decision", TEXT, "base (first champion), promoted or refused"),
        Column("reasons", TEXTS, "why, one sentence each"),
        Column("evidence", TEXT, "JSON: the figures that the gate read"),
        Column("live", FLAG, "whether it moved the alias champion"),
        Column("author", TEXT, "the gate, or a person"),
        Column("run_id", TEXT, "the Dagster run", nullable=True),
        Column("decided_at", TIME, "when"),
    ),
)

ANSWERS: Final = Table(
    name="answers",
    store=Store.STATE,
    row="one row per answer of a panel member to a comparison",
    key=("comparison_id", "employee"),
    columns=(
        Column("comparison_id", TEXT, "the side-by-side"),
        Column("employee", TEXT, "pseudonym", Privacy.PSEUDONYM),
        Column("choice", TEXT, "left, right, tie or neither"),
        Column("answered_at", TIME, "when", Privacy.CONDUCT),
        Column("dwell_ms", INT, "milliseconds taken", Privacy.CONDUCT, nullable=True),
    ),
)

TOKENS: Final = Table(
    name="tokens",
    store=Store.STATE,
    row="one row per token with which a tool may speak to the gateway",
    key=("token_id",),
    columns=(
        Column("token_id", TEXT, "the public half of the token"),
        Column("tool", TEXT, "which tool holds it"),
        Column("secret_hash", TEXT, "SHA-256 of the secret half; the secret itself is shown once and never stored"),
        Column("workflows", TEXTS, "what it may speak of"),
        Column("scopes", TEXTS, "suggest, feedback, outcomes, admin, erase"),
        Column("purposes", TEXTS, "what its people consented to, where an event does not say: training, evaluation"),
        Column("per_minute", INT, "most requests a minute"),
        Column("created_at", TIME, "when"),
        Column("created_by", TEXT, "who made it"),
        Column("revoked_at", TIME, "when it ended", nullable=True),
        Column("revoked_by", TEXT, "who ended it", nullable=True),
    ),
)

AUDIT: Final = Table(
    name="audit",
    store=Store.STATE,
    row="one row per administrative act",
    key=("audit_id",),
    columns=(
        Column("audit_id", TEXT, "names the act"),
        Column("happened_at", TIME, "when"),
        Column("actor", TEXT, "who: a user of the machine, or a token's id"),
        Column("action", TEXT, "what: token.create, token.revoke, pseudonym.rotate"),
        Column("subject", TEXT, "to what"),
        Column("detail", TEXT, "JSON; never a secret, never a person"),
    ),
    index=(("happened_at",),),
)
