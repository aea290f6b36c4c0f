"""Which version serves: shares of the arms, promotions followed, broken files and an absent database survived."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from shutil import copytree, rmtree

import pytest
from scipy.stats import binomtest

from loop.config import Settings
from loop.errors import LoopError
from loop.evaluate.gate import Decision, Verdict
from loop.models import Model
from loop.release import releases
from loop.release.arms import RETRY_S, Arm, Arms, Follower
from loop.release.releases import ModelVersion
from loop.release.serve import Server
from loop.services import Urls
from loop.state import State
from loop.weights import weights_digest

Make = Callable[..., ModelVersion]


@pytest.fixture
def home(tmp_path: Path, tiny: Path) -> Path:
    """A home whose models m0 and m1 have files."""
    for version in ("m0", "m1"):
        copytree(tiny, tmp_path / "home/models" / version)
    return tmp_path / "home"


@pytest.fixture
def based(home: Path, state: State, model_row: Make) -> State:
    """m0 is the base; m1 is known."""
    for version in ("m0", "m1"):
        model_row(version, weights_digest=weights_digest(home / "models" / version))
    releases.record_base(state, "m0", cycle=date(2026, 3, 1), author="test", run_id=None)
    return state


@pytest.fixture
def follow(home: Path, postgres_urls: Urls) -> Iterator[Callable[..., Follower]]:
    made = []

    def make(exploration: float = 0.0, database: Callable[[], str] = lambda: postgres_urls.loop) -> Follower:
        made.append(Follower(Settings(home=home, exploration=exploration), database))
        return made[-1]

    yield make
    for follower in made:
        follower.close()


def promote(state: State, cycle: int, challenger: str, against: str) -> None:
    release = releases.record_release(
        state,
        Verdict(Decision.PROMOTED, ("because",)),
        cycle=date(2026, 3, cycle),
        challenger=challenger,
        champion_before=against,
        evidence="{}",
        author="gate",
        run_id=None,
    )
    assert release.live


def retry_now(follower: Follower) -> None:
    for failure in follower._failures.values():
        failure.again_at = 0.0


# -- shares ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def servers(tiny: Path) -> tuple[Server, Server]:
    model = Model.load(tiny)
    return Server(model, "new"), Server(model, "old")


@pytest.mark.parametrize("exploration", [0.01, 0.2, 0.49])
def test_arms_serve_as_often_as_their_propensity_says(servers: tuple[Server, Server], exploration: float) -> None:
    new, old = servers
    arms = Arms(new, old, exploration)
    drawn = [arms.choose(seed, f"request {seed}") for seed in range(20_000)]
    assert {(arm.server.version, arm.propensity) for arm in drawn} == {("new", 1 - exploration), ("old", exploration)}
    explored = sum(arm.server is old for arm in drawn)
    assert binomtest(explored, len(drawn), exploration).pvalue > 1e-3
    assert drawn == [arms.choose(seed, f"request {seed}") for seed in range(20_000)]


def test_where_one_version_may_serve_it_does(servers: tuple[Server, Server]) -> None:
    new, old = servers
    assert {Arms(new, None, 0.3).choose(seed, "r") for seed in range(50)} == {Arm(new, 1.0)}
    assert {Arms(new, old, 0.0).choose(seed, "r") for seed in range(50)} == {Arm(new, 1.0)}


# -- following ---------------------------------------------------------------------------------------------------------


def test_a_home_without_a_champion_serves_nothing_and_nothing_failed(
    follow: Callable[..., Follower], state: State
) -> None:
    follower = follow()
    follower.look()
    assert follower.arms is None
    assert follower.failed == {}
    assert follower.unreachable is None


def test_the_champion_is_followed_and_what_serves_is_kept(follow: Callable[..., Follower], based: State) -> None:
    follower = follow(exploration=0.2)
    follower.look()
    first = follower.arms
    assert first is not None
    assert first.versions == ("m0",)
    since = follower.since
    follower.look()
    assert follower.arms is first
    assert follower.since is since
    promote(based, 2, "m1", "m0")
    follower.look()
    assert follower.arms is not None
    assert follower.arms.versions == ("m1", "m0")
    assert follower.arms.predecessor is first.champion  # loaded once
    assert follower.since != since


def test_without_exploration_no_predecessor_is_held_in_memory(follow: Callable[..., Follower], based: State) -> None:
    promote(based, 2, "m1", "m0")
    follower = follow()
    follower.look()
    assert follower.arms is not None
    assert follower.arms.versions == ("m1",)


def test_missing_files_leave_the_old_version_serving_until_they_are_back(
    follow: Callable[..., Follower], based: State, home: Path
) -> None:
    follower = follow()
    follower.look()
    (home / "models/m1").rename(home / "models/away")
    promote(based, 2, "m1", "m0")
    follower.look()
    assert follower.arms is not None
    assert follower.arms.versions == ("m0",)
    assert list(follower.failed) == ["m1"]
    assert "expected weights as safetensors, found none" in follower.failed["m1"]
    (home / "models/away").rename(home / "models/m1")
    follower.look()  # too early
    assert follower.arms.versions == ("m0",)
    retry_now(follower)
    follower.look()
    assert follower.arms.versions == ("m1",)
    assert follower.failed == {}


def test_corrupt_weights_do_not_serve(follow: Callable[..., Follower], based: State, home: Path) -> None:
    follower = follow()
    follower.look()
    weights = home / "models/m1/model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-2] ^= 0xFF
    weights.write_bytes(damaged)
    promote(based, 2, "m1", "m0")
    follower.look()
    assert follower.arms is not None
    assert follower.arms.versions == ("m0",)
    assert "expected the weights of m1" in follower.failed["m1"]


def test_a_version_that_does_not_load_is_tried_more_and_more_rarely(
    follow: Callable[..., Follower], based: State, home: Path
) -> None:
    rmtree(home / "models/m0")
    follower = follow()
    waits = []
    for _ in range(9):
        retry_now(follower)
        follower.look()
        waits.append(follower._failures["m0"].wait_s)
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    assert RETRY_S == (5.0, 300.0)
    assert follower.arms is None


def test_a_predecessor_without_files_does_not_hinder_the_champion(
    follow: Callable[..., Follower], based: State, home: Path
) -> None:
    rmtree(home / "models/m0")
    promote(based, 2, "m1", "m0")
    follower = follow(exploration=0.2)
    follower.look()
    assert follower.arms is not None
    assert follower.arms.versions == ("m1",)
    assert list(follower.failed) == ["m0"]
    assert follower.arms.choose(0, "r").propensity == 1.0


def test_a_failure_is_forgotten_when_the_version_should_no_longer_serve(
    follow: Callable[..., Follower], based: State, home: Path, model_row: Make
) -> None:
    follower = follow()
    follower.look()
    rmtree(home / "models/m1")
    promote(based, 2, "m1", "m0")
    follower.look()
    assert list(follower.failed) == ["m1"]
    copytree(home / "models/m0", home / "models/m2")
    model_row("m2", weights_digest=weights_digest(home / "models/m2"))
    promote(based, 3, "m2", "m1")
    follower.look()
    assert follower.failed == {}
    assert follower.arms is not None
    assert follower.arms.versions == ("m2",)


# -- without a database ------------------------------------------------------------------------------------------------

NOWHERE = "postgresql+psycopg2://loop@127.0.0.1:9/loop"


def test_while_the_database_is_away_things_stay_as_they_are(
    follow: Callable[..., Follower], based: State, postgres_urls: Urls
) -> None:
    where = [postgres_urls.loop]
    follower = follow(database=lambda: where[0])
    follower.look()
    where[0] = NOWHERE
    follower._disconnect()
    follower.look()
    assert follower.arms is not None
    assert follower.arms.versions == ("m0",)
    assert "Connection refused" in str(follower.unreachable)
    promote(based, 2, "m1", "m0")
    where[0] = postgres_urls.loop
    follower.look()
    assert follower.arms.versions == ("m1",)
    assert follower.unreachable is None


def test_what_served_last_is_served_after_a_start_without_a_database(
    follow: Callable[..., Follower], based: State, home: Path
) -> None:
    promote(based, 2, "m1", "m0")
    follow(exploration=0.2).look()
    assert (home / "gateway/champion.json").stat().st_mode & 0o777 == 0o600

    def away() -> str:
        raise LoopError("Postgres does not run")

    follower = follow(exploration=0.2, database=away)
    follower.start()
    until = time.monotonic() + 20
    while (follower.arms is None or follower.unreachable is None) and time.monotonic() < until:
        time.sleep(0.02)
    assert follower.arms is not None
    assert follower.arms.versions == ("m1", "m0")
    assert follower.unreachable == "Postgres does not run"


def test_a_torn_file_of_what_served_last_is_no_hindrance(
    follow: Callable[..., Follower], based: State, home: Path
) -> None:
    (home / "gateway").mkdir()
    (home / "gateway/champion.json").write_text('[{"version": ')
    follower = follow()
    follower.start()
    until = time.monotonic() + 20
    while follower.arms is None and time.monotonic() < until:
        time.sleep(0.02)
    assert follower.arms is not None
    assert follower.arms.versions == ("m0",)


def test_whatever_goes_wrong_it_looks_again(
    follow: Callable[..., Follower], based: State, postgres_urls: Urls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loop.release.arms.EVERY_S", 0.01)
    asked: list[int] = []

    def database() -> str:
        asked.append(1)
        if len(asked) < 3:
            raise RuntimeError("nobody foresaw this")
        return postgres_urls.loop

    follower = follow(database=database)
    follower.start()
    until = time.monotonic() + 20
    while follower.arms is None and time.monotonic() < until:
        time.sleep(0.02)
    assert follower.arms is not None
    assert len(asked) == 3
