"""The bulk tables: Delta tables partitioned by day and workflow."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from loop.schema.base import DAY, INT, REAL, SHORT, TEXT, TEXTS, TIME, Column, Origin, Privacy, Store, Table

MESSAGES: Final = pa.list_(pa.struct([pa.field("role", TEXT), pa.field("content", TEXT)]))
"""A conversation: `[{"role": "user", "content": "..."}]`."""

CANDIDATES: Final = pa.list_(
    pa.struct([pa.field("position", SHORT), pa.field("text", TEXT), pa.field("logprob", REAL)])
)
"""What was shown: place on the screen from 0, the text, and its log-probability in nats where known, else null."""


def _client(
    name: str, type_: pa.DataType, meaning: str, *, nullable: bool = False, privacy: Privacy = Privacy.NONE
) -> Column:
    return Column(name, type_, meaning, privacy, nullable, Origin.CLIENT)


_DAY_COLUMN = Column("day", DAY, "UTC date on which the suggestion was shown; the partition")
_WORKFLOW = Column("workflow", TEXT, "ads, moderation, design or comms; the partition")
_BATCH = Column("batch", TEXT, "content digest of the batch (day and workflow) that the row came from")

INTERACTIONS: Final = Table(
    name="interactions",
    store=Store.LAKE,
    row="one row per decision that a person took on a suggestion",
    key=("event_id",),
    columns=(
        _client("event_id", TEXT, "the client's key: sent again it is the same event"),
        _client("suggestion_id", TEXT, "the suggestion that was decided on"),
        _client("revises", TEXT, "event_id of the earlier decision on the same suggestion", nullable=True),
        _client("episode_id", TEXT, "the piece of work, which may take several suggestions", nullable=True),
        _client("turn", SHORT, "place of the suggestion in its episode, from 0", nullable=True),
        _client("task_id", TEXT, "what the work was about (essay prompt, brief); never split", nullable=True),
        _client("workflow", TEXT, "ads, moderation, design or comms; the partition"),
        _DAY_COLUMN,
        _client("shown_at", TIME, "when the candidates appeared"),
        _client("decided_at", TIME, "when the person decided; null when ignored or the clock ran back", nullable=True),
        _client("received_at", TIME, "when the decision was first received; a cycle reads up to its cut-off by it"),
        _client("employee", TEXT, "pseudonym: keyed hash of the employee's id", privacy=Privacy.PSEUDONYM),
        _client("team", TEXT, "the employee's team", nullable=True),
        _client("region", TEXT, "the employee's region", nullable=True),
        _client("visibility", TEXTS, "audiences that this text may not reach"),
        _client("prompt", MESSAGES, "what the model was asked", privacy=Privacy.TEXT),
        _client("candidates", CANDIDATES, "what was shown, in order of position", privacy=Privacy.TEXT),
        _client("model_version", TEXT, "the model that wrote the candidates"),
        _client("arm_propensity", REAL, "probability with which this model version served", nullable=True),
        _client("order_propensity", REAL, "probability of this order of the candidates", nullable=True),
        _client("decision", TEXT, "accept, modify, reject or ignore"),
        _client("chosen", SHORT, "position of the candidate that was taken; null for reject and ignore", nullable=True),
        _client("final_text", TEXT, "what stood in the end; empty if deleted", nullable=True, privacy=Privacy.TEXT),
        _client("reasons", TEXTS, "reason tags that the person or the source gave"),
        _client("dwell_ms", INT, "milliseconds from shown to decided", nullable=True),
        _client("purposes", TEXTS, "what the person consented to: training, evaluation"),
        Column(
            "source",
            TEXT,
            "where the event came in: gateway, jsonl, coauthor, cups, otel, langfuse, mlflow or simulated",
        ),
        Column("content", TEXT, "digest of the event's content; equal content is a duplicate"),
        Column(
            "batch",
            TEXT,
            "content digest of the batch that was made of the row with others of its day and workflow, on which the "
            "verdict stands in batches; empty while the row waits for that",
        ),
    ),
)
DECISION_ORDER: Final = "received_at, revises IS NOT NULL, decided_at NULLS LAST, event_id"
"""SQL over `interactions`: the order of the decisions on one suggestion, of which the last counts."""

QUARANTINE: Final = Table(
    name="quarantine",
    store=Store.LAKE,
    row="one row per event that broke the contract, kept whole with its reasons",
    key=("quarantine_id",),
    columns=(
        Column("quarantine_id", TEXT, "digest of the raw row, its reasons and where it came from"),
        Column("event_id", TEXT, "the client's key, where it could be read", nullable=True),
        Column("day", DAY, "the partition: day shown, or the day of import where none could be read"),
        Column("workflow", TEXT, "the partition: the workflow, or 'unplaced' where none could be read"),
        Column("source", TEXT, "where the row came in"),
        Column("path", TEXT, "file name of the source"),
        Column("line", INT, "line or record in the source, from 1"),
        Column("reasons", TEXTS, "machine-readable reasons, the first is the main one"),
        Column("explanation", TEXT, "what was expected and what came"),
        Column("raw", TEXT, "the row as it came (undecodable bytes escaped, personal data masked)", Privacy.TEXT),
        Column("received_at", TIME, "when it came in"),
    ),
)
UNPLACED: Final = "unplaced"
"""The workflow of quarantined rows that name none."""

SOURCE_OF_LABEL: Final = (
    Column("event_id", TEXT, "the decision it was derived from"),
    Column("suggestion_id", TEXT, "the suggestion that was decided on"),
    _DAY_COLUMN,
    _WORKFLOW,
    Column("employee", TEXT, "pseudonym of who decided", Privacy.PSEUDONYM),
    Column("episode_id", TEXT, "the piece of work", nullable=True),
    Column("task_id", TEXT, "what the work was about", nullable=True),
    Column("split", TEXT, "train or held_out; whole sessions stand on one side"),
    Column("weight", REAL, "trust in the label, 0 to 1", Privacy.CONDUCT),
    Column("received_at", TIME, "when the decision was received"),
    Column("superseded_at", TIME, "when a later decision on the same suggestion was received", nullable=True),
    _BATCH,
)

DEMONSTRATIONS: Final = Table(
    name="demonstrations",
    store=Store.LAKE,
    row="one row per answer that a person let stand or wrote",
    key=("demonstration_id",),
    columns=(
        Column("demonstration_id", TEXT, "digest of the event and the kind"),
        Column(
            "kind", TEXT, "accepted (verbatim), edited; in training sets also rewritten (by an annotator), synthetic"
        ),
        Column("prompt", MESSAGES, "what the model was asked", Privacy.TEXT),
        Column("answer", TEXT, "the text that stood in the end", Privacy.TEXT),
        *SOURCE_OF_LABEL,
    ),
)

PREFERENCES: Final = Table(
    name="preferences",
    store=Store.LAKE,
    row="one row per pair of texts of which a person preferred one",
    key=("preference_id",),
    columns=(
        Column("preference_id", TEXT, "digest of the event, the kind and the rejected position"),
        Column(
            "kind",
            TEXT,
            "edit (final text over the suggestion), choice (taken over shown beside it); in training sets also judged "
            "(by annotators), rewritten (an annotator's text over the suggestion)",
        ),
        Column("prompt", MESSAGES, "what the model was asked", Privacy.TEXT),
        Column("chosen", TEXT, "the preferred text", Privacy.TEXT),
        Column("rejected", TEXT, "the other text", Privacy.TEXT),
        Column("chosen_position", SHORT, "place of the taken candidate"),
        Column("rejected_position", SHORT, "place of the other candidate"),
        Column("chosen_logprob", REAL, "log-probability of the taken candidate when served, nats", nullable=True),
        Column("rejected_logprob", REAL, "log-probability of the other candidate when served, nats", nullable=True),
        *SOURCE_OF_LABEL,
    ),
)

BENCHMARK: Final = Table(
    name="benchmark",
    store=Store.LAKE,
    row="one row per held-out prompt on which challenger and champion are compared",
    key=("item_id",),
    columns=(
        Column("item_id", TEXT, "digest of the prompt"),
        Column("day", DAY, "day on which the item was added; the partition"),
        _WORKFLOW,
        Column("prompt", MESSAGES, "what the models are asked", Privacy.TEXT),
    ),
)

COMPARISONS: Final = Table(
    name="comparisons",
    store=Store.LAKE,
    row="one row per blind side-by-side of challenger and champion on a held-out prompt",
    key=("comparison_id",),
    columns=(
        Column("comparison_id", TEXT, "digest of cycle, attempt, item and both models"),
        Column("day", DAY, "the cycle; the partition"),
        _WORKFLOW,
        Column("item_id", TEXT, "the benchmark item"),
        Column("prompt", MESSAGES, "what both were asked", Privacy.TEXT),
        Column("left", TEXT, "the answer shown first", Privacy.TEXT),
        Column("right", TEXT, "the answer shown second", Privacy.TEXT),
        Column("challenger_side", TEXT, "left or right; hidden from whoever answers"),
        Column("challenger", TEXT, "model version"),
        Column("champion", TEXT, "model version"),
    ),
)

OUTCOMES: Final = Table(
    name="outcomes",
    store=Store.LAKE,
    row="one row per late result of a suggestion (a click, revenue, an appeal), put down to the decision on it",
    key=("outcome_id",),
    columns=(
        Column("outcome_id", TEXT, "the client's key: sent again it is the same outcome"),
        Column("suggestion_id", TEXT, "the suggestion whose use had this result"),
        Column(
            "event_id",
            TEXT,
            "the last decision on the suggestion, if the outcome came inside the workflow's attribution window",
            nullable=True,
        ),
        _DAY_COLUMN,
        _WORKFLOW,
        Column("name", TEXT, "what was observed: click, revenue, appeal_overturned"),
        Column("value", REAL, "how much of it, in the unit of its name"),
        Column("observed_at", TIME, "when it was observed"),
        Column("received_at", TIME, "when it was received; a cycle reads up to its cut-off by it"),
        Column("source", TEXT, "where it came in: gateway"),
        Column("content", TEXT, "digest of its content; equal content is a duplicate"),
    ),
)

SIGNALS: Final = Table(
    name="signals",
    store=Store.LAKE,
    row="one row per interaction: how much its feedback says; for weighting data, never for judging staff",
    key=("event_id",),
    columns=(
        Column("event_id", TEXT, "the decision"),
        _DAY_COLUMN,
        _WORKFLOW,
        Column("weight", REAL, "0 says nothing, 1 nothing speaks against it", Privacy.CONDUCT),
        Column("reasons", TEXTS, "why the weight is low; empty where it is not", Privacy.CONDUCT),
        Column(
            "examination",
            REAL,
            "estimated propensity that the place that was taken is looked at, relative to the place most looked at; "
            "null where none was taken",
            nullable=True,
        ),
        _BATCH,
    ),
)

CONDUCT: Final = Table(
    name="conduct",
    store=Store.LAKE,
    row="one row per person and day: sums of what speaks for and against their decisions' saying anything",
    key=("employee",),
    columns=(
        Column("employee", TEXT, "pseudonym", Privacy.PSEUDONYM),
        _DAY_COLUMN,
        _WORKFLOW,
        Column(
            "trust",
            REAL,
            "1: nothing speaks against honest work as of that day, from the days up to it; 0: nothing for it",
            Privacy.CONDUCT,
        ),
        Column("statistics", pa.list_(REAL), "counts and log-likelihoods of the day, which add up", Privacy.CONDUCT),
        Column("words", pa.list_(SHORT), "buckets of words", Privacy.CONDUCT),
        Column("score", pa.list_(REAL), "how much more often than expected each was taken", Privacy.CONDUCT),
        Column("information", pa.list_(REAL), "variance of the score if none is a favourite", Privacy.CONDUCT),
        _BATCH,
    ),
)
