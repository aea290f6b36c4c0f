"""Which model version serves: the champion, followed as releases move it, and for a share of requests the one before.

How a version answers is in serve.py; who was champion when is in releases.py.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import sqlalchemy as sa

from loop.config import Settings
from loop.errors import LoopError
from loop.release.releases import champions, model_version
from loop.release.serve import Server, number
from loop.services import processes
from loop.state import State

EVERY_S: Final = 1.0
"""Seconds between two looks at the releases."""
RETRY_S: Final = (5.0, 300.0)
"""Seconds until a version that did not load is tried again: the first time, and at most; each time twice as long."""

_PATIENCE: Final = {"connect_timeout": 3, "tcp_user_timeout": 5000}
"""Seconds for a connection, milliseconds for a server that has gone silent: then the database counts as away."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Arm:
    """One of the versions that may serve."""

    server: Server
    propensity: float
    """Probability with which it serves a request."""


@dataclass(frozen=True)
class Arms:
    """The versions that serve at a moment. Replaced whole, so that whoever holds one sees no half of a promotion."""

    champion: Server
    predecessor: Server | None
    exploration: float
    """Share of requests that the predecessor serves, if there is one."""

    def choose(self, seed: int, request_id: str) -> Arm:
        """The arm for a request, drawn from its seed."""
        if self.predecessor is None or not self.exploration:
            return Arm(self.champion, 1.0)
        if number("arm", seed, request_id) < self.exploration * 2**64:
            return Arm(self.predecessor, self.exploration)
        return Arm(self.champion, 1.0 - self.exploration)

    @property
    def versions(self) -> tuple[str, ...]:
        """Champion first."""
        return tuple(server.version for server in (self.champion, self.predecessor) if server)


class Known(msgspec.Struct, frozen=True):
    """Where a version lies: what is needed to load it while the database is away."""

    version: str
    path: str
    """Below the home."""
    weights_digest: str


@dataclass
class _Failure:
    why: str
    wait_s: float
    again_at: float
    """In the time of `time.monotonic`."""


class Follower:
    """Keeps `arms` at the champion of the home, in a thread of its own.

    A version is loaded beside those that serve, and takes over when it has answered once. One that does not load leaves
    the old one serving, is told in `failed`, and is tried again later. While the database is away things stay as they
    are; what served last is kept in a file, so that a start needs no database either.
    """

    def __init__(self, settings: Settings, database: Callable[[], str]) -> None:
        self.settings = settings
        self.database = database
        """The URL of Loop's database; asked again after it could not be reached. May raise LoopError."""
        self.arms: Arms | None = None
        self.since: datetime | None = None
        """When `arms` began to serve."""
        self.loading: str | None = None
        """The version that is being loaded."""
        self.unreachable: str | None = None
        """Why the database cannot be asked."""
        self._failures: dict[str, _Failure] = {}
        self._wanted: tuple[Known, ...] = ()
        self._known: dict[str, Known] = {}
        self._state: State | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follower", daemon=True)

    @property
    def failed(self) -> dict[str, str]:
        """Versions that should serve and do not load, and why."""
        return {version: failure.why for version, failure in list(self._failures.items())}

    def start(self) -> None:
        self._wanted = self._remembered()
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._disconnect()

    def look(self) -> None:
        """Ask who should serve, and load whoever does not yet."""
        self._ask()
        wanted = {model.version for model in self._wanted}
        self._failures = {version: failure for version, failure in self._failures.items() if version in wanted}
        if self._wanted and (self.arms is None or self.arms.versions != tuple(m.version for m in self._wanted)):
            self._settle()

    # -- inside -----------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        while True:
            try:
                self.look()
            except Exception:  # noqa: BLE001 - whatever it is, what serves goes on serving
                _LOG.exception("following the champion failed; trying again")
            if self._stop.wait(EVERY_S):
                return

    def _ask(self) -> None:
        try:
            if self._state is None:
                self._state = State(
                    sa.create_engine(self.database(), pool_pre_ping=True, pool_size=1, connect_args=_PATIENCE)
                )
            found = dict.fromkeys(champions(self._state, 2 if self.settings.exploration else 1))
            self._wanted = tuple(self._where(self._state, version) for version in found)
            if self.unreachable:
                _LOG.info("the database answers again")
            self.unreachable = None
        except (sa.exc.SQLAlchemyError, LoopError) as error:
            why = " ".join(str(getattr(error, "orig", None) or error).split())
            if self.unreachable is None:
                _LOG.warning("the database cannot be asked who is champion, so nothing changes: %s", why)
            self.unreachable = why
            self._disconnect()

    def _where(self, state: State, version: str) -> Known:
        if version not in self._known:
            made = model_version(state, version)
            self._known[version] = Known(version, made.path, made.weights_digest)
        return self._known[version]

    def _disconnect(self) -> None:
        if self._state:
            self._state.close()
            self._state = None

    def _settle(self) -> None:
        champion, *before = self._wanted
        first = self._loaded(champion)
        if first is None:
            return
        second = self._loaded(before[0]) if before else None
        arms = Arms(first, second, self.settings.exploration)
        if self.arms is None or arms.versions != self.arms.versions:
            self.arms, self.since = arms, datetime.now(UTC)
            _LOG.info("serving %s", " and ".join(arms.versions))
            self._remember([model for model in self._wanted if model.version in arms.versions])

    def _loaded(self, model: Known) -> Server | None:
        """The version's server, at hand or loaded now; None if it does not load, or failed a short while ago."""
        for server in (self.arms.champion, self.arms.predecessor) if self.arms else ():
            if server and server.version == model.version:
                return server
        failure = self._failures.get(model.version)
        if failure and time.monotonic() < failure.again_at:
            return None
        self.loading = model.version
        try:
            server = Server.load(model.version, self.settings.home / model.path, digest=model.weights_digest)
        except Exception as error:  # noqa: BLE001 - whatever it is, the old version goes on serving
            wait = min(failure.wait_s * 2, RETRY_S[1]) if failure else RETRY_S[0]
            why = f"{error}" or type(error).__name__
            self._failures[model.version] = _Failure(why, wait, time.monotonic() + wait)
            _LOG.error("%s does not load, next try in %.0f s: %s", model.version, wait, why)
            return None
        finally:
            self.loading = None
        self._failures.pop(model.version, None)
        return server

    @property
    def _file(self) -> Path:
        return self.settings.gateway / "champion.json"

    def _remember(self, models: list[Known]) -> None:
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        processes.replace(self._file, msgspec.json.encode(models))

    def _remembered(self) -> tuple[Known, ...]:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=tuple[Known, ...])
        except FileNotFoundError:
            return ()
        except (OSError, msgspec.MsgspecError) as error:
            _LOG.warning("%s is not read: %s", self._file, error)
            return ()
