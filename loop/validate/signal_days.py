"""Days of signals: from a partition of interactions to `signals` and `conduct`, and what may be told of it.

The cost of a day depends on the day alone: of earlier days at most `signal_content.MOST` decisions are read, and one
row a person and day of their statistics. How a decision is weighed is said in `signal.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from loop import schema
from loop.lake import Lake, conform
from loop.privacy import GROUP
from loop.state import State
from loop.validate import signal_content, signal_peers
from loop.validate import signal_evidence as judging
from loop.validate.batches import rows_of
from loop.validate.signal import Group, Signals, believed, weigh
from loop.validate.signal_evidence import STATISTICS, Evidence
from loop.validate.signal_features import ANSWER_BUCKETS, facts

MEMORY: Final = timedelta(days=28)
"""How long what somebody did counts."""
WORDS: Final = 64
"""Words of a person's day whose scores are kept."""
_OF_ROWS: Final = ("event_id", "day", "workflow", "team", "batch")
_READ: Final = (
    *_OF_ROWS,
    *("employee", "shown_at", "decision", "chosen", "dwell_ms", "reasons", "prompt", "candidates", "final_text"),
)
"""Columns of `interactions` from which the facts are made; `_OF_ROWS` are all that is asked of the rows afterwards."""


@dataclass(frozen=True)
class Told:
    """What may be told of a partition: nothing about anybody alone."""

    rows: int
    people: int
    mean_weight: float | None
    distrusted: float | None
    """Share of the rows with a weight below 1/2; None below ten people."""
    instant: float | None
    """Share of the decisions faster than anybody reads; None below ten people."""
    examination: tuple[float, ...]
    """Propensity by place."""
    groups: tuple[Group, ...]

    def told(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"people": self.people if self.people >= GROUP else f"fewer than {GROUP}"}
        for name in ("mean_weight", "distrusted", "instant"):
            if (value := getattr(self, name)) is not None:
                shown[name.replace("_", " ")] = round(value, 3)
        shown["examination by place"] = ", ".join(f"{p:.2f}" for p in self.examination)
        shown["groups that say nothing"] = "; ".join(group.told() for group in self.groups) or "none"
        return shown


def build(lake: Lake, state: State, day: date, workflow: str) -> Told:
    """Weigh the decisions of a day and workflow and write `signals` and `conduct`.

    Read are the day's rows, of the days before as many decisions as content is learned from (accepted batches alone),
    and the statistics of people on days before those.
    """
    # The partition first, as everybody does; an erasure waits until what was read of it stands where it looks next.
    with state.building(day, workflow), lake.pinned("interactions"):
        return _build(lake, state, day, workflow)


def _build(lake: Lake, state: State, day: date, workflow: str) -> Told:
    today, earlier = _rows(lake, state, day, workflow)
    known = facts(pa.concat_tables([earlier, today]))
    today, earlier = today.select(list(_OF_ROWS)), earlier.select(list(_OF_ROWS))  # the texts have been read
    rows = pa.concat_tables([earlier, today])
    first = pc.min(rows["day"]).as_py() if rows.num_rows else day
    before, people = _remembered(lake, day, first, workflow)
    gold = signal_peers.gold(lake, state, (day - MEMORY, day), workflow)
    found = weigh(rows, known, before=before, people=people, gold=gold)
    own = slice(earlier.num_rows, rows.num_rows)
    assert today.num_rows == len(found.weight[own]), "an interaction was lost"
    lake.overwrite("signals", signals_of(today, found, own), day=day, workflow=workflow)
    lake.overwrite("conduct", _conduct(found, day, workflow, today), day=day, workflow=workflow)
    return summary(found, own, day)


def summary(found: Signals, own: slice, day: date | None = None) -> Told:
    """What may be told of some of the interactions."""
    weight, instant = found.weight[own], (found.facts.seconds < judging.floor(found.facts))[own]
    decided = found.facts.decided[own]
    people = len(np.unique(found.facts.employee[own]))
    enough = people >= GROUP and decided.any()
    shown = int(found.facts.shown[own].max(initial=1))
    return Told(
        rows=len(weight),
        people=people,
        mean_weight=float(weight.mean()) if enough else None,
        distrusted=float((weight < 0.5).mean()) if enough else None,
        instant=float(instant[decided].mean()) if enough else None,
        examination=tuple(found.choices.propensity[:shown]),
        groups=tuple(g for g in found.groups if day in {None, g.day}),
    )


def _rows(lake: Lake, state: State, day: date, workflow: str) -> tuple[pa.Table, pa.Table]:
    """The day's rows, and enough accepted ones of days before, whole days, for content to be learned from."""
    today = rows_of(lake, day, workflow, _READ)
    accepted = pa.array(sorted(state.accepted_digests(day - MEMORY, day)), pa.string())
    earlier: list[pa.Table] = []
    count = today.num_rows
    days = [d for d, name in lake.partitions("interactions") if name == workflow and day - MEMORY < d < day]
    for d in reversed(days):
        if count >= signal_content.MOST:
            break
        rows = lake.read("interactions", days=(d, d), workflows=[workflow], columns=_READ)
        earlier.insert(0, rows.filter(pc.is_in(rows["batch"], accepted)))
        count += earlier[0].num_rows
    return today, pa.concat_tables([schema.INTERACTIONS.empty().select(list(_READ)), *earlier])


def _remembered(lake: Lake, day: date, first: date, workflow: str) -> tuple[Evidence | None, list[str]]:
    """The statistics of people on the days of `MEMORY` before `first`."""
    rows = lake.read(
        "conduct", days=(day - MEMORY + timedelta(days=1), first - timedelta(days=1)), workflows=[workflow]
    )
    if not rows.num_rows:
        return None, []
    codes = rows["employee"].combine_chunks().dictionary_encode()
    n = rows.num_rows
    score, information = np.zeros((2, n, ANSWER_BUCKETS))
    at = np.repeat(np.arange(n), pc.list_value_length(rows["words"]).to_numpy())
    words = pc.list_flatten(rows["words"]).to_numpy()
    score[at, words] = pc.list_flatten(rows["score"]).to_numpy()
    information[at, words] = pc.list_flatten(rows["information"]).to_numpy()
    sums = pc.list_flatten(rows["statistics"]).to_numpy().reshape(n, len(STATISTICS))
    person = np.asarray(codes.indices, np.int64)
    return Evidence(person, np.zeros(n, np.int64), sums, score, information), codes.dictionary.to_pylist()


def signals_of(rows: pa.Table, found: Signals, own: slice = slice(None)) -> pa.Table:
    """The table `signals` of those interactions of `found` that `rows` are."""
    examination = found.examination[own]
    columns = {
        **{name: rows[name] for name in ("event_id", "day", "workflow", "batch")},
        "weight": pa.array(np.clip(found.weight[own], 0.0, 1.0)),
        "reasons": pa.array(found.reasons[own], pa.list_(pa.string())),
        "examination": pa.array(examination, mask=~np.isfinite(examination)),
    }
    return conform(pa.table(columns), schema.SIGNALS)


def _conduct(found: Signals, day: date, workflow: str, today: pa.Table) -> pa.Table:
    """A row for each person of the day: their statistics of the day, and how far they are trusted as of it."""
    number = (day - date(1970, 1, 1)).days
    own = found.evidence
    mine = np.flatnonzero(own.day == number)
    top = np.argsort(-own.score[mine], axis=1)[:, :WORDS] if len(mine) else np.zeros((0, WORDS), np.int64)
    at = np.arange(len(mine))[:, None]

    def lists(values: Any, kind: pa.DataType) -> pa.Array:
        return pa.array(list(values), pa.list_(kind))

    people = own.person[mine]
    names = pa.array(found.facts.employees, pa.string())
    batch = today["batch"][0].as_py() if today.num_rows else ""
    columns = {
        "employee": names.take(pa.array(people)),
        "day": pa.array([day] * len(mine), pa.date32()),
        "workflow": pa.array([workflow] * len(mine), pa.string()),
        "trust": pa.array(believed(found.trust[people])),
        "statistics": lists(own.sums[mine], pa.float64()),
        "words": lists(top.astype(np.int32), pa.int32()),
        "score": lists(own.score[mine][at, top], pa.float64()),
        "information": lists(own.information[mine][at, top], pa.float64()),
        "batch": pa.array([batch] * len(mine), pa.string()),
    }
    return conform(pa.table(columns), schema.CONDUCT)


# -- hindsight ------------------------------------------------------------------------------------------------------


def revised(lake: Lake, labels: pa.Table, cycle: date) -> pa.Table:
    """Labels with what is known of people by now in their weights, in place of what was known on the label's day.

    Evidence on a person accumulates: decisions that were taken at their word on the first day may turn out worthless
    on the fifth. Nothing in the lake changes.

    Args:
        labels: schema `demonstrations` or `preferences`.
        cycle: the day as of which people are known.
    """
    import duckdb

    known = lake.read("conduct", days=(cycle - MEMORY, cycle), columns=["employee", "day", "workflow", "trust"])
    numbered = labels.append_column("row_number", pa.array(np.arange(labels.num_rows), pa.int64()))
    with duckdb.connect(":memory:", config={"threads": 2}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("labels", numbered.select(["row_number", "employee", "day", "workflow", "weight"]))
        connection.register("known", known)
        weight = connection.sql(_REVISED).to_arrow_table()["weight"]
    assert len(weight) == labels.num_rows, "a label was lost"
    return labels.set_column(labels.column_names.index("weight"), labels.schema.field("weight"), weight)


_REVISED: Final = """
WITH now AS (SELECT employee, workflow, arg_max(trust, day) AS trust FROM known GROUP BY employee, workflow)
SELECT least(1.0, weight * coalesce(now.trust / greatest(earlier.trust, 0.01), 1.0)) AS weight
FROM labels
LEFT JOIN known AS earlier USING (employee, workflow, day)
LEFT JOIN now ON now.employee = labels.employee AND now.workflow = labels.workflow
ORDER BY row_number
"""
