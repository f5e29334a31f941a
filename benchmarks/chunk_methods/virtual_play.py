"""Plays a policy by a chunk method in virtual time: the robot's own chunk player and schedule.

The robot follows perfectly, and answers come after a latency. Everything is seeded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from chunk_policy import HORIZON, STEP_S, ChunkPolicy, Course
from numpy.typing import NDArray

from openpi_flash_models.actions.rtc import DEFAULT_RTC, RtcControls, RtcOptions
from openpi_flash_robot.bridge.request_schedule import RequestSchedule
from openpi_flash_robot.play.chunk import Chunk
from openpi_flash_robot.play.chunk_player import ChunkPlayer
from openpi_flash_robot.play.motion import Motion
from openpi_flash_robot.play.plan import Plan
from openpi_flash_robot.senses.frames import FrameSet
from openpi_flash_robot.senses.joints import JointReading
from openpi_flash_robot.senses.observation import Observation
from openpi_flash_robot.senses.states import StateReading
from openpi_flash_robot.settings.node_settings import PlayerSettings

Array = NDArray[np.float64]

MS = 1_000_000
TICK_NS = 20 * MS
STEP_NS = round(STEP_S * 1e9)
STOP_AND_GO = "stop-and-go"
"""The baseline: `latest`, with a request only when the steps are played and the robot stands."""

SETTINGS = PlayerSettings(
    chunk_method="latest",
    ensemble_decay=0.01,
    max_chunk_age_ns=HORIZON * STEP_NS,
    blend_ns=100 * MS,
    max_start_delta=(9.0, 9.0),
    max_tracking_error=(0.1, 0.1),
    max_velocity=(1.0, 1.0),
    max_acceleration=(10.0, 10.0),
    position_lower=(-100.0, -100.0),
    position_upper=(100.0, 100.0),
    lead_ns=40 * MS,
    is_commanded=True,
)


@dataclass(frozen=True)
class Case:
    """One run.

    Attributes:
        method: a chunk method, or :data:`STOP_AND_GO`.
        latency_ms: from an observation to its answer, at least.
        jitter_ms: at most so much more, uniformly.
        seed: of the policy and of the jitter.
        seconds: how long.
        execution_horizon: steps.
        options: how the server of `rtc` guides.
        blend_ms: how long a fade takes.
        max_jerk: m/s^3; 0 for no limit.
        has_obstacles: whether there are two ways, so that chunks may disagree on more than noise.
    """

    method: str
    latency_ms: float
    jitter_ms: float = 0.0
    seed: int = 0
    seconds: float = 30.0
    execution_horizon: int = 10
    options: RtcOptions = DEFAULT_RTC
    blend_ms: float = 100.0
    max_jerk: float = 0.0
    has_obstacles: bool = True


@dataclass(frozen=True, eq=False)
class Played:
    """What the controllers played.

    Attributes:
        times: seconds since the first request, [T], 5 ms apart.
        positions: [T, 2], m.
        velocities: [T, 2], m/s.
        chunks: when each chunk took over, seconds, and its own steps: times [H], positions [H, 2].
        kicks: [C, 2], m/s, for each border: the velocity one step behind it, less the velocity that
            the motion before would have had there.
    """

    times: Array
    positions: Array
    velocities: Array
    chunks: tuple[tuple[float, Array, Array], ...]
    kicks: Array


SAMPLE_NS = 5 * MS


def play(case: Case, goal_at: Callable[[int], float] = lambda _: 0.0) -> Played:
    """Play a case from rest at (0, 0).

    Args:
        case: what to play.
        goal_at: where the policy wants y to be, m, by the moment of its observation, ns.
    """
    stops = case.method == STOP_AND_GO
    settings = dataclasses.replace(
        SETTINGS,
        chunk_method="latest" if stops else case.method,
        execution_horizon=case.execution_horizon,
        blend_ns=round(case.blend_ms * MS),
        max_jerk=(case.max_jerk, case.max_jerk) if case.max_jerk else (),
    )
    player, schedule = ChunkPlayer(("x", "y"), settings), RequestSchedule[object]()
    delays = np.random.default_rng((case.seed, 1))
    recorder = _Recorder()
    now, sequence, here = 0, 0, np.zeros(2)
    arrival: int | None = None
    answer: tuple[int, Array] | None = None
    end_ns = round(case.seconds * 1e9)
    while now < end_ns:
        tick = (now // TICK_NS + 1) * TICK_NS
        now = tick if arrival is None else min(tick, arrival)
        player.step(now)
        if arrival == now and answer is not None:
            observed, actions = answer
            arrival = answer = None
            schedule.finish(now, sequence, is_answered=True)
            if stops:  # so many steps and no more
                played_ns = player.lead_ns + case.execution_horizon * STEP_NS
                age_ns = now - observed + played_ns
                player.update_settings(dataclasses.replace(settings, max_chunk_age_ns=age_ns))
            before = player.motion
            chunk = Chunk(actions, STEP_NS, observed, sequence)
            here = np.zeros(2) if before is None else before.sample(now).positions
            plan = player.accept(chunk, now=now, measured=here)
            if isinstance(plan, Plan):
                recorder.border(now, before, plan, actions)
        if now % TICK_NS or arrival is not None:
            continue
        due = schedule.is_due(
            now, player.plan, case.execution_horizon, player.lead_ns, player.takeover_ns
        )
        if stops:
            due = player.plan is None and not player.is_moving(now)
        if not due:
            continue
        here = np.zeros(2) if player.motion is None else player.motion.sample(now).positions
        told = player.continuation(
            now, now + schedule.expected_ns + player.lead_ns, case.execution_horizon
        )
        controls = None
        if told is not None:
            # as `link.answer.rtc_of` does
            known = told.previous_actions[:HORIZON]
            delay, executed = min(told.delay, len(known)), min(told.execution_horizon, HORIZON)
            controls = RtcControls(known, delay, executed, is_prefix=told.is_prefix)
        policy = ChunkPolicy(case.seed, Course(case.has_obstacles, goal_at(now)))
        actions = policy.chunk(sequence, here, controls, case.options)
        sequence = schedule.send(now, _observation(now)).request_id
        answer = now, actions
        waits_ns = round((case.latency_ms + delays.uniform(0, case.jitter_ms)) * MS)
        arrival = now + max(waits_ns, 1)
    return recorder.played(now)


def _observation(stamp_ns: int) -> Observation[object]:
    frames: FrameSet[object] = FrameSet({}, stamp_ns, stamp_ns)
    joints = JointReading(np.zeros(2), stamp_ns)
    return Observation(frames, joints, StateReading({}, stamp_ns), "")


class _Recorder:
    """Keeps what was commanded until something else was."""

    def __init__(self) -> None:
        self._pieces: list[tuple[int, Motion]] = []
        self._chunks: list[tuple[float, Array, Array]] = []
        self._kicks: list[Array] = []

    def border(self, now: int, before: Motion | None, plan: Plan, actions: Array) -> None:
        """A chunk has been accepted."""
        self._pieces.append((now, plan.motion))
        begin_ns = int(plan.due_ns[0]) - STEP_NS
        if before is not None and before.end_ns > now:
            at = int(plan.due_ns[0])
            self._kicks.append(plan.motion.sample(at).velocities - before.sample(at).velocities)
        times = (plan.start_ns + np.arange(len(actions)) * STEP_NS) / 1e9
        self._chunks.append((max(begin_ns, now) / 1e9, times, actions))

    def played(self, end_ns: int) -> Played:
        """All of it, as controllers draw it: cubics between the points of the motion."""
        times_ns = np.arange(0, end_ns, SAMPLE_NS)
        positions, velocities = np.zeros((len(times_ns), 2)), np.zeros((len(times_ns), 2))
        ends = [start for start, _ in self._pieces[1:]] + [end_ns]
        for (start, motion), end in zip(self._pieces, ends, strict=True):
            inside = (times_ns >= start) & (times_ns < end)
            positions[inside], velocities[inside] = sampled(motion, times_ns[inside])
        kicks = np.array(self._kicks).reshape(-1, 2)
        return Played(times_ns / 1e9, positions, velocities, tuple(self._chunks), kicks)


def sampled(motion: Motion, times_ns: NDArray[np.int64]) -> tuple[Array, Array]:
    """Positions and velocities [T, N] of the cubics between the points, at rest at both ends."""
    after = np.searchsorted(motion.times_ns, times_ns, side="right")
    outside = (after == 0) | (after == len(motion.times_ns))
    high = np.clip(after, 1, max(len(motion.times_ns) - 1, 1))
    if len(motion.times_ns) == 1:
        still = np.broadcast_to(motion.positions[0], (len(times_ns), motion.positions.shape[1]))
        return still.copy(), np.zeros_like(still)
    low = high - 1
    length = ((motion.times_ns[high] - motion.times_ns[low]) / 1e9)[:, np.newaxis]
    passed = ((times_ns - motion.times_ns[low]) / 1e9)[:, np.newaxis]
    p0, p1 = motion.positions[low], motion.positions[high]
    v0, v1 = motion.velocities[low], motion.velocities[high]
    square = (3.0 * (p1 - p0) / length - 2.0 * v0 - v1) / length
    cube = (2.0 * (p0 - p1) / length + v0 + v1) / length**2
    positions = p0 + passed * (v0 + passed * (square + passed * cube))
    velocities = v0 + passed * (2.0 * square + passed * 3.0 * cube)
    ends = np.where((after == 0)[:, np.newaxis], motion.positions[0], motion.positions[-1])
    rests = outside[:, np.newaxis]
    return np.where(rests, ends, positions), np.where(rests, 0.0, velocities)
