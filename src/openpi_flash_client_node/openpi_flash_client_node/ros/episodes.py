"""Episodes in ROS: the services ~/record/*, messages as they came, a log line for each file.

What it does may fail; the robot goes on. The node calls one method for each kind of thing that
passes by, and each returns at once unless an episode is recorded.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from rclpy.clock import Clock, ROSClock
from rclpy.node import Node
from rclpy.serialization import serialize_message
from std_srvs.srv import SetBool, Trigger

from openpi_flash_client_node.ros.image_work import IMAGE_WORK
from openpi_flash_client_node.ros.rclpy_versions import ClockType
from openpi_flash_client_node.ros.sensor_subscription import SensorSubscription
from openpi_flash_robot.bridge.diagnostics import DiagnosticReport
from openpi_flash_robot.bridge.effects import Effect
from openpi_flash_robot.bridge.status import Status
from openpi_flash_robot.cdr.images import RawImage
from openpi_flash_robot.episodes.definitions import COMPRESSED_IMAGE, IMAGE
from openpi_flash_robot.episodes.folder import default_folder
from openpi_flash_robot.episodes.recorder import Answer
from openpi_flash_robot.episodes.recording import EpisodeRecording, Notice
from openpi_flash_robot.episodes.ros_messages import jpeg_message
from openpi_flash_robot.link.events import LinkEvent
from openpi_flash_robot.settings.node_settings import NodeSettings

POLL_S = 0.1


class Episodes:
    """Records while an episode is recorded; without `start`, and after an error, it does nothing.

    Attributes:
        is_recording: whether an episode is being recorded.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._made: list[Callable[[], Any]] = []
        self._recording: EpisodeRecording | None = None
        self._status: Callable[[], Status] | None = None
        self._jpeg_quality: int | None = None
        self._began_ns = 0
        self._is_simulated = False
        self.is_recording = False

    def start(self, settings: NodeSettings, status: Callable[[], Status]) -> None:
        """Offer the services.

        Args:
            settings: of the node.
            status: of the bridge, now.
        """
        node = self._node
        wanted = settings.record
        self._status, self._jpeg_quality = status, wanted.jpeg_quality
        self._recording = EpisodeRecording(
            node.get_fully_qualified_name(),
            node.get_namespace(),
            settings,
            wanted.folder or default_folder(os.environ),
            installed_definition,
        )
        for kind, name, callback in (
            (Trigger, "start", self._on_start),
            (Trigger, "stop", self._on_stop),
            (Trigger, "discard", self._on_discard),
            (SetBool, "mark", self._on_mark),
        ):
            service = node.create_service(kind, f"~/record/{name}", callback)
            self._made.append(partial(node.destroy_service, service))
        timer = node.create_timer(
            POLL_S, self._on_poll, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self._made.append(partial(node.destroy_timer, timer))

    def stop(self) -> None:
        """End the running episode, and wait for its file; the robot holds already."""
        while self._made:
            self._made.pop()()
        recording, self._recording, self.is_recording = self._recording, None, False
        if recording is not None:
            self._tell(recording.close(time.monotonic_ns()))

    # --- what passes by ---

    def sensor(self, sensor: SensorSubscription, _: Any) -> None:
        """A message has come that is recorded as it is."""
        if self.is_recording:
            self._add(sensor.topic_name, _type_name(sensor.kind), sensor)

    def image(self, sensor: SensorSubscription, image: RawImage) -> None:
        """Pixels of a camera have come."""
        if not self.is_recording:
            return
        if self._jpeg_quality is None:
            self._add(sensor.topic_name, IMAGE, sensor)
            return
        make = partial(_jpeg, image, self._jpeg_quality)
        topic = f"{sensor.topic_name}/compressed"
        self._note(sensor, topic, COMPRESSED_IMAGE, make, len(image.data))

    def _add(self, topic: str, kind: str, sensor: SensorSubscription) -> None:
        message = sensor.message
        data = message if isinstance(message, bytes) else serialize_message(message)
        self._note(sensor, topic, kind, data, len(data))

    def _note(self, sensor: SensorSubscription, *arguments: Any) -> None:
        waited_ns = sensor.waited_ns
        if waited_ns <= time.monotonic_ns() - self._began_ns:  # else of before the episode
            self._guarded(EpisodeRecording.message, self._now() - waited_ns, *arguments)

    def effect(self, effect: Effect) -> None:
        """The bridge wants something done."""
        self._guarded(EpisodeRecording.effect, self._now() if self.is_recording else 0, effect)

    def status(self, status: Status) -> None:
        """What the bridge does and why; comes at least once in every control period."""
        if self.is_recording:
            self._see_clock()
            self._guarded(EpisodeRecording.status, self._now(), status)

    def link_event(self, event: LinkEvent) -> None:
        """The link reports something."""
        self._guarded(EpisodeRecording.link_event, event)

    def settings(self, settings: NodeSettings) -> None:
        """These settings hold from now on."""
        self._guarded(EpisodeRecording.settings, settings)

    def reports(self) -> list[DiagnosticReport]:
        """The entries of /diagnostics."""
        return [] if self._recording is None else [self._recording.report(time.monotonic_ns())]

    def _guarded(self, record: Callable[..., None], *arguments: Any) -> None:
        """Record something; an error ends the recording and not the robot."""
        if self._recording is None:
            return
        try:
            record(self._recording, *arguments)
        except Exception as error:
            self._node.get_logger().error(f"the episode has ended by an error: {error!r}")
            self._recording.stop(time.monotonic_ns())
            self.is_recording = False

    def _now(self) -> int:
        # the ROS clock is the system's unless a simulator sets it; asking rclpy costs 2.5 us more
        ros_ns = time.time_ns()
        if self._is_simulated:
            ros_ns = self._node.get_clock().now().nanoseconds
        return ros_ns

    def _see_clock(self) -> None:
        clock = self._node.get_clock()
        self._is_simulated = isinstance(clock, ROSClock) and clock.ros_time_is_active

    # --- orders ---

    def _on_start(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        at = datetime.now(timezone.utc)
        assert self._status is not None
        self._see_clock()
        status = self._status()
        if not self.is_recording:
            self._began_ns = time.monotonic_ns()
        return self._answer(
            response, lambda r: r.start(self._now(), time.monotonic_ns(), at, status)
        )

    def _on_stop(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._answer(response, lambda r: r.stop(time.monotonic_ns()))

    def _on_discard(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._answer(response, EpisodeRecording.discard)

    def _on_mark(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        return self._answer(response, lambda r: r.mark(request.data))

    def _answer(self, response: Any, order: Callable[[EpisodeRecording], Answer]) -> Any:
        if self._recording is not None:
            response.success, response.message = order(self._recording)
            self._settle(self._recording)
        return response

    def _on_poll(self) -> None:
        if self._recording is not None:
            self._settle(self._recording)

    def _settle(self, recording: EpisodeRecording) -> None:
        self._tell(recording.notices())
        self.is_recording = recording.is_recording

    def _tell(self, notices: list[Notice]) -> None:
        log = self._node.get_logger()
        for notice in notices:
            if notice.is_bad:
                log.error(notice.text)
            else:
                log.info(notice.text)


def installed_definition(kind: str) -> str | None:
    """The definition of a message, as its package has installed it; None if that is not there.

    Args:
        kind: such as "nav_msgs/msg/Odometry".
    """
    package, _, name = kind.split("/")
    try:
        return Path(get_package_share_directory(package), "msg", f"{name}.msg").read_text()
    except (PackageNotFoundError, OSError):
        return None


def _jpeg(image: RawImage, quality: int) -> bytes:
    pixels = IMAGE_WORK.decode(image, None)
    return jpeg_message(image.stamp_ns, IMAGE_WORK.encode(pixels, quality)["data"])


def _type_name(kind: type) -> str:
    return f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"
