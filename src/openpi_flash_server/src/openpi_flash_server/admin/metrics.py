"""What Prometheus scrapes, from the events of slots and of their clients."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from openpi_flash_server.admin.open_requests import OpenRequests
from openpi_flash_server.slot.answer import Failure, Reply
from openpi_flash_server.slot.events import Answered, AnswerLost, Dropped, Event, Received, Started
from openpi_flash_server.slot.scheduler import DropReason
from openpi_flash_server.transports.client_events import (
    AnswerSent,
    ClientConnected,
    ClientEvent,
    ClientLeft,
    ClientRefused,
    MessageReceived,
)

PREFIX = "openpi_flash"


class Metrics:
    """The metrics of a server.

    Args:
        build: labels of `build_info`: versions.
    """

    def __init__(self, build: Mapping[str, str]) -> None:
        # the times at which series began double them, and nobody here reads them
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        self._watched = _ReadAtScrape()
        self.registry.register(self._watched)
        info = self._gauge("build_info", "Always 1; the versions that run.", *build)
        info.labels(**build).set(1)
        self._received = self._counter("requests", "Requests that arrived.")
        self._answered = self._counter("answers", "Requests answered with a result.")
        self._errors = self._counter("errors", "Requests answered with an error, by code.", "code")
        self._superseded = self._counter(
            "superseded", "Requests that a newer one of their session replaced, before they ran."
        )
        self._misses = self._counter(
            "deadline_misses",
            "Requests whose deadline_ms passed: while they waited, or before their answer.",
            "when",
        )
        self._lost = self._counter("answers_lost", "Answers that the transport could not take.")
        self._refused = self._counter(
            "clients_refused", "Clients that were not let in, most for their key.", "link"
        )
        self._bytes_in = self._counter("received_bytes", "Bytes of requests.", "link")
        self._bytes_out = self._counter("sent_bytes", "Bytes of results.", "link")
        self._waiting = self._gauge("requests_waiting", "Requests that wait for their turn.")
        self._running = self._gauge("requests_running", "Requests that the model runs.")
        self._sessions = self._gauge("sessions", "Sessions that have run a request.")
        self._clients = self._gauge("clients", "Connected clients.", "link")
        self._stage = self._histogram(
            "stage_seconds", "How long a stage of an answered request took.", _SECONDS, "stage"
        )
        self._request = self._histogram(
            "request_seconds", "From a request's last byte to its answer.", _SECONDS
        )
        self._batch = self._histogram("batch_size", "Observations in a call.", _SIZES)
        self._age = self._histogram(
            "subtask_age_seconds", "Age of an answer's subtask, from planning to use.", _AGES
        )

    def slot_listener(self, slot: str) -> Callable[[Event], None]:
        """Counts the events of a slot."""
        return _SlotMetrics(self, slot).count

    def client_listener(self, slot: str) -> Callable[[ClientEvent], None]:
        """Counts the events of a slot's clients."""

        def count(event: ClientEvent) -> None:
            match event:
                case ClientConnected(link=link):
                    self._clients.labels(slot, link).inc()
                case ClientLeft(link=link):
                    self._clients.labels(slot, link).dec()
                case ClientRefused(link=link, times=times):
                    self._refused.labels(slot, link).inc(times)
                case MessageReceived(link=link, size=size):
                    self._bytes_in.labels(slot, link).inc(size)
                case AnswerSent(link=link, size=size, send_ms=send_ms):
                    self._bytes_out.labels(slot, link).inc(size)
                    self._stage.labels(slot, "send").observe(send_ms / 1000)

        return count

    def watch_slot(
        self,
        slot: str,
        is_ready: Callable[[], bool],
        counters: Callable[[], Mapping[str, Mapping[str, int]]],
    ) -> None:
        """Adds what is read at each scrape.

        Args:
            slot: its name.
            is_ready: whether it answers requests.
            counters: what its transports count themselves, by link and counter.
        """
        self._watched.slots[slot] = (is_ready, counters)

    def describe_model(self, slot: str, metadata: Mapping[str, Any]) -> None:
        """Sets `model_info`, which says what answers, from what the slot's clients are told."""
        self._watched.models[slot] = metadata

    def text(self) -> bytes:
        """The page that Prometheus reads."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", text, ["slot", *labels], registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        names = labels if name == "build_info" else ("slot", *labels)
        return Gauge(f"{PREFIX}_{name}", text, names, registry=self.registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(
            f"{PREFIX}_{name}", text, ["slot", *labels], registry=self.registry, buckets=buckets
        )


class _SlotMetrics:
    """The requests of one slot."""

    def __init__(self, metrics: Metrics, slot: str) -> None:
        self._metrics = metrics
        self._slot = slot
        self._open = OpenRequests()
        self._counting = threading.Lock()

    def count(self, event: Event) -> None:
        m, slot = self._metrics, self._slot
        with self._counting:
            received = self._open.take(event)
            m._waiting.labels(slot).set(self._open.waiting)
            m._running.labels(slot).set(self._open.running)
            m._sessions.labels(slot).set(self._open.sessions)
        if isinstance(event, Received):
            m._received.labels(slot).inc()
        elif isinstance(event, Started):
            m._batch.labels(slot).observe(event.size)
        elif isinstance(event, AnswerLost):
            m._lost.labels(slot).inc()
        elif isinstance(event, Dropped | Answered):
            self._count_end(event, received)

    def _count_end(self, event: Dropped | Answered, received: Received | None) -> None:
        m, slot = self._metrics, self._slot
        if isinstance(event.answer, Failure):
            m._errors.labels(slot, str(event.answer.code)).inc()
        if isinstance(event, Dropped):
            if event.reason is DropReason.SUPERSEDED:
                m._superseded.labels(slot).inc()
            elif event.reason is DropReason.DEADLINE_EXCEEDED:
                m._misses.labels(slot, "waiting").inc()
            return
        if received is not None:
            seconds = event.at - received.at
            if isinstance(event.answer, Reply):
                m._request.labels(slot).observe(seconds)
            deadline_ms = min(
                (w.deadline_ms for w in received.works if w.deadline_ms), default=None
            )
            if deadline_ms is not None and seconds * 1000 > deadline_ms:
                m._misses.labels(slot, "answering").inc()
        if isinstance(event.answer, Reply):
            m._answered.labels(slot).inc()
            for stage, ms in stages_of(event).items():
                m._stage.labels(slot, stage).observe(ms / 1000)
            age_ms = _subtask_age_ms(event.answer)
            if age_ms is not None:
                m._age.labels(slot).observe(age_ms / 1000)


def stages_of(event: Answered) -> dict[str, float]:
    """How long each known stage of an answered request took, ms."""
    stages: dict[str, float] = {}
    if event.timing is not None:
        stages |= {"queue": event.timing.queue_ms, "decode": event.timing.decode_ms}
    if isinstance(event.answer, Reply):
        known: Mapping[str, Any] = event.answer.result.get("policy_timing") or {}
        for stage, key in _POLICY_STAGES.items():
            if key in known:
                stages[stage] = float(known[key])
    return stages


def _subtask_age_ms(reply: Reply) -> float | None:
    subtask = reply.result.get("subtask")
    if isinstance(subtask, Mapping) and "error" not in subtask and "age_ms" in subtask:
        return float(subtask["age_ms"])
    return None


class _ReadAtScrape(Collector):
    """Readiness, what transports count themselves, and what answers."""

    def __init__(self) -> None:
        self.slots: dict[
            str, tuple[Callable[[], bool], Callable[[], Mapping[str, Mapping[str, int]]]]
        ] = {}
        self.models: dict[str, Mapping[str, Any]] = {}

    def collect(self) -> Iterator[Metric]:
        ready = GaugeMetricFamily(
            f"{PREFIX}_ready", "1 if the slot answers requests.", labels=["slot"]
        )
        counted = CounterMetricFamily(
            f"{PREFIX}_transport_events",
            "What the transports count, see docs/server.md.",
            labels=["slot", "link", "counter"],
        )
        for slot, (is_ready, counters) in list(self.slots.items()):
            ready.add_metric([slot], float(is_ready()))
            for link, values in counters().items():
                for name, value in values.items():
                    counted.add_metric([slot, link, name], value)
        yield ready
        yield counted
        yield self._models()

    def _models(self) -> Metric:
        keys = ("model", "config", "robot")
        family = GaugeMetricFamily(
            f"{PREFIX}_model_info",
            "Always 1; what answers.",
            labels=["slot", *keys, "checkpoint", "digest"],
        )
        for slot, metadata in list(self.models.items()):
            checkpoint = metadata.get("checkpoint", {})
            named = [str(metadata.get(key, "")) for key in keys]
            digests = [str(checkpoint.get(key, "")) for key in ("name", "digest")]
            family.add_metric([slot, *named, *digests], 1)
        return family


_POLICY_STAGES = {
    "preprocess": "preprocess_ms",
    "model": "infer_ms",
    "postprocess": "postprocess_ms",
}
_SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0),
)
"""From decoding a small message to a planner's call; dense where a policy's call usually is."""
_AGES = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
