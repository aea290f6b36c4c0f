"""What may be told of stored signals: of groups of ten or more to everybody, of a person to that person."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import pyarrow as pa

from loop.lake import Days, Lake
from loop.privacy import GROUP
from loop.validate.signal_days import MEMORY

_OF_INTERACTIONS: Final = ["event_id", "day", "workflow", "employee", "team", "decision"]


def groups(lake: Lake, days: Days, workflow: str) -> list[dict[str, Any]]:
    """By day, the whole workflow and each team of at least ten people: counts, share of accepts, weights.

    Where those of a day who are in no such team are fewer than ten, the smallest such team is left out too: they
    could be told by difference.
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
teams AS (
    SELECT day, team, count(DISTINCT employee) AS people FROM decided WHERE team IS NOT NULL GROUP BY ALL
    HAVING people >= {GROUP}
), rest AS (
    SELECT day, count(DISTINCT employee) AS people
    FROM decided d LEFT JOIN teams t USING (day, team) WHERE t.team IS NULL GROUP BY day
), left_out AS (
    SELECT day, arg_min(team, (teams.people, team)) AS team FROM teams JOIN rest USING (day)
    WHERE rest.people BETWEEN 1 AND {GROUP - 1} GROUP BY day
), told AS (
    SELECT 'workflow ' || workflow AS "group", day, employee, decision, weight, false AS part FROM decided
    UNION ALL
    SELECT 'team ' || team, day, employee, decision, weight, true
    FROM decided SEMI JOIN teams USING (day, team) ANTI JOIN left_out USING (day, team)
)
SELECT "group", day, count(DISTINCT employee) AS people, count(*) AS decisions,
    avg((decision = 'accept')::INT) AS accepted, avg(weight) AS mean_weight, avg((weight < 0.5)::INT) AS distrusted
FROM told GROUP BY "group", day, part HAVING count(DISTINCT employee) >= {GROUP} ORDER BY day, part, "group"
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
