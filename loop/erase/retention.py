"""Retention: partitions that are older than a table may be kept go, by the same means as what is erased."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from loop import schema
from loop.collect.files import KNOWN_BY, Kind, bringing
from loop.erase.databases import Cleaned, renew
from loop.erase.plan import SCHEMAS, Step, alone, landings
from loop.erase.rows import MADE_OF
from loop.home import Home
from loop.train import dataset

SETS = "training_sets"
_TEXTS = postgresql.ARRAY(sa.Text())


def retain(home: Home, *, today: date | None = None, step: Step = lambda _: None) -> Counter[str]:
    """Drop what is older than `retention_days` say; how many partitions and sets, by table.

    A table that is made of landed files takes these with it, else its next making would bring the rows back. Model
    versions stay: what they were trained on has come to its end, it was not taken back.
    """
    today = today or datetime.now(UTC).date()
    dropped: Counter[str] = Counter()
    with alone(home):
        _all(home, today, dropped, step)
    return +dropped


def _all(home: Home, today: date, dropped: Counter[str], step: Step) -> None:
    for name, days in sorted(home.settings.retention_days.items()):
        first = today - timedelta(days=days)
        step(f"{name}: nothing from before {first}")
        dropped[name] += _sets(home, first) if name == SETS else _table(home, name, first)
    if dropped.total():
        renew(home, Cleaned(), step)


def _table(home: Home, name: str, first: date) -> int:
    kinds = [kind for kind, made in MADE_OF.items() if made == name]
    old = {place for place in home.lake.partitions(name) if place[0] < first}
    places = old.union((row.day, row.workflow) for kind in kinds for row in landings(home, kind) if row.day < first)
    for day, workflow in sorted(places):
        with home.state.building(day, workflow):
            for kind in kinds:
                for file in landings(home, kind, (day, workflow)):
                    _drop(home, kind, file)
            if (day, workflow) in old:
                if name == schema.LABEL_TASKS.name:
                    _answers(home, day, workflow)
                home.lake.overwrite(name, schema.LAKE[name].empty(), day=day, workflow=workflow)
    if old:
        home.lake.scrub(name)
    return len(places)


def _answers(home: Home, day: date, workflow: str) -> None:
    """What was said of the tasks of a partition goes before them: afterwards nothing tells whose it is."""
    there = home.lake.read("label_tasks", days=(day, day), workflows=[workflow], columns=["label_task_id"])
    ids = there["label_task_id"].to_pylist()
    with home.state.transaction() as connection:
        for name in ("annotations", "gold", "appeals"):
            table = home.state.tables[name]
            connection.execute(sa.delete(table).where(table.c.label_task_id == sa.any_(sa.cast(ids, _TEXTS))))


def _drop(home: Home, kind: Kind, file: sa.Row[tuple[str, str, str, date, str]]) -> None:
    """A landed file, with all that is known of its rows: what is older than it may be kept is not kept as an id."""
    import pyarrow.parquet as pq

    key = schema.LAKE[MADE_OF[kind]].key[0]
    rows = pq.read_table(home.path(file.path), schema=pa.schema([SCHEMAS[kind].field(key)]))
    ids = [KNOWN_BY[kind].format(value) for value in rows[key].to_pylist()]
    with bringing(home.settings, home.state, source=file.source, name=file.path) as bring:
        bring.remove([(file.landing_id, file.path)])
        bring.connection.execute(sa.text("DELETE FROM event_index WHERE event_id = ANY(:ids)"), {"ids": ids})


def _sets(home: Home, first: date) -> int:
    """Frozen sets of cycles before that day lose their rows and keep their leaves."""
    table = home.state.tables[SETS]
    with home.state.engine.connect() as connection:
        query = sa.select(table.c.digest).group_by(table.c.digest).having(sa.func.max(table.c.cycle) < first)
        old = set(connection.execute(query).scalars())
    gone = [dataset.expire(path) for path in dataset.sets(home.settings.training_sets) if path.name in old]
    return sum(rows > 0 for rows in gone)
