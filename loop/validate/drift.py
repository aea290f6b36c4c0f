"""How a day compares with those before it: volume, decisions, teams, lengths, languages, words and n-grams.

Every figure is a distance between the day and the accepted days before it, pooled. How large it may be is read off
those days themselves: each is set against the others in the same way, the distances are brought to one size of sample
(a distance between samples of n and N rows shrinks as the root of 1/n + 1/N does), and the bound is the upper end of a
prediction interval for one more such day (Student's t: Hahn and Meeker, Statistical Intervals, 1991, chapter 4). So
what the days vary by anyhow, weekends and campaigns included, never counts as drift. A bound is never below the least
effect that matters. Beyond it is a finding; beyond the greatest effect that can be work as usual the batch is held, if
there is a week of history and it is no imported past. How often clean days trip, and what is seen of planted drifts,
`benchmarks/drift.py` measures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final

import numpy as np

from loop.validate.profiles import SMALL_TEAMS, Counts, Profile
from loop.validate.suites import HISTORY, Finding

ALARM: Final = 0.001
"""Share of clean days on which one figure may go beyond its bound."""
LEAST_DAYS: Final = 4
"""Days before it below which a day is compared with nothing: their own spread is not known."""
LEAST_ROWS: Final = 50
"""Rows below which a day, or a text, has no distribution to speak of."""
TEAM_ROWS: Final = 30
BUSY: Final = 30
"""Median rows a day from which a day without any is a broken feed."""
SPREAD: Final = 0.25
"""Least standard deviation of a distance in terms of its mean: seven days may agree by chance."""
FACTOR: Final = 3.0
"""Times the usual volume, or a third of it: a feed that has doubled twice, or lost most of its clients."""


@dataclass(frozen=True)
class Distance:
    """One figure: how it is measured, what it must exceed to matter, and from where on no day's work explains it."""

    name: str
    unit: str
    """What the figure says, in words."""
    measure: Callable[[Profile, Profile], tuple[float, float] | None]
    """Day and reference to the distance and the scale of its sampling noise; None where it cannot be measured."""
    least: float
    why_least: str
    halts: float | None = None
    """Above it the batch is held; None for what must not halt a batch."""
    why_halts: str = ""


@dataclass(frozen=True)
class Drift:
    """What one comparison came to. A figure that could not be measured is None, never 0."""

    name: str
    figure: float | None
    bound: float | None
    halts: float | None
    passed: bool
    blocking: bool
    told: str
    reason: str

    def finding(self) -> Finding:
        return Finding(f"drift of {self.name}", self.passed, self.blocking, self.told, self.reason)


def compare(day: Profile, before: Sequence[Profile], *, imported: bool) -> list[Drift]:
    """A day against the accepted days before it (a bounded window, any order).

    Args:
        day: the batch.
        before: profiles of the days before it that had rows and were let through.
        imported: whether the batch is an imported past; then nothing holds it.
    """
    usual = len(before) >= HISTORY and not imported
    days = [profile for profile in before if profile.rows >= LEAST_ROWS]
    if day.rows < LEAST_ROWS or len(days) < LEAST_DAYS:
        short = f"{day.rows} rows" if day.rows < LEAST_ROWS else f"{len(days)} days before"
        why = f"from {LEAST_ROWS} rows and {LEAST_DAYS} days of as many on"
        rest = [
            Drift(distance.name, None, None, distance.halts, True, False, f"not measured: {short}", why)
            for distance in DISTANCES
        ]
    else:
        others = [(one, pooled(days[:i] + days[i + 1 :])) for i, one in enumerate(days)]
        whole = pooled(days)
        rest = [_judged(distance, day, whole, others, usual=usual) for distance in DISTANCES]
    return [volume(day, before, usual=usual), *rest]


def volume(day: Profile, before: Sequence[Profile], *, usual: bool) -> Drift:
    """The number of rows against the median of the days before."""
    rows = np.array([profile.rows for profile in before if profile.rows], float)
    if not len(rows):
        return Drift("volume", None, None, None, True, False, f"{day.rows:,} rows, no day before", "no history")
    median = float(np.median(rows))
    if not day.rows:
        silent = usual and median >= BUSY
        told = f"0 rows, the median is {median:,.0f}"
        why = f"a feed of {BUSY} rows a day and more does not fall silent by itself"
        return Drift("volume", 0.0, 1 / FACTOR, 1 / FACTOR, not silent, silent, told, why)
    ratio = day.rows / median
    reach = FACTOR if len(rows) < LEAST_DAYS else max(FACTOR, float(np.exp(_interval(np.log(rows / median)))))
    passed = 1 / reach <= ratio <= reach
    told = f"{day.rows:,} rows, {ratio:.2f} times the median of {median:,.0f}"
    why = f"between 1/{reach:.3g} and {reach:.3g} times: outside a feed has broken or doubled" + (
        "" if reach == FACTOR else f"; the {len(rows)} days before vary that much"
    )
    return Drift("volume", ratio, reach, reach, passed, not passed and usual, told, why)


def _judged(
    distance: Distance, day: Profile, whole: Profile, others: Sequence[tuple[Profile, Profile]], *, usual: bool
) -> Drift:
    """One distance of a day from the days before it, `whole`; `others` are each of them with all but it, pooled."""
    measured = distance.measure(day, whole)
    known = [each for each in (distance.measure(one, rest) for one, rest in others) if each is not None]
    if measured is None or len(known) < LEAST_DAYS:
        return Drift(distance.name, None, None, distance.halts, True, False, "not measured: too few", distance.unit)
    figure, scale = measured
    bound = max(distance.least, scale * _interval(np.array([value / noise for value, noise in known]), least=SPREAD))
    halts = None if distance.halts is None else max(distance.halts, bound)
    passed = figure <= bound
    blocking = not passed and usual and halts is not None and figure > halts
    told = f"{figure:.3f}, bound {bound:.3f}"
    why = f"{distance.unit}. " + (
        f"Below {distance.least:g} {distance.why_least}"
        if bound == distance.least
        else f"The {len(known)} days before are up to {max(v for v, _ in known):.3f} from each other; one clean day "
        f"of this size in {1 / ALARM:,.0f} goes beyond"
    )
    if halts is not None:
        why += f"; held above {halts:.3f}: {distance.why_halts}"
    return Drift(distance.name, figure, bound, halts, passed, blocking, told, why)


def _interval(values: np.ndarray, *, least: float = 0.0) -> float:
    """Upper end of the prediction interval for one more value; their spread is at least `least` times their mean."""
    from scipy import stats

    mean = float(np.mean(values))
    spread = max(float(np.std(values, ddof=1)), least * abs(mean))
    quantile = float(stats.t.ppf(1 - ALARM, len(values) - 1))
    return mean + quantile * spread * float(np.sqrt(1 + 1 / len(values)))


def pooled(profiles: Sequence[Profile]) -> Profile:
    """Several days as one."""

    def added(maps: Sequence[Mapping[str, Counts]]) -> dict[str, Counts]:
        keys = dict.fromkeys(key for each in maps for key in each)
        return {key: np.sum([each[key] for each in maps if key in each], axis=0) for key in keys}

    def counted(maps: Sequence[Mapping[str, int]]) -> dict[str, int]:
        return {key: sum(each.get(key, 0) for each in maps) for key in dict.fromkeys(k for m in maps for k in m)}

    return Profile(
        rows=sum(p.rows for p in profiles),
        texts=sum(p.texts for p in profiles),
        decisions=np.sum([p.decisions for p in profiles], axis=0),
        teams=added([p.teams for p in profiles]),
        lengths=added([p.lengths for p in profiles]),
        languages=counted([p.languages for p in profiles]),
        words=reduce(lambda known, p: known | p.words, profiles, {}),
        grams=added([p.grams for p in profiles]),
    )


# -- the distances ----------------------------------------------------------------------------------------------------


def total_variation(p: Counts, q: Counts) -> float:
    """Share of the mass that would have to move for two count vectors to be alike; from 0 to 1."""
    return float(np.abs(p / p.sum() - q / q.sum()).sum() / 2)


def jensen_shannon(p: Counts, q: Counts) -> float:
    """Jensen-Shannon divergence of two count vectors in bits, from 0 to 1 (Lin, IEEE Trans. Inf. Theory 37, 1991)."""
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2

    def entropy(x: np.ndarray) -> float:
        return float(-(x[x > 0] * np.log2(x[x > 0])).sum())

    return max(0.0, entropy(middle) - (entropy(p) + entropy(q)) / 2)


def kolmogorov_smirnov(p: Counts, q: Counts) -> float:
    """Greatest difference of two distribution functions, of histograms over the same bins."""
    return float(np.abs(np.cumsum(p) / p.sum() - np.cumsum(q) / q.sum()).max())


def _root(n: float, reference: float) -> float:
    return float(np.sqrt(1 / n + 1 / reference))


def _decisions(day: Profile, reference: Profile) -> tuple[float, float] | None:
    return total_variation(day.decisions, reference.decisions), _root(day.rows, reference.rows)


def _teams(day: Profile, reference: Profile) -> tuple[float, float] | None:
    """The team whose mix has moved furthest for its size."""
    found = []
    for team in day.teams.keys() & reference.teams.keys() - {SMALL_TEAMS}:
        mine, theirs = day.teams[team], reference.teams[team]
        if mine.sum() >= TEAM_ROWS and theirs.sum() >= TEAM_ROWS:
            found.append((total_variation(mine, theirs), _root(mine.sum(), theirs.sum())))
    return max(found, key=lambda pair: pair[0] / pair[1], default=None)


def _of_lengths(kind: str) -> Callable[[Profile, Profile], tuple[float, float] | None]:
    def measure(day: Profile, reference: Profile) -> tuple[float, float] | None:
        mine, theirs = day.lengths[kind], reference.lengths[kind]
        if min(mine.sum(), theirs.sum()) < LEAST_ROWS:
            return None
        return kolmogorov_smirnov(mine, theirs), _root(mine.sum(), theirs.sum())

    return measure


def _of_grams(kind: str) -> Callable[[Profile, Profile], tuple[float, float] | None]:
    def measure(day: Profile, reference: Profile) -> tuple[float, float] | None:
        mine, theirs = day.grams[kind], reference.grams[kind]
        if day.lengths[kind].sum() < LEAST_ROWS or min(mine.sum(), theirs.sum()) == 0:
            return None
        # A divergence between samples goes as 1/n, and n counts texts: the n-grams of one text hang together.
        return jensen_shannon(mine, theirs), 1 / day.texts + 1 / reference.texts

    return measure


def _languages(day: Profile, reference: Profile) -> tuple[float, float] | None:
    names = sorted(day.languages.keys() | reference.languages.keys())
    mine = np.array([day.languages.get(name, 0) for name in names])
    theirs = np.array([reference.languages.get(name, 0) for name in names])
    if min(mine.sum(), theirs.sum()) < LEAST_ROWS:
        return None
    return total_variation(mine, theirs), _root(mine.sum(), theirs.sum())


def _words(day: Profile, reference: Profile) -> tuple[float, float] | None:
    """Share of the day's words (of its frequent ones) that are not among the frequent ones of the days before."""
    total = sum(day.words.values())
    new = sum(count for word, count in day.words.items() if word not in reference.words)
    return (new / total, 1.0) if total else None


DISTANCES: Final = (
    Distance(
        "decision mix",
        "share of decisions that would have to move",
        _decisions,
        0.1,
        "nothing that is learned changes",
        0.4,
        "two in five people do not change their minds overnight, a client does",
    ),
    Distance(
        "mix of a team",
        "the same within the team that moved furthest, of teams of ten people or more",
        _teams,
        0.15,
        "a team's ordinary day",
    ),
    *(
        Distance(
            f"length of {what}",
            "greatest difference of the distributions (Kolmogorov-Smirnov)",
            _of_lengths(kind),
            0.1,
            "no house rule or limit is touched",
            *halts,
        )
        for kind, what, halts in (
            ("prompt", "prompts", (0.6, "most prompts are cut, doubled or of another kind")),
            ("final", "final texts", (0.6, "most texts are cut, doubled or of another kind")),
        )
    ),
    Distance(
        "language",
        "share of final texts that would have to change their language",
        _languages,
        0.05,
        "a person's mistake by the classifier",
        0.3,
        "a model that is trained on it answers in another language",
    ),
    Distance(
        "vocabulary",
        "share of frequent words that were not frequent before",
        _words,
        0.05,
        "new names and products",
        0.5,
        "half of all words are new: another tool's texts, or another encoding",
    ),
    Distance(
        "prompt n-grams",
        "Jensen-Shannon divergence in bits, hashed n-grams of three bytes",
        _of_grams("prompt"),
        0.02,
        "a sample of 500 texts differs as much from itself",
        0.25,
        "another language or encoding is as far",
    ),
    Distance(
        "final-text n-grams",
        "Jensen-Shannon divergence in bits, hashed n-grams of three bytes",
        _of_grams("final"),
        0.02,
        "a sample of 500 texts differs as much from itself; a new champion writes otherwise and may go beyond: it is "
        "never held for that",
    ),
)
