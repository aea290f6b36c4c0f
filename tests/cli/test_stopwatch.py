"""The stopwatch, on a clock that the test moves."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from loop.cli import stopwatch
from loop.cli.stopwatch import Stopwatch


class Clock:
    """Wall seconds; CPU runs half as fast, a quarter of it in a child."""

    def __init__(self) -> None:
        self.wall = 100.0

    def perf_counter(self) -> float:
        return self.wall

    def times(self) -> Any:
        cpu = self.wall / 2 - 50
        return os.times_result((cpu / 2, cpu / 4, cpu / 4, 0.0, self.wall))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved = Clock()
    monkeypatch.setattr(stopwatch, "BEGAN", 100.0)
    monkeypatch.setattr(time, "perf_counter", moved.perf_counter)
    monkeypatch.setattr(os, "times", moved.times)
    return moved


def test_a_stage_inside_another_is_taken_out_of_it_and_all_add_up(clock: Clock) -> None:
    clock.wall += 2
    watch = Stopwatch()
    with watch.stage("job"):
        clock.wall += 3
        watch.switch("step")
        clock.wall += 10
        watch.switch("job")
        clock.wall += 1
        with watch.stage("panel"):
            clock.wall += 4
        clock.wall += 1
    clock.wall += 6
    assert watch.told() == {
        "start-up": {"wall": 2.0, "cpu": 1.0},
        "job": {"wall": 5.0, "cpu": 2.5},
        "step": {"wall": 10.0, "cpu": 5.0},
        "panel": {"wall": 4.0, "cpu": 2.0},
        "rest": {"wall": 6.0, "cpu": 3.0},
        "total": {"wall": 27.0, "cpu": 13.5},
    }


def test_a_stage_that_fails_inside_a_step_gives_its_time_back_to_the_outer_one(clock: Clock) -> None:
    watch = Stopwatch()

    def broken() -> None:
        with watch.stage("job"):
            watch.switch("step")
            clock.wall += 1
            raise ValueError

    with pytest.raises(ValueError):
        broken()
    clock.wall += 2
    told = watch.told()
    assert (told["step"]["wall"], told["rest"]["wall"], told["total"]["wall"]) == (1.0, 2.0, 3.0)
