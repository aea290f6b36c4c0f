"""Whole columns are masked as row by row, nothing else of a table changes, and simulated texts hold nothing."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from loop import schema
from loop.privacy import bulk, masking
from loop.privacy.recognise import find, search
from loop.simulate import corpus
from loop.simulate.world import World
from loop.workflows import BUILT_IN
from tests.privacy.test_recognise import PIECES
from tests.rows import ordinary_day

COLUMNS = ("event_id", "prompt", "candidates", "decision", "chosen", "final_text")
ARROW = pa.schema([schema.INTERACTIONS.arrow.field(name) for name in COLUMNS])


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=ARROW)


def row(prompt: list[str], candidates: list[str], final: str | None, number: int = 0) -> dict[str, Any]:
    return {
        "event_id": f"e{number}",
        "prompt": [{"role": "user", "content": text} for text in prompt],
        "candidates": [{"position": i, "text": t, "logprob": -float(i)} for i, t in enumerate(candidates)],
        "decision": "reject" if final is None else "modify",
        "chosen": None if final is None or not candidates else 0,
        "final_text": final,
    }


TEXT = st.lists(PIECES, max_size=6).map("".join)
ROWS = st.lists(
    st.builds(row, st.lists(TEXT, max_size=2), st.lists(TEXT, max_size=2), st.none() | TEXT), min_size=1, max_size=5
)


@given(ROWS)
@examples(max_examples=150)
def test_it_is_as_row_by_row_and_changes_nothing_else(rows: list[dict[str, Any]]) -> None:
    given = table(*rows)
    done = bulk.mask(given, find)
    assert done.rows.schema.equals(given.schema, check_metadata=True)
    total: masking.Counts = masking.Counter()
    for before, after in zip(rows, done.rows.to_pylist(), strict=True):
        texts = [m["content"] for m in before["prompt"]] + [c["text"] for c in before["candidates"]]
        final = before["final_text"]
        if final is not None and before["chosen"] is not None:
            followed = masking.follow(final, before["candidates"][0]["text"], find)
            final = final if followed == before["candidates"][0]["text"] else followed
        expected, counts = masking.mask([*texts, final], find)
        total += counts
        told = [m["content"] for m in after["prompt"]] + [c["text"] for c in after["candidates"]]
        assert [*told, after["final_text"]] == expected
        kept = [(m["role"],) for m in before["prompt"]] + [(c["position"], c["logprob"]) for c in before["candidates"]]
        assert kept == [(m["role"],) for m in after["prompt"]] + [
            (c["position"], c["logprob"]) for c in after["candidates"]
        ]
        assert [before[n] for n in ("event_id", "decision", "chosen")] == [
            after[n] for n in ("event_id", "decision", "chosen")
        ]
    assert done.total() == total
    again = bulk.mask(done.rows, find)
    assert again.rows.equals(done.rows)
    assert not again.counts


def test_pieces_of_tables_and_tables_of_pieces_are_masked_alike() -> None:
    rows = [row([f"to u{n}@example.org" if n % 3 else "x"], ["a", f"u{n}@example.org"], "b", n) for n in range(30)]
    whole = bulk.mask(table(*rows), find).rows
    chunked = pa.concat_tables([table(*rows[:7]), table(*rows[7:8]), table(*rows[8:])])
    assert bulk.mask(chunked, find).rows.equals(whole)
    assert bulk.mask(table(*rows).slice(5, 20), find).rows.equals(whole.slice(5, 20))
    assert bulk.mask(table(), find).rows.num_rows == 0


def test_each_distinct_text_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def searching(text: str) -> list[Any]:
        seen.append(text)
        return search(text)

    monkeypatch.setattr("loop.privacy.recognise.search", searching)
    bulk.mask(
        table(*[row(["a@example.org"], ["b@example.org", "nothing"], "b@example.org", n) for n in range(50)]), find
    )
    assert sorted(seen) == ["a@example.org", "b@example.org"]


def test_a_column_of_texts_alone() -> None:
    done = bulk.mask(pa.table({"final_text": pa.chunked_array([["a@example.org"], [None, "", "x"]])}), find)
    assert done.rows["final_text"].to_pylist() == ["<EMAIL_ADDRESS_1>", None, "", "x"]
    assert done.total() == {"EMAIL_ADDRESS": 1}


def test_texts_without_personal_data_stay_as_they_are() -> None:
    rows = ordinary_day(200)
    given = pa.Table.from_pylist([{name: one.get(name) for name in COLUMNS} for one in rows], schema=ARROW)
    done = bulk.mask(given, find)
    assert done.rows is given
    assert done.counts == {}


@pytest.mark.parametrize("workflow", BUILT_IN)
def test_the_simulated_organisation_writes_nothing_that_looks_personal(workflow: str) -> None:
    world = World(seed=5)
    pairs = list(corpus.corpus(world, [workflow], 400))
    texts = [text for brief, answer in pairs for text in (brief.text, answer)]
    assert len(set(texts)) > 100
    assert [text for text in texts if find(text)] == []
