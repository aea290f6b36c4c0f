"""Who needs the databases and for how long: the last one out stops the embedded server."""

from __future__ import annotations

import atexit
import contextlib
import os
from collections import Counter
from collections.abc import Iterator

from loop.config import Settings
from loop.services import postgres, processes
from loop.services.postgres import Urls

_USING: set[str] = set()
"""Homes that this process uses until it ends."""
_SESSIONS: Counter[str] = Counter()
"""Open sessions of this process, by home."""


def ensure_postgres(settings: Settings, *, keep: bool = False) -> Urls:
    """The databases, for as long as this process lives, or the session that it has open.

    The embedded server is started if it does not run; whoever is last to leave the home stops it. `keep` leaves that to
    `loop down` alone.
    """
    if settings.postgres_url:
        return postgres.external(settings)
    identity = processes.identity(settings)
    with processes.locked(settings):
        if identity not in _USING and not _SESSIONS[identity]:
            _USING.add(identity)
            atexit.register(_leave, settings, processes.join(settings), os.getpid())
        urls = postgres.start(settings)
        if keep:
            record = processes.read(settings)
            record.keep = True
            processes.write(settings, record)
        return urls


@contextlib.contextmanager
def session(settings: Settings) -> Iterator[Urls]:
    """The databases, for the time of a command: whoever is last to leave the home stops the embedded server.

    SIGTERM and SIGHUP leave as success and failure do. May be nested, and held by several commands at once.
    """
    with processes.exit_on_signals():
        if settings.postgres_url:
            yield postgres.external(settings)
            return
        identity, user = processes.identity(settings), None
        _SESSIONS[identity] += 1
        try:
            with processes.locked(settings):
                user = processes.join(settings)
                urls = postgres.start(settings)
            yield urls
        finally:
            _SESSIONS[identity] -= 1
            if user is not None:
                _leave(settings, user, os.getpid())


def _leave(settings: Settings, user: int, who: int) -> None:
    if os.getpid() != who or not settings.services.exists():  # a fork; or a home that somebody has removed
        return
    with processes.locked(settings):
        if processes.leave(user) and not processes.read(settings).keep:
            postgres.stop(settings)
