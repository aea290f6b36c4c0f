"""A labelling page and its home, which the tests of one file share, empty for each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from loop.home import Home
from loop.services import Urls
from tests.gateway.fronts import Running
from tests.gateway.labelling.labellers import cleared, labelling

Counted = Callable[[str], float]


@pytest.fixture(scope="module")
def shared(postgres_urls: Urls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, Running]]:
    with labelling(postgres_urls, tmp_path_factory.mktemp("labelling")) as made:
        yield made


@pytest.fixture
def home(shared: tuple[Home, Running]) -> Home:
    cleared(*shared)
    return shared[0]


@pytest.fixture
def running(shared: tuple[Home, Running], home: Home) -> Running:
    return shared[1]


@pytest.fixture
def counted(running: Running) -> Counted:
    """How often an outcome was counted since."""

    def count(outcome: str) -> float:
        found = running.front.metrics.registry.get_sample_value("loop_gateway_annotations_total", {"outcome": outcome})
        return found or 0.0

    before = {}
    for family in running.front.metrics.registry.collect():
        for sample in family.samples:
            if sample.name == "loop_gateway_annotations_total":
                before[sample.labels["outcome"]] = sample.value
    return lambda outcome: count(outcome) - before.get(outcome, 0.0)
