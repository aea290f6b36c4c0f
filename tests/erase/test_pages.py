"""What was deleted from the databases is in no page, no statistic and no segment of the log."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from loop.config import Settings
from loop.erase import Kind, databases
from loop.erase.databases import Cleaned, renew
from loop.erase.needles import Needles
from loop.erase.plan import Plan
from loop.erase.subject import spellings, subject
from loop.errors import LoopError
from loop.home import Home, open_home

CANARY = "zqcanary-in-a-page"


def row(home: Home, event_id: str) -> None:
    home.state.insert("event_index", [{"event_id": event_id, "content": "c", "landing_id": "l"}])


def forget(home: Home) -> None:
    with home.state.transaction() as connection:
        connection.execute(sa.text("DELETE FROM event_index WHERE event_id LIKE 'zq%'"))


def places(settings: Settings) -> set[str]:
    """Where in the server's folder the canary's bytes stand: pages or the log."""
    data = settings.services / "postgres"
    files = (path for path in data.rglob("*") if path.is_file())
    return {path.relative_to(data).parts[0] for path in files if CANARY.encode() in path.read_bytes()}


@pytest.mark.slow
def test_a_deleted_row_is_gone_from_pages_statistics_and_log(bare_settings: Settings) -> None:
    with open_home(bare_settings) as home:
        row(home, CANARY)
        with home.state.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("ANALYZE event_index"))
            connection.execute(sa.text("CHECKPOINT"))
        assert places(bare_settings) == {"base", "pg_wal"}
        forget(home)
        assert places(bare_settings) == {"base", "pg_wal"}, "a deletion alone removes nothing"
        done = Cleaned()
        renew(home, done, lambda _: None)
        assert places(bare_settings) == set()
        assert (done.log_cut, done.to_do) == (True, [])
        assert done.tables >= len(home.state.tables)
        row(home, "another")
        assert home.state.arrow("event_index").num_rows == 1


def test_on_a_server_of_others_the_administrator_is_told_what_to_do(home: Home) -> None:
    done = Cleaned()
    renew(home, done, lambda _: None)
    assert not done.log_cut
    assert "pg_switch_wal" in done.to_do[0]


def test_transactions_from_before_are_waited_for(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "PATIENCE", 0.5)
    row(home, CANARY)
    with home.state.engine.connect() as other:
        other.execute(sa.text("CREATE TEMP TABLE t (x int)"))  # it has a number, and may still see the row
        forget(home)
        with pytest.raises(LoopError, match="did not: end them"):
            renew(home, Cleaned(), lambda _: None)
        other.rollback()
    renew(home, Cleaned(), lambda _: None)


@pytest.mark.parametrize(
    "text", ["plain words that she wrote", 'with "quotes" and \\ and é', "two\nlines of her words"]
)
def test_values_are_masked_however_they_are_written(home: Home, text: str) -> None:
    """Plain, in JSON, in JSON within JSON; other values stay as they are."""
    plan = Plan(texts={text})
    with home.state.transaction() as connection:
        connection.execute(sa.text("CREATE TABLE notes (plain text, j json, l text[])"))
        query = sa.text("INSERT INTO notes VALUES (:p, CAST(:j AS json), :l)")
        for spelled in spellings([text]):
            connection.execute(query, {"p": f"see {spelled}!", "j": '{"a": 1}', "l": ["x", "y"]})
        connection.execute(query, {"p": "a common word", "j": '{"b": "words"}', "l": []})
    done = databases.clean(home, subject(home.settings, Kind.EMPLOYEE, "anna-4711"), plan, lambda _: None)
    assert done.masked == {"loop.notes": len(spellings([text]))}
    with home.state.engine.connect() as connection:
        found = connection.execute(sa.text("SELECT plain, j::text FROM notes")).all()
    assert sorted(found) == sorted(
        [("see [erased]!", '{"a": 1}')] * len(spellings([text])) + [("a common word", '{"b": "words"}')]
    )


def test_an_id_is_masked_where_it_stands_alone(home: Home) -> None:
    needles = Needles(subject(home.settings, Kind.EMPLOYEE, "anna-4711"), Plan())
    assert needles.within(["by anna-4711."])
    assert needles.within(['{"user":"anna-4711"}'])
    assert not needles.within(["hanna-4711", "anna-47112", "anna"])
    short = Needles(subject(home.settings, Kind.EMPLOYEE, "7"), Plan())
    assert not short.within(["7 apples"]), "too short to be told from a number"
