"""Requests with a `traceparent` as spans, in virtual time; and their way to a collector."""

import dataclasses
import http.server
import socket
import sys
import threading

import numpy as np
import pytest
from event_makers import answered, dropped, failed, received
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from server_fakes import WAIT

from openpi_flash_server.admin.spans import RequestSpans, TracingError, open_tracing
from openpi_flash_server.slot.work import parse_message

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
EPOCH = 1_000_000.0


class Traced:
    """Spans of a slot that tests tell events."""

    def __init__(self):
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._listener = RequestSpans("action", provider.get_tracer("test"), wall_offset=EPOCH)

    def tell(self, *events):
        for event in events:
            self._listener(event)

    @property
    def spans(self):
        return {span.name: span for span in self._exporter.get_finished_spans()}

    def ms(self, name):
        """When a span began and ended, in ms since the time 0 of the events."""
        span = self.spans[name]
        return tuple(round(at / 1e6 - EPOCH * 1e3, 3) for at in (span.start_time, span.end_time))


@pytest.fixture
def traced():
    return Traced()


def traced_request(number=1, *, traceparent=TRACEPARENT, **options):
    event = received(number, **options)
    (work,) = event.works
    work = dataclasses.replace(work, traceparent=traceparent)
    return dataclasses.replace(event, works=(work,))


def test_a_request_joins_the_trace_of_its_client(traced):
    traced.tell(traced_request(7, at=0.0, session="arm"), answered(7, at=0.1))
    span = traced.spans["action request"]
    assert f"{span.context.trace_id:032x}" == TRACE
    assert f"{span.parent.span_id:016x}" == PARENT
    assert span.attributes["openpi_flash.session"] == "arm"
    assert span.attributes["openpi_flash.request"] == 7
    assert traced.ms("action request") == (0.0, 100.0)


def test_each_stage_is_a_span_at_its_time(traced):
    traced.tell(traced_request(), answered())
    assert {name: traced.ms(name) for name in traced.spans if name != "action request"} == {
        "queue": (0.0, 4.0),
        "decode": (4.0, 6.0),
        "preprocess": (6.0, 7.0),
        "model": (7.0, 57.0),
        "postprocess": (57.0, 57.5),
        "infer": (6.0, 66.0),
    }
    spans = traced.spans
    assert spans["model"].parent.span_id == spans["infer"].context.span_id
    assert spans["infer"].parent.span_id == spans["action request"].context.span_id


def test_an_error_is_told_and_a_replaced_request_is_none(traced):
    traced.tell(traced_request(), failed())
    span = traced.spans["action request"]
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "it broke")
    assert span.attributes["openpi_flash.error_code"] == "internal"
    traced.tell(traced_request(2), dropped(2))
    assert traced.spans["action request"].status.status_code == StatusCode.UNSET


def test_a_request_without_a_span_of_its_client_makes_none(traced):
    traced.tell(received(1), answered(1))
    unsampled = f"00-{TRACE}-{PARENT}-00"
    traced.tell(traced_request(2, traceparent=unsampled), answered(2))
    assert traced.spans == {}


@pytest.mark.parametrize("value", ["", "00-abc", f"{TRACEPARENT}-x", TRACEPARENT.upper(), 7, b"x"])
def test_a_traceparent_that_cannot_be_read_harms_no_request(value):
    work = parse_message({"traceparent": value, "state": 1}, session="arm")
    assert work.traceparent is None
    assert work.observation == {"state": 1}


def test_spans_reach_a_collector_before_the_server_has_stopped(serve_admin, monkeypatch):
    got = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    collector = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    serving = threading.Thread(target=collector.serve_forever)
    serving.start()
    where = f"http://127.0.0.1:{collector.server_port}"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", where)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    try:
        server = serve_admin(tracing=True)
        with server.connect(session="arm-7") as client:
            client.infer({"state": np.ones(2), "traceparent": TRACEPARENT}, timeout=WAIT)
        assert server.close()
    finally:
        collector.shutdown()
        serving.join()
        collector.server_close()
    assert {path for path, _ in got} == {"/v1/traces"}
    sent = b"".join(body for _, body in got)
    for text in (bytes.fromhex(TRACE), b"action request", b"arm-7", b"openpi-flash", b"model"):
        assert text in sent


def test_a_collector_that_does_not_answer_does_not_hold_up_the_stop(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", where)
        tracing = open_tracing({"server": "1"})
        tracing.tracer.start_span("request").end()
        closing = threading.Thread(target=tracing.close)
        closing.start()
        # less than the ten seconds after which the exporter gives up
        closing.join(5)
        assert not closing.is_alive()


def test_tracing_without_its_libraries_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(TracingError, match=r"pip install '\./src/openpi_flash_server\[otel\]'"):
        open_tracing({"server": "1"})
