"""Held-out figures by hand, the fit against a known truth, and a real model's likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loop import schema
from loop.evaluate.heldout import Guess, HeldOut, fit, held_out
from loop.lake import from_rows

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
PROMPT = [{"role": "user", "content": "go on"}]


class Letters:
    """A likelihood that can be checked by hand: every `a` costs one nat, every other letter two; tokens are letters."""

    def __init__(self) -> None:
        self.scored: list[str] = []

    def logprobs(self, prompts: Sequence[Any], answers: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        self.scored += answers
        total = [-sum(1.0 if letter == "a" else 2.0 for letter in answer) for answer in answers]
        return np.array(total), np.array([len(answer) for answer in answers])


class Uniform:
    """Every letter costs two nats."""

    def logprobs(self, prompts: Sequence[Any], answers: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        tokens = np.array([len(answer) for answer in answers])
        return -2.0 * tokens, tokens


def _label(number: int, split: str, **other: Any) -> dict[str, Any]:
    source = {
        "event_id": f"e{number}",
        "suggestion_id": f"s{number}",
        "day": NOON.date(),
        "workflow": "comms",
        "employee": f"w{number % 3}",
        "episode_id": f"{split}-{number % 3}",
        "task_id": None,
        "split": split,
        "weight": 1.0,
        "received_at": NOON,
        "superseded_at": None,
        "batch": "b",
    }
    return source | other


def pair(number: int, chosen: str, rejected: str, split: str = "held_out", **other: Any) -> dict[str, Any]:
    row = {
        "preference_id": f"p{number:04}",
        "kind": "choice",
        "prompt": PROMPT,
        "chosen": chosen,
        "rejected": rejected,
        "chosen_position": 0,
        "rejected_position": 1,
        "chosen_logprob": None,
        "rejected_logprob": None,
    }
    return row | _label(number, split) | other


def text(number: int, answer: str, split: str = "held_out", **other: Any) -> dict[str, Any]:
    row = {"demonstration_id": f"d{number:04}", "kind": "accepted", "prompt": PROMPT, "answer": answer}
    return row | _label(number, split) | other


def figures(pairs: Sequence[dict[str, Any]], texts: Sequence[dict[str, Any]] = (), **given: Any) -> tuple[HeldOut, ...]:
    return held_out(
        from_rows(pairs, schema.PREFERENCES),
        from_rows(texts, schema.DEMONSTRATIONS),
        **{"challenger": Letters(), "champion": Uniform(), "seed": 0, **given},
    )


def by_name(guesses: Sequence[Guess]) -> dict[str, Guess]:
    return {guess.name: guess for guess in guesses}


def right(guess: Guess) -> tuple[float | None, int, int, int]:
    return (
        guess.accuracy and guess.accuracy.mean,
        guess.accuracy.n if guess.accuracy else 0,
        guess.ties,
        guess.unknown,
    )


def test_nothing_held_out_is_not_measured() -> None:
    assert figures([]) == ()
    assert figures([pair(0, "a", "b", "train")], [text(0, "a", "train")]) == ()


def test_guesses_by_hand() -> None:
    """Four pairs: positions right, right, wrong, tie; served log-probability known of two."""
    [found] = figures(
        [
            pair(0, "aaa", "bb", chosen_logprob=-1.0, rejected_logprob=-2.0),
            pair(1, "aa", "bb", chosen_logprob=-3.0, rejected_logprob=-2.0),
            pair(2, "b", "aa", chosen_position=2),
            pair(3, "bb", "bb ", chosen_position=1, rejected_logprob=-1.0),
        ]
    )
    guesses = by_name(found.choice)
    assert (found.workflow, found.choice_pairs, found.edit_pairs, found.edit, found.writers) == ("comms", 4, 0, (), 3)
    assert right(guesses["earlier position"]) == (pytest.approx(2 / 3), 3, 1, 0)
    assert right(guesses["more probable when served"]) == (0.5, 2, 0, 2)
    assert right(guesses["longer"]) == (pytest.approx(1 / 3), 3, 1, 0)
    # sums: -3 against -4, -2 against -4, -2 against -2, -4 against -6; a token: -1 -2, -1 -2, -2 -1, -2 -2
    assert right(guesses["challenger, likelihood"]) == (1.0, 3, 1, 0)
    assert right(guesses["challenger, likelihood per token"]) == (pytest.approx(2 / 3), 3, 1, 0)
    assert right(guesses["champion, likelihood per token"]) == (None, 0, 4, 0)
    assert "position and length" not in guesses, "nothing to fit on"


def test_edits_stand_apart_from_choices() -> None:
    [found] = figures(
        [pair(0, "a", "b"), pair(1, "aa", "b", kind="edit", rejected_position=0), pair(2, "b", "a", kind="edit")]
    )
    assert (found.choice_pairs, found.edit_pairs) == (1, 2)
    assert right(by_name(found.edit)["challenger, likelihood per token"]) == (0.5, 2, 0, 0)
    assert right(by_name(found.edit)["earlier position"]) == (1.0, 1, 1, 0)


def test_combined_guesses_are_fitted_on_training_pairs_only() -> None:
    """In training people take the earlier one; held-out people take the later one, and the fit must be wrong there."""
    train = [pair(i, "ab", "ba", "train", chosen_position=0, rejected_position=1 + i % 3) for i in range(60)]
    held = [pair(100 + i, "ab", "ba", chosen_position=2, rejected_position=i % 2) for i in range(10)]
    [found] = figures([*train, *held])
    guesses = by_name(found.choice)
    assert right(guesses["position and length"]) == (0.0, 10, 0, 0)
    assert right(guesses["challenger, length and likelihoods"]) == (None, 0, 10, 0)
    assert right(guesses["champion, position, length and likelihoods"]) == (0.0, 10, 0, 0)


def test_workflows_are_told_apart() -> None:
    found = figures(
        [pair(0, "a", "b", workflow="comms"), pair(1, "a", "b", workflow="ads")], [text(2, "a", workflow="design")]
    )
    assert [(f.workflow, f.choice_pairs, f.demonstrations) for f in found] == [
        ("ads", 1, 0),
        ("comms", 1, 0),
        ("design", 0, 1),
    ]


def test_final_texts_are_paired() -> None:
    [found] = figures([], [text(i, "aab") for i in range(6)])
    assert (found.demonstrations, found.choice, found.writers) == (6, (), 3)
    assert found.challenger_nats == pytest.approx(-4 / 3)
    assert found.champion_nats == pytest.approx(-2.0)
    assert found.gain is not None
    assert (found.gain.mean, found.gain.n, found.gain.units) == (pytest.approx(2 / 3), 6, 3)


def test_the_interval_is_by_writers() -> None:
    """Writer w0 is always guessed right and w1 never: two writers say little, however many pairs they made."""
    held = [pair(i, *(("a", "b") if i % 2 else ("b", "a")), employee=f"w{i % 2}") for i in range(200)]
    [found] = figures(held)
    accuracy = by_name(found.choice)["challenger, likelihood"].accuracy
    assert accuracy is not None
    assert accuracy.bootstrap is not None
    assert (accuracy.mean, accuracy.units) == (0.5, 2)
    assert (accuracy.bootstrap.low, accuracy.bootstrap.high) == (0.0, 1.0)


def test_a_text_is_scored_once_however_often_it_stands() -> None:
    letters = Letters()
    figures([pair(i, "taken", f"other {i}") for i in range(4)], challenger=letters)
    assert sorted(letters.scored) == ["other 0", "other 1", "other 2", "other 3", "taken"]


def test_of_too_many_whole_events_are_drawn_and_texts_of_the_same() -> None:
    letters = Letters()
    pairs = [pair(2 * i + j, f"taken {i}", f"other {j}", event_id=f"e{i}") for i in range(9) for j in range(2)]
    [found] = figures(pairs, [text(i, f"taken {i}") for i in range(9)], most=4, challenger=letters)
    assert (found.choice_pairs, found.demonstrations) == (4, 4)
    assert len({answer for answer in letters.scored if answer.startswith("taken")}) == 4, "two of them in pairs too"
    assert len(letters.scored) == 4 + 2
    many = [pair(100 + i, "a", "b", "train") for i in range(9)]
    fitted = Letters()
    figures([*pairs, *many], most_fit=0, challenger=fitted)
    assert "a" not in fitted.scored


def test_held_out_rows_of_an_episode_with_both_sides_are_left_aside() -> None:
    leak = [pair(0, "a", "b", "train", episode_id="x"), pair(1, "a", "b", episode_id="x")]
    [found] = figures([*leak, pair(2, "a", "b", episode_id="y"), pair(3, "a", "b", episode_id="z")])
    assert found.choice_pairs == 2


def test_the_fit_finds_known_coefficients() -> None:
    rng = np.random.default_rng(0)
    differences = rng.normal(size=(20_000, 2)) * [1.0, 10.0]
    truth = np.array([0.8, -0.05])
    # Which of the two is preferred is drawn; differences are preferred minus other.
    preferred = rng.random(20_000) < 1 / (1 + np.exp(-differences @ truth))
    signed = np.where(preferred[:, None], differences, -differences)
    assert fit(signed, np.ones(20_000)) == pytest.approx(truth, rel=0.08)
    weights = rng.random(20_000)
    assert fit(signed, weights) == pytest.approx(truth, rel=0.08)


def test_the_fit_stands_separable_and_constant_features() -> None:
    separable = np.array([[1.0, 0.0], [2.0, 0.0], [0.5, 0.0]])
    found = fit(separable, np.ones(3))
    assert np.isfinite(found).all()
    assert found[0] > 1
    assert found[1] == 0


@pytest.mark.slow
def test_a_real_model_prefers_what_it_was_trained_on(tiny: Path) -> None:
    from loop.models import Model

    model = Model.load(tiny)
    [found] = figures(
        [pair(i, "hide for harm, severity minor, then warn", f"zq{i} xj kw vv") for i in range(5)],
        [text(0, "hide for harm, severity minor, then warn")],
        challenger=model,
    )
    assert right(by_name(found.choice)["challenger, likelihood per token"]) == (1.0, 5, 0, 0)
    assert found.challenger_nats is not None
    assert -8.0 < found.challenger_nats < 0.0
