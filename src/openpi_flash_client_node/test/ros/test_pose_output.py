"""A controller of kind pose over real topics: the node, its sender, and an arm that takes poses."""

import array
import logging
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import yaml
from geometry_msgs.msg import PoseStamped
from pose_world import (
    DOWN,
    METADATA,
    PARAMETERS,
    SPEED,
    TURNING,
    as_policy,
    lengths,
    turning,
)
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory

from openpi_flash_msgs.msg import PolicyStatus
from openpi_flash_robot.nanoseconds import from_stamp
from openpi_flash_robot.senses.rotation import continued, quaternion_of, rotation_numbers
from openpi_flash_robot.settings.state_inputs import Rotation

log = logging.getLogger(__name__)

CHANGES = {
    "states": ["pose", "gripper"],
    "state.pose.kind": "pose",
    "state.pose.topic": "/current_pose",
    "state.pose.frame": "base",
    "state.pose.rotation": "rotvec",
    "state.pose.key": "observation/pose",
    "state.gripper.key": "observation/gripper",
    "state.gripper.joints": ["gripper"],
}


class PoseArm:
    """Is wherever it was told to be, and says so."""

    def __init__(self, ros):
        self.ros = ros
        self.node = ros.node("pose_arm")
        self.pose, self.frame = DOWN[:6].copy(), "base"
        self.commands, self.statuses, self.gripper = [], [], []
        self._image = self.node.create_publisher(Image, "/scene/image_raw", 2)
        self._joints = self.node.create_publisher(JointState, "/joint_states", 10)
        self._pose = self.node.create_publisher(PoseStamped, "/current_pose", 10)
        self.node.create_subscription(PoseStamped, "/target_pose", self._obey, 100)
        self.node.create_subscription(
            JointTrajectory, "/hand/joint_trajectory", self.gripper.append, 10
        )
        self.node.create_subscription(PolicyStatus, "/openpi/status", self.statuses.append, 10)
        self.node.create_timer(0.02, self._speak)

    def _obey(self, message):
        place, turn = message.pose.position, message.pose.orientation
        vector = rotation_numbers((turn.x, turn.y, turn.z, turn.w), Rotation.ROTVEC)
        vector = continued(vector[np.newaxis], self.pose[3:])[0]
        self.pose = np.array([place.x, place.y, place.z, *vector])
        stamp = from_stamp(message.header.stamp.sec, message.header.stamp.nanosec)
        self.commands.append((stamp, self.pose, message.header.frame_id))

    def _speak(self):
        now = self.node.get_clock().now().to_msg()
        image = Image(height=48, width=64, step=192, encoding="rgb8")
        image.data = array.array("B", bytes(48 * 192))
        joints = JointState(name=["gripper"], position=[0.5])
        pose = PoseStamped()
        pose.header.frame_id = self.frame
        pose.pose.position.x, pose.pose.position.y, pose.pose.position.z = self.pose[:3].tolist()
        turn = pose.pose.orientation
        turn.x, turn.y, turn.z, turn.w = quaternion_of(self.pose[3:])
        for message, publisher in (
            (image, self._image),
            (joints, self._joints),
            (pose, self._pose),
        ):
            message.header.stamp = now
            publisher.publish(message)

    def until_state(self, state, text=""):
        return self.ros.until(
            lambda: (
                self.statuses
                and self.statuses[-1].state == state
                and text in self.statuses[-1].message
            ),
            lambda: f"state {state} with {text!r}, not {self.statuses[-1:]}",
            timeout=60.0,
        )

    def path(self):
        """Seconds [K] and poses [K, 6] of the commands."""
        stamps = np.array([stamp for stamp, _, _ in self.commands])
        return (stamps - stamps[0]) / 1e9, np.array([pose for _, pose, _ in self.commands])


@pytest.fixture
def arm(ros):
    return PoseArm(ros)


def go_on(observation):
    """On in x and y and turning about z, from where the hand is, at twice the speed allowed."""
    here = np.array([*observation["observation/pose"], *observation["observation/gripper"]])
    way = np.arange(1, 51)[:, np.newaxis] * 0.04 * [0.3, 0.3, 0.0, 0.0, 0.0, 1.2, 0.0]
    return {"actions": as_policy(here + way).astype(np.float32)}


@pytest.fixture
def start(ros_domain, tmp_path, server):
    """Start a node as a process."""
    processes = []
    server.stop()
    server.start(**METADATA)
    server.answer = go_on

    def start(**changes):
        path = tmp_path / "robot.yaml"
        given = PARAMETERS | CHANGES | {"port": server.port} | changes
        path.write_text(yaml.safe_dump({"/**": {"ros__parameters": given}}))
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "openpi_flash_client_node"),
                *("--ros-args", "--params-file", str(path)),
            ],
            env=os.environ | {"ROS_DOMAIN_ID": str(ros_domain)},
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_the_hand_moves_within_its_limits_and_stands_when_its_node_is_killed(ros, arm, start):
    process = start()
    ros.until(lambda: len(arm.commands) > 20, "commands", timeout=90.0)
    moved = lambda: np.linalg.norm(arm.pose[:2] - DOWN[:2]) > 0.06  # noqa: E731
    ros.until(moved, lambda: f"motion; {arm.statuses[-1:]}")
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = arm.node.get_clock().now().nanoseconds
    quiet = None
    while quiet != len(arm.commands):
        quiet = len(arm.commands)
        ros.turn(1.0)
    seconds, poses = arm.path()
    steps = np.diff(seconds)
    # a command is where the motion is at its stamp, so this holds however late they are sent
    long_enough = steps > 0.005
    speeds = lengths(np.diff(poses[:, :3], axis=0))[long_enough] / steps[long_enough]
    spins = lengths(turning(poses[:, 3:], 1.0))[long_enough] / steps[long_enough]
    assert 0.5 * SPEED < speeds.max() <= SPEED * 1.01
    assert 0.2 * TURNING < spins.max() <= TURNING * 1.01
    assert {frame for _, _, frame in arm.commands} == {"base"}
    stamps = [stamp for stamp, _, _ in arm.commands]
    last = poses[-1]
    moving = [stamp for stamp, pose in zip(stamps, poses, strict=True) if np.any(pose != last)]
    stands_after_s = (max(moving) - killed) / 1e9
    log.info(
        f"stands {stands_after_s:.3f} s after SIGKILL; {speeds.max() / SPEED:.3f} of the speed and "
        f"{spins.max() / TURNING:.3f} of the turning allowed"
    )
    assert 0.0 < stands_after_s <= 0.5
    assert arm.gripper


def test_a_pose_in_another_frame_keeps_the_hand_still(arm, start):
    arm.frame = "camera"
    start()
    arm.until_state(PolicyStatus.HOLDING, "is in frame 'camera', expected 'base'")
    assert not arm.commands
    arm.frame = "base"
    arm.until_state(PolicyStatus.RUNNING)
