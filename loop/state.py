"""Small transactional state in Postgres: its tables, its migrations, and the plain questions that many stages ask.

A stage that alone owns a table (landing, the gate's releases) keeps its own statements beside its logic; what two
stages need stands here. Tables are made from `schema.py`; `migrations/` brings an older database up to them.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any, Final, Self

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from loop import schema
from loop.errors import LoopError

_TYPES: Mapping[pa.DataType, Any] = {
    pa.string(): sa.Text(),
    pa.int64(): sa.BigInteger(),
    pa.int32(): sa.Integer(),
    pa.float64(): sa.Double(),
    pa.bool_(): sa.Boolean(),
    pa.date32(): sa.Date(),
    pa.timestamp("us", tz="UTC"): sa.DateTime(timezone=True),
    pa.list_(pa.string()): postgresql.ARRAY(sa.Text()),
}

ERASURE: Final = "erasure"
"""Author of the verdict on what an erasure has left of a batch."""


def _metadata() -> sa.MetaData:
    metadata = sa.MetaData()
    for table in schema.STATE.values():
        sa.Table(
            table.name,
            metadata,
            *(
                sa.Column(
                    c.name, _TYPES[c.type], primary_key=c.name in table.key, nullable=c.nullable, comment=c.meaning
                )
                for c in table.columns
            ),
            *(sa.Index(f"ix_{table.name}_{'_'.join(columns)}", *columns) for columns in table.index),
            comment=table.row,
        )
    return metadata


METADATA = _metadata()


class State:
    """The Postgres side of a home. Cheap to make; connections are pooled in `engine`."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.tables = METADATA.tables

    @classmethod
    def open(cls, url: str) -> Self:
        """Connect and bring the tables up to this version of the code.

        Raises:
            LoopError: the database cannot be reached, or was made by a newer version of Loop.
        """
        engine = sa.create_engine(url, pool_pre_ping=True, pool_size=2)
        try:
            migrate(engine)
        except sa.exc.OperationalError as error:
            why = " ".join(str(error.orig).split())
            raise LoopError(f"the database cannot be reached: {why}; see `loop doctor`") from None
        return cls(engine)

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def transaction(self, lock: str | None = None) -> Iterator[sa.Connection]:
        """One transaction; with `lock`, alone among all that name the same lock (an advisory lock)."""
        with self.engine.begin() as connection:
            if lock is not None:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(lock, 0))))
            yield connection

    @contextmanager
    def building(self, day: date, workflow: str) -> Iterator[None]:
        """Alone among all that make this day and workflow of the lake, or of what is derived of it, anew.

        Else the one that had read what it is made of first could write last, and what came in between would be missing,
        or what was erased be back. Taken before any lock of the lake: whoever has it waits for these.
        """
        with self.transaction(lock=f"build {day} {workflow}"):
            yield

    def record_build(self, day: date, workflow: str, *, landed: int, digest: str) -> None:
        """What a day and workflow of the lake was last made from, and what it came to."""
        told = {"landed": landed, "digest": digest, "built_at": datetime.now(UTC)}
        query = postgresql.insert(self.tables["builds"]).values(day=day, workflow=workflow, **told)
        with self.transaction() as connection:
            connection.execute(query.on_conflict_do_update(index_elements=["day", "workflow"], set_=told))

    def insert(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        if rows:
            with self.engine.begin() as connection:
                connection.execute(sa.insert(self.tables[table]), list(rows))

    def arrow(self, table: str) -> pa.Table:
        """The whole table. For small tables: every one of the state but event_index and answers is."""
        definition = schema.STATE[table]
        with self.engine.connect() as connection:
            rows = connection.execute(sa.select(self.tables[table]).order_by(*definition.key)).mappings().all()
        return pa.Table.from_pylist([dict(row) for row in rows], schema=definition.arrow)

    # -- batches: the verdict as data -------------------------------------------------------------------------------

    def record_batch(  # noqa: PLR0913 - one argument a column
        self,
        *,
        day: date,
        workflow: str,
        digest: str,
        status: schema.BatchStatus,
        rows: int,
        quarantined: int,
        reasons: Sequence[str],
        author: str,
        run_id: str | None,
    ) -> int:
        """Write the verdict on a batch as its next attempt; the attempt's number."""
        batches = self.tables["batches"]
        with self.transaction(lock=f"batch {day} {workflow}") as connection:
            last = connection.execute(
                sa.select(sa.func.max(batches.c.attempt)).where(batches.c.day == day, batches.c.workflow == workflow)
            ).scalar()
            attempt = (last or 0) + 1
            connection.execute(
                sa.insert(batches).values(
                    day=day,
                    workflow=workflow,
                    attempt=attempt,
                    digest=digest,
                    status=status.value,
                    rows=rows,
                    quarantined=quarantined,
                    reasons=list(reasons),
                    author=author,
                    run_id=run_id,
                    decided_at=datetime.now(UTC),
                )
            )
        return attempt

    def batches(self, first: date, last: date, workflows: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """The verdict that counts (the last attempt) on each day and workflow of a range, in order."""
        batches = self.tables["batches"]
        query = (
            sa.select(batches)
            .distinct(batches.c.day, batches.c.workflow)
            .where(batches.c.day.between(first, last))
            .order_by(batches.c.day, batches.c.workflow, batches.c.attempt.desc())
        )
        if workflows is not None:
            query = query.where(batches.c.workflow.in_(list(workflows)))
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def override(self, day: date, workflow: str, digest: str) -> dict[str, Any] | None:
        """The last verdict by which a person let this very content through, if any."""
        batches = self.tables["batches"]
        query = (
            sa.select(batches)
            .where(
                batches.c.day == day,
                batches.c.workflow == workflow,
                batches.c.digest == digest,
                batches.c.status == schema.BatchStatus.OVERRIDDEN.value,
            )
            .order_by(batches.c.attempt.desc())
            .limit(1)
        )
        with self.engine.connect() as connection:
            found = connection.execute(query).mappings().first()
        return None if found is None else dict(found)

    def accepted_digests(self, first: date, last: date) -> set[str]:
        """Digests of the batches of a range whose last verdict lets their rows be learned from.

        What is left of a batch after an erasure keeps its verdict, and its rows bear the former digest until they are
        written anew one table after the other: both are accepted.
        """
        good = {schema.BatchStatus.ACCEPTED.value, schema.BatchStatus.OVERRIDDEN.value}
        batches = self.tables["batches"]
        query = sa.select(batches).where(batches.c.day.between(first, last)).order_by(batches.c.attempt)
        standing: dict[tuple[date, str], set[str]] = {}
        with self.engine.connect() as connection:
            for row in connection.execute(query):
                before = standing.get((row.day, row.workflow), set()) if row.author == ERASURE else set()
                standing[row.day, row.workflow] = {*before, row.digest} if row.status in good else set()
        return set().union(*standing.values())


def audit(connection: sa.Connection, action: str, subject: str, author: str, detail: Mapping[str, Any]) -> None:
    """Note an administrative act in the transaction that does it. `detail` names no secret and nobody."""
    connection.execute(
        sa.insert(METADATA.tables["audit"]).values(
            audit_id=uuid.uuid4().hex,
            happened_at=datetime.now(UTC),
            actor=author,
            action=action,
            subject=subject,
            detail=json.dumps(detail, sort_keys=True),
        )
    )


def migrate(engine: sa.Engine) -> None:
    """Bring the database to this version of the code; does nothing where it is there already."""
    from alembic import command
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = _alembic()
    head = ScriptDirectory.from_config(config).get_current_head()
    with engine.begin() as connection:
        # Two commands that start at once must not both migrate.
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended("loop migrations", 0))))
        if MigrationContext.configure(connection).get_current_revision() != head:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _alembic() -> Any:
    from importlib.resources import files

    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(files("loop") / "migrations"))
    return config
