"""Where Label Studio says that somebody answered: nothing else that it says is read, it is only asked soon."""

from __future__ import annotations

import hmac

from loop.config import Settings
from loop.gateway import http
from loop.gateway.http import Reply, Request
from loop.gateway.wire import Problem
from loop.label.studio import hook

BODY_BYTES = 1 << 20


class Studio:
    """The route of a home's Label Studio."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._expected: bytes | None = None

    async def called(self, request: Request) -> Reply:
        """POST /v1/studio"""
        given = http.header(request.scope, b"authorization") or b""
        if self._expected is None:
            self._expected = f"Bearer {hook.secret(self._settings)}".encode()
        if not hmac.compare_digest(given, self._expected):
            raise Problem(401, "unauthorized", "expected the secret that `loop studio push` gave to Label Studio")
        await http.read(*request, BODY_BYTES)
        hook.nudge(self._settings)
        return Reply(202, b'{"status":"accepted"}')
