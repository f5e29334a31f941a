"""Requests of a robot without ROS, whose images are arrays."""

from __future__ import annotations

from functools import partial

from openpi_flash_robot.bridge.effects import SendRequest
from openpi_flash_robot.link.answer import rtc_of
from openpi_flash_robot.link.policy_link import Job
from openpi_flash_robot.link.transport import IMAGE_WORK
from openpi_flash_robot.senses.observation import Image, ImageWork, Size, build_request
from openpi_flash_robot.settings.node_settings import NodeSettings


def job_of(effect: SendRequest, settings: NodeSettings) -> Job:
    """What the link's thread builds and sends."""
    supports, observation = effect.agreement.supports, settings.observation
    # over QUIC the hello says it
    says_session = settings.link.transport == "websocket" and "session" in supports
    build = partial(
        build_request,
        effect.observation,
        observation,
        effect.agreement.images,
        ARRAYS,
        deadline_ms=effect.timeout * 1e3 if "deadline_ms" in supports else None,
        jpeg_quality=observation.jpeg_quality if "jpeg" in supports else None,
        session=settings.link.session if says_session else None,
        rtc=rtc_of(effect.continuation, effect.agreement) if effect.continuation else None,
    )
    return Job(effect.request_id, build, effect.timeout)


def _as_it_is(image: Image, _: Size | None) -> Image:
    return image


ARRAYS: ImageWork[Image] = ImageWork(
    decode=_as_it_is, resize=IMAGE_WORK.resize, encode=IMAGE_WORK.encode
)
