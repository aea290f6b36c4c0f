"""A front that the tests of one file share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.gateway.fronts import Fixed, Running, home_of, serving


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One front for all tests of a file; each makes ids of its own."""
    with serving(home_of(tmp_path_factory.mktemp("front"), spool_segment_seconds=3600.0)) as running:
        yield running


@pytest.fixture
def backend(front: Running) -> Iterator[Fixed]:
    """Its backend, as new before and afterwards."""
    front.backend.__init__()  # type: ignore[misc]
    yield front.backend
    front.backend.__init__()  # type: ignore[misc]
