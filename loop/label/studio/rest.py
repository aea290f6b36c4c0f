"""Label Studio's REST interface, as little of it as is needed. What is asked of it stands elsewhere.

Its own client would bring 677 MB and an older NumPy.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx

from loop.errors import LoopError
from loop.services.studio import Studio

PAGE: Final = 200
"""Tasks that are asked for at a time: two seconds of its work."""
_TIMEOUT: Final = httpx.Timeout(120.0, connect=10.0)
_NONE: Final = "there is no such thing there"


class Rest:
    """A connection to a Label Studio, made with a personal access token or a legacy one."""

    def __init__(self, studio: Studio) -> None:
        self.url = studio.url
        self._token = studio.token
        near = urlsplit(studio.url).hostname in {"127.0.0.1", "localhost", "::1"}
        self._http = httpx.Client(base_url=studio.url, timeout=_TIMEOUT, trust_env=not near)
        self._header: str | None = None
        self.now = datetime.now(UTC)
        """What its clock said in its last answer."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    # -- what there is ----------------------------------------------------------------------------------------------

    def version(self) -> str:
        return str(self.ask("GET", "/api/version")["release"])

    def users(self) -> dict[int, str]:
        """Everybody's address, by id."""
        return {int(user["id"]): str(user["email"]) for user in self.ask("GET", "/api/users/")}

    def owner(self) -> str:
        """The address of whose token this is."""
        return str(self.ask("GET", "/api/current-user/whoami")["email"])

    def projects(self) -> list[dict[str, Any]]:
        found, page = [], 1
        while True:
            told = self.ask("GET", "/api/projects/", params={"page": page, "page_size": 100})
            found += told["results"]
            if not told["next"]:
                return found
            page += 1

    def tasks(self, project: int, *, since: datetime | None = None, answers: bool = True) -> Iterator[list[Any]]:
        """The tasks of a project, a page after the other, by id.

        A page begins after the last id of the one before, not at a number of rows: what others add or remove meanwhile
        moves none from one page to the other.

        Args:
            since: only those that changed then or later, by its own clock; an answer that is deleted changes its task.
            answers: with their annotations; else `id`, `meta` and `data` alone.
        """
        after = 0
        while True:
            items = [_filter("id", "greater", "Number", after)]
            if since is not None:
                moment = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
                items.append(_filter("updated_at", "greater_or_equal", "Datetime", moment))
            query = {"filters": {"conjunction": "and", "items": items}, "ordering": ["tasks:id"]}
            params: dict[str, Any] = {"project": project, "page": 1, "page_size": PAGE, "query": json.dumps(query)}
            params |= {"fields": "all"} if answers else {"fields": "task_only", "include": "id,meta,data"}
            page = self.ask("GET", "/api/tasks/", params=params)["tasks"]
            if not page:
                return
            yield page
            after = max(task["id"] for task in page)

    # -- asking -----------------------------------------------------------------------------------------------------

    def ask(
        self, method: str, path: str, *, params: Mapping[str, Any] | None = None, send: Any = None, again: bool = True
    ) -> Any:
        """What it answers, as JSON; None where it answers nothing.

        Raises:
            LoopError: it does not answer, or refuses.
        """
        try:
            if self._header is None:
                self._header = self._mint()
            headers = {"Authorization": self._header}
            reply = self._http.request(method, path, params=dict(params or {}), json=send, headers=headers)
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
            raise LoopError(f"Label Studio at {self.url} does not answer: {why}; nothing is lost, try again") from None
        if reply.status_code == httpx.codes.UNAUTHORIZED and again and self._header.startswith("Bearer"):
            self._header = None  # what was minted lasts for minutes
            return self.ask(method, path, params=params, send=send, again=False)
        if "date" in reply.headers:
            self.now = parsedate_to_datetime(reply.headers["date"])
        return self._read(reply, method, path)

    def _mint(self) -> str:
        """The header with which requests are made. A personal token is one to ask for short-lived ones with."""
        if self._token.count(".") != 2:
            return f"Token {self._token}"
        reply = self._http.post("/api/token/refresh/", json={"refresh": self._token})
        return f"Bearer {self._read(reply, 'POST', '/api/token/refresh/')['access']}"

    def _read(self, reply: httpx.Response, method: str, path: str) -> Any:
        if reply.is_success:
            try:
                return reply.json() if reply.content else None
            except ValueError:
                raise LoopError(f"{self.url}{path}: expected JSON as of Label Studio, got something else") from None
        if reply.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            told = "the token is not let in; legacy tokens are off by default there: use a personal access token"
        else:
            told = _said(reply)
        raise LoopError(f"Label Studio at {self.url}: {method} {path} was answered with {reply.status_code}: {told}")


def _filter(column: str, operator: str, kind: str, value: Any) -> dict[str, Any]:
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": kind, "value": value}


def _said(reply: httpx.Response) -> str:
    """What it says of an error, in a line; texts of tasks may stand there, so no more than a little of it."""
    try:
        told = reply.json()
    except ValueError:
        return "no JSON"
    if not isinstance(told, dict):
        return _NONE
    inner: Sequence[Any] = [told.get("detail") or "", told.get("validation_errors") or ""]
    return " ".join(str(part) for part in inner if part)[:300]
