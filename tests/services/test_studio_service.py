"""Label Studio as a service, without it: where it is looked for, what it is told, and an installation that fails."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from pathlib import Path

import pytest

from loop.config import Settings, load
from loop.errors import BadInputError, LoopError
from loop.services import down, processes, studio, studio_down


def test_it_is_looked_for_where_the_settings_say(bare_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LoopError, match="`loop studio up` starts it; or set studio_url"):
        studio.locate(bare_settings)
    theirs = load(home=bare_settings.home, studio_url="https://studio.example/")
    with pytest.raises(BadInputError, match="LOOP_SECRET_STUDIO"):
        studio.locate(theirs)
    monkeypatch.setenv("LOOP_SECRET_STUDIO", "a.b.c")
    assert studio.locate(theirs) == studio.Studio("https://studio.example", "a.b.c")
    assert "a.b.c" not in repr(studio.locate(theirs))
    with pytest.raises(BadInputError, match="without a password \\(see LOOP_SECRET_STUDIO\\)"):
        load(studio_url="https://me:secret@studio.example")


def test_it_listens_on_loopback_and_its_secrets_stand_on_no_command_line(
    bare_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOP_POSTGRES_URL", "postgresql://loop:hidden@127.0.0.1/loop")
    service = studio.server(bare_settings, 12_345)
    told = dict(service.environment or {})
    password = studio.password_file(bare_settings)
    assert password.read_text() == told["LABEL_STUDIO_PASSWORD"]
    assert password.stat().st_mode & 0o777 == 0o600
    for secret in ("LABEL_STUDIO_PASSWORD", "LABEL_STUDIO_USER_TOKEN"):
        assert told[secret] not in " ".join(service.command)
        assert told[secret] not in repr(service)
    assert service.command[service.command.index("--internal-host") + 1] == "127.0.0.1"
    assert len(told["LABEL_STUDIO_USER_TOKEN"]) == 40
    assert (told["COLLECT_ANALYTICS"], told["SSRF_PROTECTION_ENABLED"], told["TZ"]) == ("false", "false", "UTC")
    assert not any("hidden" in value for value in told.values())  # nothing of ours that it needs not know
    assert not service.healthy()


def test_a_first_start_that_was_cut_short_is_made_anew(bare_settings: Settings) -> None:
    data = bare_settings.studio / "data"
    studio.server(bare_settings, 12_345)
    (data / "label_studio.sqlite3").write_text("half")
    studio.server(bare_settings, 12_345)
    assert list(data.iterdir()) == []
    (data / ".ready").touch()
    (data / "label_studio.sqlite3").write_text("whole, though no database")
    studio.server(bare_settings, 12_345)
    assert (data / "label_studio.sqlite3").read_text() == "whole, though no database"


def test_what_was_deleted_leaves_its_file_at_the_next_start(bare_settings: Settings) -> None:
    studio.server(bare_settings, 12_345)
    database = bare_settings.studio / "data" / "label_studio.sqlite3"
    (database.parent / ".ready").touch()
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("PRAGMA secure_delete = off")
        connection.execute("CREATE TABLE task (text TEXT)")
        connection.executemany("INSERT INTO task VALUES (?)", [(f"what {n} said in private " * 9,) for n in range(99)])
        connection.execute("DELETE FROM task WHERE rowid > 1")
    assert b"what 42 said in private" in database.read_bytes()
    studio.server(bare_settings, 12_345)
    assert b"what 42 said in private" not in database.read_bytes()
    assert b"what 0 said in private" in database.read_bytes()


@pytest.mark.slow
def test_an_installation_that_fails_is_said_and_leaves_no_environment_to_start(
    bare_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"CONFIG_FILE": os.devnull, "NO_INDEX": "1", "FIND_LINKS": str(tmp_path)}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    said: list[str] = []
    with pytest.raises(LoopError, match=r"(?s)could not be installed.*ERROR: .*tries again"):
        studio.install(bare_settings, said.append)
    assert said[0] == "making its environment"
    assert not studio.installed(bare_settings)
    assert processes.read(bare_settings).processes == {}
    assert studio_down(bare_settings) == down(bare_settings) == []


def test_two_do_not_install_at_once(bare_settings: Settings) -> None:
    folder = studio.environment(bare_settings)
    folder.mkdir(parents=True)
    said: list[str] = []
    with studio._alone(folder, said.append):
        other = threading.Thread(target=studio.install, args=(bare_settings, said.append))
        other.start()
        while not said:
            assert other.is_alive()
        (folder / ".installed").write_text(studio._wanted())
    other.join(20)
    assert set(said) == {"waiting for somebody else's installation"}
    assert studio.installed(bare_settings)
    assert [path.name for path in folder.iterdir()] == [".installed"]
