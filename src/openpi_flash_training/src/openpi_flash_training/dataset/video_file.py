"""MP4 files of cameras: encoding an episode, and joining episodes without encoding anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from openpi_flash_training.episodes.error import DataError


@dataclass(frozen=True)
class VideoSettings:
    """How cameras are encoded.

    Attributes:
        codec: FFmpeg's name of an encoder whose videos lerobot reads: ``h264``, ``hevc``,
            ``libsvtav1``.
        crf: quality; lower is better and larger.
        keyframe_interval: frames from one keyframe to the next; small is fast to read at random
            (lerobot writes 2).
        preset: speed of the encoder against size; the codec's own words.
    """

    codec: str = "h264"
    crf: int = 23
    keyframe_interval: int = 2
    preset: str | None = "veryfast"

    def options(self) -> dict[str, str]:
        """The encoder's options."""
        # without B-frames, a packet is a frame and decoding order is time order
        chosen = {"crf": str(self.crf), "g": str(self.keyframe_interval), "bf": "0"}
        if self.preset is not None:
            chosen["preset"] = self.preset
        return chosen


def pixel_format(height: int, width: int) -> str:
    """yuv420p where both sides are even, which it demands; else yuv444p."""
    return "yuv420p" if height % 2 == 0 and width % 2 == 0 else "yuv444p"


def encode_video(path: Path, frames: np.ndarray, fps: int, settings: VideoSettings) -> None:
    """Write the video of an episode.

    Args:
        path: of the file; it is replaced.
        frames: uint8 [T, H, W, 3].
        fps: frame ``i`` is shown at ``i / fps`` seconds exactly.
        settings: of the encoder.

    Raises:
        DataError: FFmpeg has no such encoder, or fails.
    """
    height, width = frames.shape[1:3]
    try:
        with av.open(str(path), "w", format="mp4") as output:
            stream = output.add_stream(settings.codec, rate=fps, options=settings.options())
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height = width, height
            stream.pix_fmt = pixel_format(height, width)
            stream.codec_context.time_base = Fraction(1, fps)
            stream.codec_context.thread_count = 1
            for index, image in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, fps)
                output.mux(stream.encode(frame))
            output.mux(stream.encode())
    except (av.FFmpegError, ValueError) as error:
        raise DataError(path, f"cannot encode with {settings.codec}: {error}") from error


def join_videos(paths: Sequence[Path], lengths: Sequence[int], target: Path, fps: int) -> None:
    """Write videos one after another into one file, packet by packet.

    Args:
        paths: of videos that :func:`encode_video` wrote with the same settings and size.
        lengths: number of frames of each.
        target: the new file.
        fps: of all.

    Raises:
        DataError: a video is broken or has another number of frames.
    """
    with av.open(str(target), "w", format="mp4") as output:
        joined = None
        offset = 0
        for path, length in zip(paths, lengths, strict=True):
            try:
                with av.open(str(path)) as source:
                    stream = source.streams.video[0]
                    if joined is None:
                        joined = output.add_stream_from_template(stream)
                        joined.time_base = Fraction(1, fps)
                    count = 0
                    for packet in source.demux(stream):
                        if packet.pts is None:
                            continue
                        packet.pts = packet.dts = offset + count
                        packet.duration, packet.time_base = 1, Fraction(1, fps)
                        packet.stream = joined
                        output.mux(packet)
                        count += 1
            except (av.FFmpegError, IndexError) as error:
                raise DataError(path, f"is not a video: {error}") from error
            if count != length:
                raise DataError(path, f"has {count} frames, not {length}")
            offset += length


def video_facts(shape: tuple[int, ...], fps: int, settings: VideoSettings) -> Mapping[str, Any]:
    """What ``meta/info.json`` says about a camera's video.

    Args:
        shape: (height, width, 3).
        fps: of the video.
        settings: of the encoder.
    """
    codec = av.codec.Codec(settings.codec, "w").canonical_name
    return {
        "video.height": shape[0],
        "video.width": shape[1],
        "video.codec": codec,
        "video.pix_fmt": pixel_format(shape[0], shape[1]),
        "is_depth_map": False,
        "video.fps": fps,
        "video.channels": 3,
        "has_audio": False,
        "video.g": settings.keyframe_interval,
        "video.crf": settings.crf,
        **({} if settings.preset is None else {"video.preset": settings.preset}),
    }
