"""How much each question would tell: what is measured, and what is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from loop.label.select import scores as scoring
from loop.label.select.budget import Reason
from loop.label.select.scorers import Pairs, fit
from loop.label.select.scores import distinct, measure, pooled, scores, seen, sketched
from loop.workflows import WORKFLOWS

COMMS = WORKFLOWS["comms"]


def piece(*rows: dict[str, Any]) -> pa.Table:
    plain = {"kind": "preference", "held_out": False, "weight": 1.0, "second": ""}
    numbered = [{"draw": n + 1, "pool": 100 - n, **plain, **row} for n, row in enumerate(rows)]
    types = {"draw": pa.uint64(), "pool": pa.uint64(), "held_out": pa.bool_(), "weight": pa.float64()}
    names = ("draw", "pool", "kind", "held_out", "weight", "asked", "first", "second")
    return pa.table({name: pa.array([row[name] for row in numbered], types.get(name, pa.string())) for name in names})


def measured(rows: pa.Table, *, asked: str = "", benchmark: str = "") -> scoring.Batch:
    return measure([rows], asked=seen(pa.array([asked])), benchmark=seen(pa.array([benchmark])), workflow=COMMS)


def test_novelty_and_slices_are_shares_of_what_was_not_met_and_nothing_met_is_not_measured() -> None:
    rows = piece({"asked": "write a note", "first": "so be it", "second": "no"}, {"asked": "draw", "first": "a line"})
    found = measured(rows, asked="write a note so be it", benchmark="write a note")
    assert found.novelty.tolist() == [1 / 11, 1.0 - 1 / 4]
    assert found.slice.tolist() == [0.0, 1.0]
    nothing = measured(rows)
    assert np.isnan(nothing.novelty).all()
    assert np.isnan(nothing.slice).all()


def test_the_same_question_is_one_whichever_side_it_is_on_and_kinds_are_different_questions() -> None:
    told = {"asked": "write to the reader about the parking lot", "first": "it is closed", "second": "it is open"}
    turned = {**told, "first": told["second"], "second": told["first"]}
    rows = piece(told, turned, {**told, "held_out": True}, {**told, "kind": "rewrite"})
    places, known = distinct(measured(rows), sketched(*(pa.array([], pa.string()) for _ in range(3))))
    assert (places.tolist(), known) == ([0, 3], 0)
    before = sketched(*(pa.array([told[name]]) for name in ("asked", "first", "second")))
    places, known = distinct(measured(rows), before)
    assert (places.tolist(), known) == ([], 4)  # what was asked is not asked again as another kind


def test_the_pool_is_drawn_and_has_nobody_who_is_held_out(monkeypatch: Any) -> None:
    rows = piece(*({"asked": f"number {n}", "first": "text", "held_out": n == 9} for n in range(10)))
    monkeypatch.setattr(scoring, "POOL", 3)
    assert pooled(measured(rows)).tolist() == [6, 7, 8]  # the least draws for the pool but that of the held-out


def test_reasons_follow_from_what_is_held_of_a_decision() -> None:
    rows = piece(
        {"asked": "about cats", "first": "meow", "second": "woof"},
        {"asked": "about cats", "first": "woof", "second": "meow"},
        {"asked": "about cats", "first": "I will kill the cat", "kind": "rewrite", "weight": 0.2},
    )
    standing = pa.array(["meow", "woof", ""])
    whole = rows.append_column("standing", standing).append_column("against", pa.array(["woof", "meow", ""]))
    pairs = Pairs(
        pa.array(["about cats"] * 12), pa.array(["meow"] * 12), pa.array(["woof"] * 12), np.ones(12), np.arange(12)
    )
    batch = measured(rows, asked="nothing")
    every = np.arange(3)
    found = scores(batch, every, whole, fit(pairs, seed=0), COMMS)
    assert found[Reason.CONFLICT][0] == 0.0  # the committee agrees with the decision
    assert found[Reason.CONFLICT][1] > 0.8  # and with its opposite
    assert found[Reason.CONFLICT][2] == 0.8  # it is hardly believed
    assert np.isnan(found[Reason.DISAGREEMENT][2])
    assert (found[Reason.RISK] > 0).tolist() == [False, False, True]
    alone = scores(batch, every, whole, None, COMMS)
    assert np.isnan(alone[Reason.DISAGREEMENT]).all()
    assert alone[Reason.CONFLICT].tolist() == [0.0, 0.0, 0.8]
