"""The ROS 2 face of the simulated robot: physics in real time, joint states, two cameras."""

from __future__ import annotations

import array
import time

from builtin_interfaces.msg import Time
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
from sim_robot.plant import Plant
from sim_robot.robot import (
    CAMERAS,
    HOME,
    JOINT_STATES_TOPIC,
    JOINTS,
    REFERENCE_TOPIC,
    TRAJECTORY_TOPIC,
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
    """

    def __init__(self, *, seed: int = 0, camera_hz: float = 10.0, speed: float = 1.0) -> None:
        super().__init__("sim_robot")
        self._log = get_logger("sim_robot")
        self._plant = Plant(seed)
        self._follower = TrajectoryFollower(JOINTS, HOME)
        self._time = SimTime(speed, time.monotonic(), self._ros_now())
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
            CameraWorker(self._plant.model, self._publish_images) if camera_hz > 0 else None
        )
        self.create_subscription(JointTrajectory, TRAJECTORY_TOPIC, self._on_trajectory, 10)

    def start(self) -> None:
        """Open the cameras and let time run.

        Raises:
          RenderingUnavailableError: there is no OpenGL to draw with.
        """
        if self._cameras is not None:
            self._cameras.start()
        self._time = SimTime(self._time.speed, time.monotonic(), self._ros_now())
        self.create_timer(TICK, self._tick)
        self._log.info(
            f"ready: {len(self._images)} cameras, joint states at "
            f"{1 / TICK:g} Hz, speed {self._time.speed:g}"
        )

    def close(self) -> None:
        """Stop the cameras and leave ROS."""
        if self._cameras is not None:
            self._cameras.stop()
        Node.destroy_node(self)

    def _clock_publisher(self) -> Publisher | None:
        if self._time.is_wall_time:
            return None
        return self.create_publisher(Clock, "/clock", QoSProfile(depth=1))

    def _ros_now(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _stamp(self, seconds: float) -> Time:
        whole, nanoseconds = divmod(self._time.to_ros(seconds), 1_000_000_000)
        return Time(sec=whole, nanosec=nanoseconds)

    def _advance(self) -> float:
        """Step the physics up to now; return now in simulated seconds."""
        now = self._time.now(time.monotonic(), self._ros_now())
        while self._plant.time + self._plant.timestep <= now:
            desired = self._follower.desired(self._plant.time)
            self._plant.command(desired.positions, desired.velocities)
            self._plant.step()
        return now

    def _tick(self) -> None:
        self._advance()
        measured_at = self._plant.time
        if self._sim_clock is not None:
            self._sim_clock.publish(Clock(clock=self._stamp(measured_at)))
        self._joint_states.publish(
            self._joint_state(measured_at, self._plant.positions, self._plant.velocities)
        )
        desired = self._follower.desired(measured_at)
        self._reference.publish(
            self._joint_state(measured_at, desired.positions, desired.velocities)
        )
        if self._cameras is not None and measured_at >= self._next_picture:
            self._cameras.check()
            self._cameras.draw(self._plant.snapshot())
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
        now = self._advance()
        try:
            self._follower.accept(self._parse(message), now)
        except TrajectoryRejectedError as error:
            self._log.error(f"trajectory rejected: {error}")

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
