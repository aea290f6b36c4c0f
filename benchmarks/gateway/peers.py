"""The passes of others: MLflow's traces with an assessment, Phoenix's spans with annotations. Each is treated kindly.

MLflow gets trace and assessment in one request, without spans. Phoenix gets its spans beforehand over OTLP, and only
the annotations are timed. Of several concurrencies the best counts.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.gateway import load, made, running

CONCURRENCY = (1, 2, 4, 8, 16)
WORKERS = {"sqlite": 1, "postgres": 2}
"""MLflow's databases, and how many workers were fastest with each on two cores: SQLite has one writer at a time."""
BATCHES = ((100, 1), (100, 4), (1_000, 1), (1_000, 4))
"""Annotations of a request, and connections."""
PHOENIX = "arize-phoenix==20.26.1"
SPANS = 5_000
SPANS_A_REQUEST = 500
_ANNOTATE = "/v1/span_annotations?sync=true"
"""Without `sync` Phoenix answers before it stores, and what waits is lost with the process."""
_OFF = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven more processes that want the same two cores
    "PHOENIX_TELEMETRY_ENABLED": "false",
    "PHOENIX_DISABLE_AGENT_ASSISTANT": "true",
}


@dataclass(frozen=True)
class Server:
    """A peer that runs."""

    port: int
    pids: tuple[int, ...]
    """Its processes, and those of its database."""

    def cpu_seconds(self) -> float:
        return sum(running.cpu_seconds(pid) for pid in self.pids)


def best(server: Server, plans: dict[str, tuple[int, load.Plan]]) -> dict[str, Any]:
    """Items a second and percentiles of the fastest of several plans, and the rates of all.

    Args:
        plans: name to items a request, and plan.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, (items, plan) in plans.items():
        used = server.cpu_seconds()
        run = load.run(plan)
        ms = (server.cpu_seconds() - used) / (run.total * items) * 1e3
        found[name] = run.figures() | {"per_s": round(run.per_second * items, 1), "cpu_ms": round(ms, 3)}
    name = max(found, key=lambda name: found[name]["per_s"])
    return {"best": name, **found[name], "all_per_s": {name: one["per_s"] for name, one in found.items()}}


# -- MLflow -----------------------------------------------------------------------------------------------------------


def mlflow(folder: Path, seconds: float) -> dict[str, Any]:
    """MLflow's server on SQLite and on Loop's embedded Postgres, with the workers that suit each."""
    from importlib.metadata import version

    found: dict[str, Any] = {"version": version("mlflow")}
    for database, workers in WORKERS.items():
        with _mlflow(folder / database, database) as server:
            plans = {str(count): load.Plan(server.port, _trace, count, seconds, good=_logged) for count in CONCURRENCY}
            whole = best(server, {name: (1, plan) for name, plan in plans.items()})
            found[database] = {"workers": workers, **whole, "apart": _apart(server, whole, seconds)}
    return found


def _apart(server: Server, whole: dict[str, Any], seconds: float) -> dict[str, float]:
    """The same as its client does it, the assessment in a request of its own; at the concurrency that was best."""
    connections = int(whole["best"])
    plan = load.Plan(server.port, lambda n: _trace(n, judged=False), connections, seconds, keep=True)
    traces = load.run(plan)
    ids = [json.loads(body)["trace"]["trace_info"]["trace_id"] for body in traces.bodies]
    plan = load.Plan(server.port, lambda n: _assess(n, ids[n]), connections, seconds, most=len(ids), good=_logged)
    judged = load.run(plan)
    return {
        "traces_per_s": round(traces.per_second, 1),
        "assessments_per_s": round(judged.per_second, 1),
        "per_s": round(1 / (1 / traces.per_second + 1 / judged.per_second), 1),
    }


@contextlib.contextmanager
def _mlflow(folder: Path, database: str) -> Iterator[Server]:
    folder.mkdir()
    with contextlib.ExitStack() as open_:
        url, others = f"sqlite:///{folder}/mlflow.db", ()
        if database == "postgres":
            from loop import services
            from loop.config import Settings

            url = open_.enter_context(services.session(Settings(home=folder / "home"))).mlflow
            others = (running.service(folder / "home", "postgres"),)
        port, log = running.free_port(), folder / "mlflow.log"
        command = [str(Path(sys.executable).with_name("mlflow")), "server", "--workers", str(WORKERS[database])]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        env = {**os.environ, **_OFF, "MLFLOW_BACKEND_STORE_URI": url}
        env |= {"MLFLOW_DEFAULT_ARTIFACT_ROOT": (folder / "artifacts").as_uri()}
        process = open_.enter_context(running.served(command, env, log))
        running.await_answer(process, port, "/health", log)
        yield Server(port, (process.pid, *others))


def _trace(n: int, *, judged: bool = True) -> bytes:
    """One trace, with the assessment of a person if judged: what a whole event says. It has no spans."""
    event = made.event(random.Random(n), f"event-{n}", f"s-{n}")
    info = {
        "trace_id": f"tr-{random.getrandbits(128):032x}",
        "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}},
        "request_time": _now(),
        "execution_duration": "0.050s",
        "state": "OK",
        "request_preview": json.dumps(event["prompt"]),
        "response_preview": json.dumps(event["candidates"]),
        "client_request_id": event["event_id"],
        "trace_metadata": {"model_version": event["model_version"], "team": event["team"]},
        "tags": {"mlflow.traceName": event["workflow"]},
        "assessments": [_assessment(event)] if judged else [],
    }
    body = json.dumps({"trace": {"trace_info": info}}).encode()
    return load.request("POST", "/api/3.0/mlflow/traces", body, content_type="application/json")


def _assess(n: int, trace: str) -> bytes:
    """One assessment of a trace that is there."""
    judged = _assessment(made.event(random.Random(n), f"event-{n}", f"s-{n}"))
    body = json.dumps({"assessment": judged | {"trace_id": trace}}).encode()
    return load.request("POST", f"/api/3.0/mlflow/traces/{trace}/assessments", body, content_type="application/json")


def _assessment(event: dict[str, Any]) -> dict[str, Any]:
    now = _now()
    return {
        "assessment_name": "decision",
        "feedback": {"value": event["decision"]},
        "source": {"source_type": "HUMAN", "source_id": event["employee"]},
        "rationale": event["final_text"],
        "metadata": {"chosen": str(event["chosen"]), "dwell_ms": str(event["dwell_ms"])},
        "create_time": now,
        "last_update_time": now,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def _logged(status: int, body: bytes) -> bool:
    return status == 200 and b'"rationale"' in body


# -- Phoenix ----------------------------------------------------------------------------------------------------------


def phoenix(folder: Path, seconds: float, peers: Path) -> dict[str, Any]:
    """Phoenix on SQLite, its default; annotations one at a time and batched, stored when they are answered."""
    with _phoenix(folder, installed(peers)) as server:
        spans = _spans(server.port)
        numbers = iter(range(sys.maxsize))

        def plan(count: int, connections: int) -> tuple[int, load.Plan]:
            def request(_: int) -> bytes:
                body = json.dumps({"data": [_annotation(spans, next(numbers)) for _ in range(count)]}).encode()
                return load.request("POST", _ANNOTATE, body, content_type="application/json")

            return count, load.Plan(server.port, request, connections, seconds, warm=float(count == 1))

        return {
            "version": PHOENIX,
            "spans": len(spans),
            "single": best(server, {str(count): plan(1, count) for count in CONCURRENCY}),
            "batched": best(server, {f"{size} x {count}": plan(size, count) for size, count in BATCHES}),
        }


def installed(peers: Path) -> Path:
    """Phoenix's program in an environment of its own below `peers`, made if it is not there."""
    venv = peers / PHOENIX.replace("==", "-")
    if not (venv / "ready").exists():
        print(f"installing {PHOENIX} into {venv}, some minutes", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        command = [venv / "bin" / "pip", "install", "-q", PHOENIX]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"pip could not install {PHOENIX}:\n{done.stderr[-2000:]}")
        (venv / "ready").touch()
    return venv / "bin" / "phoenix"


@contextlib.contextmanager
def _phoenix(folder: Path, program: Path) -> Iterator[Server]:
    port, log = running.free_port(), folder / "phoenix.log"
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PHOENIX_", "OTEL_"))} | _OFF
    env |= {"PHOENIX_WORKING_DIR": str(folder / "phoenix"), "PHOENIX_HOST": "127.0.0.1", "PHOENIX_PORT": str(port)}
    env |= {"PHOENIX_GRPC_PORT": str(running.free_port())}
    with running.served([str(program), "serve"], env, log) as process:
        running.await_answer(process, port, "/healthz", log)
        yield Server(port, (process.pid,))


def _spans(port: int) -> list[str]:
    """Ids of spans that Phoenix has been given, and has."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    rng, ids = random.Random(0), []
    headers = {"content-type": "application/x-protobuf"}
    for _ in range(SPANS // SPANS_A_REQUEST):
        told = ExportTraceServiceRequest()
        scope = told.resource_spans.add().scope_spans.add()
        for _ in range(SPANS_A_REQUEST):
            event = made.event(rng, "e", "s")
            span = scope.spans.add(name="suggest", trace_id=rng.randbytes(16), span_id=rng.randbytes(8), kind=1)
            span.start_time_unix_nano = int(event["shown_at"].timestamp() * 1e9)
            span.end_time_unix_nano = span.start_time_unix_nano + 50_000_000
            texts = {"openinference.span.kind": "LLM", "input.value": json.dumps(event["prompt"])}
            texts |= {"output.value": json.dumps(event["candidates"]), "llm.model_name": event["model_version"]}
            for key, value in texts.items():
                span.attributes.add(key=key).value.string_value = value
            ids.append(span.span_id.hex())
        if running.ask(port, "POST", "/v1/traces", told.SerializeToString(), headers) is None:
            raise RuntimeError("Phoenix did not take spans over OTLP")
    _await_spans(port, ids)
    return ids


def _await_spans(port: int, ids: list[str]) -> None:
    """Spans are stored some time after they were taken: wait until all can be annotated."""
    body = json.dumps({"data": [_annotation(ids, n) | {"identifier": "there"} for n in range(len(ids))]}).encode()
    until = time.monotonic() + 120
    while not running.ask(port, "POST", _ANNOTATE, body, {"content-type": "application/json"}):
        if time.monotonic() > until:
            raise RuntimeError("Phoenix does not have the spans that it took")
        time.sleep(1.0)


def _annotation(spans: list[str], n: int) -> dict[str, Any]:
    event = made.event(random.Random(n), f"event-{n}", f"s-{n}")
    return {
        "span_id": spans[n % len(spans)],
        "name": "decision",
        "annotator_kind": "HUMAN",
        "identifier": event["event_id"],
        "result": {"label": event["decision"], "score": 1.0, "explanation": event["final_text"]},
        "metadata": {"employee": event["employee"], "chosen": event["chosen"], "dwell_ms": event["dwell_ms"]},
    }
