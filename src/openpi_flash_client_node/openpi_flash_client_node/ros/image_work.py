"""Images of encodings that the transport does not know, by cv_bridge where it is installed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from openpi_flash_robot.link import transport
from openpi_flash_robot.link.transport import ImageMessage
from openpi_flash_robot.senses.observation import Image, ImageWork, Size


def decode(message: ImageMessage, at_least: Size | None = None) -> Image:
    """A camera message as RGB [H, W, 3].

    Raises:
        ValueError: neither the transport nor cv_bridge can decode it; what the transport says.
    """
    try:
        return transport.IMAGE_WORK.decode(message, at_least)
    except ValueError:
        converted = None if hasattr(message, "format") else _by_cv_bridge(message)
        if converted is None:
            raise
        return converted


def _by_cv_bridge(message: Any) -> Image | None:
    """The image by cv_bridge; None where that is not installed, or cannot do it either."""
    try:
        from cv_bridge import CvBridge

        image = np.asarray(CvBridge().imgmsg_to_cv2(message, "rgb8"))
    except Exception:  # a cv_bridge that was built for another numpy fails in many ways
        return None
    is_rgb = image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    return np.ascontiguousarray(image) if is_rgb else None


IMAGE_WORK: ImageWork[ImageMessage] = replace(transport.IMAGE_WORK, decode=decode)
