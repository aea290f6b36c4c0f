"""The tables of what a day is compared with, and of what became of rows that were set aside; in Postgres."""

from __future__ import annotations

from typing import Final

from loop.schema.base import DAY, INT, TEXT, TEXTS, TIME, Column, Store, Table

PROFILES: Final = Table(
    name="profiles",
    store=Store.STATE,
    row="one row per day and workflow that was judged: its counts, against which later days are compared",
    key=("day", "workflow"),
    columns=(
        Column("day", DAY, "the partition"),
        Column("workflow", TEXT, "the partition"),
        Column("digest", TEXT, "digest of the batch that was counted"),
        Column("rows", INT, "rows in interactions"),
        Column("counts", TEXT, "JSON: decisions, lengths, languages, hashed words and n-grams, counted; no text"),
        Column("made_at", TIME, "when"),
    ),
)

RESOLUTIONS: Final = Table(
    name="resolutions",
    store=Store.STATE,
    row="one row per row that a person took out of quarantine, with the reason",
    key=("quarantine_id",),
    columns=(
        Column("quarantine_id", TEXT, "the row as it was set aside"),
        Column("event_id", TEXT, "the client's key, which a replayed row keeps", nullable=True),
        Column("day", DAY, "the partition of quarantine that it stood in"),
        Column("workflow", TEXT, "the partition of quarantine that it stood in"),
        Column("action", TEXT, "replayed (it has landed), duplicate (it had landed already) or dropped"),
        Column("corrected", TEXTS, "fields that were corrected"),
        Column("reason", TEXT, "why, in the author's words"),
        Column("author", TEXT, "who did it"),
        Column("resolved_at", TIME, "when"),
    ),
    index=(("day", "workflow"),),
)
