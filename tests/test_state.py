from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from loop import schema
from loop.config import Settings
from loop.errors import LoopError
from loop.schema import BatchStatus
from loop.services import ensure_postgres
from loop.state import METADATA, State

DAY = date(2026, 1, 5)


@pytest.fixture
def template() -> str:
    """An empty one: here the tables are made."""
    return "template1"


@pytest.fixture
def state(settings: Settings) -> Iterator[State]:
    opened = State.open(ensure_postgres(settings).loop)
    yield opened
    opened.close()


def verdict(state: State, day: date = DAY, workflow: str = "ads", digest: str = "d1", status: str = "accepted") -> int:
    return state.record_batch(
        day=day,
        workflow=workflow,
        digest=digest,
        status=BatchStatus(status),
        rows=10,
        quarantined=1,
        reasons=[],
        author="suite",
        run_id=None,
    )


def test_migrations_end_at_the_schema(state: State) -> None:
    with state.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []


def test_every_state_table_reads_as_its_schema(state: State) -> None:
    for name, table in schema.STATE.items():
        assert state.arrow(name).schema.equals(table.arrow)


def test_opening_twice_at_once_migrates_once(settings: Settings) -> None:
    url = ensure_postgres(settings).loop
    with ThreadPoolExecutor(4) as pool:
        for opened in pool.map(State.open, [url] * 4):
            opened.close()


def test_a_database_that_is_away_is_said_to_be() -> None:
    with pytest.raises(LoopError, match=r"cannot be reached.*loop doctor"):
        State.open("postgresql+psycopg2://nobody@127.0.0.1:1/none")


def test_the_last_attempt_counts(state: State) -> None:
    assert [verdict(state), verdict(state, status="held", digest="d2")] == [1, 2]
    verdict(state, workflow="comms", digest="d3")
    verdict(state, day=date(2026, 1, 6), digest="d4", status="overridden")
    verdict(state, day=date(2026, 1, 9), digest="d5")
    found = state.batches(DAY, date(2026, 1, 6))
    assert [(b["day"].day, b["workflow"], b["attempt"], b["status"]) for b in found] == [
        (5, "ads", 2, "held"),
        (5, "comms", 1, "accepted"),
        (6, "ads", 1, "overridden"),
    ]
    assert state.accepted_digests(DAY, date(2026, 1, 6)) == {"d3", "d4"}
    assert [b["workflow"] for b in state.batches(DAY, DAY, ["comms"])] == ["comms"]


def test_attempts_written_at_once_are_numbered_apart(state: State) -> None:
    with ThreadPoolExecutor(4) as pool:
        attempts = list(pool.map(lambda _: verdict(state), range(8)))
    assert sorted(attempts) == list(range(1, 9))


def test_a_failed_transaction_leaves_nothing(state: State) -> None:
    row = {"event_id": "e", "content": "c", "landing_id": "l"}

    def twice() -> None:
        with state.transaction() as connection:
            for _ in range(2):
                connection.execute(sa.insert(state.tables["event_index"]), [row])

    with pytest.raises(sa.exc.IntegrityError):
        twice()
    assert state.arrow("event_index").num_rows == 0
