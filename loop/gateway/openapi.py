"""The description of the routes: OpenAPI for programs, one plain page for people. Made from the types in `wire.py`."""

from __future__ import annotations

import html
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import msgspec

from loop import __version__
from loop.gateway import wire
from loop.gateway.records import Whole
from loop.gateway.wire import JSON

_ERRORS: Final = {
    400: "not JSON, not UTF-8, or (for chat) something of the wrong type",
    401: "no live token",
    403: "the token lacks the scope or the workflow",
    404: "no such suggestion, workflow or path",
    405: "another method is expected",
    408: "the request did not arrive in time",
    409: "the key was here with other content; both are kept",
    413: "longer than allowed; send it in parts",
    415: "a content-encoding that is not known",
    422: "a field is missing, unknown, of the wrong type, or breaks a rule; `param` names it",
    429: "too often, or too much waits to be moved to the lake; see retry-after",
    431: "headers longer than allowed",
    500: "the gateway failed",
    502: "the answer of the model cannot be used",
    503: "no storage or no model at the moment; see retry-after",
}
_ANY: Final = (400, 405, 408, 431, 500, 503)
_LET_IN: Final = (401, 403, 429)
_BODY: Final = (413, 415)


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    does: str
    replies: dict[int, Any]
    """Status to the schema of a good answer; a text is a media type without one."""
    scope: str | None = None
    """What the token must be for; None for those that need no token."""
    body: Any = None
    """Schema of the body."""
    media: str = "application/json"
    errors: tuple[int, ...] = ()
    """Beside those that any may have."""


def _ref(type_: type) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{type_.__name__}"}


def _one_or_many(*types: type) -> dict[str, Any]:
    one = [_ref(type_) for type_ in types]
    item = one[0] if len(one) == 1 else {"anyOf": one}
    return {"anyOf": [*one, {"type": "array", "items": item}]}


_OBJECT: Final[dict[str, Any]] = {"type": "object"}
_READY: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["ready", "feedback", "suggestions", "reasons"],
    "properties": {
        "ready": {"type": "boolean"},
        "feedback": {"type": "boolean"},
        "suggestions": {"type": "boolean"},
        "reasons": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}
_MODEL: Final = {
    "type": "object",
    "required": ["id", "object", "created", "owned_by"],
    "properties": {"id": {"type": "string"}},
}

OPERATIONS: Final = (
    Operation(
        "post",
        "/v1/chat/completions",
        "Suggestions in the form of OpenAI's chat completions; `model` is the workflow.",
        {200: {**_OBJECT, "required": ["id", "model", "choices"]}},
        "suggest",
        _ref(wire.Chat),
        errors=(404, 502),
    ),
    Operation(
        "post",
        "/v1/suggestions",
        "Several candidates with their positions, log-probabilities and propensities.",
        {200: _ref(wire.Suggested)},
        "suggest",
        _ref(wire.Suggest),
        errors=(422, 502),
    ),
    Operation(
        "post",
        "/v1/feedback",
        "What people did, one or an array: short, joined with the gateway's own suggestion, or the whole event.",
        {200: {"anyOf": [_ref(wire.Stored), _ref(wire.Results)]}, 207: _ref(wire.Results)},
        "feedback",
        _one_or_many(wire.Feedback, Whole),
        errors=(404, 409, 422),
    ),
    Operation(
        "post",
        "/v1/feedback/batch",
        "The same, one a line, packed by gzip or zstd if you like.",
        {200: _ref(wire.Results), 207: _ref(wire.Results)},
        "feedback",
        {"type": "array", "items": {"anyOf": [_ref(wire.Feedback), _ref(Whole)]}, "description": "one item a line"},
        "application/x-ndjson",
    ),
    Operation(
        "post",
        "/v1/outcomes",
        "Late results of suggestions, one or an array.",
        {200: {"anyOf": [_ref(wire.Stored), _ref(wire.Results)]}, 207: _ref(wire.Results)},
        "outcomes",
        _one_or_many(wire.Outcome),
        errors=(404, 409, 422),
    ),
    Operation(
        "post",
        "/v1/studio",
        "Label Studio's word that somebody answered, with the secret that it was given; what else it says is not read.",
        {202: _OBJECT},
        errors=(401, 413, 415),
    ),
    Operation("get", "/v1/models", "The workflows of the token.", {200: _OBJECT}, "suggest"),
    Operation("get", "/v1/models/{model}", "One workflow.", {200: _MODEL}, "suggest", errors=(404,)),
    Operation("get", "/healthz", "Whether the gateway lives.", {200: _OBJECT}),
    Operation("get", "/readyz", "Whether it can store feedback and suggest, and why not.", {200: _READY, 503: _READY}),
    Operation("get", "/metrics", "Figures for Prometheus.", {200: "text/plain"}),
    Operation("get", "/openapi.json", "This description.", {200: _OBJECT}),
    Operation("get", "/docs", "This description for people.", {200: "text/html"}),
)


@cache
def document() -> bytes:
    """The OpenAPI 3.1 document."""
    types = (
        wire.Chat,
        wire.Suggest,
        wire.Suggested,
        wire.Feedback,
        Whole,
        wire.Outcome,
        wire.Stored,
        wire.Results,
        wire.Failure,
    )
    _, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    paths: dict[str, Any] = {}
    for one in OPERATIONS:
        paths.setdefault(one.path, {})[one.method] = _operation(one)
    return JSON.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Loop gateway",
                "version": __version__,
                "description": "Ask for suggestions and tell what people did with them. Acknowledged means durable.",
            },
            "paths": paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": {
                    "token": {"type": "http", "scheme": "bearer", "bearerFormat": "loop_<id>_<secret>"}
                },
            },
        }
    )


def _operation(one: Operation) -> dict[str, Any]:
    told: dict[str, Any] = {"summary": one.does, "operationId": _name(one), "responses": _responses(one)}
    if one.scope:
        told["security"] = [{"token": []}]
        told["description"] = f"Needs a token with the scope `{one.scope}`."
    if one.body is not None:
        told["requestBody"] = {"required": True, "content": {one.media: {"schema": one.body}}}
    if "{" in one.path:
        name = one.path.partition("{")[2].rstrip("}")
        told["parameters"] = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}}]
    return told


def _name(one: Operation) -> str:
    words = one.path.replace("{", "").replace("}", "").replace(".", "/").removeprefix("/v1").strip("/").split("/")
    return "_".join((one.method, *words))


def _errors(one: Operation) -> list[int]:
    more = (*_ANY, *(_LET_IN if one.scope else ()), *(_BODY if one.body is not None else ()), *one.errors)
    return sorted(set(more) - set(one.replies))


def _responses(one: Operation) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for status, schema in one.replies.items():
        content = {schema: {}} if isinstance(schema, str) else {"application/json": {"schema": schema}}
        if one.path == "/v1/chat/completions":
            content["text/event-stream"] = {"schema": {"type": "string"}}
        told[str(status)] = {"description": "as asked", "content": content}
    for status in _errors(one):
        content = {"application/json": {"schema": _ref(wire.Failure)}}
        told[str(status)] = {"description": _ERRORS[status], "content": content}
    return told


# -- for people -------------------------------------------------------------------------------------------------------

_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
body { color: #1c1c1e; background: #fff; }
h2 { font-size: 1.1rem; margin-top: 2.5rem; border-top: 1px solid #ccc; padding-top: 1rem; }
code, pre { font: 14px/1.45 ui-monospace, monospace; background: #f2f2f4; }
code { padding: 0 .25em; }
pre { padding: 1rem; overflow: auto; }
td { padding: .1rem 1rem .1rem 0; vertical-align: top; }
@media (prefers-color-scheme: dark) {
  body { color: #eee; background: #161618; } code, pre { background: #26262a; } h2 { border-color: #444; }
}
"""


@cache
def page() -> bytes:
    """The same as a page that loads nothing from elsewhere."""
    described: dict[str, Any] = msgspec.json.decode(document())
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>Loop gateway</title>",
        "<meta name=viewport content='width=device-width'>",
        f"<style>{_STYLE}</style><h1>Loop gateway</h1>",
        f"<p>{html.escape(described['info']['description'])}",
        " Every request but those to <code>/healthz</code>, <code>/readyz</code>, <code>/metrics</code> and these ",
        "pages carries <code>Authorization: Bearer loop_...</code>, which <code>loop token create</code> makes. ",
        "The description for programs is <a href=/openapi.json>/openapi.json</a>.</p>",
        *(_section(one) for one in OPERATIONS),
        "<h2>Types</h2>",
        *(_type(name, schema) for name, schema in described["components"]["schemas"].items()),
        "</html>",
    ]
    return "".join(parts).encode()


def _section(one: Operation) -> str:
    errors = "".join(f"<tr><td>{status}<td>{html.escape(_ERRORS[status])}" for status in _errors(one))
    body = f"<p>Body ({one.media}): {_linked(one.body)}</p>" if one.body is not None else ""
    scope = f"<p>Scope of the token: <code>{one.scope}</code></p>" if one.scope else ""
    return (
        f"<h2><code>{one.method.upper()} {html.escape(one.path)}</code></h2><p>{html.escape(one.does)}</p>"
        f"{scope}{body}<table>{errors}</table>"
    )


def _linked(schema: dict[str, Any]) -> str:
    names = sorted({part.rpartition("/")[2] for part in _references(schema)})
    return ", ".join(f"<a href=#{name}>{name}</a>" for name in names)


def _references(schema: Any) -> list[str]:
    if isinstance(schema, dict):
        here = [schema["$ref"]] if "$ref" in schema else []
        return [*here, *(ref for value in schema.values() for ref in _references(value))]
    return [ref for value in schema for ref in _references(value)] if isinstance(schema, list) else []


def _type(name: str, schema: dict[str, Any]) -> str:
    text = msgspec.json.format(JSON.encode(schema)).decode()
    return f"<h3 id={name}>{name}</h3><pre>{html.escape(text)}</pre>"
