"""Whether the demo did what it should: a list of checks, each with its number and its bound. Pure.

Why the bounds are what they are stands at `Bounds`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from demo.run_data import RunData, State
from demo.tracking import at_times, commanded_positions, rms_difference, travel


@dataclass(frozen=True)
class Bounds:
    """What a good run keeps to."""

    max_observation_age: float
    """Seconds; the node's own parameter: an older observation must not have been sent."""
    max_chunk_age: float
    """Seconds from an observation to its chunk; the node's own parameter."""
    min_chunks_per_second: float = 1.0
    """The node asks every 0.4 s; half of that is left to a loaded machine with two cores. Of
    episodes, only what was played counts: not the time between two of them."""
    min_successes: int = 1
    """Episodes, of a policy that was trained: it does what the prompt says. How often is for
    `openpi-flash eval` to measure, over more starts than a demo has."""
    min_travel: float = 0.3
    """Rad, back and forth added up, of the arm joint that went farthest."""
    max_servo_error: float = 0.01
    """Rad RMS, measured against the controller's reference at the same stamps. The servos keep
    within 5 mrad at 1.5 rad/s (a test of the plant holds them to it); a new chunk changes the
    velocity in one step, which costs some more for a moment."""
    max_command_error: float = 0.05
    """Rad RMS, measured against the trajectories as sent. On top of the servos' error: message and
    tick take up to 20 ms each, in which a joint at its limit of 1.5 rad/s moves by 30 mrad."""


@dataclass(frozen=True)
class Check:
    """One thing that must hold."""

    name: str
    ok: bool
    value: str
    bound: str

    def __str__(self) -> str:
        return (
            f"{'ok    ' if self.ok else 'FAILED'} {self.name}: {self.value} (bound: {self.bound})"
        )


def judge(run: RunData, bounds: Bounds) -> list[Check]:
    """Return every check of a run, passed or not."""
    return [
        *([_successes(run, bounds)] if run.is_judged else []),
        _chunks(run, bounds),
        _sequence(run),
        _moved(run, bounds),
        _servo(run, bounds),
        _command(run, bounds),
        _observation_age(run, bounds),
        _chunk_age(run, bounds),
        _steady(run),
        _deadlines(run),
        _transport(run),
        *([_subtask(run)] if run.has_planner else []),
        _images(run),
        _exit_codes(run),
    ]


def passed(checks: Sequence[Check]) -> bool:
    """Return whether all checks hold."""
    return all(check.ok for check in checks)


def _successes(run: RunData, bounds: Bounds) -> Check:
    done = [episode for episode in run.episodes if episode.is_success]
    value = f"{len(done)} of {len(run.episodes)} episodes"
    if done:
        value += f", in {np.median([episode.seconds for episode in done]):.1f} s"
    return Check(
        f'"{run.prompt}" done',
        len(done) >= bounds.min_successes,
        value,
        f"at least {bounds.min_successes}",
    )


def _chunks(run: RunData, bounds: Bounds) -> Check:
    played = sum(e.seconds for e in run.episodes) if run.is_judged else run.seconds
    least = max(1, int(played * bounds.min_chunks_per_second))
    count = len(run.chunks)
    return Check("action chunks arrived", count >= least, str(count), f"at least {least}")


def _sequence(run: RunData) -> Check:
    steps = np.diff([chunk.sequence for chunk in run.chunks])
    wrong = int(np.sum(steps != 1))
    return Check("chunks lost or out of order", wrong == 0, str(wrong), "0")


def _moved(run: RunData, bounds: Bounds) -> Check:
    if len(run.measured.times) < 2:
        return Check("the arm moved", False, "no joint states", f"at least {bounds.min_travel} rad")
    farthest = travel(run.measured, run.placed)[:-1]  # the gripper is not in rad
    joint = int(np.argmax(farthest))
    return Check(
        "the arm moved",
        bool(farthest[joint] >= bounds.min_travel),
        f"{run.joints[joint]} by {farthest[joint]:.2f} rad",
        f"at least {bounds.min_travel:g} rad",
    )


def _servo(run: RunData, bounds: Bounds) -> Check:
    errors = rms_difference(at_times(run.reference, run.measured.times), run.measured.positions)
    return _error_check(
        "measured against the controller's reference", run, errors, bounds.max_servo_error
    )


def _command(run: RunData, bounds: Bounds) -> Check:
    commanded = commanded_positions(run.trajectories, run.joints, run.measured, run.placed)
    errors = rms_difference(commanded, run.measured.positions)
    return _error_check(
        "measured against the trajectories sent", run, errors, bounds.max_command_error
    )


def _error_check(name: str, run: RunData, errors: np.ndarray, bound: float) -> Check:
    limit = f"at most {bound:g} rad RMS"
    if not len(errors) or np.isnan(errors).any():
        return Check(name, False, "nothing to compare", limit)
    if run.is_judged:
        errors = errors[:-1]  # a gripper that holds a cube is not where it is commanded to be
    worst = int(np.argmax(errors))
    return Check(
        name,
        bool(errors[worst] <= bound),
        f"{errors[worst]:.4f} rad RMS at {run.joints[worst]}",
        limit,
    )


def _observation_age(run: RunData, bounds: Bounds) -> Check:
    ages = [inference.observation_age for inference in run.inferences]
    return _oldest("oldest observation sent", ages, bounds.max_observation_age)


def _chunk_age(run: RunData, bounds: Bounds) -> Check:
    ages = [chunk.received - chunk.observed for chunk in run.chunks]
    return _oldest("oldest chunk executed", ages, bounds.max_chunk_age)


def _oldest(name: str, ages: Sequence[float], bound: float) -> Check:
    limit = f"at most {bound:g} s"
    if not ages:
        return Check(name, False, "none came", limit)
    return Check(name, max(ages) <= bound, f"{max(ages):.3f} s", limit)


def _steady(run: RunData) -> Check:
    # heartbeats repeat a state: what counts is how often it left RUNNING
    allowed = {State.RUNNING} | ({State.PAUSED} if run.is_judged else set())
    before = [State.RUNNING, *(status.state for status in run.statuses)]
    left = [
        status
        for status, previous in zip(run.statuses, before, strict=False)
        if status.state not in allowed and previous is State.RUNNING
    ]
    value = "never"
    if left:
        first = left[0]
        value = (
            f"{len(left)} times, first {first.state.name} at {first.received:.1f} s: "
            f"{first.message}"
        )
    return Check("left RUNNING", not left, value, "never")


def _deadlines(run: RunData) -> Check:
    # the counter runs from activation; what it counted before the first chunk is warm-up
    misses = [inference.deadline_misses for inference in run.inferences]
    count = misses[-1] - misses[0] if misses else 0
    return Check("deadlines missed once running", count == 0, str(count), "0")


def _transport(run: RunData) -> Check:
    seen = sorted({status.transport for status in run.statuses}) or ["none"]
    return Check("transport", seen == [run.transport], ", ".join(seen), run.transport)


def _subtask(run: RunData) -> Check:
    texts = [text for subtask in run.subtasks if (text := subtask.text.strip())]
    value = repr(texts[-1]) if texts else "none"
    return Check("subtask in words", bool(texts), value, "at least one")


def _images(run: RunData) -> Check:
    counts = ", ".join(f"{name} {count}" for name, count in run.images.items()) or "none"
    ok = bool(run.images) and min(run.images.values()) > 0
    return Check("camera images", ok, counts, "some from each")


def _exit_codes(run: RunData) -> Check:
    bad = {name: code for name, code in run.exit_codes.items() if code != 0}
    value = ", ".join(f"{name} {code}" for name, code in (bad or run.exit_codes).items())
    return Check("exit codes", not bad and bool(run.exit_codes), value or "none", "all 0")
