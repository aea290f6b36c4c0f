"""Frozen training sets: which rows enter one, how it is named by its content, written, checked and read again.

A frozen set is a copy: what happens to the lake later does not change it, but for an erasure and for the end of its
retention, which take rows out of it and leave their leaves. How rows are trained on is said elsewhere.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from loop import schema
from loop.errors import BadInputError
from loop.train import merkle

TABLES: Final = (schema.DEMONSTRATIONS, schema.PREFERENCES)
BOOKKEEPING: Final = frozenset({"batch", "superseded_at"})
"""Columns that say how a row was come by, or what became of it later, and may differ for the same row."""
MANIFEST: Final = "manifest.json"
_SALT: Final = "salt"
_GONE: Final = ("erased", "expired")
"""Parts of a manifest that name rows which were taken out: because somebody asked, or because their time was up."""
_encode: Final = msgspec.json.Encoder(order="deterministic").encode


@dataclass(frozen=True)
class Frozen:
    """A frozen training set. Rows stand in the order of their ids."""

    digest: str
    """Merkle root over the salted hashes of all rows, hexadecimal; the folder's name."""
    path: Path
    demonstrations: pa.Table
    preferences: pa.Table
    meta: Mapping[str, Any]
    """What whoever froze it noted; no part of the digest."""


@dataclass(frozen=True)
class Composition:
    """Which rows were taken into a training set, and how many were left out."""

    rows: pa.Table
    fresh: int
    fresh_left: int
    older: int
    older_left: int


def compose(fresh: pa.Table, older: pa.Table, *, replay_share: float, limit: int, seed: int) -> Composition:
    """At most `limit` rows: fresh ones, and older ones so that these make up `replay_share` where there are enough.

    Older rows fill no gap that fresh ones leave, for the share would be exceeded; fresh ones do fill a gap of older
    ones. Who is taken depends on a hash of seed and row id alone: not on the order of the rows, and hardly on which
    other rows there are, so that neighbouring cycles replay mostly the same rows.

    Args:
        fresh: label rows since the last cycle.
        older: label rows from before it, of the same table.
        replay_share: from 0 to below 1.
    """
    assert 0 <= replay_share < 1, replay_share
    assert limit >= 0, limit
    assert fresh.schema.equals(older.schema), "fresh and older rows are of different tables"
    epsilon = 1e-9  # 70 fresh rows at a share of 0.3 ask for 30 older ones, not for 29.999
    reserved = min(older.num_rows, int(limit * replay_share + epsilon))
    n_fresh = min(fresh.num_rows, limit - reserved)
    n_older = min(reserved, int(n_fresh * replay_share / (1 - replay_share) + epsilon))
    rows = pa.concat_tables([_first_by_priority(fresh, n_fresh, seed), _first_by_priority(older, n_older, seed)])
    ids = rows[_key(rows)]
    assert pc.count_distinct(ids).as_py() == rows.num_rows == n_fresh + n_older <= limit, (
        "a row is both fresh and older"
    )
    return Composition(
        rows=rows.take(pc.sort_indices(ids)),
        fresh=n_fresh,
        fresh_left=fresh.num_rows - n_fresh,
        older=n_older,
        older_left=older.num_rows - n_older,
    )


def freeze(  # noqa: PLR0913 - by keyword
    demonstrations: pa.Table,
    preferences: pa.Table,
    *,
    root: Path,
    salt_key: bytes,
    meta: Mapping[str, Any],
    synthetic_share: float = 0.0,
) -> Frozen:
    """Write a training set below `root` under its digest, all or nothing; what is there already is left as it is.

    One whose rows expired has them again: whoever freezes it may still have them. The digest depends on the rows and
    the key: not on the order of rows or columns, on how Parquet encodes them, on bookkeeping columns, or on `meta`.

    Args:
        salt_key: secret of the home. A row's salt is a keyed hash of its id, and lies beside the row.
        meta: anything JSON: cut-off, table versions.
        synthetic_share: greatest share of the demonstrations that may be synthetic.

    Raises:
        AssertionError: more of them are.
    """
    made_up = pc.sum(pc.equal(demonstrations["kind"], "synthetic")).as_py() or 0
    assert made_up <= synthetic_share * demonstrations.num_rows + 1e-9, (
        f"{made_up} of {demonstrations.num_rows} demonstrations are synthetic, expected a share of {synthetic_share}"
    )
    tables = {
        table.name: _canonical(rows, table) for table, rows in zip(TABLES, (demonstrations, preferences), strict=True)
    }
    leaves: dict[str, list[bytes]] = {}
    for name, rows in tables.items():
        salts = [hmac.digest(salt_key, f"{name}:{row}".encode(), "sha256") for row in rows[_key(rows)].to_pylist()]
        leaves[name] = _leaves(name, rows, salts)
        tables[name] = rows.append_column(_SALT, pa.array(salts, pa.binary(32)))
    digest = merkle.root([leaf for name in tables for leaf in leaves[name]]).hex()
    if not (root / digest).exists():
        manifest = {
            "format": 1,
            "digest": digest,
            "meta": dict(meta),
            "leaves": {name: [leaf.hex() for leaf in hashed] for name, hashed in leaves.items()},
            **{part: {name: [] for name in leaves} for part in _GONE},
        }
        with _locked(root, fcntl.LOCK_SH):
            _write(root / digest, tables, manifest)
    elif expired(root / digest):
        _renew(root / digest, tables)
    return load(root, digest)


def load(root: Path, digest: str) -> Frozen:
    """A frozen training set by its digest.

    Raises:
        BadInputError: there is none of that digest below `root`.
    """
    path = root / digest
    if not (path / MANIFEST).exists():
        raise BadInputError(f"no training set {digest[:12]} below {root}; `loop status` lists those that there are")
    with _locked(root, fcntl.LOCK_SH):
        manifest = json.loads((path / MANIFEST).read_text())
        demonstrations, preferences = (_standing(path, table.name, manifest).drop_columns([_SALT]) for table in TABLES)
    return Frozen(digest, path, demonstrations, preferences, manifest["meta"])


def verify(path: Path) -> list[str]:
    """What is wrong with a frozen training set, one sentence each; empty if every row is what was frozen.

    Needs no key. A row that was erased is known by its leaf alone.
    """
    with _locked(path.parent, fcntl.LOCK_SH):
        return _verify(path)


def erased(path: Path) -> tuple[int, int]:
    """How many rows of a frozen training set were erased, and how many it had."""
    manifest = json.loads((path / MANIFEST).read_text())
    return sum(map(len, manifest["erased"].values())), sum(map(len, manifest["leaves"].values()))


def expired(path: Path) -> int:
    """How many rows of a frozen training set are gone because they were kept long enough: nobody asked for that."""
    return sum(map(len, json.loads((path / MANIFEST).read_text()).get("expired", {}).values()))


def sets(root: Path) -> list[Path]:
    """The folders of all frozen training sets, in order of their digests."""
    return sorted(manifest.parent for manifest in root.glob(f"[!.]*/{MANIFEST}"))


def erase(path: Path, gone: Callable[[pa.Table], pa.Array]) -> int:
    """Take rows out of a frozen training set; how many went.

    Their leaves stay where they were, so that the digest still verifies, and so does any row that is left. Without a
    row and its salt, which lay beside it, its leaf says nothing; with both, from elsewhere, it shows that the row was
    in the set. Cut short, what the manifest calls erased may still lie there: nobody reads it, and done again it goes.

    Args:
        gone: of rows of a table, whether each is to go.
    """
    return _take(path, gone, "erased")


def expire(path: Path) -> int:
    """Take all rows out of a frozen training set that need not be kept any longer, as `erase` does; how many went."""
    return _take(path, lambda rows: pa.chunked_array([pa.array([True] * rows.num_rows, pa.bool_())]), "expired")


def clear(root: Path) -> int:
    """Remove what freezing or erasing that was killed has left behind; how many folders and files."""
    if not root.exists():
        return 0
    with _locked(root, fcntl.LOCK_EX):
        left = [path for path in root.glob(".*.*") if path.is_dir()]
        for path in left:
            shutil.rmtree(path)
        halves = list(root.glob("*/.*.new"))
        for path in halves:
            path.unlink()
    return len(left) + len(halves)


# -- inside ----------------------------------------------------------------------------------------------------------


@contextmanager
def _locked(root: Path, kind: int) -> Iterator[None]:
    """Shared for who writes a set or reads one, alone for who erases."""
    root.mkdir(parents=True, exist_ok=True)
    handle = os.open(root, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, kind)
        yield
    finally:
        os.close(handle)


def _take(path: Path, gone: Callable[[pa.Table], pa.Array], part: str) -> int:
    """Take rows out and note their places in that part of the manifest; one that is noted already is not noted anew."""
    removed = 0
    with _locked(path.parent, fcntl.LOCK_EX):
        manifest = json.loads((path / MANIFEST).read_text())
        kept: dict[str, pa.Table] = {}
        for table in TABLES:
            rows = _read(path, table.name)
            goes = pc.fill_null(gone(rows), False)
            if not pc.any(goes).as_py():
                continue
            place = {leaf: place for place, leaf in enumerate(manifest["leaves"][table.name])}
            left = rows.filter(goes)
            places = {place[leaf.hex()] for leaf in _leaves(table.name, left, left[_SALT].to_pylist())}
            noted = manifest.setdefault(part, {}).get(table.name, [])
            manifest[part][table.name] = sorted((places - _gone(manifest, table.name)).union(noted))
            kept[table.name] = rows.filter(pc.invert(goes))
            removed += left.num_rows
        if kept:  # the manifest first: from then on nobody reads them
            _replace(path / MANIFEST, lambda file: file.write_text(json.dumps(manifest, indent=1)))
        for name, rows in kept.items():
            _replace(path / f"{name}.parquet", partial(pq.write_table, rows, compression="zstd"))
    return removed


def _renew(path: Path, tables: Mapping[str, pa.Table]) -> None:
    """Put the rows of a set that expired back, but for those that were erased. Cut short, they still count as gone."""
    with _locked(path.parent, fcntl.LOCK_EX):
        manifest = json.loads((path / MANIFEST).read_text()) | {"expired": {}}
        for name, rows in tables.items():
            kept = _without(rows, name, manifest)
            _replace(path / f"{name}.parquet", partial(pq.write_table, kept, compression="zstd"))
        _replace(path / MANIFEST, lambda file: file.write_text(json.dumps(manifest, indent=1)))


def _gone(manifest: Mapping[str, Any], name: str) -> set[int]:
    """Places of the rows of a table that were taken out, for whatever reason."""
    return {place for part in _GONE for place in manifest.get(part, {}).get(name, [])}


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """A read-only file of a set by another, in one step."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    write(fresh)
    fresh.chmod(0o444)
    fresh.replace(path)


def _verify(path: Path) -> list[str]:
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        leaves = {table.name: [bytes.fromhex(leaf) for leaf in manifest["leaves"][table.name]] for table in TABLES}
        gone = {table.name: _gone(manifest, table.name) for table in TABLES}
        digest = str(manifest["digest"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"{MANIFEST}: cannot be read ({type(error).__name__}: {error})"]
    problems = []
    if digest != path.name:
        problems.append(f"{MANIFEST}: its digest is {digest}, the folder's name {path.name}")
    if merkle.root([leaf for table in TABLES for leaf in leaves[table.name]]).hex() != digest:
        problems.append(f"{MANIFEST}: the leaves do not make up the digest")
    for table in TABLES:
        expected = [leaf for place, leaf in enumerate(leaves[table.name]) if place not in gone[table.name]]
        problems += _verify_rows(path, table, expected, manifest)
    return problems


def _key(rows: pa.Table) -> str:
    """The column that names a row of a label table."""
    [key] = [table.key[0] for table in TABLES if table.key[0] in rows.column_names]
    return key


def _first_by_priority(rows: pa.Table, count: int, seed: int) -> pa.Table:
    keys = (f"{seed}:{row}".encode() for row in rows[_key(rows)].to_pylist())
    priority = [hashlib.blake2b(key, digest_size=16).digest() for key in keys]
    return rows.take(pa.array(sorted(range(len(priority)), key=priority.__getitem__)[:count], pa.int64()))


def _canonical(rows: pa.Table, table: schema.Table) -> pa.Table:
    """The table's columns in its order and types, rows by id, each id once."""
    rows = rows.select(table.arrow.names).cast(table.arrow)
    ids = rows[table.key[0]]
    assert pc.count_distinct(ids).as_py() == rows.num_rows, f"{table.name}: a row came twice"
    return rows.take(pc.sort_indices(ids)).combine_chunks()


def _leaves(name: str, rows: pa.Table, salts: list[bytes]) -> list[bytes]:
    """Salted hash of each row: JSON of its columns by name, times as microseconds and dates as days since 1970."""
    names = sorted(set(rows.column_names) - BOOKKEEPING - {_SALT})
    columns = [_plain(rows[column]).to_pylist() for column in names]
    return [
        merkle.leaf(salt, _encode([name, dict(zip(names, values, strict=True))]))
        for salt, *values in zip(salts, *columns, strict=True)
    ]


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("us", tz=column.type.tz)).cast(pa.int64())
    return column.cast(pa.int32()) if pa.types.is_date(column.type) else column


def _verify_rows(path: Path, table: schema.Table, expected: list[bytes], manifest: Mapping[str, Any]) -> list[str]:
    try:
        rows = _standing(path, table.name, manifest)
        leaves = _leaves(table.name, rows, rows[_SALT].to_pylist())
    except (OSError, KeyError, pa.ArrowException) as error:
        return [f"{table.name}: cannot be read ({type(error).__name__}: {error})"]
    problems = []
    if len(leaves) != len(expected):
        problems.append(f"{table.name}: {len(expected)} rows were frozen and not erased, {len(leaves)} are there")
    known = set(expected)
    strange = [row for row, leaf in zip(rows[_key(rows)].to_pylist(), leaves, strict=True) if leaf not in known]
    if strange:
        problems.append(f"{table.name}: {len(strange)} rows are not what was frozen, the first is {strange[0]}")
    elif not problems and leaves != expected:
        problems.append(f"{table.name}: the rows are not in the order in which they were frozen")
    return problems


def _standing(path: Path, name: str, manifest: Mapping[str, Any]) -> pa.Table:
    """The rows of a set, without any that the manifest calls gone and that a kill has left there."""
    rows, gone = _read(path, name), len(_gone(manifest, name))
    return rows if not gone or rows.num_rows <= len(manifest["leaves"][name]) - gone else _without(rows, name, manifest)


def _without(rows: pa.Table, name: str, manifest: Mapping[str, Any]) -> pa.Table:
    """Rows of a set without those that the manifest calls gone."""
    gone = {manifest["leaves"][name][place] for place in _gone(manifest, name)}
    here = _leaves(name, rows, rows[_SALT].to_pylist())
    return rows.filter(pa.array([leaf.hex() not in gone for leaf in here], pa.bool_()))


def _read(path: Path, name: str) -> pa.Table:
    schema_ = schema.TABLES[name].arrow.append(pa.field(_SALT, pa.binary(32)))
    return pq.read_table(path / f"{name}.parquet").select(schema_.names).cast(schema_)


def _write(path: Path, tables: Mapping[str, pa.Table], manifest: Mapping[str, Any]) -> None:
    """Write a folder of read-only files and put it in place in one step, unless another process was faster."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{path.name[:12]}.", dir=path.parent))
    try:
        for name, rows in tables.items():
            pq.write_table(rows, fresh / f"{name}.parquet", compression="zstd")
        (fresh / MANIFEST).write_text(json.dumps(manifest, indent=1))
        for file in fresh.iterdir():
            file.chmod(0o444)
        try:
            fresh.rename(path)
        except OSError:
            if not (path / MANIFEST).exists():
                raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
