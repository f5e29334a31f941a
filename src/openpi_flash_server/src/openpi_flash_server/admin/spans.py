"""Requests as spans of OpenTelemetry, for clients that send a `traceparent`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from openpi_flash_server.admin.metrics import stages_of
from openpi_flash_server.slot.answer import ErrorCode, Failure
from openpi_flash_server.slot.events import Answered, Dropped, Event, Received


class TracingError(Exception):
    """Spans cannot be exported; the message says what to install."""


@dataclass(frozen=True)
class Tracing:
    """Where spans go.

    Attributes:
        tracer: makes them.
        close: sends what is left, for at most a second.
    """

    tracer: Tracer
    close: Callable[[], None]


def open_tracing(versions: Mapping[str, str]) -> Tracing:
    """Exports over OTLP, as the variables `OTEL_EXPORTER_OTLP_*` and `OTEL_SERVICE_NAME` say.

    Args:
        versions: become attributes of the service.

    Raises:
        TracingError: OpenTelemetry's SDK or its exporter is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise TracingError(f"{error}; pip install './src/openpi_flash_server[otel]'") from error
    ours = Resource({"service.name": "openpi-flash", "service.version": versions["server"]})
    # its own end of the process waits for a collector that does not answer
    provider = TracerProvider(
        shutdown_on_exit=False, resource=ours.merge(OTELResourceDetector().detect())
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(
        provider.get_tracer("openpi_flash_server"), lambda: _within_a_second(provider.shutdown)
    )


def _within_a_second(close: Callable[[], None]) -> None:
    # a collector that does not answer takes ten
    closing = threading.Thread(target=close, name="tracing-close", daemon=True)
    closing.start()
    closing.join(_FAREWELL)


class RequestSpans:
    """A listener that makes spans of one slot's requests.

    Args:
        slot: its name.
        tracer: makes the spans.
        wall_offset: what makes the time of day, s since 1970, of the events' monotonic seconds.
    """

    def __init__(self, slot: str, tracer: Tracer, *, wall_offset: float) -> None:
        self._slot = slot
        self._tracer = tracer
        self._wall_offset = wall_offset
        self._open: dict[int, Received] = {}
        self._changing = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Reads one event."""
        if isinstance(event, Received):
            if event.works and event.works[0].traceparent is not None:
                with self._changing:
                    self._open[event.request] = event
        elif isinstance(event, Answered | Dropped):
            with self._changing:
                received = self._open.pop(event.request, None)
            if received is not None:
                self._write(received, event)

    def _write(self, received: Received, event: Answered | Dropped) -> None:
        carrier = {"traceparent": received.works[0].traceparent or ""}
        parent = TraceContextTextMapPropagator().extract(carrier)
        session = event.session
        is_internal = not isinstance(session, str)
        name = session if isinstance(session, str) else session.name
        request = self._tracer.start_span(
            f"{self._slot} request",
            context=parent,
            kind=SpanKind.INTERNAL if is_internal else SpanKind.SERVER,
            start_time=self._ns(received.at),
            attributes={
                "openpi_flash.slot": self._slot,
                "openpi_flash.session": name,
                "openpi_flash.request": event.request,
            },
        )
        if isinstance(event, Answered) and event.timing is not None:
            request.set_attribute("openpi_flash.batch_size", event.timing.batch_size)
            self._write_stages(request, received.at, event)
        if isinstance(event.answer, Failure):
            request.set_attribute("openpi_flash.error_code", str(event.answer.code))
            if event.answer.code is not ErrorCode.SUPERSEDED:
                request.set_status(Status(StatusCode.ERROR, event.answer.message))
        request.end(self._ns(event.at))

    def _write_stages(self, request: Span, began: float, event: Answered) -> None:
        assert event.timing is not None
        stages = stages_of(event)
        inside = set_span_in_context(request)
        for stage in ("queue", "decode"):
            began = self._write_stage(inside, stage, began, stages[stage])
        handler = self._tracer.start_span("infer", context=inside, start_time=self._ns(began))
        at = began
        for stage in ("preprocess", "model", "postprocess"):
            if stage in stages:
                at = self._write_stage(set_span_in_context(handler), stage, at, stages[stage])
        handler.end(self._ns(began + event.timing.infer_ms / 1000))

    def _write_stage(self, inside: Context, name: str, began: float, ms: float) -> float:
        ended = began + ms / 1000
        self._tracer.start_span(name, context=inside, start_time=self._ns(began)).end(
            self._ns(ended)
        )
        return ended

    def _ns(self, at: float) -> int:
        return int((at + self._wall_offset) * 1e9)


_FAREWELL = 1.0
"""s."""
