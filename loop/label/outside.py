"""Who labels elsewhere, in a Label Studio or at a vendor's: known here by a pseudonym, without a login."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa

from loop import schema
from loop.collect.events import pseudonyms
from loop.collect.files import ERASED, stone
from loop.config import Settings
from loop.errors import BadInputError
from loop.label.tasks import Kind
from loop.state import State, audit

DAILY_MINUTES: Final = 24 * 60
"""Nobody here shares out what is labelled elsewhere, so nothing is limited here."""
NEVER: Final = datetime.max.replace(tzinfo=UTC)


def bury(connection: sa.Connection, settings: Settings, names: Iterable[str]) -> None:
    """Note pseudonyms as erased: what is read again elsewhere, or sent again, is not to come back."""
    query = sa.text(
        "INSERT INTO event_index (event_id, content, landing_id) SELECT unnest(CAST(:stones AS text[])), :erased, '' "
        "ON CONFLICT DO NOTHING"
    )
    connection.execute(query, {"stones": [_stone(settings, name) for name in names], "erased": ERASED})


def erased(settings: Settings, state: State, people: Iterable[str]) -> dict[str, datetime]:
    """Of people, by their ids: who was erased, and before when what they said is not to be stored.

    That is when they were asked in anew, and for whoever was not, the end of time.
    """
    names = {person: pseudonyms(person, settings) for person in people}
    stones = {_stone(settings, name): name for some in names.values() for name in some}
    annotators = state.tables["annotators"]
    with state.engine.connect() as connection:
        query = sa.text("SELECT event_id FROM event_index WHERE event_id = ANY(:stones)")
        gone = {stones[key] for key in connection.execute(query, {"stones": list(stones)}).scalars()}
        which = annotators.c.annotator.in_(sorted(stones.values()))
        joined = dict(connection.execute(sa.select(annotators.c.annotator, annotators.c.joined_at).where(which)).all())
    return {
        person: max((joined[name] for name in some if name in joined), default=NEVER)
        for person, some in names.items()
        if gone.intersection(some)
    }


def _stone(settings: Settings, name: str) -> str:
    return stone(settings, f"annotator:{name}")


def enlist(  # noqa: PLR0913 - by keyword, one a column
    settings: Settings,
    state: State,
    *,
    person: str,
    source: str,
    workflows: Sequence[str] | None = None,
    pay_per_hour: float | None = None,
    removed: bool = False,
    author: str,
) -> str:
    """Have a person's answers count; the pseudonym. Who annotates already, wherever, stays as noted.

    Args:
        removed: whether somebody who was removed is named all the same, and stays removed.

    Raises:
        BadInputError: no person is named, or the person was removed.
    """
    if not person.strip():
        raise BadInputError("person: expected an id, got an empty one")
    names = pseudonyms(person, settings)
    table = state.tables["annotators"]
    with state.transaction(lock="annotators") as connection:
        known = connection.execute(sa.select(table).where(table.c.annotator.in_(names))).mappings().first()
        if known is not None:
            if known["removed_at"] is not None and not removed:
                raise BadInputError(f"{known['annotator']} was removed; `loop annotators add` asks a person in again")
            return str(known["annotator"])
        values = {
            "annotator": names[0],
            "source": source,
            "workflows": list(workflows or schema.WORKFLOWS),
            "kinds": [kind.value for kind in Kind],
            "harmful": False,
            "daily_minutes": DAILY_MINUTES,
            "daily_harmful": 0,
            "pay_per_hour": pay_per_hour,
            "joined_at": datetime.now(UTC),
            "joined_by": author,
        }
        connection.execute(sa.insert(table).values(**values))
        audit(connection, "annotator.enlist", source, author, {})
    return names[0]
