"""MP4 files of cameras: encoding an episode, and joining episodes without encoding anew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from openpi_flash_training.episodes.error import DataError

Encoding = tuple[str, int, int, bytes | None]
"""Codec, width, height and the codec's parameters."""


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


def encode_video(
    path: Path, frames: Iterable[np.ndarray], fps: int, settings: VideoSettings
) -> None:
    """Write the video of an episode.

    Args:
        path: of the file; it is replaced.
        frames: uint8 [H, W, 3], at least one.
        fps: frame ``i`` is shown at ``i / fps`` seconds exactly.
        settings: of the encoder.

    Raises:
        DataError: FFmpeg has no such encoder, or fails.
    """
    stream = None
    try:
        with av.open(str(path), "w", format="mp4") as output:
            for index, image in enumerate(frames):
                if stream is None:
                    stream = _video_stream(output, image.shape, fps, settings)
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, fps)
                output.mux(stream.encode(frame))
            if stream is not None:
                output.mux(stream.encode())
    except (av.FFmpegError, ValueError) as error:
        raise DataError(path, f"cannot encode with {settings.codec}: {error}") from error


def _video_stream(
    output: av.container.OutputContainer,
    shape: tuple[int, ...],
    fps: int,
    settings: VideoSettings,
) -> av.VideoStream:
    stream = output.add_stream(settings.codec, rate=fps, options=settings.options())
    assert isinstance(stream, av.VideoStream)
    stream.height, stream.width = shape[:2]
    stream.pix_fmt = pixel_format(*shape[:2])
    stream.codec_context.time_base = Fraction(1, fps)
    stream.codec_context.thread_count = 1
    return stream


def join_videos(paths: Sequence[Path], lengths: Sequence[int], target: Path, fps: int) -> None:
    """Write videos one after another into one file, packet by packet.

    Args:
        paths: of videos that :func:`encode_video` wrote with the same settings and size.
        lengths: number of frames of each.
        target: the new file.
        fps: of all.

    Raises:
        DataError: a video is broken, has another number of frames, or other settings.
    """
    settings = None
    with av.open(str(target), "w", format="mp4") as output:
        joined = None
        offset = 0
        for path, length in zip(paths, lengths, strict=True):
            try:
                with av.open(str(path)) as source:
                    stream = source.streams.video[0]
                    its = _encoding(stream)
                    settings = settings or its
                    if its != settings:
                        raise DataError(path, "was encoded with other settings than those before")
                    if joined is None:
                        joined = _stream_like(output, stream, fps)
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


def copy_video(source: Path, start: float, length: int, fps: int, target: Path) -> bool:
    """Cut an episode out of a video without encoding anew.

    Args:
        source: the video.
        start: time of the first frame, s.
        length: number of frames.
        fps: of the video.
        target: the new file.

    Returns:
        False where the frames cannot be cut out: the first is no keyframe, one is missing, or they
        are stored in another order than shown. The target is then of no use.
    """
    try:
        with av.open(str(source)) as video, av.open(str(target), "w", format="mp4") as output:
            stream = video.streams.video[0]
            copied = _stream_like(output, stream, fps)
            tick = float(stream.time_base or 0)
            video.seek(round(start / tick), stream=stream, backward=True, any_frame=False)
            count = 0
            for packet in video.demux(stream):
                if packet.pts is None or count == length:
                    break
                index = round((packet.pts * tick - start) * fps)
                if index < 0:
                    continue
                if index != count or (count == 0 and not packet.is_keyframe):
                    return False
                packet.pts = packet.dts = count
                packet.duration, packet.time_base = 1, Fraction(1, fps)
                packet.stream = copied
                output.mux(packet)
                count += 1
            return count == length
    except (av.FFmpegError, IndexError):
        return False


def _stream_like(
    output: av.container.OutputContainer, stream: av.VideoStream, fps: int
) -> av.VideoStream:
    # opaque: the decoder's name need not be an encoder's, as of AV1
    copied = output.add_stream_from_template(stream, opaque=True)
    copied.time_base = Fraction(1, fps)
    return copied


def encoding_of(path: Path) -> Encoding:
    """What two videos must have in common to be joined.

    Raises:
        DataError: it is not a video.
    """
    try:
        with av.open(str(path)) as video:
            return _encoding(video.streams.video[0])
    except (av.FFmpegError, IndexError) as error:
        raise DataError(path, f"is not a video: {error}") from error


def _encoding(stream: av.VideoStream) -> Encoding:
    codec = stream.codec_context
    return (codec.name, codec.width, codec.height, codec.extradata)


def settings_of(facts: Mapping[str, Any]) -> VideoSettings:
    """How a camera was encoded, as far as ``meta/info.json`` says.

    Args:
        facts: ``video.*`` of the camera.
    """
    default = VideoSettings()
    codec = facts.get("video.codec")
    codec = {"av1": "libsvtav1"}.get(codec or "", codec)
    return VideoSettings(
        codec or default.codec,
        int(facts.get("video.crf") or default.crf),
        int(facts.get("video.g") or default.keyframe_interval),
        # presets are words of a codec
        facts.get("video.preset", default.preset if codec in (None, "h264") else None),
    )


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
