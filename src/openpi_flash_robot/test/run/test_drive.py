"""drive.py: what a robot is told in virtual time, from its readings and the server's answers."""

import dataclasses

import numpy as np
import pytest
from bridge_world import COST, METADATA, MS
from plain_robot import JOINTS, Told, assert_within_limits, settings_for
from pose_world import DOWN, PARAMETERS, as_policy
from pose_world import METADATA as POSE_METADATA

from openpi_flash_robot.bridge.effects import PublishChunk, SendRequest
from openpi_flash_robot.bridge.status import Cause, State
from openpi_flash_robot.link.events import LinkDown, LinkUp, RequestDone
from openpi_flash_robot.run.drive import Drive, Fault, in_python
from openpi_flash_robot.run.listeners import CommandSent
from openpi_flash_robot.run.robot import Reading, ReadingError
from openpi_flash_robot.run.settings_file import robot_settings

PERIOD = 20 * MS
IMAGE = np.zeros((8, 8, 3), np.uint8)


class VirtualRobot:
    """A drive, a robot that goes where it is told, and a server that answers after a while."""

    def __init__(self, settings, speed=0.4):
        self.settings, self.speed = settings, speed
        self.drive = Drive(settings)
        self.now = 1_000 * MS
        self.positions = np.array([0.1, 0.2, 0.5])
        self.told = Told()
        self.effects = []
        self.sees = self.answers = True
        self._answers = []
        self.drive.bridge.activate(self.now)
        self.drive.bridge.link_event(self.now, LinkUp(METADATA))

    def go(self, milliseconds):
        for _ in range(milliseconds * MS // PERIOD):
            self.turn()

    def turn(self, late=0):
        self.now += PERIOD + late
        if self.sees:
            self.drive.take_reading(self.now, Reading(self.positions, {"scene": IMAGE}))
        for due, request in list(self._answers):
            if self.answers and due <= self.now:
                self._answers.remove((due, request))
                self._deliver(request)
        for effect in self.drive.decide(self.now):
            self.effects.append(effect)
            if isinstance(effect, SendRequest):
                self._answers.append((self.now + 60 * MS, effect))
        state = self.drive.command(self.now)
        if state is not None:
            self.positions = state.positions
            self.told(CommandSent(self.now, state.positions, state.velocities))

    def _deliver(self, request):
        way = np.zeros((50, 3))
        way[:, 0] = self.speed * np.arange(50) / 25.0
        state = request.observation.joints.positions
        event = RequestDone(request.request_id, {"actions": state + way}, 0.0, 0.06, COST)
        self.drive.bridge.link_event(self.now, event)

    def until_moving(self):
        while not (self.told.commands and self.told.commands[-1].velocities[0] > 0.3):
            self.turn()

    @property
    def status(self):
        return self.drive.status(self.now)


@pytest.fixture
def robot():
    return VirtualRobot(settings_for())


def test_a_robot_moves_within_its_limits_from_chunk_to_chunk(robot):
    robot.go(4000)
    assert robot.status.state is State.RUNNING
    assert robot.positions[0] > 1.0
    assert len([e for e in robot.effects if isinstance(e, PublishChunk)]) > 5
    assert_within_limits(robot.told, robot.settings)


def test_a_robot_that_sees_nothing_stands_soon_after_its_blind_time(robot):
    robot.until_moving()
    robot.sees, last_seen = False, robot.now
    robot.go(1500)
    assert (robot.status.state, robot.status.cause) == (State.HOLDING, Cause.OBSERVATION)
    max_blind_ns = robot.settings.observation.max_blind_ns
    assert robot.told.last_motion_ns - last_seen <= max_blind_ns + 100 * MS
    assert_within_limits(robot.told, robot.settings)


def test_a_lost_link_brakes_at_once(robot):
    robot.until_moving()
    lost = robot.now
    robot.drive.bridge.link_event(robot.now, LinkDown("gone"))
    robot.answers = False
    robot.go(1000)
    assert robot.told.last_motion_ns - lost <= 120 * MS
    assert_within_limits(robot.told, robot.settings)


def test_a_program_that_was_stopped_goes_on_within_the_limits(robot):
    robot.until_moving()
    begin = len(robot.told.commands)
    robot.turn(late=400 * MS)
    robot.go(2000)
    steps = np.abs(np.diff([c.positions for c in robot.told.commands[begin - 1 :]], axis=0))
    assert steps.max(axis=0)[0] <= 0.5 * 0.02 * 1.001
    assert robot.status.state is State.RUNNING


def test_a_motion_that_has_ended_is_said_for_a_while_and_then_nothing(robot):
    robot.until_moving()
    robot.drive.bridge.hold(robot.now)
    robot.go(400)
    assert not robot.told.commands[-1].velocities.any()
    robot.go(1000)
    count = len(robot.told.commands)
    robot.go(500)
    assert len(robot.told.commands) == count


def test_a_dry_run_tells_the_robot_nothing():
    robot = VirtualRobot(settings_for(dry_run=True))
    robot.go(2000)
    assert [e for e in robot.effects if isinstance(e, PublishChunk)]
    assert robot.told.commands == []


def test_only_the_axes_of_controllers_are_told_in_the_order_of_the_axes():
    controllers = {"hand": {"joints": ["gripper"]}, "arm": {"joints": ["shoulder"]}}
    settings = settings_for(
        controllers=list(controllers), controller=controllers, unmoved_joints=["elbow"]
    )
    robot = VirtualRobot(settings)
    assert robot.drive.player.axes == ("shoulder", "gripper")
    command = robot.drive.command

    def widened(now):
        state = command(now)
        return state and dataclasses.replace(
            state,
            positions=np.insert(state.positions, 1, 0.2),
            velocities=np.insert(state.velocities, 1, 0.0),
        )

    robot.drive.command = widened
    robot.go(1500)
    assert robot.positions[0] > 0.2
    assert robot.positions[2] == pytest.approx(0.5)


def test_a_status_names_methods_of_python_and_why_nothing_was_read(robot):
    assert in_python("held by ~/hold; call ~/reset to go on") == (
        "held by hold(); call reset() to go on"
    )
    robot.drive.bridge.hold(robot.now)
    assert robot.status.message == "held by hold(); call reset() to go on"
    robot.drive.bridge.reset(robot.now)
    robot.sees = False
    robot.drive.read_problems["read()"] = "read() failed: OSError: unplugged"
    robot.go(400)
    assert robot.status.message == (
        "no image received yet from camera scene (read()); read() failed: OSError: unplugged"
    )


def test_a_fault_is_the_status_from_then_on(robot):
    robot.drive.fault = Fault("command() failed", OSError())
    robot.go(100)
    assert (robot.status.state, robot.status.message) == (State.FAULT, "command() failed")
    assert not robot.status.resumes_by_itself


@pytest.mark.parametrize(
    ("reading", "message"),
    [
        (
            Reading([0.0, 0.0]),
            "read() has 2 positions, expected 3: shoulder, elbow, gripper",
        ),
        (
            Reading([0.0] * 3, velocities=[0.0]),
            "read() has 1 velocities, expected 3: shoulder, elbow, gripper",
        ),
        (
            Reading([0.0] * 3, states={"pose": [0.0]}),
            "read() has a state 'pose', expected none",
        ),
        (
            Reading([0.0] * 3, {"wrist": IMAGE}),
            "there is an image of camera 'wrist', expected one of scene",
        ),
        (
            Reading([0.0] * 3, {"scene": IMAGE / 255.0}),
            "the image of camera scene is float64 [8, 8, 3], expected uint8 RGB [height, width, 3]",
        ),
        (
            Reading([0.0] * 3, {"scene": IMAGE[:, :, 0]}),
            "the image of camera scene is uint8 [8, 8], expected uint8 RGB [height, width, 3]",
        ),
    ],
)
def test_a_reading_that_cannot_be_used_is_refused_whole(robot, reading, message):
    with pytest.raises(ReadingError) as raised:
        robot.drive.take_reading(robot.now, reading)
    assert str(raised.value) == message
    assert robot.drive.bridge.frames.newest_stamp("scene") is None


def test_images_are_copied_and_stamped(robot):
    image = IMAGE.copy()
    taken = robot.drive.take_reading(5, Reading([0.0] * 3, {"scene": image}, stamp=12.5))
    image[:] = 255
    assert robot.drive.bridge.frames.newest_stamp("scene") == 12_500_000_000
    assert not taken.images["scene"].any()
    robot.drive.take_images(13_000_000_000, {"scene": image})
    assert robot.drive.bridge.frames.newest_stamp("scene") == 13_000_000_000


def test_other_states_reach_the_request():
    settings = settings_for(
        states=["joints", "speeds", "force"],
        state={
            "joints": {"key": "observation/state"},
            "speeds": {"kind": "joint_velocities", "key": "observation/speeds"},
            "force": {"kind": "wrench", "topic": "read()", "key": "observation/force"},
        },
    )
    drive = Drive(settings)
    drive.bridge.activate(1_000 * MS)
    drive.bridge.link_event(1_000 * MS, LinkUp(METADATA))
    reading = Reading(
        [0.0] * 3, {"scene": IMAGE}, velocities=[1.0, 2.0, 3.0], states={"force": range(6)}
    )
    drive.take_reading(1_010 * MS, reading)
    (request,) = [e for e in drive.decide(1_020 * MS) if isinstance(e, SendRequest)]
    values = request.observation.states.values
    assert list(values[("observation/speeds",)]) == [1.0, 2.0, 3.0]
    assert list(values[("observation/force",)]) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert settings.joints == tuple(JOINTS)


def test_a_hand_is_told_poses_and_says_where_it_is_by_any_vector_of_its_rotation():
    settings = robot_settings(**PARAMETERS)
    drive, now, pose = Drive(settings), 1_000 * MS, DOWN.copy()
    drive.bridge.activate(now)
    drive.bridge.link_event(now, LinkUp(POSE_METADATA))
    for turn in range(100):
        now += PERIOD
        said = pose.copy()
        if turn % 2:  # half a turn about x is half a turn about -x
            said[3:6] -= 2 * np.pi * said[3:6] / np.linalg.norm(said[3:6])
        gripper, axes = said[6:], said[:6]
        drive.take_reading(now, Reading([*gripper, *axes], {"scene": IMAGE}))
        for effect in drive.decide(now):
            if isinstance(effect, SendRequest):
                way = pose + np.arange(50)[:, np.newaxis] / 25.0 * [0.1, 0, 0, 0, 0, 0.2, 0]
                event = RequestDone(effect.request_id, {"actions": as_policy(way)}, 0.0, 0.06, COST)
                drive.bridge.link_event(now, event)
        told = drive.command(now)
        if told is not None:
            pose = told.positions
    assert pose[0] > DOWN[0] + 0.1
    assert drive.status(now).state is State.RUNNING
