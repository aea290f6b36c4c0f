"""Spans of suggestions with OpenTelemetry's conventions for generative AI. No prompt and no answer is ever in one.

Only where `OTEL_EXPORTER_OTLP_ENDPOINT` is set: without it OpenTelemetry is not even imported.
See https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from loop import __version__

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Span:
    """What is said of one suggestion; without an exporter, nothing is."""

    def __init__(self, span: Any = None) -> None:
        self._span = span

    def note(self, **attributes: Any) -> None:
        """Attributes by their names, `__` for a dot: `gen_ai__response__id`. None is left out."""
        if self._span is not None:
            for name, value in attributes.items():
                if value is not None:
                    self._span.set_attribute(name.replace("__", "."), value)


class Telemetry:
    """Makes spans and sends them off in the background."""

    def __init__(self) -> None:
        self._provider: Any = None
        self._tracer: Any = None
        if not any(os.environ.get(name) for name in ENDPOINTS):
            return
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        resource = Resource.create({"service.name": "loop-gateway", "service.version": __version__})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("loop.gateway", __version__)

    @contextmanager
    def chat(self, workflow: str, *, provider: str, **attributes: Any) -> Iterator[Span]:
        """A span around one suggestion. An error ends it with the error's type and not its message."""
        if self._tracer is None:
            yield Span()
            return
        from opentelemetry.trace import SpanKind, Status, StatusCode

        with self._tracer.start_as_current_span(
            f"chat {workflow}", kind=SpanKind.CLIENT, record_exception=False, set_status_on_exception=False
        ) as raw:
            span = Span(raw)
            span.note(
                gen_ai__operation__name="chat",
                gen_ai__provider__name=provider,
                gen_ai__request__model=workflow,
                **attributes,
            )
            try:
                yield span
            except BaseException as error:
                span.note(error__type=type(error).__qualname__)
                raw.set_status(Status(StatusCode.ERROR))
                raise

    def close(self) -> None:
        """Send what waits."""
        if self._provider is not None:
            self._provider.shutdown()
