"""The gateway killed under load, and the mover with it: acknowledged is stored exactly once. Two hundred times in
benchmarks/crash.py, a few times here."""

from __future__ import annotations

import pytest

from benchmarks import crash
from loop.home import Home


@pytest.mark.slow
def test_what_was_acknowledged_is_stored_once(home: Home) -> None:
    found = crash.measured(home, kills=8, seed=1)
    assert found["kills"]["front, serving"] > 0
    assert found["kills"]["mover, moving"] > 0
    assert found["events acknowledged"] > 100
    assert found["decisions on them, acknowledged"] > found["revisions among them"] > 0
    assert found["outcomes acknowledged"] > 0
    assert found["ignored"] > 0
    assert {name: count for name, count in found.items() if name.startswith("wrong: ") and count} == {}
