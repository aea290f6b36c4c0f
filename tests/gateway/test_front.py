"""The front as a whole: who may, what it says of itself, fuzzed bodies, and the process that it runs in."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from loop.gateway import front as front_module
from loop.gateway.backend import Unavailable
from tests.gateway.fronts import TOKENS, Running, bearer, feedback, home_of, know_tokens, refused, serving, wait, whole

MESSAGES = [{"role": "user", "content": "an ad for shoes"}]


# -- who may ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/v1/feedback", "feedback"),
        ("/v1/feedback/batch", "feedback"),
        ("/v1/outcomes", "outcomes"),
        ("/v1/suggestions", "suggest"),
        ("/v1/chat/completions", "suggest"),
    ],
)
def test_a_route_needs_a_token_of_its_scope(front: Running, path: str, scope: str) -> None:
    for header in ("", "Bearer", "Basic YTpi", f"Bearer {bearer('desk')[:-2]}00", "Bearer loop_zz_zz", "\xe4"):
        reply = front.post(path, b"{}", token=None, headers={"authorization": header.encode("latin-1")})
        assert refused(reply) == (401, "unauthorized", None)
        assert reply.headers["www-authenticate"] == "Bearer"
    assert refused(front.post(path, b"{}", token=None)) == (401, "unauthorized", None)
    if scope != "suggest":
        assert refused(front.post(path, b"{}", token="asks")) == (403, "forbidden", None)
    else:
        assert front.post(path, b"{}", token="asks").status_code in (400, 422)


def test_a_token_may_ask_so_often_and_is_told_when_again(front: Running) -> None:
    replies = [front.post("/v1/outcomes", [], token="slow") for _ in range(3)]
    assert [reply.status_code for reply in replies] == [200, 200, 429]
    assert refused(replies[-1]) == (429, "rate_limit", None)
    assert 1 <= int(replies[-1].headers["retry-after"]) <= 10


def test_other_paths_and_methods_are_told_so(front: Running) -> None:
    for path in (
        "/",
        "/v1",
        "/v1/feedback/",
        "/v1/models/{model}",
        "/healthz/x",
        "/v1//feedback",
        "/%2e%2e/etc/passwd",
    ):
        assert refused(front.get(path)) == (404, "no_such_path", None)
    for method, path, allowed in (
        ("GET", "/v1/feedback", "POST"),
        ("DELETE", "/v1/models", "GET"),
        ("PUT", "/healthz", "GET"),
        ("TRACE", "/v1/chat/completions", "POST"),
        ("OPTIONS", "/v1/feedback", "POST"),
    ):
        reply = front.client.request(method, path)
        assert (refused(reply), reply.headers["allow"]) == ((405, "method", None), allowed)
    head = front.client.head("/healthz")
    assert (head.status_code, head.content) == (200, b"")


# -- from a browser ---------------------------------------------------------------------------------------------------

ORIGIN = {"origin": "https://ads.example"}
PREFLIGHT = ORIGIN | {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}


def test_no_other_origin_may_call_by_default(front: Running) -> None:
    reply = front.post("/v1/feedback", whole(), headers=ORIGIN)
    assert not [name for name in reply.headers if name.startswith("access-control")]
    assert front.client.options("/v1/feedback", headers=PREFLIGHT).status_code == 405


def test_an_origin_that_is_named_may_call(tmp_path: Path) -> None:
    with serving(home_of(tmp_path, cors_origins=("https://ads.example",))) as front:
        allowed = front.client.options("/v1/feedback", headers=PREFLIGHT)
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == "https://ads.example"
        reply = front.post("/v1/feedback", whole(), headers=ORIGIN)
        assert reply.headers["access-control-allow-origin"] == "https://ads.example"
        other = PREFLIGHT | {"origin": "https://evil.example"}
        assert "access-control-allow-origin" not in front.client.options("/v1/feedback", headers=other).headers


# -- what it says of itself -------------------------------------------------------------------------------------------


def test_it_is_ready_or_says_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_module, "BACKEND_SECONDS", 0.3)
    with serving(home_of(tmp_path)) as front:
        ready = front.get("/readyz")
        assert (ready.status_code, ready.json()) == (
            200,
            {"ready": True, "feedback": True, "suggestions": True, "reasons": {}},
        )
        front.backend.error = Unavailable("no model is loaded")
        time.sleep(0.4)
        ready = front.get("/readyz")
        assert (ready.status_code, ready.json()) == (
            503,
            {
                "ready": False,
                "feedback": True,
                "suggestions": False,
                "reasons": {"suggestions": "no model is loaded"},
            },
        )
        assert front.post("/v1/feedback", whole()).status_code == 200
        monkeypatch.setattr(front_module, "STALE_SECONDS", 0.0)
        assert set(front.get("/readyz").json()["reasons"]) == {"suggestions", "tokens"}
        assert front.get("/healthz").json() == {"status": "ok"}


def test_a_full_spool_is_a_reason(tmp_path: Path) -> None:
    with serving(home_of(tmp_path, spool_bytes=3_000)) as front:
        while front.post("/v1/feedback", whole()).status_code == 200:
            pass
        ready = front.get("/readyz").json()
        assert (ready["feedback"], list(ready["reasons"])) == (False, ["spool"])


def test_metrics_count_what_happened(tmp_path: Path) -> None:
    with serving(home_of(tmp_path)) as front:
        sent = whole()
        for body in (sent, sent, sent | {"dwell_ms": 1}, whole(chosen=9), [whole(), whole(chosen=9)]):
            front.post("/v1/feedback", body)
        front.suggest()
        front.get("/nowhere/anna")
        page = front.get("/metrics")
        assert page.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        for line in (
            'loop_gateway_requests_total{method="POST",path="/v1/feedback",status="200"} 2.0',
            'loop_gateway_requests_total{method="POST",path="/v1/feedback",status="207"} 1.0',
            'loop_gateway_requests_total{method="POST",path="/v1/feedback",status="409"} 1.0',
            'loop_gateway_requests_total{method="POST",path="/v1/feedback",status="422"} 1.0',
            'loop_gateway_requests_total{method="other",path="other",status="404"} 1.0',
            'loop_gateway_request_seconds_count{path="/v1/feedback"} 5.0',
            'loop_gateway_items_total{status="stored"} 3.0',
            'loop_gateway_items_total{status="duplicates"} 1.0',
            'loop_gateway_items_total{status="conflicts"} 1.0',
            'loop_gateway_items_rejected_total{code="chosen"} 2.0',
            'loop_gateway_suggestions_total{model_version="v7",workflow="ads"} 1.0',
            'loop_gateway_tokens_total{kind="input",workflow="ads"} 11.0',
            'loop_gateway_tokens_total{kind="output",workflow="ads"} 6.0',
            "loop_gateway_waiting 0.0",
        ):
            assert line in page.text.splitlines(), line
        assert f"loop_gateway_spool_bytes {float(front.intake.spool_bytes)}" in page.text
        assert re.search(r"^process_resident_memory_bytes \d", page.text, re.MULTILINE)
        assert "anna" not in page.text


def test_the_log_has_a_line_a_second_and_nobody_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(home_of(tmp_path)) as front:
        for _ in range(5):
            front.post("/v1/feedback", whole(employee="anna@corp.example"), "logged")
        front.post("/v1/feedback", whole(employee="anna@corp.example", chosen=9), "logged")
        front.get("/anna")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if '"answered"' in line]
    mine = TOKENS["logged"].token_id  # a front of other tests may still be there
    lines = [line for line in lines if line["token"] == mine or line["path"] == "other"]
    for line in lines:
        assert set(line) == {"at", "what", "method", "path", "status", "token", "requests", "items", "ms", "ms_max"}
        assert 0 < line["ms"] <= line["ms_max"]
    told = {(line["method"], line["path"], line["status"], line["token"]) for line in lines}
    assert told == {
        ("POST", "/v1/feedback", 200, mine),
        ("POST", "/v1/feedback", 422, mine),
        ("other", "other", 404, None),
    }
    assert sum(line["requests"] for line in lines if line["status"] == 200) == 5
    assert sum(line["items"] for line in lines) == 5
    assert "anna" not in json.dumps(lines)


def test_an_error_of_ours_is_told_to_nobody_but_the_log(
    front: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: str) -> Any:
        raise ZeroDivisionError("anna's secret")

    shown = front.suggest()
    monkeypatch.setattr(front.intake, "suggestion", broken)
    reply = front.post("/v1/feedback", feedback(shown))
    assert refused(reply) == (500, "internal", None)
    assert "Traceback" not in reply.text
    assert "anna" not in reply.text
    (line,) = [json.loads(text) for text in capsys.readouterr().err.splitlines() if '"failed"' in text]
    assert (line["path"], line["error"]) == ("/v1/feedback", "ZeroDivisionError")
    assert line["where"][-1].endswith(" broken")
    assert "anna" not in json.dumps(line)


# -- whatever comes ---------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = sorted({*whole(), "revises", "received_at", "messages", "n", "value", "name", "observed_at", "outcome_id"})
BODIES = st.one_of(
    st.binary(max_size=300),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=8).map(lambda value: json.dumps(value).encode()),
    st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=3).map(
        lambda value: json.dumps(whole(event_id="fuzz") | value).encode()
    ),
    st.lists(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=8), max_size=3).map(
        lambda value: json.dumps(value).encode()
    ),
)
PATHS = ("/v1/feedback", "/v1/feedback/batch", "/v1/outcomes", "/v1/suggestions", "/v1/chat/completions")


@limits(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(PATHS), body=BODIES, encoding=st.sampled_from([None, None, None, "gzip", "zstd", "x"]))
def test_no_body_is_answered_with_500(front: Running, path: str, body: bytes, encoding: str | None) -> None:
    reply = front.post(path, body, headers={"content-encoding": encoding} if encoding else {})
    assert reply.status_code in (200, 207, 400, 403, 404, 409, 413, 415, 422), reply.text
    if reply.status_code >= 400:
        refused(reply)


# -- spans ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """Something that takes spans as OTLP over HTTP."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", bodies
    server.shutdown()
    thread.join()
    server.server_close()


def test_spans_of_suggestions_hold_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    with collector() as (address, bodies):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        with serving(home_of(tmp_path)) as front:
            shown = front.suggest(temperature=0.5)
            front.post("/v1/chat/completions", {"model": "ads", "messages": MESSAGES, "stream": True})
            front.backend.error = Unavailable("no model")
            front.post("/v1/suggestions", {"workflow": "ads", "messages": MESSAGES})
        sent = [ExportTraceServiceRequest.FromString(body) for body in bodies]
    spans = [s for one in sent for r in one.resource_spans for scope in r.scope_spans for s in scope.spans]
    assert [span.name for span in spans] == ["chat ads"] * 3
    told = [{a.key: a.value for a in span.attributes} for span in spans]
    first = told[0]
    assert first["gen_ai.operation.name"].string_value == "chat"
    assert first["gen_ai.provider.name"].string_value == "loop"
    assert first["gen_ai.request.model"].string_value == "ads"
    assert first["gen_ai.request.temperature"].double_value == 0.5
    assert first["gen_ai.response.model"].string_value == "v7"
    assert first["gen_ai.response.id"].string_value == shown["suggestion_id"]
    assert first["gen_ai.usage.input_tokens"].int_value == 11
    assert first["gen_ai.usage.output_tokens"].int_value == 6
    assert told[1]["gen_ai.response.finish_reasons"].array_value.values[0].string_value == "stop"
    assert told[2]["error.type"].string_value == "Unavailable"
    assert spans[2].status.code == 2
    assert b"shoes" not in b"".join(bodies)
    assert b"newcomers" not in b"".join(bodies)


# -- the process ------------------------------------------------------------------------------------------------------

HEAVY = ("torch", "transformers", "pandas", "mlflow", "dagster", "duckdb", "deltalake", "trl", "opentelemetry")
OURS = ("loop.models", "loop.release.serve", "loop.evaluate", "loop.train", "loop.simulate")


@contextlib.contextmanager
def process(home: Path, *before: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The front as `loop up` starts it, on a free port; `before` is Python that runs in it first."""
    settings = home_of(home)
    know_tokens(settings)
    port = free_port()
    script = "\n".join([*before, "import sys", "from loop.gateway.run import main", "sys.exit(main(sys.argv[1:]))"])
    with subprocess.Popen(
        [sys.executable, "-c", script, "front", "--port", str(port)],
        env=os.environ | settings.as_environment() | environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        url = f"http://127.0.0.1:{port}"
        try:
            wait(lambda: running.poll() is not None or is_up(url), 60)
            yield running, url
        finally:
            running.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def test_a_front_that_serves_has_loaded_no_model(tmp_path: Path) -> None:
    told = f"""
import atexit, sys
@atexit.register
def tell():
    heavy = [n for n in {(*HEAVY, *OURS)!r} if n in sys.modules]
    print("LOADED", heavy, file=sys.stderr, flush=True)
"""
    with process(tmp_path, told) as (running, url):
        headers = {"authorization": f"Bearer {bearer('desk')}"}
        with httpx.Client(base_url=url, headers=headers, trust_env=False) as client:
            assert client.post("/v1/feedback", json=whole()).status_code == 200
            assert client.post("/v1/feedback/batch", content=json.dumps(whole()).encode()).status_code == 200
            asked = {"model": "ads", "messages": MESSAGES}
            away = client.post("/v1/chat/completions", json=asked)
            assert (away.status_code, away.headers["retry-after"]) == (503, "1")
            for path in ("/readyz", "/metrics", "/openapi.json", "/docs"):
                assert client.get(path).status_code in (200, 503)
        running.send_signal(signal.SIGTERM)
        _, errors = running.communicate(timeout=30)
    assert "LOADED []" in errors.splitlines()
    assert "Traceback" not in errors


def test_ending_it_seals_what_it_took_and_a_second_one_is_told_so(tmp_path: Path) -> None:
    with process(tmp_path) as (running, url):
        headers = {"authorization": f"Bearer {bearer('desk')}"}
        assert httpx.post(f"{url}/v1/feedback", json=whole(), headers=headers, trust_env=False).status_code == 200
        settings = home_of(tmp_path)
        assert len(list(settings.spool.glob("*.open"))) == 1
        second = subprocess.run(
            [sys.executable, "-m", "loop.gateway.run", "front", "--port", "1"],
            env=os.environ | settings.as_environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert second.returncode == 1
        assert "is a gateway running" in json.loads(second.stderr.splitlines()[-1])["message"]
        running.send_signal(signal.SIGTERM)
        running.wait(timeout=30)
        assert not list(settings.spool.glob("*.open"))
        assert len(list(settings.spool.glob("*.seg"))) >= 1


def test_a_port_that_is_taken_is_told(tmp_path: Path, front: Running) -> None:
    taken = subprocess.run(
        [sys.executable, "-m", "loop.gateway.run", "front", "--port", str(front.port)],
        env=os.environ | home_of(tmp_path).as_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert taken.returncode == 1
    assert "cannot listen there" in json.loads(taken.stderr.splitlines()[-1])["message"]
