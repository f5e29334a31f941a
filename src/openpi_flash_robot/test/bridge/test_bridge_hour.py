"""An hour of a moving robot in virtual time: nothing drifts, grows or becomes slower."""

import gc
import time
import tracemalloc

import numpy as np
from bridge_world import JOINTS, MEASURED, MS, World

from openpi_flash_robot.bridge.effects import PublishTrajectory, SendRequest
from openpi_flash_robot.bridge.status import State

STEP_NS = 40 * MS
SECOND = 1_000 * MS


def wanted(now):
    """Where the policy wants the joints at a moment: a wave of 0.27 rad/s, far from any limit."""
    return np.asarray(MEASURED) + [0.3 * np.sin(2 * np.pi * now / (7 * SECOND)), 0.0, 0.0]


def chunk_from(observed):
    return np.array([wanted(observed + step * STEP_NS) for step in range(50)])


if __name__ == "__main__":
    pass


def test_probe(settings):
    world = World(settings)
    world.run()
    t = time.process_time()
    errs = []
    n = 0
    pending = None
    for _ in range(60 * 50):
        req = world.pass_time(20, until=SendRequest)
        if pending is not None:
            world.answer(pending, chunk_from(pending.observation.oldest_ns), latency_ms=0)
            n += 1
        pending = req
        errs.append(np.abs(world.controller.reference(world.now).positions - wanted(world.now)).max())
    print(time.process_time() - t, n, max(errs[1500:]), world.status)
