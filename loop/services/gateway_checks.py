"""What the doctor asks of a gateway that runs, or has run, for a home: each thing that it needs, by itself."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from typing import Any, Final

from loop.config import Settings
from loop.errors import LoopError
from loop.services import postgres, processes, serving
from loop.services.finding import Finding
from loop.services.processes import Running

STALE: Final = 10.0
"""Seconds after which the front's knowledge of tokens counts as old; it reads them every two."""


def checks(settings: Settings) -> Iterator[Finding]:
    """Findings on the gateway; none for a home that never had one."""
    try:
        running = processes.read(settings).processes
    except (LoopError, OSError):
        return  # the finding on services says so
    front, generator = running.get(serving.FRONT), running.get(serving.GENERATOR)
    if front is None and generator is None and not settings.gateway.exists():
        return
    yield from _front(settings, front)
    if settings.upstream_url is None:
        yield from _generator(settings, generator)
    else:
        yield _upstream(settings)
    if front and front.alive:
        server = running.get(postgres.NAME)
        if not settings.postgres_url and not (server and server.alive):
            yield Finding("database", False, "the gateway runs, and its Postgres does not", "loop down; loop gateway")
        yield _tokens(settings)
    yield from _certificate(settings)
    yield from _spool(settings)
    yield from _ledger(settings)
    yield from _room(settings)


def _log(settings: Settings, name: str) -> str:
    return f"see {settings.services / name}.log"


def _front(settings: Settings, front: Running | None) -> Iterator[Finding]:
    again = f"{_log(settings, serving.FRONT)}; loop down; loop gateway"
    if front is None:
        yield Finding("gateway", True, "not running; `loop gateway` starts it")
    elif not front.alive:
        yield Finding("gateway", False, f"its front at {front.address} has died", again)
    elif (serving.get(front.address, "/healthz") or (0,))[0] != 200:
        yield Finding("gateway", False, f"process {front.pid} runs, and {front.address} does not answer", again)
    else:
        status, told = serving.get(front.address, "/readyz") or (0, None)
        if status == 200:
            yield Finding("gateway", True, f"{front.address} answers and is ready")
        else:
            yield Finding(
                "gateway", False, f"{front.address} is not ready: {_reasons(told)}", _log(settings, "gateway")
            )


def _reasons(told: Any) -> str:
    """What /readyz says is wrong, in one line."""
    reasons = told.get("reasons") if isinstance(told, dict) else None
    if isinstance(reasons, dict):
        reasons = [f"{name}: {why}" for name, why in reasons.items()]
    return "; ".join(map(str, reasons)) if reasons else "it does not say why"


def _generator(settings: Settings, generator: Running | None) -> Iterator[Finding]:
    again = f"{_log(settings, serving.GENERATOR)}; feedback is collected all the same"
    if generator is None:
        return
    if not generator.alive:
        yield Finding("generator", False, "it has died; no suggestions are made", again)
        return
    status, told = serving.get(generator.address, "/status", serving.secret(settings)) or (0, None)
    if status != 200 or not isinstance(told, dict):
        yield Finding("generator", False, f"process {generator.pid} runs, and does not answer", again)
        return
    version = told.get("version")
    serves = f"serves {version}" if version else "serves nothing"
    for failed, why in (told.get("failed") or {}).items():
        mend = f"restore models/{failed} of the home, or release another version; {_log(settings, serving.GENERATOR)}"
        yield Finding("generator", False, f"{failed} could not be loaded: {why}; it {serves}", mend)
    if version:
        yield Finding("generator", True, serves)
    elif told.get("loading"):
        yield Finding("generator", True, f"loads {told['loading']}")
    elif not told.get("failed"):
        yield Finding("generator", False, "there is no champion to serve", "loop cycle makes one, or loop run")


def _upstream(settings: Settings) -> Finding:
    import httpx

    url, key = settings.upstream_url, settings.secret_text("upstream")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        status = httpx.get(f"{url}/models", headers=headers, timeout=5.0).status_code
    except httpx.HTTPError as error:
        return Finding("upstream", False, f"{url}: {error or type(error).__name__}", "start it, or set upstream_url")
    if status in {401, 403}:
        return Finding("upstream", False, f"{url} refuses the key ({status})", "set LOOP_SECRET_UPSTREAM to its key")
    ok = status < 500
    return Finding("upstream", ok, f"{url} answers with {status}", None if ok else "look at that server's log")


def _tokens(settings: Settings) -> Finding:
    try:
        age = time.time() - (settings.gateway / "tokens.json").stat().st_mtime
    except FileNotFoundError:
        age = None
    if age is not None and age <= STALE:
        return Finding("tokens", True, f"read {max(age, 0.0):.0f} s ago")
    detail = "never read" if age is None else f"last read {age:.0f} s ago: one that was revoked since is still let in"
    return Finding("tokens", False, detail, f"see whether Postgres is there; {_log(settings, serving.FRONT)}")


def _certificate(settings: Settings) -> Iterator[Finding]:
    if settings.tls_certificate is not None:
        try:
            serving.check_tls(settings)
        except LoopError as error:
            yield Finding("tls", False, str(error), "set tls_certificate and tls_key to files that belong together")
        else:
            yield Finding("tls", True, f"{settings.tls_certificate} and its key can be used")


def _spool(settings: Settings) -> Iterator[Finding]:
    folder = settings.spool
    if not folder.is_dir():
        return
    files = {
        path: path.stat().st_size for path in folder.iterdir() if path.suffix in {".open", ".seg", ".torn", ".bad"}
    }
    size = sum(n for path, n in files.items() if path.suffix in {".open", ".seg"})
    torn = [path for path in files if path.suffix == ".torn"]
    detail = f"{size / 1e6:.1f} of {settings.spool_bytes / 1e6:.1f} MB wait to be moved to the lake"
    if size > settings.spool_bytes / 2:
        mend = "turn on the sensor that moves it (`loop up`, the Dagster UI), or see why its runs fail"
        yield Finding("spool", False, f"{detail}; when it is full, tools are told to come back", mend)
    else:
        yield Finding("spool", True, detail)
    for path in torn:
        told = f"{files[path]} bytes at the end of a segment were no whole record; nothing acknowledged is in them"
        yield Finding("spool", False, told, f"a power cut leaves such: look at {path}, then remove it")
    for path in (path for path in files if path.suffix == ".bad"):
        told = f"a segment was damaged after it was sealed; what could be read of {path.name} is in the lake"
        yield Finding(
            "spool", False, told, f"look at the disk; keep {path} if what is damaged is worth mending, else remove it"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        yield Finding("spool", False, f"{folder} cannot be written to", "mend its permissions, or the disk below it")


def _ledger(settings: Settings) -> Iterator[Finding]:
    if settings.ledger.is_dir() and any(settings.ledger.iterdir()):
        yield Finding("ledger", True, f"{settings.ledger}")
    elif settings.spool.is_dir() and any(settings.spool.iterdir()):
        yield Finding(
            "ledger",
            False,
            f"{settings.ledger} is missing: what came before the spool is not known again when it is sent once more",
            "restore it from a copy; the next start makes one from what is in the spool",
        )


def _room(settings: Settings) -> Iterator[Finding]:
    if settings.gateway.is_dir():
        free = shutil.disk_usage(settings.gateway).free
        ok = free >= settings.spool_bytes
        detail = f"{free / 1e9:.1f} GB free for a spool of up to {settings.spool_bytes / 1e9:.1f} GB"
        yield Finding("spool disk", ok, detail, None if ok else "free some, or set spool_bytes to less")
