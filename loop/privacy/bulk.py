"""Masking of whole columns: a cheap look at everything in Arrow, the recognisers only where something may be.

RE2 passes over each column; a text in which it finds nothing is never seen by Python. Of the others each distinct one
is searched once, and only the interactions that they belong to are taken apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from loop.privacy import recognise
from loop.privacy.masking import Counts, Veil, made_of
from loop.privacy.recognise import SUSPICIOUS, Find, Span

TEXTS: Final = {"prompt": "content", "candidates": "text", "final_text": None}
"""The columns of an interaction that hold texts, in the order in which placeholders are numbered; of a list of
structures, the field."""


class Masked(NamedTuple):
    """A table whose texts are masked."""

    rows: pa.Table
    counts: dict[int, Counts]
    """Of each row in which something was masked, by its place: spans by type."""

    def total(self) -> Counts:
        return sum(self.counts.values(), Counter())


def mask(rows: pa.Table, find: Find) -> Masked:
    """The rows with their texts masked, each row an interaction of its own; nothing else of them changes.

    Of the columns of `TEXTS` those that are there are masked. Memory: the texts that are suspicious, twice.
    """
    columns = {name: _Texts(rows[name], inner) for name, inner in TEXTS.items() if name in rows.column_names}
    # Other recognisers than ours find what is not suspicious to us: names.
    pattern, search = (SUSPICIOUS, recognise.search) if find is recognise.find else (None, find)
    found: dict[str, list[Span]] = {}
    hit: set[int] = set()
    for column in columns.values():
        for row, text in column.suspicious(pattern):
            if text not in found:
                found[text] = search(text)
            if found[text]:
                hit.add(row)
    if not hit:
        return Masked(rows, {})
    places = sorted(hit)
    told = {name: column.of(places) for name, column in columns.items()}
    decided = (
        rows.select([name for name in ("decision", "chosen") if name in rows.column_names]).take(places).to_pylist()
    )
    counts: dict[int, Counts] = {}
    for at, row in enumerate(places):
        texts = {name: values[at] for name, values in told.items()}
        counts[row] = _mask_one(texts, decided[at] if decided else {}, lambda text: found.get(text, []))
        for name, values in texts.items():
            columns[name].put(row, values)
    for name, column in columns.items():
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, rows.schema.field(name), column.rebuilt())
    return Masked(rows, counts)


def _mask_one(texts: dict[str, list[str | None]], decision: dict[str, Any], find: Find) -> Counts:
    """Mask the texts of one interaction in place."""
    veil = Veil(find)
    final, shown = texts.get("final_text", []), texts.get("candidates", [])
    chosen = decision.get("chosen")
    if final and final[0] and chosen is not None and 0 <= chosen < len(shown) and shown[chosen]:
        final[0] = made_of(final[0], shown[chosen], find, edited=decision.get("decision") != "accept")
    veil.reserve([text for values in texts.values() for text in values if text])
    for values in texts.values():
        values[:] = [veil.mask(text) if text else text for text in values]
    return veil.counts


class _Texts:
    """The texts of one column, flat, and which row each belongs to."""

    def __init__(self, column: pa.ChunkedArray, inner: str | None) -> None:
        self.inner = inner
        self.column = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        if inner is None:
            self.flat: pa.Array = self.column
            self.starts: Sequence[int] | None = None
        else:
            lengths = pc.fill_null(pc.list_value_length(self.column), 0)
            self.starts = [0, *pc.cumulative_sum(lengths.cast(pa.int64())).to_pylist()]
            self.structs = self.column.flatten()
            self.flat = self.structs.field(inner) if self.structs.offset == 0 else pc.struct_field(self.structs, inner)
        self.changed: dict[int, str | None] = {}

    def suspicious(self, pattern: str | None) -> Iterator[tuple[int, str]]:
        """The texts that are worth a look, each with its row."""
        found = pc.is_valid(self.flat) if pattern is None else pc.match_substring_regex(self.flat, pattern)
        places = pc.indices_nonzero(pc.fill_null(found, False))
        rows = places if self.starts is None else pc.list_parent_indices(self.column).take(places)
        yield from zip(rows.to_pylist(), self.flat.take(places).to_pylist(), strict=True)

    def of(self, rows: Sequence[int]) -> list[list[str | None]]:
        """The texts of some rows."""
        if self.starts is None:
            return [[text] for text in self.flat.take(pa.array(rows, pa.int64())).to_pylist()]
        places = [place for row in rows for place in range(self.starts[row], self.starts[row + 1])]
        texts = iter(self.flat.take(pa.array(places, pa.int64())).to_pylist())
        return [[next(texts) for _ in range(self.starts[row], self.starts[row + 1])] for row in rows]

    def put(self, row: int, values: list[str | None]) -> None:
        first = row if self.starts is None else self.starts[row]
        self.changed.update(enumerate(values, first))

    def rebuilt(self) -> pa.Array:
        """The column with what was put."""
        import numpy as np

        places = sorted(self.changed)
        mask = np.zeros(len(self.flat), dtype=bool)
        mask[places] = True
        new = pa.array([self.changed[place] for place in places], self.flat.type)
        flat = pc.replace_with_mask(self.flat, pa.array(mask), new)
        if self.starts is None:
            return flat
        fields = [self.structs.type.field(i) for i in range(self.structs.type.num_fields)]
        arrays = [flat if f.name == self.inner else pc.struct_field(self.structs, f.name) for f in fields]
        structs = pa.StructArray.from_arrays(arrays, fields=fields)
        offsets = pa.array(self.starts, pa.int32())
        nulls = pc.is_null(self.column) if self.column.null_count else None
        return pa.ListArray.from_arrays(offsets, structs, type=self.column.type, mask=nulls)
