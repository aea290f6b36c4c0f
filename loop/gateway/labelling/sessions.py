"""What a browser brings back to us, signed: who is logged in, that a form is ours, and which task was shown when.

Nothing of it is kept here, so a gateway that starts anew knows everybody again and takes the answer to a page that the
former one had shown. Signatures are HMAC-SHA-256 under the home's secret `labelling`, each purpose apart.
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from loop.label.pool import Task

COOKIE: Final = "loop_label"
LASTS: Final = timedelta(hours=12)
"""After which the token is asked for again."""
_COOKIES: Final = re.compile(rf"(?:^|;)\s*{COOKIE}=([0-9a-f.]+)\s*(?:;|$)")


@dataclass(frozen=True)
class Session:
    """A browser that is logged in."""

    token_id: str
    value: str
    """The cookie."""


@dataclass(frozen=True)
class Ticket:
    """That a task was shown to a person, and when: without it no answer is taken."""

    label_task_id: str
    day: date
    workflow: str
    shown_at: datetime | None
    """None for a task that stayed behind its warning."""


class Signer:
    """Signs and checks. Every check takes the same time whatever is wrong."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def session(self, token_id: str, now: datetime) -> Session:
        """A new session."""
        told = f"{token_id}.{int(now.timestamp()):x}.{secrets.token_hex(8)}"
        return Session(token_id, f"{told}.{self._sign('session', told)}")

    def known(self, cookies: str, now: datetime) -> Session | None:
        """The session that a header `Cookie` holds; None if there is none, or it is forged or too old."""
        found = _COOKIES.search(cookies)
        if found is None:
            return None
        told, _, mac = found[1].rpartition(".")
        parts = told.split(".")
        if not hmac.compare_digest(mac, self._sign("session", told)) or len(parts) != 3:
            return None
        began = datetime.fromtimestamp(int(parts[1], 16), UTC)
        return Session(parts[0], found[1]) if began <= now < began + LASTS else None

    def form(self, session: Session) -> str:
        """What a form of this session carries, so that no other site can send one."""
        return self._sign("form", session.value)

    def is_form(self, session: Session, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.form(session).encode())

    def ticket(self, annotator: str, task: Task, shown_at: datetime | None) -> str:
        """That this person was shown this task."""
        at = "" if shown_at is None else f"{int(shown_at.timestamp() * 1_000_000):x}"
        told = f"{task.label_task_id}.{task.day.isoformat()}.{task.workflow}.{at}"
        return f"{told}.{self._sign('ticket', f'{annotator} {told}')}"

    def shown(self, annotator: str, given: str) -> Ticket | None:
        """What a ticket of this person says; None if it is another's, or forged."""
        told, _, mac = given.rpartition(".")
        parts = told.split(".")
        if not hmac.compare_digest(mac.encode(), self._sign("ticket", f"{annotator} {told}").encode()):
            return None
        label_task_id, day, workflow, at = parts
        shown_at = datetime.fromtimestamp(int(at, 16) / 1_000_000, UTC) if at else None
        return Ticket(label_task_id, date.fromisoformat(day), workflow, shown_at)

    def _sign(self, purpose: str, told: str) -> str:
        return hmac.digest(self._key, f"{purpose}\0{told}".encode("utf-8", "surrogatepass"), "sha256").hex()


def cookie(session: Session | None, *, secure: bool) -> str:
    """The header `Set-Cookie` of a session, or of its end. Scripts cannot read it, and no other site sends it along."""
    value, age = ("", 0) if session is None else (session.value, int(LASTS.total_seconds()))
    told = f"{COOKIE}={value}; Path=/label; Max-Age={age}; HttpOnly; SameSite=Strict"
    return f"{told}; Secure" if secure else told
