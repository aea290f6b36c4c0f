"""Sockets of slow, broken and hostile clients: each is answered or closed, and nobody else waits."""

from __future__ import annotations

import gzip
import json
import socket
import time
import zlib
from collections.abc import Iterator
from typing import Any

import psutil
import pyarrow as pa
import pytest

from loop.gateway import http, protocol
from tests.gateway.fronts import Running, bearer, refused, wait, whole

HEAD = f"POST /v1/feedback HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {bearer('desk')}\r\n"


@pytest.fixture
def connection(front: Running) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", front.port), timeout=15) as made:
        yield made


def request(body: bytes, head: str = HEAD) -> bytes:
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def rest(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    parts = []
    while part := connection.recv(65_536):
        parts.append(part)
    return b"".join(parts)


def answer(raw: bytes) -> tuple[int, Any]:
    head, _, body = raw.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def is_alive(front: Running) -> bool:
    return front.get("/healthz").status_code == 200 and front.post("/v1/feedback", whole()).status_code == 200


# -- slow ones --------------------------------------------------------------------------------------------------------


def test_headers_that_trickle_in_are_given_up(
    front: Running, connection: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEADERS_SECONDS", 0.5)
    began = time.monotonic()
    connection.settimeout(0.1)
    raw = b""
    for letter in HEAD * 100:
        try:
            connection.sendall(letter.encode())
            raw = connection.recv(65_536)
            break
        except TimeoutError:
            assert time.monotonic() - began < 5, "a client that sends a letter now and then is waited for"
    status, body = answer(raw)
    assert (status, body["error"]["code"]) == (408, "timeout")
    assert is_alive(front)


def test_nothing_at_all_is_given_up(front: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEADERS_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", front.port), timeout=5) as silent:
        assert answer(rest(silent))[0] == 408


def test_a_kept_connection_may_not_dribble_between_requests(
    front: Running, connection: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    assert b'{"status":"ok"}' in connection.recv(65_536)
    monkeypatch.setattr(protocol, "HEADERS_SECONDS", 0.3)
    connection.sendall(b"\r\n")
    assert answer(rest(connection))[0] == 408


def test_a_body_that_trickles_in_is_given_up(
    front: Running, connection: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "BODY_SECONDS", 0.3)
    sent = whole()
    body = json.dumps(sent).encode()
    connection.sendall(request(body)[:-10])
    status, told = answer(rest(connection))
    assert (status, told["error"]["code"]) == (408, "timeout")
    assert sent["event_id"] not in {event["event_id"] for event in front.stored("event")}
    assert is_alive(front)


def test_a_slow_body_that_comes_fast_enough_is_taken(
    front: Running, connection: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "BODY_SECONDS", 1.0)
    monkeypatch.setattr(protocol, "SLOWEST", 100)
    body = json.dumps(whole()).encode()
    raw = request(body)
    for at in range(0, len(raw), 200):
        connection.sendall(raw[at : at + 200])
        time.sleep(0.4)
    assert connection.recv(65_536).startswith(b"HTTP/1.1 200 OK\r\n")


def test_who_does_not_read_is_cut_off(front: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "UNREAD_SECONDS", 1)
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        deaf.connect(("127.0.0.1", front.port))
        deaf.setblocking(False)

        def is_cut_off() -> bool:
            try:
                deaf.send(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 1_000)
            except BlockingIOError:
                return False
            except ConnectionError:
                return True
            return False

        wait(is_cut_off, 20)
    assert is_alive(front)


# -- broken ones ------------------------------------------------------------------------------------------------------


def test_a_client_that_closes_its_half_still_gets_its_answer(front: Running, connection: socket.socket) -> None:
    sent = whole()
    connection.sendall(request(json.dumps(sent).encode()))
    connection.shutdown(socket.SHUT_WR)
    status, told = answer(rest(connection))
    assert (status, told["event_id"], told["status"]) == (200, sent["event_id"], "stored")


def test_a_client_that_goes_in_the_middle_stores_nothing(front: Running, connection: socket.socket) -> None:
    sent = whole()
    connection.sendall(request(json.dumps(sent).encode())[:-10])
    connection.shutdown(socket.SHUT_WR)
    assert rest(connection) == b""
    assert sent["event_id"] not in {event["event_id"] for event in front.stored("event")}
    assert is_alive(front)


def test_two_requests_at_once_are_answered_in_order(front: Running, connection: socket.socket) -> None:
    first, second = whole(), whole()
    connection.sendall(request(json.dumps(first).encode()) + request(json.dumps(second).encode(), HEAD))
    connection.shutdown(socket.SHUT_WR)
    told = rest(connection)
    assert told.count(b"HTTP/1.1 200 OK") >= 1
    assert told.index(first["event_id"].encode()) > 0


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /v1/feedback HTTP/1.1\r\ncontent-length: -5\r\n\r\n",
        b"POST /v1/feedback HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: x\r\nbroken header\r\n\r\n",
    ],
)
def test_what_is_no_http_is_400(front: Running, connection: socket.socket, raw: bytes) -> None:
    connection.sendall(raw)
    status, body = answer(rest(connection))
    assert (status, body["error"]["code"]) == (400, "not_http")


def test_endless_headers_are_431(front: Running, connection: socket.socket) -> None:
    connection.sendall(b"GET /healthz HTTP/1.1\r\n")
    with pytest.raises(ConnectionError):  # noqa: PT012 - the answer may come in the middle of it
        for number in range(100_000):
            connection.sendall(b"x-%d: %s\r\n" % (number, b"y" * 1_000))
        if connection.recv(10):
            raise ConnectionError
    assert is_alive(front)


def test_a_refused_upgrade_is_an_ordinary_request(front: Running, connection: socket.socket) -> None:
    connection.sendall(
        b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n"
        b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
    )
    assert connection.recv(65_536).startswith(b"HTTP/1.1 200 OK")


# -- too much ---------------------------------------------------------------------------------------------------------


def test_a_single_event_may_have_a_megabyte_and_an_array_eight(front: Running) -> None:
    long = whole(reasons=["x" * 1_000_000])
    assert refused(front.post("/v1/feedback", long)) == (413, "too_long", None)
    assert refused(front.post("/v1/feedback", b" " * ((8 << 20) + 1))) == (413, "too_large", None)
    assert refused(front.post("/v1/outcomes", b"[" + b" " * (9 << 20))) == (413, "too_large", None)
    assert refused(front.post("/v1/suggestions", b" " * 1_000_001)) == (413, "too_large", None)
    assert is_alive(front)


def test_a_body_that_says_it_is_too_long_is_not_read(front: Running, connection: socket.socket) -> None:
    connection.sendall(f"{HEAD}content-length: 99999999999\r\n\r\n[".encode())
    status, _, _ = connection.recv(65_536).partition(b"\r\n")
    assert status == b"HTTP/1.1 413 Content Too Large" or status.startswith(b"HTTP/1.1 413 ")


def test_a_body_in_chunks_has_the_same_limit(front: Running) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"["
        for _ in range(10):
            yield b" " * (1 << 20)

    reply = front.client.post("/v1/feedback", content=chunks(), headers={"authorization": f"Bearer {bearer('desk')}"})
    assert refused(reply) == (413, "too_large", None)


@pytest.mark.parametrize(
    ("path", "encoding", "pack"),
    [
        ("/v1/feedback/batch", "gzip", gzip.compress),
        ("/v1/feedback/batch", "zstd", lambda body: pa.Codec("zstd").compress(body, asbytes=True)),
        ("/v1/feedback", "gzip", gzip.compress),
    ],
)
def test_a_bomb_is_413_and_does_not_grow_memory(front: Running, path: str, encoding: str, pack: Any) -> None:
    bomb = pack(b" " * (150 << 20))
    assert len(bomb) < 1 << 20
    process = psutil.Process()
    before = process.memory_info().rss
    most = 0
    for _ in range(3):
        reply = front.post(path, bomb, headers={"content-encoding": encoding})
        assert refused(reply) == (413, "too_large", None)
        most = max(most, process.memory_info().rss)
    assert most - before < 50 << 20
    assert is_alive(front)


@pytest.mark.parametrize(
    ("encoding", "body", "expected"),
    [
        ("gzip", b"no gzip", (400, "not_gzip", None)),
        ("gzip", b"", (400, "not_gzip", None)),
        ("gzip", gzip.compress(b"{}", mtime=0)[:-3], (400, "not_gzip", None)),
        ("gzip", zlib.compress(b"{}"), (400, "not_gzip", None)),
        ("zstd", b"no zstd", (400, "not_zstd", None)),
        ("br", b"...", (415, "encoding", None)),
        ("gzip, gzip", b"...", (415, "encoding", None)),
    ],
)
def test_a_body_that_is_not_packed_as_it_says(
    front: Running, encoding: str, body: bytes, expected: tuple[int, str, None]
) -> None:
    for path in ("/v1/feedback/batch", "/v1/feedback"):
        assert refused(front.post(path, body, headers={"content-encoding": encoding})) == expected


def test_a_single_event_may_be_packed_too(front: Running) -> None:
    sent = whole()
    reply = front.post("/v1/feedback", gzip.compress(json.dumps(sent).encode()), headers={"content-encoding": "gzip"})
    assert reply.json()["status"] == "stored"


def test_only_so_many_connections(front: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "CONNECTIONS", len(front.server.server_state.connections))
    with socket.create_connection(("127.0.0.1", front.port), timeout=5) as late:
        status, body = answer(rest(late))
    assert (status, body["error"]["code"]) == (503, "busy")


def test_a_packed_piece_is_unpacked_bit_by_bit() -> None:
    feed = http._Gzip().feed
    pieces = list(feed(gzip.compress(b" " * (5 << 20)), last=True))
    assert [len(piece) for piece in pieces if piece] == [http.PIECE] * 5


def test_zstd_that_is_packed_too_long_is_413(front: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "PACKED_BYTES", 10)
    body = pa.Codec("zstd").compress(json.dumps(whole()).encode(), asbytes=True)
    reply = front.post("/v1/feedback/batch", body, headers={"content-encoding": "zstd"})
    assert refused(reply) == (413, "too_large", None)
