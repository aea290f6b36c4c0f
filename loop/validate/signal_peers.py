"""Agreement on the same item: with other people who were shown the same candidates, and with what a panel held.

Chance-corrected like Cohen's kappa (1960): what counts is agreement beyond what the places and the mix of decisions
alone would bring about. Each decision is compared with those of other people on its item, never with itself.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

from loop.lake import Days, Lake
from loop.state import State
from loop.validate.signal_features import CANDIDATES, Facts, Reals
from loop.validate.signal_position import Choices

PSEUDO: Final = 2.0
"""Decisions that chance counts as, beside those of others: few peers say little."""
PANEL: Final = 3.0
"""Decisions of employees that the panel's word counts as."""


def evidence(found: Facts, choices: Choices, counts: Reals, gold: pa.Table | None = None) -> Reals:
    """Log-likelihood of each decision by what others did on the same item, less that by chance; 0 where nobody did.

    Args:
        counts: how much each interaction's word counts.
        gold: see `gold`.
    """
    same, others, chance = agreement(found, choices, counts, gold)
    likely = (same + PSEUDO * chance) / (others + PSEUDO)
    return np.asarray(np.where(others > 0, np.log(np.maximum(likely, 1e-6) / chance), 0.0))


def kappa(found: Facts, choices: Choices, gold: pa.Table | None = None) -> float | None:
    """Agreement of everybody with the others on the same items, corrected for chance; None where no item came twice."""
    same, others, chance = agreement(found, choices, np.ones(len(found)), gold)
    on = others > 0
    if not on.any():
        return None
    return float((same[on] / others[on] - chance[on]).sum() / (1.0 - chance[on]).sum())


def agreement(found: Facts, choices: Choices, counts: Reals, gold: pa.Table | None) -> tuple[Reals, Reals, Reals]:
    """Of each decision: others on its item that decided alike, all others, and the probability of that by chance."""
    every = np.arange(len(found))
    at = np.clip(found.chosen, 0, CANDIDATES - 1)
    took = found.chosen >= 0
    decided = max(int(found.decided.sum()), 1)
    share = min(max(float((took & found.decided).sum()) / decided, 0.01), 0.99)
    place = np.exp(choices.of(found, np.zeros((len(found), CANDIDATES)), sign=0.0)[every, at])
    chance = np.where(took, share * place, 1.0 - share)
    item, vote, weight = found.item, found.taken, counts * found.decided
    if gold is not None and gold.num_rows:
        item = np.concatenate([item, gold["item"].to_numpy().view(np.int64)])
        vote = np.concatenate([vote, gold["taken"].to_numpy().view(np.int64)])
        weight = np.concatenate([weight, np.full(gold.num_rows, PANEL)])
    _, by_item = np.unique(item, return_inverse=True)
    _, by_vote = np.unique(np.stack([item, vote]), axis=1, return_inverse=True)
    own = weight[: len(found)]
    others = np.bincount(by_item, weight)[by_item][: len(found)] - own
    same = np.bincount(by_vote.ravel(), weight)[by_vote.ravel()][: len(found)] - own
    nobody = (others < 1e-9) | ~found.decided
    return np.where(nobody, 0.0, np.maximum(same, 0.0)), np.where(nobody, 0.0, others), np.clip(chance, 0.01, 0.99)


def gold(lake: Lake, state: State, days: Days, workflow: str) -> pa.Table:
    """Items on which the panel preferred one of two answers: `item` and `taken`, as `Facts` has them.

    The members' majority decides; ties and what nobody answered are no gold.
    """
    import duckdb
    import sqlalchemy as sa

    columns = ["comparison_id", "prompt", "left", "right"]
    posed = lake.read("comparisons", days=days, workflows=[workflow], columns=columns)
    if not posed.num_rows:
        return pa.table({"item": pa.array([], pa.uint64()), "taken": pa.array([], pa.uint64())})
    table = state.tables["answers"]
    query = sa.select(table.c.comparison_id, table.c.choice).where(
        table.c.comparison_id.in_(posed["comparison_id"].to_pylist())
    )
    with state.engine.connect() as connection:
        given = connection.execute(query).all()
    answers = pa.table({"id": pa.array([g[0] for g in given], pa.string()), "choice": [g[1] for g in given]})
    with duckdb.connect(":memory:", config={"threads": 2}) as connection:
        connection.register("posed", posed)
        connection.register("answers", answers)
        return connection.sql(_GOLD).to_arrow_table()


_GOLD: Final = """
WITH votes AS (
    SELECT id, sum(CASE choice WHEN 'left' THEN 1 WHEN 'right' THEN -1 ELSE 0 END) AS lead FROM answers GROUP BY id
)
SELECT hash(hash(prompt)::UHUGEINT + hash("left") // 8 + hash("right") // 8) AS item,
    hash(CASE WHEN lead > 0 THEN "left" ELSE "right" END) AS taken
FROM posed JOIN votes ON id = comparison_id WHERE lead <> 0 AND "left" <> "right"
"""
