"""What waits: preferences that no cycle has read, and cycles that no decision has ended. The sensors ask."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pyarrow.compute as pc
import sqlalchemy as sa

from loop import schema
from loop.cycle.reading import labels
from loop.evaluate import panel
from loop.home import Home
from loop.schema import Split

PATIENCE = timedelta(hours=24)
"""How long a cycle waits for its panel; then it is decided on what there is."""


@dataclass(frozen=True)
class Waiting:
    """Preferences that came in after the last cycle's cut-off."""

    count: int
    day: date
    """The last day that they belong to: the cycle that would read them."""
    newest: datetime | None
    """When the last of them was received."""


def new_preferences(home: Home) -> Waiting:
    """Training preferences of accepted batches that were received since the last cut-off."""
    sets = home.state.tables["training_sets"]
    with home.state.engine.connect() as connection:
        since = connection.execute(sa.select(sa.func.max(sets.c.cutoff))).scalar()
    partitions = home.lake.partitions("preferences")
    day = partitions[-1][0] if partitions else datetime.now(UTC).date()
    rows = labels(home, "preferences", day, datetime.now(UTC), split=Split.TRAIN)
    if since is not None:
        rows = rows.filter(pc.greater_equal(rows["received_at"], since))
    newest = pc.max(rows["received_at"]).as_py()
    return Waiting(rows.num_rows, day, newest)


@dataclass(frozen=True)
class Undecided:
    """A cycle whose comparisons stand and whose decision does not."""

    day: date
    attempt: int


def awaiting_decision(home: Home, *, now: datetime) -> list[Undecided]:
    """Cycles of the last week that are ready to be decided: answered in full, nothing to ask, or waited long enough."""
    sets, models, decided = (home.state.tables[name] for name in ("training_sets", "models", "releases"))
    query = (
        sa.select(sets.c.cycle, sets.c.attempt, models.c.version, models.c.created_at)
        .distinct(sets.c.cycle)
        .join(models, models.c.training_digest == sets.c.digest)
        .where(
            sets.c.frozen_at > now - timedelta(days=7),
            ~sa.exists().where(decided.c.cycle == sets.c.cycle, decided.c.challenger == models.c.version),
        )
        .order_by(sets.c.cycle, sets.c.attempt.desc(), models.c.created_at.desc())
    )
    with home.state.engine.connect() as connection:
        candidates = connection.execute(query).all()
    ready = []
    for cycle, attempt, challenger, made in candidates:
        posed = home.lake.read("comparisons", days=(cycle, cycle))
        rows = panel.of_attempt(posed, cycle, attempt, challenger)
        if not rows.num_rows and home.lake.read("benchmark", columns=["item_id"]).num_rows:
            continue  # the comparisons are still being made
        asked = set(panel.to_ask(rows)["comparison_id"].to_pylist())
        if not asked or now - made > PATIENCE or asked <= _answered(home, asked):
            ready.append(Undecided(cycle, attempt))
    return ready


def _answered(home: Home, asked: set[str]) -> set[str]:
    answers = home.state.tables[schema.ANSWERS.name]
    query = sa.select(answers.c.comparison_id).where(answers.c.comparison_id.in_(asked)).distinct()
    with home.state.engine.connect() as connection:
        return set(connection.execute(query).scalars())
