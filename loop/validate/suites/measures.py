"""What the rules of a batch speak of: one row per interaction, plain columns, made in bulk by DuckDB."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from loop import schema
from loop.workflows import WORKFLOWS

if TYPE_CHECKING:
    import duckdb

PLAIN: Final = tuple(
    c.name for c in schema.INTERACTIONS.columns if c.privacy is schema.Privacy.NONE and not pa.types.is_nested(c.type)
)
"""Columns of `interactions` that go into the measures, texts but for `READ` as hashes: so a million rows stay small."""
READ: Final = ("event_id", "workflow", "decision", "source")
"""Texts that a rule, or whoever names examples, must see."""
_AT_ONCE: Final = 100_000
"""Texts that are parsed at a time."""
_OF_TEXTS: Final = rf"""
    coalesce(list_sum(list_transform(prompt, lambda m: length(m.content))), 0)::BIGINT AS prompt_chars,
    len(candidates) AS candidates,
    len(list_filter(candidates, lambda c: NOT regexp_matches(c.text, '[^\s\p{{Z}}]'))) AS empty_candidates,
    length(final_text) AS final_chars,
    hash(employee, prompt, candidates, final_text) AS same_content,
    {", ".join(f"(decision = '{d}')::TINYINT AS is_{d}" for d in schema.Decision)}
"""


@contextmanager
def measured(rows: pa.Table | duckdb.DuckDBPyConnection, workflow: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB connection with the table `measures` over the rows of a batch.

    Columns: those of `PLAIN`, and `prompt_chars`, `candidates`, `empty_candidates`, `final_chars`, `final_parses` (null
    where there is no final text), `same_content` (digest of who was shown what and what stood in the end, without ids
    and times) and one 0/1 column per decision.

    Args:
        rows: the batch in the schema of `interactions`, or a connection in which it is the view `batch`, as
            `Lake.scan` gives it: then no more of it is held in memory than the measures.
        workflow: whose parser reads the final texts; once for each distinct text.
    """
    with opened(rows) as connection:
        parse = WORKFLOWS[workflow].parse
        distinct = "SELECT DISTINCT final_text, hash(final_text) AS final_hash FROM batch WHERE final_text <> ''"
        chunks = []
        for chunk in connection.sql(distinct).to_arrow_reader(_AT_ONCE):
            reads = [parse(text) is not None for text in chunk["final_text"].to_pylist()]
            chunks.append(pa.table({"final_hash": chunk["final_hash"], "final_parses": pa.array(reads, pa.bool_())}))
        empty = pa.table({"final_hash": pa.array([], pa.uint64()), "final_parses": pa.array([], pa.bool_())})
        connection.register("parsed", pa.concat_tables([empty, *chunks]))
        plain = ", ".join(map(_plain, PLAIN))
        connection.execute(
            f"CREATE TEMP TABLE measures AS SELECT {plain}, {_OF_TEXTS}, final_parses::TINYINT AS final_parses "  # noqa: S608
            "FROM batch LEFT JOIN parsed ON final_hash = hash(final_text)"
        )
        connection.unregister("parsed")
        try:
            yield connection
        finally:
            connection.execute("DROP TABLE measures")


@contextmanager
def opened(rows: pa.Table | duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    if not isinstance(rows, pa.Table):
        yield rows
        return
    import duckdb

    connection = duckdb.connect(":memory:", config={"threads": 2, "enable_external_access": False})
    try:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("batch", rows)
        yield connection
    finally:
        connection.close()


def _plain(name: str) -> str:
    is_text = pa.types.is_string(schema.INTERACTIONS.arrow.field(name).type)
    if is_text and name not in READ:
        return f"CASE WHEN batch.{name} IS NOT NULL THEN hash(batch.{name}) END AS {name}"
    return f"batch.{name}"
