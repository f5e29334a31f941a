"""A robot of any kind in virtual time, around a bridge and a policy: joints, hands, poses, bases.

Controllers do what their kinds do: a joint trajectory controller plays what it has, the node's
sender says every moment of its window, and whoever takes velocities goes on with the last one.
"""

from __future__ import annotations

import math

import numpy as np
from played_curves import Controller as TrajectoryController
from robot_files import metadata_of, motions_of, policy_of, settings_of

from openpi_flash_client_node.sender.playing import Playing
from openpi_flash_robot.bridge.bridge import Bridge
from openpi_flash_robot.bridge.effects import PublishTrajectory, SendRequest
from openpi_flash_robot.link.events import LinkUp, RequestCost, RequestDone
from openpi_flash_robot.play.gripper_goals import GripperGoals
from openpi_flash_robot.play.motion import MotionState
from openpi_flash_robot.play.trajectory import motion_of
from openpi_flash_robot.senses.observation import ImageWork, build_request
from openpi_flash_robot.senses.rotation import rotation_numbers
from openpi_flash_robot.settings.controllers import ControllerKind
from openpi_flash_robot.settings.state_inputs import StateKind

MS = 1_000_000
TICK = 10 * MS
"""Of the sender; the bridge's period is two of them."""
DT = TICK / 1e9
HAND_SPEED = 2.0
"""Ranges a second that a gripper goes to its goal."""
COST = RequestCost(serialize_s=0.002, bytes_up=452_000, bytes_down=7_000)
PICTURES = ImageWork(
    decode=lambda message, at_least: np.zeros((48, 64, 3), np.uint8),
    resize=lambda image, height, width: np.zeros((height, width, 3), np.uint8),
    encode=lambda image, quality: {},
)


class VirtualRobot:
    """A robot that plays what it is commanded.

    Attributes:
        now: ns.
        statuses: the bridge's state after each of its ticks.
        commands: what each axis was commanded at each tick of the sender: position (NaN of one that
            has none) and velocity, [N] each.
        goals: when and where to each gripper that takes goals was sent.
    """

    def __init__(self, name, **changes):
        self.settings = settings = settings_of(name, dry_run=False, **changes)
        self.model = motions_of(name)
        self.policy = policy_of(name, self.model)
        self.now = 1_000 * MS
        self.statuses, self.commands = [], []
        self.bridge = Bridge(settings)
        self.bridge.command_topics(self.now, [])
        count = len(settings.axes)
        self.positions, self.velocities = self._home(), np.zeros(count)
        self.others = dict.fromkeys(set(settings.joints) - set(settings.axes), 0.0)
        self.pose, self.rotation = np.array([0.4, 0.0, 0.3]), np.array([1.0, 0.0, 0.0, 0.0])
        self.goals = {c.name: [] for c in settings.controllers if c.kind is ControllerKind.GRIPPER}
        self._hands = {name: GripperGoals(self._width(name)) for name in self.goals}
        self._trajectories = {
            c.name: TrajectoryController(self.positions[list(c.columns)])
            for c in settings.controllers
            if c.kind is ControllerKind.JOINT_TRAJECTORY
        }
        self._playing = Playing()
        self._requests, self._latency = [], np.random.default_rng(11)
        self.bridge.activate(self.now)
        self.bridge.link_event(self.now, LinkUp(metadata_of(name)))

    def _home(self):
        """The middle of each range; 0 without one."""
        player = self.settings.player
        ends = np.array([player.position_lower, player.position_upper])
        return np.where(np.isfinite(ends), ends, 0.0).mean(axis=0)

    def _width(self, name):
        (axis,) = next(c.joints for c in self.settings.controllers if c.name == name)
        hand = self.settings.gripper_of(axis)
        return hand.open - hand.closed

    def pass_time(self, seconds):
        """Let time pass."""
        for _ in range(round(seconds / DT) // 2):
            self.now += TICK
            self._move()
            self.now += TICK
            self._move()
            self._speak()
            self._answer()
            self.bridge.tick(self.now)
            self._take_effects()
            self.statuses.append(self.bridge.status(self.now))

    def lose_node(self, seconds):
        """Let time pass for the controllers and the node's sender alone."""
        for _ in range(round(seconds / DT)):
            self.now += TICK
            self._move()

    def _speak(self):
        for camera in self.settings.observation.cameras:
            self.bridge.add_frame(camera.name, self.now - 5 * MS, f"{camera.name}@{self.now}")
        names = [axis for axis in self.settings.axes if axis in self.settings.joints]
        places = [self.settings.axes.index(name) for name in names]
        measured = [*self.positions[places].tolist(), *self.others.values()]
        self.bridge.add_joints(self.now - MS, [*names, *self.others], measured)
        for state in self.settings.observation.states:
            if state.kind is StateKind.POSE:
                rotation = rotation_numbers(tuple(self.rotation.tolist()), state.rotation)
                values = [*self.pose.tolist(), *rotation.tolist()]
            elif state.kind in (StateKind.ODOMETRY, StateKind.BASE_TWIST):
                values = self.velocities[-3:].tolist()
            else:
                continue
            self.bridge.add_vector(state.name, self.now - MS, values)

    def _answer(self):
        while self._requests and self._requests[0][0] <= self.now:
            due, sent = self._requests.pop(0)
            request = build_request(
                sent.observation, self.settings.observation, sent.agreement.images, PICTURES
            )
            self.model.seconds = sent.observation.oldest_ns / 1e9
            result = {"actions": self.policy.infer(request).actions}
            took = (due - sent.observation.oldest_ns) / 1e9
            self.bridge.link_event(
                self.now, RequestDone(sent.request_id, result, 0.003, took, COST)
            )
            self._take_effects()

    def _take_effects(self):
        for effect in self.bridge.take_effects():
            if isinstance(effect, SendRequest):
                latency = int(self._latency.uniform(40, 120)) * MS
                self._requests.append((self.now + latency, effect))
            elif isinstance(effect, PublishTrajectory):
                self._command(effect.controller, effect.trajectory)

    def _command(self, controller, trajectory):
        if controller.kind is ControllerKind.JOINT_TRAJECTORY:
            self._trajectories[controller.name].receive(motion_of(trajectory), self.now)
        elif controller.kind is ControllerKind.GRIPPER:
            position = float(trajectory.positions[-1, 0])
            goal = self._hands[controller.name].next(self.now, position)
            if goal is not None:
                self.goals[controller.name].append((self.now, goal))
        else:
            index = self.settings.controllers.index(controller)
            self._playing.take(index, motion_of(trajectory))

    def _move(self):
        """One tick of every controller."""
        said = self._playing.due(self.now)
        for index, controller in enumerate(self.settings.controllers):
            columns = list(controller.columns)
            if controller.kind is ControllerKind.JOINT_TRAJECTORY:
                self._go(columns, self._trajectories[controller.name].reference(self.now))
            elif controller.kind is ControllerKind.GRIPPER:
                self._move_hand(controller.name, columns[0])
            elif controller.kind.takes_rates:
                if index in said:
                    self.velocities[columns] = said[index].velocities
                self.positions[columns] += self.velocities[columns] * DT
            elif index in said:
                self._go(columns, said[index])
        twist = next((c for c in self.settings.controllers if c.kind is ControllerKind.TWIST), None)
        if twist is not None:
            speed = self.velocities[list(twist.columns)]
            self.pose = self.pose + speed[:3] * DT
            self.rotation = _turned(self.rotation, speed[3:] * DT)
        self.commands.append((self.positions.copy(), self.velocities.copy()))

    def _go(self, columns, state: MotionState):
        self.positions[columns], self.velocities[columns] = state.positions, state.velocities

    def _move_hand(self, name, column):
        if not self.goals[name]:
            return
        goal, step = self.goals[name][-1][1], HAND_SPEED * abs(self._width(name)) * DT
        self.positions[column] += np.clip(goal - self.positions[column], -step, step)


def _turned(quaternion, rotation):
    """A quaternion (x, y, z, w), turned about fixed axes by a small rotation vector."""
    angle = math.sqrt(float(rotation @ rotation))
    if angle == 0.0:
        return quaternion
    axis = rotation / angle
    v, w = axis * math.sin(angle / 2), math.cos(angle / 2)
    qv, qw = quaternion[:3], quaternion[3]
    vector = w * qv + qw * v + np.cross(v, qv)
    turned = np.append(vector, w * qw - v @ qv)
    return turned / np.linalg.norm(turned)
