"""Bulk rows: Delta tables partitioned by day and workflow. One write replaces or extends one partition in one commit.

Everything that knows of Delta, Parquet files and DuckDB stands here. What a table holds is said in `schema.py`; what is
written into it is decided by the stages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

from loop import schema
from loop.errors import BadInputError
from loop.locks import TableLocks
from loop.views import of_table, quoted, viewed

if TYPE_CHECKING:
    import duckdb
    from deltalake import CommitProperties, DeltaTable

Days = tuple[date, date]
"""First and last day, both included."""

_KEEP_FILES = timedelta(hours=24)
"""Routine vacuum keeps replaced files this long, for readers that still hold them."""
COMPACT_EVERY: Final = 32
"""Appends to a partition after which its small files become few: what comes in by the second leaves thousands a day."""
COMPACT_BYTES: Final = 16 << 20
"""A file of this size is not small: so what one compaction costs does not grow with the partition."""
CHECKPOINT_EVERY: Final = 10
"""Commits after which the log is summed up: what an opening costs goes with the commits since, and every stage opens
several tables. The library's hundred made a day cost a fifth more after half a year."""
_INTERVAL: Final = "delta.checkpointInterval"
ROW_GROUP: Final = 100_000
"""Rows of a file that are written, and read, at a time: about 100 MB of text."""


class Lake:
    """The Delta tables below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._locks = TableLocks(root / ".locks")

    def overwrite(
        self,
        table: str,
        rows: pa.Table | Iterable[pa.Table],
        *,
        day: date,
        workflow: str,
        write: int | None = None,
    ) -> int:
        """Replace one partition by `rows` (possibly none) in one commit; the table's new version.

        Args:
            rows: of pieces no more than a few are held in memory.
            write: number of the write, if it is to be asked for with `written`.

        Raises:
            AssertionError: a row belongs to another partition, or the columns are not the table's.
        """
        from deltalake import WriterProperties, write_deltalake

        pieces = [_of_partition(rows, table, day, workflow)] if isinstance(rows, pa.Table) else rows
        reader, failed = _streamed(pieces, table, day, workflow)
        predicate = f"day = '{day.isoformat()}' AND workflow = '{_plain(workflow)}'"
        with self._locks.shared(table):
            delta = self._open_or_create(table)
            properties = _numbered(day, workflow, write)
            try:
                write_deltalake(
                    delta,
                    reader,
                    mode="overwrite",
                    predicate=predicate,
                    commit_properties=properties,
                    writer_properties=WriterProperties(compression="SNAPPY", max_row_group_size=ROW_GROUP),
                )
            except Exception as error:  # noqa: BLE001 - whatever Delta makes of it
                raise (failed or [error])[0] from None
            return int(delta.version())

    def append(self, table: str, rows: pa.Table, *, day: date, workflow: str, write: int) -> None:
        """Add rows (possibly none) to one partition in one commit, under the number of the write.

        Every `COMPACT_EVERY` writes the partition's small files become few.

        Raises:
            AssertionError: a row belongs to another partition, or the columns are not the table's.
        """
        from deltalake import write_deltalake

        rows = _of_partition(rows, table, day, workflow)
        with self._locks.shared(table):
            delta = self._open_or_create(table)
            write_deltalake(delta, rows, mode="append", commit_properties=_numbered(day, workflow, write))
            if write % COMPACT_EVERY == 0:
                delta.optimize.compact(
                    partition_filters=[("day", "=", day.isoformat()), ("workflow", "=", _plain(workflow))],
                    target_size=COMPACT_BYTES,
                )

    def written(self, table: str, *, day: date, workflow: str) -> int | None:
        """Number of the last numbered write to a partition: it stands in the same commit as what was written."""
        with self._locks.shared(table):
            delta = self._open(table, None)
            return None if delta is None else delta.transaction_version(_partition(day, workflow))

    def matching(  # noqa: PLR0913 - which rows of what, and what of them
        self, table: str, column: str, values: pa.Array, *, day: date, workflow: str, columns: Sequence[str]
    ) -> pa.Table:
        """Those rows of a partition whose `column` is among `values`; of the others that one column is read."""
        import duckdb

        wanted = pa.schema([schema.LAKE[table].arrow.field(name) for name in columns])
        with self._locks.shared(table):
            files = self.files(table, (day, day), [workflow]) if len(values) else []
            if not files:
                return wanted.empty_table()
            connection = duckdb.connect(":memory:", config={"threads": 2})
            try:
                connection.execute("SET TimeZone = 'UTC'")
                connection.register("wanted", pa.table({column: values}))
                query = f"SELECT {', '.join(columns)} FROM {of_table(files)} SEMI JOIN wanted USING ({column})"  # noqa: S608
                return connection.sql(query).to_arrow_table().cast(wanted)
            finally:
                connection.close()

    def read(
        self,
        table: str,
        *,
        days: Days | None = None,
        workflows: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        version: int | None = None,
    ) -> pa.Table:
        """The rows of the named partitions, in the table's own schema; no rows where there is no such partition."""
        target = schema.LAKE[table].arrow
        if columns is not None:
            target = pa.schema([target.field(name) for name in columns])
        with self._locks.shared(table):
            delta = self._open(table, version)
            if delta is None:
                return target.empty_table()
            rows = delta.to_pyarrow_table(
                partitions=_filters(days, workflows), columns=None if columns is None else list(columns)
            )
        return rows.select(target.names).cast(target)

    def scan(self, table: str, columns: Sequence[str]) -> Iterator[pa.Table]:
        """The whole table, a piece at a time; a column that older files lack is null there."""
        target = pa.schema([schema.LAKE[table].arrow.field(name).with_nullable(True) for name in columns])
        with self._locks.shared(table):
            delta = self._open(table, None)
            if delta is None:
                return
            there = [name for name in columns if name in delta.schema().to_arrow().names]
            for batch in delta.to_pyarrow_dataset().to_batches(columns=there, batch_size=65_536):
                rows = pa.table(batch)
                for name in set(columns) - set(there):
                    rows = rows.append_column(name, pa.nulls(rows.num_rows))
                yield rows.select(target.names).cast(target)

    @contextmanager
    def partition(
        self, table: str, *, day: date, workflow: str, view: str, where: str = "true"
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """A DuckDB in which one partition is a view: what is asked of it is read from the files, and no more is held.

        Args:
            view: its name.
            where: SQL over the table's columns that its rows must satisfy.
        """
        with self._locks.shared(table):
            files = self.files(table, (day, day), [workflow])
            with viewed(files, schema.LAKE[table].arrow, view=view, where=where, of_lake=True) as connection:
                yield connection

    def version(self, table: str) -> int | None:
        """The table's current Delta version; None where nothing was ever written."""
        with self._locks.shared(table):
            delta = self._open(table, None)
            return None if delta is None else int(delta.version())

    def partitions(self, table: str) -> list[tuple[date, str]]:
        """Day and workflow of each partition that holds files, in order."""
        with self._locks.shared(table):
            delta = self._open(table, None)
            found = [] if delta is None else delta.partitions()
        return sorted((date.fromisoformat(str(part["day"])), str(part["workflow"])) for part in found)

    def files(self, table: str, days: Days | None = None, workflows: Sequence[str] | None = None) -> list[str]:
        """The Parquet files of the current version; empty where there is no table."""
        with self._locks.shared(table):
            delta = self._open(table, None)
            uris = [] if delta is None else delta.file_uris(partition_filters=_filters(days, workflows))
        return [unquote(uri.removeprefix("file://")) for uri in uris]

    def tidy(self, table: str) -> None:
        """Compact small files of partitions, drop replaced files older than a day, write a checkpoint."""
        with self._locks.alone(table):
            delta = self._open(table, None)
            if delta is None:
                return
            delta.optimize.compact()
            delta.vacuum(
                retention_hours=int(_KEEP_FILES / timedelta(hours=1)), enforce_retention_duration=False, dry_run=False
            )
            if delta.metadata().configuration.get(_INTERVAL) != str(CHECKPOINT_EVERY):  # older than this setting
                delta.alter.set_table_properties({_INTERVAL: str(CHECKPOINT_EVERY)})
            delta.create_checkpoint()

    def scrub(self, table: str) -> int:
        """Leave of a table what it is now and nothing of what it was; how many files of rows were removed.

        Every replaced file goes, orphans of killed writers too, and all of the log but its newest checkpoint: it has
        the least and greatest ids of files that are gone. Waits until nobody reads or writes the table; whoever comes
        meanwhile waits too. No older version can be read afterwards.
        """
        with self._locks.alone(table):
            delta = self._open(table, None)
            if delta is None:
                return 0
            gone = delta.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False, full=True)
            delta.update_incremental()
            delta.create_checkpoint()
            newest = f"{delta.version():020d}."
            for path in (self.root / table / "_delta_log").iterdir():
                if path.name[:1].isdigit() and not path.name.startswith(newest):
                    path.unlink()
        return len(gone)

    @contextmanager
    def pinned(self, *tables: str) -> Iterator[None]:
        """Within, no version of the tables goes away, and what is read of them is written on before an erasure ends."""
        with ExitStack() as stack:
            for table in sorted(tables, key=list(schema.LAKE).index):  # as everybody does: nobody waits in a circle
                stack.enter_context(self._locks.shared(table))
            yield

    # -- Delta ------------------------------------------------------------------------------------------------------

    def _open(self, table: str, version: int | None) -> DeltaTable | None:
        from deltalake import DeltaTable

        path = self.root / table
        return DeltaTable(path, version=version) if (path / "_delta_log").exists() else None

    def _open_or_create(self, table: str) -> DeltaTable:
        from deltalake import DeltaTable

        if (delta := self._open(table, None)) is not None:
            return delta
        definition = schema.LAKE[table]
        # The log keeps the least and greatest value of each column it has statistics for: ids and times only, for a
        # text there would outlive its erasure.
        told = [
            c.name for c in definition.columns if c.name.endswith(("_id", "_at")) and c.privacy is schema.Privacy.NONE
        ]
        return DeltaTable.create(
            self.root / table,
            definition.arrow,
            mode="ignore",
            partition_by=["day", "workflow"],
            configuration={
                "delta.dataSkippingStatsColumns": ",".join(told),
                _INTERVAL: str(CHECKPOINT_EVERY),
            },
        )


def conform(rows: pa.Table, table: schema.Table) -> pa.Table:
    """`rows` with the table's columns, order and types.

    Raises:
        AssertionError: a column is missing or unknown, or a value that may not be null is.
    """
    expected = table.arrow
    differing = set(rows.column_names) ^ set(expected.names)
    assert not differing, f"{table.name}: columns differ: {sorted(differing)}"
    rows = rows.select(expected.names)
    for name in expected.names:
        assert expected.field(name).nullable or not rows[name].null_count, f"{table.name}.{name}: null"
    return rows.cast(expected)


def from_rows(rows: Sequence[dict[str, Any]], table: schema.Table) -> pa.Table:
    """A table's Arrow form of plain rows."""
    return conform(pa.Table.from_pylist(list(rows), schema=table.arrow), table)


@contextmanager
def connect(lake: Lake, state: dict[str, pa.Table]) -> Iterator[duckdb.DuckDBPyConnection]:
    """A short-lived in-memory DuckDB that sees every table of the lake, and the given ones of the state, as views.

    External access is off but for the lake's own folder, and the configuration is locked. Within, no file that it may
    read is removed. Columns on people's conduct are left out: nobody is shown another's.
    """
    import duckdb

    with lake.pinned(*schema.LAKE), duckdb.connect(":memory:") as connection:
        _show(connection, lake, state)
        yield connection


def _show(connection: duckdb.DuckDBPyConnection, lake: Lake, state: dict[str, pa.Table]) -> None:
    """Make the views, and shut everything else."""
    root = str(lake.root)
    connection.execute(f"SET allowed_directories = ['{quoted(root)}/']")
    for name, table in schema.LAKE.items():
        files = lake.files(name)
        shown = [c.name for c in table.columns if c.privacy is not schema.Privacy.CONDUCT]
        if not files:
            connection.register(name, table.empty().select(shown))
            continue
        columns = ", ".join(f'"{column}"' for column in shown)
        connection.execute(f"CREATE VIEW {name} AS SELECT {columns} FROM {of_table(files)}")  # noqa: S608
    for name, rows in state.items():
        hidden = [c.name for c in schema.STATE[name].columns if c.privacy is schema.Privacy.CONDUCT]
        connection.register(name, rows.drop_columns(hidden))
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _streamed(
    pieces: Iterable[pa.Table], table: str, day: date, workflow: str
) -> tuple[pa.RecordBatchReader, list[BaseException]]:
    """Pieces of a partition as one stream, and what broke it off: whoever reads it sees that as an error of its own."""
    failed: list[BaseException] = []

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            for piece in pieces:
                yield from _of_partition(piece, table, day, workflow).to_batches()
        except BaseException as error:
            failed.append(error)
            raise

    return pa.RecordBatchReader.from_batches(_written(table), batches()), failed


def _written(table: str) -> pa.Schema:
    """What is written to a table: without the columns' meanings, which stand in the table as it was when it was made.

    Delta takes no rows whose meanings are others, and we may word one anew.
    """
    return pa.schema([field.remove_metadata() for field in schema.LAKE[table].arrow])


def _of_partition(rows: pa.Table, table: str, day: date, workflow: str) -> pa.Table:
    rows = conform(rows, schema.LAKE[table]).cast(_written(table))
    for column, value in (("day", day), ("workflow", workflow)):
        stray = pc.sum(pc.not_equal(rows[column], pa.scalar(value, rows.schema.field(column).type))).as_py()
        assert not stray, f"{table}: {stray} rows do not belong to {column} {value}"
    return rows


def _partition(day: date, workflow: str) -> str:
    return f"{day.isoformat()} {_plain(workflow)}"


def _numbered(day: date, workflow: str, write: int | None) -> CommitProperties | None:
    """A Delta transaction identifier: one number for each partition, which its log keeps through checkpoints."""
    from deltalake import CommitProperties, Transaction

    if write is None:
        return None
    return CommitProperties(app_transactions=[Transaction(_partition(day, workflow), write)])


def _filters(days: Days | None, workflows: Sequence[str] | None) -> list[tuple[str, str, Any]] | None:
    filters: list[tuple[str, str, Any]] = []
    if days is not None:
        filters += [("day", ">=", days[0].isoformat()), ("day", "<=", days[1].isoformat())]
    if workflows is not None:
        filters.append(("workflow", "in", list(workflows)))
    return filters or None


def _plain(workflow: str) -> str:
    if not workflow.replace("_", "").replace("-", "").isalnum():
        raise BadInputError(f"workflow: expected letters, digits, - and _, got {workflow!r}")
    return workflow
