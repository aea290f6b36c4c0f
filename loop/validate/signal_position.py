"""How much of what is shown gets looked at, by place, estimated from the logs; and how choices follow what is good.

The position-based model of clicks (Richardson et al. 2007; Craswell et al. 2008): a candidate is taken if it is
examined and found best, and whether it is examined depends on its place alone. Of several candidates shown at once,
P(place k is taken) = t_k r_k / sum_j t_j r_j, a conditional logit with place effects log t. Where the order is drawn by
lot, as the gateway draws it and records with `order_propensity`, t is identified by the order alone (Joachims et al.
2017; intervention harvesting, Agarwal et al. 2019, WSDM); elsewhere by holding relevance fixed with a model of it
(regression-EM, Wang et al. 2018, WSDM): here the content model's quality and the log-probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, softmax

from loop.validate.signal_features import CANDIDATES, Facts, Flags, Reals

LEAST: Final = 0.1
"""Examination propensities are not held to be less: inverse weights are at most ten times each other."""
MOST: Final = 50_000
"""Decisions that the model is fitted to, the latest."""
_PRIOR: Final = 1.0
"""Precision of the Gaussian priors: on place effects about 0, on slopes about 1."""


@dataclass(frozen=True)
class Choices:
    """What a choice depends on, and whether an answer is accepted: people on the whole, in logits."""

    slope: float
    """Per unit of quality, between candidates."""
    by_logprob: float
    """Per standard deviation of log-probability within a suggestion; 0 where it is unknown."""
    place: Reals
    """Log of the examination propensity of each place, less that of the best."""
    standard: float
    """Log odds of an accept at quality 0."""
    accept_slope: float
    edit_slope: float
    """Per unit of quality that an edit adds: how surely an edit is one for the better."""

    @property
    def propensity(self) -> Reals:
        """Examination propensity of each place, `LEAST` to 1, relative to the place most looked at."""
        return np.asarray(np.maximum(np.exp(self.place - self.place.max()), LEAST))

    def of(self, facts: Facts, quality: Reals, *, sign: float = 1.0) -> Reals:
        """Log-probability that each place is taken, given that one is; n by `CANDIDATES`.

        Args:
            sign: 1: the better the likelier; 0: by place alone; -1: the worse the likelier.
        """
        return np.asarray(log_softmax(self._utility(facts, quality, sign), axis=1))

    def best(self, facts: Facts, quality: Reals) -> Reals:
        """Quality of the candidate likeliest taken."""
        at = self._utility(facts, quality, 1.0).argmax(axis=1)
        return np.asarray(quality[np.arange(len(quality)), at])

    def _utility(self, facts: Facts, quality: Reals, sign: float) -> Reals:
        utility = sign * (self.slope * quality + self.by_logprob * standardised(facts)) + self.place
        return np.where(np.arange(CANDIDATES) < np.minimum(facts.shown, CANDIDATES)[:, None], utility, -np.inf)


def standardised(facts: Facts) -> Reals:
    """Log-probabilities less their mean over a suggestion, by one standard deviation for all; 0 where unknown."""
    there = np.isfinite(facts.logprob)
    count = np.maximum(there.sum(axis=1, keepdims=True), 1)
    value = np.where(there, facts.logprob, 0.0)
    centred = np.where(there, value - value.sum(axis=1, keepdims=True) / count, 0.0)
    spread = float(np.sqrt((centred**2).sum() / max(there.sum(), 1)))
    return np.asarray(centred / spread if spread > 0 else centred)


def choices(facts: Facts, quality: Reals, gain: Reals, trust: Reals) -> Choices:
    """Fit how people on the whole choose, accept and edit.

    Args:
        quality: of the candidates, cross-fitted; n by `CANDIDATES`.
        gain: quality that each edit adds; used where `facts.modified`.
        trust: of each interaction.
    """
    choosing = chooses(facts)
    slope, by_logprob, place = _choose(facts, quality, trust, choosing)
    fitted = Choices(slope, by_logprob, place, 0.0, 0.0, 0.0)
    judged = _latest(facts.decided & (facts.shown > 0))
    standard, accept_slope = _accept(fitted.best(facts, quality)[judged], facts.accepted[judged], trust[judged])
    edited = _latest(edits(facts))
    return Choices(slope, by_logprob, place, standard, accept_slope, _edit(gain[edited], trust[edited]))


def chooses(facts: Facts) -> Flags:
    """Whether one of several different candidates was taken."""
    return np.asarray(
        facts.distinct & (facts.shown > 1) & (facts.chosen >= 0) & (facts.chosen < np.minimum(facts.shown, CANDIDATES))
    )


def edits(facts: Facts) -> Flags:
    """Whether a text was changed in more than white space, and is not empty."""
    return np.asarray(facts.modified & ~facts.blank_edit & (facts.chosen >= 0) & facts.final.any(axis=1))


def _latest(which: Flags) -> np.ndarray:
    return np.flatnonzero(which)[-MOST:]


def _choose(facts: Facts, quality: Reals, trust: Reals, choosing: Flags) -> tuple[float, float, Reals]:
    """Conditional logit: slope, slope by log-probability, place effects (the first is 0)."""
    rows = _latest(choosing)
    there = np.arange(CANDIDATES) < np.minimum(facts.shown[rows], CANDIDATES)[:, None]
    taken, weight, x = facts.chosen[rows], trust[rows], quality[rows]
    logprob = standardised(facts)[rows]
    one_hot = np.arange(CANDIDATES) == taken[:, None]

    def loss(w: Reals) -> tuple[float, Reals]:
        place = np.append(0.0, w[2:])
        utility = np.where(there, w[0] * x + w[1] * logprob + place, -np.inf)
        share = softmax(utility, axis=1) if len(rows) else np.zeros_like(utility)
        value = -(weight @ np.log(np.maximum(share[one_hot], 1e-12)))
        residual = weight[:, None] * (share - one_hot)
        off = np.concatenate([[w[0] - 1.0, w[1]], w[2:]])
        gradient = np.concatenate([[(residual * x).sum(), (residual * logprob).sum()], residual.sum(axis=0)[1:]])
        return float(value + 0.5 * _PRIOR * (off @ off)), gradient + _PRIOR * off

    w = minimize(loss, np.concatenate([[1.0, 0.0], np.zeros(CANDIDATES - 1)]), jac=True, method="L-BFGS-B").x
    seen = np.append(0.0, w[2:])
    return float(w[0]), float(w[1]), np.asarray(seen - seen.max())


def _accept(best: Reals, accepted: Flags, trust: Reals) -> tuple[float, float]:
    def loss(w: Reals) -> tuple[float, Reals]:
        margin = w[0] + w[1] * best
        residual = trust * (expit(margin) - accepted)
        off = np.array([w[0], w[1] - 1.0])
        value = trust @ (np.logaddexp(0.0, margin) - accepted * margin) + 0.5 * _PRIOR * (off @ off)
        return float(value), np.array([residual.sum(), residual @ best]) + _PRIOR * off

    found = minimize(loss, np.array([0.0, 1.0]), jac=True, method="L-BFGS-B").x
    return float(found[0]), float(found[1])


def _edit(gain: Reals, trust: Reals) -> float:
    def loss(w: Reals) -> tuple[float, Reals]:
        margin = w[0] * gain
        value = trust @ np.logaddexp(0.0, -margin) + 0.5 * _PRIOR * (w[0] - 1.0) ** 2
        return float(value), np.array([-(trust * gain) @ expit(-margin) + _PRIOR * (w[0] - 1.0)])

    return float(minimize(loss, np.array([1.0]), jac=True, method="L-BFGS-B").x[0])
