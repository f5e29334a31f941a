"""A run of the demo without its processes: the real plant and controller under a made-up policy."""

from __future__ import annotations

import functools

import numpy as np

from demo.run_data import Chunk, Inference, JointTrack, RunData, State, Status, Subtask, Trajectory
from demo.tracking import _for_controller
from sim_robot.plant import Plant
from sim_robot.robot import HOME, JOINTS
from sim_robot.trajectory_follower import TrajectoryFollower

STEP = 0.04
HORIZON = 50
REPLAN = 0.4
LATENCY = 0.06


def policy(time, chunk_index, rng):
    """A slow swing about home; every chunk has its own small mistake."""
    amplitude = np.array([0.5, 0.25, 0.25, 0.3, 0.4, 0.5, 0.45])
    phase = np.arange(7) * 0.7
    swing = np.sin(0.9 * np.asarray(time)[:, None] + phase) - np.sin(phase)
    mistake = rng.normal(0, 0.01, 7)
    noise = rng.normal(0, 0.004, (len(time), 7))
    values = np.array(HOME) + amplitude * swing + mistake + noise
    values[:, 6] = np.clip(values[:, 6] + 0.4, 0, 1)
    return values


@functools.lru_cache
def good_run(seconds=8.0, transport="quic"):
    """Return what the demo would have seen in a run in which all is well."""
    rng = np.random.default_rng(0)
    plant = Plant()
    follower = TrajectoryFollower(JOINTS, HOME)
    chunks, trajectories, inferences = [], [], []
    measured, reference, times = [], [], []
    next_chunk, index = 0.0, 0
    while plant.time < seconds:
        now = plant.time
        if now >= next_chunk:
            observed = now - LATENCY - rng.gamma(2.0, 0.005)
            steps = observed + STEP * np.arange(HORIZON)
            values = policy(steps, index, rng)
            chunks.append(Chunk(now, observed, observed, STEP, 2, index + 1, values))
            kept = steps > now + STEP
            positions = values[kept]
            velocities = np.gradient(positions, STEP, axis=0)
            velocities[-1] = 0.0
            trajectory = Trajectory(now, None, steps[kept] - now, positions, velocities)
            trajectories.append(trajectory)
            follower.accept(_for_controller(trajectory, JOINTS), now)
            server = 0.045 + rng.gamma(2.0, 0.002)
            parts = (0.0011, 0.0004, 0.002 + rng.gamma(1.5, 0.0005), server)
            inferences.append(
                Inference(now, 0.02, 0.0, *parts, sum(parts), 301_000, 3_000, 1, 0, 0)
            )
            next_chunk += REPLAN
            index += 1
        desired = follower.desired(now)
        plant.command(desired.positions, desired.velocities)
        plant.step()
        if round(plant.time / plant.timestep) % 10 == 0:
            times.append(plant.time)
            measured.append(plant.positions)
            reference.append(follower.desired(plant.time).positions)
    statuses = [
        Status(t, State.RUNNING, False, transport, "127.0.0.1:5555", 0.1, 40, "")
        for t in np.arange(0.0, seconds, 0.5)
    ]
    return RunData(
        joints=JOINTS,
        seconds=seconds,
        transport=transport,
        prompt="put the red cube on the plate",
        chunks=tuple(chunks),
        trajectories=tuple(trajectories),
        inferences=tuple(inferences),
        statuses=tuple(statuses),
        subtasks=(Subtask(0.0, "reach for the red cube"),),
        measured=JointTrack(np.array(times), np.array(measured)),
        reference=JointTrack(np.array(times), np.array(reference)),
        images={"scene": 80, "wrist": 80},
        exit_codes={"node": 0, "robot": 0, "server": 0},
    )
