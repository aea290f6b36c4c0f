"""One person's rows leave the landing area, the lake and the frozen sets; everybody else's stay as they are."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow.compute as pc
import pytest
import sqlalchemy as sa

from loop import schema
from loop.collect import arrivals, landing, outcomes
from loop.collect.events import pseudonym, pseudonyms
from loop.collect.files import ERASED, stone
from loop.collect.record import Record
from loop.cycle import training_set
from loop.erase import Kind, Report, plan, rows, run
from loop.erase.subject import subject
from loop.errors import BadInputError, LoopError
from loop.home import Home
from loop.label import batches as labelling
from loop.schema import BatchStatus
from loop.train import dataset
from loop.validate import batches
from tests.rows import DAY, decision, event, land, ordinary_day

ANNA = "anna-4711"
WORDS = "anna's own words, which nobody else wrote"


def annas(number: int, **other: Any) -> dict[str, Any]:
    return decision(number, "modify", 0, WORDS, employee=ANNA, **other)


@pytest.fixture
def full(home: Home) -> Home:
    """Two days of comms by thirty people, and three decisions of Anna on the first."""
    home = replace(home, settings=home.settings.model_copy(update={"held_out_share": 0.0}))
    for n in (0, 1):
        sent = [event(row, DAY + timedelta(days=n)) for row in ordinary_day(40)]
        land(home, [*sent, *(event(annas(i), DAY) for i in (900, 901, 902) if n == 0)], f"{n}.jsonl")
        build(home, n)
    return home


def build(home: Home, day: int = 0) -> None:
    when = DAY + timedelta(days=day)
    made = batches.build(home.settings, home.lake, home.state, when, "comms")
    told = {"day": when, "workflow": "comms", "digest": made.digest, "rows": made.rows, "quarantined": made.quarantined}
    home.state.record_batch(**told, status=BatchStatus.ACCEPTED, reasons=[], author="test", run_id=None)
    labelling.build(home.settings, home.lake, home.state, when, "comms")


def erase(home: Home, given: str = ANNA, kind: Kind = Kind.EMPLOYEE, **more: Any) -> Report:
    who = subject(home.settings, kind, given)
    return run.erase(home, who, **{"reason": "request 17", "author": "dpo", **more})


def everything(home: Home) -> str:
    """Every table of the lake as text, and the state but for what has no text."""
    lake = [home.lake.read(name).to_pylist() for name in schema.LAKE]
    return json.dumps([lake, *(home.state.arrow(name).to_pylist() for name in schema.STATE)], default=str)


def test_a_person_goes_and_everybody_else_stays(full: Home) -> None:
    before = full.lake.read("interactions")
    frozen = training_set(full, DAY)
    report = erase(full)
    assert report.found == {
        "landing/events": 3,
        "lake/interactions": 3,
        "lake/demonstrations": 3,
        "lake/preferences": 9,
        "lake/edits": 3,
        "training_sets": 12,
    }
    assert report.removed == report.found
    mine = pc.equal(before["employee"], pseudonym(ANNA, full.settings.secret("pseudonym")))
    left = full.lake.read("interactions")
    kept = before.filter(pc.invert(mine))
    assert left.drop_columns("batch").sort_by("event_id").equals(kept.drop_columns("batch").sort_by("event_id"))
    assert landing.events(full.settings, full.state, DAY, "comms").num_rows == 40
    text = everything(full)
    assert not [n for n in (*pseudonyms(ANNA, full.settings), ANNA, WORDS, f"{DAY}-e900") if n in text]
    assert dataset.verify(full.path(f"training_sets/{frozen.digest}")) == []


def test_what_is_left_of_a_batch_is_accepted_and_learned_from_as_before(full: Home) -> None:
    before = training_set(full, DAY)
    erase(full)
    after = training_set(full, DAY)
    assert after.demonstrations == before.demonstrations - 3
    assert after.preferences == before.preferences - 9
    assert arrivals.unread(full.state) == [], "nothing waits to be read or judged again"
    digest = set(full.lake.read("interactions", days=(DAY, DAY))["batch"].to_pylist())
    build(full)
    assert set(full.lake.read("interactions", days=(DAY, DAY))["batch"].to_pylist()) == digest


def test_only_touched_partitions_are_written(full: Home) -> None:
    files = set(full.lake.files("interactions"))
    erase(full)
    kept = files & set(full.lake.files("interactions"))
    assert len(kept) == 1
    assert f"day={DAY + timedelta(days=1)}" in kept.pop()


def test_no_version_from_before_can_be_read(full: Home) -> None:
    version = full.lake.version("interactions")
    erase(full)
    with pytest.raises(Exception, match="log segment"):
        full.lake.read("interactions", version=version)
    assert full.lake.read("interactions").num_rows == 80


def test_what_is_imported_again_stays_away_and_what_is_new_comes_in(full: Home) -> None:
    erase(full)
    changed = event(annas(901, dwell_ms=1), DAY)
    done = land(full, [event(annas(900), DAY), changed, event(annas(950), DAY)], "again.jsonl")
    assert (done.duplicates, done.accepted, done.quarantined) == (2, 1, 0)
    stones = [i for i in full.state.arrow("event_index")["event_id"].to_pylist() if i.startswith(f"{ERASED}:")]
    assert len(stones) == 4  # hers, and herself as one who may label


def test_rows_under_every_key_there_ever_was_are_reached(full: Home) -> None:
    full.settings.rotate("pseudonym")
    land(full, [event(annas(950), DAY + timedelta(days=1))], "later.jsonl")
    build(full, 1)
    full.settings.rotate("pseudonym")
    assert erase(full).removed["lake/interactions"] == 4


def test_what_was_set_aside_goes_by_pseudonym_by_id_and_by_the_id_in_garbage(full: Home) -> None:
    sent = event(annas(960), DAY)
    bad = [sent | {"dwell_ms": -1}, sent | {"event_id": "e961", "user": ANNA, "employee": "bob@example.org"}]
    land(full, [*bad, event(decision(962, "reject", employee="carl@example.org"), DAY) | {"nonsense": 1}], "bad.jsonl")
    report = erase(full)
    assert report.removed["lake/quarantine"] == report.removed["landing/rejects"] == 2
    (left,) = full.lake.read("quarantine").to_pylist()
    assert "nonsense" in left["raw"]


def test_an_id_that_another_person_bears_is_not_buried_with_a_conflict(full: Home) -> None:
    bobs = event(decision(970, "reject", employee="bob@example.org"), DAY)
    land(full, [bobs], "bobs.jsonl")
    done = land(full, [event(annas(970), DAY)], "conflict.jsonl")
    assert done.quarantined == 1
    build(full)
    erase(full)
    stones = {row["event_id"] for row in full.state.arrow("event_index").to_pylist() if row["content"] == ERASED}
    assert stone(full.settings, bobs["event_id"]) not in stones
    assert bobs["event_id"] in full.lake.read("interactions")["event_id"].to_pylist()
    assert land(full, [bobs], "bobs-again.jsonl").duplicates == 1
    changed = land(full, [bobs | {"dwell_ms": 1}], "bobs-changed.jsonl")
    assert (changed.duplicates, changed.quarantined) == (0, 1), "still a conflict, which is told"


def test_a_conflicting_outcome_of_an_erased_suggestion_goes(full: Home) -> None:
    """It was set aside without an event's id: what it says is in its raw text alone."""
    now = datetime.now(UTC).isoformat()
    told = {"workflow": "comms", "day": str(DAY), "name": "click", "observed_at": now, "received_at": now}

    def outcome(key: str, suggestion: int, value: float) -> Record:
        row = told | {"outcome_id": key, "suggestion_id": f"{DAY}-s{suggestion}", "value": value}
        return Record(int(value), json.dumps(row).encode(), "outcomes")

    sent = [outcome("o1", 900, 1.0), outcome("o1", 900, 2.0), outcome("o2", 3, 3.0), outcome("o2", 3, 4.0)]
    done = outcomes.land(full.settings, full.state, sent, source="gateway", name="outcomes")
    assert (done.accepted, done.conflicts) == (2, 2)
    build(full)
    outcomes.build(full.settings, full.lake, full.state, DAY, "comms")
    report = erase(full)
    assert report.removed["landing/outcomes"] == report.removed["landing/rejects"] == 1
    assert report.removed["lake/quarantine"] == 1
    (left,) = full.lake.read("quarantine").to_pylist()
    assert json.loads(left["raw"])["suggestion_id"] == f"{DAY}-s3"
    assert f"{DAY}-s900" not in everything(full)


def test_an_interaction_goes_alone(full: Home) -> None:
    report = erase(full, f"{DAY}-e901", Kind.INTERACTION)
    assert (report.removed["lake/interactions"], report.removed["lake/demonstrations"]) == (1, 1)
    left = full.lake.read("interactions", days=(DAY, DAY))
    assert left.num_rows == 42
    assert WORDS in left["final_text"].to_pylist()
    assert erase(full, f"{DAY}-s902", Kind.INTERACTION).removed["lake/interactions"] == 1


def test_whoever_was_never_here_is_told_so_and_nothing_changes(full: Home) -> None:
    before = everything(full)
    versions = {name: full.lake.version(name) for name in schema.LAKE}
    report = erase(full, "nobody@example.org")
    assert report.nothing
    assert report.removed == {}
    assert {name: full.lake.version(name) for name in schema.LAKE} == versions
    (row,) = full.state.arrow("erasures").to_pylist()
    assert (row["stage"], row["reason"], json.loads(row["report"])["found"]) == ("done", "request 17", {})
    with full.state.transaction() as connection:
        connection.execute(sa.delete(full.state.tables["erasures"]))
    assert everything(full) == before


def test_done_again_it_says_when_it_was_done(full: Home) -> None:
    first = erase(full)
    again = erase(full)
    assert (again.found, again.nothing, again.resumed) == ({}, False, False)
    assert again.before is not None
    assert again.before >= first.asked_at


def test_a_dry_run_says_the_reach_and_changes_nothing(full: Home) -> None:
    training_set(full, DAY)
    before = everything(full)
    report = erase(full, dry_run=True)
    assert report.found == {
        "landing/events": 3,
        "lake/interactions": 3,
        "lake/demonstrations": 3,
        "lake/preferences": 9,
        "lake/edits": 3,
        "training_sets": 12,
    }
    assert everything(full) == before


def test_what_came_after_it_was_asked_for_stays(full: Home) -> None:
    with full.state.transaction() as connection:  # an erasure that was cut short before
        who = subject(full.settings, Kind.EMPLOYEE, ANNA)
        told = {"erasure_id": "x", "kind": "employee", "subject": who.digest, "reason": "r", "author": "a"}
        asked = datetime.now(UTC)
        query = sa.insert(full.state.tables["erasures"])
        connection.execute(query.values(**told, asked_at=asked, stage="asked"))
    later = decision(970, "modify", 0, "later words", employee=ANNA)
    sent = {k: v for k, v in event(later, DAY).items() if k != "received_at"}
    land(full, [sent], "later.jsonl")
    build(full)
    report = erase(full)
    assert report.resumed
    assert report.removed["lake/interactions"] == 3
    assert "later words" in full.lake.read("interactions")["final_text"].to_pylist()
    assert arrivals.unread(full.state) == []


def test_a_revision_of_an_erased_decision_no_longer_names_it(full: Home) -> None:
    other = decision(980, "reject", employee="bob@example.org", suggestion_id="s900")
    land(full, [event(other, DAY) | {"revises": f"{DAY}-e900"}], "revision.jsonl")
    build(full)
    erase(full)
    (row,) = [r for r in full.lake.read("interactions").to_pylist() if r["event_id"] == f"{DAY}-e980"]
    assert row["revises"] is None
    build(full)
    assert f"{DAY}-e900" not in everything(full)


def test_a_reason_is_asked_for_and_may_not_name_the_person(full: Home) -> None:
    with pytest.raises(BadInputError, match="--reason"):
        erase(full, reason=" ")
    with pytest.raises(BadInputError, match="--reason"):
        erase(full, reason=f"{ANNA} asked")
    with pytest.raises(BadInputError, match="--employee"):
        erase(full, " ")
    assert full.state.arrow("erasures").num_rows == 0


def test_one_at_a_time(full: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "_PATIENCE", 0.0)  # at each of a hundred steps

    def meanwhile(what: str) -> None:
        with pytest.raises(LoopError, match="another erasure"):
            erase(full)

    erase(full, step=meanwhile)


def test_a_kill_at_any_stage_is_resumed(full: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    training_set(full, DAY)
    steps: list[str] = []
    removed: dict[str, int] = {}
    for cut in range(2, 400, 5):
        steps.clear()

        def step(what: str, cut: int = cut) -> None:
            steps.append(what)
            if len(steps) == cut:
                raise Killed

        try:
            removed = erase(full, step=step).removed
            break
        except Killed:
            continue
    assert removed["lake/interactions"] == 3
    assert removed["training_sets"] == 12
    assert full.lake.read("interactions").num_rows == 80
    assert not list((full.settings.home / "erasures").iterdir())
    assert {row["stage"] for row in full.state.arrow("erasures").to_pylist()} == {"done"}
    assert WORDS not in everything(full)


def test_files_that_a_builder_merges_meanwhile_are_found_again(full: Home) -> None:
    for n in range(40):
        who = {"employee": ANNA} if n % 4 == 0 else {}
        land(full, [event(decision(1000 + n, "reject", **who), DAY)], f"small-{n}.jsonl")
    build(full)  # now the lake has them, and the next build makes one file of them
    built: list[str] = []

    def meanwhile(what: str) -> None:
        if what.startswith("partition"):
            before = full.state.arrow("landings").num_rows
            build(full)
            built.append(f"{before} files, then {full.state.arrow('landings').num_rows}")

    report = erase(full, step=meanwhile)
    assert built == ["42 files, then 2"]
    assert report.removed["lake/interactions"] == report.removed["landing/events"] == 3 + 10
    build(full)
    assert full.lake.read("interactions", days=(DAY, DAY)).num_rows == 40 + 30


def test_a_builder_waits_for_the_partition_and_loses_nothing(full: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels are read, filtered and written back; who makes the day anew in between comes after that, or before."""
    real, threads, waited = rows.goes, [], []

    def later() -> None:
        land(full, [event(decision(990, "modify", 0, "words of another day"), DAY)], "later.jsonl")
        build(full)

    def meanwhile(table: schema.Table, found: Any, plan: Any) -> Any:
        if table.name == "demonstrations" and not threads:
            threads.append(threading.Thread(target=later))
            threads[0].start()
            threads[0].join(2.0)
            waited.append(threads[0].is_alive())
        return real(table, found, plan)

    monkeypatch.setattr(rows, "goes", meanwhile)
    erase(full)
    threads[0].join()
    assert waited == [True]
    labels = full.lake.read("demonstrations", days=(DAY, DAY))
    assert "words of another day" in labels["answer"].to_pylist()
    assert WORDS not in everything(full)


def test_a_cycle_reads_the_day_while_its_digest_changes(full: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    before, real, seen = training_set(full, DAY), full.state.record_batch, []

    def record(**verdict: Any) -> int:
        attempt = real(**verdict)
        seen.append(training_set(full, DAY).demonstrations)
        return attempt

    monkeypatch.setattr(full.state, "record_batch", record)
    erase(full)
    assert seen == [before.demonstrations], "rows of the former digest count until they bear the new one"
    assert training_set(full, DAY).demonstrations == before.demonstrations - 3
    assert WORDS not in everything(full)
    told = full.state.batches(DAY, DAY)[0]
    assert full.state.accepted_digests(DAY, DAY) == {told["digest"], before_digest(full)}
    monkeypatch.undo()
    held = {name: told[name] for name in ("day", "workflow", "digest", "rows", "quarantined", "reasons")}
    full.state.record_batch(**held, status=BatchStatus.HELD, author="test", run_id=None)
    assert full.state.accepted_digests(DAY, DAY) == set()


def before_digest(home: Home) -> str:
    """Of the first verdict on the day."""
    return next(b["digest"] for b in home.state.arrow("batches").to_pylist() if (b["day"], b["attempt"]) == (DAY, 1))
