"""The gateway as services: ports that are set, certificates, and what the doctor finds when a part of it is broken."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from loop.config import Settings, load
from loop.errors import BadInputError
from loop.services import Finding, doctor, gateway, living, processes, serving
from loop.services.processes import Running

Answer = Callable[..., str]


@pytest.fixture
def answer() -> Iterator[Answer]:
    """Makes servers that answer with fixed JSON by path, to those that show a header if one is asked for."""
    with contextlib.ExitStack() as running:

        def make(answers: dict[str, tuple[int, Any]], header: str = "", value: str = "", tls: Any = None) -> str:
            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    status, told = answers.get(self.path, (404, {}))
                    if header and self.headers[header] != value:
                        status, told = 401, {}
                    body = json.dumps(told).encode()
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

                def log_message(self, *_: Any) -> None:
                    pass

            server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            if tls:
                server.socket = tls.wrap_socket(server.socket, server_side=True)
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            running.callback(server.server_close)
            running.callback(server.shutdown)
            return f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"

        yield make


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate and its key, for a name that is not 127.0.0.1."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "front.pem", folder / "front.key"
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway.example")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, key


def running(settings: Settings, **addresses: str) -> None:
    """Notes this very process as services of these addresses."""
    me = processes.myself()
    with processes.locked(settings):
        for name, address in addresses.items():
            processes.note(settings, name, Running(me.pid, me.birth, address))


def found(settings: Settings, name: str) -> list[Finding]:
    return [finding for finding in doctor(settings) if finding.name == name]


def find(settings: Settings, name: str) -> Finding:
    (finding,) = found(settings, name)
    return finding


READY = {"/healthz": (200, {}), "/readyz": (200, {})}


# -- settings ---------------------------------------------------------------------------------------------------------


def test_a_certificate_and_another_key_are_refused(
    bare_settings: Settings, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    certificate, key = pair
    serving.check_tls(bare_settings)
    serving.check_tls(load(tls_certificate=certificate, tls_key=key))
    for wrong in ((certificate, certificate), (key, key)):
        with pytest.raises(
            BadInputError, match="TLS: expected a certificate and its key, in PEM and without a password"
        ):
            serving.check_tls(load(tls_certificate=wrong[0], tls_key=wrong[1]))
    with pytest.raises(BadInputError, match=r"TLS: expected a PEM file at .*none\.pem, got none"):
        gateway(load(home=tmp_path / "none", tls_certificate="none.pem", tls_key=key))
    assert not (tmp_path / "none").exists(), "refused before anything is made"


def test_a_key_with_a_password_asks_nobody(pair: tuple[Path, Path], tmp_path: Path) -> None:
    locked = tmp_path / "locked.key"
    private = load_pem_private_key(pair[1].read_bytes(), None)
    locked.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hunter2")))
    with pytest.raises(BadInputError, match="without a password"):
        serving.check_tls(load(tls_certificate=pair[0], tls_key=locked))


def test_the_port_is_the_one_that_is_set_or_the_one_of_last_time(bare_settings: Settings) -> None:
    first = living._port(bare_settings, "gateway")
    assert living._port(bare_settings, "gateway") == first
    assert living._port(bare_settings, "generator") != first
    with contextlib.closing(socket.create_server(("127.0.0.1", first))):
        other = living._port(bare_settings, "gateway")
        assert other != first
        taken = Settings(home=bare_settings.home, gateway_port=first)
        with pytest.raises(BadInputError, match=rf"port {first} on 127\.0\.0\.1 cannot be had: .*in use"):
            living._port(taken, "gateway")
        assert living._port(taken, "generator") != first, "the setting is the front's"
    assert living._port(taken, "gateway") == first
    assert processes.read(bare_settings).ports["gateway"] == first


def test_a_host_of_another_machine_is_named(bare_settings: Settings) -> None:
    elsewhere = Settings(home=bare_settings.home, gateway_host="192.0.2.1")
    with pytest.raises(BadInputError, match=r"a free port on 192\.0\.2\.1 cannot be had"):
        living._port(elsewhere, "gateway")


@pytest.mark.parametrize(
    ("host", "address", "near"),
    [
        ("127.0.0.1", "http://127.0.0.1:7", True),
        ("0.0.0.0", "http://127.0.0.1:7", False),
        ("::", "http://[::1]:7", False),
        ("::1", "http://[::1]:7", True),
        ("gateway.example", "http://gateway.example:7", False),
    ],
)
def test_the_front_listens_where_it_is_told_and_is_shown_where_it_is_reached(
    bare_settings: Settings, host: str, address: str, near: bool
) -> None:
    settings = Settings(home=bare_settings.home, gateway_host=host)
    generator, front = serving.servers(settings, lambda name: 7 if name == "gateway" else 8)
    assert (front.name, front.address, front.shown) == ("gateway", address, True)
    assert front.command[-5:] == ("front", "--host", host, "--port", "7")
    assert (generator.name, generator.address, generator.shown) == ("generator", "http://127.0.0.1:8", False)
    assert serving.is_loopback(host) is near


def test_with_an_upstream_there_is_no_generator(bare_settings: Settings, pair: tuple[Path, Path]) -> None:
    given = {"upstream_url": "http://models.example/v1", "tls_certificate": pair[0], "tls_key": pair[1]}
    (front,) = serving.servers(Settings(home=bare_settings.home, **given), lambda _: 7)
    assert front.address == "https://127.0.0.1:7"
    assert not bare_settings.home.exists()


def test_health_is_asked_over_tls_and_past_any_proxy(
    bare_settings: Settings, answer: Answer, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*pair)
    address = answer(READY, tls=context)
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    assert serving.get(address, "/healthz") == (200, {})
    assert serving.get("http://127.0.0.1:1", "/healthz") is None
    port = int(address.rpartition(":")[2])
    settings = Settings(home=bare_settings.home, tls_certificate=pair[0], tls_key=pair[1])
    (front,) = [s for s in serving.servers(settings, lambda _: port) if s.name == "gateway"]
    assert front.healthy()


# -- the doctor -------------------------------------------------------------------------------------------------------


def test_a_home_without_a_gateway_has_no_finding_on_it(bare_settings: Settings) -> None:
    bare_settings.make_home()
    names = {finding.name for finding in doctor(bare_settings)}
    assert names.isdisjoint({"gateway", "generator", "upstream", "tokens", "tls", "spool", "ledger", "spool disk"})
    bare_settings.gateway.mkdir()
    assert find(bare_settings, "gateway") == Finding("gateway", True, "not running; `loop gateway` starts it")


def test_a_front_that_answers_is_well(bare_settings: Settings, answer: Answer) -> None:
    address = answer(READY)
    running(bare_settings, gateway=address)
    assert find(bare_settings, "gateway") == Finding("gateway", True, f"{address} answers and is ready")


def test_a_front_that_is_not_ready_says_why(bare_settings: Settings, answer: Answer) -> None:
    address = answer(READY | {"/readyz": (503, {"reasons": {"spool": "it is full", "tokens": "they are old"}})})
    running(bare_settings, gateway=address)
    finding = find(bare_settings, "gateway")
    assert not finding.ok
    assert finding.detail == f"{address} is not ready: spool: it is full; tokens: they are old"


def test_a_front_that_does_not_answer_and_one_that_died_are_told_apart(bare_settings: Settings) -> None:
    running(bare_settings, gateway="http://127.0.0.1:1")
    finding = find(bare_settings, "gateway")
    assert (finding.ok, finding.detail) == (
        False,
        f"process {os.getpid()} runs, and http://127.0.0.1:1 does not answer",
    )
    with processes.locked(bare_settings):
        processes.note(bare_settings, "gateway", Running(1, "long ago", "http://127.0.0.1:1"))
        processes.note(bare_settings, "generator", Running(1, "long ago", "http://127.0.0.1:2"))
    assert find(bare_settings, "gateway").detail == "its front at http://127.0.0.1:1 has died"
    assert find(bare_settings, "generator").detail == "it has died; no suggestions are made"
    assert found(bare_settings, "tokens") == [], "nobody reads them"


@pytest.mark.parametrize(
    ("status", "findings"),
    [
        ({"version": "m2", "loading": None, "failed": None}, [(True, "serves m2")]),
        ({"version": None, "loading": "m1", "failed": None}, [(True, "loads m1")]),
        ({"version": None, "loading": None, "failed": None}, [(False, "there is no champion to serve")]),
        (
            {"version": "m1", "loading": None, "failed": {"m2": "no weights"}},
            [(False, "m2 could not be loaded: no weights; it serves m1"), (True, "serves m1")],
        ),
        (
            {"version": None, "loading": None, "failed": {"m2": "no weights"}},
            [(False, "m2 could not be loaded: no weights; it serves nothing")],
        ),
    ],
)
def test_the_generator_says_what_it_serves_and_what_failed(
    bare_settings: Settings, answer: Answer, status: dict[str, Any], findings: list[tuple[bool, str]]
) -> None:
    secret = bare_settings.secret("gateway").hex()
    running(bare_settings, generator=answer({"/status": (200, status)}, "x-loop-internal", secret))
    told = found(bare_settings, "generator")
    assert [(finding.ok, finding.detail) for finding in told] == findings
    assert all(finding.ok or finding.mend for finding in told)
    assert secret not in str(told)


def test_a_generator_that_does_not_answer_is_found(bare_settings: Settings, answer: Answer) -> None:
    running(bare_settings, generator=answer({}, "x-loop-internal", "another"))
    assert find(bare_settings, "generator").detail == f"process {os.getpid()} runs, and does not answer"


def test_an_upstream_is_asked_with_its_key(
    bare_settings: Settings, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = answer({"/v1/models": (200, {})}, "Authorization", "Bearer sk-hunter2") + "/v1"
    settings = Settings(home=bare_settings.home, upstream_url=url)
    settings.make_home()
    settings.gateway.mkdir()
    refused = find(settings, "upstream")
    assert (refused.ok, refused.detail) == (False, f"{url} refuses the key (401)")
    monkeypatch.setenv("LOOP_SECRET_UPSTREAM", "sk-hunter2")
    assert find(settings, "upstream") == Finding("upstream", True, f"{url} answers with 200")
    gone = find(Settings(home=bare_settings.home, upstream_url="http://127.0.0.1:1/v1"), "upstream")
    assert not gone.ok
    assert gone.detail.startswith("http://127.0.0.1:1/v1: ")
    assert "hunter2" not in str((refused, gone))
    assert found(settings, "generator") == []


def test_tokens_that_were_read_long_ago_are_found(bare_settings: Settings, answer: Answer) -> None:
    running(bare_settings, gateway=answer(READY))
    assert find(bare_settings, "tokens").detail == "never read"
    file = bare_settings.gateway / "tokens.json"
    file.parent.mkdir()
    file.write_text("[]")
    assert find(bare_settings, "tokens").ok
    os.utime(file, (time.time() - 60, time.time() - 60))
    finding = find(bare_settings, "tokens")
    assert not finding.ok
    assert finding.detail.startswith("last read 60 s ago")
    assert find(bare_settings, "database").detail == "the gateway runs, and its Postgres does not"
    running(bare_settings, postgres="")
    assert found(bare_settings, "database") == []


def test_a_spool_that_fills_and_what_was_cut_from_it_are_found(bare_settings: Settings) -> None:
    settings = Settings(home=bare_settings.home, spool_bytes=1000)
    settings.spool.mkdir(parents=True)
    settings.home.chmod(0o700)
    (settings.spool / "000000000001.seg").write_bytes(b"x" * 400)
    (settings.spool / "000000000002.open").write_bytes(b"x" * 100)
    assert find(settings, "spool") == Finding("spool", True, "0.0 of 0.0 MB wait to be moved to the lake")
    assert not find(settings, "ledger").ok
    settings.ledger.mkdir()
    (settings.ledger / "CURRENT").touch()
    assert find(settings, "ledger").ok
    (settings.spool / "000000000002.open").write_bytes(b"x" * 101)
    assert not find(settings, "spool").ok
    torn = settings.spool / "000000000002.torn"
    torn.write_bytes(b"x" * 37)
    full, cut = found(settings, "spool")
    assert not full.ok
    assert (cut.ok, cut.detail.split(" at ")[0]) == (False, "37 bytes")
    assert cut.mend is not None
    assert str(torn) in cut.mend
    torn.rename(bad := torn.with_suffix(".bad"))
    _, damaged = found(settings, "spool")
    assert not damaged.ok
    assert bad.name in damaged.detail


def test_a_disk_with_less_room_than_the_spool_may_take_is_found(bare_settings: Settings) -> None:
    bare_settings.gateway.mkdir(parents=True)
    assert find(Settings(home=bare_settings.home, spool_bytes=1), "spool disk").ok
    finding = find(Settings(home=bare_settings.home, spool_bytes=1 << 60), "spool disk")
    assert (finding.ok, finding.mend) == (False, "free some, or set spool_bytes to less")


def test_a_certificate_that_went_is_found(bare_settings: Settings, pair: tuple[Path, Path], tmp_path: Path) -> None:
    bare_settings.gateway.mkdir(parents=True)
    given = Settings(home=bare_settings.home, tls_certificate=pair[0], tls_key=pair[1])
    assert find(given, "tls").ok
    gone = Settings(home=bare_settings.home, tls_certificate=pair[0], tls_key=tmp_path / "gone.key")
    assert "gone.key, got none" in find(gone, "tls").detail


def test_a_retired_key_that_others_may_read_is_found(bare_settings: Settings) -> None:
    bare_settings.rotate("pseudonym")
    assert found(bare_settings, "secret") == []
    retired = bare_settings.home / "secrets" / "pseudonym.d" / "1"
    retired.chmod(0o644)
    assert find(bare_settings, "secret").mend == f"chmod 600 {retired}"
