"""Listens to everything the demo's processes say over ROS, records it, and keeps the numbers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory

from demo.frames import Frame, FrameKeeper
from demo.recording import Recording
from demo.run_data import (
    Chunk,
    Episode,
    Inference,
    JointTrack,
    RunData,
    State,
    Status,
    Subtask,
    Trajectory,
    since,
)
from openpi_flash_msgs.msg import ActionChunk, InferenceStats, PolicyStatus
from openpi_flash_msgs.msg import Subtask as SubtaskMessage
from sim_robot.robot import (
    CAMERAS,
    JOINT_STATES_TOPIC,
    JOINTS,
    REFERENCE_TOPIC,
    TRAJECTORY_TOPIC,
    camera_topic,
)

STATUS_TOPIC = "/openpi/status"
SUBTASK_TOPIC = "/openpi/subtask"
FRAMES_PER_CAMERA = 5

_RELIABLE = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
_BEST_EFFORT = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
_LATCHED = QoSProfile(
    depth=10,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


@dataclass(frozen=True)
class _Topic:
    name: str
    message_type: Any
    qos: QoSProfile
    keep: Callable[[Any, float], None]
    """Takes the message and when it came."""

    @property
    def type_name(self) -> str:
        """Such as "sensor_msgs/msg/Image"."""
        package = self.message_type.__module__.split(".")[0]
        return f"{package}/msg/{self.message_type.__name__}"


class Monitor:
    """A ROS node that only listens. Spin it to let it hear.

    Args:
      recording: gets every message as it came.
      seconds: the length of the run, over which pictures are spread.
      film_seconds: how long, from the beginning, every image is kept in `film`.
    """

    def __init__(self, recording: Recording, seconds: float, film_seconds: float = 0.0) -> None:
        self._recording = recording
        self._epoch = time.time_ns()
        self._began = 0.0
        self._frame_keeper = FrameKeeper(seconds, FRAMES_PER_CAMERA)
        self._film_seconds = film_seconds
        self.frames: list[Frame] = []
        self.film: list[Frame] = []
        self.chunks: list[Chunk] = []
        self.inferences: list[Inference] = []
        self.statuses: list[Status] = []
        self.subtasks: list[Subtask] = []
        self._trajectories: list[Trajectory] = []
        self._measured: list[tuple[float, Sequence[float]]] = []
        self._reference: list[tuple[float, Sequence[float]]] = []
        self._images = dict.fromkeys(CAMERAS, 0)
        self._context = Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node("demo_monitor", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        for topic in self._topics():
            recording.add_topic(topic.name, topic.type_name)
            self._node.create_subscription(
                topic.message_type, topic.name, self._listener(topic), topic.qos, raw=True
            )

    # --- what has been heard ---

    @property
    def status(self) -> Status | None:
        """The newest status of the robot's node."""
        return self.statuses[-1] if self.statuses else None

    @property
    def robot_speaks(self) -> bool:
        """Whether joint states and every camera have been heard."""
        return bool(self._measured) and all(self._images.values())

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self._now() - self._began

    @property
    def chunks_so_far(self) -> int:
        """How many chunks have come since the run began."""
        return sum(chunk.received >= self._began for chunk in self.chunks)

    def spin(self, seconds: float) -> None:
        """Listen for some time."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def begin(self) -> None:
        """Let the run begin with the first trajectory that was sent, or now."""
        self._began = self._trajectories[0].received if self._trajectories else self._now()

    def run_data(
        self,
        transport: str,
        prompt: str,
        *,
        has_planner: bool = True,
        episodes: Sequence[Episode] | None = None,
        placed: Sequence[int] = (),
    ) -> RunData:
        """Return everything heard since the run began; exit codes are still to come.

        Args:
          transport: "quic" or "websocket".
          prompt: the instruction.
          has_planner: whether a subtask is said.
          episodes: that were played, ended in seconds of the system's clock; None: none of a task.
          placed: when the arm was put to a new start, nanoseconds of the system's clock.
        """
        everything = RunData(
            joints=JOINTS,
            seconds=self._now(),
            transport=transport,
            prompt=prompt,
            chunks=tuple(self.chunks),
            trajectories=tuple(self._trajectories),
            inferences=tuple(self.inferences),
            statuses=tuple(self.statuses),
            subtasks=tuple(self.subtasks),
            measured=_track(self._measured),
            reference=_track(self._reference),
            images=dict(self._images),
            exit_codes={},
            is_judged=episodes is not None,
            episodes=tuple(
                replace(episode, ended=episode.ended - self._epoch * 1e-9)
                for episode in episodes or ()
            ),
            placed=tuple(self._seconds(at) for at in placed),
            has_planner=has_planner,
        )
        return since(everything, self._began)

    def close(self) -> None:
        """Leave ROS."""
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    # --- listening ---

    def _topics(self) -> list[_Topic]:
        cameras = [
            _Topic(camera_topic(camera), Image, _RELIABLE, self._keeper_of_images(camera))
            for camera in CAMERAS
        ]
        return [
            *cameras,
            _Topic(JOINT_STATES_TOPIC, JointState, _RELIABLE, self._keep_measured),
            _Topic(REFERENCE_TOPIC, JointState, _RELIABLE, self._keep_reference),
            _Topic(TRAJECTORY_TOPIC, JointTrajectory, _RELIABLE, self._keep_trajectory),
            _Topic("/openpi/action_chunk", ActionChunk, _RELIABLE, self._keep_chunk),
            _Topic(SUBTASK_TOPIC, SubtaskMessage, _LATCHED, self._keep_subtask),
            _Topic(STATUS_TOPIC, PolicyStatus, _LATCHED, self._keep_status),
            _Topic("/openpi/stats", InferenceStats, _BEST_EFFORT, self._keep_inference),
        ]

    def _listener(self, topic: _Topic) -> Callable[[bytes], None]:
        def listen(cdr: bytes) -> None:
            received = time.time_ns()
            self._recording.write(topic.name, cdr, received)
            message = deserialize_message(cdr, topic.message_type)
            topic.keep(message, self._seconds(received))

        return listen

    def _now(self) -> float:
        return (time.time_ns() - self._epoch) * 1e-9

    def _seconds(self, nanoseconds: int) -> float:
        """Convert a time to seconds since we listen."""
        return (nanoseconds - self._epoch) * 1e-9

    def _stamp(self, stamp: Any) -> float:
        return self._seconds(stamp.sec * 1_000_000_000 + stamp.nanosec)

    def _keeper_of_images(self, camera: str) -> Callable[[Image, float], None]:
        def keep(message: Image, received: float) -> None:
            del received
            self._images[camera] += 1
            taken = self._stamp(message.header.stamp) - self._began
            if not self._began or taken < 0:
                return
            wanted = self._frame_keeper.wants(camera, taken)
            filmed = taken < self._film_seconds
            if wanted or filmed:
                pixels = np.frombuffer(message.data, np.uint8)
                shape = (message.height, message.width, 3)
                frame = Frame(camera, taken, pixels.reshape(shape).copy())
                self.frames += [frame] if wanted else []
                self.film += [frame] if filmed else []

        return keep

    def _keep_measured(self, message: JointState, received: float) -> None:
        del received
        self._measured.append(self._joints(message))

    def _keep_reference(self, message: JointState, received: float) -> None:
        del received
        self._reference.append(self._joints(message))

    def _joints(self, message: JointState) -> tuple[float, Sequence[float]]:
        by_name = dict(zip(message.name, message.position, strict=True))
        return self._stamp(message.header.stamp), [by_name[joint] for joint in JOINTS]

    def _keep_trajectory(self, message: JointTrajectory, received: float) -> None:
        columns = [message.joint_names.index(joint) for joint in JOINTS]
        points, stamp = message.points, message.header.stamp
        self._trajectories.append(
            Trajectory(
                received=received,
                start=self._stamp(stamp) if stamp.sec or stamp.nanosec else None,
                times_from_start=np.array([_duration(p.time_from_start) for p in points]),
                positions=np.array([p.positions for p in points])[:, columns],
                velocities=np.array(
                    [np.asarray(p.velocities)[columns] if len(p.velocities) else [] for p in points]
                ),
            )
        )

    def _keep_chunk(self, message: ActionChunk, received: float) -> None:
        columns = [message.names.index(joint) for joint in JOINTS]
        values = np.asarray(message.values).reshape(message.horizon, len(message.names))
        self.chunks.append(
            Chunk(
                received=received,
                observed=self._stamp(message.observation_stamp),
                start=self._stamp(message.header.stamp),
                step=_duration(message.step_dt),
                first_step=message.first_step,
                sequence=message.sequence,
                values=values[:, columns],
            )
        )

    def _keep_subtask(self, message: SubtaskMessage, received: float) -> None:
        self.subtasks.append(Subtask(received, message.text.strip()))

    def _keep_status(self, message: PolicyStatus, received: float) -> None:
        self.statuses.append(
            Status(
                received=received,
                state=State(message.state),
                dry_run=message.dry_run,
                transport=message.transport,
                server=message.server,
                chunk_age=message.chunk_age,
                steps_buffered=message.steps_buffered,
                message=message.message,
            )
        )

    def _keep_inference(self, message: InferenceStats, received: float) -> None:
        if math.isnan(message.preprocess):
            return  # it got no answer, so there is no time to draw
        self.inferences.append(
            Inference(
                received=received,
                observation_age=message.observation_age,
                camera_skew=message.camera_skew,
                preprocess=message.preprocess,
                serialize=message.serialize,
                network=message.network,
                server=message.server,
                total=message.total,
                bytes_up=message.bytes_up,
                bytes_down=message.bytes_down,
                steps_skipped=message.steps_skipped,
                chunks_dropped=message.chunks_dropped,
                deadline_misses=message.deadline_misses,
            )
        )


def _duration(duration: Any) -> float:
    return float(duration.sec + duration.nanosec * 1e-9)


def _track(samples: Sequence[tuple[float, Sequence[float]]]) -> JointTrack:
    ordered = sorted(samples, key=lambda sample: sample[0])
    return JointTrack(
        times=np.array([time for time, _ in ordered], dtype=np.float64),
        positions=np.array([positions for _, positions in ordered], dtype=np.float64).reshape(
            len(ordered), len(JOINTS)
        ),
    )
