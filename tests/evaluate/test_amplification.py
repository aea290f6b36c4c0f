"""Gaps between groups: exact where they can be counted, silent where nothing widens, loud where something does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop.evaluate.amplification import BOUND, LEAST, Answers, amplification, groups_of
from loop.workflows import WORKFLOWS

KEPT, GONE = (f"{verb} for harm, severity minor, then warn" for verb in ("keep", "hide"))


def answers(gone: dict[str | None, tuple[int, int]], attribute: str = "team", text: str = GONE) -> Answers:
    """Of each group so many answers `text`, of so many; the others `KEPT`."""
    texts, groups = [], []
    for group, (n, of) in gone.items():
        texts += [text] * n + [KEPT] * (of - n)
        groups += [group] * of
    return Answers("moderation", ["moderate: a post"] * len(texts), texts, {attribute: groups})


def test_a_gap_is_the_difference_between_a_group_and_all_others() -> None:
    before = answers({"a": (60, 200), "b": (40, 200), None: (50, 50)})
    after = answers({"a": (160, 200), "b": (20, 200)})
    found = amplification(before, after)
    assert found.compared == 4  # two groups, and what is kept is the mirror of what is removed
    gap = found.widest[0]
    assert (gap.workflow, gap.attribute, gap.rows) == ("moderation", "team", (200, 200))
    assert abs(gap.before) == pytest.approx(0.1)
    assert abs(gap.after) == pytest.approx(0.7)
    assert gap.widened == pytest.approx(0.6)
    assert gap.beyond
    assert len(found.beyond) == 4


def test_a_gap_that_turns_round_is_all_new() -> None:
    before, after = answers({"a": (150, 200), "b": (50, 200)}), answers({"a": (50, 200), "b": (150, 200)})
    gap = amplification(before, after).widest[0]
    assert (abs(gap.before), abs(gap.after), gap.widened) == (
        pytest.approx(0.5),
        pytest.approx(0.5),
        pytest.approx(0.5),
    )


def test_a_gap_that_stays_or_shrinks_is_not_widened() -> None:
    wide, narrow = answers({"a": (150, 200), "b": (50, 200)}), answers({"a": (110, 200), "b": (90, 200)})
    assert amplification(wide, wide).beyond == ()
    found = amplification(wide, narrow)
    assert (found.compared, found.widest) == (4, ())


def test_a_small_widening_is_within_the_bound_however_sure() -> None:
    n = 100_000
    before = answers({"a": (n // 2, n), "b": (n // 2, n)})
    after = answers({"a": (n // 2 + n * 9 // 100, n), "b": (n // 2, n)})
    gap = amplification(before, after).widest[0]
    assert gap.low > 0
    assert gap.widened == pytest.approx(0.09)
    assert gap.widened < BOUND
    assert not gap.beyond


def test_groups_with_too_few_rows_are_not_measured() -> None:
    few, many = LEAST - 1, 500
    assert (
        amplification(answers({"a": (0, few), "b": (0, many)}), answers({"a": (few, few), "b": (0, many)})).compared
        == 0
    )
    one = answers({"a": (200, 400)})
    assert amplification(one, one).compared == 0


def test_attributes_of_one_side_only_are_not_compared() -> None:
    assert (
        amplification(answers({"a": (9, 99), "b": (1, 99)}), answers({"a": (9, 99), "b": (1, 99)}, "region")).compared
        == 0
    )


def test_answers_that_do_not_parse_are_a_measure_of_their_own() -> None:
    before = answers({"a": (2, 300), "b": (2, 300)}, text="no idea")
    after = answers({"a": (150, 300), "b": (2, 300)}, text="no idea")
    assert "parses" in {gap.measure for gap in amplification(before, after).beyond}


def test_what_widens_nothing_is_seldom_halted() -> None:
    """Chance of a false finding, at most 1 in 800 by construction: none to two in 200 worlds (p > .998)."""
    rng = np.random.default_rng(7)
    parts = WORKFLOWS["moderation"].parts
    render = WORKFLOWS["moderation"].render

    def drawn(n: int) -> Answers:
        texts = [render({part: str(rng.choice(values)) for part, values in parts.items()}) for _ in range(n)]
        groups = {name: list(rng.choice(list("abc"), n)) for name in ("team", "region", "language")}
        return Answers("moderation", [""] * n, texts, groups)

    halted = sum(bool(amplification(drawn(240), drawn(240)).beyond) for _ in range(200))
    assert halted <= 2


def test_a_planted_gap_is_found() -> None:
    """One group's posts are removed 60 points more often by the model; nothing of the kind was in what it learned."""
    rng = np.random.default_rng(8)

    def drawn(more: float) -> Answers:
        groups = list(rng.choice(["new", "old"], 300))
        share = np.array([0.2 + more * (group == "new") for group in groups])
        texts = [GONE if one else KEPT for one in rng.random(300) < share]
        return Answers("moderation", [""] * 300, texts, {"author": groups})

    assert all(amplification(drawn(0.0), drawn(0.6)).beyond for _ in range(20))


def test_a_prompt_tells_its_language_and_the_groups_that_its_workflow_names() -> None:
    asked = "moderate: new member posted threats on money in kids forum, 7 reports by Olga"
    assert groups_of("moderation", [asked, "wer hat das geschrieben und warum nur", "123"]) == {
        "language": ["en", "de", None],
        "reporter": ["N-Z", None, None],
    }


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 80), st.integers(0, 80)), min_size=4, max_size=4))
def test_a_widened_gap_is_within_what_gaps_can_be(cells: list[tuple[int, int]]) -> None:
    sides = [
        answers({name: (n, n + more) for name, (n, more) in zip("ab", half, strict=True)})
        for half in (cells[:2], cells[2:])
    ]
    for gap in amplification(*sides).widest:
        assert 0 < gap.widened <= 1
        assert gap.low <= gap.widened
        assert abs(gap.after) >= gap.widened - 1e-12
