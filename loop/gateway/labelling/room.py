"""The pages' routes: who is asking, what they see, and that an answer is acknowledged only when it is stored.

Work with the database or a template is done in threads of this room, so that the front's own loop goes on.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from loop.config import Settings
from loop.errors import LoopError
from loop.gateway import http
from loop.gateway.http import Reply, Request
from loop.gateway.labelling import forms, pages
from loop.gateway.labelling.desk import Desk, Ended
from loop.gateway.labelling.sessions import Session, Signer, cookie
from loop.gateway.wire import Problem
from loop.label import annotators
from loop.label.annotators import Annotator, Known
from loop.services import locate
from loop.services.serving import is_loopback
from loop.state import State

BODY_BYTES: Final = 8 << 20
"""Longest form: a text of a million characters, spelled as forms spell them."""
THREADS: Final = 8
"""For what writes, and waits for the database; as many again show pages, which mostly do not."""
FOLLOW_SECONDS: Final = 2.0
"""How often is read who labels."""
REFRESH: Final = 3
"""Every how many of these times the lake is looked at too."""
COUNT: Final = 15
"""And every how many the answers that came another way."""
TIMES: Final = 300
"""And every how many what tasks take."""
TYPES: Final = {
    "png": b"image/png",
    "jpg": b"image/jpeg",
    "jpeg": b"image/jpeg",
    "gif": b"image/gif",
    "webp": b"image/webp",
    "avif": b"image/avif",
}
"""Images that may lie in the home's folder; none that can hold a script."""
IMAGES: Final = "/label/images/"
"""All paths below it are one route."""

_log = logging.getLogger(__name__)
Work = Callable[["Asked"], Reply]


@dataclass
class Asked:
    """One request, its form read."""

    method: str
    query: str
    form: dict[str, list[str]]
    cookies: str
    origin: str
    site: str
    host: str
    path: str
    session: Session | None = None
    person: Annotator | None = None

    def one(self, name: str) -> str:
        return forms.one(self.form, name)

    @property
    def said(self) -> str:
        return self.query.removeprefix("said=") if self.query.startswith("said=") else ""


@dataclass
class Labelling:
    """All pages of one front. `count` is told what became of every answer."""

    settings: Settings
    count: Callable[[str], None]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    problem: str | None = None
    """Why tasks and people could not be read last time."""
    _threads: dict[str, ThreadPoolExecutor] = field(init=False)
    """By method."""
    _known: dict[str, Known] = field(default_factory=dict)
    _desk: Desk | None = None
    _opening: threading.Lock = field(default_factory=threading.Lock)
    _ending: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __post_init__(self) -> None:
        self._threads = {method: ThreadPoolExecutor(THREADS, f"label {method}") for method in ("GET", "POST")}

    def routes(self) -> dict[str, dict[str, Callable[[Request], Awaitable[Reply]]]]:
        """What answers a method of a path; `/label/images/` stands for all below it."""
        own = self._own
        return {
            "/label": {"GET": self._page(own(lambda desk, asked: desk.task(asked)))},
            "/label/work": {"GET": self._page(own(lambda desk, asked: desk.work(asked)))},
            "/label/answer": {"POST": self._page(own(lambda desk, asked: desk.answer(asked)))},
            "/label/undo": {"POST": self._page(own(lambda desk, asked: desk.undo(asked)))},
            "/label/reveal": {"POST": self._page(own(lambda desk, asked: desk.reveal(asked)))},
            "/label/harmful": {"POST": self._page(own(lambda desk, asked: desk.harmful(asked)))},
            "/label/appeal": {"POST": self._page(own(lambda desk, asked: desk.appeal(asked)))},
            "/label/login": {"GET": self._page(self._login_page), "POST": self._page(self._login)},
            "/label/logout": {"POST": self._page(own(self._logout))},
            IMAGES: {"GET": self._page(own(self._image))},
            **{f"/label/{name}": {"GET": _static(name)} for name in pages.STATIC},
        }

    def close(self) -> None:
        """End the threads and let go of the database."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(timeout=10.0)
        for threads in self._threads.values():
            threads.shutdown(wait=True, cancel_futures=True)
        if self._desk is not None:
            self._desk.state.close()

    # -- a request --------------------------------------------------------------------------------------------------

    def _page(self, work: Work) -> Callable[[Request], Awaitable[Reply]]:
        async def answer(request: Request) -> Reply:
            scope = request.scope
            body = b""
            if scope["method"] == "POST":
                try:
                    body = await http.read(scope, request.receive, BODY_BYTES)
                except Problem as problem:
                    return pages.message(problem.status, "This cannot be taken", str(problem), "Nothing was stored.")
            threads = self._threads["POST" if scope["method"] == "POST" else "GET"]
            return await asyncio.get_running_loop().run_in_executor(threads, self._answered, work, scope, body)

        return answer

    def _answered(self, work: Work, scope: Mapping[str, Any], body: bytes) -> Reply:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        try:
            asked = Asked(
                method=scope["method"],
                query=scope.get("query_string", b"").decode("ascii", "replace"),
                form=forms.fields(body),
                cookies=headers.get(b"cookie", ""),
                origin=headers.get(b"origin", ""),
                site=headers.get(b"sec-fetch-site", ""),
                host=headers.get(b"host", ""),
                path=scope["path"],
            )
            if asked.method == "POST" and not _ours(asked):
                return pages.message(
                    403, "This did not come from this page", "Nothing was stored. Open the page and try again."
                )
            return work(asked)
        except Ended as ended:
            return pages.ended(str(ended))
        except forms.Said as said:
            return pages.message(422, "This cannot be taken", str(said))
        except (sa.exc.SQLAlchemyError, LoopError) as error:
            _log.warning("labelling: %s", _short(error))
            return pages.away()

    def _own(self, work: Callable[[Desk, Asked], Reply]) -> Work:
        """For people who are logged in; what they send must be a form of theirs."""

        def checked(asked: Asked) -> Reply:
            desk = self._open()
            session = desk.signer.known(asked.cookies, self.now())
            known = self._known.get(session.token_id) if session else None
            if session is None or known is None:
                return pages.redirect("/label/login")
            if known.annotator.removed_at is not None and asked.path != "/label/answer":
                return pages.ended()
            if asked.method == "POST" and not desk.signer.is_form(session, asked.one("csrf")):
                return pages.message(
                    403, "This page is too old", "Nothing was stored. Open it again and send it once more."
                )
            asked.session, asked.person = session, known.annotator
            return work(desk, asked)

        return checked

    # -- log in and out -----------------------------------------------------------------------------------------------

    def _login_page(self, asked: Asked) -> Reply:
        return pages.login(said=asked.said)

    def _login(self, asked: Asked) -> Reply:
        desk = self._open()
        found = annotators.owner(asked.one("token"), self._known)
        if found is None:
            self._follow_people(desk.state)  # one that was made a moment ago
            found = annotators.owner(asked.one("token"), self._known)
        if found is None:
            self.count("login refused")
            return pages.login(
                401, problem="No such token labels here. Look whether it is whole, or ask who gave it to you."
            )
        session = desk.signer.session(found.annotator.token_id or "", self.now())
        desk.queue.forget(found.annotator.annotator)
        return pages.redirect("/label", [(b"set-cookie", cookie(session, secure=self._secure(asked)).encode())])

    def _logout(self, desk: Desk, asked: Asked) -> Reply:
        ended = cookie(None, secure=self._secure(asked))
        return pages.redirect("/label/login?said=out", [(b"set-cookie", ended.encode())])

    def _secure(self, asked: Asked) -> bool:
        """Whether the browser speaks TLS, to us or to a proxy before us."""
        settings = self.settings
        return (
            settings.tls_certificate is not None
            or asked.origin.startswith("https://")
            or not is_loopback(settings.gateway_host)
        )

    def _image(self, desk: Desk, asked: Asked) -> Reply:
        folder = (self.settings.home / "images").resolve()
        path = (folder / asked.path.removeprefix(IMAGES)).resolve()
        type_ = TYPES.get(path.suffix[1:].lower())
        if type_ is None or not path.is_relative_to(folder) or not path.is_file():
            return pages.message(404, "No such image", "There is no image of that name.")
        sandbox = (b"content-security-policy", b"default-src 'none'; sandbox")
        return Reply(200, path.read_bytes(), [sandbox], type=type_)

    # -- what is asked, and of whom -----------------------------------------------------------------------------------

    def _open(self) -> Desk:
        """The desk; made at the first request, for most gateways serve nobody who labels.

        Raises:
            SQLAlchemyError, LoopError: the database or the lake cannot be read.
        """
        if self._desk is None:
            with self._opening:
                if self._desk is None:
                    self._desk = self._made()
        return self._desk

    def _made(self) -> Desk:
        patience = {"connect_timeout": 3, "tcp_user_timeout": 3000, "options": "-c statement_timeout=10000"}
        url = locate(self.settings).loop
        state = State(sa.create_engine(url, pool_size=2 * THREADS, pool_pre_ping=True, connect_args=patience))
        try:
            self._follow_people(state)
            desk = Desk(self.settings, state, Signer(self.settings.secret("labelling")), self.count, self.now)
            desk.reread = lambda: self._follow_people(state)
            desk.pool.refresh()
            desk.measure()
        except BaseException:
            state.close()
            raise
        self._thread = threading.Thread(target=self._follow, args=(desk,), name="labelling", daemon=True)
        self._thread.start()
        return desk

    def _follow(self, desk: Desk) -> None:
        turn = 0
        while not self._ending.wait(FOLLOW_SECONDS):
            turn += 1
            try:
                self._follow_people(desk.state)
                if turn % REFRESH == 0:
                    desk.pool.refresh(counts=turn % COUNT == 0)
                if turn % TIMES == 0:
                    desk.measure()
                self.problem = None
            except Exception as error:  # noqa: BLE001 - it is tried again in a moment, and nobody else would
                if self.problem is None:
                    _log.warning("labelling: %s", _short(error))
                self.problem = _short(error)

    def _follow_people(self, state: State) -> None:
        with state.engine.connect() as connection:
            self._known = annotators.known(connection, state.tables)


# -- small things -----------------------------------------------------------------------------------------------------


def _static(name: str) -> Callable[[Request], Awaitable[Reply]]:
    async def answer(request: Request) -> Reply:
        return pages.static(name)

    return answer


def _ours(asked: Asked) -> bool:
    """Whether a form was sent by a page of this very server, as far as the browser says."""
    if asked.site:
        return asked.site == "same-origin"
    return not asked.origin or asked.origin.partition("://")[2] == asked.host


def _short(error: BaseException) -> str:
    lines = str(getattr(error, "orig", error)).strip().splitlines()
    return lines[0] if lines else type(error).__name__
