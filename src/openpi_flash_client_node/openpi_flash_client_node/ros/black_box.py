"""The black box in ROS: two clocks, the service ~/dump, a log line for each file.

What it does may fail; the robot goes on. The node calls one method for each kind of thing that
passes by, and each costs a few microseconds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

from rclpy.clock import Clock, ROSClock
from rclpy.node import Node
from std_srvs.srv import Trigger as TriggerService

from openpi_flash_client_node.ros.image_work import IMAGE_WORK
from openpi_flash_client_node.ros.rclpy_versions import ClockType
from openpi_flash_robot.black_box.file_writer import FileWriter, Written
from openpi_flash_robot.black_box.folder import Folder, default_folder, file_name
from openpi_flash_robot.black_box.frame_encoder import FrameEncoder
from openpi_flash_robot.black_box.recorder import Recorder
from openpi_flash_robot.black_box.ring import Moment
from openpi_flash_robot.black_box.trigger import Trigger
from openpi_flash_robot.bridge.effects import Effect, Warn
from openpi_flash_robot.bridge.status import Status
from openpi_flash_robot.cdr.joint_states import JointStates
from openpi_flash_robot.link.events import LinkEvent
from openpi_flash_robot.link.transport import ImageMessage
from openpi_flash_robot.settings.node_settings import NodeSettings

POLL_S = 0.1
END_TIMEOUT_S = 6.0
"""How long a node that ends waits for its file: `ros2 launch` kills it 10 s after Ctrl-C."""


class BlackBox:
    """Records from `start` to `stop`; without a start, and after an error, it does nothing."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._made: list[Callable[[], Any]] = []
        self._recorder: Recorder | None = None
        self._frames: FrameEncoder | None = None
        self._writer: FileWriter | None = None
        self._trigger = Trigger()
        self._is_simulated = False

    def start(self, settings: NodeSettings) -> None:
        """Begin to record, unless `black_box_seconds` is 0."""
        wanted = settings.black_box
        if wanted.length_ns == 0:
            return
        node = self._node
        name: str = node.get_fully_qualified_name()
        folder = wanted.folder or default_folder(os.environ)
        self._trigger = Trigger()
        self._see_clock()
        self._writer = FileWriter(Folder(folder, name, wanted.files))
        if wanted.has_images:
            self._frames = FrameEncoder(IMAGE_WORK)
        self._recorder = Recorder(name, settings, self._moment())
        service = node.create_service(TriggerService, "~/dump", self._on_dump)
        self._made.append(lambda: node.destroy_service(service))
        timer = node.create_timer(
            POLL_S, self._on_poll, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self._made.append(lambda: node.destroy_timer(timer))

    def stop(self) -> None:
        """Write a file if a fault has none yet, and end; the robot holds already."""
        while self._made:
            self._made.pop()()
        if self._frames is not None:
            self._frames.close()
            self._take_frames(self._frames)
        if self._writer is not None:
            self._finish(self._writer)
        self._recorder = self._frames = self._writer = None

    def _finish(self, writer: FileWriter) -> None:
        began = time.monotonic()
        cause = self._trigger.end()
        is_done = True
        if cause is not None and self._recorder is not None:
            writer.hurry()
            while not writer.is_free and time.monotonic() - began < END_TIMEOUT_S:
                time.sleep(0.01)
            is_done = (
                writer.write(self._file_name(cause), self._recorder.recording(cause)) is not None
            )
        left = max(0.0, END_TIMEOUT_S - (time.monotonic() - began))
        if not (writer.close(left) and is_done):
            self._warn(f"the black box was not written within {END_TIMEOUT_S:g} s")
        self._report(writer)

    # --- what passes by ---

    def camera(self, name: str, stamp_ns: int, message: ImageMessage) -> None:
        """An image has arrived."""
        if self._note(Recorder.camera, name, stamp_ns) and self._frames is not None:
            self._frames.offer(name, stamp_ns, message)

    def joints(self, stamp_ns: int, states: JointStates) -> None:
        """Joint positions have arrived."""
        self._note(
            Recorder.joints,
            stamp_ns,
            states.name,
            positions=states.position,
            velocities=states.velocity,
            efforts=states.effort,
        )

    def pose(self, stamp_ns: int, axes: Mapping[str, float]) -> None:
        """The measured pose of an end effector has arrived, as its axes by name."""
        self._note(
            Recorder.joints,
            stamp_ns,
            list(axes),
            positions=list(axes.values()),
            velocities=(),
            efforts=(),
        )

    def stop_input(self, topic: str, value: bool) -> None:
        """A message of an emergency stop, an enabling or a hold switch has arrived."""
        self._note(Recorder.stop_input, topic, value)

    def link_event(self, event: LinkEvent) -> None:
        """The link reports something."""
        self._note(Recorder.link_event, event)

    def effect(self, effect: Effect) -> None:
        """The bridge wants something done."""
        self._note(Recorder.effect, effect)

    def status(self, status: Status) -> None:
        """What the bridge does and why; comes at least once in every control period."""
        self._see_clock()
        self._note(Recorder.status, status)
        if self._recorder is not None:
            self._trigger.status(time.monotonic_ns(), status)

    def settings(self, settings: NodeSettings) -> None:
        """These settings hold from now on."""
        self._note(Recorder.settings, settings)

    def _note(self, record: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Record something; an error ends the recording and not the robot."""
        if self._recorder is None:
            return None
        try:
            return record(self._recorder, self._moment(), *arguments, **named)
        except Exception as error:
            self._recorder = None
            self._warn(f"the black box records no more until the next configure: {error!r}")
            return None

    def _see_clock(self) -> None:
        clock = self._node.get_clock()
        self._is_simulated = isinstance(clock, ROSClock) and clock.ros_time_is_active

    def _moment(self) -> Moment:
        # the ROS clock is the system's unless a simulator sets it; asking rclpy costs 2.5 us more
        ros_ns = time.time_ns()
        if self._is_simulated:
            ros_ns = self._node.get_clock().now().nanoseconds
        return Moment(ros_ns, time.monotonic_ns())

    # --- files ---

    def _on_poll(self) -> None:
        if self._frames is not None:
            self._take_frames(self._frames)
        if self._writer is None:
            return
        self._report(self._writer)
        if self._recorder is not None and self._writer.is_free:
            cause = self._trigger.due(time.monotonic_ns())
            if cause is not None:
                self._write(self._writer, self._recorder, cause)

    def _take_frames(self, encoder: FrameEncoder) -> None:
        for frame in encoder.frames():
            self._note(Recorder.frame, frame)
        for problem in encoder.problems():
            self._warn(f"the black box has {problem}")

    def _write(self, writer: FileWriter, recorder: Recorder, cause: str) -> str | None:
        return writer.write(self._file_name(cause), recorder.recording(cause))

    def _file_name(self, cause: str) -> str:
        return file_name(self._node.get_fully_qualified_name(), datetime.now(timezone.utc), cause)

    def _report(self, writer: FileWriter) -> None:
        for result in writer.results():
            if isinstance(result, Written):
                self._node.get_logger().info(
                    f"the black box is in {result.path} ({result.bytes / 1e6:.1f} MB)"
                )
                continue
            if result.is_lost:
                self._trigger.failed()
            self._warn(result.message)

    def _on_dump(
        self, _: TriggerService.Request, response: TriggerService.Response
    ) -> TriggerService.Response:
        """Answer at once with the file's path; the file is there once it is whole."""
        if self._recorder is None or self._writer is None:
            response.message = "the black box records nothing: an error has ended it, see the log"
            return response
        path = None
        if self._writer.is_free:
            path = self._write(self._writer, self._recorder, self._trigger.ask())
        response.success = path is not None
        response.message = (
            path or "the black box is writing another file; try again when it is there"
        )
        return response

    def _warn(self, message: str) -> None:
        self._node.get_logger().warning(message)
        if self._recorder is not None:
            self._recorder.effect(self._moment(), Warn(message))
