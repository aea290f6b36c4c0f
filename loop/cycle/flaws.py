"""What a cycle looks at beside the panel: gaps between groups that grow, and acceptance that no outcome bears out.

Both compare what people were shown and let stand over cycles, so they cost no answer more than the cycle gives anyway.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from loop import schema
from loop.cycle.reading import window
from loop.evaluate import amplification, panel, parting
from loop.evaluate.amplification import Amplification, Answers
from loop.evaluate.parting import Parting
from loop.home import Home
from loop.release import releases
from loop.release.releases import ModelVersion
from loop.train import dataset

MOST: Final = 5_000
"""Answers of a workflow that are looked at on each side; of more, those of the latest decisions."""
_COLUMNS: Final = (
    *("event_id", "revises", "suggestion_id", "workflow", "shown_at", "decided_at", "received_at", "team", "region"),
    *("prompt", "candidates", "model_version", "decision", "batch"),
)


@dataclass(frozen=True)
class Flaws:
    """What was found; what could not be measured is not in it."""

    amplified: list[Amplification]
    partings: list[Parting]


def flaws(  # noqa: PLR0913, PLR0917 - two models, what they answered, and when
    home: Home, cycle: date, challenger: ModelVersion, champion: ModelVersion, posed: pa.Table, cutoff: datetime
) -> Flaws:
    """Of the challenger, by its answers to the benchmark, and of what people were shown of the last champions.

    Args:
        posed: the cycle's comparisons.
        cutoff: until when events and outcomes had been received.
    """
    days = window(home, cycle)
    accepted = pa.array(sorted(home.state.accepted_digests(*days)), pa.string())
    rows = home.lake.read("interactions", days=days, columns=_COLUMNS)
    rows = rows.filter(pc.and_(pc.less(rows["received_at"], cutoff), pc.is_in(rows["batch"], accepted)))
    outcomes = home.lake.read("outcomes", days=days)
    served = [release.challenger for release in releases.history(home.state) if release.live and release.challenger]
    return Flaws(
        [
            *_amplified(home, challenger, _answered(posed), rows, "challenger"),
            *_amplified(home, champion, _shown(rows, champion.version), rows, "champion as served"),
        ],
        parting.partings(
            rows,
            outcomes.filter(pc.less(outcomes["received_at"], cutoff)),
            versions=list(dict.fromkeys(served)),
            now=cutoff,
        ),
    )


def _amplified(
    home: Home, model: ModelVersion, outs: Mapping[str, Answers], rows: pa.Table, of: str
) -> list[Amplification]:
    """What a model's answers are beside what it learned from; a base learned from no decision of people."""
    if model.training_digest is None or model.parent is None:
        return []
    learned = _learned(dataset.load(home.settings.training_sets, model.training_digest).demonstrations, rows)
    both = [name for name in schema.WORKFLOWS if name in learned and name in outs]
    return [amplification.amplification(learned[name], outs[name], of=of) for name in both]


def _learned(demonstrations: pa.Table, rows: pa.Table) -> dict[str, Answers]:
    """The texts that people let stand, with team and region where the decision is still in the window."""
    whose = {
        event: (team, region)
        for event, team, region in zip(*(rows[c].to_pylist() for c in ("event_id", "team", "region")), strict=True)
    }
    found = demonstrations.select(["workflow", "prompt", "answer", "event_id", "received_at"])
    return _by_workflow(
        found,
        lambda row: row["answer"],
        lambda row: dict(zip(("team", "region"), whose.get(row["event_id"], (None, None)), strict=True)),
    )


def _shown(rows: pa.Table, version: str) -> dict[str, Answers]:
    """The first candidate of each suggestion: those to one prompt are too alike to count as several answers."""
    mine = rows.filter(pc.equal(rows["model_version"], version))
    return _by_workflow(
        mine.select(["workflow", "prompt", "candidates", "team", "region", "received_at"]),
        lambda row: row["candidates"][0]["text"],
        lambda row: {"team": row["team"], "region": row["region"]},
    )


def _answered(posed: pa.Table) -> dict[str, Answers]:
    challenger, _ = panel.answers_of_models(posed)
    found = posed.select(["workflow", "prompt"]).append_column("answer", pa.array(challenger, pa.string()))
    return _by_workflow(found, lambda row: row["answer"], lambda _: {})


def _by_workflow(rows: pa.Table, text: Any, groups: Any) -> dict[str, Answers]:
    """One `Answers` a workflow; `text` gives a row's answer, `groups` the groups of which its prompt is silent."""
    if "received_at" in rows.column_names:
        rows = rows.sort_by([("received_at", "descending")])
    made = {}
    for name in rows["workflow"].unique().to_pylist():
        part = rows.filter(pc.equal(rows["workflow"], name)).slice(0, MOST).to_pylist()
        asked = [amplification.prompt_text(row["prompt"]) for row in part]
        told = amplification.groups_of(name, asked)
        known = [groups(row) for row in part]
        for attribute in known[0]:
            told[attribute] = [one[attribute] for one in known]
        made[name] = Answers(name, asked, [text(row) for row in part], told)
    return made
