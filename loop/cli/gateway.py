"""Commands of the gateway: run it, say who may speak to it, and change the key of pseudonyms."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from loop import config, services
from loop.cli import output
from loop.config import Settings
from loop.state import State


def gateway(  # noqa: PLR0913, PLR0917 - one an option
    host: Annotated[str | None, typer.Option(help="Address to listen on; by default this machine only.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; by default a free one, the same every time.")] = None,
    upstream: Annotated[str | None, typer.Option(help="OpenAI-compatible server that generates instead.")] = None,
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM file; with --tls-key.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file; with --tls-certificate.")] = None,
    json: bool = output.Json,
) -> None:
    """Serve suggestions and collect what people do with them, until Ctrl-C. `loop up` does so too."""
    options = {
        "gateway_host": host,
        "gateway_port": port,
        "upstream_url": upstream,
        "tls_certificate": tls_certificate,
        "tls_key": tls_key,
    }
    settings = config.load(**{name: value for name, value in options.items() if value is not None})
    services.gateway(settings, announce=output.emit_json if json else None)


token = typer.Typer(help="Tokens with which tools speak to the gateway.", no_args_is_help=True)


@token.command("create")
def token_create(  # noqa: PLR0913, PLR0917
    tool: Annotated[str, typer.Option(help="The tool that will hold it.")],
    workflow: Annotated[list[str], typer.Option(help="A workflow that it may speak of; may be repeated.")],
    scope: Annotated[list[str], typer.Option(help="suggest, feedback, outcomes, admin or erase; may be repeated.")],
    purpose: Annotated[
        list[str] | None,
        typer.Option(help="training or evaluation: what its people consented to, where an event does not say."),
    ] = None,
    per_minute: Annotated[int | None, typer.Option(help="Most requests a minute; by default 6,000.")] = None,
    json: bool = output.Json,
) -> None:
    """Make a token and show it, this once."""
    from loop.gateway import access

    with _state(config.load()) as state:
        made = access.create(
            state,
            tool=tool,
            workflows=workflow,
            scopes=scope,
            purposes=purpose or (),
            per_minute=access.PER_MINUTE if per_minute is None else per_minute,
            author=getpass.getuser(),
        )
        (told,) = (t for t in access.tokens(state) if t.token_id == made.split("_")[1])
    if json:
        output.emit_json({"token": made, **asdict(told)})
        return
    print(made)  # alone on stdout, so that a shell can take it
    output.stderr.print("Keep it now: it is shown this once. A tool sends it as `Authorization: Bearer ...`.")
    if not told.purposes and "feedback" in told.scopes:
        output.stderr.print("Without --purpose training, an event that names no purposes is kept and not learned from.")


@token.command("list")
def token_list(json: bool = output.Json) -> None:
    """Every token and what it may; its secret is kept nowhere."""
    from loop.gateway import access

    with _state(config.load()) as state:
        found = [asdict(told) for told in access.tokens(state)]
    if json:
        output.emit_json({"tokens": found})
        return
    columns = ["token_id", "tool", "workflows", "scopes", "purposes", "per_minute", "created_at", "revoked_at"]
    output.table("Tokens", columns, [[_moment(row[name]) for name in columns] for row in found])


@token.command("revoke")
def token_revoke(
    token_id: Annotated[str, typer.Argument(help="Its id, the middle part of the token.")],
    json: bool = output.Json,
) -> None:
    """End a token. A gateway that runs lets it in no more within three seconds."""
    from loop.gateway import access

    with _state(config.load()) as state:
        told = access.revoke(state, token_id, getpass.getuser())
    if json:
        output.emit_json(asdict(told))
    else:
        output.stdout.print(f"Token {told.token_id} of {told.tool} ended at {_moment(told.revoked_at)}.")


key = typer.Typer(help="Keys of this home.", no_args_is_help=True)


class Key(StrEnum):
    """Keys that can be replaced."""

    PSEUDONYM = "pseudonym"


@key.command("rotate")
def key_rotate(
    name: Annotated[Key, typer.Argument(help="pseudonym: under which people's ids are hashed.")],
    json: bool = output.Json,
) -> None:
    """Replace a key by a new one. The old one is kept: what it stands for is still known again."""
    from loop.gateway import access

    settings = config.load()
    with _state(settings) as state:
        number = access.rotate(settings, state, getpass.getuser())
    if json:
        output.emit_json({"key": name.value, "retired": number})
    else:
        output.stdout.print(
            f"From now on people have new pseudonyms; the old key is secrets/{name}.d/{number} of the home. "
            "A gateway that runs follows within three seconds."
        )


@contextmanager
def _state(settings: Settings) -> Iterator[State]:
    """The database alone: tokens need neither the lake nor the registry."""
    with services.session(settings) as urls:
        state = State.open(urls.loop)
        try:
            yield state
        finally:
            state.close()


def _moment(value: Any) -> Any:
    return f"{value:%Y-%m-%d %H:%M} UTC" if hasattr(value, "strftime") else value
