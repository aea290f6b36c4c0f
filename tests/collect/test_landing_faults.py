"""An import lands whole or not at all, whatever breaks it off."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from loop.collect import landing
from loop.collect.imported import Imported
from loop.collect.record import Record
from loop.collect.sources import jsonl
from loop.config import Settings
from loop.errors import BadInputError, LoopError
from loop.state import State
from tests.collect.landings import Home, counts

Line = Callable[..., bytes]


@pytest.fixture
def home(settings: Settings, state: State) -> Home:
    return Home(settings, state)


def test_a_source_that_breaks_off_leaves_nothing(home: Home, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landing, "CHUNK_ROWS", 2)

    def records() -> Iterator[Record]:
        yield from jsonl.records([line(), b"garbage", line(event_id="e3")])
        assert len(home.files()) > 1  # of the first chunk, and not visible
        raise BadInputError("cut short")

    with pytest.raises(BadInputError, match="cut short"):
        home.records(records())
    assert (home.files(), home.visible(), home.set_aside()) == (set(), set(), [])
    assert home.state.arrow("event_index").num_rows == 0
    assert counts(home.land(line(), b"garbage", line(event_id="e3"))) == (3, 2, 0, 1)


def test_a_file_without_a_row_is_not_read_and_goes_with_the_next_import(home: Home, line: Line) -> None:
    """A real crash: a process that dies between a file and its row."""
    program = """
import os, sys
from loop.collect import landing
from loop.collect.sources import jsonl
from loop.config import load
from loop.lake import Lake
from loop.state import State
from loop.validate import contract

def records():
    yield from jsonl.records([sys.argv[1].encode()])
    os._exit(9)

landing.CHUNK_ROWS = 1
settings = load()
state = State.open(os.environ["DATABASE"])
landing.land(
    settings, Lake(settings.lake), state, source="jsonl", name="x", records=records(), contract=contract.split
)
"""
    database = home.state.engine.url.render_as_string(hide_password=False)
    environment = {**os.environ, "LOOP_HOME": str(home.settings.home), "DATABASE": database}
    died = subprocess.run([sys.executable, "-c", program, line().decode()], env=environment, check=False)
    assert died.returncode == 9
    left = {name for name in home.files() if name.endswith(".parquet")}
    assert len(left) == 1
    assert home.visible() == set()
    assert home.events() == []
    assert counts(home.land(line(event_id="e2"))) == (1, 1, 0, 0)
    assert home.files() == home.visible()
    assert not left & home.files()
    assert [row["event_id"] for row in home.events()] == ["e2"]


def test_two_imports_of_the_same_events_at_once_land_them_once(home: Home, line: Line) -> None:
    landed, go_on = threading.Event(), threading.Event()
    outcomes: dict[str, Imported | LoopError] = {}

    def slow() -> Iterator[Record]:
        yield from jsonl.records([line()])
        landed.set()
        go_on.wait(10)

    def run(name: str, records: Iterator[Record]) -> None:
        try:
            outcomes[name] = home.records(records, name=name)
        except LoopError as error:
            outcomes[name] = error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(landing, "CHUNK_ROWS", 1)
        first = threading.Thread(target=run, args=("first", slow()))
        first.start()
        assert landed.wait(10)
        second = threading.Thread(target=run, args=("second", jsonl.records([line()])))
        second.start()
        second.join(0.5)
        assert second.is_alive()  # it waits for the first to commit or roll back
        go_on.set()
        first.join(10)
        second.join(10)
    assert isinstance(outcomes["first"], Imported)
    assert str(outcomes["second"]).startswith("second: nothing was imported, the database refused: ")
    assert [row["event_id"] for row in home.events()] == ["e1"]
    assert home.files() == home.visible()
    assert counts(home.land(line())) == (1, 0, 1, 0)


def test_a_landed_file_that_is_gone_is_an_error(home: Home, line: Line) -> None:
    home.land(line())
    (name,) = home.files()
    (home.settings.home / name).unlink()
    with pytest.raises(LoopError, match=r"expected a landed file, got none; restore the home's folder landing/"):
        home.events()
