"""What our training and a peer's are both given: weights, a batch, an optimiser, noise and times.

An arm is a process of its own, in the environment that its packages need: it takes the number of a
step from each line of its input, does that update, and says on its output what it took.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch_case import HORIZON, SIZES, Case, make_case

RATE, BETAS, EPSILON, WEIGHT_DECAY, CLIP_NORM = 2.5e-5, (0.9, 0.95), 1e-8, 0.01, 1.0
"""LeRobot's defaults, which are openpi's but for the weight decay; the rate stays at its peak."""


@dataclass(frozen=True)
class TrainingCase:
    """A model and a batch of observations, all cameras there, every slot of the prompt taken.

    Attributes:
        case: the model and its weights.
        images: [B, 3, 224, 224, 3] float32 in [-1, 1].
        words: [B, L] token ids.
        state: [B, A].
        actions: [B, HORIZON, A].
        draws: file of the noise and the times of each step.
    """

    case: Case
    images: np.ndarray
    words: np.ndarray
    state: np.ndarray
    actions: np.ndarray
    draws: Path


@dataclass(frozen=True)
class StepCost:
    """An update.

    Attributes:
        seconds: of the wall clock.
        cpu: seconds of all of the process's threads.
        loss: before the update.
        peak_mb: the most memory that the process has held until now.
    """

    seconds: float
    cpu: float
    loss: float
    peak_mb: float


def case_of_arguments() -> TrainingCase:
    """The case that the parent asks for on the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", choices=("pi0", "pi05"), required=True)
    parser.add_argument("--size", choices=list(SIZES), required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--cores", type=int, required=True)
    parser.add_argument("--draws", type=Path, required=True)
    given = parser.parse_args()
    # before any thread pool: both frameworks make as many threads as they may use cores
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-given.cores :])
    case = make_case(given.kind, given.size, full=True)
    random, batch = np.random.default_rng(1), given.batch
    width = case.shape.action_dim
    return TrainingCase(
        case=case,
        images=random.uniform(-1, 1, (batch, *case.images.shape[1:])).astype(np.float32),
        words=random.integers(2, case.shape.vocabulary, (batch, case.slots)),
        state=random.standard_normal((batch, width), dtype=np.float32),
        actions=random.standard_normal((batch, HORIZON, width), dtype=np.float32),
        draws=given.draws,
    )


def answer_steps(step: Callable[[int], float]) -> None:
    """Do the steps that the parent asks for; the arm's import and compilation are done before.

    Args:
        step: does an update, and returns its loss when all of it is computed.
    """
    output = sys.stdout
    sys.stdout = sys.stderr
    print("ready", file=output, flush=True)
    for line in sys.stdin:
        began, cpu = time.perf_counter(), time.process_time()
        loss = step(int(line))
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        cost = {"seconds": seconds, "cpu": cpu, "loss": loss, "peak_mb": peak}
        print(json.dumps(cost), file=output, flush=True)
