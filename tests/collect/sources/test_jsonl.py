from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.collect.sources import jsonl
from loop.errors import BadInputError

LINES = b'{"a": 1}\n{"b": "\xc3\xa9"}\n'


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


def read(path: Path) -> list[tuple[int, bytes]]:
    return [(record.line, record.raw) for record in jsonl.read(path).records]


@pytest.mark.parametrize(("name", "pack"), [("x.jsonl", bytes), ("x.jsonl.gz", gzip.compress), ("x.jsonl.zst", zstd)])
def test_lines_are_read_whatever_the_packing(tmp_path: Path, name: str, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / name
    path.write_bytes(pack(LINES))
    assert read(path) == [(1, b'{"a": 1}'), (2, b'{"b": "\xc3\xa9"}')]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"\n \n\r\n", []),
        (b"a", [(1, b"a")]),
        (b"\xef\xbb\xbfa\r\n\r\n b \r\n", [(1, b"a"), (3, b"b")]),
        (b"a\n\xff\xfe\n", [(1, b"a"), (2, b"\xff\xfe")]),
    ],
)
def test_blank_lines_are_no_records_and_numbers_count_every_line(
    tmp_path: Path, content: bytes, expected: list[tuple[int, bytes]]
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    assert read(path) == expected


@given(st.lists(st.binary(max_size=12).filter(lambda b: b"\n" not in b)), st.integers(1, 7))
def test_lines_do_not_depend_on_where_the_blocks_end(lines: list[bytes], block: int) -> None:
    content = b"\n".join(lines)
    stream = iter([content[i : i + block] for i in range(0, len(content), block)])
    found = list(jsonl._lines(lambda _: next(stream, b""), Path("x"), lambda: None))
    assert found == (lines if lines and lines[-1] else lines[:-1])


@pytest.mark.parametrize(("name", "pack"), [("x.jsonl.gz", gzip.compress), ("x.jsonl.zst", zstd)])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, name: str, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / name
    packed = pack(b"".join(b'{"n": %d}\n' % n for n in range(50_000)))
    for keep in (len(packed) // 2, len(packed) - 1):
        path.write_bytes(packed[:keep])
        with pytest.raises(BadInputError, match=r"nothing of it was imported"):
            read(path)


def test_a_packed_file_that_is_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.gz"
    packed = bytearray(gzip.compress(bytes(range(256)) * 99))
    packed[len(packed) // 2] ^= 0xFF
    path.write_bytes(packed)
    with pytest.raises(BadInputError, match=r"cannot be read to its end, nothing of it was imported"):
        read(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_another_encoding_is_refused_as_a_whole(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes('{"employee": "alice"}\n'.encode(encoding))
    with pytest.raises(BadInputError, match=r"expected UTF-8, got UTF-16 or UTF-32; convert it: iconv -t utf-8"):
        read(path)


def test_a_file_without_line_ends_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "LONGEST", 100)
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"x" * 101)
    with pytest.raises(BadInputError, match=r"expected one event a line, got a line of more than 100 bytes"):
        read(path)


def test_what_is_no_such_file_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"no such file; expected a \.jsonl"):
        jsonl.read(tmp_path / "none.jsonl")
    with pytest.raises(BadInputError, match=r"expected a file of events, got a folder"):
        jsonl.read(tmp_path)
    (tmp_path / "x.csv").touch()
    with pytest.raises(BadInputError, match=r"expected a name that ends in \.jsonl"):
        jsonl.read(tmp_path / "x.csv")
    (tmp_path / "x.jsonl.gz").write_bytes(LINES)
    with pytest.raises(BadInputError, match=r"expected a \.gz file, got one that begins with b'\{\"'"):
        read(tmp_path / "x.jsonl.gz")


def test_progress_ends_at_the_size_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(LINES * 100_000)
    told: list[tuple[int, int | None]] = []
    list(jsonl.read(path, progress=lambda done, total: told.append((done, total))).records)
    size = path.stat().st_size
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (size, size)
