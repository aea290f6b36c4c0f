"""What an edit changed: the spans in which a person's text differs from the suggestion, by characters of both.

Texts are aligned by words, runs of white space and single signs, so that a span says which words were changed. It takes
bounded time whatever the texts are; where they are too long, lines and sentences are aligned first, and what is too
long even then is one span.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

MOST_CELLS: Final = 50_000_000
"""Cells of alignment tables for one edit (tokens of one text times tokens of the other): some tens of milliseconds."""
MOST_COARSE: Final = 200_000_000
"""The same for lines and sentences, of which long texts have few."""
_TOKEN: Final = re.compile(r"\w+|\s+|[^\w\s]")
_SENTENCE: Final = re.compile(r"[^.!?\n]*[.!?\n]+|[^.!?\n]+")
_LONGEST_WORD: Final = 64
"""A cut inside a longer run of letters is not moved to where it begins."""


class Span(NamedTuple):
    """One change. Of an insertion `start == end`, of a deletion `final_start == final_end`."""

    op: str
    """insert, delete or replace."""
    start: int
    end: int
    """Characters of the suggestion."""
    final_start: int
    final_end: int
    """Characters of the final text."""
    removed: str
    added: str


class Changed(NamedTuple):
    """What was changed, in order; between the spans both texts are the same."""

    spans: list[Span]
    exact: bool
    """False where something was too long to be aligned, and is one span."""


def changes(before: str, after: str) -> Changed:
    """The spans that lead from one text to the other.

    What both begin and end with is left aside; the rest is aligned along a longest common subsequence of its tokens
    (Hyyrö 2004, bit-parallel, as rapidfuzz does it).
    """
    start, tail = _common(before, after)
    middle, final = before[start : len(before) - tail], after[start : len(after) - tail]
    blocks, exact = _aligned(middle, final)
    spans = [
        Span(_op(a, b, c, d), start + a, start + b, start + c, start + d, middle[a:b], final[c:d])
        for a, b, c, d in _merged(blocks, middle)
    ]
    return Changed(spans, exact)


def apply(before: str, spans: Sequence[Any]) -> str:
    """The text that the spans lead to. Spans as `changes` gives them, or as mappings.

    Raises:
        ValueError: they are not spans of this text.
    """
    pieces, at = [], 0
    for span in (s if isinstance(s, Span) else Span(**s) for s in spans):
        if span.start < at or before[span.start : span.end] != span.removed:
            raise ValueError(f"a span removes {span.removed!r} at {span.start}, where the text has something else")
        pieces += [before[at : span.start], span.added]
        at = span.end
    return "".join([*pieces, before[at:]])


def kept(before: str, spans: Sequence[Span]) -> float:
    """Share of a text's characters that no span removes; 1 of an empty text."""
    return 1 - sum(s.end - s.start for s in spans) / len(before) if before else 1.0


# -- inside -----------------------------------------------------------------------------------------------------------

Block = tuple[int, int, int, int]
"""Start and end in one text, start and end in the other."""


def _common(before: str, after: str) -> tuple[int, int]:
    """Characters that both texts begin with, and end with; neither cuts a word, and they do not overlap."""
    most = min(len(before), len(after))
    start = _longest(most, lambda n: before[:n] == after[:n])
    if start < max(len(before), len(after)):
        start = _out_of_word(start, before, after)
    most -= start
    tail = _longest(most, lambda n: before[len(before) - n :] == after[len(after) - n :])
    if tail:
        tail = _out_of_word(tail, before[start:][::-1], after[start:][::-1])
    return start, tail


def _longest(most: int, same: Any) -> int:
    """The greatest n up to `most` of which `same` holds, as it does of every smaller one."""
    low, high = 0, most
    while low < high:
        half = (low + high + 1) // 2
        low, high = (half, high) if same(half) else (low, half - 1)
    return low


def _out_of_word(cut: int, *texts: str) -> int:
    """A place at or a little before `cut` at which no text has letters on both sides."""
    for place in range(cut, max(0, cut - _LONGEST_WORD), -1):
        if not any(place < len(t) and _letter(t[place - 1]) and _letter(t[place]) for t in texts):
            return place
    return 0 if cut <= _LONGEST_WORD else cut


def _letter(sign: str) -> bool:
    return sign.isalnum() or sign == "_"


def _aligned(before: str, after: str) -> tuple[list[Block], bool]:
    """Blocks in which two texts differ."""
    if not before or not after:
        return [(0, len(before), 0, len(after))], True
    first, second = _TOKEN.findall(before), _TOKEN.findall(after)
    if len(first) * len(second) <= MOST_CELLS:
        return list(_differing(first, second)), True
    sentences = _SENTENCE.findall(before), _SENTENCE.findall(after)
    if len(sentences[0]) * len(sentences[1]) > MOST_COARSE:
        return [(0, len(before), 0, len(after))], False
    blocks: list[Block] = []
    exact, left = True, MOST_CELLS
    for a, b, c, d in _merged(list(_differing(*sentences)), before):
        first, second = _TOKEN.findall(before[a:b]), _TOKEN.findall(after[c:d])
        left -= len(first) * len(second)
        if left < 0:
            blocks.append((a, b, c, d))
            exact = False
        else:
            blocks += [(a + i, a + j, c + k, c + m) for i, j, k, m in _differing(first, second)]
    return blocks, exact


def _differing(first: Sequence[str], second: Sequence[str]) -> Iterator[Block]:
    """Where two sequences of tokens differ, in characters."""
    from rapidfuzz.distance import Indel

    ends, finals = _ends(first), _ends(second)
    for step in Indel.opcodes(first, second):
        if step.tag != "equal":
            yield ends[step.src_start], ends[step.src_end], finals[step.dest_start], finals[step.dest_end]


def _ends(tokens: Sequence[str]) -> list[int]:
    """Where each token begins, and where the last one ends."""
    places = [0]
    for token in tokens:
        places.append(places[-1] + len(token))
    return places


def _merged(blocks: Sequence[Block], before: str) -> list[Block]:
    """Blocks with nothing but white space between them become one: a deletion beside an insertion is a replacement, and
    another sentence is another sentence, not as many words that happen to have spaces between them."""
    found: list[Block] = []
    for a, b, c, d in blocks:
        if a == b and c == d:
            continue
        if found and not before[found[-1][1] : a].strip():
            found[-1] = (found[-1][0], b, found[-1][2], d)
        else:
            found.append((a, b, c, d))
    return found


def _op(a: int, b: int, c: int, d: int) -> str:
    return "insert" if a == b else "delete" if c == d else "replace"
