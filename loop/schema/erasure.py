"""The tables of what was erased, and of what had been learned from it; in Postgres."""

from __future__ import annotations

from typing import Final

from loop.schema.base import INT, REAL, TEXT, TIME, Column, Privacy, Store, Table

ERASURES: Final = Table(
    name="erasures",
    store=Store.STATE,
    row="one row per erasure of a person or of an interaction: who asked for it and why, and how far it is",
    key=("erasure_id",),
    columns=(
        Column("erasure_id", TEXT, "names the erasure"),
        Column("kind", TEXT, "employee or interaction"),
        Column("subject", TEXT, "keyed hash of the id that was given, which is kept nowhere", Privacy.PSEUDONYM),
        Column("reason", TEXT, "why; it may not name the person"),
        Column("author", TEXT, "who asked for it"),
        Column("asked_at", TIME, "when"),
        Column("stage", TEXT, "the last stage that is done; after a kill it goes on behind it"),
        Column("finished_at", TIME, "when it was done and verified", nullable=True),
        Column("report", TEXT, "JSON: what was removed where, in numbers", nullable=True),
    ),
    index=(("subject",),),
)

TAINTS: Final = Table(
    name="taints",
    store=Store.STATE,
    row="one row per model version that learned from a row that was erased since, itself or through an ancestor",
    key=("version",),
    columns=(
        Column("version", TEXT, "the model version"),
        Column("rows", INT, "rows of its own training set that were erased since"),
        Column("of", INT, "rows that its training set had"),
        Column("share", REAL, "rows / of; 0 where only an ancestor is tainted"),
        Column("ancestor", TEXT, "the nearest tainted version that it was trained from", nullable=True),
        Column("tagged_at", TIME, "when this was last found"),
    ),
)
