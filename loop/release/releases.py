"""Model versions and the dated record of who was champion: the tables `models` and `releases`.

`releases` is the truth of what serves; MLflow's alias (registry.py) mirrors it and has no history.

A decision is live if it moved the champion, and the champion only moves forward: a promotion is live if no later cycle
has been decided, its own cycle has not been promoted before, and the champion that it beat still serves. So a rerun or
a backfill of the past is recorded, with what it would have decided, and changes nothing for those who are served; a
cycle that was refused, for want of answers say, may still be decided again while it is the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from loop.errors import BadInputError, LoopError
from loop.evaluate.gate import Decision, Verdict

if TYPE_CHECKING:
    from loop.state import State

BASE: Final = "base"
"""The decision that makes a home's first champion."""
_LOCK: Final = "releases"


@dataclass(frozen=True)
class ModelVersion:
    """A row of `models`."""

    version: str
    parent: str | None
    cycle: date
    training_digest: str | None
    recipe: str
    """JSON."""
    seed: int
    code: str
    weights_digest: str
    path: str
    """Below the home."""
    mlflow_run: str | None
    created_at: datetime


@dataclass(frozen=True)
class Release:
    """A row of `releases`."""

    cycle: date
    attempt: int
    challenger: str | None
    champion_before: str | None
    decision: str
    reasons: Sequence[str]
    evidence: str
    """JSON: see loop.evaluate.evidence."""
    live: bool
    author: str
    run_id: str | None
    decided_at: datetime


def record_model(state: State, model: ModelVersion) -> None:
    """Store a model version. The same again is no error.

    Raises:
        LoopError: another model has that version.
    """
    from sqlalchemy.dialects.postgresql import insert

    with state.transaction() as connection:
        connection.execute(insert(state.tables["models"]).values(asdict(model)).on_conflict_do_nothing())
    stored = model_version(state, model.version)
    if stored.weights_digest != model.weights_digest:
        raise LoopError(
            f"model version {model.version} exists with weights {stored.weights_digest[:12]}, got "
            f"{model.weights_digest[:12]}; a version names one model for ever, so give this one another name"
        )


def model_version(state: State, version: str) -> ModelVersion:
    """The model version of that name.

    Raises:
        LoopError: there is none.
    """
    models = state.tables["models"]
    with state.engine.connect() as connection:
        row = connection.execute(sa.select(models).where(models.c.version == version)).mappings().first()
    if row is None:
        raise LoopError(
            f"no model version {version!r} in this home; its table models, seen with `loop sql`, lists them"
        )
    return ModelVersion(**row)


def champion_as_of(state: State, day: date) -> str | None:
    """The model version that was champion when cycle `day` began; None in a home without a base.

    Of the live promotions of earlier cycles the last, else the base.
    """
    with state.engine.connect() as connection:
        return _champion(connection, state.tables["releases"], before=day)


def champion_now(state: State) -> str | None:
    """The model version that serves. None in a home without a base."""
    with state.engine.connect() as connection:
        return _champion(connection, state.tables["releases"], before=None)


def champions(state: State, most: int) -> list[str]:
    """The last `most` model versions that served, the one that serves now first. Empty in a home without a base."""
    with state.engine.connect() as connection:
        found = connection.execute(_champions(state.tables["releases"]).limit(most)).scalars().all()
    return [str(version) for version in found]


def history(state: State) -> list[Release]:
    """Every decision in the order of cycles and attempts."""
    releases = state.tables["releases"]
    with state.engine.connect() as connection:
        rows = connection.execute(sa.select(releases).order_by(releases.c.cycle, releases.c.attempt)).mappings().all()
    return [Release(**row) for row in rows]


def record_base(state: State, version: str, *, cycle: date, author: str, run_id: str | None) -> Release:
    """Make a model the home's first champion; done again with the same model, the release of the first time.

    It counts as champion from the beginning of time, whatever its `cycle`: imported data may be older than the home.

    Raises:
        BadInputError: the home has another base already.
    """
    releases = state.tables["releases"]
    with state.transaction(lock=_LOCK) as connection:
        row = connection.execute(sa.select(releases).where(releases.c.decision == BASE)).mappings().first()
        if row is not None:
            if row["challenger"] != version:
                raise BadInputError(
                    f"this home's base is {row['challenger']}, got {version}; another base needs another LOOP_HOME"
                )
            return Release(**row)
        release = Release(
            cycle=cycle,
            attempt=_next_attempt(connection, releases, cycle),
            challenger=version,
            champion_before=None,
            decision=BASE,
            reasons=("the first champion is the base",),
            evidence="{}",
            live=True,
            author=author,
            run_id=run_id,
            decided_at=datetime.now(UTC),
        )
        _insert(connection, releases, release)
    return release


def record_release(  # noqa: PLR0913 - one argument a column
    state: State,
    verdict: Verdict,
    *,
    cycle: date,
    challenger: str,
    champion_before: str,
    evidence: str,
    author: str,
    run_id: str | None,
) -> Release:
    """Write a decision as the next attempt of its cycle, and decide in the same transaction whether it is live.

    A promotion that is not live carries as its last reason why not.

    Args:
        champion_before: the champion that the challenger was compared with.
        evidence: JSON.
    """
    releases = state.tables["releases"]
    with state.transaction(lock=_LOCK) as connection:
        hindrance = None
        if verdict.decision is Decision.PROMOTED:
            hindrance = _not_live(connection, releases, cycle, champion_before)
        release = Release(
            cycle=cycle,
            attempt=_next_attempt(connection, releases, cycle),
            challenger=challenger,
            champion_before=champion_before,
            decision=verdict.decision.value,
            reasons=(*verdict.reasons, *([f"not live: {hindrance}"] if hindrance else [])),
            evidence=evidence,
            live=verdict.decision is Decision.PROMOTED and hindrance is None,
            author=author,
            run_id=run_id,
            decided_at=datetime.now(UTC),
        )
        _insert(connection, releases, release)
    return release


# -- inside the lock ------------------------------------------------------------------------------------------------


def _not_live(connection: sa.Connection, releases: sa.Table, cycle: date, champion_before: str) -> str | None:
    """Why a promotion in `cycle` may not move the champion; None if it may."""
    decided = releases.c.decision != BASE
    later = connection.execute(
        sa.select(sa.func.min(releases.c.cycle)).where(decided, releases.c.cycle > cycle)
    ).scalar()
    if later is not None:
        return f"cycle {later} has been decided since"
    before = connection.execute(
        sa.select(releases.c.challenger).where(decided, releases.c.live, releases.c.cycle == cycle)
    ).scalar()
    if before is not None:
        return f"this cycle has promoted {before} already"
    serving = _champion(connection, releases, before=cycle)
    if serving != champion_before:
        return f"it was compared with {champion_before}, and {serving} is champion"
    return None


def _champion(connection: sa.Connection, releases: sa.Table, *, before: date | None) -> str | None:
    """The last live promotion, of cycles before `before` if that is given, else the base."""
    query = _champions(releases).limit(1)
    if before is not None:
        query = query.where(sa.or_(releases.c.decision == BASE, releases.c.cycle < before))
    found = connection.execute(query).scalar()
    return None if found is None else str(found)


def _champions(releases: sa.Table) -> sa.Select[tuple[str]]:
    """Everything that was ever promoted and live, the last first, the base last."""
    return (
        sa.select(releases.c.challenger)
        .where(releases.c.live)
        .order_by(releases.c.decision == BASE, releases.c.cycle.desc(), releases.c.attempt.desc())
    )


def _next_attempt(connection: sa.Connection, releases: sa.Table, cycle: date) -> int:
    last = connection.execute(sa.select(sa.func.max(releases.c.attempt)).where(releases.c.cycle == cycle)).scalar()
    return (last or 0) + 1


def _insert(connection: sa.Connection, releases: sa.Table, release: Release) -> None:
    connection.execute(sa.insert(releases).values({**asdict(release), "reasons": list(release.reasons)}))
