"""A robot of any parameter file over real topics: simulated controllers, a server, the node.

The node is a process with the file's own parameters; the robot and the server are in this one.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped, TwistStamped
from played_curves import Controller as TrajectoryController
from rclpy.action import ActionServer
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from robot_files import metadata_of, motions_of, parameters_of, policy_of
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from flash_transport import QuicServer
from openpi_flash_msgs.msg import PolicyStatus
from openpi_flash_robot.play.motion import Motion
from openpi_flash_robot.settings.controllers import ControllerKind
from openpi_flash_robot.settings.parse_settings import settings_from_parameters
from openpi_flash_robot.settings.state_inputs import StateKind
from sim_robot.ros_domain import reserved_ros_domain

WAIT = 90.0
STEP_S = 0.01
RATES = (ControllerKind.VELOCITY, ControllerKind.TWIST, ControllerKind.BASE)


class RobotNode(Node):
    """Sensors and controllers by a file's settings.

    Attributes:
        positions: of each axis, [N].
        velocities: of each axis, [N]; of what takes velocities the last ones that it was told.
        track: (ns, velocities [N]) at each step.
        trajectories: by controller, (names, motion) of each.
        said: by controller, (ns, numbers) of each command of another kind.
        goals: of a gripper's action.
    """

    def __init__(self, settings, context):
        super().__init__("simulated_robot", context=context, use_global_arguments=False)
        self.settings = settings
        ends = np.array([settings.player.position_lower, settings.player.position_upper])
        self.positions = np.where(np.isfinite(ends), ends, 0.0).mean(axis=0)
        self.velocities = np.zeros(len(settings.axes))
        self.track, self.goals, self.statuses = [], [], []
        self.trajectories = {c.name: [] for c in settings.controllers}
        self.said = {c.name: [] for c in settings.controllers}
        self._players = {}
        for controller in settings.controllers:
            self._listen(controller)
        latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.create_subscription(PolicyStatus, "/openpi/status", self.statuses.append, latched)
        observation = settings.observation
        self._cameras = [
            self.create_publisher(Image, camera.topic, 2) for camera in observation.cameras
        ]
        self._joints = [
            (self.create_publisher(JointState, topic, 10), prefix)
            for topic, prefix in zip(
                observation.joint_state_topics, observation.joint_state_prefixes, strict=True
            )
        ]
        self._states = [
            (state, self.create_publisher(self._type_of(state), state.topic, 10))
            for state in observation.states
            if not state.kind.is_of_joints
        ]
        self.create_timer(0.05, self._show)
        self.create_timer(STEP_S, self._step)

    @property
    def now(self):
        return self.get_clock().now().nanoseconds

    def _type_of(self, state):
        if state.kind is StateKind.ODOMETRY:
            from nav_msgs.msg import Odometry

            return Odometry
        return PoseStamped if state.kind is StateKind.POSE else TwistStamped

    def _listen(self, controller):
        columns, topic = list(controller.columns), controller.topic
        if controller.kind is ControllerKind.JOINT_TRAJECTORY:
            self._players[controller.name] = TrajectoryController(self.positions[columns])
            take, kind = self._take_trajectory, JointTrajectory
        elif controller.kind is ControllerKind.GRIPPER:
            from control_msgs.action import GripperCommand

            def execute(handle):
                self.goals.append(handle.request.command.position)
                self.positions[columns] = handle.request.command.position
                handle.succeed()
                return GripperCommand.Result()

            self._server = ActionServer(self, GripperCommand, topic, execute)
            return
        elif controller.kind is ControllerKind.VELOCITY:
            take, kind = self._take_numbers, Float64MultiArray
        else:
            take, kind = self._take_twist, TwistStamped
        self.create_subscription(kind, topic, partial(take, controller), 10)

    def _take_trajectory(self, controller, message):
        stamp = message.header.stamp
        start = stamp.sec * 10**9 + stamp.nanosec
        times = [p.time_from_start.sec * 10**9 + p.time_from_start.nanosec for p in message.points]
        motion = Motion(
            start + np.array(times, dtype=np.int64),
            np.array([p.positions for p in message.points]),
            np.array([p.velocities for p in message.points]),
        )
        self.trajectories[controller.name].append((list(message.joint_names), motion))
        if motion.end_ns > self.now:
            self._players[controller.name].receive(motion, self.now)

    def _take_numbers(self, controller, message):
        self._take(controller, np.array(message.data))

    def _take_twist(self, controller, message):
        linear, angular = message.twist.linear, message.twist.angular
        numbers = [linear.x, linear.y, linear.z, angular.x, angular.y, angular.z]
        if controller.kind is ControllerKind.BASE:
            numbers = [linear.x, linear.y, angular.z]
        self._take(controller, np.array(numbers))

    def _take(self, controller, numbers):
        self.said[controller.name].append((self.now, numbers))
        self.velocities[list(controller.columns)] = numbers

    def _step(self):
        now = self.now
        for controller in self.settings.controllers:
            columns = list(controller.columns)
            if controller.name in self._players:
                state = self._players[controller.name].reference(now)
                self.positions[columns], self.velocities[columns] = (
                    state.positions,
                    state.velocities,
                )
            elif controller.kind in RATES:
                self.positions[columns] += self.velocities[columns] * STEP_S
        self.track.append((now, self.velocities.copy()))
        self._speak()

    def _speak(self):
        stamp = self.get_clock().now().to_msg()
        place = {axis: float(p) for axis, p in zip(self.settings.axes, self.positions, strict=True)}
        for publisher, prefix in self._joints:
            names = [joint for joint in self.settings.joints if joint.startswith(prefix)]
            message = JointState(name=[name.removeprefix(prefix) for name in names])
            message.header.stamp = stamp
            message.position = [place.get(name, 0.0) for name in names]
            publisher.publish(message)
        for state, publisher in self._states:
            message = publisher.msg_type()
            message.header.stamp = stamp
            if state.kind is StateKind.ODOMETRY:
                twist = message.twist.twist
                twist.linear.x, twist.linear.y, twist.angular.z = self.velocities[-3:].tolist()
            else:
                message.pose.orientation.w = 1.0
            publisher.publish(message)

    def _show(self):
        image = Image(height=24, width=32, step=96, encoding="rgb8")
        image.data = array.array("B", bytes(24 * 96))
        image.header.stamp = self.get_clock().now().to_msg()
        for camera in self._cameras:
            camera.publish(image)


class Drive:
    """The robot, its server and the node, until it is closed."""

    def __init__(self, name, parameters, directory, domain, environment):
        self._directory = directory
        self.settings = settings_from_parameters(parameters)
        model = motions_of(name)
        policy = policy_of(name, model)
        self._quic = QuicServer("127.0.0.1", 0, metadata=metadata_of(name))
        self._answering = threading.Thread(target=self._answer, args=(model, policy), daemon=True)
        self._answering.start()
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.robot = RobotNode(self.settings, self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.robot)
        self._turning = True
        self._thread = threading.Thread(target=self._turn, daemon=True)
        self._thread.start()
        path = directory / "robot.yaml"
        given = parameters | {"server": f"127.0.0.1:{self._quic.port}"}
        # JSON is YAML with every text in quotes: ROS reads a bare y as true
        text = json.dumps({"/**": {"ros__parameters": given}})
        path.write_text(text.replace("Infinity", ".inf"))
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "openpi_flash_client_node"),
                    *("--ros-args", "--params-file", str(path)),
                ],
                env=environment | {"ROS_DOMAIN_ID": str(domain)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def _log(self):
        return self._directory / "node.log"

    def _answer(self, model, policy):
        while (request := self._quic.next_request()) is not None:
            if request.kind == "reset":
                request.respond({})
                continue
            model.seconds = time.time()
            request.respond({"actions": policy.infer(request.observation).actions})

    def _turn(self):
        while self._turning:
            self._executor.spin_once(timeout_sec=0.05)

    def until(self, condition, what):
        """Wait until something is true; its value."""
        deadline = time.monotonic() + WAIT
        while not (value := condition()):
            last = self.robot.statuses[-1:]
            assert time.monotonic() < deadline, f"{what}; {last}; {self._log.read_text()}"
            time.sleep(0.005)
        return value

    def until_running(self):
        """Wait until the node plays."""
        running = PolicyStatus.RUNNING
        self.until(lambda: any(s.state == running for s in self.robot.statuses), "RUNNING")

    def until_moving(self):
        """Wait until every axis has been told to move, but for hands that take goals."""
        columns = [
            column
            for c in self.settings.controllers
            if c.kind is not ControllerKind.GRIPPER
            for column in c.columns
        ]

        def moves():
            track = [velocities[columns] for _, velocities in list(self.robot.track)[-500:]]
            return track and (np.abs(track).max(axis=0) > 1e-3).all()

        self.until(moves, "every axis moving")

    def until_fast(self):
        """Wait until an axis goes at a third of its greatest speed or faster, at this moment."""
        fastest = np.array(self.settings.player.max_velocity)

        def goes():
            return self.robot.track and (np.abs(self.robot.track[-1][1]) > fastest / 3.0).any()

        self.until(goes, "an axis that moves")

    def wait(self, seconds):
        """Let the robot's time pass."""
        end = self.robot.now + int(seconds * 1e9)
        self.until(lambda: self.robot.now >= end, f"{seconds} s")

    def call(self, service):
        """Call a service of the node."""
        made = self._executor.create_task(
            lambda: self.robot.create_client(Trigger, f"/openpi/client_node/{service}")
        )
        self.until(made.done, "a client")
        client = made.result()
        self.until(client.service_is_ready, "the service")
        future = client.call_async(Trigger.Request())
        self.until(future.done, f"an answer of ~/{service}")

    def moved_until(self, begin):
        """Seconds after a moment at which the robot was last commanded to move."""
        moving = [
            at for at, velocities in list(self.robot.track) if np.abs(velocities).max() > 1e-6
        ]
        return (max(moving) - begin) / 1e9

    def kill(self, until=None):
        """End the node with SIGKILL, once `until` has returned; the moment."""
        # looked for first: on a busy machine that takes longer than a chunk lasts
        segments = _segments_of(self.process.pid)
        if until is not None:
            until()
        self.process.send_signal(signal.SIGKILL)
        gone = self.robot.now
        self.process.wait()
        _remove(segments)
        return gone

    def close(self):
        """End everything."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        self._turning = False
        self._thread.join()
        self._executor.shutdown()
        self.robot.destroy_node()
        rclpy.shutdown(context=self._context)
        self._quic.close()
        self._answering.join(10)


@contextlib.contextmanager
def driving(name, directory, environment=os.environ, without=(), **changes):
    """A robot that is driven by its file.

    Args:
        name: of the robot.
        directory: for the node's log.
        environment: of the node.
        without: controllers that are left out.
        changes: parameters, with __ for a dot.
    """
    # the pictures of the simulated cameras never change
    parameters = parameters_of(name) | {"dry_run": False, "max_frozen_time": 0.0}
    # on a slow machine `auto` would send JPEG, which the policy here does not read
    parameters["image_encoding"] = "raw"
    parameters |= {key.replace("__", "."): value for key, value in changes.items()}
    parameters["controllers"] = [c for c in parameters["controllers"] if c not in without]
    parameters = {
        key: value
        for key, value in parameters.items()
        if not any(key.startswith(f"controller.{left_out}.") for left_out in without)
    }
    with reserved_ros_domain() as domain:
        made = Drive(name, parameters, directory, domain, dict(environment))
        try:
            yield made
        finally:
            made.close()


def _segments_of(pid):
    """The shared memory that DDS has in a process; nobody frees it after SIGKILL."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    paths = {line.split()[-1] for line in lines}
    return {path for path in paths if path.startswith("/dev/shm/fastrtps_")}


def _remove(segments):
    """Free those that nobody else uses."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                segments = segments - _segments_of(process.name)
    for segment in segments:
        Path(segment).unlink(missing_ok=True)
