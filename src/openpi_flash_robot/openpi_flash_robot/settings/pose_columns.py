"""Where the poses of end effectors are: in the axes, and in the columns of an action.

A pose has six axes, x, y, z and the rotation vector. A policy may write the rotation with more
numbers, so that an action has more columns than there are axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from openpi_flash_robot.settings.controllers import Controller, ControllerKind
from openpi_flash_robot.settings.state_inputs import Rotation

POSITION, AXES = 3, 6
"""Axes of a position, and of a pose."""


@dataclass(frozen=True)
class PoseColumns:
    """One pose.

    Attributes:
        axis: index of its first axis, x; the other five follow.
        column: index of its first column, in the order of `NodeSettings.action_columns`.
        rotation: how the policy writes its rotation, after x, y and z.
    """

    axis: int
    column: int
    rotation: Rotation

    @property
    def rotation_axes(self) -> range:
        """Indexes of its rotation vector among the axes."""
        return range(self.axis + POSITION, self.axis + AXES)

    @property
    def rotation_columns(self) -> range:
        """Indexes of its rotation among the columns."""
        first = self.column + POSITION
        return range(first, first + self.rotation.size)


def pose_columns(controllers: Sequence[Controller]) -> tuple[PoseColumns, ...]:
    """The poses that controllers take, in the order of their axes."""
    found = sorted(
        (controller.columns[0], controller.rotation)
        for controller in controllers
        if controller.kind is ControllerKind.POSE
    )
    poses: list[PoseColumns] = []
    more = 0  # columns than axes so far
    for axis, rotation in found:
        poses.append(PoseColumns(axis, axis + more, rotation))
        more += rotation.size - (AXES - POSITION)
    return tuple(poses)


def axis_columns(axis_count: int, poses: Sequence[PoseColumns]) -> tuple[int, ...]:
    """The first column of each axis; for all three axes of a rotation that of the rotation."""
    columns = []
    more = 0
    for axis in range(axis_count):
        pose = next((pose for pose in poses if axis in pose.rotation_axes), None)
        if pose is None:
            columns.append(axis + more)
            continue
        columns.append(pose.rotation_columns[0])
        if axis == pose.rotation_axes[-1]:
            more += pose.rotation.size - (AXES - POSITION)
    return tuple(columns)
