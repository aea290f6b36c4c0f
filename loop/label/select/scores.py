"""How much each question of a batch would tell, by reason: in bulk what is cheap, of a random part what is not.

Of a batch of any size, every question is sketched, and novelty, cues and slices are measured on every question. What
the committee holds, and which house rules are broken, is measured on at most `POOL` of the distinct questions, drawn at
random: so a day costs what its rows cost to read, and a task is chosen from thousands all the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loop.label.select import risk
from loop.label.select.budget import Reason
from loop.label.select.scorers import Committee
from loop.label.select.sketches import EMPTY, Sketches, groups, representatives, sketches
from loop.label.select.words import Hashes, Ints, Seen, Words, mixed, words
from loop.label.tasks import Kind
from loop.workflows import Workflow

Reals = NDArray[np.float64]
Flags = NDArray[np.bool_]

Scores = dict[Reason, Reals]
"""By reason, one entry a question."""

POOL: Final = 20_000
_STANDS: Final = np.uint64(0xD1B54A32D192ED03)


def seen(*texts: pa.Array) -> Seen:
    """The words and bigrams of texts."""
    return Seen.of(*(part.hashes for text in texts for part in _parts(words(text))))


@dataclass(frozen=True)
class Batch:
    """The questions of a batch, one entry each; texts are left where they are."""

    draw: Hashes
    pool: Hashes
    kind: NDArray[np.int8]
    """Index into `KINDS`."""
    held_out: Flags
    weight: Reals
    novelty: Reals
    slice: Reals
    cues: Ints
    sketch: Sketches
    """Such that questions of different kinds are not alike."""

    def __len__(self) -> int:
        return len(self.draw)

    def take(self, which: Ints) -> Batch:
        return Batch(**{name: values[which] for name, values in vars(self).items()})


KINDS: Final = (Kind.PREFERENCE, Kind.CATEGORY, Kind.REWRITE)


def measure(pieces: Iterable[pa.Table], *, asked: Seen, benchmark: Seen, workflow: Workflow) -> Batch:
    """What can be said of each question on its own; see `questions.pieces`.

    Args:
        asked: what was asked, or learned from, before.
        benchmark: the prompts of the benchmark.
    """
    found = [_measured(piece, asked, benchmark, workflow) for piece in pieces]
    if not found:
        found = [_measured(_NOTHING, asked, benchmark, workflow)]
    return Batch(**{name: np.concatenate([getattr(batch, name) for batch in found]) for name in vars(found[0])})


def sketched(prompt: pa.Array, first: pa.Array, second: pa.Array) -> Sketches:
    """Sketches of questions, by which near-duplicates are known, whichever text stands first."""
    return sketches(*(part for text in (prompt, first, second) for part in _parts(words(text))))


def distinct(batch: Batch, before: Sketches) -> tuple[Ints, int]:
    """Places of one question of each kind of near-duplicates, and how many were asked before.

    Args:
        before: sketches of what was asked before: questions like it are not asked again.
    """
    # Questions of different kinds are different questions; one of training and one of evaluation are the same.
    everything = np.concatenate([batch.sketch, *(_salted(before, kind) for kind in range(len(KINDS)))])
    group = groups(everything)
    own, earlier = group[: len(batch)], np.unique(group[len(batch) :])
    known = np.isin(own, earlier)
    first = representatives(own, mixed(batch.draw ^ _STANDS))  # by their draws, many would explore more often than one
    return first[~known[first]], int(known.sum())


def pooled(batch: Batch) -> Ints:
    """Places of at most `POOL` questions, drawn at random from those that may be chosen for a reason."""
    free = np.flatnonzero(~batch.held_out)
    return np.sort(free[np.argsort(batch.pool[free], kind="stable")[:POOL]])


def scores(batch: Batch, pool: Ints, texts: pa.Table, committee: Committee | None, workflow: Workflow) -> Scores:
    """Scores of the questions by reason, nan outside of the pool and where it was not measured.

    Args:
        texts: the questions of the pool, whole, in its order; see `questions.whole`.
        committee: None where there is nothing to learn from.
    """
    found: Scores = {reason: np.full(len(batch), np.nan) for reason in Reason if reason is not Reason.RANDOM}
    found[Reason.NOVELTY][pool] = batch.novelty[pool]
    found[Reason.SLICE][pool] = batch.slice[pool]
    believed = batch.weight[pool].copy()
    pairs = np.flatnonzero(batch.kind[pool] == KINDS.index(Kind.PREFERENCE))
    if committee is not None and len(pairs):
        prompt, standing, against = (_column(texts, name).take(pairs) for name in ("asked", "standing", "against"))
        opinion = committee.opinion(prompt, standing, against)
        found[Reason.DISAGREEMENT][pool[pairs]] = opinion.disagreement
        believed[pairs] *= opinion.probability
    found[Reason.CONFLICT][pool] = np.where(believed < 0.5, 1.0 - believed, 0.0)
    told = zip(*(_column(texts, name).to_pylist() for name in ("asked", "first", "second")), strict=True)
    rules = np.array([risk.broken(workflow, asked, *(t for t in pair if t)) for asked, *pair in told])
    found[Reason.RISK][pool] = batch.cues[pool] + (rules if len(rules) else 0.0)
    return found


_NOTHING: Final = pa.table(
    {
        **{name: pa.array([], pa.uint64()) for name in ("draw", "pool")},
        **{name: pa.array([], pa.string()) for name in ("kind", "asked", "first", "second")},
        "held_out": pa.array([], pa.bool_()),
        "weight": pa.array([], pa.float64()),
    }
)


def _measured(piece: pa.Table, asked: Seen, benchmark: Seen, workflow: Workflow) -> Batch:
    prompt, first, second = (_parts(words(_column(piece, name))) for name in ("asked", "first", "second"))
    every = (*prompt, *first, *second)
    kinds = _column(piece, "kind").dictionary_encode()
    number = np.array([KINDS.index(Kind(name)) for name in kinds.dictionary.to_pylist()] or [0], np.int8)
    kind = number[np.asarray(kinds.indices, np.int64)]
    return Batch(
        draw=_column(piece, "draw").to_numpy(),
        pool=_column(piece, "pool").to_numpy(),
        kind=kind,
        held_out=_column(piece, "held_out").to_numpy(zero_copy_only=False),
        weight=_column(piece, "weight").to_numpy(),
        novelty=asked.unseen(*every),
        slice=benchmark.unseen(*prompt),
        cues=risk.cued(workflow, prompt[0], first[0], second[0]),
        sketch=_salted(sketches(*every), kind),
    )


def _parts(found: Words) -> tuple[Words, Words]:
    """The words of texts, and their bigrams."""
    return found, found.pairs()


def _salted(sketch: Sketches, kind: int | NDArray[np.int8]) -> Sketches:
    """Sketches that agree only within a kind; what is empty stays so."""
    salt = np.broadcast_to(np.asarray(kind, np.uint32) << np.uint32(28), len(sketch))
    return np.where(sketch == EMPTY, sketch, np.minimum(sketch ^ salt[:, None], EMPTY - 1))


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table[name].combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        return column.chunk(0) if column.num_chunks else pa.array([], column.type)
    return column
