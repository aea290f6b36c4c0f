"""Erasure in the databases: rows and values that speak of the subject, then the pages and the log that had them.

Dagster's event log and MLflow's tables hold ids at most, in what checks found; they are masked where they stand, and
keys and paths left alone. Then every table is written anew, for a page keeps what was deleted from it, and the log is
moved on and cut.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from loop import schema
from loop.erase.needles import Needles
from loop.erase.plan import Plan, Step, in_state
from loop.erase.subject import Subject
from loop.errors import LoopError
from loop.home import Home
from loop.services import locate, postgres

if TYPE_CHECKING:
    import psycopg2

PATIENCE: Final = 300.0
"""Seconds for which transactions that began before are waited for: what they may still see is kept in the pages."""
_LOCK_MS: Final = 1_000
"""Milliseconds for which whoever comes to a table waits behind an erasure that waits for it."""
_PAUSE: Final = 1.0
"""Seconds for which it then lets everybody by."""
_ROWS: Final = 2_000
_SENTENCES: Final = frozenset({"reason", "reasons", "detail", "evidence"})
"""Columns of Loop's own tables in which words stand. All others hold keys, paths, digests, versions, scopes: what they
hold of the subject went by the row, and nothing in them is masked."""
_WRITTEN: Final = frozenset(
    (table.name, column.name)
    for table in schema.STATE.values()
    for column in table.columns
    if column.privacy is schema.Privacy.TEXT
) | {("appeals", "answer")}
"""Columns in which people who label write, and are written to."""
_PATHS: Final = frozenset({"artifact_uri", "artifact_location", "source", "storage_location"})
_TEXTS: Final = """
    SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relkind = 'r' AND n.nspname = 'public' AND a.attnum > 0 AND NOT a.attisdropped
      AND format_type(a.atttypid, NULL) IN ('text', 'character varying', 'json', 'jsonb', 'text[]')
      AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND a.attnum = ANY (i.indkey))
      AND NOT EXISTS (
        SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'f' AND a.attnum = ANY (k.conkey))
    ORDER BY 1, a.attnum"""
"""Every column of text that is no part of a key."""
_TABLES: Final = """
    SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND n.nspname NOT LIKE 'pg\\_%%' AND n.nspname <> 'information_schema' ORDER BY 1"""


@dataclass
class Cleaned:
    """What was done in the databases."""

    masked: dict[str, int] = field(default_factory=dict)
    """Values in which something was masked, by `database.table`."""
    deleted: dict[str, int] = field(default_factory=dict)
    """Rows of Loop's own state, by table."""
    tables: int = 0
    """Tables that were written anew."""
    log_cut: bool = False
    """Whether the write-ahead log was moved on and what was before it removed."""
    to_do: list[str] = field(default_factory=list)
    """What an administrator of the database must do, for the role may not."""


def clean(home: Home, subject: Subject, plan: Plan, step: Step) -> Cleaned:
    """Delete, mask, write anew, cut the log.

    Raises:
        LoopError: a transaction that began before did not end.
    """
    done = Cleaned()
    with home.state.transaction() as connection:
        for name, mine in in_state(home, plan):
            done.deleted[name] = connection.execute(sa.delete(home.state.tables[name]).where(mine)).rowcount
    needles, urls = Needles(subject, plan), locate(home.settings)
    databases = {"loop": urls.loop, "dagster": urls.dagster, "mlflow": urls.mlflow}
    for name, url in databases.items():
        with connected(url) as connection_:
            if connection_ is not None:
                step(f"looking through the database {name}")
                done.masked |= {f"{name}.{table}": count for table, count in _mask(connection_, needles).items()}
    renew(home, done, step)
    return done


def renew(home: Home, done: Cleaned, step: Step) -> None:
    """Write every table anew and cut the log, so that what was deleted is in no page and in no segment."""
    urls = locate(home.settings)
    for name, url in (("loop", urls.loop), ("dagster", urls.dagster), ("mlflow", urls.mlflow)):
        with connected(url) as connection:
            if connection is not None:
                done.tables += _rewrite(connection, lambda table, name=name: step(f"writing anew {name}.{table}"))
    step("cutting the database's log")
    with connected(urls.loop) as connection:
        assert connection is not None
        _cut(home, connection, done)


@contextlib.contextmanager
def connected(url: str) -> Iterator[psycopg2.extensions.connection | None]:
    """A connection of its own; None where there is no such database yet."""
    import psycopg2

    try:
        connection = postgres.connect(url)
    except psycopg2.OperationalError as error:
        if "does not exist" not in str(error):
            raise LoopError(f"the database cannot be reached: {' '.join(str(error).split())}") from None
        yield None
        return
    with contextlib.closing(connection):
        yield connection


# -- values -----------------------------------------------------------------------------------------------------------


def _texts(connection: psycopg2.extensions.connection) -> list[tuple[str, str, str]]:
    """Every column in which words may stand: table, column, type."""
    with connection.cursor() as cursor:
        cursor.execute(_TEXTS)
        found = cursor.fetchall()
    return [
        (table, column, kind)
        for table, column, kind in found
        if (column in _SENTENCES or (table, column) in _WRITTEN if table in schema.STATE else column not in _PATHS)
    ]


def _values(connection: psycopg2.extensions.connection, table: str, read: str) -> Iterator[list[tuple[str, str]]]:
    """Place and text of every value, so many at a time."""
    with connection.cursor(name="looking") as cursor:
        cursor.itersize = _ROWS
        cursor.execute(f'SELECT ctid::text, {read} FROM public."{table}" WHERE {read} IS NOT NULL')  # noqa: S608
        while rows := cursor.fetchmany(_ROWS):
            yield rows


def _mask(connection: psycopg2.extensions.connection, needles: Needles) -> dict[str, int]:
    """Mask in place; how many values, by table."""
    found: dict[str, int] = {}
    for table, column, kind in _texts(connection):
        read, write = f'"{column}"::text', f"%s::{kind}"
        if kind == "text[]":
            read, write = f'array_to_json("{column}")::text', "ARRAY(SELECT json_array_elements_text(%s::json))"
        hits = [rows[at] for rows in _values(connection, table, read) for at in needles.rows([t for _, t in rows])]
        for place, text in hits:
            masked = needles.mask(text)
            if masked == text:
                continue
            with connection.cursor() as cursor:
                query = f'UPDATE public."{table}" SET "{column}" = {write} WHERE ctid = %s AND {read} = %s'  # noqa: S608
                cursor.execute(query, (masked, place, text))
                found[table] = found.get(table, 0) + cursor.rowcount
    connection.commit()
    return found


# -- pages and log ----------------------------------------------------------------------------------------------------


def _rewrite(connection: psycopg2.extensions.connection, told: Any) -> int:
    """Write every table anew, with its statistics: they hold least, greatest and common values."""
    import psycopg2

    connection.rollback()
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_xact_id()::xid")
        ((mine,),) = cursor.fetchall()
        _await_older(cursor, mine)
        cursor.execute(_TABLES % ())
        names = [name for (name,) in cursor.fetchall()]
        cursor.execute(f"SET lock_timeout = {_LOCK_MS}")
        for name in names:
            told(name)
            _vacuum(cursor, f"VACUUM (FULL, ANALYZE) {name}")
        for name in ("pg_catalog.pg_statistic", "pg_catalog.pg_shdepend"):
            with contextlib.suppress(psycopg2.errors.InsufficientPrivilege):
                _vacuum(cursor, f"VACUUM (FULL) {name}")
    return len(names)


def _vacuum(cursor: Any, query: str) -> None:
    """Write a table anew when nobody uses it; waiting, it lets everybody else by again and again."""
    import psycopg2

    until = time.monotonic() + PATIENCE
    while True:
        try:
            cursor.execute(query)
        except psycopg2.errors.LockNotAvailable:
            if time.monotonic() > until:
                raise LoopError(
                    f"{query}: expected to be alone with the table within {PATIENCE:.0f} s, somebody used it all the "
                    "time: wait for imports to end, and erase again; it goes on here"
                ) from None
            time.sleep(_PAUSE)
        else:
            return


def _await_older(cursor: Any, mine: str) -> None:
    """Wait until no transaction is left that may still see what was deleted before `mine`."""
    until = time.monotonic() + PATIENCE
    query = (
        "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database() "
        "AND (age(backend_xmin) > age(%s::xid) OR age(backend_xid) > age(%s::xid))"
    )
    while True:
        cursor.execute(query, (mine, mine))
        older = [str(pid) for (pid,) in cursor.fetchall()]
        if not older:
            return
        if time.monotonic() > until:
            raise LoopError(
                f"expected transactions from before the erasure to end within {PATIENCE:.0f} s, those of the server's "
                f"processes {', '.join(older)} did not: end them, and erase again; it goes on here"
            )
        time.sleep(0.2)


def _cut(home: Home, connection: psycopg2.extensions.connection, done: Cleaned) -> None:
    """Move the write-ahead log on to segments that begin after now, and have all others removed."""
    import psycopg2

    connection.rollback()
    connection.autocommit = True
    with connection.cursor() as cursor:
        try:
            cursor.execute("SHOW wal_recycle")
            recycled = cursor.fetchall() == [("on",)]
            last = max(_segments(cursor))
            until = time.monotonic() + PATIENCE
            while min(_segments(cursor)) <= last and time.monotonic() < until:
                cursor.execute("SELECT pg_current_xact_id()")
                cursor.execute("SELECT pg_switch_wal()")
                cursor.execute("CHECKPOINT")
            done.log_cut = min(_segments(cursor)) > last and not recycled
        except psycopg2.errors.InsufficientPrivilege:
            done.log_cut = False
    if not done.log_cut:
        if home.settings.postgres_url:
            done.to_do.append(
                "On the database server, as superuser: CHECKPOINT; SELECT pg_switch_wal(); CHECKPOINT; with "
                "wal_recycle off, or until every segment of pg_wal was overwritten. Its WAL archive, replicas and "
                "backups keep what they have until they expire."
            )
        else:
            raise LoopError(
                "the embedded Postgres was started by a version of Loop that could not cut its log: `loop down`, "
                "start it again, and erase again; it goes on here"
            )


def _segments(cursor: Any) -> list[str]:
    cursor.execute("SELECT name FROM pg_ls_waldir()")
    return [name for (name,) in cursor.fetchall() if len(name) == 24]
