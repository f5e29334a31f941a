"""What the runner needs of a robot, and what a robot tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.nanoseconds import SECOND, to_seconds
from openpi_flash_robot.play.motion import Motion
from openpi_flash_robot.senses.observation import Image
from openpi_flash_robot.settings.node_settings import NodeSettings

Numbers = Sequence[float] | NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Reading:
    """What a robot has measured.

    Attributes:
        positions: of the joints in the order of `joints`, [N], rad or m; then of the end effector
            of each controller of kind pose: x, y, z and the rotation vector.
        images: by the name of the camera, uint8 RGB [H, W, 3]; copied, so the robot may use its
            buffers again. A robot with `read_images` leaves them out.
        stamp: when it was measured, seconds of `time.monotonic()`; None: when `read` was called.
        velocities: of the joints, [N]; only for a state of kind joint_velocities.
        efforts: of the joints, [N]; only for a state of kind joint_efforts.
        states: by the name of the state: poses, wrenches and vectors, each [size].
    """

    positions: Numbers
    images: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    stamp: float | None = None
    velocities: Numbers = ()
    efforts: Numbers = ()
    states: Mapping[str, Numbers] = field(default_factory=dict)


class Robot(Protocol):
    """The least that a robot must do. Each method is called on a thread of its own.

    It may have more, each found by its name:

    - `read_images() -> Mapping[str, image]`: the images, on another thread than `read`, so that a
      camera that blocks does not delay the joints;
    - `command_window(window: CommandWindow)`: for a controller that holds a window of the motion;
      then `command` is not called;
    - `stop()`: called once when the runner has ended or `command` has failed. It must bring the
      robot to a stop by other means than `command`, if there are any.
    """

    def read(self) -> Reading:
        """What is measured now. An error leaves the runner blind: it holds, and reads again."""

    def command(self, positions: NDArray[np.float64], velocities: NDArray[np.float64], /) -> None:
        """Be here now. Called at `control_rate_hz`; an error is a fault, after which nothing comes.

        Args:
            positions: of the axes that a controller moves, [N], rad or m.
            velocities: of the same, [N], rad/s or m/s; for robots that are told how fast to go.
        """


@dataclass(frozen=True, eq=False)
class CommandWindow:
    """The next fraction of a second of the motion; it ends at rest.

    A controller that holds it brakes by itself when no more come. A newer one takes its place; both
    describe the same curve where they overlap, unless the plan has changed.

    Attributes:
        start: what the times count from, seconds of `time.monotonic()`.
        times: seconds, [K], strictly increasing; between two the curve is the cubic that meets
            positions and velocities.
        positions: [K, N], rad or m.
        velocities: [K, N], rad/s or m/s; the last is zero.
    """

    start: float
    times: NDArray[np.float64]
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]


@runtime_checkable
class ReadsImages(Protocol):
    """A robot whose cameras are read apart from its joints."""

    def read_images(self) -> Mapping[str, NDArray[Any]]:
        """The images by the name of the camera; some or all of them."""


@runtime_checkable
class HoldsWindows(Protocol):
    """A robot whose controller holds a window of the motion."""

    def command_window(self, window: CommandWindow) -> None:
        """Play this from now on, in place of the window before."""


@runtime_checkable
class Stops(Protocol):
    """A robot that can be stopped by other means than a command."""

    def stop(self) -> None:
        """Stop."""


class ReadingError(ValueError):
    """A robot has measured something that cannot be used; the message names it."""


def checked(reading: Reading, settings: NodeSettings) -> Reading:
    """The reading with plain lists for the joints, and copies of its images.

    Raises:
        ReadingError: a list has another length than there are joints, a state is unknown, or what
            `checked_images` raises.
    """
    joints = settings.joints
    lists = {
        "positions": reading.positions,
        "velocities": reading.velocities,
        "efforts": reading.efforts,
    }
    plain = {name: [float(value) for value in values] for name, values in lists.items()}
    for name, values in plain.items():
        is_left_out = not values and name != "positions"
        if len(values) != len(joints) and not is_left_out:
            raise ReadingError(
                f"read() has {len(values)} {name}, expected {len(joints)}: {', '.join(joints)}"
            )
    known = [state.name for state in settings.observation.states if not state.kind.is_of_joints]
    for name in reading.states:
        if name not in known:
            raise ReadingError(f"read() has a state {name!r}, expected {_either(known)}")
    return Reading(
        positions=plain["positions"],
        images=checked_images(reading.images, settings),
        stamp=reading.stamp,
        velocities=plain["velocities"],
        efforts=plain["efforts"],
        states={name: [float(v) for v in values] for name, values in reading.states.items()},
    )


def checked_images(images: Mapping[str, Any], settings: NodeSettings) -> dict[str, Image]:
    """Copies of the images.

    Raises:
        ReadingError: a camera is unknown, or its image is no uint8 RGB [H, W, 3].
    """
    known = [camera.name for camera in settings.observation.cameras]
    copies = {}
    for name, image in images.items():
        if name not in known:
            raise ReadingError(f"there is an image of camera {name!r}, expected {_either(known)}")
        pixels = np.asarray(image)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise ReadingError(
                f"the image of camera {name} is {pixels.dtype} {list(pixels.shape)}, expected "
                "uint8 RGB [height, width, 3]"
            )
        copies[name] = np.array(pixels, order="C", copy=True)
    return copies


def command_window_of(window: Motion) -> CommandWindow:
    """A motion in seconds, for a controller that holds it."""
    return CommandWindow(
        start=to_seconds(window.start_ns),
        times=(window.times_ns - window.start_ns) / SECOND,
        positions=window.positions,
        velocities=window.velocities,
    )


def _either(names: Sequence[str]) -> str:
    return f"one of {', '.join(names)}" if names else "none"
