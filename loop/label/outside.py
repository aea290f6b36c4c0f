"""Who labels elsewhere, in a Label Studio or at a vendor's: known here by a pseudonym, without a login."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa

from loop import schema
from loop.collect.events import pseudonyms
from loop.config import Settings
from loop.errors import BadInputError
from loop.label.tasks import Kind
from loop.state import State, audit

DAILY_MINUTES: Final = 24 * 60
"""Nobody here shares out what is labelled elsewhere, so nothing is limited here."""


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
