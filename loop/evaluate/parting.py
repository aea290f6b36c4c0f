"""Do acceptance and outcome part company: is more accepted since a model serves, and does it do worse later?

People can like what harms. Where the share that they take has risen from one served version to the next and a delayed
outcome of what they took has fallen, the reward that the loop follows has parted from what it stands for (Goodhart; Gao
et al., Scaling Laws for Reward Model Overoptimization, ICML 2023, arXiv:2210.10760). Only suggestions whose attribution
window is over are looked at: an outcome that can still come is not an outcome that did not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from loop.schema.lake import DECISION_ORDER
from loop.workflows import WORKFLOWS

LEAST: Final = 50
"""Mature suggestions of each version, and of them taken ones, below which nothing is said."""
CONFIDENCE: Final = 0.99
"""Two-sided, of each of both differences; both must be beyond 0, which is rarer by chance than either."""


@dataclass(frozen=True)
class Parting:
    """Two versions that served one workflow, one after the other, and one outcome."""

    workflow: str
    outcome: str
    earlier: str
    later: str
    suggestions: tuple[int, int]
    """Mature ones."""
    acceptance: tuple[float, float]
    """Share that was accepted or modified."""
    value: tuple[float, float]
    """Mean of the outcome over the taken suggestions, 0 where none came; turned so that more is better."""
    acceptance_low: float
    """Lower end of the rise in acceptance."""
    value_high: float
    """Upper end of the rise in the outcome."""

    @property
    def parted(self) -> bool:
        return self.acceptance_low > 0 and self.value_high < 0

    def told(self) -> str:
        (taken, taken_now), (good, good_now) = self.acceptance, self.value
        return (
            f"{self.workflow}: acceptance and {self.outcome} part company since {self.later} serves: taken "
            f"{taken:.1%} -> {taken_now:.1%}, outcome {good:+.3f} -> {good_now:+.3f} a taken suggestion"
        )


def partings(interactions: pa.Table, outcomes: pa.Table, *, versions: Sequence[str], now: datetime) -> list[Parting]:
    """One for each workflow and outcome that the workflow names, of the last two of the versions that served it enough.

    Args:
        interactions: schema `interactions`; the last decision on each suggestion counts.
        outcomes: schema `outcomes`, of the same days.
        versions: that were champions, the oldest first.
        now: until when outcomes have been received.
    """
    import duckdb

    connection = duckdb.connect(":memory:")
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("interactions", interactions)
    connection.register("outcomes", outcomes)
    found = []
    for flow in WORKFLOWS.values():
        for outcome, sign in flow.outcomes.items():
            query = {"workflow": flow.name, "until": now - flow.attribution_window, "outcome": outcome, "sign": sign}
            rows = connection.execute(_SERVED, query).fetchall()
            told = {row[0]: row[1:] for row in rows if row[0] in versions and min(row[1], row[2]) >= LEAST}
            served = [version for version in versions if version in told]
            if len(served) >= 2 and any(row[5] for row in rows):
                earlier, later = served[-2:]
                found.append(_parting((flow.name, outcome, earlier, later), told[earlier], told[later]))
    connection.close()
    return found


_SERVED: Final = f"""
WITH decided AS (
    SELECT *, row_number() OVER (PARTITION BY suggestion_id ORDER BY {DECISION_ORDER}) AS place,
        count(*) OVER (PARTITION BY suggestion_id) AS decisions
    FROM interactions WHERE workflow = $workflow AND shown_at <= $until
), last AS (
    SELECT suggestion_id, model_version, decision IN ('accept', 'modify') AS taken
    FROM decided WHERE place = decisions
), came AS (
    SELECT suggestion_id, sum(value) * $sign AS value FROM outcomes
    WHERE workflow = $workflow AND name = $outcome AND event_id IS NOT NULL GROUP BY suggestion_id
)
SELECT model_version, count(*), count(*) FILTER (WHERE taken),
    avg(coalesce(value, 0)) FILTER (WHERE taken), var_samp(coalesce(value, 0)) FILTER (WHERE taken), count(value)
FROM last LEFT JOIN came USING (suggestion_id) GROUP BY model_version
"""  # noqa: S608


def _parting(where: tuple[str, str, str, str], before: tuple[Any, ...], after: tuple[Any, ...]) -> Parting:
    from scipy.special import ndtri

    z = float(ndtri((1 + CONFIDENCE) / 2))
    shares = (before[1] / before[0], after[1] / after[0])
    smooth = [((n_taken + 1) / (n + 2), n) for n, n_taken in (before[:2], after[:2])]
    error = sum(p * (1 - p) / n for p, n in smooth) ** 0.5
    spread = sum(variance / taken for _, taken, _, variance, _ in (before, after)) ** 0.5
    rise, gain = shares[1] - shares[0], after[2] - before[2]
    return Parting(*where, (before[0], after[0]), shares, (before[2], after[2]), rise - z * error, gain + z * spread)
