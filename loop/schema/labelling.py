"""The tables of labelling: what people are asked (in the lake), what they answer and who they are (in Postgres)."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from loop.schema.base import DAY, FLAG, INT, REAL, TEXT, TEXTS, TIME, Column, Privacy, Store, Table
from loop.schema.lake import MESSAGES

PROBABILITIES: Final = pa.list_(pa.struct([pa.field("label", TEXT), pa.field("probability", REAL)]))
"""A soft label: what may be true, with how much is believed of it. They add up to 1."""

LABEL_TASKS: Final = Table(
    name="label_tasks",
    store=Store.LAKE,
    row="one row per question that is put to annotators",
    key=("label_task_id",),
    columns=(
        Column("label_task_id", TEXT, "digest of what is asked, so that the same is asked once"),
        Column("day", DAY, "day of the decision that it came from, or of the import; the partition"),
        Column("workflow", TEXT, "ads, moderation, design or comms; the partition"),
        Column("kind", TEXT, "preference, rating, category, span, rewrite or red_team"),
        Column("prompt", MESSAGES, "what the model was asked; empty where a text stands alone", Privacy.TEXT),
        Column("texts", TEXTS, "what is judged: two texts for a preference, one else; none for red_team", Privacy.TEXT),
        Column("images", TEXTS, "references of images that are judged, beside the texts or instead of them"),
        Column("options", TEXTS, "labels to choose from: categories, points of the rubric, types of span"),
        Column("origin", TEXT, "decision, import, vendor, synthetic or benchmark"),
        Column(
            "reason",
            TEXT,
            "why it was chosen: random, disagreement, conflict, novelty, risk or slice; whose decisions conflict with "
            "what else is known is nobody's to read",
            Privacy.CONDUCT,
        ),
        Column("propensity", REAL, "probability with which it was chosen; null where nobody drew", nullable=True),
        Column("wanted", INT, "answers wanted, each from another person"),
        Column("harm", TEXT, "what to warn of before it is shown; null where nothing", nullable=True),
        Column("due_at", TIME, "answers that come later are kept and do not count", nullable=True),
        Column("event_id", TEXT, "the decision that it came from", nullable=True),
        Column("employee", TEXT, "pseudonym of who took that decision", Privacy.PSEUDONYM, nullable=True),
        Column("batch", TEXT, "content digest of the batch that the decision came from; empty where from none"),
        Column("selected_at", TIME, "when it was chosen"),
    ),
)

TASK_LABELS: Final = Table(
    name="task_labels",
    store=Store.LAKE,
    row="one row per answered task: what its answers say together, and how sure that is",
    key=("label_task_id",),
    columns=(
        Column("label_task_id", TEXT, "the task"),
        Column("day", DAY, "the task's; the partition"),
        Column("workflow", TEXT, "the task's; the partition"),
        Column("kind", TEXT, "the task's"),
        Column("label", TEXT, "the most probable"),
        Column("confidence", REAL, "its probability, 0 to 1"),
        Column("abstain", FLAG, "whether that is too little to be relied on: the task waits for adjudication"),
        Column("probabilities", PROBABILITIES, "what is believed of each label"),
        Column("answers", INT, "answers that count"),
        Column("method", TEXT, "the aggregation"),
        Column("aggregated_at", TIME, "when"),
    ),
)

ANNOTATORS: Final = Table(
    name="annotators",
    store=Store.STATE,
    row="one row per person or machine that answers label tasks",
    key=("annotator",),
    columns=(
        Column("annotator", TEXT, "pseudonym: keyed hash of the person's id", Privacy.PSEUDONYM),
        Column("source", TEXT, "page, studio, vendor, import, adjudication or function (a labelling function)"),
        Column("token_id", TEXT, "the public half of the token; null where there is no login", nullable=True),
        Column("secret_hash", TEXT, "SHA-256 of the token's secret half; null where there is no login", nullable=True),
        Column("workflows", TEXTS, "whose tasks the person is asked"),
        Column("kinds", TEXTS, "which kinds of task"),
        Column("harmful", FLAG, "whether the person agreed to see harmful texts"),
        Column("daily_minutes", INT, "most minutes of labelling a day"),
        Column("daily_harmful", INT, "most harmful texts a day"),
        Column("pay_per_hour", REAL, "what an hour is paid, in the currency of the setting", nullable=True),
        Column("joined_at", TIME, "when"),
        Column("joined_by", TEXT, "who asked the person in"),
        Column("removed_at", TIME, "from then on answers are refused", nullable=True),
        Column("removed_by", TEXT, "who ended it", nullable=True),
    ),
)

ANNOTATIONS: Final = Table(
    name="annotations",
    store=Store.STATE,
    row="one row per version of an annotator's answer to a task; never changed, the last version counts",
    key=("label_task_id", "annotator", "version"),
    columns=(
        Column("label_task_id", TEXT, "the task"),
        Column("annotator", TEXT, "pseudonym", Privacy.PSEUDONYM),
        Column("version", INT, "from 1; a later one replaces the earlier and does not delete it"),
        Column("day", DAY, "the task's partition"),
        Column("workflow", TEXT, "the task's partition"),
        Column("action", TEXT, "answer, skip or undo"),
        Column("label", TEXT, "first, second, tie or neither; a category; a rating", nullable=True),
        Column(
            "content", TEXT, "JSON: spans, a written text, an attempt with outcome and severity", Privacy.TEXT, True
        ),
        Column("reason", TEXT, "why it was skipped, or what the person adds", Privacy.TEXT, True),
        Column("swapped", FLAG, "whether the second text stood first on the person's page"),
        Column("counts", FLAG, "false where it came after the deadline or from nobody who may: kept, not counted"),
        Column("source", TEXT, "page, studio, vendor, import, adjudication or function"),
        Column("source_id", TEXT, "its id there, by which it is taken over once", nullable=True),
        # How fast somebody works is told by each of them: one answer begins where the one before ended.
        Column("shown_at", TIME, "when the task appeared", Privacy.CONDUCT, nullable=True),
        Column("answered_at", TIME, "when", Privacy.CONDUCT),
        Column(
            "recorded_at",
            TIME,
            "when it was stored here; a cycle reads up to its cut-off by it",
            Privacy.CONDUCT,
        ),
        Column("seconds", REAL, "time taken", Privacy.CONDUCT, nullable=True),
    ),
    index=(("day", "workflow"), ("annotator", "answered_at")),
)

GOLD: Final = Table(
    name="gold",
    store=Store.STATE,
    row="one row per version of the known answer of a task; never changed, the last version counts",
    key=("label_task_id", "version"),
    columns=(
        Column("label_task_id", TEXT, "the task"),
        Column("version", INT, "from 1"),
        Column("label", TEXT, "what is right; null where the task is gold no more", nullable=True),
        Column("hidden", FLAG, "whether it is put among the tasks to measure, unknown to whoever answers"),
        Column("reason", TEXT, "where the answer is known from, or why it was corrected"),
        Column("author", TEXT, "who said so"),
        Column("changed_at", TIME, "when"),
    ),
)

APPEALS: Final = Table(
    name="appeals",
    store=Store.STATE,
    row="one row per contest of a known answer by an annotator who was told to be wrong",
    key=("appeal_id",),
    columns=(
        Column("appeal_id", TEXT, "names the appeal"),
        Column("label_task_id", TEXT, "the gold task"),
        Column("annotator", TEXT, "pseudonym", Privacy.PSEUDONYM),
        Column("argument", TEXT, "why the known answer is wrong", Privacy.TEXT),
        Column("opened_at", TIME, "when"),
        Column("verdict", TEXT, "upheld (the gold was wrong) or dismissed; null while open", nullable=True),
        Column("answer", TEXT, "what the person was told", nullable=True),
        Column("closed_by", TEXT, "who decided", nullable=True),
        Column("closed_at", TIME, "when", nullable=True),
    ),
    index=(("label_task_id",),),
)
