"""What may be told of stored signals: of groups of ten or more to everybody, of a person to that person."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import pyarrow as pa

from loop.lake import Days, Lake
from loop.validate.signal import GROUP
from loop.validate.signal_days import MEMORY

_OF_INTERACTIONS: Final = ["event_id", "day", "workflow", "employee", "team", "decision"]


def groups(lake: Lake, days: Days, workflow: str) -> list[dict[str, Any]]:
    """By day, the whole workflow and each team of at least ten people: counts, share of accepts, weights.

    A team is left out too where the others of its day's workflow are fewer than ten: they could be told by difference.
    """
    rows = lake.read("interactions", days=days, workflows=[workflow], columns=_OF_INTERACTIONS)
    signals = lake.read("signals", days=days, workflows=[workflow], columns=["event_id", "weight"])
    return _query(_GROUPS, interactions=rows, signals=signals)


def own(lake: Lake, pseudonyms: Sequence[str]) -> list[dict[str, Any]]:
    """What is held of one person's decisions by day and workflow, over the last days with data."""
    partitions = lake.partitions("conduct")
    if not partitions:
        return []
    last = partitions[-1][0]
    days = (last - MEMORY + timedelta(days=1), last)
    return _query(
        _OWN,
        interactions=lake.read("interactions", days=days, columns=_OF_INTERACTIONS),
        signals=lake.read("signals", days=days, columns=["event_id", "weight", "reasons"]),
        conduct=lake.read("conduct", days=days, columns=["employee", "day", "workflow", "trust"]),
        me=pa.table({"employee": pa.array(list(pseudonyms), pa.string())}),
    )


def _query(query: str, **tables: pa.Table) -> list[dict[str, Any]]:
    import duckdb

    with duckdb.connect(":memory:", config={"threads": 2}) as connection:
        for name, table in tables.items():
            connection.register(name, table)
        found: list[dict[str, Any]] = connection.sql(query).to_arrow_table().to_pylist()
        return found


_GROUPS: Final = f"""
WITH decided AS (FROM interactions JOIN signals USING (event_id) SELECT * WHERE decision <> 'ignore'),
whole AS (SELECT day, count(DISTINCT employee) AS people FROM decided GROUP BY day),
told AS (
    SELECT 'workflow ' || workflow AS "group", day, employee, decision, weight, false AS part FROM decided
    UNION ALL SELECT 'team ' || team, day, employee, decision, weight, true FROM decided WHERE team IS NOT NULL
)
SELECT "group", told.day, count(DISTINCT employee) AS people, count(*) AS decisions,
    avg((decision = 'accept')::INT) AS accepted, avg(weight) AS mean_weight, avg((weight < 0.5)::INT) AS distrusted
FROM told JOIN whole ON whole.day = told.day
GROUP BY "group", told.day, part, whole.people
HAVING count(DISTINCT employee) >= {GROUP}
    AND (NOT part OR whole.people = count(DISTINCT employee) OR whole.people - count(DISTINCT employee) >= {GROUP})
ORDER BY told.day, part, "group"
"""  # noqa: S608

_OWN: Final = """
SELECT i.day, i.workflow, count(*) AS decisions, avg(weight) AS mean_weight, any_value(c.trust) AS trust,
    list_sort(list_distinct(flatten(list(reasons)))) AS reasons
FROM interactions i SEMI JOIN me USING (employee)
JOIN signals s USING (event_id)
LEFT JOIN conduct c ON c.employee = i.employee AND c.day = i.day AND c.workflow = i.workflow
WHERE decision <> 'ignore'
GROUP BY i.day, i.workflow ORDER BY i.day, i.workflow
"""
