"""The ROS 2 face of the simulated robot: physics in real time, joint states, two cameras."""

from __future__ import annotations

import array
import time

from builtin_interfaces.msg import Time
from rclpy.context import Context
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image as ImageMessage
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from sim_robot.camera_worker import CameraWorker
from sim_robot.cameras import Image
from sim_robot.controller_node import ControllerNode
from sim_robot.plant import Plant
from sim_robot.robot import (
    CAMERAS,
    HOME,
    JOINT_STATES_TOPIC,
    JOINTS,
    REFERENCE_TOPIC,
    Vector,
    camera_topic,
)
from sim_robot.sim_time import SimTime
from sim_robot.trajectory_follower import (
    Point,
    Trajectory,
    TrajectoryFollower,
    TrajectoryRejectedError,
)

TICK = 0.02
"""Seconds between bursts of physics, ten steps each at speed 1, and between joint states."""

# What REP 2003 asks of drivers: reliable. A subscriber may ask for less.
SENSOR_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)


class SimRobotNode(Node):
    """Publishes what the robot measures and sees, and follows the trajectories it is sent.

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
        self._time = SimTime(speed, *self._clocks())
        self._camera_period = 1.0 / camera_hz if camera_hz > 0 else float("inf")
        self._next_picture = 0.0 if camera_hz > 0 else float("inf")
        self._joint_states = self.create_publisher(JointState, JOINT_STATES_TOPIC, SENSOR_QOS)
        self._reference = self.create_publisher(JointState, REFERENCE_TOPIC, SENSOR_QOS)
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
        while self.time + self.plant.timestep <= now:
            self.step()

    @property
    def time(self) -> float:
        """Simulated seconds since the start."""
        return self.plant.time

    def step(self) -> None:
        """Do one step of the controller and the physics."""
        desired = self.follower.desired(self.time)
        self.plant.command(desired.positions, desired.velocities)
        self.plant.step()

    def _tick(self) -> None:
        self._advance()
        measured_at = self.plant.time
        if self._sim_clock is not None:
            self._sim_clock.publish(Clock(clock=self._stamp(measured_at)))
        self._joint_states.publish(
            self._joint_state(measured_at, self.plant.positions, self.plant.velocities)
        )
        desired = self.follower.desired(measured_at)
        self._reference.publish(
            self._joint_state(measured_at, desired.positions, desired.velocities)
        )
        if self._cameras is not None and measured_at >= self._next_picture:
            self._cameras.check()
            self._cameras.draw(self.plant.snapshot())
            self._next_picture = max(self._next_picture + self._camera_period, measured_at)

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

    def _on_trajectory(self, message: JointTrajectory) -> None:
        self._advance()
        try:
            self.receive(self._parse(message), self.time)
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
