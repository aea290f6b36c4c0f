"""Erasure in the landing area and in the lake, partition by partition.

The files of a partition are written anew without the rows, and so are the partitions that were made of them; no
predicate names what went. What is left of a batch is the batch still: it keeps its verdict under its new digest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import sqlalchemy as sa

from loop import schema
from loop.collect import quarantine
from loop.collect.files import ERASED, KNOWN_BY, Files, Kind, Partition, bringing, stone
from loop.erase.matching import among, columns, goes, pointers, points
from loop.erase.plan import SCHEMAS, Plan, Step, landings, partitions
from loop.home import Home
from loop.lake import conform
from loop.schema import BatchStatus
from loop.state import ERASURE
from loop.validate import batches
from loop.validate.profiles import profile

MADE_OF: dict[Kind, str] = {Kind.EVENTS: "interactions", Kind.REJECTS: "quarantine", Kind.OUTCOMES: "outcomes"}
"""The table of the lake that is made of landed files of a kind."""


def erase(home: Home, plan: Plan, step: Step) -> Counter[str]:
    """Take the rows out of the landing area and of the tables that are made of it; how many went, by store.

    While a partition is rewritten nobody makes it anew from what had landed before.
    """
    gone: Counter[str] = Counter()
    where = {(file.day, file.workflow) for kind in Kind for file in _touched(home, kind, plan)}
    where = where.union(*(partitions(home, name, plan) for name in MADE_OF.values()))
    for done, (day, workflow) in enumerate(sorted(where), 1):
        step(f"partition {done} of {len(where)}: {day} {workflow}")
        with home.state.building(day, workflow):
            for kind, name in MADE_OF.items():
                files = _touched(home, kind, plan, (day, workflow))  # again: they may have been merged
                gone[f"landing/{kind}"] += _landed(home, kind, (day, workflow), files, plan)
                gone[f"lake/{name}"] += _partition(home, name, (day, workflow), plan)
    return gone


def scrub(home: Home, name: str, step: Step) -> None:
    """Remove what a table was; and wait until all that was read of it has been written on (`Lake.pinned`)."""
    step(f"removing what {name} was")
    home.lake.scrub(name)


def derived(home: Home, plan: Plan, step: Step) -> Counter[str]:
    """The same for every other table of the lake, each before those that are made of it (as they stand in the schema).

    Comes after the tables that they all are derived from were scrubbed.
    """
    gone: Counter[str] = Counter()
    for name in schema.LAKE:
        if name in MADE_OF.values():
            continue
        step(f"rewriting {name}")
        for place in sorted(partitions(home, name, plan)):
            with home.state.building(*place):
                gone[f"lake/{name}"] += _partition(home, name, place, plan)
        scrub(home, name, step)
    return gone


# -- the landing area -------------------------------------------------------------------------------------------------


def barrier(home: Home) -> int:
    """Wait for imports that are under way, and remove files that none of them made visible; how many.

    What is brought afterwards is new.
    """
    lock = sa.func.hashtextextended("landing", 0)
    with home.state.engine.begin() as connection:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock)))
        visible = set(connection.execute(sa.select(home.state.tables["landings"].c.path)).scalars())
        orphans = [
            path
            for path in home.settings.landing.rglob("*")
            if path.is_file() and str(path.relative_to(home.settings.home)) not in visible
        ]
        for path in orphans:
            path.unlink(missing_ok=True)  # whoever took it out of sight may be about to
    return len(orphans)


def _touched(
    home: Home, kind: Kind, plan: Plan, place: Partition | None = None
) -> list[sa.Row[tuple[str, str, str, date, str]]]:
    """The landed files of a kind, or of one partition, in which rows go or lose the name of one that does.

    One that is gone, merged into another, counts as touched.
    """
    table, found = schema.LAKE[MADE_OF[kind]], []
    for file in landings(home, kind, place):
        try:
            rows = _read(home, kind, file.path, [*dict.fromkeys([*columns(table), *pointers(table)])])
        except FileNotFoundError:
            found.append(file)
            continue
        if pc.any(pc.or_(goes(table, rows, plan), points(table, rows, plan))).as_py():
            found.append(file)
    return found


def _read(home: Home, kind: Kind, path: str, wanted: list[str] | None = None) -> pa.Table:
    target = SCHEMAS[kind] if wanted is None else pa.schema([SCHEMAS[kind].field(name) for name in wanted])
    return pq.read_table(home.path(path), schema=target)


def _landed(
    home: Home,
    kind: Kind,
    place: Partition,
    files: Iterable[sa.Row[tuple[str, str, str, date, str]]],
    plan: Plan,
) -> int:
    """Write landed files anew without the rows that go. The caller holds `State.building`."""
    table, gone = schema.LAKE[MADE_OF[kind]], 0
    for file in files:
        with bringing(home.settings, home.state, source=file.source, name=file.path) as bring:
            rows = _read(home, kind, file.path)
            mine = goes(table, rows, plan)
            left = _without_pointers(table, rows.filter(pc.invert(mine)), plan)
            ids = [KNOWN_BY[kind].format(key) for key in rows.filter(mine)[table.key[0]].to_pylist()]
            bring.replace(kind, place, left, [(file.landing_id, file.path)])
            named = rows.filter(mine)["event_id"].drop_null().to_pylist() if kind is Kind.REJECTS else []
            _bury(bring, home, ids, named)
        gone += len(ids)
    return gone


def _bury(bring: Files, home: Home, ids: list[str], named: list[str]) -> None:
    """Forget ids, but for the fact that they are not to be brought again.

    Args:
        named: events that were set aside under another id: nobody is to replay them from a copy. But for an id that
            has landed too, as in a conflict: whose that is, is told by what landed.
    """
    bring.connection.execute(sa.text("DELETE FROM event_index WHERE event_id = ANY(:ids)"), {"ids": ids})
    named = sorted(set(named) - set(bring.contents(named)))
    query = sa.text(
        "INSERT INTO event_index (event_id, content, landing_id) SELECT unnest(CAST(:stones AS text[])), :erased, '' "
        "ON CONFLICT DO NOTHING"
    )
    bring.connection.execute(query, {"stones": [stone(home.settings, key) for key in {*ids, *named}], "erased": ERASED})


# -- the lake ---------------------------------------------------------------------------------------------------------


def _partition(home: Home, name: str, place: Partition, plan: Plan) -> int:
    """Overwrite a partition of the lake with what is left of it; how many rows went. One without any is left alone."""
    table = schema.LAKE[name]
    rows = home.lake.read(name, days=(place[0], place[0]), workflows=[place[1]])
    mine = goes(table, rows, plan)
    left = _without_pointers(table, rows.filter(pc.invert(mine)), plan)
    gone = int(rows.num_rows - left.num_rows)
    if not gone and left.equals(rows):
        return 0
    digests = _renamed(rows, mine, place) if "batch" in left.column_names else {}
    if digests:  # first: after a kill in between it is found again, for the rows are still there
        left = _with_digests(left, digests)
        _verdict(home, place, rows.filter(mine), left, digests)
    home.lake.overwrite(name, conform(left, table), day=place[0], workflow=place[1])
    if name == schema.QUARANTINE.name:
        later = pc.sum(pc.equal(rows.filter(mine)["path"], quarantine.LATER)).as_py() or 0
        _fewer(home, place, later)
    return gone


def _without_pointers(table: schema.Table, rows: pa.Table, plan: Plan) -> pa.Table:
    """Rows of others that name an erased event lose the name."""
    for name in pointers(table):
        named = among(rows[name], plan.named.events)
        if pc.any(named).as_py():
            place = rows.schema.get_field_index(name)
            without = pc.if_else(named, pa.scalar(None, pa.string()), rows[name])
            rows = rows.set_column(place, rows.schema.field(place), without)
    return rows


def _renamed(rows: pa.Table, mine: pa.ChunkedArray, place: Partition) -> dict[str, str]:
    """The digests of the batches of a partition that lost rows, and what they are called now."""
    if "content" not in rows.column_names or "employee" not in rows.column_names:
        return {}
    lost = set(rows.filter(mine)["batch"].to_pylist()) - {""}
    kept = rows.filter(pc.invert(mine))
    return {old: batches.digest_of(kept.filter(pc.equal(kept["batch"], old)), *place) for old in lost}


def _with_digests(rows: pa.Table, digests: dict[str, str]) -> pa.Table:
    at = rows.schema.get_field_index("batch")
    told = [digests.get(old, old) for old in rows["batch"].to_pylist()]
    return rows.set_column(at, rows.schema.field(at), pa.array(told, pa.string()))


def _verdict(home: Home, place: Partition, gone: pa.Table, left: pa.Table, digests: dict[str, str]) -> None:
    """What is left of a batch keeps its verdict; what was made of it follows its new digest, its counts are made anew.

    Done again, as after a kill before the partition was overwritten, it changes nothing more.
    """
    builds, profiles = home.state.tables["builds"], home.state.tables["profiles"]
    for old, new in digests.items():
        lost = pc.sum(pc.equal(gone["batch"], old)).as_py()
        last = home.state.batches(place[0], place[0], [place[1]])
        if last and last[0]["digest"] == old:
            kept = {name: last[0][name] for name in ("quarantined", "reasons")}
            kept |= {"status": BatchStatus(last[0]["status"]), "rows": last[0]["rows"] - lost}
            home.state.record_batch(day=place[0], workflow=place[1], digest=new, author=ERASURE, run_id=None, **kept)
        query = sa.update(builds).where(builds.c.day == place[0], builds.c.workflow == place[1], builds.c.digest == old)
        with home.state.transaction() as connection:
            connection.execute(query.values(digest=new, landed=builds.c.landed - lost))
        here = sa.and_(profiles.c.day == place[0], profiles.c.workflow == place[1], profiles.c.digest == old)
        with home.state.transaction() as connection:
            if connection.execute(sa.select(profiles.c.digest).where(here)).first():
                rows = left.filter(pc.equal(left["batch"], new))
                told = {"digest": new, "rows": rows.num_rows, "counts": profile(rows).to_json()}
                connection.execute(sa.update(profiles).where(here).values(**told))
    for name in (n for n, t in schema.LAKE.items() if "batch" in t.arrow.names and n != schema.INTERACTIONS.name):
        rows = home.lake.read(name, days=(place[0], place[0]), workflows=[place[1]])
        if digests.keys() & set(rows["batch"].to_pylist()):
            home.lake.overwrite(name, _with_digests(rows, digests), day=place[0], workflow=place[1])


def _fewer(home: Home, place: Partition, lost: int) -> None:
    """So many landed events less in what a partition was last made of."""
    if lost:
        builds = home.state.tables["builds"]
        query = sa.update(builds).where(builds.c.day == place[0], builds.c.workflow == place[1])
        with home.state.transaction() as connection:
            connection.execute(query.values(landed=builds.c.landed - lost))
