"""Fixtures of the clients' tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.client.server import Gateway


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    """A running server; what it stored outlives `stop` and `start`, which keep the port."""
    server = Gateway()
    server.start()
    yield server
    server.stop()
