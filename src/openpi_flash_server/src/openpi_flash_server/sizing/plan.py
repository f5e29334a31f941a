"""From robots and their network to GPUs, memory, bandwidth and latency. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from openpi_flash_server.sizing.waiting import wait_quantile
from openpi_flash_server.sizing.weights import MODELS, PLANNER, WORKING_GB


@dataclass(frozen=True)
class Fleet:
    """What is asked of the servers, and over which network.

    Attributes:
        robots: how many, all alike.
        rate_hz: requests per second of each.
        cameras: images in a request.
        image_pixels: height and width of each, as the model reads it.
        jpeg: whether they are sent as JPEG.
        rtt_ms: the network's round trip.
        link_mbit_s: how fast a robot sends.
        horizon: steps of a chunk.
        control_hz: steps per second that a robot plays.
    """

    robots: int
    rate_hz: float
    cameras: int
    image_pixels: int = 224
    jpeg: bool = False
    rtt_ms: float = 1.0
    link_mbit_s: float = 1000.0
    horizon: int = 50
    control_hz: float = 25.0

    @property
    def request_bytes(self) -> int:
        """Of one request."""
        pixels = self.cameras * self.image_pixels**2
        return int(pixels * (JPEG_BYTES_PER_PIXEL if self.jpeg else 3)) + REST_BYTES

    @property
    def uplink_mbit_s(self) -> float:
        """Of one robot, on average."""
        return self.request_bytes * 8 * self.rate_hz / 1e6

    @property
    def transfer_ms(self) -> float:
        """How long a request is on the robot's link; one flight, whatever the round trip."""
        return self.request_bytes * 8 / (self.link_mbit_s * 1e3)

    @property
    def chunk_ms(self) -> float:
        """How long a chunk plays."""
        return self.horizon / self.control_hz * 1e3


@dataclass(frozen=True)
class Device:
    """A GPU and the model on it.

    Attributes:
        call_ms: time of the model for one observation, `infer_ms` of an answer.
        max_batch: observations that one call answers.
        further: what each further observation of a batch costs, as a part of the first.
    """

    call_ms: float
    max_batch: int = 1
    further: float = 1.0

    def batch_ms(self, size: int) -> float:
        """Time of a call with so many observations."""
        return self.call_ms * (1 + (size - 1) * self.further)

    @property
    def best_batch(self) -> int:
        """The size with the most answers per second."""
        return max(
            (size for size in (1, 2, 4, 8) if size <= self.max_batch),
            key=lambda size: size / self.batch_ms(size),
        )


@dataclass(frozen=True)
class Plan:
    """What the robots of one GPU get.

    Attributes:
        gpus: how many are needed.
        robots_per_gpu: the most that one of them serves.
        busy: the share of time that it computes; above 1 it cannot follow.
        answers_hz: answers per second of each robot.
        median_ms: from observation to answer, half of them within.
        p99_ms: 99 % of them within.
        limit_ms: what an answer may take, so that the arm does not stop between chunks.
    """

    gpus: int
    robots_per_gpu: int
    busy: float
    answers_hz: float
    median_ms: float
    p99_ms: float
    limit_ms: float

    @property
    def is_enough(self) -> bool:
        """Whether answers come in time."""
        return self.busy <= MOST_BUSY and self.p99_ms <= self.limit_ms


def plan(fleet: Fleet, device: Device, *, gpus: int | None = None) -> Plan:
    """What `gpus` give the robots; without a number, the fewest that are enough.

    Robots are spread evenly. If no number is enough, because the network or one call alone takes
    too long, the plan for a GPU for each robot says so.

    Args:
        fleet: the robots.
        device: one GPU.
        gpus: how many of them.
    """
    if gpus is not None:
        return _for(fleet, device, gpus)
    for number in range(1, fleet.robots):
        found = _for(fleet, device, number)
        if found.is_enough:
            return found
    return _for(fleet, device, fleet.robots)


def weights_gb(model: str, dtype: str, *, planner: bool) -> float:
    """GB of a GPU's memory for the weights, and for what computes with them."""
    total = MODELS[model].gigabytes(dtype) + WORKING_GB
    return total + (PLANNER.gigabytes(dtype) if planner else 0.0)


def longest_rtt_ms(fleet: Fleet, found: Plan) -> float:
    """The longest round trip at which answers still come in time; negative if none is."""
    return fleet.rtt_ms + found.limit_ms - found.p99_ms


def _for(fleet: Fleet, device: Device, gpus: int) -> Plan:
    robots = math.ceil(fleet.robots / gpus)
    # batches form only where requests wait, so a light load is served one by one
    is_light = robots * fleet.rate_hz * device.call_ms <= MOST_BUSY * 1e3
    size = 1 if is_light else min(device.best_batch, robots)
    call_ms = device.batch_ms(size)
    each_ms = call_ms / size
    busy = robots * fleet.rate_hz * each_ms / 1e3
    # a robot's next request replaces the one that waits: nobody waits longer than its period
    longest_wait = 1e3 / fleet.rate_hz
    waits = [
        min(longest_wait, wait_quantile(share, robots - 1, 1e3 / fleet.rate_hz / each_ms) * each_ms)
        for share in (0.5, 0.99)
    ]
    rest = fleet.rtt_ms + fleet.transfer_ms + SERVER_MS + call_ms
    return Plan(
        gpus=gpus,
        robots_per_gpu=robots,
        busy=busy,
        answers_hz=fleet.rate_hz / max(1.0, busy),
        median_ms=rest + waits[0],
        p99_ms=rest + waits[1],
        limit_ms=fleet.chunk_ms * PART_OF_CHUNK,
    )


JPEG_BYTES_PER_PIXEL = 0.34
"""51 kB for three images of 224x224, the largest of docs/benchmarks.md (4:4:4, quality 90)."""
REST_BYTES = 1000
"""State, prompt and names of a request."""
SERVER_MS = 2.0
"""What a server adds to the model's time: encoding, decoding, scheduling (docs/benchmarks.md)."""
MOST_BUSY = 0.8
"""Above it waiting grows fast, and a reload or a slow call is caught up slowly."""
PART_OF_CHUNK = 0.5
"""The robot asks for the next chunk while this one plays; an answer that takes longer than half of
its chunk lets the arm stop between chunks."""
