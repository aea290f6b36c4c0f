"""A search of everything that a home keeps, decoded: where does any of these texts stand?

Parquet, gzip and zstd are unpacked, the ledger is read through RocksDB, every row of the three databases and what they
know of their columns is read as text; and every file is searched as the bytes that it is, the database's own pages and
its write-ahead log included. It takes as long as it takes to read all of that: it is for proofs, not for every day.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import rocksdict

from loop.config import Settings
from loop.erase import decoding
from loop.erase.databases import connected
from loop.services import locate

Found = Mapping[str, set[str]]
"""Text to the stores that hold it: a folder of the home, or a database with a table."""


def search(settings: Settings, texts: Sequence[str], *, also: Iterable[Path] = ()) -> Found:
    """Where each of the texts stands; a text that stands nowhere is not in it.

    Args:
        also: folders and files outside the home.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for store, pieces in _everything(settings, also):
        for piece in pieces:
            for text in texts:
                if any(text in one for one in piece):
                    found[text].add(store)
    return dict(found)


def _everything(settings: Settings, also: Iterable[Path]) -> Iterator[tuple[str, Iterator[list[str]]]]:
    for path in sorted(settings.home.rglob("*")):
        if path.is_file() and not path.is_symlink() and "secrets" not in path.parts:
            yield _store(settings, path), _texts(path)
    for given in also:
        for path in (given, *given.rglob("*")):
            if path.is_file():
                yield f"outside/{given.name}", _texts(path)
    if settings.ledger.exists():
        yield "gateway/ledger", _ledger(settings.ledger)
    urls = locate(settings)
    for name, url in (("loop", urls.loop), ("dagster", urls.dagster), ("mlflow", urls.mlflow)):
        yield from _database(name, url)


def _store(settings: Settings, path: Path) -> str:
    """The folder of the home, and where the next one says what it is, that too."""
    parts = path.relative_to(settings.home).parts
    if "_delta_log" in parts:
        return f"{'/'.join(parts[:2])}/_delta_log"
    if parts[:2] == ("services", "postgres"):
        return "services/postgres/pg_wal" if "pg_wal" in parts else "services/postgres"
    return "/".join(parts[:2]) if len(parts) > 2 else parts[0]


def _texts(path: Path) -> Iterator[list[str]]:
    try:
        yield from decoding.texts(path)
    except FileNotFoundError:  # moved on meanwhile
        return


def _ledger(folder: Path) -> Iterator[list[str]]:
    held = rocksdict.Rdict(
        str(folder),
        rocksdict.Options(raw_mode=True),
        {"suggestions": rocksdict.Options(raw_mode=True)},
        access_type=rocksdict.AccessType.read_only(),
    )
    try:
        for family in (held, held.get_column_family("suggestions")):
            for key, value in family.items():
                yield [bytes(part).decode("utf-8", "replace") for part in (key, value)]  # type: ignore[arg-type]
    finally:
        held.close()


def _database(name: str, url: str) -> Iterator[tuple[str, Iterator[list[str]]]]:
    with connected(url) as connection:
        if connection is None:
            return
        with connection.cursor() as cursor:
            cursor.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace")
            tables = [table for (table,) in cursor.fetchall()]
        told = [(f'public."{table}"', f"{name}.{table}") for table in sorted(tables)]
        for table, store in (*told, ("pg_catalog.pg_stats", f"{name}/statistics")):
            yield store, _rows(connection, table)


def _rows(connection: object, table: str) -> Iterator[list[str]]:
    with connection.cursor(name="search") as cursor:  # type: ignore[attr-defined]
        cursor.execute(f"SELECT t::text FROM {table} t")
        while rows := cursor.fetchmany(1_000):
            yield [row for (row,) in rows]
