"""The people who label: who is asked in and until when, what each is asked, and what each may be asked at most.

A person is known by a pseudonym alone. The token has the form of the gateway's, `loop_<id>_<secret>`, and of its secret
only a SHA-256 is kept. Who joins, leaves or gets a new token is noted in `audit`, which names nobody but by the token.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from loop import keyring, schema
from loop.collect.events import pseudonyms
from loop.config import Settings
from loop.errors import BadInputError
from loop.keyring import TOKEN, hashed
from loop.label.tasks import Kind
from loop.state import State, audit

PAGE: Final = "page"
"""`source` of those who label on the gateway's page."""
DAILY_MINUTES: Final = 240
"""Most minutes of labelling a day of a person for whom nothing else is said: reading closely all day is too much."""
DAILY_HARMFUL: Final = 30
"""Most harmful texts a day, of a person who agreed to see any."""

_NOBODY: Final = hashed("")


@dataclass(frozen=True)
class Annotator:
    """One row of `annotators`, its secret left out."""

    annotator: str
    """Pseudonym."""
    source: str
    token_id: str | None
    workflows: tuple[str, ...]
    kinds: tuple[str, ...]
    harmful: bool
    """Whether the person agreed to see harmful texts."""
    daily_minutes: int
    daily_harmful: int
    pay_per_hour: float | None
    """In `pay_currency`; None where the person is not paid by the hour for this, or nobody said."""
    joined_at: datetime
    joined_by: str
    removed_at: datetime | None = None
    removed_by: str | None = None


@dataclass(frozen=True)
class Known:
    """An annotator with a login, and what the secret is checked against."""

    annotator: Annotator
    secret_hash: str


def add(  # noqa: PLR0913 - by keyword, one a column
    settings: Settings,
    state: State,
    *,
    person: str,
    workflows: Sequence[str],
    kinds: Sequence[str] = tuple(Kind),
    harmful: bool = False,
    daily_minutes: int = DAILY_MINUTES,
    daily_harmful: int = DAILY_HARMFUL,
    pay_per_hour: float | None = None,
    author: str,
) -> tuple[Annotator, str]:
    """Ask a person in; the row and the token, which nobody can ask for again. Who was removed may come back.

    Raises:
        BadInputError: the person is in already, a name is none of those that exist, or pay is below the floor.
    """
    if not person.strip():
        raise BadInputError("person: expected an id, got an empty one")
    for what, number, least in (("daily minutes", daily_minutes, 1), ("daily harmful", daily_harmful, 0)):
        if not least <= number <= 24 * 60:
            raise BadInputError(f"{what}: expected {least} to 1,440, got {number}")
    _check_pay(settings, pay_per_hour)
    names = pseudonyms(person, settings)
    token_id, secret = keyring.token()
    table = state.tables["annotators"]
    values = {
        "source": PAGE,
        "token_id": token_id,
        "secret_hash": hashed(secret),
        "workflows": _chosen("workflow", workflows, schema.WORKFLOWS),
        "kinds": _chosen("kind", kinds, tuple(Kind)),
        "harmful": harmful,
        "daily_minutes": daily_minutes,
        "daily_harmful": daily_harmful,
        "pay_per_hour": pay_per_hour,
        "joined_at": datetime.now(UTC),
        "joined_by": author,
        "removed_at": None,
        "removed_by": None,
    }
    with state.transaction(lock="annotators") as connection:
        known = connection.execute(sa.select(table).where(table.c.annotator.in_(names))).mappings().first()
        if known is not None and known["removed_at"] is None:
            raise BadInputError(
                f"this person annotates already, as {known['annotator']}; `loop annotators token` gives a new token"
            )
        if known is None:
            connection.execute(sa.insert(table).values(annotator=names[0], **values))
        else:
            connection.execute(sa.update(table).where(table.c.annotator == known["annotator"]).values(**values))
        told = {"workflows": values["workflows"], "kinds": values["kinds"]}
        audit(connection, "annotator.add", token_id, author, told)
        row = _row(connection, table, names[0] if known is None else known["annotator"])
    return _annotator(row), f"loop_{token_id}_{secret}"


def remove(settings: Settings, state: State, person: str, author: str) -> Annotator:
    """End a person's labelling; what was answered stays. `person` is an id, a pseudonym or a token's id.

    Raises:
        BadInputError: nobody of that name annotates.
    """
    table = state.tables["annotators"]
    with state.transaction(lock="annotators") as connection:
        row = _find(settings, connection, table, person)
        if row["removed_at"] is None:
            ended = {"removed_at": datetime.now(UTC), "removed_by": author}
            connection.execute(sa.update(table).where(table.c.annotator == row["annotator"]).values(**ended))
            audit(connection, "annotator.remove", row["token_id"] or "", author, {})
        row = _row(connection, table, row["annotator"])
    return _annotator(row)


def renew(settings: Settings, state: State, person: str, author: str) -> str:
    """A new token for a person, whose old one and open pages end with it.

    Raises:
        BadInputError: nobody of that name annotates here any more.
    """
    table = state.tables["annotators"]
    token_id, secret = keyring.token()
    with state.transaction(lock="annotators") as connection:
        row = _find(settings, connection, table, person)
        if row["removed_at"] is not None or row["source"] != PAGE:
            raise BadInputError("expected a person who labels on the page, got one who was removed or labels elsewhere")
        made = {"token_id": token_id, "secret_hash": hashed(secret)}
        connection.execute(sa.update(table).where(table.c.annotator == row["annotator"]).values(**made))
        audit(connection, "annotator.token", token_id, author, {"instead": row["token_id"]})
    return f"loop_{token_id}_{secret}"


def agree(state: State, annotator: str, *, harmful: bool, source: str = PAGE) -> bool:
    """Note whether the person wants to see harmful texts: the person's own word, at any time.

    Args:
        source: where the person said so. Whoever labels on the page says so there, and nobody elsewhere for them.

    Returns:
        Whether it was noted.
    """
    table = state.tables["annotators"]
    here = table.c.source == PAGE if source == PAGE else table.c.source != PAGE
    mine = sa.and_(table.c.annotator == annotator, here)
    with state.transaction() as connection:
        return bool(connection.execute(sa.update(table).where(mine).values(harmful=harmful)).rowcount)


def annotators(state: State) -> list[Annotator]:
    """Everybody and everything that ever annotated, by pseudonym: an order that says nothing about them."""
    table = state.tables["annotators"]
    with state.engine.connect() as connection:
        rows = connection.execute(sa.select(table).order_by(table.c.annotator)).mappings().all()
    return [_annotator(row) for row in rows]


def known(connection: sa.Connection, tables: Mapping[str, sa.Table]) -> dict[str, Known]:
    """Those with a login, the removed ones too, by the public half of their token."""
    table = tables["annotators"]
    rows = connection.execute(sa.select(table).where(table.c.token_id.is_not(None))).mappings()
    return {row["token_id"]: Known(_annotator(row), row["secret_hash"] or _NOBODY) for row in rows}


def owner(token: str, among: Mapping[str, Known]) -> Known | None:
    """Whose token it is, if that person was not removed. Takes as long for a wrong token as for a right one."""
    given = TOKEN.fullmatch(token.strip())
    found = among.get(given[1]) if given else None
    same = hmac.compare_digest(hashed(given[2] if given else ""), found.secret_hash if found else _NOBODY)
    return found if given and found is not None and same and found.annotator.removed_at is None else None


def _check_pay(settings: Settings, pay: float | None) -> None:
    floor = settings.pay_floor_per_hour
    if pay is not None and not 0 <= pay < float("inf"):
        raise BadInputError(f"pay per hour: expected an amount, got {pay}")
    if pay is not None and floor is not None and pay < floor:
        raise BadInputError(
            f"pay per hour: expected at least the floor of {floor:g} {settings.pay_currency}, got {pay:g}; pay more, "
            "or say in the settings what the floor is (pay_floor_per_hour)"
        )


def _chosen(what: str, given: Sequence[str], among: Sequence[str]) -> list[str]:
    for name in given:
        if name not in among:
            raise BadInputError(f"{what}: expected some of {', '.join(among)}, got {name!r}")
    if not given:
        raise BadInputError(f"{what}: expected at least one of {', '.join(among)}, got none")
    return [str(name) for name in among if name in given]


def _find(settings: Settings, connection: sa.Connection, table: sa.Table, person: str) -> Mapping[Any, Any]:
    whole = TOKEN.fullmatch(person.strip())
    names = [*pseudonyms(person, settings), person]
    mine = sa.or_(table.c.annotator.in_(names), table.c.token_id == (whole[1] if whole else person))
    row = connection.execute(sa.select(table).where(mine)).mappings().first()
    if row is None:
        raise BadInputError("expected the id of a person who annotates, a pseudonym or a token's id, got another")
    return row


def _row(connection: sa.Connection, table: sa.Table, annotator: str) -> Mapping[Any, Any]:
    return connection.execute(sa.select(table).where(table.c.annotator == annotator)).mappings().one()


def _annotator(row: Mapping[Any, Any]) -> Annotator:
    lists = {"workflows", "kinds"}
    values: dict[str, Any] = {f.name: tuple(row[f.name]) if f.name in lists else row[f.name] for f in fields(Annotator)}
    return Annotator(**values)
