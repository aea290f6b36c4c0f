"""CoAuthor: archives, folders and the CSV, and the whole archive against what is known to be true of it."""

from __future__ import annotations

import csv
import io
import lzma
import tarfile
from collections import Counter
from datetime import date
from pathlib import Path

import pytest

from loop.collect.events import Event, decode
from loop.collect.sources import coauthor
from loop.errors import BadInputError
from tests.collect.sources.coauthor_sessions import Session

DATA = Path(__file__).parents[4] / "shared" / "data" / "coauthor"
ARCHIVE = DATA / "argumentative.tar.xz"


def pack(path: Path, members: dict[str, bytes | None], *, end: bool = True) -> Path:
    """A .tar.xz; a member without content is a symbolic link."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if content is None:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            member.size = len(content or b"")
            archive.addfile(member, io.BytesIO(content or b""))
        size = archive.offset
    path.write_bytes(lzma.compress(plain.getvalue() if end else plain.getvalue()[:size]))
    return path


ONE, TWO = Session().open("one").take("one").content, Session().open("two").content
HEAD = "session_id,worker_id,prompt_code,num_query,num_selected,num_event\n"


def read(path: Path, sessions: Path | None = None) -> list[Event]:
    return [decode(record.raw) for record in coauthor.read(path, sessions=sessions).records]


def test_an_archive_and_a_folder_give_the_same_events(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.jsonl").write_bytes(ONE)
    (tmp_path / "set" / "b.jsonl").write_bytes(TWO)
    packed = pack(tmp_path / "set.tar.xz", {"set/a.jsonl": ONE, "set/b.jsonl": TWO})
    assert read(packed) == read(tmp_path / "set")
    assert [e.event_id for e in read(packed)] == ["coauthor:a:1", "coauthor:b:1"]


def test_the_csv_of_the_same_stem_names_the_writers(tmp_path: Path) -> None:
    packed = pack(tmp_path / "set.tar.xz", {"a.jsonl": ONE, "b.jsonl": TWO})
    assert not coauthor.read(packed).writer_known
    (tmp_path / "set.csv").write_text(f"{HEAD}a,w1,animal,1,1,5\n")
    assert coauthor.read(packed).writer_known
    known, unknown = read(packed)
    assert (known.employee, known.task_id, known.reasons) == ("w1", "animal", [])
    assert (unknown.employee, unknown.reasons) == ("b", ["left_open", "writer_unknown"])
    (tmp_path / "other.csv").write_text(f"{HEAD}a,w2,pads,1,1,5\n")
    assert read(packed, tmp_path / "other.csv")[0].employee == "w2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "expected a CSV of sessions with a column 'session_id', got a, b"),
        (f"{HEAD}a,w1,animal,x,1,5\n", "expected a CSV of sessions: invalid literal for int"),
        (f"{HEAD}a,w1\n", "expected a CSV of sessions: int"),
        ("\xff", "expected a CSV of sessions: 'utf-8' codec"),
        (None, "expected a CSV of sessions: No such file"),
    ],
)
def test_a_csv_that_is_none_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    packed, path = pack(tmp_path / "set.tar.xz", {"a.jsonl": ONE}), tmp_path / "x.csv"
    if text is not None:
        path.write_text(text, encoding="latin-1")
    with pytest.raises(BadInputError, match=message):
        coauthor.read(packed, sessions=path)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "expected CoAuthor sessions, got no .jsonl file"),
        ({"notes.txt": b"x"}, "expected .jsonl files only, got 'notes.txt'"),
        ({"../../a.jsonl": None}, "expected .jsonl files only, got '../../a.jsonl'"),
    ],
)
def test_an_archive_of_something_else_is_refused(
    tmp_path: Path, members: dict[str, bytes | None], message: str
) -> None:
    with pytest.raises(BadInputError, match=message):
        read(pack(tmp_path / "set.tar.xz", members))


def test_a_member_with_a_path_out_of_the_archive_is_only_a_name(tmp_path: Path) -> None:
    inner = tmp_path / "deep" / "deeper"
    inner.mkdir(parents=True)
    (event,) = read(pack(inner / "set.tar.xz", {"../../../escaped.jsonl": ONE}))
    assert event.event_id == "coauthor:escaped:1"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["set.tar.xz"]


def test_an_archive_that_is_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "set.tar.xz", {"a.jsonl": ONE, "b.jsonl": TWO})
    whole = path.read_bytes()
    for keep in (len(whole) - 1, len(whole) // 2, 40, 7, 1):
        path.write_bytes(whole[:keep])
        with pytest.raises(BadInputError, match=r"cut short; nothing of it was imported|expected a \.tar\.xz archive"):
            read(path)
    path.write_bytes(b"")
    with pytest.raises(BadInputError, match=r"cut short; nothing of it was imported"):
        read(path)
    with pytest.raises(BadInputError, match=r"cut short; nothing of it was imported"):
        read(pack(path, {"a.jsonl": ONE, "b.jsonl": TWO}, end=False))


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.tar.xz"
    for content in (b"not packed at all", lzma.compress(b"no tar" * 1000)):
        path.write_bytes(content)
        with pytest.raises(BadInputError, match=r"expected a \.tar\.xz archive"):
            read(path)
    with pytest.raises(BadInputError, match=r"no such file or folder"):
        coauthor.read(tmp_path / "none.tar.xz")
    with pytest.raises(BadInputError, match=r"expected a \.tar\.xz or a folder"):
        coauthor.read(Path(__file__))
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInputError, match=r"expected CoAuthor sessions, got no \.jsonl file"):
        read(tmp_path / "empty")


def test_a_session_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coauthor, "SESSION_BYTES", 100)
    (tmp_path / "a.jsonl").write_bytes(ONE)
    for path in (pack(tmp_path / "set.tar.xz", {"a.jsonl": ONE}), tmp_path):
        with pytest.raises(BadInputError, match="100 bytes"):
            read(path)


# -- the whole data set -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_whole_data_set_against_what_is_known_of_it() -> None:
    """One test, for reading it takes ten seconds. That no record has a fault says much: each of the 4,649 selections
    was found verbatim where it was inserted, no edit reached beyond its document, and openings, selections and lines
    of all 615 sessions are those of the CSV."""
    if not ARCHIVE.exists():
        pytest.skip("the CoAuthor data are not beside the repository (../shared/data/coauthor)")
    records = list(coauthor.read(ARCHIVE).records)
    assert [record.fault for record in records if record.fault] == []
    events = [decode(record.raw) for record in records]
    with (DATA / "argumentative.csv").open(newline="") as file:
        rows = {f"coauthor:{row['session_id']}": row for row in csv.DictReader(file)}
    totals = [sum(int(row[name]) for row in rows.values()) for name in ("num_event", "num_query", "num_selected")]
    assert (len(rows), totals) == (615, [1_069_788, 6348, 4649])

    assert len({event.event_id for event in events}) == 6348
    openings = Counter(event.episode_id for event in events)
    assert {session: int(row["num_query"]) for session, row in rows.items() if row["num_query"] != "0"} == openings
    taken = [event for event in events if event.chosen is not None]
    assert len(taken) == 4645
    per_session = Counter(event.episode_id for event in taken)
    assert sum(int(row["num_selected"]) - per_session[session] for session, row in rows.items()) == 4
    assert all(event.employee == rows[event.episode_id]["worker_id"] for event in events)

    assert Counter(event.decision for event in events) == {"accept": 2998, "modify": 1647, "reject": 1659, "ignore": 44}
    assert Counter(tag for event in events for tag in event.reasons) == {
        "asked_again": 234,
        "deleted": 179,
        "layout_only": 217,
        "left_open": 44,
        "clock_backwards": 13,
        "picked_again": 4,
    }
    assert len({event.episode_id for event in events if "clock_backwards" in event.reasons}) == 1

    days = Counter(event.shown_at.date() for event in events)
    assert (min(days), max(days), len(days)) == (date(2021, 8, 18), date(2021, 9, 6), 20)
    assert (min(days.values()), max(days.values())) == (11, 738)

    # By the text that was inserted. The index in the log, which stays 0 on a click, gives place 0 1,805 times.
    several = [event for event in taken if len(event.candidates) > 1]
    assert Counter(event.chosen for event in several) == {0: 1346, 1: 1122, 2: 874, 3: 636, 4: 382}
    pairs = [(event.chosen, c.position) for event in several for c in event.candidates if c.position != event.chosen]
    assert len(pairs) == 13_979
    assert round(sum(chosen < other for chosen, other in pairs) / len(pairs), 4) == 0.5489
