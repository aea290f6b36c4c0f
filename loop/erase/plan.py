"""What an erasure is to reach: the ids that lead from a person to every row, found store by store, and how many.

Kept in a file of the home while the erasure is under way, for when `interactions` has lost the rows nothing else could
tell which leaf of a training set or which key of the ledger was theirs. The file goes when the erasure is done.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date, datetime
from itertools import chain
from pathlib import Path
from typing import Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import sqlalchemy as sa

from loop import schema
from loop.collect import erasing
from loop.collect.erasing import Named
from loop.collect.events import LANDED
from loop.collect.files import Kind as LandedKind
from loop.collect.files import Partition
from loop.collect.ledger import micros, moment
from loop.cycle import learning
from loop.cycle.reading import cutoff_of, window
from loop.erase.matching import BY, among, columns, goes, learned, pointers, points
from loop.erase.subject import OWN_WORDS, Kind, Subject, in_raw, spellings
from loop.errors import LoopError
from loop.home import Home
from loop.services import processes
from loop.train import corpus, dataset

Step = Callable[[str], None]
"""Told what is being done."""
_ATTEMPTS: Final = 10
_PATIENCE: Final = 0.2
"""Seconds for which the lock is waited for: who only waits for it to be free has it for a moment."""
SCHEMAS: Final = {
    LandedKind.EVENTS: LANDED,
    LandedKind.REJECTS: schema.QUARANTINE.arrow,
    LandedKind.OUTCOMES: schema.OUTCOMES.arrow,
}


class Plan(msgspec.Struct):
    """What is known to be the subject's. It only ever grows."""

    named: Named = msgspec.field(default_factory=Named)
    quarantined: set[str] = set()
    items: set[str] = set()
    """Benchmark items that ask word for word what only the subject asked."""
    comparisons: set[str] = set()
    label_tasks: set[str] = set()
    """What people were asked about what goes: their answers go with it."""
    answered: set[Partition] = set()
    """Days and workflows of which the person answered questions."""
    relabelled: set[Partition] = set()
    """Those of them whose labels were made anew without these answers."""
    texts: set[str] = set()
    """What the person wrote."""
    bases: dict[str, tuple[int, int]] = {}
    """Bases that were pretrained on what the person was shown: pairs of theirs, and of all."""
    counts: dict[str, int] = {}
    """Rows by store, as they were found."""
    verifying: bool = False
    """Whether all should be gone."""

    @property
    def before(self) -> datetime:
        """What was received later is not meant."""
        return moment(self.named.before)

    def part(self, name: str) -> set[str]:
        """A set by its name, of `named` or of this."""
        found: set[str] = getattr(self.named if hasattr(self.named, name) else self, name)
        return found


@contextmanager
def alone(home: Home) -> Iterator[None]:
    """Within, nobody else takes anything away from this home.

    Raises:
        LoopError: somebody does.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(processes.locked(home.settings, learning.ERASING, patience=_PATIENCE))
        except LoopError:
            raise LoopError("another erasure of this home is under way, or `loop retain`; wait for it to end") from None
        yield


# -- the file ---------------------------------------------------------------------------------------------------------


def folder(home: Home) -> Path:
    return home.settings.home / "erasures"


def save(home: Home, erasure_id: str, plan: Plan) -> None:
    path = folder(home) / f"{erasure_id}.json"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    fresh = path.with_suffix(".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(msgspec.json.encode(plan))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def restored(home: Home, erasure_id: str) -> Plan:
    """The plan of an erasure that was cut short; an empty one where it had found nothing yet."""
    try:
        return msgspec.json.decode((folder(home) / f"{erasure_id}.json").read_bytes(), type=Plan)
    except FileNotFoundError:
        return Plan()


def drop(home: Home, erasure_id: str) -> None:
    for suffix in (".json", ".new"):
        (folder(home) / f"{erasure_id}{suffix}").unlink(missing_ok=True)


# -- looking ----------------------------------------------------------------------------------------------------------


def look(home: Home, subject: Subject, plan: Plan, before: datetime, step: Step = lambda _: None) -> Plan:
    """Look through every store and add what is found to the plan; nothing is changed.

    `counts` are of what is there now.

    Args:
        before: what was received later is not meant.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return _look(home, subject, plan, before, step)
        except FileNotFoundError:  # landed files were merged by whoever built their partition
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _look(home: Home, subject: Subject, plan: Plan, before: datetime, step: Step) -> Plan:
    named = plan.named
    named.before = micros(before)
    named.employees.update(subject.names)
    if subject.kind is Kind.INTERACTION:
        for part in (named.events, named.suggestions, named.whole):
            part.add(subject.given)
    counts: Counter[str] = Counter()
    step("looking through the landing area")
    _interactions(home, plan, before)
    _bases(home, plan)
    step("looking through the gateway")
    gateway = erasing.look(home.settings, named)
    counts["spool"], counts["ledger"] = gateway.frames, gateway.suggestions
    step("looking through the landing area")
    for rows in _landed(home, LandedKind.OUTCOMES, plan, schema.OUTCOMES):
        named.outcomes.update(rows["outcome_id"].to_pylist())
        counts[f"landing/{LandedKind.OUTCOMES}"] += rows.num_rows
    _rejects(home, subject, plan, before)
    for kind, name in ((LandedKind.EVENTS, "interactions"), (LandedKind.REJECTS, "quarantine")):
        counts[f"landing/{kind}"] = sum(rows.num_rows for rows in _landed(home, kind, plan, schema.LAKE[name]))
    _benchmark(home, plan)
    for name in schema.LAKE:
        step(f"looking through {name}")
        counts[f"lake/{name}"] = sum(partitions(home, name, plan).values())
    step("looking through frozen training sets")
    counts["training_sets"] = sum(
        pc.sum(learned(rows, plan)).as_py() or 0
        for path in dataset.sets(home.settings.training_sets)
        for rows in _labels(path, ["event_id", "kind"], own=True)
    )
    with home.state.engine.connect() as connection:
        for name, mine in in_state(home, plan):
            query = sa.select(sa.func.count()).select_from(home.state.tables[name]).where(mine)
            counts[f"state/{name}"] = int(connection.execute(query).scalar_one())
    plan.counts = {store: count for store, count in counts.items() if count}
    return plan


def partitions(home: Home, name: str, plan: Plan) -> Counter[tuple[date, str]]:
    """The partitions of a table of the lake that are touched, and how many rows of each go.

    None do where rows of others only name one that goes.
    """
    table, found = schema.LAKE[name], Counter[tuple[date, str]]()
    deciding = columns(table)
    for rows in home.lake.scan(name, [*dict.fromkeys([*deciding, *pointers(table), "day", "workflow"])]):
        mine = rows.filter(goes(table, rows, plan))
        named = rows.filter(points(table, rows, plan))
        found.update(dict.fromkeys(zip(named["day"].to_pylist(), named["workflow"].to_pylist(), strict=True), 0))
        if "comparison_id" in deciding:
            plan.comparisons.update(mine["comparison_id"].to_pylist())
        if "label_task_id" in deciding:
            plan.label_tasks.update(mine["label_task_id"].to_pylist())
        if "outcome_id" in deciding:
            plan.named.outcomes.update(mine["outcome_id"].to_pylist())
        found.update(zip(mine["day"].to_pylist(), mine["workflow"].to_pylist(), strict=True))
    return found


def landings(
    home: Home, kind: LandedKind, place: Partition | None = None
) -> list[sa.Row[tuple[str, str, str, date, str]]]:
    """Every file of the landing area of a kind, or of one partition: landing_id, source, path, day, workflow.

    Who does not hold `State.building` may find that one of them was merged into another meanwhile.
    """
    table = home.state.tables["landings"]
    query = sa.select(table.c.landing_id, table.c.source, table.c.path, table.c.day, table.c.workflow).where(
        table.c.kind == kind.value
    )
    if place is not None:
        query = query.where(table.c.day == place[0], table.c.workflow == place[1])
    with home.state.engine.connect() as connection:
        return list(connection.execute(query.order_by(table.c.day, table.c.workflow, table.c.landing_id)))


def _landed(home: Home, kind: LandedKind, plan: Plan, table: schema.Table) -> Iterator[pa.Table]:
    """The deciding columns of landed rows that go."""
    for rows in _files(home, kind, columns(table)):
        yield rows.filter(goes(table, rows, plan))


def _files(
    home: Home, kind: LandedKind, wanted: list[str], places: Collection[Partition] | None = None
) -> Iterator[pa.Table]:
    """Landed rows, all of them or those of some partitions."""
    found = landings(home, kind)
    paths = [home.path(row.path) for row in found if places is None or (row.day, row.workflow) in places]
    if paths:
        scanner = ds.dataset([str(path) for path in paths], schema=SCHEMAS[kind])
        yield from map(pa.table, scanner.to_batches(columns=wanted, batch_size=65_536))


def _interactions(home: Home, plan: Plan, before: datetime) -> None:
    """The person's events wherever they are, their suggestions, and what the person wrote."""
    named = plan.named
    deciding = ["event_id", "suggestion_id", "employee"]
    about: set[str] = set()
    places: set[Partition] = set()
    for rows in _decisions(home, [*deciding, "received_at", "day", "workflow"]):
        theirs = pc.and_(among(rows["employee"], named.employees), pc.less(rows["received_at"], pa.scalar(before)))
        whole = pc.or_(among(rows["event_id"], named.events), among(rows["suggestion_id"], named.whole))
        found = rows.filter(pc.or_(theirs, whole))
        named.events.update(found["event_id"].to_pylist())
        about.update(found["suggestion_id"].to_pylist())
        places.update(zip(found["day"].to_pylist(), found["workflow"].to_pylist(), strict=True))
    if not named.events:
        return
    ids, asked = pa.array(sorted(named.events), pa.string()), pa.array(sorted(about), pa.string())
    for rows in _decisions(home, deciding):
        others = pc.and_(pc.is_in(rows["suggestion_id"], asked), pc.invert(pc.is_in(rows["event_id"], ids)))
        about.difference_update(rows.filter(others)["suggestion_id"].to_pylist())
    named.suggestions.update(about)
    for rows in _chain(home, ["event_id", "decision", "final_text", "prompt"], places):
        for row in rows.filter(pc.is_in(rows["event_id"], ids)).to_pylist():
            wrote = [row["final_text"] or ""] if row["decision"] == schema.Decision.MODIFY else []
            wrote += [message["content"] for message in row["prompt"] if message["role"] == "user"]
            plan.texts.update(text for text in wrote if len(text) >= OWN_WORDS)


def _decisions(home: Home, wanted: list[str]) -> Iterator[pa.Table]:
    """Whatever tells whose a decision is: what has landed, `interactions`, and all that outlives these."""
    yield from _chain(home, wanted)
    for name, table in schema.LAKE.items():
        if name != schema.INTERACTIONS.name and {"event_id", "employee", "received_at"} <= set(table.arrow.names):
            yield from home.lake.scan(name, wanted)
    for path in dataset.sets(home.settings.training_sets):
        yield from _labels(path, wanted)


def _chain(home: Home, wanted: list[str], places: Collection[Partition] | None = None) -> Iterator[pa.Table]:
    """Landed events and `interactions`, all of them or those of some partitions: texts are not read of all."""
    yield from _files(home, LandedKind.EVENTS, wanted, places)
    if places is None:
        yield from home.lake.scan("interactions", wanted)
    else:
        for day, workflow in sorted(places):
            yield home.lake.read("interactions", days=(day, day), workflows=[workflow], columns=wanted)


def _rejects(home: Home, subject: Subject, plan: Plan, before: datetime) -> None:
    """Rows that were set aside and hold a pseudonym, an event's id, or the raw id as far as it tells (`in_raw`)."""
    wanted = ["quarantine_id", "event_id", "raw", "received_at"]
    events = pa.array(sorted(plan.named.events), pa.string())
    patterns = [*sorted(plan.named.employees), in_raw(subject)]
    for rows in chain(_files(home, LandedKind.REJECTS, wanted), home.lake.scan("quarantine", wanted)):
        theirs = pa.chunked_array([pa.array([False] * rows.num_rows, pa.bool_())])
        for pattern in patterns:
            theirs = pc.or_(theirs, pc.match_substring_regex(rows["raw"], pattern))
        theirs = pc.and_(theirs, pc.less(rows["received_at"], pa.scalar(before)))
        mine = pc.or_(theirs, pc.fill_null(pc.is_in(rows["event_id"], events), False))
        mine = pc.or_(mine, _outcome_of(rows["raw"], plan.named))
        plan.quarantined.update(rows.filter(mine)["quarantine_id"].to_pylist())


def _outcome_of(raw: pa.ChunkedArray, named: Named) -> pa.ChunkedArray:
    """Whether each row that was set aside is an outcome of a suggestion that goes, or bears the id of one that does."""
    told = {}
    for field, ids in (("outcome_id", named.outcomes), ("suggestion_id", named.suggestions)):
        found = pc.struct_field(pc.extract_regex(raw, rf'"{field}"\s*:\s*"(?P<id>(?:[^"\\]|\\.)*)"'), "id")
        told[field] = pc.is_valid(found), among(found, spellings(ids))
    outcome, known = told["outcome_id"]
    return pc.fill_null(pc.and_(outcome, pc.or_(known, told["suggestion_id"][1])), False)


def _benchmark(home: Home, plan: Plan) -> None:
    """Items whose prompt is word for word one that the subject gave, and nobody else."""
    from loop.evaluate import answers

    known = {item for rows in home.lake.scan("benchmark", ["item_id"]) for item in rows["item_id"].to_pylist()}
    if not known or not plan.named.events:
        return
    ids = pa.array(sorted(plan.named.events), pa.string())

    def asked(mine: bool) -> set[str]:
        found: set[str] = set()
        for rows in _chain(home, ["event_id", "workflow", "prompt"]):
            of = pc.is_in(rows["event_id"], ids)
            chosen = rows.filter(of if mine else pc.invert(of)).to_pylist()
            for row in chosen:
                found.update(i["item_id"] for i in answers.items(date.min, row["workflow"], [row["prompt"]]))
        return found & known

    if found := asked(mine=True):
        plan.items.update(found - asked(mine=False))


def _bases(home: Home, plan: Plan) -> None:
    """Bases that were pretrained on what the subject was shown: told from `interactions` while it has the rows."""
    models = home.state.tables["models"]
    with home.state.engine.connect() as connection:
        bases = connection.execute(sa.select(models).where(models.c.parent.is_(None))).mappings().all()
    if not plan.named.events:
        return
    for base in bases:
        if json.loads(base["recipe"]).get("texts") != learning.SHOWN or base["version"] in plan.bases:
            continue
        days = window(home, base["cycle"])
        rows = home.lake.read("interactions", days=days)
        ids = pa.array(sorted(plan.named.events), pa.string())
        mine = rows.filter(pc.is_in(rows["event_id"], ids))
        if not mine.num_rows:
            continue
        told = {
            "accepted": home.state.accepted_digests(*days),
            "cutoff": min(cutoff_of(base["cycle"]), base["created_at"]),
            "held_out_share": home.settings.held_out_share,
            "seed": home.settings.seed,
        }
        learned, theirs = (Counter(map(json.dumps, corpus.shown(part, **told))) for part in (rows, mine))
        if lost := (learned & theirs).total():
            plan.bases[base["version"]] = (lost, learned.total())


def _labels(path: Path, wanted: list[str], *, own: bool = False) -> Iterator[pa.Table]:
    """The rows of a frozen training set; with their own ids, where these are wanted."""
    for table in dataset.TABLES:
        yield pq.read_table(path / f"{table.name}.parquet", columns=[*wanted, *(table.key if own else ())])


def in_state(home: Home, plan: Plan) -> Iterator[tuple[str, sa.ColumnElement[bool]]]:
    """The tables of the state that have rows of people, and which rows go."""
    for name, table in schema.STATE.items():
        if name in {"event_index", "erasures"}:
            continue  # the first goes with what has landed, the other has but a hash
        held = [c.name for c in table.columns if c.name in BY]
        if held:
            columns = home.state.tables[name].c
            yield name, sa.or_(*(columns[column].in_(plan.part(BY[column])) for column in held))
