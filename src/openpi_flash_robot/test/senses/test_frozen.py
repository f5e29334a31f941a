"""frozen.py: a camera whose image stays the same under new stamps is known, and cheaply."""

import array
import zlib

import numpy as np
import pytest

from openpi_flash_robot.hold import HoldKind
from openpi_flash_robot.senses.frames import CameraFrames
from openpi_flash_robot.senses.frozen import (
    LOOK_EVERY_NS,
    LOOKED_AT_BYTES,
    FrozenImages,
    fingerprint,
)

MS = 1_000_000
LIMIT = 1_000 * MS


class Cameras:
    """Two cameras at 30 Hz, and how often their images are looked at."""

    def __init__(self, fingerprint=zlib.crc32):
        self.frames = CameraFrames({"scene": "/scene/image_raw", "wrist": "/wrist/image_raw"})
        self.looked = 0

        def counted(message):
            self.looked += 1
            return fingerprint(message)

        self.images = FrozenImages(self.frames, counted)
        self.now = 10_000 * MS

    def show(self, milliseconds, limit=LIMIT, **images):
        """Send an image again and again, or a new one each time; the last problem."""
        problem = None
        for _ in range(milliseconds * 3 // 100):
            self.now += 100 * MS // 3
            for camera in ("scene", "wrist"):
                self.frames.add(camera, self.now, images.get(camera, b"%d" % self.now))
            problem = self.images.problem(limit)
        return problem


def test_a_camera_that_sends_the_same_image_for_too_long_is_named_and_since_when():
    cameras = Cameras()
    assert cameras.show(2_000) is None
    assert cameras.show(900, wrist=b"still") is None
    problem = cameras.show(300, wrist=b"still")
    assert problem.kind is HoldKind.OBSERVATION
    assert problem.message == (
        "camera wrist (/wrist/image_raw) is frozen: its images have been the same, byte for byte, "
        "for 1.07 s, since the one stamped 12.03; max_frozen_time is 1.00 s"
    )


def test_an_image_that_changes_once_in_a_while_is_not_frozen_and_a_frozen_one_thaws():
    cameras = Cameras()
    for index in range(5):
        assert cameras.show(900, scene=b"slow %d" % index) is None
    assert cameras.show(1_500, scene=b"hangs") is not None
    assert cameras.show(200) is None


def test_images_are_looked_at_ten_times_a_second_and_not_at_all_if_that_is_off():
    cameras = Cameras()
    cameras.show(3_000)
    assert cameras.looked <= 2 * 3_000 * MS / LOOK_EVERY_NS
    looked = cameras.looked
    assert cameras.show(3_000, limit=0, scene=b"still", wrist=b"still") is None
    assert cameras.looked == looked
    off = FrozenImages(cameras.frames, None)
    assert off.problem(LIMIT) is None


def test_the_same_frame_looked_at_again_is_not_frozen():
    """A silent camera is another fault, with another message."""
    cameras = Cameras()
    cameras.show(200)
    for _ in range(1_000):
        assert cameras.images.problem(LIMIT) is None


def test_when_time_is_set_back_it_is_looked_at_anew():
    cameras = Cameras()
    cameras.show(900, scene=b"still")
    cameras.now -= 8_000 * MS
    assert cameras.show(900, scene=b"still") is None
    assert cameras.show(300, scene=b"still") is not None


# --- the fingerprint ---

SIZES = [(24, 32), (240, 320), (480, 640), (1080, 1920)]


def image(rng, height, width):
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def print_of(pixels):
    return fingerprint(array.array("B", pixels.tobytes()), pixels.shape[1] * 3)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_equal_images_have_one_fingerprint_and_noise_of_one_level_has_another(rng, height, width):
    pixels = image(rng, height, width)
    assert print_of(pixels) == print_of(pixels.copy())
    noise = rng.integers(0, 2, pixels.shape, dtype=np.uint8)
    assert print_of(pixels) != print_of(pixels ^ noise)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_thing_of_thirty_rows_that_moves_is_seen_anywhere(rng, height, width):
    pixels = image(rng, height, width)
    tall = min(height, 30)
    for top in range(0, height - tall + 1, 7):
        moved = pixels.copy()
        moved[top : top + tall, 5:15] = 0
        assert print_of(pixels) != print_of(moved)


@pytest.mark.parametrize("size", [0, 1, 1_000, LOOKED_AT_BYTES + 1, 3 * LOOKED_AT_BYTES + 17])
@pytest.mark.parametrize("row", [0, 3, 10_000_000])
def test_any_number_of_bytes_has_one_encoded_or_with_a_wrong_step(rng, size, row):
    data = rng.integers(0, 256, size, dtype=np.uint8)
    shown = fingerprint(array.array("B", data.tobytes()), row)
    assert shown == fingerprint(data.tobytes(), row)
    if size:
        assert shown != fingerprint((data ^ 1).tobytes(), row)
    assert shown != fingerprint(data.tobytes() + b"\x01", row)


def test_no_more_than_a_part_of_a_large_image_is_read(rng, monkeypatch):
    read = []
    monkeypatch.setattr(zlib, "crc32", lambda data, *_: read.append(memoryview(data).nbytes) or 0)
    for height, width in SIZES:
        print_of(image(rng, height, width))
    assert max(read) <= LOOKED_AT_BYTES
    assert min(read[1:]) > LOOKED_AT_BYTES / 2
