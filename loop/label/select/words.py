"""Words of many texts as numbers, in bulk: one pass over the bytes, no Python per text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Ints = NDArray[np.int64]

_BYTES: Final = 1 << 18
"""Bytes that are looked at together: the arrays of eight times as much stay in the cache, twice as fast."""
_BITS: Final = 22
_BASE: Final = np.uint64(0x9E3779B97F4A7C15)
_UNBASE: Final = np.uint64(pow(0x9E3779B97F4A7C15, -1, 2**64))


@dataclass(frozen=True)
class Words:
    """Hashed words of texts, in their order; `of[i]` is the text of `hashes[i]`, ascending."""

    hashes: Hashes
    of: Ints
    texts: int

    @property
    def starts(self) -> Ints:
        """Place of each text's first word, and the number of words at the end; texts + 1."""
        return np.asarray(np.searchsorted(self.of, np.arange(self.texts + 1)), np.int64)

    def take(self, which: NDArray[np.bool_]) -> Words:
        """Some of the words; there are as many texts as before."""
        return Words(self.hashes[which], self.of[which], self.texts)

    def pairs(self) -> Words:
        """Words that stand beside each other (bigrams), hashed in their order."""
        beside = self.of[1:] == self.of[:-1]
        joined = mixed(self.hashes[:-1] * _BASE + self.hashes[1:])
        return Words(joined[beside], self.of[1:][beside], self.texts)

    def first(self, most: int) -> Words:
        """The first `most` words of each text."""
        return self.take(np.arange(len(self.of)) - self.starts[self.of] < most)

    def last(self, most: int) -> Words:
        """The last `most` words of each text."""
        return self.take(self.starts[self.of + 1] - np.arange(len(self.of)) <= most)


@dataclass(frozen=True)
class Seen:
    """Hashes that were met before, as a set (a Bloom filter of one hash: Bloom 1970; of 10,000 words, one in 400 that
    was not met is taken for one that was)."""

    there: NDArray[np.bool_]

    @classmethod
    def of(cls, *hashes: Hashes) -> Seen:
        there = np.zeros(1 << _BITS, bool)
        for some in hashes:
            there[_place(some)] = True
        return cls(there)

    def has(self, hashes: Hashes) -> NDArray[np.bool_]:
        return np.asarray(self.there[_place(hashes)])

    def unseen(self, *parts: Words) -> NDArray[np.float64]:
        """Of each text the share of its words, in all of its parts, that were not met; nan where nothing was met."""
        if not self.there.any():
            return np.full(parts[0].texts, np.nan)
        count, new = np.zeros((2, parts[0].texts))
        for part in parts:
            count += np.bincount(part.of, minlength=part.texts)
            new += np.bincount(part.of[~self.has(part.hashes)], minlength=part.texts)
        return np.asarray(new / np.maximum(count, 1))


def words(texts: pa.Array | pa.ChunkedArray) -> Words:
    """The words of texts: runs of letters and digits, without regard to case; a letter beyond ASCII is one.

    A word's hash is a polynomial of its bytes modulo 2^64, taken from running sums (Karp and Rabin 1987), then mixed.
    """
    column = texts.cast(pa.large_string())
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    hashes, of = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for at, offsets, data in _pieces(column):
        found, whose = _piece(offsets, data)
        hashes.append(found)
        of.append(whose + at)
    return Words(np.concatenate(hashes), np.concatenate(of), len(column))


def mixed(values: Hashes) -> Hashes:
    """A permutation of 64 bits in which every bit depends on all (the finaliser of splitmix64; Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))


def word(text: str) -> int:
    """The hash of one word."""
    return int(words(pa.array([text])).hashes[0])


def _place(hashes: Hashes) -> Ints:
    return (hashes >> np.uint64(64 - _BITS)).astype(np.int64)


def _pieces(column: pa.LargeStringArray) -> Iterator[tuple[int, Ints, NDArray[np.uint8]]]:
    """Number of the first text, offsets and bytes, a few texts after the other."""
    _, offsets_buffer, data_buffer = column.buffers()
    if not len(column) or data_buffer is None:
        return
    offsets = np.frombuffer(offsets_buffer, np.int64)[column.offset : column.offset + len(column) + 1]
    data = np.frombuffer(data_buffer, np.uint8)
    at = 0
    while at < len(column):
        end = int(np.searchsorted(offsets, offsets[at] + _BYTES, "right")) - 1
        end = min(max(end, at + 1), len(column))
        yield at, offsets[at : end + 1] - offsets[at], data[offsets[at] : offsets[end]]
        at = end


def _piece(offsets: Ints, data: NDArray[np.uint8]) -> tuple[Hashes, Ints]:
    """Hash of each word, and number of its text."""
    letters = _LETTERS[data]
    inside = np.zeros(len(data) + 2, bool)
    inside[1:-1] = letters > 0
    first = inside[1:] & ~inside[:-1]
    last = inside[:-1] & ~inside[1:]
    # A word ends with its text, whatever follows.
    edges = offsets[1:-1]
    edges = edges[(edges > 0) & (edges < len(data))]
    cut = edges[inside[edges] & inside[edges + 1]]
    first[cut] = True
    last[cut] = True
    begins, ends = np.flatnonzero(first), np.flatnonzero(last)
    powers, unpowers = _powers(1 << max(len(data).bit_length(), 12))
    sums = np.zeros(len(data) + 1, np.uint64)
    np.cumsum(letters.astype(np.uint64) * powers[: len(data)], out=sums[1:])
    hashes = mixed((sums[ends] - sums[begins]) * unpowers[begins])
    return hashes, np.searchsorted(offsets, begins, "right") - 1


@cache
def _powers(size: int) -> tuple[Hashes, Hashes]:
    """Powers of the base and of its inverse."""

    def of(base: np.uint64) -> Hashes:
        powers = np.full(size, base, np.uint64)
        powers[0] = 1
        return np.asarray(np.cumprod(powers, dtype=np.uint64))

    return of(_BASE), of(_UNBASE)


def _letters() -> NDArray[np.uint8]:
    """Byte to itself in lower case; 0 where it is no part of a word."""
    table = np.zeros(256, np.uint8)
    table[128:] = np.arange(128, 256)
    for low, high in (("0", "9"), ("a", "z")):
        table[ord(low) : ord(high) + 1] = np.arange(ord(low), ord(high) + 1)
    table[ord("A") : ord("Z") + 1] = np.arange(ord("a"), ord("z") + 1)
    return table


_LETTERS: Final = _letters()
