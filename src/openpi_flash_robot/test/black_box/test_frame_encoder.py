"""frame_encoder.py: images of every size become small frames, on a thread of its own."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from flash_transport import decode_image, encode_jpeg
from openpi_flash_robot.black_box.frame_encoder import FrameEncoder
from openpi_flash_robot.link.transport import IMAGE_WORK


def raw(height, width):
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, width // 2 :] = 200
    return SimpleNamespace(
        data=pixels.tobytes(),
        height=height,
        width=width,
        step=3 * width,
        encoding="rgb8",
        is_bigendian=0,
    )


@pytest.fixture
def encoder():
    made = FrameEncoder(IMAGE_WORK)
    yield made
    made.close()


def until_frames(encoder, count=1):
    frames = []
    for _ in range(1_000):
        frames += encoder.frames()
        if len(frames) >= count:
            return frames
        threading.Event().wait(0.01)
    return pytest.fail("no frame")


@pytest.mark.parametrize(
    ("shape", "small"),
    [
        ((480, 640), (120, 160)),
        ((1080, 1920), (90, 160)),
        ((640, 480), (160, 120)),
        ((48, 64), (48, 64)),
        ((20, 1000), (3, 160)),
    ],
)
def test_an_image_becomes_at_most_160_pixels_wide_and_high(encoder, shape, small):
    encoder.offer("scene", 7, raw(*shape))
    (frame,) = until_frames(encoder)
    assert (frame.camera, frame.stamp_ns) == ("scene", 7)
    assert len(frame.jpeg) < 20_000
    assert decode_image(frame.jpeg).shape == (*small, 3)


def test_a_compressed_image_becomes_one_too(encoder):
    pixels = np.full((480, 640, 3), 90, np.uint8)
    encoder.offer("scene", 7, SimpleNamespace(data=encode_jpeg(pixels), format="jpeg"))
    (frame,) = until_frames(encoder)
    image = decode_image(frame.jpeg)
    assert image.shape == (120, 160, 3)
    assert abs(int(image.mean()) - 90) <= 2


def test_a_camera_that_cannot_be_decoded_is_named_once_and_later_images_are_taken(encoder):
    bad = raw(48, 64)
    bad.encoding = "32FC1"
    for stamp in (1, 2):
        encoder.offer("wrist", stamp, bad)
        encoder.offer("scene", stamp, raw(48, 64))
        (frame,) = until_frames(encoder)
        assert (frame.camera, frame.stamp_ns) == ("scene", stamp)
    (problem,) = encoder.problems()
    assert problem.startswith("no small frames of camera wrist: ")
    assert encoder.problems() == []


def test_a_camera_that_is_faster_than_the_thread_has_one_image_waiting():
    began, go_on = threading.Event(), threading.Event()

    def slow(message, at_least):
        began.set()
        go_on.wait(30)
        return np.zeros((4, 4, 3), np.uint8)

    work = SimpleNamespace(
        decode=slow, resize=IMAGE_WORK.resize, encode=lambda image, quality: {"data": b"jpeg"}
    )
    encoder = FrameEncoder(work)
    encoder.offer("scene", 0, None)
    began.wait(30)
    for stamp in range(1, 100):
        encoder.offer("scene", stamp, None)
    go_on.set()
    assert [frame.stamp_ns for frame in until_frames(encoder, 2)] == [0, 99]
    encoder.close()
