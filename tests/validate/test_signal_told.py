"""Who is told what: groups of ten or more, and oneself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loop import schema
from loop.lake import Lake, from_rows
from loop.validate import signal_told
from tests.rows import DAY, decision, interactions

DAYS = (DAY, DAY)


def lake_of(tmp_path: Path, teams: dict[str, int]) -> Lake:
    """A lake with a day in which each person of each team decided twice; the first of each is trusted by a tenth."""
    lake = Lake(tmp_path)
    rows: list[dict[str, Any]] = []
    for team, people in teams.items():
        for who in range(people):
            for _ in range(2):
                rows.append(decision(len(rows), "accept", 0, "first", employee=f"{team} {who}", team=team))
    lake.overwrite("interactions", interactions(*rows), day=DAY, workflow="comms")
    common = {"day": DAY, "workflow": "comms", "batch": "b"}
    weights = [0.1 if row["employee"].endswith(" 0") else 1.0 for row in rows]
    signals = [
        common | {"event_id": row["event_id"], "weight": w, "reasons": ["unread"] if w < 1 else [], "examination": 1.0}
        for row, w in zip(rows, weights, strict=True)
    ]
    lake.overwrite("signals", from_rows(signals, schema.SIGNALS), day=DAY, workflow="comms")
    nothing = {name: [] for name in ("statistics", "words", "score", "information")}
    conduct = [
        common | nothing | {"employee": name, "trust": 0.1 if name.endswith(" 0") else 1.0}
        for name in sorted({row["employee"] for row in rows})
    ]
    lake.overwrite("conduct", from_rows(conduct, schema.CONDUCT), day=DAY, workflow="comms")
    return lake


def test_a_group_of_ten_is_told_of(tmp_path: Path) -> None:
    told = signal_told.groups(lake_of(tmp_path, {"north": 10, "south": 10}), DAYS, "comms")
    assert [(g["group"], g["people"], g["decisions"]) for g in told] == [
        ("workflow comms", 20, 40),
        ("team north", 10, 20),
        ("team south", 10, 20),
    ]
    assert told[1]["mean_weight"] == pytest.approx((2 * 0.1 + 18) / 20)
    assert told[1]["distrusted"] == pytest.approx(0.1)


@pytest.mark.parametrize("teams", [{"north": 10, "south": 9}, {"north": 10, "south": 1}])
def test_nobody_is_told_of_by_difference(tmp_path: Path, teams: dict[str, int]) -> None:
    told = signal_told.groups(lake_of(tmp_path, teams), DAYS, "comms")
    assert [g["group"] for g in told] == ["workflow comms"]


@pytest.mark.parametrize(
    ("teams", "told"),
    [
        ({"north": 12, "south": 13, "west": 1}, ["south"]),
        ({"north": 12, "south": 12, "west": 9, "east": 1}, ["north", "south"]),
        ({"north": 12, "south": 12, "west": 4, "east": 5}, ["south"]),
    ],
)
def test_nobody_is_told_of_by_the_difference_of_several(tmp_path: Path, teams: dict[str, int], told: list[str]) -> None:
    found = signal_told.groups(lake_of(tmp_path, teams), DAYS, "comms")
    assert [g["group"] for g in found] == ["workflow comms", *(f"team {name}" for name in told)]


def test_fewer_than_ten_are_not_told_of(tmp_path: Path) -> None:
    assert signal_told.groups(lake_of(tmp_path, {"north": 9}), DAYS, "comms") == []


def test_one_is_shown_oneself_and_nobody_else(tmp_path: Path) -> None:
    lake = lake_of(tmp_path, {"north": 10})
    [mine] = signal_told.own(lake, ["north 0"])
    assert (mine["decisions"], mine["mean_weight"], mine["trust"]) == (2, pytest.approx(0.1), 0.1)
    assert mine["reasons"] == ["unread"]
    assert signal_told.own(lake, ["nobody"]) == []
    assert signal_told.own(Lake(tmp_path / "empty"), ["north 0"]) == []
