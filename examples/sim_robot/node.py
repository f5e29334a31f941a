"""The ROS 2 face of the simulated robot: physics in real time, joint states, two cameras."""

from __future__ import annotations

import array
import math
import time
from collections.abc import Sequence
from dataclasses import replace

from builtin_interfaces.msg import Time
from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.context import Context
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image as ImageMessage
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from sim_robot.camera_worker import CameraWorker
from sim_robot.cameras import Image
from sim_robot.controller_node import ControllerNode
from sim_robot.episode import (
    ORDER_FORM,
    EpisodeOrder,
    OrderError,
    RunningEpisode,
    parse_order,
)
from sim_robot.plant import Plant
from sim_robot.robot import (
    CAMERAS,
    HOME,
    JOINT_STATES_TOPIC,
    JOINTS,
    REFERENCE_TOPIC,
    SCENE_TOPIC,
    Vector,
    camera_topic,
)
from sim_robot.scene_report import COMMAND_PERIOD, SceneReport
from sim_robot.sim_time import ADJUSTED, SimTime
from sim_robot.trajectory_follower import (
    Point,
    Trajectory,
    TrajectoryFollower,
    TrajectoryRejectedError,
)

TICK = 0.02
"""Seconds between bursts of physics, ten steps each at speed 1, and between joint states."""

JUDGED_STEPS = 5
"""Steps of physics between two looks at an episode: 10 ms."""

EPISODE_PARAMETER = "episode"

# What REP 2003 asks of drivers: reliable. A subscriber may ask for less.
SENSOR_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)


SCENE_QOS = QoSProfile(depth=200, reliability=ReliabilityPolicy.RELIABLE)


class SimRobotNode(Node):
    """Publishes what the robot measures and sees, and follows the trajectories it is sent.

    Its parameter `episode` puts arm and cubes to a new start at once, and has it judged how far the
    arm comes with what was ordered.

    Args:
      seed: moves the cubes a little.
      camera_hz: pictures per second of each camera; 0 leaves the cameras out.
      speed: simulated seconds per second; other than 1 needs `use_sim_time` in the other nodes.
      context: of ROS; None is the process's own.
      controller_parameters: what the controller says of itself where that is not the truth.

    Attributes:
      controller: the controller's own node; an executor has to turn it beside this one.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        camera_hz: float = 10.0,
        speed: float = 1.0,
        context: Context | None = None,
        controller_parameters: dict[str, object] | None = None,
    ) -> None:
        super().__init__("sim_robot", context=context)
        self._log = get_logger("sim_robot")
        self.plant = Plant(seed)
        self.follower = TrajectoryFollower(JOINTS, HOME)
        self._episode: RunningEpisode | None = None
        self._placed_at = 0.0
        self._heeds_from = -math.inf
        self._pictures, self._steps = 0, 0
        self._commanded: list[tuple[float, ...]] = []
        self._command_steps = round(COMMAND_PERIOD / self.plant.timestep)
        self._time = SimTime(speed, *self._clocks())
        self._camera_period = 1.0 / camera_hz if camera_hz > 0 else float("inf")
        self._next_picture = 0.0 if camera_hz > 0 else float("inf")
        self._asked_for_picture = self._last_picture = 0.0
        self._joint_states = self.create_publisher(JointState, JOINT_STATES_TOPIC, SENSOR_QOS)
        self._reference = self.create_publisher(JointState, REFERENCE_TOPIC, SENSOR_QOS)
        self._scene = self.create_publisher(String, SCENE_TOPIC, SCENE_QOS)
        self._sim_clock = self._clock_publisher()
        self._images = {
            name: self.create_publisher(ImageMessage, camera_topic(name), SENSOR_QOS)
            for name in (CAMERAS if camera_hz > 0 else ())
        }
        self._cameras = (
            CameraWorker(self.plant.model, self._publish_images) if camera_hz > 0 else None
        )
        self.controller = ControllerNode(
            self._on_trajectory, context=context, parameters=controller_parameters
        )
        about = f"{ORDER_FORM}, as in 'touch blue 7 3': put arm and cubes to a start, and judge"
        self.declare_parameter(EPISODE_PARAMETER, "", ParameterDescriptor(description=about))
        self.add_on_set_parameters_callback(self._on_parameters)

    def start(self) -> None:
        """Open the cameras and let time run.

        Raises:
          RenderingUnavailableError: there is no OpenGL to draw with.
        """
        if self._cameras is not None:
            self._cameras.start()
        self._time = SimTime(self._time.speed, *self._clocks())
        self.create_timer(TICK, self._tick)
        self._log.info(
            f"ready: {len(self._images)} cameras, joint states at "
            f"{1 / TICK:g} Hz, speed {self._time.speed:g}"
        )

    def close(self) -> None:
        """Stop the cameras and leave ROS."""
        if self._cameras is not None:
            self._cameras.stop()
        Node.destroy_node(self.controller)
        Node.destroy_node(self)

    def _clock_publisher(self) -> Publisher | None:
        if self._time.is_wall_time:
            return None
        return self.create_publisher(Clock, "/clock", QoSProfile(depth=1))

    def _clocks(self) -> tuple[float, int]:
        """Steady seconds and ROS nanoseconds of one moment, unless the machine is very busy."""
        for _ in range(5):
            before = time.monotonic()
            ros = int(self.get_clock().now().nanoseconds)
            after = time.monotonic()
            if after - before < 1e-3:
                break
        return (before + after) / 2, ros

    def _stamp(self, seconds: float) -> Time:
        whole, nanoseconds = divmod(self._time.to_ros(seconds), 1_000_000_000)
        return Time(sec=whole, nanosec=nanoseconds)

    def _advance(self) -> None:
        """Step the controller and the physics up to now."""
        now = self._time.now(*self._clocks())
        if not self._time.is_wall_time and self._last_picture < self._asked_for_picture:
            # a slow picture does not become an old one: the clock is ours
            latest = self._asked_for_picture + self._camera_period / 2
            if now > latest:
                self._time.wait(now - latest)
                now = latest
        while self.time + self.plant.timestep <= now:
            self.step()

    @property
    def time(self) -> float:
        """Simulated seconds since the start, whatever episodes there were."""
        return self._placed_at + self.plant.time

    def place(self, order: EpisodeOrder) -> None:
        """Put arm and cubes to the start of an episode, at rest, and judge it from now on."""
        self._advance()
        number = 1 if self._episode is None else self._episode.number + 1
        start = order.start()
        self._placed_at = self.time
        # physics is a step behind the clock, and clocks differ a little
        self._heeds_from = self._time.now(*self._clocks()) + ADJUSTED * 1e-9
        self.plant.place(start)
        self.follower = TrajectoryFollower(JOINTS, start.joints)
        self._episode = RunningEpisode(order, number)
        self._pictures, self._steps = 0, 0
        self._commanded.clear()
        self._log.info(f"episode {number}: {order.prompt}, start {order.index} of {order.seed}")

    def _on_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name == EPISODE_PARAMETER and parameter.value:
                try:
                    self.place(parse_order(str(parameter.value)))
                except OrderError as error:
                    return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def step(self) -> None:
        """Do one step of the controller and the physics."""
        desired = self.follower.desired(self.time)
        self.plant.command(desired.positions, desired.velocities)
        self.plant.step()
        self._note(desired.velocities)

    def _note(self, wanted: Vector) -> None:
        """Look at the episode after a step."""
        if self._episode is None:
            return
        self._steps += 1
        if self._steps % JUDGED_STEPS == 0:
            self._episode.look(self.plant.state())
        if self._steps % self._command_steps == 0 and self._is_heard:
            self._commanded.append(tuple(wanted[:-1].tolist()))

    @property
    def _is_heard(self) -> bool:
        return self._scene.get_subscription_count() > 0

    def _tick(self) -> None:
        self._advance()
        measured_at = self.time
        if self._sim_clock is not None:
            self._sim_clock.publish(Clock(clock=self._stamp(measured_at)))
        self._joint_states.publish(
            self._joint_state(measured_at, self.plant.positions, self.plant.velocities)
        )
        desired = self.follower.desired(measured_at)
        self._reference.publish(
            self._joint_state(measured_at, desired.positions, desired.velocities)
        )
        if self._is_heard:
            self._scene.publish(String(data=self._report(measured_at).to_json()))
        if self._cameras is not None and measured_at >= self._next_picture:
            self._cameras.check()
            self._asked_for_picture = measured_at
            self._cameras.draw(replace(self.plant.snapshot(), time=measured_at))
            self._next_picture = max(self._next_picture + self._camera_period, measured_at)

    def _report(self, seconds: float) -> SceneReport:
        report = SceneReport(self._time.to_ros(seconds), self.plant.state())
        if self._episode is None:
            return report
        commanded = tuple(self._commanded)
        self._commanded.clear()
        return replace(
            report,
            episode=self._episode.number,
            progress=self._episode.progress,
            pictures=self._pictures,
            commanded=commanded,
        )

    def _joint_state(self, seconds: float, positions: Vector, velocities: Vector) -> JointState:
        message = JointState(name=list(JOINTS))
        message.header.stamp = self._stamp(seconds)
        message.position = array.array("d", positions.tolist())
        message.velocity = array.array("d", velocities.tolist())
        return message

    def _publish_images(self, seconds: float, images: dict[str, Image]) -> None:
        stamp = self._stamp(seconds)
        for name, image in images.items():
            height, width, channels = image.shape
            message = ImageMessage(
                height=height, width=width, encoding="rgb8", is_bigendian=0, step=width * channels
            )
            message.header.stamp = stamp
            message.header.frame_id = f"{name}_camera_optical_frame"
            # An array, never the ndarray itself: rclpy would check it element by element.
            message.data = array.array("B", image.tobytes())
            self._images[name].publish(message)
        self._pictures += seconds >= self._placed_at
        self._last_picture = seconds

    def _on_trajectory(self, message: JointTrajectory) -> None:
        self._advance()
        trajectory = self._parse(message)
        if trajectory.start is not None and trajectory.start < self._heeds_from:
            self._log.info("trajectory left out: the arm was put to another place after it")
            return
        try:
            self.receive(trajectory, self.time)
        except TrajectoryRejectedError as error:
            self._log.error(f"trajectory rejected: {error}")

    def receive(self, trajectory: Trajectory, now: float) -> None:
        """Let the controller take a trajectory at its next step, which is at `now`.

        Raises:
          TrajectoryRejectedError: it does not.
        """
        self.follower.accept(trajectory, now)

    def _parse(self, message: JointTrajectory) -> Trajectory:
        stamp = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
        return Trajectory(
            joint_names=tuple(message.joint_names),
            points=tuple(
                Point(
                    time_from_start=point.time_from_start.sec
                    + point.time_from_start.nanosec * 1e-9,
                    positions=tuple(point.positions),
                    velocities=tuple(point.velocities),
                )
                for point in message.points
            ),
            start=None if stamp == 0 else self._time.from_ros(stamp),
        )
