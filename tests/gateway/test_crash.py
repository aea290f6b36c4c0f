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
    assert found["acknowledged"] > 100
    assert found["sent"] == found["acknowledged"] == found["stored"]
    assert (found["acknowledged_not_stored"], found["stored_twice"], found["stored_never_sent"]) == (0, 0, 0)
    assert found["quarantined"] == 0
