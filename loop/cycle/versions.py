"""Model versions: what names one, how it is found again, registered, and tagged when rows that made it were erased."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

import sqlalchemy as sa

from loop import __version__
from loop.errors import LoopError
from loop.home import Home
from loop.release import registry, releases, taints
from loop.release.releases import ModelVersion


def recipe_of(home: Home) -> dict[str, Any]:
    """What of the settings decides how a challenger is trained; the rest of the recipe is in the code."""
    return {"sft": {"steps": home.settings.sft_steps}, "dpo": {"steps": home.settings.dpo_steps}}


@cache
def code() -> str:
    """The code's version, and a digest of what trains: a changed learning rate makes another model."""
    folder = files("loop")
    sources = [p for room in ("models", "train") for p in sorted((folder / room).iterdir(), key=lambda p: p.name)]
    sha = hashlib.sha256()
    for source in sources:
        if source.name.endswith(".py"):
            sha.update(source.read_bytes())
    return f"{__version__}+{sha.hexdigest()[:8]}"


def version_of(parent: str, digest: str, recipe: Mapping[str, Any], seed: int) -> str:
    """The same parent, rows, recipe, seed and code make the same model: that is its name."""
    told = json.dumps([parent, digest, recipe, seed, code()], sort_keys=True)
    return f"m-{hashlib.sha256(told.encode()).hexdigest()[:12]}"


def existing(home: Home, version: str) -> ModelVersion | None:
    """The model of that version, if it was made and its weights are still what they were."""
    models = home.state.tables["models"]
    with home.state.engine.connect() as connection:
        row = connection.execute(sa.select(models).where(models.c.version == version)).mappings().first()
    if row is None:
        return None
    from loop.models import weights_digest

    found = ModelVersion(**row)
    weights = home.path(found.path)
    if not weights.exists():
        return None
    if weights_digest(weights) != found.weights_digest:
        raise LoopError(f"the weights of {version} at {weights} were changed after they were registered")
    return found


def register(home: Home, run: registry.PolicyRun) -> ModelVersion:
    """Log the making of a model to MLflow and store it as a version."""
    made = ModelVersion(
        version=run.version,
        parent=run.parent,
        cycle=run.cycle,
        training_digest=run.training_digest,
        recipe=json.dumps(run.recipe, sort_keys=True),
        seed=run.seed,
        code=run.code,
        weights_digest=run.weights_digest,
        path=home.relative(run.path),
        mlflow_run=home.registry.log(run),
        created_at=datetime.now(UTC),
    )
    releases.record_model(home.state, made)
    return made


def mark(home: Home, own: Mapping[str, tuple[int, int]], *, anew: bool = False) -> list[taints.Taint]:
    """Tag model versions as tainted, here and in MLflow; see `taints.tag`.

    Args:
        anew: whether to tag in MLflow all that are tainted, for an earlier tagging may have been cut short.
    """
    changed = taints.tag(home.state, own)
    for taint in taints.tainted(home.state).values() if anew else changed:
        run = releases.model_version(home.state, taint.version).mlflow_run
        if run is not None:
            home.registry.taint(run, share=taint.share, ancestor=taint.ancestor)
    return changed
