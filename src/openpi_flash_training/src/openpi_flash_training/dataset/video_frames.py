"""Frames of a video by their times, at random.

A video stays open with its decoder, which goes on from where it stands.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np

from openpi_flash_training.dataset.open_files import OpenFiles
from openpi_flash_training.episodes.error import DataError

_SEEK_MARGINS = (0.0, 0.5, 2.0, 10.0)
"""Seconds to seek before a frame: with B-frames, a keyframe's place is before its time."""


class _OpenVideo:
    """A video whose decoder stands at some frame."""

    def __init__(self, path: Path) -> None:
        try:
            self._container = av.open(str(path))
            self._stream = self._container.streams.video[0]
        except (av.FFmpegError, OSError, IndexError) as error:
            raise DataError(path, f"is not a video, or a truncated one: {error}") from error
        self._path = path
        # frame threads would decode ahead of what is asked for
        self._stream.thread_type = "SLICE"
        self._stream.codec_context.thread_count = 1
        self._tick = float(self._stream.time_base or 0)
        entries = self._stream.index_entries or ()
        self._keyframes = [entry.timestamp for entry in entries if entry.is_keyframe]
        self._frames: Iterator[av.VideoFrame] = iter(())
        self._position: float | None = None
        """Time of the last decoded frame; None where nothing is decoded yet."""
        self._last: np.ndarray | None = None

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def frame(self, time: float, tolerance: float) -> np.ndarray:
        """The frame that is shown at a time, uint8 [H, W, 3].

        Args:
            time: seconds from the start of the file.
            tolerance: seconds by which the frame's time may differ.
        """
        if self._last is not None and abs((self._position or 0.0) - time) <= tolerance:
            return self._last
        try:
            if not self._must_seek(time):
                found = self._decode_to(time, tolerance)
                if found is not None:
                    return found
            for margin in _SEEK_MARGINS:
                self._seek(max(0.0, time - margin))
                found = self._decode_to(time, tolerance)
                if found is not None:
                    return found
                if margin >= time:
                    break
        except (av.FFmpegError, OSError) as error:
            self._position = self._last = None
            raise DataError(self._path, f"cannot be decoded at {time:.3f} s: {error}") from error
        duration = float((self._stream.duration or 0) * self._tick)
        raise DataError(
            self._path, f"has no frame at {time:.3f} s: it is {duration:.3f} s long, truncated?"
        )

    def _must_seek(self, time: float) -> bool:
        """Whether decoding onward does not reach the time, or passes a keyframe on the way."""
        if self._position is None or time < self._position:
            return True
        here, there = self._position / self._tick, time / self._tick
        return bisect_right(self._keyframes, here) < bisect_right(self._keyframes, there + 0.5)

    def _seek(self, time: float) -> None:
        self._container.seek(
            round(time / self._tick), stream=self._stream, backward=True, any_frame=False
        )
        self._frames = self._container.decode(self._stream)
        self._position = self._last = None

    def _decode_to(self, time: float, tolerance: float) -> np.ndarray | None:
        """Decode up to a time; None where the video ends before or begins after it."""
        for frame in self._frames:
            if frame.pts is None:
                continue
            shown = frame.pts * self._tick
            if shown < time - tolerance:
                continue
            if shown > time + tolerance:
                self._position = self._last = None
                return None
            self._position, self._last = shown, frame.to_ndarray(format="rgb24")
            return self._last
        self._position = self._last = None
        return None


# each holds a decoder and its frames
_open_videos = OpenFiles(_OpenVideo, most=16)


def read_frames(path: Path, times: Sequence[float], fps: float) -> list[np.ndarray]:
    """The frames that are shown at some times.

    Args:
        path: of the video.
        times: seconds from its start, in any order.
        fps: of the video; a frame may be off by a quarter of a period.

    Returns:
        uint8 [H, W, 3] each, in the order of the times.

    Raises:
        DataError: the file is missing, truncated, or has no frame at a time.
    """
    try:
        video = _open_videos.get(path)
    except FileNotFoundError:
        raise DataError(path, "is missing") from None
    frames: dict[float, np.ndarray] = {}
    for time in sorted(set(times)):
        frames[time] = video.frame(time, 0.25 / fps)
    return [frames[time] for time in times]
