"""Facts of single decisions, each against rows made for it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from loop.validate import signal_features
from loop.validate.signal_features import Facts
from tests.rows import NOON, SHOWN, decision, interactions


def facts(*rows: dict[str, Any]) -> Facts:
    return signal_features.facts(interactions(*rows))


def asked(second: float) -> dict[str, Any]:
    return {"shown_at": NOON + timedelta(seconds=second)}


def test_what_was_decided_and_on_how_much_text() -> None:
    found = facts(
        decision(1, "accept", 1, "second"),
        decision(2, "modify", 0, "first!"),
        decision(3, "reject"),
        decision(4, "ignore"),
    )
    assert found.accepted.tolist() == [True, False, False, False]
    assert found.modified.tolist() == [False, True, False, False]
    assert found.rejected.tolist() == [False, False, True, False]
    assert found.decided.tolist() == [True, True, True, False]
    assert found.chosen.tolist() == [1, 0, -1, -1]
    assert found.shown.tolist() == [3, 3, 3, 3]
    assert found.chars.tolist() == [float(len("".join(SHOWN)))] * 4
    assert found.least_chars.tolist() == [5.0] * 4
    assert found.seconds[:3].tolist() == [5.0] * 3
    assert np.isnan(found.seconds[3])


def test_candidates_of_one_text_are_not_distinct() -> None:
    twins = [{"position": i, "text": "same", "logprob": None} for i in range(2)]
    assert facts(decision(1, "reject"), decision(2, "reject", candidates=twins)).distinct.tolist() == [True, False]


def test_the_order_of_the_rows_is_kept_whatever_the_times() -> None:
    found = facts(decision(9, "accept", 2, "third", **asked(90)), decision(1, "reject", **asked(10)))
    assert found.chosen.tolist() == [2, -1]


def test_white_space_alone_is_no_edit() -> None:
    found = facts(
        decision(1, "modify", 0, " fi rst\n"), decision(2, "modify", 0, "first!"), decision(3, "accept", 0, "first")
    )
    assert found.blank_edit.tolist() == [True, False, False]


def test_intervals_and_times_are_regular_where_they_come_again() -> None:
    found = facts(
        *(
            decision(n, "reject", dwell_ms=d, **asked(s))
            for n, s, d in ((1, 0, 700), (2, 20, 701), (3, 40, 1400), (4, 90, 1400))
        )
    )
    assert found.gap_known.tolist() == [False, False, True, True]
    assert found.regular_gap.tolist() == [False, False, True, False]
    assert found.regular_time.tolist() == [False, True, False, True]


def test_other_people_are_no_rhythm_of_mine() -> None:
    rows = [decision(n, "reject", employee=f"p_{n % 3}", **asked(20.0 * n)) for n in range(3)]
    assert not facts(*rows).gap_known.any()


def test_a_burst_is_decided_before_anybody_could_have_read() -> None:
    found = facts(
        decision(1, "reject", dwell_ms=5000, **asked(0)),
        decision(2, "reject", dwell_ms=5000, **asked(1)),
        decision(3, "reject", dwell_ms=5000, **asked(60)),
    )
    assert found.burst.tolist() == [False, True, False]


def test_reasons_are_copied_where_they_are_those_of_the_time_before() -> None:
    said = [["tone"], ["tone"], [], ["price"], ["price", "tone"]]
    found = facts(*(decision(n, "reject", reasons=r, **asked(60.0 * n)) for n, r in enumerate(said)))
    assert found.copied.tolist() == [False, True, False, False, False]
    assert found.reasoned.tolist() == [False, True, False, False, True]


def test_a_streak_ends_with_anything_but_an_accept() -> None:
    accept = ("accept", 0, "first")
    rows = [decision(n, *kind) for n, kind in enumerate((accept, accept, ("reject",), accept))]
    assert facts(*rows).streak.tolist() == [1, 2, 0, 1]


def test_the_same_item_is_the_same_prompt_and_candidates_in_any_order() -> None:
    prompt = [{"role": "user", "content": "one prompt"}]
    turned = [{"position": i, "text": t, "logprob": None} for i, t in enumerate(reversed(SHOWN))]
    found = facts(
        decision(1, "accept", 0, "first", prompt=prompt),
        decision(2, "accept", 2, "first", prompt=prompt, candidates=turned),
        decision(3, "accept", 0, "first"),
    )
    assert found.item[0] == found.item[1] != found.item[2]
    assert found.taken[0] == found.taken[1] == found.taken[2] != 0


def test_words_alike_are_alike_and_a_long_text_is_cut() -> None:
    long = [{"position": i, "text": "word " * 100_000 + str(i), "logprob": None} for i in range(2)]
    prompt = [{"role": "user", "content": "Please, REPLY!"}]
    found = facts(
        decision(1, "accept", 0, long[0]["text"], candidates=long, prompt=prompt),
        decision(2, "reject", prompt=[{"role": "user", "content": "please reply"}]),
    )
    assert (found.prompt[0] == found.prompt[1]).all()
    assert (found.answers[0, 0] > 0).sum() == 1, "each word once"
    assert (found.answers[0, 0] == found.answers[0, 1]).all(), "of a long text the beginning"


TEXTS = st.text(max_size=60)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS, st.sampled_from(["accept", "modify", "reject", "ignore"])), max_size=8))
def test_any_text_is_taken(drawn: list[tuple[str, str, str]]) -> None:
    rows = []
    for n, (prompt, text, kind) in enumerate(drawn):
        taken = 0 if kind in {"accept", "modify"} else None
        shown = [{"position": 0, "text": text, "logprob": None}]
        final = text if kind == "accept" else prompt if kind == "modify" else None
        rows.append(
            decision(n, kind, taken, final, prompt=[{"role": "user", "content": prompt}], candidates=shown, reasons=[])
        )
    found = facts(*rows)
    assert len(found) == len(rows)
    assert found.prompt.min(initial=0) >= 0
    assert found.prompt.max(initial=0) < signal_features.PROMPT_BUCKETS
    assert found.answers.max(initial=0) < signal_features.ANSWER_BUCKETS
