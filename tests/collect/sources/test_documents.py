from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loop.collect.events import EventError
from loop.collect.record import Record
from loop.collect.sources import documents, jsonl
from loop.errors import BadInputError


def read(path: Path) -> list[tuple[int, Any]]:
    """Line and value of each document; of a record that is none, its reason."""
    found = []
    for each in documents.reader(path, None)():
        value = each.fault and each.fault.reason.value if isinstance(each, Record) else each.value
        found.append((each.line, value))
    return found


VALUES = [{"a": 1}, {"b": ["é", None]}]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b" \n\n", []),
        (json.dumps(VALUES[0]).encode(), [(1, VALUES[0])]),
        (json.dumps(VALUES[0], indent=2).encode(), [(1, VALUES[0])]),
        (json.dumps(VALUES).encode(), [(1, VALUES[0]), (1, VALUES[1])]),
        (json.dumps(VALUES, indent=2).encode(), [(1, VALUES[0]), (2, VALUES[1])]),
        (b'\xef\xbb\xbf{"a": 1}\r\n\r\n{"b": ["\xc3\xa9", null]}', [(1, VALUES[0]), (3, VALUES[1])]),
        (
            b'\n{"a": 1}\n{"a": \n{"b": NaN}\n{"c": "\xff"}',
            [(2, {"a": 1}), (3, "not_json"), (4, {"b": None}), (5, "not_utf8")],
        ),
        (b'{"cut\n{"a": 1}\n', [(1, "not_json"), (2, {"a": 1})]),
        (b'[{"a": 1}]\n{"a": 2}\n', [(1, {"a": 1}), (2, {"a": 2})]),
    ],
)
def test_values_are_read_however_they_stand(tmp_path: Path, content: bytes, expected: list[tuple[int, Any]]) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    assert read(path) == expected
    packed = tmp_path / "x.json.gz"
    packed.write_bytes(gzip.compress(content))
    assert read(packed) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.text(), JSON, min_size=1, max_size=3), min_size=1, max_size=4))
def test_lines_and_arrays_hold_the_same_values(tmp_path: Path, values: list[Any]) -> None:
    path = tmp_path / "x"
    ways = ("\n".join(map(json.dumps, values)), json.dumps(values), json.dumps(values, indent=1))
    for content in ways:
        path.write_text(content)
        assert [value for _, value in read(path)] == values


def test_a_line_that_cannot_be_read_is_kept_as_a_digest_and_not_as_a_text(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n{"user.id": "alice@example.org", \n')
    _, record = documents.reader(path, None)()
    assert isinstance(record, Record)
    digest = hashlib.blake2b(b'{"user.id": "alice@example.org",', digest_size=16).hexdigest()
    assert json.loads(record.raw) == {"line": 2, "bytes": 32, "blake2b": digest}
    assert b"alice" not in record.raw
    assert "alice" not in str(record.fault)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello\n", "expected JSON or JSON lines, line 1: expected JSON: "),
        (b"\n\nPK\x03\x04", "expected JSON or JSON lines, line 3: expected JSON: "),
        (
            json.dumps(VALUES, indent=2).encode()[:-9],
            "nothing of it was imported: expected JSON: Input data was truncated",
        ),
        (json.dumps(VALUES).encode()[:-1], "nothing of it was imported: expected JSON: Input data was truncated"),
        (b'{"a": 1', "nothing of it was imported: expected JSON: Input data was truncated"),
        (b"[" * 100_000, "nothing of it was imported: expected JSON: maximum recursion depth exceeded"),
        ('{"a": 1}'.encode("utf-16"), "expected UTF-8, got UTF-16 or UTF-32"),
    ],
)
def test_a_file_that_is_no_json_is_refused_as_a_whole(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=message):
        read(path)


def test_what_must_be_read_whole_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "LONGEST", 100)
    path = tmp_path / "x.json"
    for content in (json.dumps([{"a": 1}] * 30), json.dumps([{"a": 1}] * 30, indent=1)):
        path.write_text(content)
        with pytest.raises(BadInputError, match=r"an array that can be read whole \(make lines of it: jq -c '.\[\]'\)"):
            read(path)
    path.write_text('{"a": 1}\n' * 30)
    assert len(read(path)) == 30


def test_a_folder_is_read_by_name_and_its_files_are_told(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "2.jsonl").write_text('{"n": 2}\n')
    (tmp_path / "1.json.gz").write_bytes(gzip.compress(b'{"n": 1}'))
    (tmp_path / "notes.txt").write_text("hello")
    told: list[tuple[int, int | None]] = []
    again = documents.reader(tmp_path, lambda done, total: told.append((done, total)), times=2)
    for _ in range(2):
        found = [(each.path, each.value) for each in again() if isinstance(each, documents.Document)]
        assert found == [("1.json.gz", {"n": 1}), ("b/2.jsonl", {"n": 2})]
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_path_that_holds_none_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no such file or folder; expected JSON or JSON lines"):
        documents.reader(tmp_path / "none", None)
    with pytest.raises(BadInputError, match=r"expected files that end in \.json, "):
        documents.reader(tmp_path, None)


@pytest.mark.parametrize("content", ['{"a": NaN, "b": "\\ud800"}', "[NaN", "NaN" + "[" * 100_000])
def test_words_that_json_has_not_excuse_nothing_else(content: str) -> None:
    with pytest.raises(EventError, match="expected JSON: "):
        documents.decode(content)
