"""The description of the routes is true: of the routes there are, and of what they answer."""

from __future__ import annotations

import re
import warnings
from html.parser import HTMLParser
from typing import Any

import httpx
import hypothesis
import msgspec
import pytest
import schemathesis

from loop.gateway import openapi
from loop.label.studio import hook
from tests.gateway.fronts import Running, bearer

DOCUMENT: dict[str, Any] = msgspec.json.decode(openapi.document())


def test_it_describes_every_route_and_no_other(front: Running) -> None:
    there = {
        (method, path, route.scope)
        for path, methods in front.front._routes.items()
        for method, route in methods.items()
    }
    assert {(one.method.upper(), one.path, one.scope) for one in openapi.OPERATIONS} == there
    described = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert described == {(method, path) for method, path, _ in there}


def test_every_type_that_is_named_is_there() -> None:
    named = set(re.findall(r'"#/components/schemas/(\w+)"', openapi.document().decode()))
    assert named <= set(DOCUMENT["components"]["schemas"])
    limits = DOCUMENT["components"]["schemas"]["Feedback"]["properties"]
    assert limits["event_id"] == {"type": "string", "minLength": 1, "maxLength": 200}
    assert DOCUMENT["components"]["schemas"]["Feedback"]["required"] == ["event_id", "suggestion_id", "decision"]


def test_the_page_for_people_loads_nothing(front: Running) -> None:
    page = front.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"] == "default-src 'none'; style-src 'unsafe-inline'"
    loaded: list[str] = []
    ids: set[str] = set()
    links: set[str] = set()

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            given = dict(attrs)
            ids.add(given.get("id") or "")
            links.add(given.get("href") or "")
            if "src" in given or tag in ("link", "script", "iframe"):
                loaded.append(tag)

    Reader().feed(page.text)
    assert loaded == []
    assert {link.removeprefix("#") for link in links if link.startswith("#")} <= ids
    for one in openapi.OPERATIONS:
        assert f"{one.method.upper()} {one.path}" in page.text


def test_the_document_is_the_one_that_is_served(front: Running) -> None:
    reply = front.get("/openapi.json")
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json() == DOCUMENT


# -- schemathesis -----------------------------------------------------------------------------------------------------

REFUSED = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 429, 431, 503]
CHECKS = {
    # What the schema allows may still break a rule between fields, or be about what is not there.
    "positive_data_acceptance": {"expected-statuses": ["2xx", 400, 403, 404, 409, 422]},
    # Of several items, those that are wrong are named in a 207.
    "negative_data_rejection": {"expected-statuses": [*REFUSED, 207]},
}
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT, config=schemathesis.Config.from_dict({"checks": CHECKS}))


@schemathesis.serializer("application/x-ndjson")
def lines(_: Any, value: Any) -> bytes:
    """Items one a line; what is no list as one line."""
    return b"\n".join(msgspec.json.encode(item) for item in (value if isinstance(value, list) else [value]))


@pytest.mark.parametrize("mode", [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE])
@pytest.mark.parametrize("one", openapi.OPERATIONS, ids=lambda one: f"{one.method} {one.path}")
def test_what_is_answered_is_what_is_described(
    front: Running, one: openapi.Operation, mode: schemathesis.GenerationMode
) -> None:
    operation = SCHEMA[one.path][one.method.upper()]
    given = hook.secret(front.settings) if one.path == hook.PATH else bearer("all")
    headers = {"Authorization": f"Bearer {given}"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = operation.as_strategy(generation_mode=mode)

    @hypothesis.settings(
        max_examples=25,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=cases)
    def asked(case: Any) -> None:
        case.call_and_validate(base_url=front.url, headers=headers)

    try:
        asked()
    except hypothesis.errors.Unsatisfiable:
        assert mode is schemathesis.GenerationMode.NEGATIVE, "a request that is as described can always be made"
    assert httpx.get(f"{front.url}/healthz", trust_env=False).status_code == 200
