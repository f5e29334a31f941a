"""A thread that makes small frames of the images that cameras send."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from openpi_flash_robot.black_box.records import SmallFrame
from openpi_flash_robot.senses.observation import ImageWork

LONGEST_SIDE = 160
"""Pixels: enough to see what the arm does, too few to read a page on the table."""
JPEG_QUALITY = 70


class FrameEncoder:
    """Takes at most one image of each camera at a time; a newer one takes its place."""

    def __init__(self, work: ImageWork[Any]) -> None:
        """Begin to wait for images.

        Args:
            work: how to decode, resize and encode; runs on the thread.
        """
        self._work = work
        self._changed = threading.Condition()
        self._waiting: dict[str, tuple[int, Any]] = {}
        self._closing = False
        self._frames: deque[SmallFrame] = deque()
        self._failed: set[str] = set()
        self._problems: deque[str] = deque()
        self._thread = threading.Thread(target=self._run, name="black_box_frames", daemon=True)
        self._thread.start()

    def offer(self, camera: str, stamp_ns: int, message: Any) -> None:
        """Make a frame of this image, soon."""
        with self._changed:
            self._waiting[camera] = (stamp_ns, message)
            self._changed.notify()

    def frames(self) -> list[SmallFrame]:
        """Those that are ready since the last call."""
        frames = []
        while self._frames:
            frames.append(self._frames.popleft())
        return frames

    def problems(self) -> list[str]:
        """Why cameras have no frames, since the last call; once for each camera."""
        problems = []
        while self._problems:
            problems.append(self._problems.popleft())
        return problems

    def close(self) -> None:
        """End the thread after the image that it is at."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(1.0)

    # --- the thread ---

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if self._closing:
                    return
                camera = next(iter(self._waiting))
                stamp_ns, message = self._waiting.pop(camera)
            try:
                frame = SmallFrame(camera, stamp_ns, self._small(message))
            except Exception as error:  # a camera's image is not to be trusted
                if camera not in self._failed:
                    self._failed.add(camera)
                    self._problems.append(f"no small frames of camera {camera}: {error}")
            else:
                self._frames.append(frame)
            del message

    def _small(self, message: Any) -> bytes:
        image = self._work.decode(message, (LONGEST_SIDE, LONGEST_SIDE))
        height, width = image.shape[:2]
        scale = min(1.0, LONGEST_SIDE / max(height, width))
        size = max(1, round(height * scale)), max(1, round(width * scale))
        if size != (height, width):
            image = self._work.resize(image, *size)
        data: bytes = self._work.encode(image, JPEG_QUALITY)["data"]
        return data
