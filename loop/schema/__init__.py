"""Every table of the loop, defined once.

Arrow schemas, Postgres tables, the wire format of an event, batch suites and the table reference in docs/ are all made
from the definitions here. A column is added here and nowhere else. No logic of any stage belongs here.
"""

from __future__ import annotations

from typing import Final

from loop.schema.base import (
    BUILT_IN,
    FIRST_DAY,
    WORKFLOWS,
    BatchStatus,
    Column,
    Decision,
    Origin,
    Privacy,
    Split,
    Store,
    Table,
)
from loop.schema.derived import ABLATIONS, EDITS, REWARDS, SPANS, SYNTHETIC, UNPAIRED
from loop.schema.erasure import ERASURES, TAINTS
from loop.schema.labelling import ANNOTATIONS, ANNOTATORS, APPEALS, GOLD, LABEL_TASKS, PROBABILITIES, TASK_LABELS
from loop.schema.lake import (
    BENCHMARK,
    CANDIDATES,
    COMPARISONS,
    CONDUCT,
    DEMONSTRATIONS,
    INTERACTIONS,
    MESSAGES,
    OUTCOMES,
    PREFERENCES,
    QUARANTINE,
    SIGNALS,
    UNPLACED,
)
from loop.schema.state import (
    ANSWERS,
    AUDIT,
    BATCHES,
    BUILDS,
    EVALUATIONS,
    EVENT_INDEX,
    LANDINGS,
    MODELS,
    RELEASES,
    TOKENS,
    TRAINING_SETS,
)
from loop.schema.validation import PROFILES, RESOLUTIONS

__all__ = [
    "ABLATIONS",
    "ANNOTATIONS",
    "ANNOTATORS",
    "ANSWERS",
    "APPEALS",
    "AUDIT",
    "BATCHES",
    "BENCHMARK",
    "BUILDS",
    "BUILT_IN",
    "CANDIDATES",
    "COMPARISONS",
    "CONDUCT",
    "DEMONSTRATIONS",
    "EDITS",
    "ERASURES",
    "EVALUATIONS",
    "EVENT_INDEX",
    "FIRST_DAY",
    "GOLD",
    "INTERACTIONS",
    "LABEL_TASKS",
    "LAKE",
    "LANDINGS",
    "MESSAGES",
    "MODELS",
    "OUTCOMES",
    "PREFERENCES",
    "PROBABILITIES",
    "PROFILES",
    "QUARANTINE",
    "RELEASES",
    "RESOLUTIONS",
    "REWARDS",
    "SIGNALS",
    "SPANS",
    "STATE",
    "SYNTHETIC",
    "TABLES",
    "TAINTS",
    "TASK_LABELS",
    "TOKENS",
    "TRAINING_SETS",
    "UNPAIRED",
    "UNPLACED",
    "WORKFLOWS",
    "BatchStatus",
    "Column",
    "Decision",
    "Origin",
    "Privacy",
    "Split",
    "Store",
    "Table",
]

TABLES: Final = {
    t.name: t
    for t in (
        INTERACTIONS,
        QUARANTINE,
        DEMONSTRATIONS,
        PREFERENCES,
        UNPAIRED,
        EDITS,
        BENCHMARK,
        COMPARISONS,
        OUTCOMES,
        REWARDS,
        SIGNALS,
        CONDUCT,
        LABEL_TASKS,
        TASK_LABELS,
        SYNTHETIC,
        ABLATIONS,
        LANDINGS,
        EVENT_INDEX,
        BATCHES,
        BUILDS,
        PROFILES,
        RESOLUTIONS,
        TRAINING_SETS,
        MODELS,
        EVALUATIONS,
        RELEASES,
        ANSWERS,
        ANNOTATORS,
        ANNOTATIONS,
        GOLD,
        APPEALS,
        TOKENS,
        AUDIT,
        ERASURES,
        TAINTS,
    )
}
LAKE: Final = {n: t for n, t in TABLES.items() if t.store is Store.LAKE}
STATE: Final = {n: t for n, t in TABLES.items() if t.store is Store.STATE}
