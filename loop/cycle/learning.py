"""From a training set to a challenger: the base, and the policy trained from the champion."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from loop.cycle.reading import cutoff_of, latest, window
from loop.cycle.versions import code, existing, mark, recipe_of, register, version_of
from loop.errors import LoopError
from loop.home import Home
from loop.release import registry, releases, taints
from loop.release.releases import ModelVersion
from loop.services import processes
from loop.train import corpus, dataset

if TYPE_CHECKING:
    from loop.train.curve import Curve

Progress = Callable[[int, int], None]

CONTEXT = 128
"""Tokens of a prompt that a nano sees."""
ERASING: Final = "erase.lock"
"""The lock of the home that whoever takes rows away holds."""
_PATIENCE: Final = 3600.0
"""Seconds for which an erasure is waited for."""
GIVEN, SHOWN = "given by the organisation", "shown to its people"
"""Where the texts of a base come from."""


# -- policy ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Policy:
    """A challenger, and how it came to be."""

    version: str
    parent: str
    training_digest: str
    reused: bool
    """Whether the same inputs had made it before; then nothing was trained."""
    seconds: float | None
    losses: dict[str, float]
    """Last loss by method; a method that did not train is not in it."""
    cut_texts: int | None
    """Prompts and answers of which the model saw only the end."""
    mlflow_page: str | None

    def told(self) -> dict[str, Any]:
        plain = {"version", "parent", "training_digest", "reused", "seconds", "cut_texts"}
        shown = {k: v for k, v in asdict(self).items() if k in plain and v is not None}
        return shown | {f"loss/{method}": loss for method, loss in self.losses.items()}


def policy(home: Home, cycle: date, *, run_id: str | None = None, progress: Progress | None = None) -> Policy:
    """Train the cycle's challenger: SFT on demonstrations, then DPO on preferences. See `parent_of` for from what.

    Raises:
        LoopError: rows of the training set were erased, or kept long enough, or it is not what was frozen.
    """
    from loop.models import weights_digest
    from loop.train import dpo, sft

    frozen = latest(home, "training_sets", cycle)
    parent = parent_of(home, cycle)
    settings, recipe = home.settings, recipe_of(home)
    for lost, how in (
        (dataset.erased(home.path(frozen["path"]))[0], "were erased"),
        (dataset.expired(home.path(frozen["path"])), "went with their retention"),
    ):
        if lost:
            raise LoopError(
                f"{lost} rows of training set {frozen['digest'][:12]} {how} since it was frozen: materialise the "
                f"training set of cycle {cycle} again"
            )
    version = version_of(parent.version, frozen["digest"], recipe, settings.seed)
    if (known := existing(home, version)) is not None:
        page = known.mlflow_run and home.registry.page(known.mlflow_run)
        return Policy(version, parent.version, frozen["digest"], True, None, {}, None, page)

    if problems := dataset.verify(home.path(frozen["path"])):
        raise LoopError(f"training set {frozen['digest']} is not what was frozen: {'; '.join(problems[:3])}")
    rows = dataset.load(settings.training_sets, frozen["digest"])
    target, work = settings.models / version, settings.models / f".{version}.sft"
    for leftover in (target, work):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        curves = [
            sft.train(
                home.path(parent.path),
                rows.demonstrations,
                work,
                steps=settings.sft_steps,
                seed=settings.seed,
                progress=progress,
            ),
            dpo.train(work, rows.preferences, target, steps=settings.dpo_steps, seed=settings.seed, progress=progress),
        ]
    finally:
        shutil.rmtree(work, ignore_errors=True)
    made = register(
        home,
        registry.PolicyRun(
            version=version,
            parent=parent.version,
            cycle=cycle,
            path=target,
            weights_digest=weights_digest(target),
            training_digest=frozen["digest"],
            training_path=home.path(frozen["path"]),
            seed=settings.seed,
            code=code(),
            recipe=recipe,
            curves=curves,
            tags={"attempt": str(frozen["attempt"]), **({"dagster_run": run_id} if run_id else {})},
        ),
    )
    mark(home, {version: dataset.erased(home.path(frozen["path"]))})  # there may have been an erasure meanwhile
    return Policy(
        version,
        parent.version,
        frozen["digest"],
        False,
        sum(c.seconds for c in curves),
        {c.method: c.losses[-1] for c in curves if c.losses},
        sum(c.cut_texts for c in curves),
        made.mlflow_run and home.registry.page(made.mlflow_run),
    )


def champion_of(home: Home, cycle: date) -> ModelVersion:
    """Who was champion when the cycle's day began; the base, made now, where nobody was."""
    if (version := releases.champion_as_of(home.state, cycle)) is None:
        return base(home, cycle)
    champion = releases.model_version(home.state, version)
    if champion.parent is None and champion.cycle > cycle and json.loads(champion.recipe).get("texts") == SHOWN:
        raise LoopError(
            f"the base was pretrained on what people were shown up to {champion.cycle}: a cycle of {cycle} would know "
            "its future; run the earliest cycle first, in a home of its own"
        )
    return champion


def parent_of(home: Home, cycle: date) -> ModelVersion:
    """The model that the cycle's challenger is trained from: the champion, if no row that made it was erased since.

    Else the nearest of the champion's ancestors of which that is true; where the base itself learned from such a row,
    a base made anew, which is nobody's champion.
    """
    champion = champion_of(home, cycle)
    if (version := taints.untainted(home.state, champion.version)) is not None:
        return releases.model_version(home.state, version)
    models, marked = home.state.tables["models"], set(taints.tainted(home.state))
    query = sa.select(models).where(models.c.parent.is_(None)).order_by(models.c.created_at.desc())
    with home.state.engine.connect() as connection:
        bases = [ModelVersion(**row) for row in connection.execute(query).mappings()]
    clean = (made for made in bases if made.version not in marked and made.cycle <= cycle)
    return next(clean, None) or base(home, cycle, anew=True)


def base(home: Home, cycle: date, *, anew: bool = False, progress: Progress | None = None) -> ModelVersion:
    """Make the home's first champion: the model that `base_model` names, or a nano pretrained here.

    A nano learns from the organisation's own texts: those in the home's corpus folder if there are any, else the
    prompts and shown suggestions of the training split that had been received by the cycle's cut-off.

    Args:
        anew: whether it is to stand beside the first champion, which is tainted, and not to be one.

    Raises:
        LoopError: there is no text to pretrain on.
    """
    from loop.models import Model, weights_digest
    from loop.train import nano

    settings, began = home.settings, datetime.now(UTC)
    target = settings.models / "base"
    curves: list[Curve] = []
    digest, steps, texts = None, 0, None
    shutil.rmtree(target, ignore_errors=True)
    if settings.base_model == "nano":
        pairs, texts = corpus.read(settings.corpus), GIVEN
        if not pairs:
            texts = SHOWN
            pairs = _shown(home, cycle)
        if not pairs:
            raise LoopError(
                "no text to pretrain a base on: no corpus, and in accepted batches no row of the training side that "
                f"was received before {cutoff_of(cycle):%Y-%m-%d %H:%M}; a cycle reads only what had come in by then"
            )
        digest = corpus.digest(pairs)
        steps = _base_steps(home, pairs)
        curves = [nano.build(pairs, target, seed=settings.seed, steps=steps, progress=progress)]
    else:
        Model.load(settings.base_model).save(target)
    recipe = {"base": settings.base_model, "steps": steps, "texts": texts}
    version = version_of("", digest or settings.base_model, recipe, settings.seed)
    if (known := existing(home, version)) is None:
        final = settings.models / version
        shutil.rmtree(final, ignore_errors=True)
        target.rename(final)
        known = register(
            home,
            registry.PolicyRun(
                version=version,
                parent=None,
                cycle=cycle,
                path=final,
                weights_digest=weights_digest(final),
                training_digest=digest,
                training_path=None,
                seed=settings.seed,
                code=code(),
                recipe=recipe,
                curves=curves,
            ),
        )
        if texts == SHOWN:
            _look_again(home, known, pairs, began)
    if anew:
        return known
    releases.record_base(home.state, version, cycle=cycle, author="loop", run_id=None)
    if known.mlflow_run is not None and releases.champion_now(home.state) == version:
        home.registry.point_champion(known.mlflow_run)
    return known


def _shown(home: Home, cycle: date) -> list[corpus.Pair]:
    days = window(home, cycle)
    return corpus.shown(
        home.lake.read("interactions", days=days),
        accepted=home.state.accepted_digests(*days),
        cutoff=cutoff_of(cycle),
        held_out_share=home.settings.held_out_share,
        seed=home.settings.seed,
    )


def _look_again(home: Home, base: ModelVersion, pairs: Sequence[corpus.Pair], began: datetime) -> None:
    """Tag a base that was being pretrained on pairs while they were erased: the erasure did not know it yet.

    One that is under way knows the base by now, or has told the rows before that: it is waited for, and what is missing
    then went.
    """
    with suppress(LoopError), processes.locked(home.settings, ERASING, patience=_PATIENCE):
        pass
    erasures = home.state.tables["erasures"]
    since = sa.select(erasures.c.erasure_id).where(
        sa.or_(erasures.c.finished_at.is_(None), erasures.c.finished_at >= began)
    )
    with home.state.engine.connect() as connection:
        if connection.execute(since).first() is None:
            return
    learned, left = (Counter(map(json.dumps, some)) for some in (pairs, _shown(home, base.cycle)))
    if lost := (learned - left).total():
        mark(home, {base.version: (lost, learned.total())})


def _base_steps(home: Home, pairs: Sequence[corpus.Pair]) -> int:
    """As many steps of 32 pairs as the token budget allows: long prompts cost more, so there are fewer steps."""
    seen = [min(sum(len(m["content"]) for m in prompt), CONTEXT * 4) + len(answer) for prompt, answer in pairs]
    tokens = sum(seen) / len(seen) / 4  # about four characters a token
    return max(1, min(home.settings.base_steps, round(home.settings.base_tokens / (32 * tokens))))
