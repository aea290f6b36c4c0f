from __future__ import annotations

import pyarrow as pa
import pytest

from loop import schema
from loop.schema import Origin, Privacy, Store


@pytest.mark.parametrize("table", schema.TABLES.values(), ids=lambda t: t.name)
def test_every_table_is_whole(table: schema.Table) -> None:
    names = [c.name for c in table.columns]
    assert len(names) == len(set(names)), "a column stands twice"
    assert set(table.key) <= set(names)
    assert table.row.startswith("one row per ")
    assert all(c.meaning for c in table.columns)
    assert table.empty().schema.equals(table.arrow)
    if table.store is Store.LAKE:
        assert {"day", "workflow"} <= set(names), "the lake is partitioned by day and workflow"


def test_free_text_is_marked_as_such() -> None:
    marked = {(t.name, c.name) for t in schema.TABLES.values() for c in t.columns if c.privacy is Privacy.TEXT}
    texts = {
        "prompt",
        "candidates",
        "final_text",
        "raw",
        "answer",
        "chosen",
        "rejected",
        "left",
        "right",
        "texts",
        "spans",
    }
    of_that_name = {
        (t.name, c.name)
        for t in schema.LAKE.values()
        for c in t.columns
        if c.name in texts and not pa.types.is_integer(c.type)
    }
    of_annotators = {("annotations", "content"), ("annotations", "reason"), ("appeals", "argument")}
    assert marked == of_that_name | of_annotators


def test_a_tool_cannot_supply_what_the_edge_makes() -> None:
    edge = {c.name for c in schema.INTERACTIONS.columns if c.origin is Origin.EDGE}
    assert edge == {"day", "source", "content", "batch"}
