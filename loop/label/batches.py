"""The labels of a partition, written where `training_set` finds them."""

from __future__ import annotations

from datetime import date

from loop.config import Settings
from loop.label.derive import Labels, derive
from loop.lake import Lake
from loop.validate.batches import rows_of


def build(settings: Settings, lake: Lake, day: date, workflow: str) -> Labels:
    """Derive and write the labels of one day and workflow. Each carries the digest of the batch that it came from."""
    with lake.pinned("interactions"):  # an erasure waits until what was read of it stands where it looks next
        labels = derive(
            rows_of(lake, day, workflow),
            held_out_share=settings.held_out_share,
            seed=settings.seed,
            signals=lake.read("signals", days=(day, day), workflows=[workflow]) if settings.signals else None,
        )
        lake.overwrite("demonstrations", labels.demonstrations, day=day, workflow=workflow)
        lake.overwrite("preferences", labels.preferences, day=day, workflow=workflow)
    return labels
