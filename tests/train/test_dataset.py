"""Frozen training sets: what goes in, what the digest depends on, and what verification finds."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from label_rows import NOON, SOURCE, ask, demonstrations, preferences

from loop import schema
from loop.errors import BadInputError
from loop.train import dataset
from loop.train.dataset import compose, freeze, load, verify

KEY = b"k" * 32
META = {"cutoff": "2026-03-02"}


@pytest.fixture(scope="module")
def labels() -> tuple[pa.Table, pa.Table]:
    return (
        demonstrations([(f"paint the {i}", f"red {i}") for i in range(7)]),
        preferences([(f"paint the {i}", f"red {i}", f"blue {i}") for i in range(5)]),
    )


def change(rows: pa.Table, column: str, value: object, row: int = 2) -> pa.Table:
    """The rows with one cell changed."""
    given = rows.to_pylist()
    given[row][column] = value
    return pa.Table.from_pylist(given, schema=rows.schema)


def set_column(rows: pa.Table, column: str, values: list[object]) -> pa.Table:
    place = rows.schema.get_field_index(column)
    return rows.set_column(place, rows.schema.field(place), pa.array(values, rows.schema.field(place).type))


# -- freezing ----------------------------------------------------------------------------------------------------------


def test_what_was_frozen_comes_back(labels: tuple[pa.Table, pa.Table], tmp_path: Path) -> None:
    frozen = freeze(*labels, root=tmp_path, salt_key=KEY, meta=META)
    again = load(tmp_path, frozen.digest)
    assert frozen.path == tmp_path / frozen.digest
    assert again.demonstrations.equals(labels[0])
    assert again.preferences.equals(labels[1])
    assert again.meta == META
    assert verify(frozen.path) == []
    assert sorted(file.name for file in frozen.path.iterdir()) == [
        "demonstrations.parquet",
        "manifest.json",
        "preferences.parquet",
    ]
    assert {file.stat().st_mode & 0o222 for file in frozen.path.iterdir()} == {0}
    assert [folder.name for folder in tmp_path.iterdir()] == [frozen.digest]


def test_freezing_again_changes_nothing(labels: tuple[pa.Table, pa.Table], tmp_path: Path) -> None:
    first = freeze(*labels, root=tmp_path, salt_key=KEY, meta=META)
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in first.path.iterdir()}
    second = freeze(*labels, root=tmp_path, salt_key=KEY, meta={"cutoff": "later"})
    assert second.digest == first.digest
    assert second.meta == META
    assert {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in second.path.iterdir()} == before


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_digest_does_not_depend_on_any_order(
    labels: tuple[pa.Table, pa.Table], tmp_path: Path, data: st.DataObject
) -> None:
    shuffled = []
    for rows in labels:
        columns = data.draw(st.permutations(rows.column_names))
        shuffled.append(rows.take(data.draw(st.permutations(range(rows.num_rows)))).select(columns))
    assert (
        freeze(*shuffled, root=tmp_path / "b", salt_key=KEY, meta={}).digest
        == freeze(*labels, root=tmp_path / "a", salt_key=KEY, meta={}).digest
    )


def test_the_digest_does_not_depend_on_encoding_or_bookkeeping(
    labels: tuple[pa.Table, pa.Table], tmp_path: Path
) -> None:
    digest = freeze(*labels, root=tmp_path / "a", salt_key=KEY, meta={}).digest
    changed = set_column(labels[0], "batch", [f"another {i}" for i in range(7)])
    changed = set_column(changed, "superseded_at", [NOON] * 7)
    text = changed.schema.get_field_index("answer")
    changed = changed.set_column(text, "answer", changed["answer"].dictionary_encode())
    chunked = pa.concat_tables([labels[1].slice(0, 2), labels[1].slice(2)])
    assert freeze(changed, chunked, root=tmp_path / "b", salt_key=KEY, meta={}).digest == digest


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("answer", "red 2 "),
        ("prompt", ask("paint the 3")),
        ("weight", 0.5),
        ("day", NOON.date() - timedelta(days=1)),
        ("received_at", NOON + timedelta(microseconds=1)),
        ("employee", "q"),
        ("task_id", ""),
        ("demonstration_id", "other"),
    ],
)
def test_the_digest_depends_on_every_cell(
    labels: tuple[pa.Table, pa.Table], tmp_path: Path, column: str, value: object
) -> None:
    digest = freeze(*labels, root=tmp_path, salt_key=KEY, meta={}).digest
    changed = change(labels[0], column, value)
    assert freeze(changed, labels[1], root=tmp_path, salt_key=KEY, meta={}).digest != digest


def test_the_digest_depends_on_the_key(labels: tuple[pa.Table, pa.Table], tmp_path: Path) -> None:
    digests = {freeze(*labels, root=tmp_path, salt_key=key, meta={}).digest for key in (KEY, b"other" * 7)}
    assert len(digests) == 2


def test_nothing_can_be_frozen(tmp_path: Path) -> None:
    empty = schema.DEMONSTRATIONS.empty(), schema.PREFERENCES.empty()
    frozen = freeze(*empty, root=tmp_path, salt_key=KEY, meta={})
    assert (frozen.demonstrations.num_rows, frozen.preferences.num_rows) == (0, 0)
    assert verify(frozen.path) == []


def test_a_row_that_comes_twice_is_our_mistake(labels: tuple[pa.Table, pa.Table], tmp_path: Path) -> None:
    twice = pa.concat_tables([labels[0], labels[0].slice(0, 1)])
    with pytest.raises(AssertionError, match="came twice"):
        freeze(twice, labels[1], root=tmp_path, salt_key=KEY, meta={})


def test_an_unknown_digest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no training set abc"):
        load(tmp_path, "abc")


def test_a_failed_write_leaves_nothing(
    labels: tuple[pa.Table, pa.Table], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset.json, "dumps", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        freeze(*labels, root=tmp_path, salt_key=KEY, meta={})
    assert list(tmp_path.iterdir()) == []


# -- verifying ---------------------------------------------------------------------------------------------------------


def rewrite(path: Path, name: str, rows: pa.Table) -> None:
    (path / f"{name}.parquet").unlink()
    pq.write_table(rows, path / f"{name}.parquet")


def edit_manifest(path: Path, **values: object) -> None:
    manifest = json.loads((path / dataset.MANIFEST).read_text()) | values
    (path / dataset.MANIFEST).unlink()
    (path / dataset.MANIFEST).write_text(json.dumps(manifest))


def test_a_changed_row_is_found(labels: tuple[pa.Table, pa.Table], tmp_path: Path) -> None:
    path = freeze(*labels, root=tmp_path, salt_key=KEY, meta={}).path
    rewrite(path, "demonstrations", change(pq.read_table(path / "demonstrations.parquet"), "answer", "green"))
    assert verify(path) == ["demonstrations: 1 rows are not what was frozen, the first is d00002"]


def test_a_missing_row_is_found(labels: tuple[pa.Table, pa.Table], tmp_path: Path) -> None:
    path = freeze(*labels, root=tmp_path, salt_key=KEY, meta={}).path
    rewrite(path, "preferences", pq.read_table(path / "preferences.parquet").slice(1))
    assert verify(path) == ["preferences: 5 rows were frozen and not erased, 4 are there"]


def test_swapped_rows_are_found(labels: tuple[pa.Table, pa.Table], tmp_path: Path) -> None:
    path = freeze(*labels, root=tmp_path, salt_key=KEY, meta={}).path
    rewrite(path, "preferences", pq.read_table(path / "preferences.parquet").take([1, 0, 2, 3, 4]))
    assert verify(path) == ["preferences: the rows are not in the order in which they were frozen"]


def test_the_leaf_of_an_erased_row_verifies_the_rest(labels: tuple[pa.Table, pa.Table], tmp_path: Path) -> None:
    path = freeze(*labels, root=tmp_path, salt_key=KEY, meta={}).path
    rows = pq.read_table(path / "demonstrations.parquet")
    rewrite(path, "demonstrations", rows.filter(pc.not_equal(rows["demonstration_id"], "d00003")))
    edit_manifest(path, erased={"demonstrations": [3], "preferences": []})
    assert verify(path) == []
    assert load(tmp_path, path.name).demonstrations.num_rows == 6
    edit_manifest(path, erased={"demonstrations": [4], "preferences": []})
    assert len(verify(path)) == 1


def test_a_changed_manifest_is_found(labels: tuple[pa.Table, pa.Table], tmp_path: Path) -> None:
    path = freeze(*labels, root=tmp_path, salt_key=KEY, meta={}).path
    edit_manifest(path, digest="0" * 64)
    assert [problem.split(":")[0] for problem in verify(path)] == ["manifest.json", "manifest.json"]
    (path / dataset.MANIFEST).write_text("{")
    assert verify(path)[0].startswith("manifest.json: cannot be read")


def test_an_unreadable_file_is_found(labels: tuple[pa.Table, pa.Table], tmp_path: Path) -> None:
    path = freeze(*labels, root=tmp_path, salt_key=KEY, meta={}).path
    (path / "preferences.parquet").unlink()
    assert verify(path)[0].startswith("preferences: cannot be read")


# -- composing ---------------------------------------------------------------------------------------------------------


def numbered(first: int, count: int) -> pa.Table:
    rows = [
        {**SOURCE, "demonstration_id": f"d{i:05d}", "kind": "edited", "prompt": ask("a"), "answer": "b"}
        for i in range(first, first + count)
    ]
    return pa.Table.from_pylist(rows, schema=schema.DEMONSTRATIONS.arrow)


@settings(max_examples=60, deadline=None)
@given(
    fresh=st.integers(0, 40),
    older=st.integers(0, 40),
    share=st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9]),
    limit=st.integers(0, 50),
    seed=st.integers(0, 3),
)
def test_every_row_is_taken_or_left(fresh: int, older: int, share: float, limit: int, seed: int) -> None:
    composed = compose(numbered(0, fresh), numbered(1000, older), replay_share=share, limit=limit, seed=seed)
    assert composed.fresh + composed.fresh_left == fresh
    assert composed.older + composed.older_left == older
    assert composed.rows.num_rows == composed.fresh + composed.older <= limit
    assert composed.older <= share * composed.rows.num_rows + 1e-6
    ids = composed.rows["demonstration_id"].to_pylist()
    assert ids == sorted(set(ids))
    assert sum(i < "d01000" for i in ids) == composed.fresh


@pytest.mark.parametrize(
    ("fresh", "older", "limit", "expected"),
    [
        (70, 500, 1000, (70, 30)),  # few fresh rows: older ones up to their share
        (500, 500, 100, (70, 30)),  # both in plenty: the limit is split by the share
        (500, 10, 100, (90, 10)),  # few older rows: fresh ones fill the gap
        (0, 500, 100, (0, 0)),  # nothing new: nothing to learn
    ],
)
def test_the_share_of_older_rows(fresh: int, older: int, limit: int, expected: tuple[int, int]) -> None:
    composed = compose(numbered(0, fresh), numbered(1000, older), replay_share=0.3, limit=limit, seed=0)
    assert (composed.fresh, composed.older) == expected


def test_who_is_taken_does_not_depend_on_the_order() -> None:
    fresh, older = numbered(0, 30), numbered(1000, 30)
    taken = compose(fresh, older, replay_share=0.3, limit=20, seed=1).rows
    backwards = [rows.take(list(range(29, -1, -1))) for rows in (fresh, older)]
    assert compose(*backwards, replay_share=0.3, limit=20, seed=1).rows.equals(taken)
    assert not compose(fresh, older, replay_share=0.3, limit=20, seed=2).rows.equals(taken)


def test_more_older_rows_hardly_change_who_is_replayed() -> None:
    fresh = numbered(0, 700)
    few, many = (
        compose(fresh, numbered(1000, older), replay_share=0.3, limit=1000, seed=0).rows["demonstration_id"]
        for older in (400, 440)
    )
    assert len(set(few.to_pylist()) & set(many.to_pylist())) > 950


def test_a_row_both_fresh_and_older_is_our_mistake() -> None:
    with pytest.raises(AssertionError, match="both fresh and older"):
        compose(numbered(0, 10), numbered(5, 10), replay_share=0.5, limit=100, seed=0)
