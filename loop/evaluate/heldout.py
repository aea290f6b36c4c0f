"""What held-out people preferred and wrote, as a model would have guessed it: evidence where nobody can be asked.

Pair accuracy of a model's likelihood beside trivial guesses, and the likelihood of the texts that stood in the end. It
informs and never promotes: a likelihood is no preference of a person for one model over another.

The combined guess is a logistic regression of choices between two texts on the differences of their features, without
an intercept: Bradley-Terry-Luce with covariates (Train, Discrete Choice Methods with Simulation, 2009, chapter 3). It
is fitted on pairs that the challenger may have been trained on, where its likelihood looks better than it is; the fit
then trusts it too much, which can cost accuracy on held-out pairs and cannot lend any. It may weigh a likelihood with
either sign: that people's own words are the less likely ones is a fact about them, and no merit of the model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from loop.evaluate.stats import Estimate, Floats, estimate

PAIRS: Final = 1_000
"""Most held-out pairs of each kind, and most final texts, that are scored: scoring is what costs."""
FIT: Final = 1_000
"""Most training pairs of each kind: with half of them the guesses were one to four points worse on CoAuthor."""


class Likelihood(Protocol):
    """What is asked of a model: `loop.models.Model`."""

    def logprobs(self, prompts: Sequence[Any], answers: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Log-probability of each answer in nats, and its number of tokens."""
        ...


@dataclass(frozen=True)
class Guess:
    """How often one way of guessing names the text that the person preferred."""

    name: str
    accuracy: Estimate | None
    """Over the pairs that it decides, the interval by writers; None where it decides none."""
    ties: int
    """Pairs on which it is undecided."""
    unknown: int = 0
    """Pairs on which it has nothing to go by."""


@dataclass(frozen=True)
class HeldOut:
    """The held-out figures of one workflow."""

    workflow: str
    writers: int
    choice_pairs: int
    """Taken over shown beside it."""
    choice: tuple[Guess, ...]
    edit_pairs: int
    """Final text over the suggestion that it was made from."""
    edit: tuple[Guess, ...]
    demonstrations: int
    """Final texts scored."""
    challenger_nats: float | None
    """Mean over final texts of the log-likelihood per token."""
    champion_nats: float | None
    gain: Estimate | None
    """Challenger minus champion, nats a token, paired by text, the interval by writers."""


def held_out(  # noqa: PLR0913 - one argument a fact
    preferences: pa.Table,
    demonstrations: pa.Table,
    *,
    challenger: Likelihood,
    champion: Likelihood,
    seed: int,
    most: int = PAIRS,
    most_fit: int = FIT,
) -> tuple[HeldOut, ...]:
    """One `HeldOut` for each workflow that has held-out rows, in order of name.

    Args:
        preferences: schema `preferences`, both splits, as of the cycle's cut-off; the training side is for the fit.
        demonstrations: schema `demonstrations`, likewise.
        most: held-out pairs of each kind, and texts; of more, those of events drawn by a digest of their ids are taken.
        most_fit: training pairs of each kind, likewise.

    Held-out rows of an episode that has rows on the training side too (two people at one piece of work) are left aside.
    """
    mixed = _mixed(preferences, demonstrations)
    preferences, demonstrations = (_without(table, mixed) for table in (preferences, demonstrations))
    held = [table.filter(pc.equal(table["split"], "held_out")) for table in (preferences, demonstrations)]
    workflows = sorted({name for table in held for name in table["workflow"].to_pylist()})
    models = {"challenger": _Scorer(challenger), "champion": _Scorer(champion)}
    limits = {"held_out": most, "train": most_fit}
    return tuple(
        _one_workflow(
            name,
            *(table.filter(pc.equal(table["workflow"], name)) for table in (preferences, held[1])),
            models=models,
            seed=seed,
            limits=limits,
        )
        for name in workflows
    )


class _Scorer:
    """A model that scores each prompt and answer once, however often it is asked: a taken text stands in several pairs
    and is a final text besides."""

    def __init__(self, model: Likelihood) -> None:
        self._model = model
        self._known: dict[tuple[str, str], tuple[float, int]] = {}

    def logprobs(self, prompts: Sequence[Any], answers: Sequence[str]) -> tuple[Floats, Floats]:
        keys = [(str(prompt), answer) for prompt, answer in zip(prompts, answers, strict=True)]
        new = {key: place for place, key in enumerate(keys) if key not in self._known}
        if new:
            total, tokens = self._model.logprobs([prompts[i] for i in new.values()], [answers[i] for i in new.values()])
            self._known |= {key: (float(t), int(n)) for key, t, n in zip(new, total, tokens, strict=True)}
        return (
            np.array([self._known[key][0] for key in keys], dtype=np.float64),
            np.array([self._known[key][1] for key in keys], dtype=np.float64),
        )


# -- one workflow ---------------------------------------------------------------------------------------------------


def _one_workflow(  # noqa: PLR0913 - one argument a fact
    name: str,
    preferences: pa.Table,
    texts: pa.Table,
    *,
    models: Mapping[str, _Scorer],
    seed: int,
    limits: Mapping[str, int],
) -> HeldOut:
    pairs = {
        (kind, split): _first(
            preferences.filter(pc.and_(pc.equal(preferences["kind"], kind), pc.equal(preferences["split"], split))),
            limits[split],
        )
        for kind in ("choice", "edit")
        for split in limits
    }
    texts = _first(texts, limits["held_out"])
    scored = {key: _Pairs.of(rows, models) for key, rows in pairs.items() if rows.num_rows}
    nats = {model: _nats_per_token(models[model], texts) for model in models}
    gain = nats["challenger"] - nats["champion"]
    writers = {e for table in (texts, pairs["choice", "held_out"], pairs["edit", "held_out"]) for e in _writers(table)}
    return HeldOut(
        workflow=name,
        writers=len(writers),
        choice_pairs=pairs["choice", "held_out"].num_rows,
        choice=_guesses(scored.get(("choice", "held_out")), scored.get(("choice", "train")), seed),
        edit_pairs=pairs["edit", "held_out"].num_rows,
        edit=_guesses(scored.get(("edit", "held_out")), scored.get(("edit", "train")), seed),
        demonstrations=texts.num_rows,
        challenger_nats=float(nats["challenger"].mean()) if texts.num_rows else None,
        champion_nats=float(nats["champion"].mean()) if texts.num_rows else None,
        gain=estimate(gain, seed=seed, clusters=_writers(texts)),
    )


@dataclass(frozen=True)
class _Pairs:
    """Features of preferred minus other text, shape (pairs,) each; NaN where unknown."""

    features: Mapping[str, Floats]
    weights: Floats
    writers: list[str]

    @classmethod
    def of(cls, rows: pa.Table, models: Mapping[str, _Scorer]) -> _Pairs:
        chosen, rejected = rows["chosen"].to_pylist(), rows["rejected"].to_pylist()
        features = {
            "earlier position": _numbers(rows["rejected_position"]) - _numbers(rows["chosen_position"]),
            "more probable when served": _numbers(rows["chosen_logprob"]) - _numbers(rows["rejected_logprob"]),
            "longer": np.array([len(a) - len(b) for a, b in zip(chosen, rejected, strict=True)], dtype=np.float64),
        }
        for name, model in models.items():
            total, tokens = model.logprobs(rows["prompt"].to_pylist() * 2, chosen + rejected)
            half = len(chosen)
            mean = total / tokens
            features[f"{name}, likelihood"] = total[:half] - total[half:]
            features[f"{name}, likelihood per token"] = mean[:half] - mean[half:]
        return cls(features, _numbers(rows["weight"]), _writers(rows))


_COMBINED: Final = (
    ("position and length", ("earlier position", "longer")),
    *(
        (f"{name}, {told}", (*given, f"{name}, likelihood", f"{name}, likelihood per token"))
        for name in ("champion", "challenger")
        for told, given in (
            ("length and likelihoods", ("longer",)),
            ("position, length and likelihoods", ("earlier position", "longer")),
        )
    ),
)
"""Guesses fitted on training pairs: their names and features."""


def _guesses(held: _Pairs | None, train: _Pairs | None, seed: int) -> tuple[Guess, ...]:
    if held is None:
        return ()
    guesses = [_guess(name, values, held.writers, seed) for name, values in held.features.items()]
    if train is not None:
        for name, used in _COMBINED:
            coefficients = fit(np.column_stack([train.features[f] for f in used]), train.weights)
            values = np.column_stack([held.features[f] for f in used]) @ coefficients
            guesses.append(_guess(name, values, held.writers, seed))
    return tuple(guesses)


def _guess(name: str, values: Floats, writers: Sequence[str], seed: int) -> Guess:
    """Right where the preferred text's feature is the greater. Ties and unknowns are counted, not given to a side."""
    decided = np.isfinite(values) & (values != 0)
    accuracy = estimate(values[decided] > 0, seed=seed, clusters=np.asarray(writers)[decided].tolist())
    unknown = int((~np.isfinite(values)).sum())
    return Guess(name, accuracy, ties=len(values) - int(decided.sum()) - unknown, unknown=unknown)


def fit(differences: Floats, weights: Floats, *, ridge: float = 1e-3) -> Floats:
    """Coefficients of the logistic regression P(preferred) = 1 / (1 + exp(-differences @ b)), by Newton's method.

    Args:
        differences: features of the preferred minus the other text, shape (pairs, features), finite.
        weights: of the pairs, shape (pairs,).
        ridge: penalty on standardised coefficients relative to the total weight; keeps separable data finite.
    """
    scale = np.sqrt((differences**2).mean(axis=0))
    scale[scale == 0] = 1.0
    x, total = differences / scale, weights.sum()
    b = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(x @ b, -40, 40)))
        gradient = x.T @ (weights * (1 - p)) - ridge * total * b
        hessian = (x.T * (weights * p * (1 - p))) @ x + ridge * total * np.eye(len(b))
        step = np.linalg.solve(hessian, gradient)
        # Far from the optimum of nearly separable data a full step overshoots.
        b = b + step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-9:
            break
    return np.asarray(b / scale, dtype=np.float64)


# -- rows -----------------------------------------------------------------------------------------------------------


def _mixed(*tables: pa.Table) -> pa.Array:
    """Episodes with rows on both sides of the split."""
    sides: dict[str, set[str]] = {}
    for rows in tables:
        for episode, split in zip(rows["episode_id"].to_pylist(), rows["split"].to_pylist(), strict=True):
            sides.setdefault(episode, set()).add(split)
    return pa.array([e for e, found in sides.items() if e is not None and len(found) > 1], pa.string())


def _without(rows: pa.Table, mixed: pa.Array) -> pa.Table:
    leaks = pc.and_(pc.equal(rows["split"], "held_out"), pc.is_in(rows["episode_id"], mixed))
    return rows.filter(pc.invert(leaks))


def _first(rows: pa.Table, most: int) -> pa.Table:
    """At most so many rows: those of some events, drawn by a digest, so that pairs and texts share what they score."""
    ids = rows["preference_id" if "preference_id" in rows.column_names else "demonstration_id"].to_pylist()
    events = [hashlib.blake2b(str(e).encode(), digest_size=8).digest() for e in rows["event_id"].to_pylist()]
    drawn = sorted(zip(events, ids, range(len(ids)), strict=True))[:most]
    return rows.take(pa.array([place for _, _, place in drawn], pa.int64()))


def _writers(rows: pa.Table) -> list[str]:
    return [str(employee) for employee in rows["employee"].to_pylist()]


def _numbers(column: pa.ChunkedArray) -> Floats:
    return np.asarray(pc.fill_null(pc.cast(column, pa.float64()), float("nan")).to_numpy(), dtype=np.float64)


def _nats_per_token(model: _Scorer, texts: pa.Table) -> Floats:
    if not texts.num_rows:
        return np.zeros(0)
    total, tokens = model.logprobs(texts["prompt"].to_pylist(), texts["answer"].to_pylist())
    return np.asarray(total / tokens, dtype=np.float64)
