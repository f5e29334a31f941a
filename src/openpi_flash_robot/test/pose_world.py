"""A robot whose end effector is commanded by poses, and a policy of poses, in virtual time."""

import itertools

import numpy as np
from bridge_world import COST, MS, PERIOD
from played_curves import Controller, window_of

from openpi_flash_robot.bridge.bridge import Bridge
from openpi_flash_robot.bridge.effects import PublishTrajectory, SendRequest
from openpi_flash_robot.link.events import LinkUp, RequestDone
from openpi_flash_robot.senses.rotation import quaternion_of, rotation_numbers
from openpi_flash_robot.settings.parse_settings import settings_from_parameters
from openpi_flash_robot.settings.state_inputs import Rotation

AXES = ("px", "py", "pz", "rx", "ry", "rz", "gripper")
COLUMNS = ["px", "py", "pz", "qx", "qy", "qz", "qw", "gripper"]
SPEED, TURNING, PUSH, TWIST = 0.25, 1.0, 1.5, 6.0
DOWN = np.array([0.4, 0.0, 0.3, np.pi, 0.0, 0.0, 0.5])
"""The hand points down, by half a turn about x: the commonest pose, and beside the jump of the
shortest rotation vector from one side to the other."""
PARAMETERS = {
    "server": "127.0.0.1",
    "prompt": "stack the cubes",
    "dry_run": False,
    "cameras": ["scene"],
    "camera.scene.topic": "/scene/image_raw",
    "camera.scene.key": "observation/scene_image",
    "joints": ["gripper"],
    "axes": list(AXES),
    "action_columns": COLUMNS,
    "action_kind": ["eef_pose"] * 6 + ["gripper"],
    "gripper_joints": ["gripper"],
    "controllers": ["tool", "hand"],
    "controller.tool.kind": "pose",
    "controller.tool.topic": "/target_pose",
    "controller.tool.joints": list(AXES[:6]),
    "controller.tool.frame": "base",
    "controller.tool.rotation": "quat_xyzw",
    "controller.tool.pose_topic": "/current_pose",
    "controller.hand.joints": ["gripper"],
    "position_lower": [0.2, -0.3, 0.05, *[float("-inf")] * 3, 0.0],
    "position_upper": [0.7, 0.3, 0.6, *[float("inf")] * 3, 1.0],
    "max_velocity": [SPEED] * 3 + [TURNING] * 3 + [2.0],
    "max_acceleration": [PUSH] * 3 + [TWIST] * 3 + [10.0],
    "max_start_delta": [0.3] * 3 + [0.5] * 3 + [1.0],
    "max_tracking_error": [0.05] * 3 + [0.2] * 3 + [0.0],
    "max_frozen_time": 0.0,
}


def actions_metadata(rotation="quat_xyzw", columns=COLUMNS, frame="base"):
    """What a server says of a policy of poses."""
    units = ["m"] * 3 + ["1"] * (len(columns) - 4)
    return [
        {
            "name": name,
            "interface": "eef_pose",
            "unit": unit,
            "reference": "absolute",
            "frame": frame,
            "rotation": rotation if unit == "1" else "",
        }
        for name, unit in zip(columns[:-1], units, strict=True)
    ] + [{"name": "gripper", "interface": "gripper", "unit": "1", "reference": "absolute"}]


METADATA = {
    "action_horizon": 50,
    "action_dim": len(COLUMNS),
    "action_rate_hz": 25.0,
    "action_names": COLUMNS,
    "actions": actions_metadata(),
    "supports": [],
}


def as_policy(axes, rotation=Rotation.QUAT_XYZW):
    """Rows of seven axes as the policy's columns; each quaternion with a sign of its own."""
    rows = []
    for index, row in enumerate(np.atleast_2d(axes)):
        numbers = rotation_numbers(quaternion_of(row[3:6]), rotation)
        if rotation is Rotation.QUAT_XYZW and index % 2:
            numbers = -numbers
        rows.append([*row[:3], *numbers, row[6]])
    return np.array(rows)


class PoseWorld:
    """Measures the pose that its controller is at."""

    def __init__(self, start=DOWN, **changes):
        self.settings = settings_from_parameters(PARAMETERS | changes)
        self.bridge = Bridge(self.settings)
        self.bridge.command_topics(0, [])
        self.now = 1_000 * MS
        self.controller = Controller(start)
        self.references = []
        self.frame, self.is_seen = "base", True
        self.effects = []
        self.asked = None

    def start(self):
        self.bridge.activate(self.now)
        self.bridge.link_event(self.now, LinkUp(METADATA))

    def pass_time(self, milliseconds, *, until=None):
        for _ in range(milliseconds * MS // PERIOD):
            for at in range(self.now, self.now + PERIOD, 5 * MS):
                self.references.append(self.controller.reference(at).positions)
            self.now += PERIOD
            self.bridge.add_frame("scene", self.now - 5 * MS, self.now)
            here = self.controller.reference(self.now).positions
            if self.is_seen:
                quaternion = quaternion_of(here[3:6])
                sign = 1.0 if self.now // PERIOD % 2 else -1.0
                self.bridge.add_pose(
                    "tool", self.now - MS, here[:3], [sign * q for q in quaternion], self.frame
                )
            self.bridge.add_joints(self.now - MS, ["gripper"], here[6:])
            self.bridge.tick(self.now)
            if (found := self.collect(until)) is not None:
                return found
        return None

    def collect(self, until=None):
        new = self.bridge.take_effects()
        self.effects += new
        commands = [effect for effect in new if isinstance(effect, PublishTrajectory)]
        self.asked = ([self.asked] + [e for e in new if isinstance(e, SendRequest)])[-1]
        window = window_of(commands[-2:], len(AXES))
        if window is not None:
            self.controller.receive(window, self.now)
        found = [effect for effect in new if until and isinstance(effect, until)]
        return found[0] if found else None

    def answer(self, actions, *, latency_ms=40):
        """Answer the request that is in flight, or the next one."""
        request = self.asked or self.pass_time(2_000, until=SendRequest)
        assert request is not None, self.status
        self.pass_time(latency_ms)
        result = {"actions": actions}
        done = RequestDone(request.request_id, result, 0.003, latency_ms / 1e3, COST)
        self.asked = None
        self.bridge.link_event(self.now, done)
        self.collect()

    @property
    def status(self):
        return self.bridge.status(self.now)

    @property
    def pose(self):
        return self.controller.reference(self.now).positions

    def kill(self):
        """Nothing is commanded any more; how long the hand still moves, seconds."""
        at = self.now
        while np.any(self.controller.reference(at).velocities):
            at += MS
        return (at - self.now) / 1e9


def lengths(vectors):
    return np.linalg.norm(vectors, axis=1)


def turning(vectors, seconds):
    """The angular velocity between rotation vectors, [K-1, 3], rad/s."""
    quaternions = np.array([quaternion_of(vector) for vector in vectors])
    found = []
    for (x, y, z, w), (a, b, c, d) in itertools.pairwise(quaternions):
        between = (  # the second times the inverse of the first
            -d * x + a * w - b * z + c * y,
            -d * y + b * w - c * x + a * z,
            -d * z + c * w - a * y + b * x,
            d * w + a * x + b * y + c * z,
        )
        found.append(rotation_numbers(between, Rotation.ROTVEC) / seconds)
    return np.array(found)
