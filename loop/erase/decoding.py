"""Reading what is compressed or encoded as the texts that it holds: a search for bytes finds none of these."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

PIECE: Final = 4 << 20
"""Characters of a text that are looked at together."""
_OVERLAP: Final = 64 << 10


def texts(path: Path) -> Iterator[list[str]]:
    """The texts of a file, as far as it can be decoded; and in any case what its bytes are as they stand."""
    if path.suffix == ".parquet":
        with contextlib.suppress(pa.ArrowException):  # cut short: its bytes are all there is
            yield from parquet(path)
    elif path.suffix == ".gz":
        with contextlib.suppress(OSError, EOFError, zlib.error):
            yield from pieces(gzip.decompress(path.read_bytes()))
    elif path.suffix in {".zst", ".zstd"}:
        with contextlib.suppress(OSError), pa.CompressedInputStream(pa.memory_map(str(path)), "zstd") as unpacked:
            yield from pieces(unpacked.read())
    yield from pieces(path.read_bytes())


def parquet(path: Path) -> Iterator[list[str]]:
    """Every text of every column, nested ones too, a row group at a time."""
    file = pq.ParquetFile(path)
    for group in range(file.num_row_groups):
        rows = file.read_row_group(group)
        for name in rows.column_names:
            for column in _leaves(rows[name]):
                yield column.drop_null().to_pylist()


def pieces(data: bytes) -> Iterator[list[str]]:
    """Bytes as text, in overlapping pieces; what is no UTF-8 is replaced."""
    for at in range(0, max(len(data), 1), PIECE):
        yield [data[at : at + PIECE + _OVERLAP].decode("utf-8", "replace")]


def _leaves(column: pa.ChunkedArray) -> Iterator[pa.ChunkedArray]:
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _leaves(pa.chunked_array(pc.list_flatten(column), type=kind.value_type))
    elif pa.types.is_map(kind):
        for chunk in column.chunks:
            yield from _leaves(pa.chunked_array([chunk.keys]))
            yield from _leaves(pa.chunked_array([chunk.items]))
    elif pa.types.is_struct(kind):
        for place in range(kind.num_fields):
            yield from _leaves(pc.struct_field(column, place))
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        yield column
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        yield pa.chunked_array([[v.decode("utf-8", "replace") for v in column.drop_null().to_pylist()]], pa.string())
