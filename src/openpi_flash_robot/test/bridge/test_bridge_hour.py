"""An hour of a moving robot in virtual time: nothing drifts, grows or becomes slower.

The robot is commanded ten times a second instead of fifty, so that an hour takes seconds. Cost is
counted in calls of Python functions and memory in what the bridge holds: both are exact.
"""

import gc
import sys
import types

import numpy as np
from bridge_world import MEASURED, MS, World

from openpi_flash_robot.bridge.effects import SendRequest
from openpi_flash_robot.bridge.status import State
from openpi_flash_robot.settings.parse_settings import settings_from_parameters

SECOND = 1_000 * MS
PERIOD = 100 * MS
STEP_NS = 40 * MS
WAVE_NS = 7 * SECOND
BEGIN = 1_800_000_000 * SECOND
"""A ROS clock counts from 1970: floats of its nanoseconds would be exact to 256 only."""


def wanted(now):
    """Where the policy wants the joints at a moment: a wave of 0.27 rad/s, far from any limit."""
    phase = 2 * np.pi * (now % WAVE_NS) / WAVE_NS
    return np.asarray(MEASURED) + 0.3 * np.sin(phase) * np.array([1.0, 0.0, 0.0])


def chunk_from(observed):
    return np.array([wanted(observed + step * STEP_NS) for step in range(50)])


class Worker:
    """Lets a world go on, with answers that come a period after their requests."""

    def __init__(self, world):
        self.world, self.asked, self.answered = world, None, 0

    def work(self, seconds):
        """The greatest distance of the command from the policy's wave, rad."""
        worst = 0.0
        for _ in range(seconds * SECOND // PERIOD):
            asked = self.world.pass_time(PERIOD // MS, until=SendRequest)
            if self.asked is not None:
                chunk = chunk_from(self.asked.observation.oldest_ns)
                self.world.answer(self.asked, chunk, latency_ms=0)
                self.answered += 1
            self.asked = asked
            here = self.world.controller.reference(self.world.now).positions
            worst = max(worst, float(np.abs(here - wanted(self.world.now)).max()))
            self.world.effects.clear()  # the test's own memory
        assert self.world.status.state is State.RUNNING, self.world.status
        return worst

    def calls_of(self, seconds):
        """How many functions are called for so much virtual time."""
        calls = 0

        def count(frame, event, argument):
            nonlocal calls
            calls += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            self.work(seconds)
        finally:
            sys.setprofile(None)
        return calls


def bytes_of(thing):
    """The memory of all that is reachable from a thing, code and classes left out."""
    skipped = (type, types.ModuleType, types.FunctionType, types.CodeType)
    seen, left = {}, [thing]
    while left:
        one = left.pop()
        if id(one) not in seen and not isinstance(one, skipped):
            seen[id(one)] = one
            left += gc.get_referents(one)
    return sum(sys.getsizeof(one) for one in seen.values())


def test_an_hour_of_motion_does_not_drift_grow_or_become_slower(parameters, monkeypatch):
    monkeypatch.setattr("bridge_world.PERIOD", PERIOD)
    slow = {"control_rate_hz": 10.0, "execution_horizon": 20}
    world = World(settings_from_parameters(parameters | slow))
    world.now = BEGIN
    world.run()
    worker = Worker(world)
    worker.work(84)
    early_drift, early_bytes = worker.work(35), bytes_of(world.bridge)
    early_calls = worker.calls_of(35)
    drifts = [worker.work(35) for _ in range(97)]
    assert world.now - BEGIN >= 3_500 * SECOND
    assert max(drifts) <= 1.001 * early_drift < 0.005
    late_bytes, late_calls = bytes_of(world.bridge), worker.calls_of(35)
    assert late_bytes <= 1.02 * early_bytes
    assert late_calls <= 1.02 * early_calls
    assert worker.answered > 4_000
