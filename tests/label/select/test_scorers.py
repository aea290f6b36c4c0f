"""The committee: it learns what its pairs prefer, says where it does not know, and is the same for the same seed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from scipy.optimize import minimize
from scipy.special import expit

from loop.label.select.scorers import Pairs, differences, fit, mode

RNG = np.random.default_rng(1)


def pairs(rows: list[tuple[str, str, str]], weight: float = 1.0) -> Pairs:
    prompt, preferred, other = (pa.array([row[i] for row in rows], pa.string()) for i in range(3))
    return Pairs(prompt, preferred, other, np.full(len(rows), weight), np.arange(len(rows)))


GOOD = {"cats": "meow", "dogs": "woof"}


def told(count: int, about: tuple[str, ...] = ("cats", "dogs")) -> list[tuple[str, str, str]]:
    """What is good depends on the prompt: no word is good everywhere."""
    rows = []
    for i in range(count):
        asked = about[i % len(about)]
        wrong = next(word for animal, word in GOOD.items() if animal != asked)
        rows.append((f"write about {asked} number {RNG.integers(99)}", f"say {GOOD[asked]}", f"say {wrong}"))
    return rows


def test_it_learns_what_fits_which_prompt() -> None:
    committee = fit(pairs(told(60)), seed=0)
    rows = told(20)
    prompt, good, bad = (pa.array([row[i] for row in rows]) for i in range(3))
    assert (committee.opinion(prompt, good, bad).probability > 0.8).all()
    assert (committee.opinion(prompt, bad, good).probability < 0.2).all()
    assert (committee.score(prompt, good) > committee.score(prompt, bad)).all()


def test_it_disagrees_where_it_knows_nothing_alike_and_not_on_what_it_has_seen_often() -> None:
    noisy = told(60, ("cats",)) + [(p, b, a) if i % 2 else (p, a, b) for i, (p, a, b) in enumerate(told(8, ("dogs",)))]
    committee = fit(pairs(noisy), seed=0)
    prompt = pa.array(["write about cats", "write about dogs"])
    spread = committee.opinion(prompt, pa.array(["say meow"] * 2), pa.array(["say woof"] * 2)).disagreement
    assert spread[1] > 2 * spread[0]


def test_the_same_text_twice_is_a_matter_of_nothing() -> None:
    committee = fit(pairs(told(20)), seed=0)
    same = pa.array(["say meow"])
    found = committee.opinion(pa.array(["write about cats"]), same, same)
    assert (found.probability.tolist(), found.disagreement.tolist()) == ([0.5], [0.0])
    assert differences(pa.array(["a"]), same, same).nnz == 0


def test_the_same_seed_gives_the_same_committee_and_pairs_of_no_weight_say_nothing() -> None:
    rows = told(30)
    one, same, other = (fit(pairs(rows), seed=seed).weights for seed in (5, 5, 6))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert not fit(pairs(rows, weight=0.0), seed=5).weights.any()
    assert not fit(pairs([]), seed=5).weights.any()


def test_a_pair_that_is_held_both_ways_does_not_make_its_words_common() -> None:
    once = ("write about cats", "say zebra", "say walrus")
    rows = [*told(20), once, (once[0], once[2], once[1])]
    asked, preferred, other = (pa.array([row[i] for row in rows]) for i in range(3))
    weight = np.array([1.0] * 20 + [0.9, 0.1])
    prompt, text = pa.array([once[0]]), pa.array(["zebra"])
    item = np.array([*range(20), 20, 20])
    assert fit(Pairs(asked, preferred, other, weight, item), seed=0).score(prompt, text).tolist() == [0.0]
    two = np.arange(22)  # two who say so make them common
    assert fit(Pairs(asked, preferred, other, weight, two), seed=0).score(prompt, text)[0] > 0.1


def test_the_mode_is_that_of_the_plain_regression() -> None:
    features = RNG.normal(size=(40, 6))
    weight = RNG.uniform(0.1, 2.0, 40)
    found = features.T @ mode(features @ features.T / 0.7, weight) / 0.7

    def loss(w: np.ndarray) -> float:
        return float(weight @ np.logaddexp(0.0, -(features @ w)) + 0.35 * w @ w)

    assert np.allclose(found, minimize(loss, np.zeros(6), tol=1e-10).x, atol=2e-3)
    assert expit(features @ found).mean() > 0.5
