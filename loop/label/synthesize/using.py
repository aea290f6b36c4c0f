"""Synthetic rows as rows of a training set: of runs that help, of accepted batches, and never more than the cap."""

from __future__ import annotations

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


def rows_for(  # noqa: PLR0913 - by keyword
    settings: Settings, lake: Lake, state: State, days: Days, cutoff: datetime, *, real: int
) -> pa.Table:
    """Synthetic demonstrations that a cycle may learn from, schema `demonstrations`, in the order of their ids.

    Known by the cut-off, both the rows and that they help; of more than the cap, those whose ids come first, and these
    are digests.

    Args:
        real: demonstrations of people in the training set.
    """
    measured = lake.read("ablations", columns=["run", "helps", "measured_at"])
    helping = measured.filter(pc.and_(measured["helps"], pc.less(measured["measured_at"], cutoff)))["run"]
    if not len(helping) or not (most := most_of(settings, real)):
        return schema.DEMONSTRATIONS.empty()
    rows = lake.read("synthetic", days=days)
    accepted = pa.array(sorted(state.accepted_digests(*days)), pa.string())
    wanted = pc.and_(pc.equal(rows["status"], "kept"), pc.is_in(rows["run"], helping.combine_chunks()))
    wanted = pc.and_(wanted, pc.and_(pc.less(rows["received_at"], cutoff), pc.is_in(rows["batch"], accepted)))
    rows = rows.filter(wanted).sort_by("synthetic_id").slice(0, most)
    columns = {name: rows[name] for name in schema.DEMONSTRATIONS.arrow.names if name in rows.column_names}
    marked = {"demonstration_id": rows["synthetic_id"], "kind": pa.array([KIND] * rows.num_rows, pa.string())}
    return conform(pa.table(columns | marked), schema.DEMONSTRATIONS)
