"""What became of what people used: late results as rewards of the texts that stood in the end.

`outcomes` says which decision a result is put down to, if it came inside the workflow's attribution window. Whether
more results of a text may still come is told by `matures_at`: a cycle compares it with its cut-off, for what is mature
today was not when the past was.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import pyarrow as pa

from loop import schema
from loop.collect import arrivals
from loop.config import Settings
from loop.label.batches import signals_of
from loop.label.derive import SOURCE, TAUGHT, prepare
from loop.lake import Lake, conform
from loop.state import State
from loop.workflows import WORKFLOWS


@dataclass(frozen=True)
class Rewarded:
    """What became of the outcomes of a partition: `outcomes == rewards + set_aside.total()`, asserted."""

    outcomes: int
    rewards: int
    set_aside: Counter[str]

    def __post_init__(self) -> None:
        assert self.outcomes == self.rewards + self.set_aside.total(), "an outcome was lost"


def build(settings: Settings, lake: Lake, state: State, day: date, workflow: str) -> Rewarded:
    """Write the rewards of one day and workflow anew, from its outcomes and the decisions they were put down to."""
    with state.building(day, workflow):
        made = _made(settings, lake, day, workflow)
        arrivals.mark_rewarded(lake, state, day, workflow)
    return made


def _made(settings: Settings, lake: Lake, day: date, workflow: str) -> Rewarded:
    which: dict[str, Any] = {"day": day, "workflow": workflow}
    with (
        lake.pinned("interactions", "outcomes"),
        lake.partition("interactions", **which, view="interactions", where="batch <> ''") as connection,
    ):
        outcomes = lake.read("outcomes", days=(day, day), workflows=[workflow])
        if not outcomes.num_rows and (day, workflow) not in lake.partitions("rewards"):
            return Rewarded(0, 0, Counter())
        connection.register("signals", signals_of(settings, lake, day, workflow))
        connection.register("outcomes", outcomes)
        signs = WORKFLOWS[workflow].outcomes
        named = {"name": pa.array(signs, pa.string()), "sign": pa.array(signs.values(), pa.int32())}
        connection.register("signs", pa.table(named))
        prepare(connection, held_out_share=settings.held_out_share, seed=settings.seed)
        window = {"window": WORKFLOWS[workflow].attribution_window}
        joined = connection.sql(_JOINED, params=window).to_arrow_table()
        connection.register("joined", joined)
        rows = conform(connection.sql(_REWARDS).to_arrow_table(), schema.REWARDS)
        counts = Counter(dict(connection.execute("SELECT why, count(*) FROM joined GROUP BY why").fetchall()))
        assert counts.pop(TAUGHT, 0) == rows.num_rows, "a reward was lost"
        lake.overwrite("rewards", rows, **which)
    return Rewarded(outcomes.num_rows, rows.num_rows, counts)


_JOINED: Final = f"""
SELECT outcome_id, name, value, value * sign AS reward, prompt, final_text AS answer, observed_at,
    o.received_at AS known_at, coalesce(decided_at, shown_at) + $window AS matures_at, d.* EXCLUDE (prompt, final_text),
    CASE
        WHEN o.event_id IS NULL THEN 'put down to no decision: outside the attribution window, or unknown'
        WHEN d.event_id IS NULL THEN 'its decision is of no batch yet'
        WHEN sign IS NULL THEN 'a result that the workflow does not judge'
        WHEN NOT consented THEN 'no consent to ' || CASE split WHEN 'train' THEN 'training' ELSE 'evaluation' END
        WHEN decision NOT IN ('accept', 'modify') THEN 'a result of what was not used'
        WHEN NOT stands THEN 'what was used in the end is not known'
        ELSE '{TAUGHT}'
    END AS why
FROM outcomes o
LEFT JOIN decisions d ON d.event_id = o.event_id
LEFT JOIN signs USING (name)
"""  # noqa: S608

_REWARDS: Final = f"""
SELECT outcome_id, name, value, reward, prompt, answer, observed_at, known_at, matures_at, {SOURCE}
FROM joined WHERE why = '{TAUGHT}'
ORDER BY outcome_id
"""  # noqa: S608
