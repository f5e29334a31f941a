"""What the link's thread builds and sends for a request of the bridge."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Any

from openpi_flash_robot.bridge.effects import SendRequest
from openpi_flash_robot.link.answer import rtc_of
from openpi_flash_robot.link.policy_link import BuiltRequest, Job
from openpi_flash_robot.link.transport import IMAGE_WORK, Chooser, Estimate
from openpi_flash_robot.senses.observation import Image, ImageWork, Size, build_request
from openpi_flash_robot.settings.node_settings import NodeSettings


def job_of(
    effect: SendRequest,
    settings: NodeSettings,
    work: ImageWork[Any],
    chooser: Chooser | None = None,
) -> Job:
    """The job of one request.

    Args:
        effect: what the bridge wants to be sent.
        settings: of the node.
        work: operations on its images: `ARRAYS`, or those of camera messages.
        chooser: decides whether they are JPEG; None: the settings say it.
    """
    supports, observation = effect.agreement.supports, settings.observation
    # over QUIC the hello says it
    says_session = settings.link.transport == "websocket" and "session" in supports
    reads_jpeg = "jpeg" in supports
    quality = observation.jpeg_quality if reads_jpeg else None
    build = partial(
        build_request,
        effect.observation,
        observation,
        effect.agreement.images,
        deadline_ms=effect.timeout * 1e3 if "deadline_ms" in supports else None,
        session=settings.link.session if says_session else None,
        rtc=rtc_of(effect.continuation, effect.agreement) if effect.continuation else None,
    )

    def built(estimate: Estimate) -> BuiltRequest:
        if chooser is not None and reads_jpeg:
            images = ChosenImages(chooser, estimate, work)
            content = build(images.work, encoding=images.choose)
            images.teach()
            return BuiltRequest(content, images.quality or 0, images.news)
        return BuiltRequest(build(work, encoding=lambda _: quality), quality or 0)

    return Job(effect.request_id, built, effect.timeout, effect.first_actions)


class ChosenImages:
    """The images of one request, whose encoding is chosen once their size is known.

    Attributes:
        quality: of JPEG; None: raw.
        news: of the choice, see `ImageChoice`.
        work: the operations on them, with which their size as JPEG is noted.
    """

    def __init__(self, chooser: Chooser, estimate: Estimate, work: ImageWork[Any]) -> None:
        self.quality: int | None = None
        self.news = ""
        self.work = replace(work, encode=self._encode)
        self._chooser, self._estimate, self._encoder = chooser, estimate, work.encode
        self._raw_bytes = self._jpeg_bytes = 0

    def choose(self, raw_bytes: int) -> int | None:
        """The quality for images that take so many bytes as arrays; None: send those."""
        choice = self._chooser.choose(time.monotonic(), raw_bytes, self._estimate)
        self._raw_bytes, self.quality, self.news = raw_bytes, choice.quality, choice.news
        return choice.quality

    def teach(self) -> None:
        """Tell the chooser how large they have become."""
        if self.quality is not None:
            self._chooser.learn(self._raw_bytes, self.quality, self._jpeg_bytes)

    def _encode(self, image: Image, quality: int) -> dict[str, Any]:
        message = self._encoder(image, quality)
        self._jpeg_bytes += len(message["data"])
        return message


def _as_it_is(image: Image, _: Size | None) -> Image:
    return image


ARRAYS: ImageWork[Image] = ImageWork(
    decode=_as_it_is, resize=IMAGE_WORK.resize, encode=IMAGE_WORK.encode
)
"""Images that are arrays already, as a robot without ROS reads them."""
