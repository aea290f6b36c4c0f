"""What decisions say of how a person goes about it: counts and log-likelihoods, which add up over days.

`evidence` turns the facts of each decision into sufficient statistics a person and day; `trust` weighs their sum. Every
channel is a likelihood under honest work and under each way in which feedback says nothing, with priors stated here,
so that few decisions say little and no threshold on a rate stands anywhere: beta-binomial counts, a grid over how
strict a person is, logits of the content model. One and the same accept rate or dwell is honest or not by what the
decisions agree with.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from scipy.special import betaln, expit, log_expit, logsumexp

from loop.validate.signal_features import ANSWER_BUCKETS, CANDIDATES, Facts, Flags, Ints, Reals
from loop.validate.signal_position import Choices, chooses, edits

REACTION: Final = 0.3
"""Seconds that it takes to see and click anything at all."""
SKIM: Final = 100.0
"""Characters a second that the fastest skim (about 1,000 words a minute)."""
LONGEST: Final = 3.0
"""Seconds after which even the longest text may have been judged by its beginning."""
STRICTNESS: Final = (-1.6, -0.8, 0.0, 0.8, 1.6)
"""Grid over people's standards, in logits from the average, with weights `_LIKELY`."""
_LIKELY: Final = np.log(np.array([0.1, 0.2, 0.4, 0.2, 0.1]))
TEMPER: Final = 1.0
"""Power on the likelihoods that come from the content model, which is an estimate."""
HARDLY: Final = 0.3
"""Share of people's slopes on content at which decisions are still held to be unrelated to it."""
_CHUNK: Final = 50_000
FAVOUR: Final = 2.0
"""Standard deviation of the effect of a favourite word, in logits."""


class Way(StrEnum):
    """A way of deciding; all but the first say little or nothing of what was shown."""

    HONEST = "honest"
    UNREAD = "unread"
    """Faster than anybody reads, nearly all accepted."""
    UNRELATED = "unrelated"
    """What is taken, accepted and edited has little or nothing to do with the content: unread, or in league."""
    CONTRARY = "contrary"
    """What others hold to be worse is preferred."""
    PLACE = "place"
    """The same place is taken whatever stands there."""
    FAVOURITE = "favourite"
    """One word outweighs the rest."""
    AUTOMATED = "automated"
    """Intervals or times too regular for a person."""
    HOLLOW = "hollow"
    """Edits of white space, or reasons copied from the last time."""


PRIOR: Final = {
    Way.HONEST: 0.80,
    Way.UNREAD: 0.04,
    Way.UNRELATED: 0.06,
    Way.CONTRARY: 0.02,
    Way.PLACE: 0.02,
    Way.FAVOURITE: 0.02,
    Way.AUTOMATED: 0.02,
    Way.HOLLOW: 0.02,
}
"""What is believed of a person before any decision."""

COUNTS: Final = (
    "decided",
    "timed",
    "fast",
    "accepted",
    "choices",
    "first",
    "edits",
    "gaps",
    "regular_gaps",
    "times",
    "regular_times",
    "bursts",
    "modified",
    "blank",
    "reasoned",
    "copied",
    "copied_by_chance",
)
LIKELIHOODS: Final = (
    *(f"accept_{i}" for i in range(len(STRICTNESS))),
    *(f"accept_contrary_{i}" for i in range(len(STRICTNESS))),
    *(f"accept_hardly_{i}" for i in range(len(STRICTNESS))),
    "choice",
    "choice_contrary",
    "choice_hardly",
    "choice_place",
    "choice_others",
    "edit",
    "edit_contrary",
    "edit_hardly",
    "peers",
)
STATISTICS: Final = (*COUNTS, *LIKELIHOODS)


@dataclass(frozen=True)
class Evidence:
    """Sufficient statistics of one person (and day) a row."""

    person: Ints
    day: Ints
    sums: Reals
    """Rows by `STATISTICS`."""
    score: Reals
    """Rows by `ANSWER_BUCKETS`: how much more often than expected a word was taken, written in, or accepted."""
    information: Reals
    """Its variance if no word is a favourite."""

    def of_people(self, people: int) -> Evidence:
        """The sums over all days."""
        total = Evidence(
            np.arange(people),
            np.zeros(people, np.int64),
            np.zeros((people, len(STATISTICS))),
            np.zeros((people, ANSWER_BUCKETS)),
            np.zeros((people, ANSWER_BUCKETS)),
        )
        for name in ("sums", "score", "information"):
            np.add.at(getattr(total, name), self.person, getattr(self, name))
        return total


def floor(facts: Facts) -> Reals:
    """Seconds below which nobody has read even the shortest candidate."""
    return np.minimum(REACTION + facts.least_chars / SKIM, LONGEST)


def evidence(  # noqa: PLR0913, PLR0917
    facts: Facts, choices: Choices, quality: Reals, gain: Reals, peers: Reals, count: Flags
) -> Evidence:
    """Statistics by person and day.

    Args:
        quality: of the candidates, by what others hold; n by `CANDIDATES`. `gain`: that each edit adds.
        peers: log-likelihood of each decision by what others did on the same item, less that by chance.
        count: interactions that say something of the person; those of a group's campaign day do not.
    """
    rows = np.flatnonzero(facts.decided & count)
    keys, group = np.unique(facts.employee[rows] * 100_000 + facts.day[rows], return_inverse=True)
    columns = _statistics(facts, choices, quality, gain, peers)
    sums = np.stack([np.bincount(group, columns[name][rows], len(keys)) for name in STATISTICS], axis=1)
    score, information = _favourites(facts, choices, quality, rows, group, len(keys))
    return Evidence(keys // 100_000, keys % 100_000, np.asarray(sums, np.float64), score, information)


def _statistics(facts: Facts, choices: Choices, quality: Reals, gain: Reals, peers: Reals) -> dict[str, Reals]:
    timed, choosing, edited = np.isfinite(facts.seconds), chooses(facts), edits(facts)
    at = np.clip(facts.chosen, 0, CANDIDATES - 1)
    every = np.arange(len(facts))
    by_content = choices.accept_slope * choices.best(facts, quality)
    judged = facts.shown > 0
    alone = 1.0 / np.maximum(np.minimum(facts.shown, CANDIDATES) - 1, 1)
    by_chance = _copied_by_chance(facts)
    found = {
        "decided": judged,
        "timed": timed,
        "fast": timed & (facts.seconds < floor(facts)),
        "accepted": facts.accepted & judged,
        "choices": choosing,
        "first": choosing & (facts.chosen == 0),
        "edits": edited,
        "gaps": facts.gap_known,
        "regular_gaps": facts.regular_gap,
        "times": timed,
        "regular_times": facts.regular_time,
        "bursts": facts.burst,
        "modified": facts.modified,
        "blank": facts.blank_edit,
        "reasoned": facts.reasoned,
        "copied": facts.copied,
        "copied_by_chance": facts.reasoned * by_chance,
        "choice": np.where(choosing, choices.of(facts, quality)[every, at], 0.0),
        "choice_contrary": np.where(choosing, choices.of(facts, quality, sign=-1.0)[every, at], 0.0),
        "choice_hardly": np.where(choosing, choices.of(facts, quality, sign=HARDLY)[every, at], 0.0),
        "choice_place": np.where(choosing, choices.of(facts, quality, sign=0.0)[every, at], 0.0),
        "choice_others": np.where(choosing & (facts.chosen > 0), np.log(alone), 0.0),
        "edit": np.where(edited, log_expit(choices.edit_slope * gain), 0.0),
        "edit_contrary": np.where(edited, log_expit(-choices.edit_slope * gain), 0.0),
        "edit_hardly": np.where(edited, log_expit(HARDLY * choices.edit_slope * gain), 0.0),
        "peers": peers,
    }
    side = np.where(facts.accepted, 1.0, -1.0)
    for i, shift in enumerate(STRICTNESS):
        standard = choices.standard + shift
        found[f"accept_{i}"] = judged * log_expit(side * (standard + by_content))
        found[f"accept_contrary_{i}"] = judged * log_expit(side * (standard - by_content))
        found[f"accept_hardly_{i}"] = judged * log_expit(side * (standard + HARDLY * by_content))
    return {name: np.asarray(column, np.float64) for name, column in found.items()}


def _copied_by_chance(facts: Facts) -> float:
    """How often two decisions of different people would have the same reasons: that of all pairs in a row."""
    said = facts.reasoned.sum()
    return float((facts.copied.sum() + 1.0) / (said + 4.0))


def _favourites(  # noqa: PLR0913, PLR0917
    facts: Facts, choices: Choices, quality: Reals, rows: Ints, group: Ints, groups: int
) -> tuple[Reals, Reals]:
    """Score and information of each word's effect for each person and day (Rao's score test, one word at a time)."""
    score, information = np.zeros((groups, ANSWER_BUCKETS)), np.zeros((groups, ANSWER_BUCKETS))
    place = np.exp(choices.of(facts, quality))
    choosing, edited = chooses(facts)[rows], edits(facts)[rows]
    most = max(1, int(facts.shown[rows].max(initial=1)))
    for start in range(0, len(rows), _CHUNK):
        part = slice(start, start + _CHUNK)
        for i in range(min(CANDIDATES, most)):
            use = start + np.flatnonzero(choosing[part] & (facts.shown[rows[part]] > i))
            if not len(use):
                continue
            tokens, others = facts.answers[rows[use], i], facts.answers[rows[use], :most]
            # Words that every candidate has say nothing: their scores cancel, and their information is left out.
            common = (tokens[:, None, :, None] == others[:, :, None, :]).any(axis=3).sum(axis=1)
            alone = tokens * (common < facts.shown[rows[use]][:, None])
            share = place[rows[use], i]
            _add(score, group[use], alone, (facts.chosen[rows[use]] == i) - share)
            _add(information, group[use], alone, share * (1.0 - share))
    use = np.flatnonzero(edited)
    if len(use):
        taken = facts.answers[rows[use], facts.chosen[rows[use]]]
        final = facts.final[rows[use]]
        written = np.where((final[:, :, None] == taken[:, None, :]).any(axis=2), 0, final)
        often = np.bincount(written.ravel(), minlength=ANSWER_BUCKETS).astype(float)
        often[0] = 0.0
        often = (often + 0.5) / (often.sum() + 0.5 * ANSWER_BUCKETS)
        _add(score, group[use], written, np.ones(len(use)))
        count = np.bincount(group[use], (written > 0).sum(axis=1), groups)
        score -= count[:, None] * often
        information += count[:, None] * often * (1.0 - often)
    score[:, 0] = information[:, 0] = 0.0
    return score, information


def _add(into: Reals, group: Ints, tokens: np.ndarray, value: Reals) -> None:
    there = tokens > 0
    cell = (group[:, None] * ANSWER_BUCKETS + tokens)[there]
    np.add.at(into.reshape(-1), cell, np.broadcast_to(value[:, None], tokens.shape)[there])


# -- the weighing ---------------------------------------------------------------------------------------------------


def ways(total: Evidence) -> dict[Way, Reals]:
    """Posterior probability of each way of deciding, for each row of `total`."""
    logs = _likelihoods(total)
    odds = np.stack([np.log(PRIOR[way]) + logs[way] for way in Way])
    return dict(zip(Way, np.exp(odds - logsumexp(odds, axis=0)), strict=True))


def _likelihoods(total: Evidence) -> dict[Way, Reals]:
    s = dict(zip(STATISTICS, total.sums.T, strict=True))
    accept, accept_contrary, accept_hardly = (
        logsumexp(np.stack([s[f"{name}_{i}"] for i in range(len(STRICTNESS))]) + _LIKELY[:, None], axis=0)
        for name in ("accept", "accept_contrary", "accept_hardly")
    )
    refused = s["decided"] - s["accepted"]
    rate = (s["accepted"].sum() + 1.0) / (s["decided"].sum() + 2.0)
    accept_any = _counted(s["accepted"], refused, 4.0 * rate, 4.0 * (1.0 - rate))
    accept_all = _counted(s["accepted"], refused, 30.0, 1.5)
    unread = _counted(s["fast"], s["timed"] - s["fast"], 9.0, 1.0)
    read = _counted(s["fast"], s["timed"] - s["fast"], 1.0, 12.0)
    gaps = (s["regular_gaps"], s["gaps"] - s["regular_gaps"])
    times = (s["regular_times"], s["times"] - s["regular_times"])
    usual = [_usual(*gaps), _usual(*times)]
    steady = [_counted(*gaps, 9.0, 1.0), _counted(*times, 9.0, 1.0)]
    human = usual[0] + usual[1]
    machine = logsumexp([steady[0] + usual[1], usual[0] + steady[1], steady[0] + steady[1]], axis=0) - np.log(3.0)
    blank = (s["blank"], s["modified"] - s["blank"])
    by_chance = np.clip(s["copied_by_chance"] / np.maximum(s["reasoned"], 1.0), 0.02, 0.98)
    copied = (s["copied"], s["reasoned"] - s["copied"])
    own_words = _counted(*blank, 1.0, 30.0) + _counted(*copied, 20.0 * by_chance, 20.0 * (1.0 - by_chance))
    hollow = np.logaddexp(
        _counted(*blank, 9.0, 1.0) + _counted(*copied, 20.0 * by_chance, 20.0 * (1.0 - by_chance)),
        _counted(*blank, 1.0, 30.0) + _counted(*copied, 20.0, 1.0),
    ) - np.log(2.0)
    any_place = s["choice_place"]
    one_place = _counted(s["first"], s["choices"] - s["first"], 20.0, 1.0) + s["choice_others"]
    any_edit = -s["edits"] * np.log(2.0)
    content = TEMPER * (accept + s["choice"] + s["edit"] + s["peers"])
    hardly = TEMPER * (accept_hardly + s["choice_hardly"] + s["edit_hardly"])
    nothing = np.logaddexp(TEMPER * (accept_any + any_place + any_edit), hardly) - np.log(2.0)
    against = TEMPER * (accept_contrary + s["choice_contrary"] + s["edit_contrary"])
    ordinary = read + human + own_words
    placed = TEMPER * (np.logaddexp(accept, accept_all) - np.log(2.0) + one_place + s["edit"])
    return {
        Way.HONEST: content + ordinary,
        Way.UNREAD: TEMPER * (accept_all + np.logaddexp(any_place, one_place) - np.log(2.0) + any_edit)
        + unread
        + human
        + own_words,
        Way.UNRELATED: nothing + ordinary,
        Way.CONTRARY: against + ordinary,
        Way.PLACE: placed + ordinary,
        Way.FAVOURITE: content + ordinary + _favoured(total),
        Way.AUTOMATED: TEMPER * (accept_any + any_place + any_edit) + read + machine + own_words,
        Way.HOLLOW: nothing + read + human + hollow,
    }


def _favoured(total: Evidence) -> Reals:
    """Log Bayes factor of one word's being a favourite, each as likely before: effect N(0, `FAVOUR`^2), positive."""
    v, u = total.information, np.maximum(total.score, 0.0)
    spread = FAVOUR**2
    one = 0.5 * u**2 * spread / (1.0 + v * spread) - 0.5 * np.log1p(v * spread)
    there = v > 0
    words = np.maximum(there.sum(axis=1), 1)
    logs = np.where(there, one, -np.inf)
    top = np.where(there.any(axis=1), logs.max(axis=1, initial=-np.inf), 0.0)
    mass = np.where(there, np.exp(logs - top[:, None]), 0.0).sum(axis=1)
    return np.asarray(np.where(there.any(axis=1), top + np.log(np.maximum(mass, 1e-300) / words), 0.0))


def _usual(yes: Reals, no: Reals) -> Reals:
    """Log-likelihood of as many regular moments as people have: coarse clocks make everybody's regular."""
    known = yes + no > 0
    rate = float(np.median((yes + 0.5)[known] / (yes + no + 10.0)[known])) if known.any() else 0.05
    return _counted(yes, no, 20.0 * rate, 20.0 * (1.0 - rate))


def _counted(yes: Reals, no: Reals, a: Reals | float, b: Reals | float) -> Reals:
    """Log-likelihood of counts in an order, the rate integrated out over Beta(a, b)."""
    return np.asarray(betaln(yes + a, no + b) - betaln(a, b))


def unread(facts: Facts, share: Reals, slower: Reals) -> Reals:
    """Probability that a decision was taken unread, by its time alone.

    A mixture of two log-normals: times of those who read, about what the text's length asks for, and reaction times.

    Args:
        share: of unread decisions, of the person or their group.
        slower: log of each row's expected seconds if read, the person's own pace in it.
    """
    x = np.log(np.maximum(facts.seconds, 1e-3))
    slow = -0.5 * ((x - slower) / 0.5) ** 2 + np.log1p(-share)
    fast = -0.5 * ((np.maximum(x, np.log(0.7)) - np.log(0.7)) / 0.35) ** 2 + np.log(share) + np.log(0.5 / 0.35)
    return np.asarray(np.where(np.isfinite(facts.seconds), expit(fast - slow), 0.0))
