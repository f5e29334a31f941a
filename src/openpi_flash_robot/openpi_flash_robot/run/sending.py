"""What the link's thread builds and sends for a request of the bridge."""

from __future__ import annotations

from functools import partial
from typing import Any

from openpi_flash_robot.bridge.effects import SendRequest
from openpi_flash_robot.link.answer import rtc_of
from openpi_flash_robot.link.policy_link import Job
from openpi_flash_robot.link.transport import IMAGE_WORK
from openpi_flash_robot.senses.observation import Image, ImageWork, Size, build_request
from openpi_flash_robot.settings.node_settings import NodeSettings


def job_of(effect: SendRequest, settings: NodeSettings, work: ImageWork[Any]) -> Job:
    """The job of one request.

    Args:
        effect: what the bridge wants to be sent.
        settings: of the node.
        work: operations on its images: `ARRAYS`, or those of camera messages.
    """
    supports, observation = effect.agreement.supports, settings.observation
    # over QUIC the hello says it
    says_session = settings.link.transport == "websocket" and "session" in supports
    build = partial(
        build_request,
        effect.observation,
        observation,
        effect.agreement.images,
        work,
        deadline_ms=effect.timeout * 1e3 if "deadline_ms" in supports else None,
        jpeg_quality=observation.jpeg_quality if "jpeg" in supports else None,
        session=settings.link.session if says_session else None,
        rtc=rtc_of(effect.continuation, effect.agreement) if effect.continuation else None,
    )
    return Job(effect.request_id, build, effect.timeout, effect.first_actions)


def _as_it_is(image: Image, _: Size | None) -> Image:
    return image


ARRAYS: ImageWork[Image] = ImageWork(
    decode=_as_it_is, resize=IMAGE_WORK.resize, encode=IMAGE_WORK.encode
)
"""Images that are arrays already, as a robot without ROS reads them."""
