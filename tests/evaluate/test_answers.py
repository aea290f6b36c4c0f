"""Which items a cycle is judged on, and that each model answers each item once."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from loop import schema
from loop.errors import BadInputError
from loop.evaluate.answers import Decoding, add_items, answers_of, benchmark
from loop.evaluate.answers import items as item_rows
from loop.lake import Lake, from_rows
from loop.workflows import WORKFLOWS

FIRST = date(2026, 3, 1)


def items(day: date, workflow: str, ids: list[str]) -> pa.Table:
    rows = [
        {"item_id": i, "day": day, "workflow": workflow, "prompt": [{"role": "user", "content": f"Report {i}"}]}
        for i in ids
    ]
    return from_rows(rows, schema.BENCHMARK)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Day 1: ads b, a, c and design x; day 2: ads a again and 0."""
    lake = Lake(tmp_path / "lake")
    lake.overwrite("benchmark", items(FIRST, "ads", ["b", "a", "c"]), day=FIRST, workflow="ads")
    lake.overwrite("benchmark", items(FIRST, "design", ["x"]), day=FIRST, workflow="design")
    second = FIRST + timedelta(days=1)
    lake.overwrite("benchmark", items(second, "ads", ["0", "a"]), day=second, workflow="ads")
    return lake


def test_items_are_those_known_by_the_cycle_the_oldest_first(lake: Lake) -> None:
    second = FIRST + timedelta(days=1)
    assert benchmark(lake, FIRST - timedelta(days=1), 10).num_rows == 0
    assert sorted(benchmark(lake, FIRST, 10)["item_id"].to_pylist()) == ["a", "b", "c", "x"]
    assert Counter(benchmark(lake, second, 10)["item_id"].to_pylist()) == Counter("abc0x"), "a counts once"
    assert benchmark(lake, second, 10).schema.equals(schema.BENCHMARK.arrow)


def test_new_items_do_not_push_out_old_ones(lake: Lake) -> None:
    second = FIRST + timedelta(days=1)
    assert benchmark(lake, second, 2).equals(benchmark(lake, FIRST, 2))
    taken = benchmark(lake, second, 2)
    assert list(zip(taken["workflow"].to_pylist(), taken["item_id"].to_pylist(), strict=True)) == [
        ("ads", "a"),
        ("ads", "b"),
        ("design", "x"),
    ]


def test_a_prompt_is_added_once_whenever_it_comes_again(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    prompts = [[{"role": "user", "content": text}] for text in ("one", "two", "one", "three")]
    second = FIRST + timedelta(days=1)
    assert add_items(lake, FIRST, "ads", prompts[:3]) == 2
    assert add_items(lake, FIRST, "ads", prompts) == 1
    assert add_items(lake, second, "ads", prompts) == 0
    assert add_items(lake, second, "design", prompts) == 3, "another workflow's item is another item"
    found = benchmark(lake, second, 10)
    assert Counter(found["workflow"].to_pylist()) == {"ads": 3, "design": 3}
    assert len(set(found["item_id"].to_pylist())) == 6
    assert lake.partitions("benchmark") == [(FIRST, "ads"), (second, "design")]


def test_an_items_id_is_its_prompts(tmp_path: Path) -> None:
    [one] = item_rows(FIRST, "ads", [[{"role": "user", "content": "Grüße"}]])
    [again] = item_rows(FIRST + timedelta(days=9), "ads", [[{"content": "Grüße", "role": "user"}]])
    assert one["item_id"] == again["item_id"]
    assert one["item_id"] != item_rows(FIRST, "ads", [[{"role": "user", "content": "Grusse"}]])[0]["item_id"]


def test_no_table_no_items(tmp_path: Path) -> None:
    assert benchmark(Lake(tmp_path), FIRST, 5).num_rows == 0


def test_answers_are_the_models_sampled_as_served(tiny: Path, tmp_path: Path) -> None:
    from loop.models import Model

    asked = items(FIRST, "moderation", ["a", "b"])
    answers = answers_of("m1", tiny, asked, cache=tmp_path, seed=3, decoding=Decoding(0.7, 0.8))
    model = Model.load(tiny)
    expected = model.sample(
        asked["prompt"].to_pylist(),
        n=1,
        max_new_tokens=WORKFLOWS["moderation"].max_answer_tokens,
        temperature=0.7,
        top_p=0.8,
        seed=3,
    )
    assert answers == [group[0].text for group in expected]


def test_cached_answers_need_no_model(tiny: Path, tmp_path: Path) -> None:
    asked = items(FIRST, "moderation", ["a", "b", "c"])
    answers = answers_of("m1", tiny, asked, cache=tmp_path, seed=0)
    nowhere = tmp_path / "nowhere"
    assert answers_of("m1", nowhere, asked, cache=tmp_path, seed=0) == answers
    assert answers_of("m1", nowhere, asked.slice(1, 1), cache=tmp_path, seed=0) == answers[1:2]
    reverse = asked.take(pa.array([2, 1, 0]))
    assert answers_of("m1", nowhere, reverse, cache=tmp_path, seed=0) == answers[::-1]
    for other in ({"seed": 1}, {"seed": 0, "decoding": Decoding(0.5)}):
        with pytest.raises(BadInputError):
            answers_of("m1", nowhere, asked, cache=tmp_path, **other)
    with pytest.raises(BadInputError):
        answers_of("m2", nowhere, asked, cache=tmp_path, seed=0)


def test_only_missing_items_are_sampled(tiny: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    first = answers_of("m1", tiny, items(FIRST, "moderation", ["a"]), cache=tmp_path, seed=0)
    both = answers_of(
        "m1",
        tiny,
        pa.concat_tables([items(FIRST, "moderation", ["a", "b"]), items(FIRST, "ads", ["c"])]),
        cache=tmp_path,
        seed=0,
        progress=lambda done, of: told.append((done, of)),
    )
    assert both[:1] == first
    assert len(both) == 3
    assert told[-1] == (2, 2)
    assert answers_of("m1", tmp_path, items(FIRST, "moderation", []), cache=tmp_path / "none", seed=0) == []
