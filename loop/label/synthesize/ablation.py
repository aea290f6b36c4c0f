"""Whether synthetic rows help: a cheap proxy trained with them and without, measured on held-out answers of people.

The proxy is a conditional model of words, which learns in a second what fine-tuning learns in minutes: which words go
with which of the prompt, and after which. What it gains or loses is no promise for a transformer; what does not even
help it is not used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

PROXY: Final = "words: trigram, bigram and attention to the prompt's words; nats per held-out answer, less is better"
LEAST_PEOPLE: Final = 5
"""Of fewer people's rows no interval is worth its name."""
MOST_ROWS: Final = 4_000
"""Rows that the proxy is trained on, and measured on, at most."""
_PROMPT_WORDS: Final = 32
_ROUNDS: Final = 6
_SPARE: Final = 10
"""Every tenth real row is kept apart to weigh the proxy's parts."""

Reals = NDArray[np.float64]
Ints = NDArray[np.int64]
Pair = tuple[str, str]
"""A prompt and its answer."""


@dataclass(frozen=True)
class Ablated:
    """What the rows change. The gain is positive where the proxy is better with them."""

    real_rows: int
    held_out_rows: int
    people: int
    score_without: float | None
    """Mean nats of a held-out answer."""
    score_with: float | None
    gain: float | None
    low: float | None
    high: float | None
    """95 % interval, of Student's t over people: their rows are not independent."""

    @property
    def helps(self) -> bool:
        return self.low is not None and self.low > 0


def ablate(real: Sequence[Pair], synthetic: Sequence[Pair], held_out: Sequence[Pair], people: Sequence[str]) -> Ablated:
    """Train without and with synthetic rows, everything else equal, and compare on the same held-out rows.

    Args:
        people: who wrote each held-out answer.
    """
    real, held_out, people = real[:MOST_ROWS], held_out[:MOST_ROWS], people[:MOST_ROWS]
    counts = (len(real), len(held_out), len(set(people)))
    if counts[2] < LEAST_PEOPLE or counts[0] < 2 * _SPARE or not synthetic:
        return Ablated(*counts, None, None, None, None, None)
    spare = [pair for i, pair in enumerate(real) if not i % _SPARE]
    rest = [pair for i, pair in enumerate(real) if i % _SPARE]
    vocabulary: dict[str, int] = {"": 0, "\n": 1}
    for pair in (*real, *synthetic, *held_out):
        for word in _split(" ".join(pair)):
            vocabulary.setdefault(word, len(vocabulary))
    losses = [_losses(rows, spare, held_out, vocabulary) for rows in (rest, [*rest, *synthetic])]
    low, high = interval(losses[0] - losses[1], people)
    without, with_ = (float(loss.mean()) for loss in losses)
    return Ablated(*counts, without, with_, without - with_, low, high)


def interval(differences: Reals, people: Sequence[str]) -> tuple[float, float]:
    """95 % interval of a mean over rows, several a person: cluster-robust (Liang and Zeger 1986), Student's t."""
    from scipy.stats import t

    _, who = np.unique(np.asarray(people), return_inverse=True)
    mean, clusters = float(differences.mean()), int(who.max()) + 1
    sums = np.bincount(who, differences - mean)
    error = float(np.sqrt(clusters / (clusters - 1) * (sums**2).sum()) / len(differences))
    half = float(t.ppf(0.975, clusters - 1)) * error
    return mean - half, mean + half


# -- the proxy --------------------------------------------------------------------------------------------------------


def _losses(
    rows: Sequence[Pair], spare: Sequence[Pair], held_out: Sequence[Pair], vocabulary: Mapping[str, int]
) -> Reals:
    """Nats of each held-out answer under a model of the rows, its parts weighed on the spare ones."""
    parts = [_cells(part, vocabulary) for part in (rows, spare, held_out)]
    probabilities = _fitted(parts[0], parts[1:], len(vocabulary))
    weights = np.full(len(probabilities[0]), 1 / len(probabilities[0]))
    for _ in range(30):  # EM of mixture weights
        share = weights[:, None] * probabilities[0]
        weights = (share / share.sum(axis=0)).mean(axis=1)
    weights = 0.999 * weights + 0.001 / len(weights)  # no word is impossible
    nats = -np.log(weights @ probabilities[1])
    return np.bincount(parts[2].row, nats, minlength=len(held_out)).astype(np.float64)


@dataclass(frozen=True)
class _Cells:
    """Words of answers (one entry each), and each with the words of its prompt (one entry a pair)."""

    row: Ints
    word: Ints
    before: Ints
    before_that: Ints
    of: Ints
    """Place of the answer's word, by pair."""
    asked: Ints
    """The prompt's word, by pair."""


def _cells(pairs: Sequence[Pair], vocabulary: Mapping[str, int]) -> _Cells:
    row, word, before, before_that, of, asked = ([], [], [], [], [], [])  # type: ignore[var-annotated]
    for i, (prompt, answer) in enumerate(pairs):
        told = [vocabulary[w] for w in dict.fromkeys(_split(prompt)[-_PROMPT_WORDS:])]
        said = [0, 0, *(vocabulary[w] for w in _split(answer)), 1]
        for at in range(2, len(said)):
            of += [len(row)] * (len(told) + 1)
            asked += [0, *told]
            row.append(i)
            word.append(said[at])
            before.append(said[at - 1])
            before_that.append(said[at - 2])
    return _Cells(*(np.asarray(column, np.int64) for column in (row, word, before, before_that, of, asked)))


def _split(text: str) -> list[str]:
    return text.casefold().replace(",", " ,").replace(".", " .").replace(";", " ;").split()


def _fitted(train: _Cells, others: Sequence[_Cells], size: int) -> list[Reals]:
    """Of each of the others' words, its probability under each part of the model: parts by words."""
    attention = _attention(train, others, size)
    found = []
    for cells, attended in zip(others, attention, strict=True):
        plain = [
            np.full(len(cells.word), 1 / size),
            _share(train.word * 0, train.word, cells.word * 0, cells.word, size),
            _share(train.before, train.word, cells.before, cells.word, size),
            _share(
                train.before_that * size + train.before,
                train.word,
                cells.before_that * size + cells.before,
                cells.word,
                size,
            ),
        ]
        found.append(np.stack([*plain, attended]))
    return found


def _share(given: Ints, word: Ints, wanted_given: Ints, wanted: Ints, size: int) -> Reals:
    """Share of the words after a context that are this one; 0 of contexts that never were."""
    joint, of = _counted(given * size + word, None), _counted(given, None)
    return _looked_up(joint, wanted_given * size + wanted) / np.maximum(_looked_up(of, wanted_given), 1)


def _attention(train: _Cells, others: Sequence[_Cells], size: int) -> list[Reals]:
    """A mixture over the words of the prompt, by the word before: which of them decides, and what it makes of it.

    Fitted by EM (as IBM's model 1: Brown et al. 1993, with a weight for each pair of words).
    """
    given = train.before[train.of] * size + train.asked
    joint = given * size + train.word[train.of]
    seen = _counted(given, None)
    belief = 1 / np.bincount(train.of, minlength=len(train.word))[train.of]
    for _ in range(_ROUNDS):
        belief = _looked_up(_counted(joint, belief), joint) / _looked_up(seen, given)
        belief /= np.bincount(train.of, belief, minlength=len(train.word))[train.of]
    mass, of = _counted(joint, belief), _counted(given, belief)
    found = []
    for cells in others:
        their = cells.before[cells.of] * size + cells.asked
        weight = _looked_up(of, their) / np.maximum(_looked_up(seen, their), 1)
        share = _looked_up(mass, their * size + cells.word[cells.of]) / np.maximum(_looked_up(of, their), 1e-12)
        total = np.bincount(cells.of, weight, minlength=len(cells.word))
        found.append(np.bincount(cells.of, weight * share, minlength=len(cells.word)) / np.maximum(total, 1e-12))
    return found


def _counted(keys: Ints, weights: Reals | None) -> tuple[Ints, Reals]:
    names, at = np.unique(keys, return_inverse=True)
    return names, np.bincount(at, weights, minlength=len(names)).astype(np.float64)


def _looked_up(table: tuple[Ints, Reals], keys: Ints) -> Reals:
    names, values = table
    place = np.minimum(np.searchsorted(names, keys), len(names) - 1)
    return np.where(names[place] == keys, values[place], 0.0)


def told(found: Ablated) -> Mapping[str, float | int | None]:
    return vars(found) | {"helps": found.helps}
