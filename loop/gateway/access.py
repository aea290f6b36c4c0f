"""Who may speak to the gateway: tokens that are made, listed and ended in Postgres, and the gate that asks for them.

A token is `loop_<id>_<secret>`. The id is public; of the secret only a SHA-256 is kept, which suffices for 32 random
bytes. Making and ending tokens needs the database, so only an administrator of the machine can: no route does it. The
gate knows every live token by heart, so that it answers without the database, and goes on when that is away.
"""

from __future__ import annotations

import hmac
import logging
import math
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from loop import keyring, schema
from loop.config import Settings
from loop.errors import BadInputError, LoopError
from loop.keyring import TOKEN, hashed
from loop.services import locate, processes
from loop.state import METADATA, State, audit

SCOPES: Final = ("suggest", "feedback", "outcomes", "admin", "erase")
"""What a token may be for. None includes another."""
PER_MINUTE: Final = 6_000
"""Requests a minute of a token that names no other rate."""

_BEARER: Final = re.compile(rf"(?i:bearer) +{TOKEN.pattern} *")
_MINUTE: Final = 60 * 10**9
"""In nanoseconds."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Token:
    """What is known of a token, its secret left out."""

    token_id: str
    tool: str
    """Which tool holds it."""
    workflows: tuple[str, ...]
    scopes: tuple[str, ...]
    purposes: tuple[str, ...]
    """What its people consented to, where an event does not say."""
    per_minute: int
    """Most requests a minute; in one burst, a sixth of that and one more."""
    created_at: datetime
    created_by: str
    revoked_at: datetime | None = None
    revoked_by: str | None = None


class Refused(LoopError):  # noqa: N818 - what happens to a request, not an error of ours
    """A request that is not let in. The message is for the client and names no secret."""

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        """401 not known, 403 known but not allowed, 429 too often, 503 it cannot be said yet."""
        self.retry_after = retry_after
        """Whole seconds after which to ask again; None where asking again does not help."""


# -- tokens in the database -------------------------------------------------------------------------------------------


def create(  # noqa: PLR0913 - by keyword, one a column
    state: State,
    *,
    tool: str,
    workflows: Sequence[str],
    scopes: Sequence[str],
    purposes: Sequence[str] = (),
    per_minute: int = PER_MINUTE,
    author: str,
) -> str:
    """Make a token; the token itself, which nobody can ask for again.

    Raises:
        BadInputError: a name is none of those that exist, or the rate is not positive.
    """
    from loop.validate.contract import PURPOSES

    if not tool.strip() or len(tool) > 100 or not tool.isprintable():
        raise BadInputError(f"tool: expected a name of 1 to 100 printable characters, got {tool[:100]!r}")
    if not 1 <= per_minute <= 10**9:
        raise BadInputError(f"per minute: expected 1 to 1,000,000,000 requests, got {per_minute}")
    token_id, secret = keyring.token()
    row = {
        "token_id": token_id,
        "tool": tool.strip(),
        "workflows": _chosen("workflow", workflows, schema.WORKFLOWS),
        "scopes": _chosen("scope", scopes, SCOPES),
        "purposes": _chosen("purpose", purposes, PURPOSES, least=0),
        "per_minute": per_minute,
    }
    with state.transaction() as connection:
        made = {"secret_hash": hashed(secret), "created_at": datetime.now(UTC), "created_by": author}
        connection.execute(sa.insert(state.tables["tokens"]).values(**row, **made))
        audit(connection, "token.create", token_id, author, {k: v for k, v in row.items() if k != "token_id"})
    return f"loop_{token_id}_{secret}"


def tokens(state: State) -> list[Token]:
    """Every token, the ended ones too, in the order of making."""
    table = state.tables["tokens"]
    with state.engine.connect() as connection:
        rows = connection.execute(sa.select(table).order_by(table.c.created_at, table.c.token_id)).mappings().all()
    return [_token(row) for row in rows]


def revoke(state: State, token_id: str, author: str) -> Token:
    """End a token, known by its id or whole; one that has ended stays as it is.

    Raises:
        BadInputError: there is no such token.
    """
    if whole := TOKEN.fullmatch(token_id.strip()):
        token_id = whole[1]  # so that one that was found lying about can be ended as it was found
    table = state.tables["tokens"]
    with state.transaction(lock=f"token {token_id}") as connection:
        query = sa.select(table).where(table.c.token_id == token_id)
        row = connection.execute(query).mappings().first()
        if row is None:
            raise BadInputError("expected the id of a token, got one that no token has; `loop token list` shows them")
        if row["revoked_at"] is None:
            ended = {"revoked_at": datetime.now(UTC), "revoked_by": author}
            connection.execute(sa.update(table).where(table.c.token_id == token_id).values(**ended))
            audit(connection, "token.revoke", token_id, author, {"tool": row["tool"]})
            row = connection.execute(query).mappings().one()
    return _token(row)


def rotate(settings: Settings, state: State, author: str) -> int:
    """Give pseudonyms a new key, with an audit row; the number under which the old one is kept.

    Raises:
        BadInputError: the key comes from a variable.
    """
    with state.transaction(lock="pseudonym") as connection:
        number = settings.rotate("pseudonym")
        audit(connection, "pseudonym.rotate", "pseudonym", author, {"retired": number})
    return number


def _chosen(what: str, given: Sequence[str], known: Sequence[str], least: int = 1) -> list[str]:
    for name in given:
        if name not in known:
            raise BadInputError(f"{what}: expected some of {', '.join(known)}, got {name!r}")
    if len(given) < least:
        raise BadInputError(f"{what}: expected at least one of {', '.join(known)}, got none")
    return [name for name in known if name in given]


def _token(row: Mapping[Any, Any]) -> Token:
    lists = {"workflows", "scopes", "purposes"}
    values: dict[str, Any] = {f.name: tuple(row[f.name]) if f.name in lists else row[f.name] for f in fields(Token)}
    return Token(**values)


# -- the gate ---------------------------------------------------------------------------------------------------------


class Bucket:
    """A token bucket: full at first, refilled evenly, one taken a request. Whole numbers, so nothing drifts.

    It holds a sixth of a minute's requests and one more. One request is worth `_MINUTE` units, of which a nanosecond
    brings `per_minute`. Not for several threads at once.
    """

    def __init__(self, per_minute: int, now: int) -> None:
        self.rate = per_minute
        self.most = per_minute * 10 * 10**9 + _MINUTE
        self.level = self.most
        self.at = now
        """Nanoseconds of a clock that does not go back."""

    def take(self, now: int) -> int:
        """Take one request out; or else how many nanoseconds later there will be one."""
        self.level = min(self.most, self.level + max(0, now - self.at) * self.rate)
        self.at = max(self.at, now)
        if self.level >= _MINUTE:
            self.level -= _MINUTE
            return 0
        return -((self.level - _MINUTE) // self.rate)


class Known(msgspec.Struct, frozen=True):
    """A live token as the snapshot holds it."""

    token: Token
    secret_hash: str


@dataclass(frozen=True)
class _Live:
    known: Known
    bucket: Bucket


class Gate:
    """Lets requests in. Reads the live tokens every `every` seconds in a thread of its own; `admit` waits for nothing.

    What it read last stands in `gateway/tokens.json` (hashes only, mode 600), so that a gateway that starts while
    Postgres is away knows who may. `admit` is for one thread, the event loop's.
    """

    def __init__(self, settings: Settings, *, every: float = 2.0) -> None:
        self.settings, self.every = settings, every
        self.problem: str | None = None
        """Why the tokens could not be read last time, without a password; None if they could."""
        self.pseudonym_key = settings.secret("pseudonym")
        """The current key of the ring; a rotation is seen within `every` seconds."""
        self._live: dict[str, _Live] = {}
        self._read_at = -math.inf
        self._file = settings.gateway / "tokens.json"
        self._written: list[Known] | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="gate", daemon=True)
        # Whatever happens on the way to the server, a reading takes seconds and not the kernel's quarter of an hour.
        patience = {"connect_timeout": 3, "tcp_user_timeout": 3000, "options": "-c statement_timeout=3000"}
        self._engine = sa.create_engine(
            locate(settings).loop, pool_size=1, max_overflow=0, pool_pre_ping=True, connect_args=patience
        )

    def start(self) -> None:
        """Read once, in at most some three seconds, and then follow. A database that is away is no error."""
        self._load()
        self.refresh()
        self._thread.start()

    def close(self) -> None:
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=10.0)
        self._engine.dispose()

    @property
    def age_s(self) -> float:
        """Seconds since the tokens were last read from the database; infinite if they never were."""
        return time.monotonic() - self._read_at

    def admit(self, authorization: str | None, scope: str, now: int | None = None) -> Token:
        """The token of a request that may pass. Which workflow it is about is known once it was read.

        Args:
            authorization: the header as it came, `Bearer loop_...`.
            scope: one of `SCOPES`.
            now: nanoseconds of a clock that does not go back; by default the monotonic one.

        Raises:
            Refused: 401 without a live token; 403 for a scope that it lacks; 429 too often; 503 where no tokens could
                be read since the home was made.
        """
        given = _BEARER.fullmatch(authorization) if authorization else None
        if self._read_at == -math.inf:
            raise Refused(503, "who may speak to this gateway is not known yet, its database is away", 5)
        live = self._live.get(given[1]) if given else None
        expected = live.known.secret_hash if live else hashed("")
        same = hmac.compare_digest(hashed(given[2] if given else ""), expected)
        if live is None or given is None or not same:
            raise Refused(401, "expected the header `Authorization: Bearer loop_...` with a live token of this gateway")
        token = live.known.token
        if scope not in token.scopes:
            raise Refused(403, f"expected a token with the scope {scope}, this one has {', '.join(token.scopes)}")
        if wait := live.bucket.take(time.monotonic_ns() if now is None else now):
            after = -(-wait // 10**9)
            raise Refused(429, f"expected at most {token.per_minute} requests a minute; again in {after} s", after)
        return token

    def refresh(self) -> bool:
        """Read the live tokens now; whether that went well. Those of before stay if not, and `problem` says why."""
        table = METADATA.tables["tokens"]
        query = sa.select(table).where(table.c.revoked_at.is_(None)).order_by(table.c.token_id)
        try:
            with self._engine.connect() as connection:
                rows = connection.execute(query).mappings().all()
            known = [Known(_token(row), row["secret_hash"]) for row in rows]
            self._take(known)
            self._read_at = time.monotonic()
            self.pseudonym_key = self.settings.secret("pseudonym")
            self._save(known)
        except (sa.exc.SQLAlchemyError, LoopError, OSError) as error:
            first = str(getattr(error, "orig", error)).strip().splitlines() or [type(error).__name__]
            if self.problem is None:
                _log.warning("tokens could not be read: %s", first[0])
            self.problem = first[0]
            return False
        self.problem = None
        return True

    def _follow(self) -> None:
        while not self._ending.wait(self.every):
            self.refresh()

    def _take(self, known: Sequence[Known]) -> None:
        """From now on these; what a token has used up of its rate stays used up."""
        before, now = self._live, time.monotonic_ns()
        self._live = {
            one.token.token_id: _Live(
                one,
                before[one.token.token_id].bucket
                if one.token.token_id in before
                else Bucket(one.token.per_minute, now),
            )
            for one in known
        }

    def _load(self) -> None:
        try:
            known = msgspec.json.decode(self._file.read_bytes(), type=list[Known])
            age = max(0.0, time.time() - self._file.stat().st_mtime)
        except FileNotFoundError:
            return
        except (msgspec.MsgspecError, OSError) as error:
            _log.warning("%s: expected a snapshot of the tokens, got %s", self._file, error)
            return
        self._take(known)
        self._read_at = time.monotonic() - age

    def _save(self, known: list[Known]) -> None:
        """The snapshot: written where something changed; its time of change is that of the last reading."""
        if known != self._written or not self._file.exists():
            self.settings.make_home()
            self._file.parent.mkdir(mode=0o700, exist_ok=True)
            processes.replace(self._file, msgspec.json.encode(known))
            self._written = known
        else:
            self._file.touch()
