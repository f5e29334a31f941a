"""lerobot_robot.py: a fake of LeRobot's interface, and lerobot's own where it is installed."""

import logging
import math
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from plain_robot import Told, assert_within_limits
from scripted_server import ScriptedServer, sweep

from openpi_flash_robot.bridge.status import Cause
from openpi_flash_robot.lerobot_robot import LeRobotArm
from openpi_flash_robot.plain import PolicyRunner, robot_settings
from openpi_flash_robot.run.robot import ReadsImages

MOTORS = ("shoulder", "elbow", "gripper")
MODES = {"shoulder": "degrees", "elbow": "degrees", "gripper": "range_0_100"}


class FakeCamera:
    """Has a new image at once, or never."""

    height, width, is_connected = 48, 64, True

    def __init__(self):
        self.has_image = True

    def async_read(self):
        if not self.has_image:
            time.sleep(0.05)
            raise TimeoutError("no new image")
        return np.zeros((48, 64, 3), np.uint8)


class FakeRobot:
    """LeRobot's interface and nothing else."""

    max_relative_target = None

    def __init__(self, motors=MOTORS):
        self.goal = dict(zip((f"{motor}.pos" for motor in motors), (5, 10, 50), strict=True))
        self.actions = []
        self.is_busy = threading.Lock()
        self.camera = FakeCamera()

    @property
    def observation_features(self):
        return {**dict.fromkeys(self.goal, float), "front": (48, 64, 3), "front_depth": (48, 64)}

    @property
    def action_features(self):
        return dict.fromkeys(self.goal, float)

    def get_observation(self):
        assert self.is_busy.acquire(blocking=False), "two threads use the bus at once"
        try:
            return {**self.goal, "front": self.camera.async_read(), "front_depth": None}
        finally:
            self.is_busy.release()

    def send_action(self, action):
        assert self.is_busy.acquire(blocking=False), "two threads use the bus at once"
        try:
            if self.max_relative_target is not None:
                most = self.max_relative_target
                action = {
                    key: self.goal[key] + float(np.clip(value - self.goal[key], -most, most))
                    for key, value in action.items()
                }
            self.actions.append(action)
            self.goal = dict(action)
            return action
        finally:
            self.is_busy.release()


class FakeFollower(FakeRobot):
    """Has a bus and cameras, as SO-101 and Koch have."""

    def __init__(self):
        super().__init__()
        self.cameras = {"front": self.camera}
        motors = {m: SimpleNamespace(norm_mode=SimpleNamespace(value=MODES[m])) for m in MOTORS}
        self.bus = SimpleNamespace(motors=motors, sync_read=self._sync_read)

    def _sync_read(self, name):
        assert name == "Present_Position"
        assert self.is_busy.acquire(blocking=False), "two threads use the bus at once"
        try:
            return {key.removesuffix(".pos"): value for key, value in self.goal.items()}
        finally:
            self.is_busy.release()

    def get_observation(self):
        raise AssertionError("joints and images are read apart")


@pytest.fixture
def server():
    server = ScriptedServer(sweep())
    yield server
    server.stop()


def settings_for(arm, server, **changes):
    chosen = {
        "server": "127.0.0.1",
        "port": server.port,
        "camera": {name: {"key": f"observation/{name}_image"} for name in arm.cameras},
        "dry_run": False,
        "action_kind": "position",
        "position_lower": [-2.0],
        "position_upper": [2.0],
        "max_velocity": [0.5],
        "max_tracking_error": [0.1, 0.1, 0.0],
    }
    return robot_settings(**(arm.parameters() | chosen | changes))


def test_motors_become_joints_in_rad_and_shares_of_the_range():
    arm = LeRobotArm(FakeFollower())
    assert arm.joints == MOTORS
    assert arm.cameras == ("front",)
    assert list(arm.read().positions) == pytest.approx([math.radians(5.0), math.radians(10.0), 0.5])
    assert arm.parameters() == {
        "joints": list(MOTORS),
        "cameras": ["front"],
        "gripper_joints": ["gripper"],
    }


def test_commands_go_back_to_the_motors_own_numbers():
    robot = FakeFollower()
    LeRobotArm(robot).command(np.array([math.pi / 2, -math.pi / 4, 0.25]), np.zeros(3))
    assert robot.actions == [
        pytest.approx({"shoulder.pos": 90.0, "elbow.pos": -45.0, "gripper.pos": 25.0})
    ]


def test_a_robot_without_a_bus_is_read_whole_and_its_units_are_passed():
    robot = FakeRobot()
    with pytest.raises(ValueError, match="the unit of motor shoulder is not known; pass units"):
        LeRobotArm(robot)
    arm = LeRobotArm(robot, units=MODES)
    reading = arm.read()
    assert reading.positions[2] == 0.5
    assert set(reading.images) == {"front"}
    assert not isinstance(arm, ReadsImages)
    assert isinstance(LeRobotArm(FakeFollower()), ReadsImages)


def test_an_unknown_unit_is_refused_by_its_name():
    with pytest.raises(ValueError, match="is 'turns'; pass units, one of degrees"):
        LeRobotArm(FakeRobot(), units="turns")


def test_a_robot_that_is_commanded_by_something_else_is_refused():
    robot = FakeRobot()
    robot.goal["x.vel"] = 0.0
    with pytest.raises(ValueError, match=r"commanded by x\.vel"):
        LeRobotArm(robot, units="degrees")


@pytest.mark.parametrize("kind", [FakeRobot, FakeFollower])
def test_a_policy_moves_the_motors_within_the_limits(server, kind):
    robot, told = kind(), Told()
    arm = LeRobotArm(robot, units=MODES)
    settings = settings_for(arm, server)
    with PolicyRunner(arm, settings, on_command=told) as runner:
        told.until(lambda commands: commands and commands[-1].positions[0] > 0.4)
        assert runner.axes == MOTORS
    assert_within_limits(told, settings)
    assert robot.actions[-1]["shoulder.pos"] > math.degrees(0.4)
    assert robot.actions[-1]["gripper.pos"] == pytest.approx(50.0, abs=0.1)


def test_a_camera_that_times_out_stops_the_arm(server):
    robot, told = FakeFollower(), Told()
    arm = LeRobotArm(robot)
    with PolicyRunner(arm, settings_for(arm, server), on_command=told) as runner:
        told.until_moving()
        robot.camera.has_image = False
        deadline = time.monotonic() + 20
        while told.commands[-1].velocities.any() or runner.status.cause is not Cause.OBSERVATION:
            assert time.monotonic() < deadline, runner.status
            time.sleep(0.01)
        assert runner.status.message.endswith("read_images() failed: TimeoutError: no new image")


def test_a_robot_that_limits_its_actions_is_noticed_once(caplog):
    robot = FakeFollower()
    arm = LeRobotArm(robot)
    with caplog.at_level(logging.WARNING):
        arm.command(np.array([0.1, 0.2, 0.5]), np.zeros(3))
        assert arm.limited == {}
        robot.max_relative_target = 1.0
        for _ in range(2):
            arm.command(np.array([0.5, 0.2, 0.5]), np.zeros(3))
    assert arm.limited["shoulder"] == pytest.approx(0.4 - math.radians(2.0), abs=1e-3)
    assert [record.message for record in caplog.records] == [
        "the robot does not go as far as it is told (shoulder by 0.383): its own limit, such as "
        "max_relative_target, is below max_velocity; it will be stopped where that exceeds "
        "max_tracking_error"
    ]


def test_a_robot_that_limits_itself_too_much_is_stopped_as_one_that_does_not_follow(server):
    robot, told = FakeFollower(), Told()
    robot.max_relative_target = 0.05  # degrees in a command: 2.5 a second
    arm = LeRobotArm(robot)
    with PolicyRunner(arm, settings_for(arm, server), on_command=told) as runner:
        deadline = time.monotonic() + 20
        while runner.status.cause is not Cause.TRACKING:
            assert time.monotonic() < deadline, runner.status
            time.sleep(0.01)
        assert runner.status.message.endswith("then call reset()")


def test_an_arm_of_lerobot_itself_is_driven_by_its_own_interface(server, tmp_path):
    pytest.importorskip("lerobot", reason="lerobot is not installed")
    from dataclasses import dataclass

    from lerobot.motors import MotorNormMode
    from lerobot.robots import Robot, RobotConfig

    @dataclass
    class MockConfig(RobotConfig):
        pass

    class MockRobot(FakeFollower, Robot):
        config_class, name = MockConfig, "openpi_flash_mock"
        is_connected = is_calibrated = True

        def __init__(self, config):
            Robot.__init__(self, config)
            FakeFollower.__init__(self)
            for motor in self.bus.motors.values():
                motor.norm_mode = MotorNormMode(motor.norm_mode.value)

        def connect(self, calibrate=True): ...
        def calibrate(self): ...
        def configure(self): ...
        def disconnect(self): ...

    robot, told = MockRobot(MockConfig(id="mock", calibration_dir=tmp_path)), Told()
    arm = LeRobotArm(robot)
    with PolicyRunner(arm, settings_for(arm, server), on_command=told):
        told.until(lambda commands: commands and commands[-1].positions[0] > 0.3)
    assert robot.actions[-1]["shoulder.pos"] > math.degrees(0.3)


def test_lerobots_so101_is_driven_with_its_own_keys_units_and_clipping(tmp_path, monkeypatch):
    pytest.importorskip("lerobot", reason="lerobot is not installed")
    from lerobot.robots.so_follower import SO101FollowerConfig, so_follower

    class FakeBus:
        is_connected = is_calibrated = True

        def __init__(self, port, motors, calibration):
            self.motors = motors
            self.goal = dict.fromkeys(motors, 0.0) | {"gripper": 50.0}

        def sync_read(self, name, **_):
            return dict(self.goal)

        def sync_write(self, name, values):
            assert name == "Goal_Position"
            self.goal = dict(values)

    monkeypatch.setattr(so_follower, "FeetechMotorsBus", FakeBus)
    robot = so_follower.SO101Follower(
        SO101FollowerConfig(
            port="/dev/null", id="test", calibration_dir=tmp_path, max_relative_target=5.0
        )
    )
    robot.cameras = {"front": FakeCamera()}
    robot.config.cameras = robot.cameras  # where lerobot 0.4 looks for their sizes
    arm = LeRobotArm(robot)
    assert arm.joints == tuple(robot.bus.motors)
    assert arm.parameters()["gripper_joints"] == ["gripper"]
    arm.command(np.array([0.05, 0.0, 0.0, 0.0, 0.0, 0.5]), np.zeros(6))
    assert robot.bus.goal["shoulder_pan"] == pytest.approx(math.degrees(0.05))
    assert arm.limited == {}
    arm.command(np.array([0.5, 0.0, 0.0, 0.0, 0.0, 0.5]), np.zeros(6))
    assert robot.bus.goal["shoulder_pan"] == pytest.approx(math.degrees(0.05) + 5.0)
    assert set(arm.limited) == {"shoulder_pan"}
    assert set(arm.read_images()) == {"front"}
    assert arm.read().positions[5] == pytest.approx(0.5)
