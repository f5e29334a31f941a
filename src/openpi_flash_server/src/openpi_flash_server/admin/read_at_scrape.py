"""What Prometheus scrapes that others count or know: it is read when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from openpi_flash_server.recording.recorder import RecorderState
from openpi_flash_server.replicas.pool import Counts
from openpi_flash_server.slot.life import Stage

PREFIX = "openpi_flash"


class CountedReplicas(Protocol):
    """What is read of replicas."""

    @property
    def counts(self) -> Counts:
        """How many there are, by what they are doing."""


class ScrapedSlot(Protocol):
    """What is read of a slot."""

    @property
    def unhealthy_because(self) -> str | None:
        """Why it does not answer requests, or not as it should; None if it does."""

    @property
    def stage(self) -> Stage:
        """Where it stands in its life."""

    @property
    def replicas(self) -> CountedReplicas | None:
        """That run its policy; None: it runs in the server's process."""

    def counters(self) -> Mapping[str, Mapping[str, int]]:
        """What its transports count themselves, by link and counter."""


class ComparedCopies(Protocol):
    """What came of the copies of requests that a shadow policy got, since the start."""

    @property
    def outcomes(self) -> Mapping[str, int]:
        """How many were `equal`, `different`, `failed` and `not_run`."""

    @property
    def largest_difference(self) -> float:
        """Of two numbers of the actions."""


class ReadAtScrape(Collector):
    """Reads them.

    Attributes:
        slots: by name.
        models: what their clients are told, by the names of the slots.
        recorder: its state; None if nothing is recorded.
        shadow: a slot, and what came of the copies of its requests; None without a shadow.
    """

    def __init__(self) -> None:
        self.slots: dict[str, ScrapedSlot] = {}
        self.models: dict[str, Mapping[str, Any]] = {}
        self.recorder: Callable[[], RecorderState] | None = None
        self.shadow: tuple[str, Callable[[], ComparedCopies]] | None = None

    def collect(self) -> Iterator[Metric]:
        """All of them, as they are now."""
        yield from self._slots()
        yield from self._replicas()
        yield self._models()
        if self.recorder is not None:
            yield from _recorder(self.recorder())
        if self.shadow is not None:
            slot, copies = self.shadow
            yield from _shadow(slot, copies())

    def _slots(self) -> Iterator[Metric]:
        ready = _gauge("ready", "1 if the slot answers requests.", "slot")
        stages = _gauge("slot_stage", "1 for the stage of the slot, else 0.", "slot", "stage")
        counted = _counter(
            "transport_events",
            "What the transports count, see docs/server.md.",
            *("slot", "link", "counter"),
        )
        for name, slot in list(self.slots.items()):
            ready.add_metric([name], float(slot.unhealthy_because is None))
            current = slot.stage
            for stage in Stage:
                stages.add_metric([name, str(stage)], float(stage is current))
            for link, values in slot.counters().items():
                for counter, value in values.items():
                    counted.add_metric([name, link, counter], value)
        return iter((ready, stages, counted))

    def _replicas(self) -> Iterator[Metric]:
        replicas = _gauge(
            "replicas", "Replicas of the slot's policy: wanted, and by state.", "slot", "state"
        )
        lost = _counter(
            "replicas_lost", "Replicas that died, hung or could not load their policy.", "slot"
        )
        for name, slot in list(self.slots.items()):
            if slot.replicas is None:
                continue
            counts = slot.replicas.counts
            for state in ("wanted", "ready", "starting", "stopping"):
                replicas.add_metric([name, state], getattr(counts, state))
            lost.add_metric([name], counts.lost)
        return iter((replicas, lost))

    def _models(self) -> Metric:
        keys = ("model", "config", "robot")
        family = _gauge(
            "model_info", "Always 1; what answers.", "slot", *keys, "checkpoint", "digest"
        )
        for slot, metadata in list(self.models.items()):
            checkpoint = metadata.get("checkpoint", {})
            named = [str(metadata.get(key, "")) for key in keys]
            digests = [str(checkpoint.get(key, "")) for key in ("name", "digest")]
            family.add_metric([slot, *named, *digests], 1)
        return family


def _recorder(state: RecorderState) -> Iterator[Metric]:
    written = _counter("records_written", "Records in files of requests.")
    written.add_metric([], state.written)
    dropped = _counter("records_dropped", "Records in no file: the line or the disk was full.")
    dropped.add_metric([], state.dropped)
    stopped = _gauge("recording_stopped", "1 while the disk does not take records.")
    stopped.add_metric([], float(state.stopped_because is not None))
    boxes = _counter("black_boxes", "Black boxes, by what became of them.", "outcome")
    boxes.add_metric(["written"], state.black_boxes)
    boxes.add_metric(["failed"], state.black_boxes_failed)
    return iter((written, dropped, stopped, boxes))


def _shadow(slot: str, copies: ComparedCopies) -> Iterator[Metric]:
    compared = _counter(
        "shadow_copies", "Copies for the shadow policy, by outcome.", "slot", "outcome"
    )
    for outcome, count in copies.outcomes.items():
        compared.add_metric([slot, outcome], count)
    largest = _gauge(
        "shadow_largest_difference", "Of two numbers of the actions, since the start.", "slot"
    )
    largest.add_metric([slot], copies.largest_difference)
    return iter((compared, largest))


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"{PREFIX}_{name}", text, labels=labels)


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=labels)
