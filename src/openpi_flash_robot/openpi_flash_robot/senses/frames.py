"""The newest set of camera frames that belong to one moment.

One ring of references per camera; no pixel is touched. A set is asked for when an inference is
due, not on every frame.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.nanoseconds import SECOND, to_seconds

RING_SIZE = 8
"""Frames kept per camera: a quarter of a second at 30 Hz, more than any skew that is allowed."""

CLOCK_JUMP_NS = SECOND
"""A stamp this much older than the newest one means that time was set back (a bag, a simulator)."""

NEAR_NS = 10_000_000
"""Two frames that are not farther apart are of one moment."""

Message = TypeVar("Message")


@dataclass(frozen=True, eq=False)
class Frame(Generic[Message]):
    """A camera message and the acquisition stamp in its header."""

    stamp_ns: int
    message: Message


@dataclass(frozen=True, eq=False)
class FrameSet(Generic[Message]):
    """One frame per camera, of one moment.

    Attributes:
        frames: by camera name.
        oldest_ns: the oldest stamp among them.
        newest_ns: the newest stamp among them.
    """

    frames: Mapping[str, Frame[Message]]
    oldest_ns: int
    newest_ns: int

    @property
    def skew_ns(self) -> int:
        """How far apart the frames are."""
        return self.newest_ns - self.oldest_ns


class CameraFrames(Generic[Message]):
    """Rings of the latest frames of every camera."""

    def __init__(self, topics: Mapping[str, str]) -> None:
        """Start empty.

        Args:
            topics: topic by camera name; the topics appear in reasons.
        """
        self._topics = dict(topics)
        self._rings: dict[str, deque[Frame[Message]]] = {
            name: deque(maxlen=RING_SIZE) for name in topics
        }
        self._unstamped: set[str] = set()
        self._why_unheard: dict[str, str] = {}

    def add(self, camera: str, stamp_ns: int, message: Message) -> bool:
        """Keep a frame. False if it was dropped: no stamp, or older than the newest one."""
        ring = self._rings[camera]
        if stamp_ns == 0:
            self._unstamped.add(camera)
            return False
        self._unstamped.discard(camera)
        if ring and stamp_ns <= ring[-1].stamp_ns:
            if ring[-1].stamp_ns - stamp_ns < CLOCK_JUMP_NS:
                return False
            ring.clear()
        ring.append(Frame(stamp_ns, message))
        return True

    def clear(self) -> None:
        """Forget every frame."""
        for ring in self._rings.values():
            ring.clear()

    @property
    def unheard(self) -> list[str]:
        """The cameras of which nothing has arrived yet."""
        return [n for n, ring in self._rings.items() if not ring and n not in self._unstamped]

    def explain_silence(self, camera: str, why: str) -> None:
        """Say why nothing has arrived from a camera yet; empty if that is not known."""
        self._why_unheard[camera] = why

    def newest(self) -> dict[str, Frame[Message]]:
        """The newest frame of each camera that has one, by its name."""
        return {name: ring[-1] for name, ring in self._rings.items() if ring}

    def newest_stamp(self, camera: str) -> int | None:
        """Stamp of a camera's newest frame; None if there is none."""
        ring = self._rings[camera]
        return ring[-1].stamp_ns if ring else None

    def are_newer_than(self, now: int, age_ns: int) -> bool:
        """Whether a frame younger than this is here of every camera.

        Args:
            now: this moment; stamps as far ahead of it count as old, too: time was set back.
            age_ns: how old they may be.
        """
        return all(ring and abs(now - ring[-1].stamp_ns) < age_ns for ring in self._rings.values())

    @property
    def moment_ns(self) -> int | None:
        """The newest stamp that every camera has reached; None if one has no frame."""
        if not all(self._rings.values()):
            return None
        return min(ring[-1].stamp_ns for ring in self._rings.values())

    @property
    def two_suffice(self) -> bool:
        """Whether the two newest frames of each camera are enough to choose from.

        With more of them no camera's frame would be nearer to `moment_ns` by over `NEAR_NS`.
        """
        moment_ns = self.moment_ns
        return moment_ns is not None and all(
            _has_near_of_two(ring, moment_ns) for ring in self._rings.values()
        )

    def blind(self, now: int, *, max_blind_ns: int, max_age_ns: int) -> Hold | None:
        """Which camera has shown nothing for too long to move by it; None if all do.

        Args:
            now: this moment.
            max_blind_ns: `max_blind_time`.
            max_age_ns: `max_observation_age`; an image that is stamped farther in the future is no
                image of now.
        """
        for name, ring in self._rings.items():
            if not ring:
                return self._no_image(name)
            usable = [f.stamp_ns for f in ring if f.stamp_ns - now <= max_age_ns]
            if not usable:
                return self._ahead(name, now)
            age_ns = now - max(usable)
            if age_ns <= max_blind_ns:
                continue
            if ring[-1].stamp_ns - now > max_age_ns:
                return self._ahead(name, now)
            return self._without_stamps(name) or self.reason(
                name,
                f"is silent: its newest image is {to_seconds(age_ns):.2f} s old, "
                f"max_blind_time is {to_seconds(max_blind_ns):.2f} s",
            )
        return None

    def newest_set(
        self, now: int, *, max_age_ns: int, max_skew_ns: int
    ) -> FrameSet[Message] | Hold:
        """The newest frames that all cameras have of one moment, or why there are none.

        The moment is the newest stamp that every camera has reached; of each camera the frame
        nearest to it is taken.
        """
        for name, ring in self._rings.items():
            if not ring:
                return self._no_image(name)
        newest = {name: ring[-1].stamp_ns for name, ring in self._rings.items()}
        for name, stamp_ns in newest.items():
            if stamp_ns - now > max_age_ns:
                return self._ahead(name, now)
            if now - stamp_ns > max_age_ns:
                return self._without_stamps(name) or self.reason(
                    name,
                    f"is stale: its newest image is {to_seconds(now - stamp_ns):.2f} s old, "
                    f"max_observation_age is {to_seconds(max_age_ns):.2f} s",
                )
        reference_ns = min(newest.values())
        frames = {
            name: min(ring, key=lambda frame: abs(frame.stamp_ns - reference_ns))
            for name, ring in self._rings.items()
        }
        stamps = {name: frame.stamp_ns for name, frame in frames.items()}
        found = FrameSet(frames, min(stamps.values()), max(stamps.values()))
        if found.skew_ns > max_skew_ns:
            first = min(stamps, key=stamps.__getitem__)
            last = max(stamps, key=stamps.__getitem__)
            return Hold(
                HoldKind.OBSERVATION,
                f"cameras {first} and {last} are {to_seconds(found.skew_ns):.3f} s apart, "
                f"max_camera_skew is {to_seconds(max_skew_ns):.3f} s",
            )
        return found

    def _no_image(self, camera: str) -> Hold:
        why = self._why_unheard.get(camera)
        return self._without_stamps(camera) or Hold(
            HoldKind.OBSERVATION,
            f"no image received yet from camera {camera} ({self._topics[camera]})"
            f"{f': {why}' if why else ''}",
        )

    def _ahead(self, camera: str, now: int) -> Hold:
        """The reason to hold because of a camera whose newest image is of the future."""
        ahead_ns = self._rings[camera][-1].stamp_ns - now
        return self.reason(
            camera,
            f"is stamped {to_seconds(ahead_ns):.2f} s in the future; "
            f"synchronise the clocks of the camera and of this computer",
        )

    def _without_stamps(self, camera: str) -> Hold | None:
        """The reason to hold if the newest image of a camera had no stamp."""
        if camera not in self._unstamped:
            return None
        return self.reason(
            camera,
            f"sends images without header.stamp; they are not used: have its driver set it, or "
            f"set camera.{camera}.stamp to arrival",
        )

    def reason(self, camera: str, what: str) -> Hold:
        """The reason to hold that names a camera and its topic."""
        return Hold(HoldKind.OBSERVATION, f"camera {camera} ({self._topics[camera]}) {what}")


def _has_near_of_two(ring: deque[Frame[Any]], moment_ns: int) -> bool:
    """Whether a camera's two newest frames lie around the moment, or one is near enough to it."""
    before_ns = ring[-2 if len(ring) > 1 else -1].stamp_ns
    return before_ns - moment_ns <= NEAR_NS
