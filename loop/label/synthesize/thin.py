"""Where real answers are few: slices of a workflow, their demonstrations counted, and the prompts to answer there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from loop import schema
from loop.config import Settings
from loop.errors import BadInputError
from loop.lake import Lake
from loop.schema import Split
from loop.state import State

BY: Final = ("team", "region", "task_id")
"""Columns of `interactions` by which a workflow may be cut."""


@dataclass(frozen=True)
class Slice:
    """One part of a workflow."""

    name: str
    """As region=apac."""
    demonstrations: int
    """Real ones of the training side."""
    parents: pa.Table
    """One row a prompt of the training side, columns of `label` rows beside `prompt`: the first decision on it."""


def slices(  # noqa: PLR0913 - by keyword
    settings: Settings, lake: Lake, state: State, workflow: str, days: tuple[date, date], *, by: str
) -> list[Slice]:
    """The slices of a workflow that somebody works in, the thinnest first.

    Parents are prompts of demonstrations and of rejections alike: where nothing good was suggested, answers are missing
    most. Accepted batches, the training side, and what no later decision replaced.

    Raises:
        BadInputError: `by` is none of `BY`.
    """
    if by not in BY:
        raise BadInputError(f"by: expected one of {', '.join(BY)}, got {by!r}")
    import duckdb

    label = ["event_id", "prompt", *(c.name for c in schema.lake.SOURCE_OF_LABEL if c.name != "event_id")]
    wanted = {"demonstrations": label, "unpaired": ["label", *label], "interactions": ["event_id", by]}
    with duckdb.connect(":memory:", config={"threads": 2}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        accepted = pa.array(sorted(state.accepted_digests(*days)), pa.string())
        connection.register("accepted", pa.table({"batch": accepted}))
        for name, columns in wanted.items():
            read = lake.read(name, days=days, workflows=[workflow], columns=columns)
            connection.register(name, read.rename_columns({by: "cut"}) if name == "interactions" else read)
        rows = connection.sql(_LABELLED, params={"train": Split.TRAIN.value}).to_arrow_table()
    found = []
    for name in sorted({value for value in rows["slice"].to_pylist() if value is not None}):
        mine = rows.filter(pc.equal(rows["slice"], name))
        made = pc.sum(mine["demonstrates"]).as_py() or 0
        found.append(Slice(f"{by}={name}", int(made), mine.drop_columns(["slice", "demonstrates"])))
    return sorted(found, key=lambda one: (one.demonstrations, one.name))


_LABELLED: Final = """
WITH labelled AS (
    SELECT *, true AS demonstrates FROM demonstrations
    UNION ALL BY NAME
    SELECT * EXCLUDE (label), false AS demonstrates FROM unpaired
    WHERE label = 'undesirable' QUALIFY row_number() OVER (PARTITION BY event_id) = 1
), here AS (
    SELECT l.*, i.cut AS slice FROM labelled l JOIN accepted USING (batch) JOIN interactions i USING (event_id)
    WHERE l.split = $train AND l.superseded_at IS NULL
)
SELECT * REPLACE (sum(demonstrates::INT) OVER (PARTITION BY slice, prompt) AS demonstrates)
FROM here
QUALIFY row_number() OVER (PARTITION BY slice, prompt ORDER BY received_at, event_id) = 1
ORDER BY event_id
"""
