"""The tables of what decisions teach beside demonstrations and preferences, and of what was made in their likeness."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from loop.schema.base import DAY, FLAG, INT, REAL, SHORT, TEXT, TEXTS, TIME, Column, Privacy, Store, Table
from loop.schema.lake import MESSAGES, SOURCE_OF_LABEL

SPANS: Final = pa.list_(
    pa.struct(
        [
            pa.field("op", TEXT),
            pa.field("start", SHORT),
            pa.field("end", SHORT),
            pa.field("final_start", SHORT),
            pa.field("final_end", SHORT),
            pa.field("removed", TEXT),
            pa.field("added", TEXT),
        ]
    )
)
"""What an edit changed: `op` is insert, delete or replace; `start` to `end` are characters (Unicode code points) of the
suggestion, `final_start` to `final_end` of the final text; between two spans both texts are the same."""

EDITS: Final = Table(
    name="edits",
    store=Store.LAKE,
    row="one row per suggestion that a person changed: which characters, and into what",
    key=("edit_id",),
    columns=(
        Column("edit_id", TEXT, "digest of the event"),
        Column("position", SHORT, "place of the candidate that was changed"),
        Column("spans", SPANS, "the changes in order; empty where the text came back as it was", Privacy.TEXT),
        Column("kept", REAL, "share of the suggestion's characters that still stand, 0 to 1"),
        Column("exact", FLAG, "false where the texts were too long to be aligned: one span for all that differs"),
        *SOURCE_OF_LABEL,
    ),
)

UNPAIRED: Final = Table(
    name="unpaired",
    store=Store.LAKE,
    row="one row per text of which is known whether it was good enough, and not what is better",
    key=("unpaired_id",),
    columns=(
        Column("unpaired_id", TEXT, "digest of the event and the position"),
        Column("label", TEXT, "desirable (taken as it was) or undesirable (dismissed, nothing taken in its place)"),
        Column("prompt", MESSAGES, "what the model was asked", Privacy.TEXT),
        Column("answer", TEXT, "the text", Privacy.TEXT),
        Column("position", SHORT, "its place among the candidates"),
        *SOURCE_OF_LABEL,
    ),
)

REWARDS: Final = Table(
    name="rewards",
    store=Store.LAKE,
    row="one row per late result of a text that was used: what it was worth in the end",
    key=("outcome_id",),
    columns=(
        Column("outcome_id", TEXT, "the outcome"),
        Column("name", TEXT, "what was observed: click, revenue, appeal_overturned"),
        Column("value", REAL, "how much of it, in the unit of its name"),
        Column("reward", REAL, "the same where more is better, its negative where less is"),
        Column("prompt", MESSAGES, "what the model was asked", Privacy.TEXT),
        Column("answer", TEXT, "the text that stood in the end", Privacy.TEXT),
        Column("observed_at", TIME, "when it was observed"),
        Column("known_at", TIME, "when it was received; a cycle reads up to its cut-off by it"),
        Column("matures_at", TIME, "end of the attribution window: before it more results of the text may come"),
        *SOURCE_OF_LABEL,
    ),
)

SYNTHETIC: Final = Table(
    name="synthetic",
    store=Store.LAKE,
    row="one row per answer that a model wrote to be learned from, where real answers are few; kept or dropped",
    key=("synthetic_id",),
    columns=(
        Column("synthetic_id", TEXT, "digest of the parent, the recipe and the answer"),
        Column("run", TEXT, "digest of what it was made in: recipe, slice, time"),
        Column("slice", TEXT, "where real answers are few, as region=apac"),
        Column("prompt", MESSAGES, "what the model was asked: the parent's", Privacy.TEXT),
        Column("answer", TEXT, "what it wrote", Privacy.TEXT),
        Column("model_version", TEXT, "the model that wrote it"),
        Column("recipe", TEXT, "JSON: how it was made and what it had to pass"),
        Column("score", REAL, "what the scorer gave it; null where there was none", nullable=True),
        Column("status", TEXT, "kept or dropped"),
        Column("reasons", TEXTS, "why it was dropped; empty where it was kept"),
        *SOURCE_OF_LABEL,
    ),
)

ABLATIONS: Final = Table(
    name="ablations",
    store=Store.LAKE,
    row="one row per run of synthesis: what its rows change for a cheap proxy, with them and without, on held-out rows",
    key=("run",),
    columns=(
        Column("run", TEXT, "the run of synthesis"),
        Column("day", DAY, "day of the run; the partition"),
        Column("workflow", TEXT, "ads, moderation, design or comms; the partition"),
        Column("proxy", TEXT, "what was trained twice, and the measure"),
        Column("rows", INT, "synthetic rows that were kept"),
        Column("real_rows", INT, "real rows trained on, both times"),
        Column("held_out_rows", INT, "real rows measured on"),
        Column("people", INT, "whose rows these are; the interval is over people"),
        Column(
            "score_without", REAL, "the measure without the synthetic rows; null where it was not taken", nullable=True
        ),
        Column("score_with", REAL, "with them", nullable=True),
        Column("gain", REAL, "how much better with them", nullable=True),
        Column("low", REAL, "lower end of the 95 % interval of the gain", nullable=True),
        Column("high", REAL, "upper end", nullable=True),
        Column("helps", FLAG, "whether the lower end is above 0: only then are the rows learned from"),
        Column("measured_at", TIME, "when"),
    ),
)
