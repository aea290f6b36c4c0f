"""Rows in quarantine, on a real lake and a real database: replayed, kept, dropped, and who said so."""

from __future__ import annotations

import json
from typing import Any

import pytest

from loop.collect import landing, quarantine
from loop.collect.record import Record
from loop.errors import BadInputError
from loop.home import Home
from loop.schema import UNPLACED
from loop.validate import batches, contract, replay, verdicts
from loop.validate.replay import Correction
from tests.rows import DAY, decision, event, land, ordinary_day


def broken(number: int, **other: Any) -> dict[str, Any]:
    """An event whose dwell is in other units than they are: negative."""
    return event(decision(number, "accept", 0, "first")) | {"dwell_ms": -5} | other


def ids(home: Home) -> list[str]:
    return sorted(home.lake.read("quarantine")["event_id"].to_pylist())


def again(home: Home, correction: Correction | None = None, **which: Any) -> replay.Replayed:
    rows = replay.find(home.lake, **which)
    return replay.replay(
        home.settings, home.lake, home.state, rows, reason="mended", author="lead", correction=correction
    )


def landed(home: Home) -> dict[str, int | None]:
    rows = home.lake.read("interactions", columns=["event_id", "dwell_ms"])
    return dict(zip(rows["event_id"].to_pylist(), rows["dwell_ms"].to_pylist(), strict=True))


def test_what_still_breaks_the_contract_stays_and_leaves_no_resolution(home: Home) -> None:
    land(home, [broken(1), broken(2)])
    before = home.lake.read("quarantine")
    done = again(home, day=DAY)
    assert (done.rows, done.replayed, done.duplicates, [s.reason for s in done.stayed]) == (2, 0, 0, ["dwell", "dwell"])
    assert "expected at least 0, got -5" in done.stayed[0].explanation
    assert home.lake.read("quarantine").equals(before)
    assert home.state.arrow("resolutions").num_rows == 0


def test_a_stated_correction_lands_the_row_under_its_own_id(home: Home) -> None:
    land(home, [broken(1), broken(2)])
    name = broken(1)["event_id"]
    done = again(home, Correction({"dwell_ms": 5000}), ids=[name])
    assert (done.rows, done.replayed, done.stayed, done.partitions) == (1, 1, (), ((DAY, "comms"),))
    assert landed(home) == {name: 5000}
    assert ids(home) == [broken(2)["event_id"]]
    [told] = home.state.arrow("resolutions").to_pylist()
    assert (told["event_id"], told["action"], told["corrected"]) == (name, "replayed", ["dwell_ms"])
    assert (told["author"], told["reason"], told["resolved_at"] is not None) == ("lead", "mended", True)
    batches.build(home.settings, home.lake, home.state, DAY, "comms")
    assert ids(home) == [broken(2)["event_id"]]  # a rebuild brings nothing back
    assert verdicts.judge(home.settings, home.lake, home.state, DAY, "comms").report.rows == 1


def test_a_replayed_row_was_received_when_it_was_set_aside(home: Home) -> None:
    sent = broken(1)
    del sent["received_at"]
    land(home, [sent])
    [aside] = home.lake.read("quarantine").to_pylist()
    again(home, Correction({"dwell_ms": 5}), day=DAY)
    rows = home.lake.read("interactions").to_pylist()
    assert [row["received_at"] for row in rows] == [aside["received_at"]]
    assert [(row["source"], row["employee"][:2]) for row in rows] == [("jsonl", "p_")]


def test_a_second_import_and_a_second_replay_double_nothing(home: Home) -> None:
    land(home, [broken(1)])
    again(home, Correction({"dwell_ms": 5}), day=DAY)
    assert land(home, [broken(1)]).duplicates == 1
    assert (len(landed(home)), ids(home)) == (1, [])
    assert again(home, day=DAY).rows == 0
    with pytest.raises(BadInputError, match=r"replayed by lead on .*: mended"):
        replay.one(home.lake, home.state, broken(1)["event_id"])


def test_a_row_whose_event_has_landed_meanwhile_is_a_duplicate_or_a_conflict(home: Home) -> None:
    land(home, [broken(1), broken(2)])
    land(home, [broken(1, dwell_ms=5), broken(2, dwell_ms=7)], "later.jsonl")  # the client sent them again, mended
    done = again(home, Correction({"dwell_ms": 5}), day=DAY)
    assert (done.rows, done.replayed, done.duplicates) == (2, 0, 1)
    [stayed] = done.stayed
    assert (stayed.event_id, stayed.reason) == (broken(2)["event_id"], "conflict")
    assert "expected the content that has landed" in stayed.explanation
    assert ids(home) == [broken(2)["event_id"]]
    batches.build(home.settings, home.lake, home.state, DAY, "comms")
    assert landed(home) == {broken(1)["event_id"]: 5, broken(2)["event_id"]: 7}
    assert home.state.arrow("resolutions")["action"].to_pylist() == ["duplicate"]


def test_a_conflict_stays_visible(home: Home) -> None:
    land(home, [broken(1, dwell_ms=1)])
    assert land(home, [broken(1, dwell_ms=2)], "other.jsonl").reasons == {"conflict": 1}
    done = again(home, breach="conflict")
    assert [s.reason for s in done.stayed] == ["conflict"]
    assert ids(home) == [broken(1)["event_id"]]


def test_of_two_rows_with_one_id_the_first_lands(home: Home) -> None:
    land(home, [broken(1), broken(1, turn=-1)])
    assert len(ids(home)) == 2
    done = again(home, Correction({"dwell_ms": 5}, ["turn"]), day=DAY)
    assert (done.replayed, done.duplicates, len(done.stayed)) == (1, 1, 0)
    assert len(home.state.arrow("resolutions")) == 2


def test_a_row_that_named_no_workflow_lands_where_it_belongs(home: Home) -> None:
    land(home, [broken(1, workflow="comsm", dwell_ms=4)])
    done = again(home, Correction({"workflow": "comms"}), workflow=UNPLACED)
    assert (done.replayed, done.partitions) == (1, ((DAY, "comms"),))
    assert landed(home) == {broken(1)["event_id"]: 4}
    assert ids(home) == []


def test_an_unknown_field_can_be_left_out(home: Home) -> None:
    land(home, [broken(1, dwell_ms=4, mood="fine")])
    assert again(home, Correction(left_out=["mood"]), breach="unknown_field").replayed == 1


def test_what_is_no_json_stays_and_can_be_dropped(home: Home) -> None:
    told = {"source": "jsonl", "name": "t", "records": [Record(1, b"{nonsense")], "contract": contract.split}
    landing.land(home.settings, home.lake, home.state, **told)
    assert [s.reason for s in again(home, Correction({"turn": 1}), workflow=UNPLACED).stayed] == ["not_json"]
    rows = replay.find(home.lake, breach="not_json")
    assert replay.drop(home.settings, home.lake, home.state, rows, reason="a core dump", author="lead") == 1
    assert home.lake.read("quarantine").num_rows == 0
    assert home.state.arrow("resolutions")["action"].to_pylist() == ["dropped"]
    with pytest.raises(BadInputError, match=r"dropped by lead on .*: a core dump"):
        replay.one(home.lake, home.state, rows["quarantine_id"][0].as_py())


def test_a_row_that_had_landed_is_in_the_batch_again_once_the_contract_lets_it(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(home, (event(row) for row in ordinary_day(20)))
    with monkeypatch.context() as patched:
        mild, strict = "(dwell_ms < 0)", "(dwell_ms < 0 OR event_id LIKE '%-e3')"
        assert contract._BROKEN.count(mild) == 1
        patched.setattr(contract, "_BROKEN", contract._BROKEN.replace(mild, strict))
        assert batches.build(home.settings, home.lake, home.state, DAY, "comms").quarantined == 1
        [aside] = home.lake.read("quarantine").to_pylist()
        assert aside["path"] == quarantine.LATER
        assert [s.reason for s in again(home, day=DAY).stayed] == ["dwell"]
        with pytest.raises(BadInputError, match="cannot be corrected; send a revision"):
            again(home, Correction({"dwell_ms": 1}), day=DAY)
        rows = replay.find(home.lake, day=DAY)
        with pytest.raises(BadInputError, match="cannot be dropped; erase it"):
            replay.drop(home.settings, home.lake, home.state, rows, reason="x", author="lead")
    done = again(home, day=DAY)
    assert (done.replayed, done.partitions) == (1, ((DAY, "comms"),))
    assert (len(landed(home)), ids(home)) == (20, [])
    assert home.state.arrow("resolutions").num_rows == 0  # the contract let it in, nobody's word did


@pytest.mark.parametrize(
    ("correction", "told"),
    [
        ({"event_id": "x"}, "expected another field than event_id, employee, purposes"),
        ({"purposes": ["training"]}, "expected another field than"),
        ({"mood": 1}, "expected fields of an event, got mood"),
    ],
)
def test_a_correction_cannot_say_whose_it_is_or_what_was_consented_to(correction: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInputError, match=told):
        Correction(correction)


def test_bad_filters_and_no_reason(home: Home) -> None:
    land(home, [broken(1)])
    with pytest.raises(BadInputError, match="--workflow: expected one of ads"):
        replay.find(home.lake, workflow="cooking")
    with pytest.raises(BadInputError, match="--breach: expected one of not_utf8"):
        replay.find(home.lake, breach="rude")
    with pytest.raises(BadInputError, match="expected the id of a row in quarantine"):
        replay.one(home.lake, home.state, "q_none")
    rows = replay.find(home.lake, day=DAY)
    for act in (replay.replay, replay.drop):
        with pytest.raises(BadInputError, match="expected a sentence"):
            act(home.settings, home.lake, home.state, rows, reason=" ", author="lead")


def test_half_a_surrogate_pair_stays_where_it_is_and_the_others_go_on(home: Home) -> None:
    spoilt = json.dumps(broken(1) | {"team": "x"}).replace('"x"', '"\\ud800"').encode()
    records = [Record(1, spoilt, "x.jsonl"), Record(2, json.dumps(broken(2)).encode(), "x.jsonl")]
    landing.land(
        home.settings, home.lake, home.state, source="jsonl", name="x.jsonl", records=records, contract=contract.split
    )
    done = again(home, Correction({"dwell_ms": 5}), day=DAY)
    assert done.rows == done.replayed + len(done.stayed)
    assert broken(2)["event_id"] in landed(home)
