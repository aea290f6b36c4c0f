"""What the front counts, as Prometheus reads it, and the log of what it answered. Neither ever names a person."""

from __future__ import annotations

import sys
import time
import traceback
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from loop.collect.intake import Intake
from loop.gateway.access import Gate

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass
class _Answers:
    """Answers to one kind of request with one status within the second that is counted."""

    requests: int = 0
    items: int = 0
    seconds: float = 0.0
    slowest: float = 0.0


@dataclass
class _Bound:
    """The two metrics of one kind of request, looked up once."""

    requests: Any
    seconds: Any


class Metrics:
    """Counters of the front, and what intake and gate say of themselves when asked."""

    def __init__(self, intake: Intake, gate: Gate) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "loop_gateway_requests",
            "Requests that were answered, by path and status.",
            ("method", "path", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "loop_gateway_request_seconds",
            "Seconds from the headers of a request to the end of its answer.",
            ("path",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.suggestions = Counter(
            "loop_gateway_suggestions",
            "Suggestions that were served.",
            ("workflow", "model_version"),
            registry=self.registry,
        )
        self.generated = Histogram(
            "loop_gateway_generation_seconds",
            "Seconds that a request waited for its candidates.",
            ("workflow",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.tokens = Counter(
            "loop_gateway_tokens", "Tokens read and written by models.", ("workflow", "kind"), registry=self.registry
        )
        self.rejected = Counter(
            "loop_gateway_items_rejected",
            "Items of feedback and outcomes that were not taken, by reason.",
            ("code",),
            registry=self.registry,
        )
        self.annotations = Counter(
            "loop_gateway_annotations",
            "Answers of people who label, by what became of them.",
            ("outcome",),
            registry=self.registry,
        )
        self.ignored = Counter(
            "loop_gateway_ignored", "Suggestions on which nobody decided in time.", registry=self.registry
        )
        self.registry.register(_Storage(intake, gate))
        self._bound: dict[tuple[str, str, int], _Bound] = {}

    def answered(self, method: str, path: str, status: int, seconds: float) -> None:
        """One request was answered. `path` is a template out of a short list, never what a client wrote."""
        bound = self._bound.get((method, path, status))
        if bound is None:
            bound = _Bound(self._requests.labels(method, path, status), self._seconds.labels(path))
            self._bound[method, path, status] = bound
        bound.requests.inc()
        bound.seconds.observe(seconds)

    def page(self) -> bytes:
        return generate_latest(self.registry)


class _Storage(Collector):
    """Figures that others keep; read when Prometheus asks."""

    def __init__(self, intake: Intake, gate: Gate) -> None:
        self.intake, self.gate = intake, gate

    def collect(self) -> Any:
        counts = self.intake.counts
        items = CounterMetricFamily("loop_gateway_items", "Items by what became of them.", labels=("status",))
        for status in ("stored", "duplicates", "conflicts", "refused"):
            items.add_metric((status,), getattr(counts, status))
        yield items
        yield CounterMetricFamily("loop_gateway_groups", "Group commits.", value=counts.groups)
        yield CounterMetricFamily("loop_gateway_segments_sealed", "Segments of the spool sealed.", value=counts.sealed)
        yield CounterMetricFamily(
            "loop_gateway_replayed", "Items the ledger was lacking at the start.", value=counts.replayed
        )
        yield GaugeMetricFamily("loop_gateway_spool_bytes", "Bytes that wait for the lake.", self.intake.spool_bytes)
        yield GaugeMetricFamily("loop_gateway_waiting", "Puts that wait for a group commit.", self.intake.depth)
        yield GaugeMetricFamily("loop_gateway_tokens_age_seconds", "Since tokens were read.", self.gate.age_s)


# -- the log ----------------------------------------------------------------------------------------------------------


@dataclass
class Log:
    """Answers as JSON lines on stderr: one line a second for each kind of request, status and token.

    So a flood of requests is no flood of lines. No line holds a body, a header, an address or an employee.
    """

    _answers: dict[tuple[str, str, int, str], _Answers] = field(default_factory=dict)

    def answered(self, what: tuple[str, str, int, str], seconds: float, items: int) -> None:
        """One request was answered; `what` is its method, path, status and token."""
        one = self._answers.get(what)
        if one is None:
            one = self._answers[what] = _Answers()
        one.requests += 1
        one.items += items
        one.seconds += seconds
        one.slowest = max(one.slowest, seconds)

    def flush(self) -> None:
        """Write what came together since the last time."""
        answers, self._answers = self._answers, {}
        for (method, path, status, token), one in answers.items():
            self.say(
                "answered",
                method=method,
                path=path,
                status=status,
                token=token or None,
                requests=one.requests,
                items=one.items,
                ms=round(1000 * one.seconds / one.requests, 2),
                ms_max=round(1000 * one.slowest, 2),
            )

    def failed(self, path: str, error: BaseException) -> None:
        """An error of ours: where it arose and what kind it is, without its message, which may quote a client."""
        where = [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(error.__traceback__)[-8:]]
        self.say("failed", path=path, error=type(error).__qualname__, where=where)

    def say(self, what: str, **more: Any) -> None:
        line = {"at": datetime.now(UTC), "what": what, **more}
        sys.stderr.write(f"{msgspec.json.encode(line).decode()}\n")
        sys.stderr.flush()


clock: Final = time.perf_counter
