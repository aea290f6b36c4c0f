"""One organisation and one of its days, for every test of the simulation."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from habitual import MONDAY, Base

from loop.simulate.organisation import Organisation


@pytest.fixture(scope="session")
def organisation() -> Organisation:
    return Organisation(0)


@pytest.fixture(scope="session")
def base(organisation: Organisation) -> Base:
    return Base(organisation)


@pytest.fixture(scope="session")
def events(base: Base) -> list[dict[str, Any]]:
    """An ordinary day's events."""
    week = (MONDAY + timedelta(days=i) for i in range(7))
    return base.day(next(day for day in week if not base.organisation.day(day).campaign))
