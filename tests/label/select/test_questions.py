"""What each decision could be asked about, or why not: every decision is one or the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from loop import schema
from loop.label.derive import split_of
from loop.label.select import questions
from loop.schema import Split
from loop.workflows import WORKFLOWS
from tests.rows import decision, interactions

NO_SIGNALS = schema.SIGNALS.empty().select(["event_id", "weight"])


@contextmanager
def prepared(
    rows: pa.Table, *, workflow: str = "comms", held_out_share: float = 0.0, signals: pa.Table = NO_SIGNALS
) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("interactions", rows)
        connection.register("signals", signals)
        questions.prepare(connection, held_out_share=held_out_share, seed=0, workflow=WORKFLOWS[workflow])
        yield connection


def asked(rows: pa.Table, **given: object) -> tuple[list[dict[str, object]], dict[str, int]]:
    with prepared(rows, **given) as connection:
        aside: Counter[str] = Counter()
        draws = [draw for piece in questions.pieces(connection, aside) for draw in piece["draw"].to_pylist()]
        found = questions.whole(connection, draws).sort_by("event_id")
        return found.to_pylist(), dict(aside)


def test_a_choice_an_edit_and_a_rejection() -> None:
    found, aside = asked(
        interactions(
            decision(1, "accept", 1, "second"), decision(2, "modify", 0, "first, mended"), decision(3, "reject")
        )
    )
    assert [row["kind"] for row in found] == ["preference", "preference", "rewrite"]
    choice, edit, rewrite = found
    assert choice["standing"] == "second"
    assert choice["against"] in {"first", "third"}
    assert (edit["standing"], edit["against"]) == ("first, mended", "first")
    for row in (choice, edit):
        assert {row["first"], row["second"]} == {row["standing"], row["against"]}
    assert (rewrite["first"], rewrite["second"]) == ("first", "")
    assert aside == {}


def test_which_text_stands_first_and_which_is_compared_say_nothing_of_the_decision() -> None:
    found, _ = asked(interactions(*(decision(n, "accept", 0, "first") for n in range(200))))
    first = Counter(row["first"] == row["standing"] for row in found)
    against = Counter(row["against"] for row in found)
    assert 70 < first[True] < 130
    assert 70 < against["second"] < 130


def test_what_asks_nothing_says_why() -> None:
    alone = [{"position": 0, "text": "first", "logprob": None}]
    found, aside = asked(
        interactions(
            decision(1, "ignore"),
            decision(2, "accept", 0, "first", candidates=alone),
            decision(3, "modify", 0, " first "),
            decision(4, "modify", 0, " "),
            decision(5, "reject", purposes=["evaluation"]),
            decision(6, "accept", 0, "first", suggestion_id="s7"),
            decision(7, "reject", suggestion_id="s7", revises="e6"),
            decision(8, "modify", 0, "mended", reasons=["edited_later"]),
            decision(9, "reject", candidates=[{"position": 0, "text": " ", "logprob": None}]),
        )
    )
    assert [row["event_id"] for row in found] == ["e7"]
    assert aside == {
        "ignored": 1,
        "nothing to hold it against": 3,
        "no consent to training": 1,
        "decided anew later": 1,
        "edited later: not known into what": 1,
        "no text": 1,
    }


def test_moderation_asks_for_the_category_where_there_is_no_pair() -> None:
    alone = [{"position": 0, "text": "keep for taste, severity none, then close", "logprob": None}]
    rows = [
        decision(1, "reject", workflow="moderation"),
        decision(2, "accept", 0, alone[0]["text"], candidates=alone, workflow="moderation"),
        decision(3, "accept", 0, "first", workflow="moderation"),
    ]
    found, _ = asked(interactions(*rows), workflow="moderation")
    assert [row["kind"] for row in found] == ["category", "category", "preference"]
    assert [row["first"] for row in found[:2]] == ["draft number 1", "draft number 2"]


def test_who_is_held_out_is_asked_about_for_evaluation_alone() -> None:
    people = [f"p_{n}" for n in range(40)]
    held = {p for p in people if split_of(p, 0.3, 0) is Split.HELD_OUT}
    rows = [decision(n, "reject", employee=p, purposes=["training"]) for n, p in enumerate(people)]
    found, aside = asked(interactions(*rows), held_out_share=0.3)
    assert {row["employee"] for row in found} == set(people) - held
    assert aside == {"no consent to evaluation": len(held)}
    rows = [decision(n, "reject", employee=p) for n, p in enumerate(people)]
    found, _ = asked(interactions(*rows), held_out_share=0.3)
    assert {row["employee"] for row in found if row["is_held_out"]} == held


def test_pieces_are_cut_and_what_is_asked_is_whole() -> None:
    long = "word " * 200
    rows = interactions(
        decision(1, "modify", 0, long, prompt=[{"role": "user", "content": f"{long}end"}]), decision(2, "reject")
    )
    weights = pa.table({"event_id": ["e1"], "weight": [0.25]})
    with prepared(rows, signals=weights) as connection:
        [piece] = list(questions.pieces(connection, Counter()))
        assert max(len(text) for name in ("asked", "first", "second") for text in piece[name].to_pylist()) == 300
        assert [text[-3:] for text in piece["asked"].to_pylist()] == ["end", "r 2"]
        assert piece["weight"].to_pylist() == [0.25, 1.0]
        draws = piece["draw"].to_pylist()[::-1]
        assert questions.whole(connection, draws)["event_id"].to_pylist() == ["e2", "e1"]
        assert questions.whole(connection, draws[1:])["standing"].to_pylist() == [long]


KINDS = st.sampled_from(["accept", "modify", "reject", "ignore"])
TEXTS = st.sampled_from(["first", "second", " ", "", "other words", None])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(KINDS, TEXTS, st.integers(0, 3), st.sets(st.sampled_from(["training", "evaluation"])))))
def test_no_decision_is_lost(drawn: list[tuple[str, str | None, int, set[str]]]) -> None:
    rows = [
        decision(
            n,
            kind,
            None if kind in {"reject", "ignore"} else 0,
            final,
            suggestion_id=f"s{suggestion}",
            purposes=sorted(purposes),
        )
        for n, (kind, final, suggestion, purposes) in enumerate(drawn)
    ]
    found, aside = asked(interactions(*rows), held_out_share=0.3)
    assert len(found) + sum(aside.values()) == len(rows)
