"""A file of texts scanned: a line out for each line in, or an error that names the line, and nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loop.errors import BadInputError
from loop.privacy import scan as scanning
from loop.privacy.recognise import find
from loop.privacy.scan import Scanned, scan


def scanned(tmp_path: Path, *lines: bytes) -> tuple[Scanned, list[dict[str, Any]]]:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(b"".join(line + b"\n" for line in lines))
    seen: list[tuple[int, int]] = []
    done = scan(source, target, find, lambda read, size: seen.append((read, size)))
    assert seen[-1] == (source.stat().st_size,) * 2
    return done, [json.loads(line) for line in target.read_text().splitlines()]


def quiet(read: int, size: int) -> None:
    """Shows no progress."""


def line(text: str, id_: Any = "a") -> bytes:
    return json.dumps({"id": id_, "text": text}, ensure_ascii=False).encode()


def test_a_line_out_for_each_line_in_with_offsets_in_code_points(tmp_path: Path) -> None:
    done, out = scanned(tmp_path, line("😀 שלום jane@example.org"), b"  ", line("", 7), line("<URL_1> www.example.org"))
    assert out == [
        {
            "id": "a",
            "spans": [{"start": 7, "end": 23, "type": "EMAIL_ADDRESS"}],
            "masked": "😀 שלום <EMAIL_ADDRESS_1>",
        },
        {"id": 7, "spans": [], "masked": ""},
        {"id": "a", "spans": [{"start": 8, "end": 23, "type": "URL"}], "masked": "<URL_1> <URL_2>"},
    ]
    assert done.told() == {"lines": 3, "personal": 2, "spans": {"EMAIL_ADDRESS": 1, "URL": 1}}


def test_an_empty_file_gives_an_empty_file(tmp_path: Path) -> None:
    assert scanned(tmp_path) == (Scanned(), [])


def test_a_text_of_a_megabyte_is_a_text(tmp_path: Path) -> None:
    done, out = scanned(tmp_path, line("word " * 200_000 + "jane@example.org"))
    assert out[0]["spans"] == [{"start": 1_000_000, "end": 1_000_016, "type": "EMAIL_ADDRESS"}]
    assert done.lines == 1


BAD = {
    b'{"id": "a", "text": "\xff"}': r"UTF-8, got b'\\xff'",
    rb'{"id": "a", "text": "\ud800"}': "half a surrogate pair",
    rb'{"id": "a", "text": "\udc00 x"}': "half a surrogate pair",
    b'{"id": "a", "text": "cut': "malformed",
    b'{"id": "a"}': "missing required field `text`",
    b'{"text": "a"}': "missing required field `id`",
    b'{"id": null, "text": "a"}': "got `null`",
    b'{"id": "a", "text": 5}': "got `int`",
    b"[" * 100_000: "Expected `object`, got `array`",
    b"garbage": "malformed",
}


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_a_bad_line_is_named_and_nothing_is_written(tmp_path: Path, bad: bytes) -> None:
    target = tmp_path / "out.jsonl"
    target.write_text("as before")
    with pytest.raises(BadInputError, match=rf"in\.jsonl, line 3: expected .*{BAD[bad]}.*; nothing was written"):
        scanned(tmp_path, line("ok"), b"", bad, line("ok"))
    assert target.read_text() == "as before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_a_line_that_is_too_long_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "LINE_BYTES", 100)
    with pytest.raises(BadInputError, match="line 2: expected at most 100 bytes"):
        scanned(tmp_path, line("ok"), line("x" * 100))


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"none\.jsonl: No such file"):
        scan(tmp_path / "none.jsonl", tmp_path / "out.jsonl", find, quiet)
    (tmp_path / "in.jsonl").write_bytes(line("ok"))
    with pytest.raises(BadInputError, match="No such file or directory; nothing was written"):
        scan(tmp_path / "in.jsonl", tmp_path / "none" / "out.jsonl", find, quiet)


def test_a_file_may_be_scanned_into_itself(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(line("jane@example.org"))
    scan(path, path, find, quiet)
    assert json.loads(path.read_text())["masked"] == "<EMAIL_ADDRESS_1>"
