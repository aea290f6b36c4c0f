"""Parquet files as DuckDB sees them."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    import duckdb


@contextmanager
def viewed(
    files: Sequence[str], columns: pa.Schema, *, view: str, where: str = "true", of_lake: bool = False
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB in which the rows of Parquet files are a view; a column that a file lacks is null there.

    Args:
        of_lake: whether the files' folders say their day and workflow.
    """
    import duckdb

    connection = duckdb.connect(":memory:", config={"threads": 2})
    try:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET enable_progress_bar = false")
        connection.register("_no_rows", columns.empty_table())
        there = of_table(files) if of_lake else f"read_parquet([{_listed(files)}], union_by_name = true)"
        rows = f"FROM _no_rows UNION ALL BY NAME FROM {there}" if files else "FROM _no_rows"
        named = ", ".join(f'"{name}"' for name in columns.names)
        connection.execute(f"CREATE TEMP VIEW {view} AS SELECT {named} FROM ({rows}) WHERE {where}")  # noqa: S608
        yield connection
    finally:
        connection.close()


def of_table(files: Sequence[str]) -> str:
    """A table function of DuckDB over Parquet files of a table."""
    types = "{'day': DATE, 'workflow': VARCHAR}"
    return f"read_parquet([{_listed(files)}], union_by_name = true, hive_partitioning = true, hive_types = {types})"


def _listed(files: Sequence[str]) -> str:
    return ", ".join(f"'{quoted(glob.escape(path))}'" for path in files)


def quoted(text: str) -> str:
    return text.replace("'", "''")
