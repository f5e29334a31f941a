"""What Prometheus scrapes, from the events of slots and of their clients."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.process_collector import ProcessCollector

from openpi_flash_server.admin.open_requests import OpenRequests
from openpi_flash_server.admin.read_at_scrape import (
    PREFIX,
    ComparedCopies,
    ReadAtScrape,
    ScrapedSlot,
)
from openpi_flash_server.recording.recorder import RecorderState
from openpi_flash_server.slot.answer import Failure, Reply
from openpi_flash_server.slot.events import (
    Answered,
    AnswerLost,
    Dropped,
    Event,
    GivenUp,
    Received,
    Started,
)
from openpi_flash_server.slot.scheduler import DropReason
from openpi_flash_server.transports.client_events import (
    AnswerSent,
    ClientConnected,
    ClientEvent,
    ClientLeft,
    ClientRefused,
    MessageReceived,
)


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
        self._watched = ReadAtScrape()
        self.registry.register(self._watched)
        self._of_slots: list[tuple[Counter | Gauge | Histogram, tuple[str, ...]]] = []
        Gauge(
            f"{PREFIX}_build_info",
            "Always 1; the versions that run.",
            list(build),
            registry=self.registry,
        ).labels(**build).set(1)
        self.requests = self._counter("requests", "Requests that arrived.")
        self.answers = self._counter("answers", "Requests answered with a result.")
        self.errors = self._counter("errors", "Requests answered with an error, by code.", "code")
        self.superseded = self._counter(
            "superseded", "Requests that a newer one of their session replaced, before they ran."
        )
        self.deadline_misses = self._counter(
            "deadline_misses",
            "Requests whose deadline_ms passed: while they waited, or before their answer.",
            "when",
        )
        self.answers_lost = self._counter("answers_lost", "Answers that no transport took.")
        self.hung_calls = self._counter(
            "hung_calls", "Calls of the model that took longer than watchdog_s."
        )
        self.clients_refused = self._counter(
            "clients_refused", "Clients that were not let in, most for their key.", "link"
        )
        self.received_bytes = self._counter("received_bytes", "Bytes of requests.", "link")
        self.sent_bytes = self._counter("sent_bytes", "Bytes of results.", "link")
        self.requests_waiting = self._gauge("requests_waiting", "Requests that wait their turn.")
        self.requests_running = self._gauge("requests_running", "Requests that the model runs.")
        self.sessions = self._gauge("sessions", "Sessions that have run a request.")
        self.clients = self._gauge("clients", "Connected clients.", "link")
        self.stage_seconds = self._histogram(
            "stage_seconds", "How long a stage of an answered request took.", _SECONDS, "stage"
        )
        self.request_seconds = self._histogram(
            "request_seconds", "From a request's last byte to its answer.", _SECONDS
        )
        self.first_actions_seconds = self._histogram(
            "first_actions_seconds",
            "From a request's last byte to its first actions, where they came ahead.",
            _SECONDS,
        )
        self.batch_size = self._histogram("batch_size", "Observations in a call.", _SIZES)
        self.subtask_age_seconds = self._histogram(
            "subtask_age_seconds", "Age of an answer's subtask, from planning to use.", _AGES
        )

    def slot_listener(self, slot: str) -> Callable[[Event], None]:
        """Counts the events of a slot."""
        return _SlotMetrics(self, slot).count

    def client_listener(self, slot: str) -> Callable[[ClientEvent], None]:
        """Counts the events of a slot's clients."""
        received: dict[str, Counter] = {}
        sent: dict[str, Counter] = {}
        sending = self.stage_seconds.labels(slot, "send")

        def count(event: ClientEvent) -> None:
            match event:
                case MessageReceived(link=link, size=size):
                    if link not in received:
                        received[link] = self.received_bytes.labels(slot, link)
                    received[link].inc(size)
                case AnswerSent(link=link, size=size, send_ms=send_ms):
                    if link not in sent:
                        sent[link] = self.sent_bytes.labels(slot, link)
                    sent[link].inc(size)
                    sending.observe(send_ms / 1000)
                case ClientConnected(link=link):
                    self.clients.labels(slot, link).inc()
                case ClientLeft(link=link):
                    self.clients.labels(slot, link).dec()
                case ClientRefused(link=link, times=times):
                    self.clients_refused.labels(slot, link).inc(times)

        return count

    def watch_slot(self, name: str, slot: ScrapedSlot) -> None:
        """Adds what is read of a slot at each scrape."""
        self._watched.slots[name] = slot

    def watch_recorder(self, state: Callable[[], RecorderState]) -> None:
        """Adds the recorder's counters, which are read at each scrape."""
        self._watched.recorder = state

    def watch_shadow(self, slot: str, copies: Callable[[], ComparedCopies]) -> None:
        """Adds the comparisons of a slot with its shadow, which are read at each scrape."""
        self._watched.shadow = slot, copies

    def forget_slot(self, slot: str) -> None:
        """Removes the series of a slot that is gone: its name may never come again."""
        self._watched.slots.pop(slot, None)
        self._watched.models.pop(slot, None)
        for metric, names in self._of_slots:
            samples = [sample for family in metric.collect() for sample in family.samples]
            known = {tuple(sample.labels[name] for name in names) for sample in samples}
            for values in known:
                if values[0] == slot:
                    metric.remove(*values)

    def describe_model(self, slot: str, metadata: Mapping[str, Any]) -> None:
        """Sets `model_info`, which says what answers, from what the slot's clients are told."""
        self._watched.models[slot] = metadata

    def text(self) -> bytes:
        """The page that Prometheus reads."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        names = ("slot", *labels)
        counter = Counter(f"{PREFIX}_{name}", text, names, registry=self.registry)
        self._of_slots.append((counter, names))
        return counter

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        names = ("slot", *labels)
        gauge = Gauge(f"{PREFIX}_{name}", text, names, registry=self.registry)
        self._of_slots.append((gauge, names))
        return gauge

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        names = ("slot", *labels)
        histogram = Histogram(
            f"{PREFIX}_{name}", text, names, registry=self.registry, buckets=buckets
        )
        self._of_slots.append((histogram, names))
        return histogram


class _SlotMetrics:
    """The requests of one slot. Looks its series up once: that costs more than counting."""

    def __init__(self, metrics: Metrics, slot: str) -> None:
        self._metrics = metrics
        self._slot = slot
        self._open = OpenRequests()
        self._counting = threading.Lock()
        self._received = metrics.requests.labels(slot)
        self._answered = metrics.answers.labels(slot)
        self._superseded = metrics.superseded.labels(slot)
        self._request = metrics.request_seconds.labels(slot)
        self._hung = metrics.hung_calls.labels(slot)
        self._batch = metrics.batch_size.labels(slot)
        self._stages = {
            stage: metrics.stage_seconds.labels(slot, stage)
            for stage in ("queue", "decode", *_POLICY_STAGES)
        }
        metrics.requests_waiting.labels(slot).set_function(lambda: self._open.waiting)
        metrics.requests_running.labels(slot).set_function(lambda: self._open.running)
        metrics.sessions.labels(slot).set_function(lambda: self._open.sessions)

    def count(self, event: Event) -> None:
        with self._counting:
            received = self._open.take(event)
        if isinstance(event, Received):
            self._received.inc()
        elif isinstance(event, Started):
            self._batch.observe(event.size)
        elif isinstance(event, GivenUp):
            self._hung.inc()
        elif isinstance(event, Answered):
            self._count_answer(event, received)
        elif isinstance(event, Dropped):
            self._count_failure(event.answer)
            if event.reason is DropReason.SUPERSEDED:
                self._superseded.inc()
            elif event.reason is DropReason.DEADLINE_EXCEEDED:
                self._metrics.deadline_misses.labels(self._slot, "waiting").inc()
        elif isinstance(event, AnswerLost):
            self._metrics.answers_lost.labels(self._slot).inc()

    def _count_answer(self, event: Answered, received: Received | None) -> None:
        if received is not None and _is_late(event, received):
            self._metrics.deadline_misses.labels(self._slot, "answering").inc()
        if isinstance(event.answer, Failure):
            self._count_failure(event.answer)
            return
        self._answered.inc()
        if received is not None:
            self._request.observe(event.at - received.at)
        if event.timing is not None and event.timing.first_ms is not None:
            self._metrics.first_actions_seconds.labels(self._slot).observe(
                event.timing.first_ms / 1000
            )
        for stage, ms in stages_of(event).items():
            self._stages[stage].observe(ms / 1000)
        age_ms = _subtask_age_ms(event.answer)
        if age_ms is not None:
            self._metrics.subtask_age_seconds.labels(self._slot).observe(age_ms / 1000)

    def _count_failure(self, failure: Failure) -> None:
        self._metrics.errors.labels(self._slot, str(failure.code)).inc()


def _is_late(event: Answered, received: Received) -> bool:
    deadlines = [work.deadline_ms for work in received.works if work.deadline_ms is not None]
    return bool(deadlines) and (event.at - received.at) * 1000 > min(deadlines)


def stages_of(event: Answered) -> dict[str, float]:
    """How long each known stage of an answered request took, ms."""
    stages: dict[str, float] = {}
    if event.timing is not None:
        stages |= {"queue": event.timing.queue_ms, "decode": event.timing.decode_ms}
    if isinstance(event.answer, Reply):
        known: Any = event.answer.result.get("policy_timing") or {}
        if isinstance(known, list):
            # of a request with a batch: its observations share their calls
            known = known[0] or {}
        for stage, key in _POLICY_STAGES.items():
            if key in known:
                stages[stage] = float(known[key])
    return stages


def _subtask_age_ms(reply: Reply) -> float | None:
    subtask = reply.result.get("subtask")
    if isinstance(subtask, Mapping) and "error" not in subtask and "age_ms" in subtask:
        return float(subtask["age_ms"])
    return None


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
