"""The numbers of a request: each from its own source, where the server reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.hold import Hold
from openpi_flash_robot.senses.joints import JointPositions, JointReading
from openpi_flash_robot.senses.pose_axes import PoseAxes
from openpi_flash_robot.senses.vectors import VectorSource
from openpi_flash_robot.settings.node_settings import ObservationSettings
from openpi_flash_robot.settings.state_inputs import (
    JOINT_KINDS,
    RequestPath,
    StateInput,
    StateKind,
)


@dataclass(frozen=True, eq=False)
class StateReading:
    """The numbers of one observation.

    Attributes:
        values: by their place in the request, float64 [size].
        oldest_ns: the oldest stamp among them.
    """

    values: Mapping[RequestPath, NDArray[np.float64]]
    oldest_ns: int


class StateSources:
    """One source for each input of numbers; those of joints share the joint states.

    Attributes:
        joints: positions of all joints, for the inputs and for whoever moves them.
    """

    def __init__(self, settings: ObservationSettings) -> None:
        """Start empty.

        Args:
            settings: which inputs there are.
        """
        self._inputs, joints = settings.states, settings.joints
        kinds = {state.kind for state in self._inputs}
        topics = settings.joint_state_topics if settings.joint_names or not settings.poses else ()
        self.joints = JointPositions(joints, (*topics, *(pose.source for pose in settings.poses)))
        self._poses = {pose.controller: PoseAxes(pose) for pose in settings.poses}
        self._of_joints = {StateKind.JOINT_POSITIONS: self.joints}
        for kind in JOINT_KINDS[1:]:
            if kind in kinds:
                quantity = _QUANTITIES[kind]
                self._of_joints[kind] = JointPositions(
                    settings.joint_names, settings.joint_state_topics, quantity
                )
        self._vectors = {
            state.name: VectorSource(state.name, state.topic, state.size)
            for state in self._inputs
            if not state.kind.is_of_joints
        }
        self._columns = {
            state.name: [joints.index(joint) for joint in state.joints] for state in self._inputs
        }

    def add_joints(
        self,
        stamp_ns: int,
        names: Sequence[str],
        positions: Sequence[float],
        velocities: Sequence[float] = (),
        efforts: Sequence[float] = (),
    ) -> None:
        """Take one message of joint states."""
        for kind, values in zip(JOINT_KINDS, (positions, velocities, efforts), strict=True):
            if kind in self._of_joints and (values or kind is StateKind.JOINT_POSITIONS):
                self._of_joints[kind].add(stamp_ns, names, values)

    def add_pose(
        self,
        controller: str,
        stamp_ns: int,
        position: Sequence[float],
        quaternion: Sequence[float],
        frame: str,
    ) -> dict[str, float]:
        """Take the measured pose of an end effector that a controller moves.

        Args:
            controller: its name.
            stamp_ns: when it was measured.
            position: x, y, z, m.
            quaternion: x, y, z, w.
            frame: in which it counts.

        Returns:
            Where its axes are, by their names; empty if it cannot be used.
        """
        pose = self._poses[controller]
        values = pose.values(position, quaternion, frame)
        self.joints.add(stamp_ns, pose.names, values)
        self.joints.note(controller, pose.problem)
        return dict(zip(pose.names, values))  # noqa: B905 - none if it cannot be used

    def add_vector(self, name: str, stamp_ns: int, values: Sequence[float]) -> None:
        """Take the numbers of one input that is not of joints."""
        self._vectors[name].add(stamp_ns, values)

    def refuse_vector(self, name: str, why: str) -> None:
        """What came of one input cannot be used, or why nothing comes."""
        self._vectors[name].refuse(why)

    def refuse_pose(self, controller: str, why: str) -> None:
        """Why the measured pose of an end effector is not known."""
        self.joints.note(controller, why)

    def why_never_heard(self, now: int) -> Hold | None:
        """Why no joint state has ever arrived; None if one has, or if there are no joints."""
        if self.joints.has_heard:
            return None
        found = self.joints.newest(now, max_age_ns=0)
        return found if isinstance(found, Hold) else None

    def blind(self, now: int, *, max_blind_ns: int, max_age_ns: int) -> Hold | None:
        """Which input has been missing for too long to move by it; None if none has."""
        sources: list[JointPositions | VectorSource] = [*self._of_joints.values()]
        for source in (*sources, *self._vectors.values()):
            if blind := source.blind(now, max_blind_ns=max_blind_ns, max_age_ns=max_age_ns):
                return blind
        return None

    def newest(self, now: int, *, max_age_ns: int, joints: JointReading) -> StateReading | Hold:
        """The numbers of every input, or which of them is missing or old.

        Args:
            now: this moment.
            max_age_ns: `max_observation_age`.
            joints: positions of the moment at which the images were taken.
        """
        values: dict[RequestPath, NDArray[np.float64]] = {}
        oldest_ns = joints.oldest_ns
        for state in self._inputs:
            found = self._read(state, now, max_age_ns, joints)
            if isinstance(found, Hold):
                return found
            stamp_ns, numbers = found
            oldest_ns = min(oldest_ns, stamp_ns)
            sent = numbers * state.scale + state.offset
            before = values.get(state.key)
            values[state.key] = sent if before is None else np.concatenate([before, sent])
        return StateReading(values, oldest_ns)

    def _read(
        self, state: StateInput, now: int, max_age_ns: int, joints: JointReading
    ) -> tuple[int, NDArray[np.float64]] | Hold:
        if state.kind is StateKind.JOINT_POSITIONS:
            return joints.oldest_ns, joints.positions[self._columns[state.name]]
        if state.kind.is_of_joints:
            reading = self._of_joints[state.kind].newest(now, max_age_ns=max_age_ns)
            if isinstance(reading, Hold):
                return reading
            return reading.oldest_ns, reading.positions[self._columns[state.name]]
        return self._vectors[state.name].newest(now, max_age_ns=max_age_ns)


_QUANTITIES = {StateKind.JOINT_VELOCITIES: "velocity", StateKind.JOINT_EFFORTS: "effort"}
