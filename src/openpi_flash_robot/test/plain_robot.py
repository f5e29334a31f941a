"""A robot in plain Python for tests: it goes where it is told, and remembers what that was."""

import threading

import numpy as np

from openpi_flash_robot.run.robot import Reading
from openpi_flash_robot.run.settings_file import robot_settings

JOINTS = ["shoulder", "elbow", "gripper"]
PARAMETERS = {
    "server": "127.0.0.1",
    "prompt": "stack the cubes",
    "dry_run": False,
    "cameras": ["scene"],
    "camera": {"scene": {"key": "observation/image"}},
    "joints": JOINTS,
    "action_kind": "position",
    "max_velocity": [0.5, 0.5, 1.0],
    "max_acceleration": [5.0],
    "max_start_delta": [0.5],
    "position_lower": [-2.0, -2.0, 0.0],
    "position_upper": [2.0, 2.0, 1.0],
}
LATE_S = 3 * 0.02


def settings_for(port=0, **changes):
    return robot_settings(**(PARAMETERS | {"port": port} | changes))


class PlainRobot:
    """Reads what it was told last; each of its parts can be made to fail or to block."""

    def __init__(self):
        self.positions = np.array([0.1, 0.2, 0.5])
        self.image = np.zeros((48, 64, 3), np.uint8)
        self.read_error = None
        self.command_error = None
        self.sees = threading.Event()
        self.sees.set()
        self.stops = 0

    def read(self):
        self.sees.wait(30)
        if self.read_error is not None:
            raise self.read_error
        return Reading(self.positions.copy(), {"scene": self.image})

    def command(self, positions, velocities):
        if self.command_error is not None:
            raise self.command_error
        self.positions = positions

    def stop(self):
        self.stops += 1


class Told:
    """What a robot was told, for `on_command`."""

    def __init__(self):
        self.commands = []
        self.changed = threading.Condition()

    def __call__(self, command):
        with self.changed:
            self.commands.append(command)
            self.changed.notify_all()

    def until(self, condition, timeout=20.0):
        with self.changed:
            is_met = self.changed.wait_for(lambda: condition(self.commands), timeout)
        assert is_met, f"waited {timeout:g} s; the last commands were {self.commands[-3:]}"

    def until_moving(self, speed=0.1):
        self.until(lambda told: told and np.abs(told[-1].velocities).max() > speed)

    @property
    def last_motion_ns(self):
        """When it was last told to move."""
        return max(c.stamp_ns for c in self.commands if c.velocities.any())

    def curve(self):
        """Positions, mean velocities between them, and mean accelerations between those.

        Nobody commands while this process does not run: there the robot has stood.
        """
        times = np.array([command.stamp_ns for command in self.commands]) / 1e9
        positions = np.array([command.positions for command in self.commands])
        steps = np.diff(times)
        velocities = np.diff(positions, axis=0) / steps[:, np.newaxis]
        between = (steps[1:] + steps[:-1])[:, np.newaxis] / 2.0
        in_time = (steps[1:] < LATE_S) & (steps[:-1] < LATE_S)
        return positions, velocities, (np.diff(velocities, axis=0) / between)[in_time]


def assert_within_limits(told, settings):
    positions, velocities, accelerations = told.curve()
    player = settings.player
    assert np.all(positions >= np.array(player.position_lower) - 1e-9)
    assert np.all(positions <= np.array(player.position_upper) + 1e-9)
    assert np.all(np.abs(velocities) <= np.array(player.max_velocity) * 1.001 + 1e-5)
    assert np.all(np.abs(accelerations) <= np.array(player.max_acceleration) * 1.001 + 1e-3)
