"""What the panel preferred is met again as the item that people decide on."""

from __future__ import annotations

import duckdb
import pyarrow as pa

from loop.schema.lake import COMPARISONS
from loop.validate.signal_features import facts
from loop.validate.signal_peers import _GOLD
from tests.rows import decision, interactions


def test_items_of_the_panel_are_those_of_decisions_whatever_their_hashes_are() -> None:
    """Sums of hashes pass 64 bits for one prompt in eight: of three hundred, some do."""
    prompts = [[{"role": "user", "content": f"brief {n}"}] for n in range(300)]
    two = [{"position": place, "text": text, "logprob": None} for place, text in enumerate(("first", "second"))]
    rows = interactions(
        *(decision(n, "accept", 0, "first", prompt=prompt, candidates=two) for n, prompt in enumerate(prompts))
    )
    posed = pa.table(
        {
            "comparison_id": [f"c{n}" for n in range(300)],
            "prompt": pa.array(prompts, COMPARISONS.arrow.field("prompt").type),
            "left": ["second"] * 300,
            "right": ["first"] * 300,
        }
    )
    answers = pa.table({"id": [f"c{n}" for n in range(300)], "choice": ["right"] * 300})
    with duckdb.connect(":memory:") as connection:
        connection.register("posed", posed)
        connection.register("answers", answers)
        gold = connection.sql(_GOLD).to_arrow_table()
    found = facts(rows)
    signed = gold["item"].combine_chunks().view(pa.int64()).to_pylist()
    assert sorted(signed) == sorted(int(item) for item in found.item)
    assert set(gold["taken"].combine_chunks().view(pa.int64()).to_pylist()) == {int(taken) for taken in found.taken}
