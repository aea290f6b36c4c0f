"""From labels to a training set: what a cycle may learn from, frozen."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from loop.cycle.reading import cutoff_of, labels, learned_until, parent_version, record, window
from loop.home import Home
from loop.label.aggregate import teaching
from loop.label.synthesize import using
from loop.release import releases
from loop.schema import Split
from loop.train import dataset
from loop.validate.signal_days import revised


@dataclass(frozen=True)
class TrainingSet:
    """A frozen training set and where its rows came from."""

    digest: str
    attempt: int
    cutoff: datetime
    demonstrations: int
    preferences: int
    fresh: int
    """Rows that the champion has not learned from; the rest is replayed, or synthetic."""
    synthetic: int
    """Demonstrations that a model wrote; see loop/label/synthesize."""
    from_annotators: int
    """Rows that annotators' answers teach; see loop/label/aggregate/teaching.py."""
    annotators_aside: dict[str, int]
    """What annotators said and is not learned from, by reason."""
    replaced: int
    """Preferences of decisions between two texts that annotators compared: their label stands in their place."""
    left_out: int
    """Rows that the cycle might have read and that the limit or the replay share left out."""
    received_later: int
    """Rows of the window's accepted batches that came in after the cut-off: a later cycle's."""
    table_versions: dict[str, int | None]

    def told(self) -> dict[str, Any]:
        told = asdict(self) | {"cutoff": self.cutoff.isoformat()}
        aside = told.pop("annotators_aside")
        return told | {f"annotators, set aside/{reason}": count for reason, count in sorted(aside.items())}


def training_set(home: Home, cycle: date) -> TrainingSet:
    """Freeze what the cycle may learn from: all that is fresh, and a share of what is older."""
    read = ("interactions", "label_tasks", "task_labels", "demonstrations", "preferences", "synthetic")
    with home.lake.pinned(*read):  # what is read is frozen before an erasure looks for it
        return _training_set(home, cycle)


def _training_set(home: Home, cycle: date) -> TrainingSet:
    cutoff = cutoff_of(cycle)
    since = learned_until(home, cycle)
    versions = {name: home.lake.version(name) for name in ("demonstrations", "preferences")}
    asked = {name: home.lake.version(name) for name in ("label_tasks", "task_labels")}
    chosen: dict[str, pa.Table] = {}
    fresh_rows = left_out = later = replaced = from_annotators = 0
    learned = _learned_of_annotators(home, cycle)
    annotated = teaching.taught(home.settings, home.lake, home.state, window(home, cycle), cutoff, versions=asked)
    for name, read in versions.items():
        own = labels(home, name, cycle, cutoff, split=Split.TRAIN, version=read)
        more = annotated.preferences if name == "preferences" else annotated.demonstrations
        rows = teaching.instead_of(own, more) if name == "preferences" else own
        replaced += own.num_rows - rows.num_rows
        if home.settings.signals:
            rows = revised(home.lake, rows, cycle)
        is_fresh = pc.greater_equal(rows["received_at"], since)
        is_known = pc.is_in(more[more.column_names[0]], learned)
        fresh, older = (
            pa.concat_tables([rows.filter(mine), more.filter(theirs)])
            for mine, theirs in ((is_fresh, pc.invert(is_known)), (pc.invert(is_fresh), is_known))
        )
        composed = dataset.compose(
            fresh,
            older,
            replay_share=home.settings.replay_share,
            limit=home.settings.training_rows,
            seed=home.settings.seed,
        )
        everything = labels(home, name, cycle, datetime.max.replace(tzinfo=UTC), split=Split.TRAIN, version=read)
        later += pc.sum(pc.greater_equal(everything["received_at"], cutoff)).as_py() or 0
        left = composed.fresh_left + composed.older_left
        assert composed.rows.num_rows + left == rows.num_rows + more.num_rows, f"{name}: a row was lost"
        chosen[name] = composed.rows
        theirs = pc.is_in(composed.rows["kind"], pa.array([teaching.JUDGED, teaching.REWRITTEN]))
        from_annotators += pc.sum(theirs).as_py() or 0
        fresh_rows += composed.fresh
        left_out += left
    real = chosen["demonstrations"]
    versions |= asked | {name: home.lake.version(name) for name in ("synthetic", "ablations")}
    made = using.rows_for(home.settings, home.lake, home.state, window(home, cycle), cutoff, real=real.num_rows)
    chosen["demonstrations"] = pa.concat_tables([real, made])
    frozen = dataset.freeze(
        chosen["demonstrations"],
        chosen["preferences"],
        root=home.settings.training_sets,
        salt_key=home.settings.secret("salt"),
        meta={"cycle": cycle.isoformat(), "synthetic": made.num_rows},
        synthetic_share=home.settings.synthetic_share,
    )
    attempt = record(
        home,
        "training_sets",
        cycle,
        digest=frozen.digest,
        cutoff=cutoff,
        demonstrations=chosen["demonstrations"].num_rows,
        preferences=chosen["preferences"].num_rows,
        table_versions=json.dumps(versions),
        path=home.relative(frozen.path),
        frozen_at=datetime.now(UTC),
    )
    return TrainingSet(
        digest=frozen.digest,
        attempt=attempt,
        cutoff=cutoff,
        demonstrations=chosen["demonstrations"].num_rows,
        preferences=chosen["preferences"].num_rows,
        fresh=fresh_rows,
        synthetic=made.num_rows,
        from_annotators=from_annotators,
        annotators_aside=dict(annotated.set_aside),
        replaced=replaced,
        left_out=left_out,
        received_later=later,
        table_versions=versions,
    )


def _learned_of_annotators(home: Home, cycle: date) -> pa.Array:
    """Ids of the rows by annotators that the model which the cycle trains from, or an ancestor, has learned from.

    These lead the time of what they say: a label that is made after its cycle was frozen is fresh to the next. Looked
    at are the training sets of the window's cycles, for no older row is read again.
    """
    first, found = window(home, cycle)[0], set[str]()
    version = parent_version(home, cycle)
    while version is not None:
        model = releases.model_version(home.state, version)
        if model.cycle < first or model.training_digest is None:
            break
        kept = (home.settings.training_sets / model.training_digest / dataset.MANIFEST).exists()
        frozen = dataset.load(home.settings.training_sets, model.training_digest) if kept else None
        for rows in (frozen.demonstrations, frozen.preferences) if frozen else ():
            theirs = rows.filter(pc.is_in(rows["kind"], pa.array([teaching.JUDGED, teaching.REWRITTEN])))
            found.update(theirs[theirs.column_names[0]].to_pylist())
        version = model.parent
    return pa.array(sorted(found), pa.string())
