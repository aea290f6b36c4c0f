"""The gateway's two processes as services of a home: how they are started, where they are, whether they answer.

The front takes every request; the generator holds the model, or an upstream does and there is none. What they do stands
in `loop.gateway`, which runs in those processes and is not imported here.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from loop.config import Settings
from loop.errors import BadInputError
from loop.services.tools import Service

FRONT: Final = "gateway"
GENERATOR: Final = "generator"
SERVERS: Final = (GENERATOR, FRONT)
"""In the order of starting: the front is told where the generator is."""
INTERNAL: Final = "x-loop-internal"
"""Carries `settings.secret("gateway")` in hexadecimal from the front to the generator."""


def servers(settings: Settings, port: Callable[[str], int]) -> list[Service]:
    """The services of `SERVERS` that these settings ask for, in its order. `port` gives the port of each."""
    given = [_front(settings, port)]
    if settings.upstream_url is None:
        given.insert(0, _generator(settings, port(GENERATOR)))
    return given


def check_tls(settings: Settings) -> None:
    """Whether certificate and key can be used, before anything is started with them.

    Raises:
        BadInputError: a file is missing, or they do not belong together.
    """
    if settings.tls_certificate is None:
        return
    for path in (settings.tls_certificate, settings.tls_key):
        if path is None or not path.is_file():
            raise BadInputError(f"TLS: expected a PEM file at {path}, got none; see tls_certificate and tls_key")
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            settings.tls_certificate, settings.tls_key, password=_no_password
        )
    except (ssl.SSLError, OSError) as error:
        raise BadInputError(
            f"TLS: expected a certificate and its key, in PEM and without a password, in {settings.tls_certificate} "
            f"and {settings.tls_key}: {error}"
        ) from None


def is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def get(address: str, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, Any] | None:
    """Status and JSON (None where it is none) of what one of our own processes answers; None if it does not.

    The certificate is not looked at, for it names the host that others know. No proxy is asked.
    """
    url = urlsplit(address)
    assert url.hostname is not None
    host, port = url.hostname, url.port
    if url.scheme == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        made: http.client.HTTPConnection = http.client.HTTPSConnection(host, port, timeout=10, context=context)
    else:
        made = http.client.HTTPConnection(host, port, timeout=10)
    with contextlib.closing(made) as connection:
        try:
            connection.request("GET", path, headers=dict(headers or {}))
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            return None
    try:
        return answer.status, json.loads(body)
    except ValueError:
        return answer.status, None


def secret(settings: Settings) -> dict[str, str]:
    """The header by which the generator knows the front, and whoever else may read the home's secrets."""
    return {INTERNAL: settings.secret("gateway").hex()}


def _front(settings: Settings, port: Callable[[str], int]) -> Service:
    at, host = port(FRONT), settings.gateway_host
    command = (sys.executable, "-m", "loop.gateway.run", "front", "--host", host, "--port", str(at))
    near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - where it is reached from here
    shown = f"[{near}]" if ":" in near else near
    address = f"{'https' if settings.tls_certificate else 'http'}://{shown}:{at}"
    return Service(
        FRONT,
        "Gateway",
        command,
        address,
        lambda: (get(address, "/healthz") or (0,))[0] == http.client.OK,
        lasting=True,
    )


def _generator(settings: Settings, at: int) -> Service:
    command = (sys.executable, "-m", "loop.gateway.run", "generator", "--host", "127.0.0.1", "--port", str(at))
    address = f"http://127.0.0.1:{at}"
    return Service(
        GENERATOR,
        "Generator",
        command,
        address,
        lambda: (get(address, "/status", secret(settings)) or (0,))[0] == http.client.OK,
        shown=False,
        lasting=True,
    )


def _no_password() -> str:
    return ""  # else OpenSSL asks for one on the terminal
