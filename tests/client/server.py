"""A small real HTTP server of the gateway's shape, for the clients: it stores, knows keys again, and fails on demand.

What the gateway itself does is tested with the gateway; `test_front.py` runs the clients against the real one.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "loop_test_secret"
AD = ("target locals with price angle, playful tone, claim tested, bid low", "target regulars with speed angle")
POST = ("remove for hate, severity high, then warn", "hide for hate, severity serious, then watch")
TEXTS = {"ads": AD, "moderation": POST}
DECISIONS = ("accept", "modify", "reject", "ignore")


@dataclass(frozen=True)
class Fault:
    """What happens to the next request instead of, or after, its answer."""

    status: int = 0
    """Answered instead, in the gateway's form."""
    retry_after: str | None = None
    body: bytes | None = None
    """Answered instead, as HTML."""
    drop: bool = False
    """The connection is closed before anything is done."""
    cut: bool = False
    """All is done, and the connection is closed in the middle of the answer."""
    delay: float = 0.0
    """Seconds before anything is done."""


@dataclass
class Gateway:
    """The server's memory, which outlives its stops, and its switches."""

    port: int = 0
    stored: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Key to what was stored first, in the order of arrival."""
    received: dict[str, str] = field(default_factory=dict)
    duplicates: list[str] = field(default_factory=list)
    conflicts: list[dict[str, Any]] = field(default_factory=list)
    requests: list[tuple[str, Any, dict[str, str]]] = field(default_factory=list)
    """Path, body and headers of everything that came in whole."""
    faults: list[Fault] = field(default_factory=list)
    """Taken one a request."""
    away: Fault | None = None
    """As long as it is set, every request meets it."""
    suggestions: dict[str, str] = field(default_factory=dict)
    """Id to workflow."""
    made: int = 0
    """How many suggestions there ever were."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        server = _Server(("127.0.0.1", self.port), _Handler)
        server.gateway = self
        self.port, self.server = server.server_port, server
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True).start()

    def stop(self) -> None:
        """Close the port and every connection, as a killed process would."""
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server.cut_all()
            self.server = None

    def suggest(self, workflow: str = "ads") -> dict[str, Any]:
        with self.lock:
            name = f"s-{self.made:032x}"
            self.made += 1
            self.suggestions[name] = workflow
        return {
            "suggestion_id": name,
            "workflow": workflow,
            "model_version": "7",
            "arm_propensity": 0.9,
            "order_propensity": 0.5,
            "shown_at": datetime.now(UTC).isoformat(),
            "candidates": [
                {"position": i, "text": text, "logprob": -1.5 - i if i == 0 else None}
                for i, text in enumerate(TEXTS[workflow])
            ],
        }

    def store(self, item: dict[str, Any], key_name: str) -> tuple[int, dict[str, Any]]:
        """Status and result of one item."""
        key = item.get(key_name)
        if not isinstance(key, str):
            return 422, _error(422, f"expected a field {key_name}, got none")
        if key_name == "event_id" and item.get("decision") not in DECISIONS:
            return 422, _error(422, "decision: expected one of accept, modify, reject, ignore")
        if item.get("suggestion_id") not in self.suggestions:
            return 404, _error(404, "expected a suggestion of this gateway")
        with self.lock:
            status = "stored"
            if key in self.stored:
                if self.stored[key] != item:
                    self.conflicts.append(item)
                    return 409, _error(409, "other content under the same key")
                self.duplicates.append(key)
                status = "duplicate"
            self.stored.setdefault(key, item)
            received = self.received.setdefault(key, datetime.now(UTC).isoformat())
        told = {key_name: key, "status": status, "suggestion_id": item["suggestion_id"], "received_at": received}
        return 200, told


def _error(status: int, message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": f"c{status}", "param": None}}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    gateway: Gateway

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.connections: set[Any] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is what these tests are about."""

    def cut_all(self) -> None:
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(2)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing."""

    def do_POST(self) -> None:
        gateway = self.server.gateway
        with gateway.lock:
            fault = gateway.away or (gateway.faults.pop(0) if gateway.faults else Fault())
        if fault.drop:
            self.close_connection = True
            self.connection.shutdown(2)
            return
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        time.sleep(fault.delay)
        if fault.body is not None:
            self._reply(fault.status or 200, fault.body, {"content-type": "text/html"})
            return
        if fault.status:
            headers = {"retry-after": fault.retry_after} if fault.retry_after else {}
            self._reply(fault.status, json.dumps(_error(fault.status, "made to fail")).encode(), headers)
            return
        status, told = self._answer(gateway, raw)
        self._reply(status, json.dumps(told).encode(), {}, cut=fault.cut)

    def _answer(self, gateway: Gateway, raw: bytes) -> tuple[int, dict[str, Any]]:
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            return 401, _error(401, "unknown token")
        body = json.loads(raw)
        with gateway.lock:
            gateway.requests.append((self.path, body, {k.lower(): v for k, v in self.headers.items()}))
        if self.path == "/v1/suggestions":
            known = body["workflow"] in TEXTS
            return (200, gateway.suggest(body["workflow"])) if known else (403, _error(403, "another workflow"))
        key = {"/v1/feedback": "event_id", "/v1/outcomes": "outcome_id"}[self.path]
        if not isinstance(body, list):
            return gateway.store(body, key)
        results = []
        for item in body:
            status, told = gateway.store(item, key)
            results.append(told if status == 200 else {key: item.get(key), "status": "rejected", **told})
        is_clean = all("error" not in result for result in results)
        return (200 if is_clean else 207), {"results": results}

    def _reply(self, status: int, body: bytes, headers: dict[str, str], *, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in {"content-type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
