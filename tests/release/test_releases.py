"""The dated champion: no time travel, and the champion only moves forward."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import date

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loop.errors import BadInputError, LoopError
from loop.evaluate.gate import Decision, Verdict
from loop.release import releases
from loop.release.releases import ModelVersion, Release
from loop.state import State

Make = Callable[..., ModelVersion]


def day(number: int) -> date:
    return date(2026, 3, number)


@pytest.fixture
def based(state: State, model_row: Make) -> State:
    """A home with the base m0 and models m1 to m9."""
    for number in range(10):
        model_row(f"m{number}")
    releases.record_base(state, "m0", cycle=day(1), author="test", run_id=None)
    return state


def decide(state: State, cycle: int, challenger: str, *, against: str, promoted: bool = True) -> Release:
    decision = Decision.PROMOTED if promoted else Decision.REFUSED
    return releases.record_release(
        state,
        Verdict(decision, ("because",)),
        cycle=day(cycle),
        challenger=challenger,
        champion_before=against,
        evidence="{}",
        author="gate",
        run_id="r",
    )


def as_of(state: State, cycle: int) -> str:
    found = releases.champion_as_of(state, day(cycle))
    assert found is not None
    return found


def now(state: State) -> str:
    found = releases.champion_now(state)
    assert found is not None
    return found


# -- the base -------------------------------------------------------------------------------------------------------


def test_a_home_without_a_base_has_no_champion(state: State) -> None:
    assert releases.champion_now(state) is None
    assert releases.champion_as_of(state, day(5)) is None
    assert releases.history(state) == []


def test_the_base_is_champion_from_the_beginning_of_time(based: State) -> None:
    assert now(based) == "m0"
    assert as_of(based, 1) == as_of(based, 31) == "m0"
    assert releases.champion_as_of(based, date(2021, 8, 1)) == "m0"


def test_the_base_is_recorded_once(based: State) -> None:
    again = releases.record_base(based, "m0", cycle=day(9), author="other", run_id=None)
    assert (again.cycle, again.decision, again.live, again.author) == (day(1), "base", True, "test")
    with pytest.raises(BadInputError, match="base is m0, got m1"):
        releases.record_base(based, "m1", cycle=day(9), author="other", run_id=None)
    assert len(releases.history(based)) == 1


def test_a_base_made_today_does_not_stand_in_the_way_of_older_cycles(state: State, model_row: Make) -> None:
    """Imported data of 2021 in a home of 2026: its cycles lie before the base's day and may be live all the same."""
    model_row("m0"), model_row("m1")
    releases.record_base(state, "m0", cycle=date(2026, 11, 22), author="test", run_id=None)
    assert decide(state, 5, "m1", against="m0").live
    assert now(state) == "m1"
    assert as_of(state, 5) == "m0"


# -- moving forward -------------------------------------------------------------------------------------------------


def test_a_promotion_serves_from_the_next_cycle_on(based: State) -> None:
    release = decide(based, 2, "m1", against="m0")
    assert (release.attempt, release.live, release.decision, release.reasons) == (1, True, "promoted", ("because",))
    assert [as_of(based, cycle) for cycle in (1, 2, 3, 30)] == ["m0", "m0", "m1", "m1"]
    assert now(based) == "m1"


def test_those_who_served_are_listed_from_the_last_to_the_base(based: State) -> None:
    assert releases.champions(based, 2) == ["m0"]
    decide(based, 5, "m1", against="m0")
    decide(based, 6, "m2", against="m1", promoted=False)
    decide(based, 7, "m3", against="m1")
    assert releases.champions(based, 2) == ["m3", "m1"]
    assert releases.champions(based, 9) == ["m3", "m1", "m0"]
    assert releases.champions(based, 1) == [now(based)]


def test_a_refusal_moves_nothing_and_is_kept(based: State) -> None:
    release = decide(based, 2, "m1", against="m0", promoted=False)
    assert not release.live
    assert now(based) == as_of(based, 3) == "m0"
    kept = releases.history(based)[-1]
    assert (kept.cycle, kept.challenger, kept.champion_before, kept.decision) == (day(2), "m1", "m0", "refused")


def test_a_rerun_of_a_past_cycle_is_a_new_attempt_and_moves_nothing(based: State) -> None:
    decide(based, 2, "m1", against="m0")
    decide(based, 3, "m2", against="m1")
    again = decide(based, 2, "m3", against="m0")
    assert (again.attempt, again.live) == (2, False)
    assert again.reasons == ("because", "not live: cycle 2026-03-03 has been decided since")
    assert now(based) == "m2"
    assert [as_of(based, cycle) for cycle in (2, 3, 4)] == ["m0", "m1", "m2"], "the past is as it was"


def test_a_backfill_of_a_cycle_never_run_moves_nothing_either(based: State) -> None:
    decide(based, 5, "m1", against="m0", promoted=False)
    backfilled = decide(based, 3, "m2", against="m0")
    assert (backfilled.attempt, backfilled.live) == (1, False)
    assert as_of(based, 4) == as_of(based, 6) == now(based) == "m0"


def test_the_last_cycle_may_be_decided_again_after_a_refusal(based: State) -> None:
    decide(based, 2, "m1", against="m0", promoted=False)
    again = decide(based, 2, "m1", against="m0")
    assert (again.attempt, again.live) == (2, True)
    assert now(based) == "m1"


def test_a_cycle_promotes_once(based: State) -> None:
    decide(based, 2, "m1", against="m0")
    again = decide(based, 2, "m2", against="m0")
    assert not again.live
    assert again.reasons[-1] == "not live: this cycle has promoted m1 already"
    assert now(based) == "m1"


def test_a_challenger_of_a_dethroned_champion_does_not_go_live(based: State) -> None:
    """Cycle 3 was set side by side with m0; before it was decided, cycle 2 was decided again and promoted m1."""
    decide(based, 2, "m1", against="m0")
    late = decide(based, 3, "m2", against="m0")
    assert not late.live
    assert late.reasons[-1] == "not live: it was compared with m0, and m1 is champion"
    assert now(based) == "m1"


def test_deciding_at_once_gives_attempts_of_their_own_and_one_live(based: State) -> None:
    threads = [threading.Thread(target=decide, args=(based, 2, f"m{i}"), kwargs={"against": "m0"}) for i in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = [release for release in releases.history(based) if release.cycle == day(2)]
    assert [release.attempt for release in made] == [1, 2, 3, 4, 5, 6]
    assert [release.live for release in made] == [True] + [False] * 5


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(2, 6), st.booleans(), st.booleans()), max_size=8))
def test_whatever_is_rerun_the_past_of_decided_cycles_stands(based: State, steps: list[tuple[int, bool, bool]]) -> None:
    """After any history of runs and reruns: who was champion as of a cycle that has been decided never changes again,
    and the champion of now is the champion as of every later day."""
    releases_table = based.tables["releases"]
    with based.engine.begin() as connection:
        connection.execute(releases_table.delete().where(releases_table.c.decision != "base"))
    seen: dict[int, str] = {}
    for number, (cycle, promoted, honest) in enumerate(steps, start=1):
        against = as_of(based, cycle) if honest else "m9"
        release = decide(based, cycle, f"m{number}", against=against, promoted=promoted)
        if release.live:
            assert promoted
            assert honest
            assert cycle >= max(seen, default=0)
        last = max([cycle, *seen])
        for past in range(2, last + 1):
            assert seen.setdefault(past, as_of(based, past)) == as_of(based, past)
        assert now(based) == as_of(based, 7) == as_of(based, 30)


# -- model versions -------------------------------------------------------------------------------------------------


def test_a_model_version_comes_back_and_names_one_model(state: State, model_row: Make) -> None:
    made = model_row("m1")
    assert releases.model_version(state, "m1") == made
    model_row("m1")
    with pytest.raises(LoopError, match="exists with weights"):
        model_row("m1", weights_digest="other")
    with pytest.raises(LoopError, match="no model version 'm7'"):
        releases.model_version(state, "m7")
