"""Synthesis in a home: over which days, by which model, and by whose taste. What a run does stands in `loop.label`."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from loop.errors import LoopError
from loop.home import Home
from loop.label.select.learned import committee_of
from loop.label.synthesize.generate import Champion, Endpoint, Generator
from loop.label.synthesize.run import Synthesised
from loop.label.synthesize.run import synthesise as run
from loop.release import releases


def synthesise(  # noqa: PLR0913 - by keyword
    home: Home, workflow: str, days: tuple[date, date], *, by: str = "team", n: int = 4, most: int = 200
) -> Synthesised:
    """Write answers for the thin slices of some days of a workflow; the best of each prompt, by the committee, is kept.

    Args:
        by: see `loop.label.synthesize.run`, likewise `n` and `most`.

    Raises:
        LoopError: there is no model to write with, or the server refuses.
    """
    after = days[1] + timedelta(days=1)
    committee, _ = committee_of(home.settings, home.lake, home.state, after, workflow)
    return run(
        home.settings,
        home.lake,
        home.state,
        workflow,
        days,
        generator_of(home, workflow),
        now=datetime.now(UTC),
        by=by,
        n=n,
        most=most,
        scorer=None if committee is None else committee.score,
    )


def generator_of(home: Home, workflow: str) -> Generator:
    """Who writes: the server that is set, else the champion.

    Raises:
        LoopError: there is neither.
    """
    settings = home.settings
    if settings.synthesis_url is not None:
        key = settings.secret_text("synthesis")
        return Endpoint(settings.synthesis_url, key, settings.synthesis_model or workflow, workflow)
    if (version := releases.champion_now(home.state)) is None:
        raise LoopError("no model to write with: `loop cycle` makes the first champion, or set synthesis_url")
    return Champion(version, home.path(releases.model_version(home.state, version).path), workflow)
