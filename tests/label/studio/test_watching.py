"""Watching goes on: whatever fails is said once, is tried again, and quotes no answer."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from loop.config import load
from loop.home import Home
from loop.label.studio import hook
from loop.label.studio.watching import Watching


def test_what_fails_is_said_once_and_tried_again(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    settings = load(home=home.settings.home, studio_poll_seconds=3600)
    watching = Watching(settings, home.state, lambda _: pytest.fail("there is nothing to tell"))
    watching()
    assert "Label Studio does not run for this home" in capsys.readouterr().err
    assert watching._due > 0
    watching()
    assert capsys.readouterr().err == ""  # it is not due
    hook.nudge(settings)
    watching()
    assert capsys.readouterr().err == ""  # tried at once, and it is the same that fails


def test_a_database_that_fails_ends_nothing_and_is_not_quoted(
    home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise sa.exc.OperationalError("INSERT ...", {"label": "private"}, Exception("private"))

    monkeypatch.setattr("loop.label.studio.watching.locate", failing)
    Watching(home.settings, home.state, lambda _: None)()
    said = capsys.readouterr().err
    assert "did not do what was asked (OperationalError)" in said
    assert "private" not in said
