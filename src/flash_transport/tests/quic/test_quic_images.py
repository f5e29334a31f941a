"""How a client's images travel over a real connection."""

import logging

import numpy as np
import pytest
from quic_peers import Served, Serving, eventually

from flash_transport import FlashTransportPolicy, LocalServer, decode_image
from flash_transport.link_estimate import UNMEASURED

READS_JPEG = {"supports": ["jpeg"]}


def pictures():
    """Two cameras, one below another key, with what is no image beside them."""
    random = np.random.default_rng(1)
    return {
        "images": {"scene": random.integers(0, 256, (224, 224, 3), np.uint8)},
        "wrist": random.integers(0, 256, (3, 128, 96), np.uint8),
        "mask": np.zeros((224, 224), np.uint8),
        "patch": np.zeros((8, 8, 3), np.uint8),
        "depth": np.zeros((224, 224, 3), np.float32),
        "prompt": "pick up the cube",
    }


class Listener:
    """Answers everything, and keeps what arrived."""

    def __init__(self):
        self.arrived = []

    def __call__(self, request):
        self.arrived.append(request.observation)
        request.respond({"actions": np.zeros((2, 7))})

    @property
    def last(self):
        return self.arrived[-1]


def connect(port, **options):
    policy = FlashTransportPolicy("127.0.0.1", port, server_fingerprint=None, **options)
    policy.get_server_metadata()
    return policy


def test_jpeg_encodes_images_wherever_they_are_and_nothing_else():
    server, observation = Listener(), pictures()
    with (
        Served(server, metadata=READS_JPEG) as served,
        connect(served.port, image_encoding="jpeg", jpeg_quality=80) as policy,
    ):
        _, stats = policy.infer_with_stats(observation)
        assert stats.jpeg_quality == 80
        scene = decode_image(server.last["images"]["scene"]["data"])
        assert scene.shape == (224, 224, 3)
        assert server.last["wrist"]["layout"] == "chw"
        for key in ("mask", "patch", "depth"):
            np.testing.assert_array_equal(server.last[key], observation[key])
        policy.infer(observation)
        future = policy.submit(observation)
        future.result()
        assert future.stats.jpeg_quality == 80
        assert all(one["wrist"]["__image__"] == "jpeg" for one in server.arrived)
    assert isinstance(observation["images"]["scene"], np.ndarray)


@pytest.mark.parametrize("encoding", ["raw", "jpeg", "auto"])
def test_a_server_that_does_not_read_jpeg_gets_arrays(encoding):
    server = Listener()
    with Served(server) as served, connect(served.port, image_encoding=encoding) as policy:
        _, stats = policy.infer_with_stats(pictures())
        assert stats.jpeg_quality == 0
        assert isinstance(server.last["wrist"], np.ndarray)


def test_auto_sends_raw_images_once_the_link_is_known_to_carry_them():
    server = Listener()
    with (
        Served(server, metadata=READS_JPEG) as served,
        connect(served.port, image_encoding="auto", image_budget=5.0) as policy,
    ):

        def is_raw():
            return policy.infer_with_stats(pictures())[1].jpeg_quality == 0

        eventually(is_raw)
        assert isinstance(server.last["wrist"], np.ndarray)
        estimate = policy.link_estimate
        assert estimate.bits_per_second > 1e6
        assert estimate.round_trip_s > 0
        assert estimate.queue_s >= 0


def test_auto_sends_jpeg_of_the_least_quality_over_a_link_that_is_too_slow_and_says_why(caplog):
    caplog.set_level(logging.INFO, "flash_transport")
    with (
        Served(Listener(), metadata=READS_JPEG) as served,
        connect(served.port, image_encoding="auto", image_budget=1e-6) as policy,
    ):

        def is_least():
            return policy.infer_with_stats(pictures())[1].jpeg_quality == 70

        eventually(is_least)
    (told,) = [record.getMessage() for record in caplog.records if "images are" in record.message]
    assert told.startswith("images are sent as JPEG: raw they would take")


def test_a_unix_socket_has_no_rate_and_carries_raw_images(tmp_path):
    path, server = str(tmp_path / "policy.sock"), Listener()

    with (
        Serving(LocalServer(path, metadata=READS_JPEG), server),
        FlashTransportPolicy(f"unix:{path}", image_encoding="auto") as policy,
    ):
        policy.get_server_metadata()
        policy.infer(pictures())
        assert policy.link_estimate is None
    assert isinstance(server.last["wrist"], np.ndarray)


def test_a_closed_client_knows_nothing_of_the_link():
    with Served(Listener()) as served:
        policy = connect(served.port)
        policy.close()
        assert policy.link_estimate == UNMEASURED


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"image_encoding": "png"}, "image_encoding is 'png', expected one of: raw, jpeg, auto"),
        ({"image_encoding": "jpeg", "jpeg_quality": 0}, "JPEG quality 0"),
        ({"image_encoding": "auto", "image_budget": -1.0}, "image budget -1.0"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_sent(options, named):
    with pytest.raises(ValueError, match=named):
        FlashTransportPolicy("127.0.0.1", 1, **options)
