"""An erasure takes rows out of a frozen set and leaves leaves that verify."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from label_rows import demonstrations, preferences

from loop.train import dataset, merkle

KEY = b"k" * 32


def of(*people: str) -> Callable[[pa.Table], pa.Array]:
    return lambda rows: pc.is_in(rows["employee"], pa.array(people))


@pytest.fixture
def frozen(tmp_path: Path) -> dataset.Frozen:
    """Seven demonstrations and five preferences by p0, p1, p2 in turn."""

    def by_three(rows: pa.Table) -> pa.Table:
        place = rows.schema.get_field_index("employee")
        return rows.set_column(place, "employee", pa.array([f"p{i % 3}" for i in range(rows.num_rows)]))

    given = (
        by_three(demonstrations([(f"paint the {i}", f"red {i}") for i in range(7)])),
        by_three(preferences([(f"paint the {i}", f"red {i}", f"blue {i}") for i in range(5)])),
    )
    return dataset.freeze(*given, root=tmp_path, salt_key=KEY, meta={})


def test_the_rows_go_and_the_digest_and_every_other_row_still_verify(frozen: dataset.Frozen) -> None:
    assert dataset.erase(frozen.path, of("p1")) == 4
    assert dataset.verify(frozen.path) == []
    assert dataset.erased(frozen.path) == (4, 12)
    left = dataset.load(frozen.path.parent, frozen.digest)
    assert (left.demonstrations.num_rows, left.preferences.num_rows) == (5, 3)
    assert "p1" not in left.demonstrations["employee"].to_pylist()
    assert dataset.erase(frozen.path, of("p1")) == 0, "done again it changes nothing"
    assert dataset.erase(frozen.path, of("p0", "p2")) == 8
    assert dataset.verify(frozen.path) == []
    assert dataset.load(frozen.path.parent, frozen.digest).demonstrations.num_rows == 0


def test_whoever_still_has_a_row_can_show_that_it_was_in_the_set(frozen: dataset.Frozen) -> None:
    before = pq.read_table(frozen.path / "demonstrations.parquet")
    dataset.erase(frozen.path, of("p1"))
    manifest = json.loads((frozen.path / dataset.MANIFEST).read_text())
    row = before.slice(1, 1)
    (leaf,) = dataset._leaves("demonstrations", row, row["salt"].to_pylist())
    assert manifest["leaves"]["demonstrations"][1] == leaf.hex()
    assert 1 in manifest["erased"]["demonstrations"]
    assert merkle.root([bytes.fromhex(x) for v in manifest["leaves"].values() for x in v]).hex() == frozen.digest


def test_a_row_that_went_otherwise_is_still_missed(frozen: dataset.Frozen) -> None:
    dataset.erase(frozen.path, of("p1"))
    path = frozen.path / "demonstrations.parquet"
    rows = pq.read_table(path)
    path.chmod(0o644)
    pq.write_table(rows.slice(1), path)
    assert dataset.verify(frozen.path) == ["demonstrations: 5 rows were frozen and not erased, 4 are there"]


def test_what_was_frozen_from_the_rows_that_are_left_is_another_set(frozen: dataset.Frozen, tmp_path: Path) -> None:
    dataset.erase(frozen.path, of("p1"))
    left = dataset.load(tmp_path, frozen.digest)
    again = dataset.freeze(left.demonstrations, left.preferences, root=tmp_path, salt_key=KEY, meta={})
    assert again.digest != frozen.digest
    assert dataset.sets(tmp_path) == sorted([frozen.path, again.path])


def test_killed_between_its_files_nobody_reads_what_is_left_and_done_again_it_goes(frozen: dataset.Frozen) -> None:
    script = f"""
import os, pathlib, signal
import pyarrow as pa, pyarrow.compute as pc
from loop.train import dataset
real = dataset._replace
def once(path, write):
    real(path, write)
    os.kill(os.getpid(), signal.SIGKILL)
dataset._replace = once
dataset.erase(pathlib.Path({str(frozen.path)!r}), lambda rows: pc.is_in(rows["employee"], pa.array(["p1"])))
"""
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL
    assert pq.read_table(frozen.path / "demonstrations.parquet").num_rows == 7
    assert dataset.verify(frozen.path) == []
    left = dataset.load(frozen.path.parent, frozen.digest)
    assert (left.demonstrations.num_rows, left.preferences.num_rows) == (5, 3)
    assert dataset.erase(frozen.path, of("p1")) == 4
    assert pq.read_table(frozen.path / "demonstrations.parquet").num_rows == 5
    assert dataset.verify(frozen.path) == []
    assert dataset.erased(frozen.path) == (4, 12)


def test_rows_that_expired_are_not_erased_ones_and_may_be_frozen_again(frozen: dataset.Frozen) -> None:
    root, meta = frozen.path.parent, {"cycle": "2026-01-01"}
    dataset.erase(frozen.path, of("p1"))
    assert dataset.expire(frozen.path) == 8
    assert (dataset.erased(frozen.path), dataset.expired(frozen.path)) == ((4, 12), 8)
    assert dataset.verify(frozen.path) == []
    assert dataset.load(root, frozen.digest).preferences.num_rows == 0
    again = dataset.freeze(frozen.demonstrations, frozen.preferences, root=root, salt_key=KEY, meta=meta)
    assert again.digest == frozen.digest
    assert (again.demonstrations.num_rows, again.preferences.num_rows) == (5, 3), "what was erased does not come back"
    assert "p1" not in again.demonstrations["employee"].to_pylist()
    assert (dataset.erased(frozen.path), dataset.expired(frozen.path)) == ((4, 12), 0)
    assert dataset.verify(frozen.path) == []


def test_what_a_killed_freezing_left_is_cleared(frozen: dataset.Frozen) -> None:
    (frozen.path.parent / ".abc.xyz").mkdir()
    (frozen.path.parent / ".abc.xyz" / "demonstrations.parquet").write_bytes(b"somebody's words")
    (frozen.path / ".preferences.parquet.new").write_bytes(b"somebody's words")
    assert dataset.clear(frozen.path.parent) == 2
    assert [path.name for path in frozen.path.parent.iterdir()] == [frozen.digest]
    assert len(list(frozen.path.iterdir())) == 3
