"""Keeps what passes by: one method per kind, called from where it passes.

Recording takes references or small copies and converts nothing, so that the control loop pays a
few microseconds for each call; what costs time happens when a file is written.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence

import numpy as np

from openpi_flash_robot.black_box.records import (
    Answered,
    ImageArrived,
    JointsArrived,
    Record,
    Recording,
    RequestSent,
    ServerFound,
    SettingsTaken,
    SmallFrame,
    StopHeard,
)
from openpi_flash_robot.black_box.ring import Moment, Ring
from openpi_flash_robot.bridge.effects import (
    Effect,
    PublishChunk,
    PublishPlan,
    PublishStats,
    PublishSubtask,
    PublishTrajectory,
    SendRequest,
    Warn,
)
from openpi_flash_robot.bridge.status import Status
from openpi_flash_robot.link.events import (
    FirstActionsCame,
    LinkDown,
    LinkEvent,
    LinkUp,
    RequestDone,
    RequestFailure,
    ResetFailed,
    TransportUsed,
)
from openpi_flash_robot.nanoseconds import SECOND
from openpi_flash_robot.play.trajectory import Trajectory
from openpi_flash_robot.settings.node_settings import NodeSettings
from openpi_flash_robot.settings.public_settings import public_settings, without_password

MAX_BYTES = 64_000_000
"""Memory of the ring. A minute of three cameras, seven joints at 500 Hz and commands at 50 Hz takes
about 40 MB."""
STATUS_EVERY_NS = SECOND // 2
"""Between two statuses that do not differ but in their numbers."""
FRAME_EVERY_NS = SECOND // 2
"""Between two small frames of a camera."""
MAX_ACTIONS_BYTES = 256 * 1024
"""Of the raw actions of one answer; a chunk of 50 steps of 32 columns takes 13 kB."""
MAX_TEXT = 4_096
"""Characters of a text that comes from outside, such as the server's metadata."""
MAX_NAME_LISTS = 64
"""Different lists of joint names that are remembered, to keep each once."""


class Recorder:
    """The last minute. All methods belong to one thread."""

    def __init__(self, node: str, settings: NodeSettings, at: Moment) -> None:
        """Start with the settings.

        Args:
            node: full name of the node.
            settings: of the node; secrets in them are not kept.
            at: now.
        """
        self._node = node
        self._joints, self._axes = settings.joints, settings.axes
        length_ns = settings.black_box.length_ns
        self._ring: Ring[Record] = Ring(length_ns, MAX_BYTES)
        self._names: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._settings = _Standing(length_ns)
        self._server = _Standing(length_ns)
        self._last_status: tuple[int, Status] | None = None
        self._frames_ns: dict[str, int] = {}
        self.settings(at, settings)

    @property
    def bytes(self) -> int:
        """Memory that the records take, about."""
        return self._ring.bytes

    # --- inputs ---

    def camera(self, at: Moment, camera: str, stamp_ns: int) -> bool:
        """An image has arrived; whether a small frame of it is wanted."""
        self._ring.add(at, 0, ImageArrived(camera, stamp_ns))
        if at.steady_ns - self._frames_ns.get(camera, -FRAME_EVERY_NS) < FRAME_EVERY_NS:
            return False
        self._frames_ns[camera] = at.steady_ns
        return True

    def frame(self, at: Moment, frame: SmallFrame) -> None:
        """A small frame is ready; it may have been seen a moment ago."""
        self._ring.add(at, len(frame.jpeg), frame)

    def joints(
        self,
        at: Moment,
        stamp_ns: int,
        names: Sequence[str],
        *,
        positions: Sequence[float],
        velocities: Sequence[float] = (),
        efforts: Sequence[float] = (),
    ) -> None:
        """A joint state has arrived."""
        arrived = JointsArrived(
            stamp_ns,
            self._once(tuple(names)),
            _packed(positions),
            _packed(velocities),
            _packed(efforts),
        )
        size = len(arrived.positions) + len(arrived.velocities) + len(arrived.efforts)
        self._ring.add(at, size, arrived)

    def _once(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The same names as an earlier list, if there was one: each message brings its own."""
        known = self._names.get(names)
        if known is not None:
            return known
        if len(self._names) >= MAX_NAME_LISTS:
            self._names.clear()
        self._names[names] = names
        return names

    def stop_input(self, at: Moment, topic: str, value: bool) -> None:
        """A stop input was heard."""
        self._ring.add(at, 0, StopHeard(topic, value))

    def settings(self, at: Moment, settings: NodeSettings) -> None:
        """These settings hold from now on."""
        taken = SettingsTaken(public_settings(settings))
        self._settings.add(at, taken)
        self._ring.add(at, SETTINGS_BYTES, taken)

    # --- the link ---

    def link_event(self, at: Moment, event: LinkEvent) -> None:
        """Something has happened on the link."""
        if isinstance(event, RequestDone):
            answered = _answered(event)
            size = 0 if answered.actions is None else answered.actions.nbytes + ARRAY_BYTES
            self._ring.add(at, size, answered)
        elif isinstance(event, LinkUp):
            found = ServerFound(_short(repr(dict(event.metadata))))
            self._server.add(at, found)
            self._ring.add(at, len(found.metadata), found)
        elif isinstance(event, LinkDown):
            down = LinkDown(without_password(_short(event.message)), event.needs_human)
            self._server.add(at, down)
            self._ring.add(at, len(down.message), down)
        elif isinstance(event, (FirstActionsCame, ResetFailed, TransportUsed)):
            return  # the whole answer follows; the bridge warns of the others
        else:
            failure = RequestFailure(event.request_id, event.kind, _short(event.message))
            self._ring.add(at, len(failure.message), failure)

    # --- what the bridge decides ---

    def effect(self, at: Moment, effect: Effect) -> None:
        """The bridge wants something done."""
        if isinstance(effect, (PublishTrajectory, PublishPlan)):
            self._ring.add(at, _bytes_of(effect.trajectory), effect)
        elif isinstance(effect, SendRequest):
            self._ring.add(at, REQUEST_BYTES, _request(effect))
        elif isinstance(effect, PublishChunk):
            size = effect.actions.nbytes + ARRAY_BYTES + len(effect.instruction.text)
            self._ring.add(at, size, effect)
        elif isinstance(effect, Warn):
            self._ring.add(at, 0, Warn(without_password(_short(effect.message))))
        elif isinstance(effect, (PublishStats, PublishSubtask)):
            self._ring.add(at, STATS_BYTES, effect)

    def status(self, at: Moment, status: Status) -> None:
        """What the bridge does and why; kept on change, and now and then for its numbers."""
        if self._last_status is not None:
            last_ns, last = self._last_status
            if at.steady_ns - last_ns < STATUS_EVERY_NS and not status.differs_from(last):
                return
        self._last_status = (at.steady_ns, status)
        self._ring.add(at, STATUS_BYTES, status)

    # --- the file ---

    def recording(self, cause: str) -> Recording:
        """Everything that a file for this cause holds."""
        entries = self._ring.snapshot()
        began_ns = entries[0][1] if entries else 0
        standing = self._settings.before(began_ns) + self._server.before(began_ns)
        return Recording(
            node=self._node,
            joints=self._joints,
            axes=self._axes,
            cause=cause,
            standing=tuple(standing),
            entries=entries,
            dropped=self._ring.dropped,
        )


class _Standing:
    """What was said once and holds on: the newest of a kind, and those that the ring may need."""

    def __init__(self, length_ns: int) -> None:
        self._length_ns = length_ns
        self._said: deque[tuple[int, Record]] = deque(maxlen=16)

    def add(self, at: Moment, record: Record) -> None:
        self._said.append((at.steady_ns, record))
        began_ns = at.steady_ns - self._length_ns
        while len(self._said) > 1 and self._said[1][0] < began_ns:
            self._said.popleft()

    def before(self, began_ns: int) -> list[Record]:
        """The record that held when the ring begins, if it is not in the ring itself."""
        return [record for said_ns, record in self._said if said_ns < began_ns][-1:]


def _answered(event: RequestDone) -> Answered:
    actions = event.result.get("actions")
    kept, description = None, f"{type(actions).__name__}"
    if isinstance(actions, np.ndarray):
        description = f"{actions.dtype} {list(actions.shape)}"
        if actions.dtype.kind in "fiu" and actions.nbytes <= MAX_ACTIONS_BYTES:
            kept = actions.copy()  # a view would keep the whole answer
    return Answered(
        event.request_id, kept, description, event.preprocess_s, event.total_s, event.cost
    )


def _request(effect: SendRequest) -> RequestSent:
    observation = effect.observation
    return RequestSent(
        request_id=effect.request_id,
        image_stamps_ns={name: frame.stamp_ns for name, frame in observation.frames.frames.items()},
        joints_ns=observation.joints.oldest_ns,
        positions=observation.joints.positions,
        prompt=observation.prompt,
        timeout=effect.timeout,
        is_continuation=effect.continuation is not None,
    )


def _bytes_of(trajectory: Trajectory) -> int:
    # the times and positions of a window are new arrays, so they count as a whole
    arrays = trajectory.times_ns.nbytes + trajectory.positions.nbytes + trajectory.velocities.nbytes
    return arrays + 3 * ARRAY_BYTES


def _packed(values: Sequence[float]) -> bytes:
    """As float64; rclpy hands over arrays of that."""
    if isinstance(values, array) and values.typecode == "d":
        return values.tobytes()
    return array("d", values).tobytes()


def _short(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"


ARRAY_BYTES = 110
SETTINGS_BYTES = 8_000
REQUEST_BYTES = 1_500
STATUS_BYTES = 1_000
STATS_BYTES = 500
