"""image_work.py: cv_bridge converts what the transport does not know, where it is installed."""

import sys
import types

import numpy as np
import pytest
from sensor_msgs.msg import Image

from openpi_flash_client_node.ros.image_work import decode


def image(encoding, channels=1):
    message = Image(height=4, width=6, step=6 * channels, encoding=encoding)
    message.data = bytes(24 * channels)
    return message


def bridge_that(convert):
    """A module in the place of cv_bridge."""
    module = types.ModuleType("cv_bridge")

    class CvBridge:
        def imgmsg_to_cv2(self, message, encoding):
            assert encoding == "rgb8"
            return convert(message)

    module.CvBridge = CvBridge
    return module


def test_what_the_transport_knows_never_reaches_cv_bridge(monkeypatch):
    def never(_):
        raise AssertionError("asked")

    monkeypatch.setitem(sys.modules, "cv_bridge", bridge_that(never))
    assert decode(image("rgb8", channels=3)).shape == (4, 6, 3)


def test_an_encoding_that_the_transport_does_not_know_is_converted(monkeypatch):
    pixels = np.full((4, 6, 3), 7, np.uint8)
    monkeypatch.setitem(sys.modules, "cv_bridge", bridge_that(lambda _: pixels))
    np.testing.assert_array_equal(decode(image("yuv422_rare")), pixels)


def raising(_):
    raise RuntimeError("built for another numpy")


@pytest.mark.parametrize("convert", [raising, lambda _: np.zeros((4, 6), np.uint8)])
def test_a_cv_bridge_that_cannot_do_it_leaves_the_transports_message(monkeypatch, convert):
    monkeypatch.setitem(sys.modules, "cv_bridge", bridge_that(convert))
    with pytest.raises(ValueError, match="yuv422_rare"):
        decode(image("yuv422_rare"))


def test_without_cv_bridge_the_message_is_the_transports(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    with pytest.raises(ValueError, match="yuv422_rare"):
        decode(image("yuv422_rare"))
