"""Every table of the loop, defined once.

Arrow schemas, Postgres tables, the wire format of an event, batch suites and the table reference in docs/ are all made
from the definitions here. A column is added here and nowhere else. No logic of any stage belongs here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from functools import cached_property
from typing import Final

import pyarrow as pa


class Privacy(StrEnum):
    """What a column may reveal about a person; erasure and export follow it."""

    NONE = "none"
    PSEUDONYM = "pseudonym"
    """A keyed hash that stands for one employee."""
    TEXT = "text"
    """Free text that people wrote or read; may hold personal data."""


class Origin(StrEnum):
    """Who supplies the value of a column of `interactions`."""

    CLIENT = "client"
    """Part of the event as a tool sends it."""
    EDGE = "edge"
    """Made where the event enters: the pseudonym, the time of receipt, digests."""


class Decision(StrEnum):
    """What a person did with a suggestion."""

    ACCEPT = "accept"
    MODIFY = "modify"
    REJECT = "reject"
    IGNORE = "ignore"


class BatchStatus(StrEnum):
    """The verdict on one attempt at one day and workflow."""

    ACCEPTED = "accepted"
    HELD = "held"
    OVERRIDDEN = "overridden"


class Split(StrEnum):
    """The side of the wall on which a person's whole sessions stand."""

    TRAIN = "train"
    HELD_OUT = "held_out"


FIRST_DAY: Final = date(2021, 1, 1)
"""The first day that data can be of: where the partitions begin."""

WORKFLOWS: Final = ("ads", "moderation", "design", "comms")
"""The workflows that partition the data, in the order in which they are shown."""


class Store(StrEnum):
    LAKE = "lake"
    """A Delta table, partitioned by day and workflow."""
    STATE = "state"
    """A Postgres table: small, transactional, changing row by row."""


@dataclass(frozen=True)
class Column:
    """One column: what it is called, what it holds, and what it may reveal."""

    name: str
    type: pa.DataType
    meaning: str
    privacy: Privacy = Privacy.NONE
    nullable: bool = False
    origin: Origin = Origin.EDGE


@dataclass(frozen=True)
class Table:
    """One table. `row` says what one row stands for; `key` is unique (within a partition, for the lake)."""

    name: str
    store: Store
    row: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    index: tuple[tuple[str, ...], ...] = field(default=())

    @cached_property
    def arrow(self) -> pa.Schema:
        """The Arrow schema, meanings attached as field metadata."""
        return pa.schema(
            [pa.field(c.name, c.type, nullable=c.nullable, metadata={"meaning": c.meaning}) for c in self.columns]
        )

    def empty(self) -> pa.Table:
        return self.arrow.empty_table()


_TEXT = pa.string()
_TIME = pa.timestamp("us", tz="UTC")
_DAY = pa.date32()
_INT = pa.int64()
_SHORT = pa.int32()
_REAL = pa.float64()
_FLAG = pa.bool_()
_TEXTS = pa.list_(_TEXT)

MESSAGES: Final = pa.list_(pa.struct([pa.field("role", _TEXT), pa.field("content", _TEXT)]))
"""A conversation: `[{"role": "user", "content": "..."}]`."""

CANDIDATES: Final = pa.list_(
    pa.struct([pa.field("position", _SHORT), pa.field("text", _TEXT), pa.field("logprob", _REAL)])
)
"""What was shown: place on the screen from 0, the text, and its log-probability in nats where known, else null."""


def _client(
    name: str, type_: pa.DataType, meaning: str, *, nullable: bool = False, privacy: Privacy = Privacy.NONE
) -> Column:
    return Column(name, type_, meaning, privacy, nullable, Origin.CLIENT)


_DAY_COLUMN = Column("day", _DAY, "UTC date on which the suggestion was shown; the partition")
_WORKFLOW = Column("workflow", _TEXT, "ads, moderation, design or comms; the partition")
_BATCH = Column("batch", _TEXT, "content digest of the batch (day and workflow) that the row came from")

INTERACTIONS: Final = Table(
    name="interactions",
    store=Store.LAKE,
    row="one row per decision that a person took on a suggestion",
    key=("event_id",),
    columns=(
        _client("event_id", _TEXT, "the client's key: sent again it is the same event"),
        _client("suggestion_id", _TEXT, "the suggestion that was decided on"),
        _client("revises", _TEXT, "event_id of the earlier decision on the same suggestion", nullable=True),
        _client("episode_id", _TEXT, "the piece of work, which may take several suggestions", nullable=True),
        _client("turn", _SHORT, "place of the suggestion in its episode, from 0", nullable=True),
        _client("task_id", _TEXT, "what the work was about (essay prompt, brief); never split", nullable=True),
        _client("workflow", _TEXT, "ads, moderation, design or comms; the partition"),
        _DAY_COLUMN,
        _client("shown_at", _TIME, "when the candidates appeared"),
        _client("decided_at", _TIME, "when the person decided; null when ignored or the clock ran back", nullable=True),
        _client("received_at", _TIME, "when the decision was first received; a cycle reads up to its cut-off by it"),
        _client("employee", _TEXT, "pseudonym: keyed hash of the employee's id", privacy=Privacy.PSEUDONYM),
        _client("team", _TEXT, "the employee's team", nullable=True),
        _client("region", _TEXT, "the employee's region", nullable=True),
        _client("visibility", _TEXTS, "audiences that this text may not reach"),
        _client("prompt", MESSAGES, "what the model was asked", privacy=Privacy.TEXT),
        _client("candidates", CANDIDATES, "what was shown, in order of position", privacy=Privacy.TEXT),
        _client("model_version", _TEXT, "the model that wrote the candidates"),
        _client("arm_propensity", _REAL, "probability with which this model version served", nullable=True),
        _client("order_propensity", _REAL, "probability of this order of the candidates", nullable=True),
        _client("decision", _TEXT, "accept, modify, reject or ignore"),
        _client(
            "chosen", _SHORT, "position of the candidate that was taken; null for reject and ignore", nullable=True
        ),
        _client("final_text", _TEXT, "what stood in the end; empty if deleted", nullable=True, privacy=Privacy.TEXT),
        _client("reasons", _TEXTS, "reason tags that the person or the source gave"),
        _client("dwell_ms", _INT, "milliseconds from shown to decided", nullable=True),
        _client("purposes", _TEXTS, "what the person consented to: training, evaluation"),
        Column("source", _TEXT, "where the event came in: jsonl, coauthor, simulated"),
        Column("content", _TEXT, "digest of the event's content; equal content is a duplicate"),
        Column("batch", _TEXT, "content digest of this batch; the verdict on it stands in batches"),
    ),
)

QUARANTINE: Final = Table(
    name="quarantine",
    store=Store.LAKE,
    row="one row per event that broke the contract, kept whole with its reasons",
    key=("quarantine_id",),
    columns=(
        Column("quarantine_id", _TEXT, "digest of the raw row, its reasons and where it came from"),
        Column("event_id", _TEXT, "the client's key, where it could be read", nullable=True),
        Column("day", _DAY, "the partition: day shown, or the day of import where none could be read"),
        Column("workflow", _TEXT, "the partition: the workflow, or 'unplaced' where none could be read"),
        Column("source", _TEXT, "where the row came in"),
        Column("path", _TEXT, "file name of the source"),
        Column("line", _INT, "line or record in the source, from 1"),
        Column("reasons", _TEXTS, "machine-readable reasons, the first is the main one"),
        Column("explanation", _TEXT, "what was expected and what came"),
        Column("raw", _TEXT, "the row as it came (undecodable bytes escaped)", Privacy.TEXT),
        Column("received_at", _TIME, "when it came in"),
    ),
)
UNPLACED: Final = "unplaced"
"""The workflow of quarantined rows that name none."""

_SOURCE_OF_LABEL = (
    Column("event_id", _TEXT, "the decision it was derived from"),
    Column("suggestion_id", _TEXT, "the suggestion that was decided on"),
    _DAY_COLUMN,
    _WORKFLOW,
    Column("employee", _TEXT, "pseudonym of who decided", Privacy.PSEUDONYM),
    Column("episode_id", _TEXT, "the piece of work", nullable=True),
    Column("task_id", _TEXT, "what the work was about", nullable=True),
    Column("split", _TEXT, "train or held_out; whole sessions stand on one side"),
    Column("weight", _REAL, "trust in the label, 0 to 1"),
    Column("received_at", _TIME, "when the decision was received"),
    Column("superseded_at", _TIME, "when a later decision on the same suggestion was received", nullable=True),
    _BATCH,
)

DEMONSTRATIONS: Final = Table(
    name="demonstrations",
    store=Store.LAKE,
    row="one row per answer that a person let stand or wrote",
    key=("demonstration_id",),
    columns=(
        Column("demonstration_id", _TEXT, "digest of the event and the kind"),
        Column("kind", _TEXT, "accepted (verbatim) or edited"),
        Column("prompt", MESSAGES, "what the model was asked", Privacy.TEXT),
        Column("answer", _TEXT, "the text that stood in the end", Privacy.TEXT),
        *_SOURCE_OF_LABEL,
    ),
)

PREFERENCES: Final = Table(
    name="preferences",
    store=Store.LAKE,
    row="one row per pair of texts of which a person preferred one",
    key=("preference_id",),
    columns=(
        Column("preference_id", _TEXT, "digest of the event, the kind and the rejected position"),
        Column("kind", _TEXT, "edit (final text over the suggestion) or choice (taken over shown beside it)"),
        Column("prompt", MESSAGES, "what the model was asked", Privacy.TEXT),
        Column("chosen", _TEXT, "the preferred text", Privacy.TEXT),
        Column("rejected", _TEXT, "the other text", Privacy.TEXT),
        Column("chosen_position", _SHORT, "place of the taken candidate"),
        Column("rejected_position", _SHORT, "place of the other candidate"),
        Column("chosen_logprob", _REAL, "log-probability of the taken candidate when served, nats", nullable=True),
        Column("rejected_logprob", _REAL, "log-probability of the other candidate when served, nats", nullable=True),
        *_SOURCE_OF_LABEL,
    ),
)

BENCHMARK: Final = Table(
    name="benchmark",
    store=Store.LAKE,
    row="one row per held-out prompt on which challenger and champion are compared",
    key=("item_id",),
    columns=(
        Column("item_id", _TEXT, "digest of the prompt"),
        Column("day", _DAY, "day on which the item was added; the partition"),
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
        Column("comparison_id", _TEXT, "digest of cycle, attempt, item and both models"),
        Column("day", _DAY, "the cycle; the partition"),
        _WORKFLOW,
        Column("item_id", _TEXT, "the benchmark item"),
        Column("prompt", MESSAGES, "what both were asked", Privacy.TEXT),
        Column("left", _TEXT, "the answer shown first", Privacy.TEXT),
        Column("right", _TEXT, "the answer shown second", Privacy.TEXT),
        Column("challenger_side", _TEXT, "left or right; hidden from whoever answers"),
        Column("challenger", _TEXT, "model version"),
        Column("champion", _TEXT, "model version"),
    ),
)

LANDINGS: Final = Table(
    name="landings",
    store=Store.STATE,
    row="one row per file in the landing area; a file without a row here is not visible",
    key=("landing_id",),
    columns=(
        Column("landing_id", _TEXT, "digest of the file's rows"),
        Column("kind", _TEXT, "events or rejects"),
        Column("source", _TEXT, "jsonl, coauthor, simulated"),
        Column("day", _DAY, "the partition that its rows belong to"),
        Column("workflow", _TEXT, "the partition that its rows belong to"),
        Column("path", _TEXT, "below the home"),
        Column("rows", _INT, "number of rows in the file"),
        Column("landed_at", _TIME, "when it became visible"),
    ),
    index=(("day", "workflow"),),
)

EVENT_INDEX: Final = Table(
    name="event_index",
    store=Store.STATE,
    row="one row per event id ever landed, and per row ever set aside, so that a second coming is known",
    key=("event_id",),
    columns=(
        Column("event_id", _TEXT, "the client's key, or the quarantine_id of a row that was set aside"),
        Column("content", _TEXT, "digest of its content"),
        Column("landing_id", _TEXT, "the file that holds it"),
    ),
)

BATCHES: Final = Table(
    name="batches",
    store=Store.STATE,
    row="one row per verdict on a day and workflow; the last attempt counts",
    key=("day", "workflow", "attempt"),
    columns=(
        Column("day", _DAY, "the partition"),
        Column("workflow", _TEXT, "the partition"),
        Column("attempt", _INT, "from 1"),
        Column("digest", _TEXT, "digest of the batch's content"),
        Column("status", _TEXT, "accepted, held or overridden"),
        Column("rows", _INT, "rows in interactions"),
        Column("quarantined", _INT, "rows set aside"),
        Column("reasons", _TEXTS, "what failed, or why it was overridden"),
        Column("author", _TEXT, "the check, or the person who overrode it"),
        Column("run_id", _TEXT, "the Dagster run", nullable=True),
        Column("decided_at", _TIME, "when"),
    ),
)

TRAINING_SETS: Final = Table(
    name="training_sets",
    store=Store.STATE,
    row="one row per training set frozen for a cycle's attempt",
    key=("cycle", "attempt"),
    columns=(
        Column("cycle", _DAY, "the learning cycle"),
        Column("attempt", _INT, "from 1"),
        Column("digest", _TEXT, "Merkle root over the salted hashes of its rows"),
        Column("cutoff", _TIME, "only events received before it were read"),
        Column("demonstrations", _INT, "rows"),
        Column("preferences", _INT, "rows"),
        Column("table_versions", _TEXT, "JSON: the Delta version of each table that was read"),
        Column("path", _TEXT, "below the home"),
        Column("frozen_at", _TIME, "when"),
    ),
)

MODELS: Final = Table(
    name="models",
    store=Store.STATE,
    row="one row per model version",
    key=("version",),
    columns=(
        Column("version", _TEXT, "names the model everywhere"),
        Column("parent", _TEXT, "the version it was trained from", nullable=True),
        Column("cycle", _DAY, "the learning cycle that made it"),
        Column("training_digest", _TEXT, "digest of the training set, or of a base's corpus", nullable=True),
        Column("recipe", _TEXT, "JSON: methods, steps, rates"),
        Column("seed", _INT, "of every random choice in training"),
        Column("code", _TEXT, "version of the code"),
        Column("weights_digest", _TEXT, "SHA-256 of the safetensors file"),
        Column("path", _TEXT, "below the home"),
        Column("mlflow_run", _TEXT, "the MLflow run", nullable=True),
        Column("created_at", _TIME, "when"),
    ),
)

EVALUATIONS: Final = Table(
    name="evaluations",
    store=Store.STATE,
    row="one row per evaluation of a cycle's challenger against the champion",
    key=("cycle", "attempt"),
    columns=(
        Column("cycle", _DAY, "the learning cycle"),
        Column("attempt", _INT, "from 1"),
        Column("challenger", _TEXT, "model version"),
        Column("champion", _TEXT, "model version"),
        Column("evidence", _TEXT, "JSON: every figure that is known; null where not measured"),
        Column("evaluated_at", _TIME, "when"),
    ),
)

RELEASES: Final = Table(
    name="releases",
    store=Store.STATE,
    row="one row per release decision; the champion as of a day is read from here",
    key=("cycle", "attempt"),
    columns=(
        Column("cycle", _DAY, "the learning cycle"),
        Column(
            "attempt", _INT, "from 1; at most one attempt of a cycle is live, and none that comes after a later cycle"
        ),
        Column("challenger", _TEXT, "model version", nullable=True),
        Column("champion_before", _TEXT, "model version that served when the cycle began", nullable=True),
        Column("decision", _TEXT, "base (first champion), promoted or refused"),
        Column("reasons", _TEXTS, "why, one sentence each"),
        Column("evidence", _TEXT, "JSON: the figures that the gate read"),
        Column("live", _FLAG, "whether it moved the alias champion"),
        Column("author", _TEXT, "the gate, or a person"),
        Column("run_id", _TEXT, "the Dagster run", nullable=True),
        Column("decided_at", _TIME, "when"),
    ),
)

ANSWERS: Final = Table(
    name="answers",
    store=Store.STATE,
    row="one row per answer of a panel member to a comparison",
    key=("comparison_id", "employee"),
    columns=(
        Column("comparison_id", _TEXT, "the side-by-side"),
        Column("employee", _TEXT, "pseudonym", Privacy.PSEUDONYM),
        Column("choice", _TEXT, "left, right, tie or neither"),
        Column("answered_at", _TIME, "when"),
        Column("dwell_ms", _INT, "milliseconds taken", nullable=True),
    ),
)

TABLES: Final = {
    t.name: t
    for t in (
        INTERACTIONS,
        QUARANTINE,
        DEMONSTRATIONS,
        PREFERENCES,
        BENCHMARK,
        COMPARISONS,
        LANDINGS,
        EVENT_INDEX,
        BATCHES,
        TRAINING_SETS,
        MODELS,
        EVALUATIONS,
        RELEASES,
        ANSWERS,
    )
}
LAKE: Final = {n: t for n, t in TABLES.items() if t.store is Store.LAKE}
STATE: Final = {n: t for n, t in TABLES.items() if t.store is Store.STATE}
