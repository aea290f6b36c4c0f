"""Which spans an edit is: exactly, for any two texts, and in bounded time."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.label.edits import Span, apply, changes, kept

WORDS = st.lists(
    st.sampled_from(["a", "bc", " ", "  ", "\n", ". ", "é", "e\u0301", "🙂", "🏳️‍🌈", "-", "_x"]), max_size=25
)
TEXTS = WORDS.map("".join) | st.text(max_size=60)


@given(TEXTS, TEXTS)
def test_the_spans_lead_from_the_suggestion_to_the_final_text(before: str, after: str) -> None:
    found = changes(before, after)
    assert found.exact
    assert apply(before, found.spans) == after
    assert apply(before, [span._asdict() for span in found.spans]) == after
    at = final = 0
    for span in found.spans:
        assert before[at : span.start] == after[final : span.final_start]  # between two spans nothing differs
        assert (span.removed, span.added) == (before[span.start : span.end], after[span.final_start : span.final_end])
        assert (span.removed, span.added) != ("", "")
        assert span.op == {(False, True): "insert", (True, False): "delete"}.get(
            (bool(span.removed), bool(span.added)), "replace"
        )
        at, final = span.end, span.final_end
    assert before[at:] == after[final:]
    assert 0.0 <= kept(before, found.spans) <= 1.0


@given(TEXTS)
def test_the_same_text_has_no_spans(text: str) -> None:
    assert changes(text, text) == ([], True)


def test_words_are_changed_whole() -> None:
    found = changes("target newcomers, playful tone, bid low", "target newcomers, plain tone, bid high!")
    assert found.spans == [
        Span("replace", 18, 25, 18, 23, "playful", "plain"),
        Span("replace", 36, 39, 34, 39, "low", "high!"),
    ]
    assert changes("a dog ran home", "a cat sat home").spans == [Span("replace", 2, 9, 2, 9, "dog ran", "cat sat")]
    assert changes("one three", "one two three").spans == [Span("insert", 4, 4, 4, 8, "", "two ")]
    assert changes("one two three", "one three").spans == [Span("delete", 4, 8, 4, 4, "two ", "")]
    assert changes("", "all new").spans == [Span("insert", 0, 0, 0, 7, "", "all new")]


def test_spans_of_another_text_are_refused() -> None:
    with pytest.raises(ValueError, match="removes 'two '"):
        apply("one zwei three", changes("one two three", "one three").spans)


MEGABYTE = 1_000_000


def _numbers(seed: int, count: int, kinds: int, between: str = " ") -> str:
    draw = random.Random(seed)
    return between.join(str(draw.randrange(kinds)) for _ in range(count))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a" * MEGABYTE, "b" * MEGABYTE),
        ("!" * MEGABYTE, "?" * MEGABYTE),
        ("ab " * (MEGABYTE // 3), "ba " * (MEGABYTE // 3)),
        (_numbers(0, 200_000, 50), _numbers(1, 200_000, 50)),
        (_numbers(0, 200_000, 10**6), _numbers(1, 200_000, 10**6)),
        (_numbers(0, 200_000, 9, "\n"), _numbers(1, 200_000, 9, ".\n")),
        (_numbers(0, 9_000, 10**6), _numbers(1, 9_000, 10**6)),
    ],
)
def test_texts_of_a_megabyte_take_bounded_time(before: str, after: str) -> None:
    began = time.process_time()
    found = changes(before, after)
    assert time.process_time() - began < 5.0  # a fraction of a second on a quiet machine
    assert apply(before, found.spans) == after


def test_two_changes_far_apart_in_a_long_text_are_two_spans() -> None:
    text = "\n".join(_numbers(seed, 10, 10**6) for seed in range(15_000))
    first, second = text.index("\n", 100_000), text.index("\n", 700_000)
    found = changes(text, f"{text[:first]} HELLO{text[first:second]} BYE{text[second:]}")
    assert [span.added for span in found.spans] == [" HELLO", " BYE"]
    assert found.exact
