"""How tests read traces that they made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.collect.sources.drawn import Drawn, draw, written
from tests.collect.sources.otlp import Read


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """OTLP documents, as JSON lines, to what they come to."""

    def of(*documents: Any, workflow: str | None = "comms", **scores: tuple[str, str]) -> Drawn:
        return draw("otel", written(tmp_path / "traces.jsonl", *documents), workflow, **scores)

    return of
