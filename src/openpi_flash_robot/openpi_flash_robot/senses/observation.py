"""One request: images, joints and the instruction, where and how the server reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.senses.frames import FrameSet, Message
from openpi_flash_robot.senses.joints import JointReading
from openpi_flash_robot.senses.states import StateReading
from openpi_flash_robot.settings.node_settings import Camera, ObservationSettings
from openpi_flash_robot.settings.server_contract import ImageTarget
from openpi_flash_robot.settings.state_inputs import RequestPath


class CameraImageError(ValueError):
    """A camera's image cannot be decoded. The message names the camera."""


Image = NDArray[np.uint8]
"""RGB, [H, W, 3]."""

Size = tuple[int, int]
"""Rows and columns."""

REDUCING_GAP = 2
"""How many times larger than its target an image must stay when it is decoded to a part of its
size: then resizing still decides how it looks, as in Pillow's thumbnails."""

Encoding = Callable[[int], int | None]
"""The JPEG quality of a request's images, None for arrays, at the bytes that arrays would take."""


def raw_images(_: int) -> None:
    """The `Encoding` of arrays."""


@dataclass(frozen=True)
class ImageWork(Generic[Message]):
    """Operations on pixels. They run without the GIL, so call them off the executor.

    Attributes:
        decode: a camera message as an RGB image [H, W, 3], at (message, at_least). An encoded one
            may come out smaller than it is, if it can still be fitted into `at_least` without
            being enlarged; None keeps its size.
        resize: the image with its aspect kept, padded with black, at (image, height, width).
        encode: the image as it may stand in a request in its place, at (image, JPEG quality).
    """

    decode: Callable[[Message, Size | None], Image]
    resize: Callable[[Image, int, int], Image]
    encode: Callable[[Image, int], dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Observation(Generic[Message]):
    """The inputs of one inference, all of one moment.

    Attributes:
        frames: the images.
        joints: positions of all joints that are measured.
        states: the numbers of the request.
        prompt: the instruction.
    """

    frames: FrameSet[Message]
    joints: JointReading
    states: StateReading
    prompt: str

    @property
    def oldest_ns(self) -> int:
        """The oldest stamp among its inputs: the observation's own."""
        return min(self.frames.oldest_ns, self.states.oldest_ns)


def build_request(
    observation: Observation[Message],
    settings: ObservationSettings,
    targets: Mapping[RequestPath, ImageTarget],
    work: ImageWork[Message],
    *,
    deadline_ms: float | None = None,
    encoding: Encoding = raw_images,
    session: str | None = None,
    rtc: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Decode, resize, encode and name everything.

    Args:
        observation: the inputs.
        settings: where they go in the request.
        targets: the server's image specifications; images without one get the
            size and layout of the settings.
        work: how to decode, resize and encode.
        deadline_ms: time after which the answer is useless; None where the server does not take it.
        encoding: how its images travel.
        session: the robot's name for the server; None where the connection has said it, or the
            server does not take it.
        rtc: what the server is told of the running chunk; None for nothing.

    Raises:
        CameraImageError: a camera's image cannot be decoded.
    """
    request: dict[str, Any] = {} if deadline_ms is None else {"deadline_ms": deadline_ms}
    if session is not None:
        request["session"] = session
    if rtc is not None:
        request["rtc"] = dict(rtc)
    images: dict[RequestPath, Image] = {}
    for camera in settings.cameras:
        wanted = targets.get(camera.key)
        size = (wanted.height, wanted.width) if wanted else settings.image_size
        image = _decoded(observation, camera, size, work)
        target = wanted or _default_target(settings, image)
        if image.shape[:2] != (target.height, target.width):
            image = work.resize(image, target.height, target.width)
        if target.channels_first:
            image = np.ascontiguousarray(image.transpose(2, 0, 1))
        images[camera.key] = image
    quality = encoding(sum(image.nbytes for image in images.values()))
    for path, image in images.items():
        _put(request, path, image if quality is None else work.encode(image, quality))
    for path, values in observation.states.values.items():
        _put(request, path, values.astype(np.float32))
    if observation.prompt:
        _put(request, settings.prompt_key, observation.prompt)
    return request


def _decoded(
    observation: Observation[Message],
    camera: Camera,
    size: Size | None,
    work: ImageWork[Message],
) -> Image:
    at_least = None if size is None else (size[0] * REDUCING_GAP, size[1] * REDUCING_GAP)
    try:
        return work.decode(observation.frames.frames[camera.name].message, at_least)
    except ValueError as error:
        raise CameraImageError(f"camera {camera.name} ({camera.topic}): {error}") from error


def _default_target(settings: ObservationSettings, image: Image) -> ImageTarget:
    height, width = settings.image_size or image.shape[:2]
    return ImageTarget(height, width, channels_first=settings.image_layout == "chw")


def _put(request: dict[str, Any], path: RequestPath, value: Any) -> None:
    for key in path[:-1]:
        request = request.setdefault(key, {})
    request[path[-1]] = value
