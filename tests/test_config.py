"""Settings: where they come from, what a wrong one says, and secrets that nobody else can read or half read."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from loop.config import Settings, load
from loop.errors import BadInputError, LoopError


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_home_is_made_absolute_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOOP_HOME")
    settings = load()
    assert settings.home == tmp_path / ".loop"
    monkeypatch.chdir("/")
    assert settings.lake == tmp_path / ".loop" / "lake"


def test_given_beats_variable_beats_file_beats_default(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("loop.toml").write_text("seed = 1\nsft_steps = 1\ndpo_steps = 1\n")
    monkeypatch.setenv("LOOP_SEED", "2")
    monkeypatch.setenv("LOOP_SFT_STEPS", "2")
    settings = load(seed=3)
    assert (settings.seed, settings.sft_steps, settings.dpo_steps, settings.window_days) == (3, 2, 1, 28)


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOOP_HOME", "")
    assert load().home == tmp_path / ".loop"


def test_a_wrong_variable_is_named_with_the_nearest_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOP_WINDOW_DAY", "3")
    with pytest.raises(BadInputError, match=r"LOOP_WINDOW_DAY .*did you mean LOOP_WINDOW_DAYS\?"):
        load()


def test_a_wrong_key_in_the_file_is_named() -> None:
    Path("loop.toml").write_text("windw_days = 3\n")
    with pytest.raises(BadInputError, match=r"'windw_days'; did you mean window_days\?"):
        load()


def test_a_wrong_value_is_named_with_what_was_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOP_REPLAY_SHARE", "1.5")
    with pytest.raises(BadInputError, match=r"replay_share: .*less than 1, got '1.5'"):
        load()


def test_a_file_that_is_no_toml_says_where() -> None:
    Path("loop.toml").write_text("seed = = 1\n")
    with pytest.raises(BadInputError, match=r"loop\.toml: .*line 1"):
        load()
    Path("loop.toml").write_text("seed = 1\n", encoding="utf-16")
    with pytest.raises(BadInputError, match=r"loop\.toml: expected TOML in UTF-8"):
        load()


def test_a_password_shows_in_no_message_and_no_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInputError, match="postgres_url") as error:
        load(postgres_url=["postgresql://user:hunter2@host/name"])
    assert "hunter2" not in str(error.value)
    monkeypatch.setenv("LOOP_POSTGRES_URL", "postgresql://user:hunter2@host/name")
    assert "hunter2" not in repr(load())


def test_another_process_gets_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(seed=7, postgres_url="postgresql://user:hunter2@host/name", base_model="/models/x")
    variables = settings.as_environment()
    assert set(variables) == {"LOOP_HOME", "LOOP_SEED", "LOOP_POSTGRES_URL", "LOOP_BASE_MODEL"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert load() == settings


def test_a_home_that_cannot_be_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInputError, match=r"LOOP_HOME .*file cannot be made"):
        Settings(home=tmp_path / "file").make_home()


# -- the gateway ------------------------------------------------------------------------------------------------------


def test_the_settings_of_the_gateway_reach_another_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load(
        gateway_host="0.0.0.0",
        gateway_port=8443,
        tls_certificate="front.pem",
        tls_key="front.key",
        cors_origins=("https://ads.example", "http://127.0.0.1:5173"),
        upstream_url="http://models.example/v1/",
        upstream_model="qwen",
        exploration=0.05,
        shuffle=False,
        ignore_after_hours=0.5,
        spool_bytes=1 << 20,
        spool_segment_bytes=1 << 10,
        spool_segment_seconds=0.25,
    )
    assert settings.tls_certificate == tmp_path / "front.pem"
    assert settings.upstream_url == "http://models.example/v1"
    assert settings.ledger.parent == settings.spool.parent == settings.gateway == settings.home / "gateway"
    monkeypatch.chdir("/")
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)
    assert load() == settings


def test_no_origins_is_the_default_and_can_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().cors_origins == load(cors_origins=()).cors_origins == ()
    assert "LOOP_CORS_ORIGINS" not in load(cors_origins=()).as_environment()
    monkeypatch.setenv("LOOP_CORS_ORIGINS", " https://a.example ,https://b.example:8080,")
    assert load().cors_origins == ("https://a.example", "https://b.example:8080")
    monkeypatch.delenv("LOOP_CORS_ORIGINS")
    Path("loop.toml").write_text('cors_origins = ["https://c.example"]\n')
    assert load().cors_origins == ("https://c.example",)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"cors_origins": "*"}, "cors_origins: .*expected origins as https://host"),
        ({"cors_origins": "https://a.example/page"}, "cors_origins: .*expected origins as https://host"),
        ({"upstream_url": "models.example/v1"}, "upstream_url: .*expected a URL as http://host/v1"),
        ({"upstream_url": "http://u:hunter2@models.example/v1"}, "upstream_url: .*LOOP_SECRET_UPSTREAM"),
        ({"tls_key": "front.key"}, "settings: .*tls_certificate and tls_key belong together"),
        ({"exploration": 0.5}, "exploration: .*less than 0.5, got 0.5"),
        ({"gateway_port": 70_000}, "gateway_port: .*got 70000"),
        ({"spool_bytes": 0}, "spool_bytes: .*got 0"),
    ],
)
def test_a_wrong_setting_of_the_gateway_is_named(given: dict[str, object], says: str) -> None:
    with pytest.raises(BadInputError, match=says) as error:
        load(**given)
    assert "hunter2" not in str(error.value)


def test_a_secret_that_somebody_else_made_is_read_and_never_made(
    bare_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bare_settings.secret_text("upstream") is None
    monkeypatch.setenv("LOOP_SECRET_UPSTREAM", "sk-no hexadecimal")
    assert bare_settings.secret_text("upstream") == "sk-no hexadecimal"
    assert not bare_settings.home.exists()


# -- secrets ----------------------------------------------------------------------------------------------------------


def test_a_secret_is_made_once_for_the_owner_alone(bare_settings: Settings) -> None:
    secret = bare_settings.secret("postgres")
    assert len(secret) == 32
    assert bare_settings.secret("postgres") == secret != bare_settings.secret("pseudonyms")
    folder = bare_settings.home / "secrets"
    assert [stat.S_IMODE(p.stat().st_mode) for p in (bare_settings.home, folder)] == [0o700, 0o700]
    assert {p.name: stat.S_IMODE(p.stat().st_mode) for p in folder.iterdir()} == {
        "postgres": 0o600,
        "pseudonyms": 0o600,
    }


def test_everybody_who_asks_at_once_gets_the_same_secret(bare_settings: Settings) -> None:
    for name in map(str, range(20)):
        start, got = threading.Barrier(8), []

        def ask(name: str = name, start: threading.Barrier = start, got: list[bytes] = got) -> None:
            start.wait()
            got.append(bare_settings.secret(name))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 8
        assert len(set(got)) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_secret_that_others_may_read_is_refused(bare_settings: Settings, mode: int) -> None:
    bare_settings.secret("postgres")
    (bare_settings.home / "secrets" / "postgres").chmod(mode)
    with pytest.raises(LoopError, match=f"secrets/postgres: expected mode 600, got {mode:o}"):
        bare_settings.secret("postgres")


@pytest.mark.parametrize("content", ["", "not hexadecimal", "abcd"])
def test_a_secret_file_that_holds_no_secret_is_refused(bare_settings: Settings, content: str) -> None:
    bare_settings.secret("postgres")
    (bare_settings.home / "secrets" / "postgres").write_text(content)
    with pytest.raises(BadInputError, match="secrets/postgres: expected at least 32 hexadecimal digits"):
        bare_settings.secret("postgres")


def test_a_secret_from_the_environment_leaves_no_file(bare_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOP_SECRET_POSTGRES", "ab" * 16)
    assert bare_settings.secret("postgres") == b"\xab" * 16
    assert not bare_settings.home.exists()
    monkeypatch.setenv("LOOP_SECRET_POSTGRES", "xy" * 16)
    with pytest.raises(BadInputError, match="LOOP_SECRET_POSTGRES: expected"):
        bare_settings.secret("postgres")


def test_no_umask_widens_a_secret(bare_settings: Settings) -> None:
    before = os.umask(0)
    try:
        bare_settings.secret("postgres")
    finally:
        os.umask(before)
    path = bare_settings.home / "secrets" / "postgres"
    assert [stat.S_IMODE(p.stat().st_mode) for p in (path, path.parent, bare_settings.home)] == [0o600, 0o700, 0o700]


# -- a secret that is replaced ----------------------------------------------------------------------------------------


def test_a_rotation_keeps_what_it_replaces(bare_settings: Settings) -> None:
    keys = [bare_settings.secret("pseudonym")]
    assert bare_settings.ring("pseudonym") == tuple(keys)
    for number in range(1, 12):  # past 9, where names no longer sort as numbers do
        assert bare_settings.rotate("pseudonym") == number
        keys.insert(0, bare_settings.secret("pseudonym"))
        assert bare_settings.ring("pseudonym") == tuple(keys)
    assert len(set(keys)) == 12
    folder = bare_settings.home / "secrets" / "pseudonym.d"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in folder.iterdir()} == {0o600}
    assert {p.name for p in folder.parent.iterdir()} == {"pseudonym", "pseudonym.d"}, "nothing else is left"


def test_a_rotation_that_was_cut_short_loses_no_key_and_goes_on(
    bare_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = bare_settings.secret("pseudonym")
    with monkeypatch.context() as patched:

        def die(self: Path, target: Path) -> None:
            raise OSError("the power is gone")

        patched.setattr(Path, "replace", die)
        with pytest.raises(OSError, match="the power is gone"):
            bare_settings.rotate("pseudonym")
    assert bare_settings.ring("pseudonym") == (first,)
    assert bare_settings.rotate("pseudonym") == 1
    assert bare_settings.ring("pseudonym")[1:] == (first,)


def test_rotations_at_once_follow_each_other(bare_settings: Settings) -> None:
    first = bare_settings.secret("pseudonym")
    start, numbers = threading.Barrier(8), []

    def rotate() -> None:
        start.wait()
        numbers.append(bare_settings.rotate("pseudonym"))

    threads = [threading.Thread(target=rotate) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ring = bare_settings.ring("pseudonym")
    assert sorted(numbers) == list(range(1, 9))
    assert len(set(ring)) == 9
    assert ring[-1] == first


def test_a_secret_from_the_environment_is_not_ours_to_rotate(
    bare_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = bare_settings.secret("pseudonym")
    bare_settings.rotate("pseudonym")
    monkeypatch.setenv("LOOP_SECRET_PSEUDONYM", "ab" * 16)
    with pytest.raises(BadInputError, match=r"pseudonym comes from LOOP_SECRET_PSEUDONYM: write its value to"):
        bare_settings.rotate("pseudonym")
    assert bare_settings.ring("pseudonym") == (b"\xab" * 16, old)


def test_a_retired_secret_that_others_may_read_is_refused(bare_settings: Settings) -> None:
    bare_settings.rotate("pseudonym")
    (bare_settings.home / "secrets" / "pseudonym.d" / "1").chmod(0o644)
    with pytest.raises(LoopError, match=r"pseudonym\.d/1: expected mode 600, got 644"):
        bare_settings.ring("pseudonym")
