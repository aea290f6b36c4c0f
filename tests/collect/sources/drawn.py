"""What a source of traces comes to: its events, strictly decoded, its faults and its tally."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop.collect.events import decode
from loop.collect.record import Record, Tally
from loop.collect.sources import opened
from loop.collect.sources.verdicts import Reading, Scale

KEY = b"a secret of the home"


@dataclass(frozen=True)
class Drawn:
    events: list[dict[str, Any]]
    faults: list[Record]
    tally: Tally

    @property
    def event(self) -> dict[str, Any]:
        [event] = self.events
        assert self.faults == []
        return event

    @property
    def decision(self) -> tuple[Any, ...]:
        event = self.event
        return event["decision"], event["chosen"], event["final_text"]

    @property
    def why(self) -> tuple[str, str]:
        assert self.events == []
        [record] = self.faults
        assert record.fault is not None
        return record.fault.reason.value, record.fault.explanation


def draw(name: str, path: Path, workflow: str | None = "comms", **scores: tuple[str, str]) -> Drawn:
    scales = {score.replace("_", "-"): Scale(*values) for score, values in scores.items()}
    source = opened(name, path, reading=Reading(workflow, scales, KEY))
    assert source.name == name
    records = list(source.records)
    good = [record for record in records if record.fault is None]
    for record in good:
        decode(record.raw)
    return Drawn([json.loads(r.raw) for r in good], [r for r in records if r.fault is not None], source.tally)


def written(path: Path, *documents: Any) -> Path:
    """The documents as JSON lines."""
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return path
