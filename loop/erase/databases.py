"""Erasure in the databases: rows and values that speak of the subject, then the pages and the log that had them.

Dagster's event log and MLflow's tables hold ids at most, in what checks found; they are masked where they stand. Then
every table is written anew, for a page keeps what was deleted from it, and the log is moved on and cut.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from loop.erase.plan import Plan, Step, in_state
from loop.erase.subject import DISTINCTIVE, Subject, spellings, standing_alone
from loop.errors import LoopError
from loop.home import Home
from loop.services import locate, postgres

if TYPE_CHECKING:
    import psycopg2

MASK: Final = "[erased]"
PATIENCE: Final = 300.0
"""Seconds for which transactions that began before are waited for: what they may still see is kept in the pages."""
_HEAD: Final = 24
"""Characters of a text by which it is first looked for."""
_PATTERN: Final = 8_000
"""Characters of one regular expression: a longer one does not fit what RE2 gives it."""
_ROWS: Final = 2_000
_BY_KEY: Final = frozenset({"event_index", "erasures", "taints", "alembic_version"})
"""Tables of Loop's own that are not looked through: the first lost its rows by their keys, the others name nobody."""
_TEXTS: Final = """
    SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relkind = 'r' AND n.nspname = 'public' AND a.attnum > 0 AND NOT a.attisdropped
      AND format_type(a.atttypid, NULL) IN ('text', 'character varying', 'json', 'jsonb', 'text[]')
    ORDER BY 1, a.attnum"""
_TABLES: Final = """
    SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND n.nspname NOT LIKE 'pg\\_%%' AND n.nspname <> 'information_schema' ORDER BY 1"""


class Needles:
    """Texts that are looked for, many at once."""

    def __init__(self, subject: Subject, plan: Plan) -> None:
        given = {subject.given}
        self.texts = spellings(plan.needles(subject) - given)
        alone = standing_alone(subject.given) if len(subject.given) >= DISTINCTIVE else None
        self._raw = spellings(given) if alone else []
        self._patterns = [*_patterns(self.texts), *([alone] if alone else [])]

    def rows(self, column: Sequence[str | None]) -> list[int]:
        """Places of the texts that hold any of them, or may."""
        texts, found = pa.array(column, pa.string()), pa.array([False] * len(column))
        for pattern in self._patterns:
            found = pc.or_(found, pc.fill_null(pc.match_substring_regex(texts, pattern), False))
        return pc.indices_nonzero(found).to_pylist()  # type: ignore[no-any-return]

    @property
    def all(self) -> list[str]:
        """Every text, longest first, the id itself last."""
        return [*self.texts, *self._raw]

    def within(self, texts: Sequence[str]) -> bool:
        """Whether any of the texts holds any of them."""
        return any(self.mask(texts[at]) != texts[at] for at in self.rows(texts))

    def mask(self, text: str) -> str:
        """The text without them."""
        for needle in self.all:
            text = text.replace(needle, MASK)
        return text


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


def texts(connection: psycopg2.extensions.connection, skip: frozenset[str] = frozenset()) -> Iterator[tuple[Any, ...]]:
    """Every column of text: table, column, type, and an iterator of pieces of (place, text)."""
    with connection.cursor() as cursor:
        cursor.execute(_TEXTS)
        columns = cursor.fetchall()
    for table, column, kind in columns:
        if table not in skip:
            yield table, column, kind, _values(connection, table, column)


def _values(connection: psycopg2.extensions.connection, table: str, column: str) -> Iterator[list[tuple[str, str]]]:
    with connection.cursor(name="looking") as cursor:
        cursor.itersize = _ROWS
        cursor.execute(f'SELECT ctid::text, "{column}"::text FROM public."{table}" WHERE "{column}" IS NOT NULL')  # noqa: S608
        while rows := cursor.fetchmany(_ROWS):
            yield rows


def _mask(connection: psycopg2.extensions.connection, needles: Needles) -> dict[str, int]:
    """Mask in place; how many values, by table."""
    found: dict[str, int] = {}
    for table, column, kind, pieces in texts(connection, _BY_KEY):
        hits = [rows[at] for rows in pieces for at in needles.rows([text for _, text in rows])]
        for place, text in hits:
            masked = needles.mask(text)
            if masked == text:
                continue
            with connection.cursor() as cursor:
                query = f'UPDATE public."{table}" SET "{column}" = %s::{kind} WHERE ctid = %s AND "{column}"::text = %s'  # noqa: S608
                cursor.execute(query, (masked, place, text))
                found[table] = found.get(table, 0) + cursor.rowcount
    connection.commit()
    return found


def _patterns(texts: Sequence[str]) -> Iterator[str]:
    """Regular expressions that together find every text by its beginning."""
    part: list[str] = []
    size = 0
    for head in sorted({text[:_HEAD] for text in texts}):
        escaped = "".join(c if (c.isalnum() and c.isascii()) or ord(c) > 127 else f"\\x{{{ord(c):x}}}" for c in head)
        if part and size + len(escaped) > _PATTERN:
            yield "|".join(part)
            part, size = [], 0
        part.append(escaped)
        size += len(escaped)
    if part:
        yield "|".join(part)


# -- pages and log ----------------------------------------------------------------------------------------------------


def _rewrite(connection: psycopg2.extensions.connection, told: Any) -> int:
    """Write every table anew, with its statistics: they hold least, greatest and common values."""
    connection.rollback()
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_xact_id()::xid")
        ((mine,),) = cursor.fetchall()
        _await_older(cursor, mine)
        cursor.execute(_TABLES % ())
        names = [name for (name,) in cursor.fetchall()]
        for name in names:
            told(name)
            cursor.execute(f"VACUUM (FULL, ANALYZE) {name}")
        for name in ("pg_catalog.pg_statistic", "pg_catalog.pg_shdepend"):
            with contextlib.suppress(Exception):
                cursor.execute(f"VACUUM (FULL) {name}")
    return len(names)


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
