"""The settings of the link, as Python sees them."""

import numpy as np
import pytest
from quic_peers import LONG, Served

from flash_transport import FlashTransportPolicy


@pytest.mark.parametrize("dedicated_link", [False, True])
def test_a_server_says_how_its_link_is_set_and_serves(dedicated_link):
    image = np.arange(3 * 224 * 224, dtype=np.uint8).reshape(224, 224, 3)
    with Served(dedicated_link=dedicated_link) as served:
        settings = served.server.link_settings
        assert settings["dedicated_link"] is dedicated_link
        assert settings["receive_buffer_bytes"] > 0
        assert settings["send_buffer_bytes"] > 0
        with FlashTransportPolicy("127.0.0.1", served.port) as policy:
            answer = policy.infer({"image": image}, timeout=LONG)
    assert np.array_equal(answer["echo"]["image"], image)
