"""What a person consented to: without `training` nothing of an interaction is trained on, whatever else it has."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given, settings
from hypothesis import strategies as st

from loop.label.derive import derive
from loop.schema import Decision
from loop.train import corpus, dataset
from tests.rows import NOON, SHOWN, decision, interactions

SHARE = 0.4
NOW = datetime(2026, 2, 1, tzinfo=UTC)


@st.composite
def _decisions(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from([d.value for d in Decision]))
    chosen = draw(st.integers(0, 2)) if kind in {"accept", "modify"} else None
    final = None if chosen is None else SHOWN[chosen] if kind == "accept" else draw(st.sampled_from(["new", "better"]))
    return decision(
        0,
        kind,
        chosen,
        final,
        purposes=draw(st.lists(st.sampled_from(["training", "evaluation"]), unique=True)),
        employee=draw(st.sampled_from([f"p_{n}" for n in range(6)])),
        task_id=draw(st.sampled_from([None, "t1", "t2", "t3"])),
        suggestion_id=draw(st.sampled_from(["s1", "s2", "s3", "s4"])),
        received_at=NOON + timedelta(minutes=draw(st.integers(0, 5))),
    )


def drawn_rows(drawn: list[dict[str, Any]]) -> list[dict[str, Any]]:
    prompt = [[{"role": "user", "content": f"draft {i}"}] for i in range(len(drawn))]
    return [row | {"event_id": f"e{i}", "prompt": prompt[i]} for i, row in enumerate(drawn)]


@settings(max_examples=60, deadline=None)
@given(st.lists(_decisions(), max_size=15))
def test_each_label_stands_on_the_side_that_its_person_consented_to(drawn: list[dict[str, Any]]) -> None:
    rows = drawn_rows(drawn)
    purposes = {row["event_id"]: set(row["purposes"]) for row in rows}
    found = derive(interactions(*rows), held_out_share=SHARE)
    for labels in (found.demonstrations, found.preferences):
        for event, split in zip(labels["event_id"].to_pylist(), labels["split"].to_pylist(), strict=True):
            assert {"train": "training", "held_out": "evaluation"}[split] in purposes[event]


@settings(max_examples=30, deadline=None)
@given(st.lists(_decisions(), max_size=15))
def test_a_training_set_holds_nothing_without_the_purpose_training(
    tmp_path_factory: Any, drawn: list[dict[str, Any]]
) -> None:
    rows = drawn_rows(drawn)
    purposes = {row["event_id"]: set(row["purposes"]) for row in rows}
    found = derive(interactions(*rows), held_out_share=SHARE)
    parts = []
    for labels in (found.demonstrations, found.preferences):
        train = labels.filter(pc.equal(labels["split"], "train"))
        parts.append(dataset.compose(train, train.slice(0, 0), replay_share=0.0, limit=100, seed=0).rows)
    root: Path = tmp_path_factory.mktemp("sets")
    frozen = dataset.freeze(*parts, root=root, salt_key=b"k" * 32, meta={})
    events = {*frozen.demonstrations["event_id"].to_pylist(), *frozen.preferences["event_id"].to_pylist()}
    assert all("training" in purposes[event] for event in events)


@settings(max_examples=60, deadline=None)
@given(st.lists(_decisions(), max_size=15))
def test_the_corpus_of_a_base_holds_nothing_without_the_purpose_training(drawn: list[dict[str, Any]]) -> None:
    rows = drawn_rows(drawn)
    willing = {row["prompt"][0]["content"] for row in rows if "training" in row["purposes"]}
    table = interactions(*rows)
    pairs = corpus.shown(table, accepted={"b"}, cutoff=NOW, held_out_share=SHARE, seed=0)
    assert {prompt[0]["content"] for prompt, _ in pairs} <= willing


def test_consent_to_evaluation_alone_reaches_evaluation_and_no_training() -> None:
    people = [f"p_{n}" for n in range(40)]
    rows = [decision(n, "accept", 0, "first", employee=who, purposes=["evaluation"]) for n, who in enumerate(people)]
    found = derive(interactions(*rows), held_out_share=SHARE)
    splits = pa.concat_tables([found.demonstrations.select(["split"]), found.preferences.select(["split"])])["split"]
    assert set(splits.to_pylist()) == {"held_out"}
    assert (
        found.set_aside["no consent to training"]
        == len(people) - pc.count_distinct(found.demonstrations["event_id"]).as_py()
    )


def test_whoever_takes_the_consent_back_is_no_longer_learned_from() -> None:
    given_ = decision(1, "accept", 0, "first", suggestion_id="s")
    taken = decision(2, "accept", 0, "first", suggestion_id="s", revises="e1", purposes=[])
    found = derive(interactions(given_, taken), held_out_share=0.0)
    (row,) = found.demonstrations.to_pylist()
    assert (row["event_id"], row["superseded_at"]) == ("e1", taken["received_at"])
    assert found.set_aside == {"no consent to training": 1}
