"""Synthetic rows as rows of a training set: of runs that help, of accepted batches, and never more than the cap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from loop import schema
from loop.config import Settings
from loop.lake import Days, Lake, conform
from loop.state import State

KIND = "synthetic"
"""`kind` of such rows among demonstrations: they stay marked wherever they go."""


def most_of(settings: Settings, real: int) -> int:
    """Most synthetic rows beside so many real ones, that they make up no more than their share."""
    share = settings.synthetic_share
    return int(real * share / (1 - share) + 1e-9)


def helping(lake: Lake, days: Days, before: datetime, workflows: Sequence[str] | None = None) -> pa.Table:
    """Kept rows of `synthetic` of runs of which it was known before a time that they help."""
    measured = lake.read("ablations", columns=["run", "helps", "measured_at"])
    runs = measured.filter(pc.and_(measured["helps"], pc.less(measured["measured_at"], before)))["run"]
    rows = lake.read("synthetic", days=days, workflows=workflows)
    return rows.filter(pc.and_(pc.equal(rows["status"], "kept"), pc.is_in(rows["run"], runs.combine_chunks())))


def text_of(prompt: Sequence[Mapping[str, str]]) -> str:
    """A prompt as one text, by which prompts are compared."""
    return "\n".join(message["content"] for message in prompt)


def rows_for(  # noqa: PLR0913 - by keyword
    settings: Settings, lake: Lake, state: State, days: Days, cutoff: datetime, *, real: int
) -> pa.Table:
    """Synthetic demonstrations that a cycle may learn from, schema `demonstrations`, in the order of their ids.

    Known by the cut-off, both the rows and that they help; of each prompt one answer, however many runs wrote one; of
    more than the cap, those whose ids come first, and these are digests.

    Args:
        real: demonstrations of people in the training set.
    """
    if not (most := most_of(settings, real)):
        return schema.DEMONSTRATIONS.empty()
    rows = helping(lake, days, cutoff)
    accepted = pa.array(sorted(state.accepted_digests(*days)), pa.string())
    wanted = pc.and_(pc.less(rows["received_at"], cutoff), pc.is_in(rows["batch"], accepted))
    rows = rows.filter(wanted).sort_by("synthetic_id")
    first: dict[tuple[str, str], int] = {}
    for place, row in enumerate(rows.select(["workflow", "prompt"]).to_pylist()):
        first.setdefault((row["workflow"], text_of(row["prompt"])), place)
    rows = rows.take(pa.array(sorted(first.values()), pa.int64())).slice(0, most)
    columns = {name: rows[name] for name in schema.DEMONSTRATIONS.arrow.names if name in rows.column_names}
    marked = {"demonstration_id": rows["synthetic_id"], "kind": pa.array([KIND] * rows.num_rows, pa.string())}
    return conform(pa.table(columns | marked), schema.DEMONSTRATIONS)
