"""Label Studio's word that somebody answered: believed from whoever has the secret, and nothing else of it read."""

from __future__ import annotations

import json

from loop.label.studio import hook
from tests.gateway.fronts import Running, refused


def test_a_call_leaves_a_sign_and_nothing_else(front: Running) -> None:
    before = hook.nudged(front.settings)
    bearer = {"authorization": f"Bearer {hook.secret(front.settings)}"}
    for body in ({"action": "ANNOTATION_CREATED"}, b"", b"\xff not JSON"):
        reply = front.post(hook.PATH, body, token=None, headers=bearer)
        assert (reply.status_code, json.loads(reply.content)) == (202, {"status": "accepted"})
    after = hook.nudged(front.settings)
    assert after is not None
    assert after != before
    sign = front.settings.studio / "asked"
    assert (sign.stat().st_size, sign.stat().st_mode & 0o777) == (0, 0o600)


def test_who_has_no_secret_leaves_none(front: Running) -> None:
    hook.nudge(front.settings)
    before = hook.nudged(front.settings)
    for given in ({}, {"authorization": "Bearer x"}, {"authorization": hook.secret(front.settings)}):
        reply = front.post(hook.PATH, {}, token=None, headers=given)
        assert refused(reply)[:2] == (401, "unauthorized")
    assert refused(front.post(hook.PATH, {}, token="all"))[:2] == (401, "unauthorized")  # a tool's is another
    bearer = {"authorization": f"Bearer {hook.secret(front.settings)}"}
    assert refused(front.post(hook.PATH, b"x" * (2 << 20), token=None, headers=bearer))[:2] == (413, "too_large")
    assert hook.nudged(front.settings) == before
