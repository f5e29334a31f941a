"""What camera drivers publish, against the definitions of the encodings, written out in numpy."""

import array

import numpy as np
import pytest
from implementations import implementation  # noqa: F401 - every test over both halves

from flash_transport import ImageError, image_to_rgb

SIZES = [(37, 53), (48, 64), (2, 2), (1, 1), (1, 7), (7, 1), (3, 130)]
"""Odd and even, smaller and larger than what is worked on at once."""


def samples(*shape, dtype=np.uint8):
    top = np.iinfo(dtype).max
    return np.random.default_rng(sum(shape)).integers(0, top, shape, dtype, endpoint=True)


def rows(pixels):
    """Pixels as the bytes of their rows, [H, row bytes]."""
    pixels = np.ascontiguousarray(pixels)
    return pixels.reshape(len(pixels), -1).view(np.uint8)


def decoded(lines, padding=0, *, height, width, **info):
    """What is made of rows of data (all planes below each other) with some padding."""
    lines = np.pad(lines, ((0, 0), (0, padding)), constant_values=99)
    info = {"height": height, "width": width, "step": lines.shape[1], **info}
    image = image_to_rgb(lines.tobytes(), **info)
    # some drivers leave out the padding of the last row
    without_end = lines.tobytes()[: lines.size - padding]
    assert np.array_equal(image_to_rgb(without_end, **info), image)
    assert (image.dtype, image.shape) == (np.uint8, (height, width, 3))
    return image


PLACES = {
    "rgb": [0, 1, 2],
    "bgr": [2, 1, 0],
    "rgba": [0, 1, 2, 3],
    "bgra": [2, 1, 0, 3],
    "mono": [0],
}
BYTES = {
    **{f"{name}8": places for name, places in PLACES.items()},
    "8UC1": PLACES["mono"],
    "8UC3": PLACES["bgr"],
    "8UC4": PLACES["bgra"],
}
WORDS = {
    **{f"{name}16": places for name, places in PLACES.items()},
    "16UC1": PLACES["mono"],
    "16UC3": PLACES["bgr"],
}


@pytest.mark.parametrize("padding", [0, 1, 17])
@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("encoding", BYTES)
def test_samples_of_eight_bits_are_put_in_the_order_of_rgb(encoding, height, width, padding):
    channels = samples(height, width, 4)
    if encoding in ("mono8", "8UC1"):
        channels[..., :3] = channels[..., :1]
    lines = rows(channels[..., BYTES[encoding]])
    image = decoded(lines, padding, height=height, width=width, encoding=encoding)
    assert np.array_equal(image, channels[..., :3])


@pytest.mark.parametrize("is_bigendian", [False, True])
@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("encoding", WORDS)
def test_samples_of_sixteen_bits_become_the_nearest_of_eight(encoding, height, width, is_bigendian):
    channels = samples(height, width, 4, dtype=np.uint16)
    channels[0, 0] = [0, 65535, 128, 129]  # 128 is the last that is nearer to 0
    if encoding in ("mono16", "16UC1"):
        channels[..., :3] = channels[..., :1]
    sent = channels[..., WORDS[encoding]].astype(">u2" if is_bigendian else "<u2")
    image = decoded(
        rows(sent), 2, height=height, width=width, encoding=encoding, is_bigendian=is_bigendian
    )
    assert np.array_equal(image, np.rint(channels[..., :3] / 257).astype(np.uint8))


def bt601(y, u, v):
    """Limited range to RGB, as OpenCV has it; each of y, u and v is [H, W]."""
    y = 1.164 * np.maximum(y.astype(float) - 16, 0)
    u, v = u.astype(float) - 128, v.astype(float) - 128
    rgb = np.stack([y + 1.596 * v, y - 0.813 * v - 0.391 * u, y + 2.018 * u], -1)
    return np.floor(rgb + 0.5).clip(0, 255)


def shared(colour, height, width, rows_each, columns_each):
    """Each colour for its block of pixels."""
    return colour.repeat(rows_each, 0).repeat(columns_each, 1)[:height, :width]


PAIRS = {"uyvy": (1, 0, 2), "yuv422": (1, 0, 2), "yuyv": (0, 1, 3), "yuv422_yuy2": (0, 1, 3)}


@pytest.mark.parametrize("padding", [0, 1, 6])
@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("encoding", PAIRS)
def test_two_pixels_of_a_row_share_their_colour(encoding, height, width, padding):
    pairs = samples(height, (width + 1) // 2, 4)
    y, u, v = PAIRS[encoding]
    bright = np.stack([pairs[..., y], pairs[..., y + 2]], -1).reshape(height, -1)[:, :width]
    colours = [shared(pairs[..., at], height, width, 1, 2) for at in (u, v)]
    image = decoded(rows(pairs), padding, height=height, width=width, encoding=encoding)
    # a fixed-point number and a float may round a half to either side
    assert np.abs(image - bt601(bright, *colours)).max() <= 1
    assert (image == bt601(bright, *colours)).mean() > 0.99


@pytest.mark.parametrize("padding", [0, 1, 6])
@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("encoding", ["nv12", "nv21"])
def test_four_pixels_share_their_colour_in_a_plane_of_its_own(encoding, height, width, padding):
    bright = samples(height, width)
    colour = samples((height + 1) // 2, (width + 1) // 2, 2)
    odd = np.pad(bright, ((0, 0), (0, width % 2)))
    lines = np.concatenate([odd, rows(colour)])
    image = decoded(lines, padding, height=height, width=width, encoding=encoding)
    u, v = (shared(colour[..., at], height, width, 2, 2) for at in (0, 1))
    expected = bt601(bright, u, v) if encoding == "nv12" else bt601(bright, v, u)
    assert np.abs(image - expected).max() <= 1
    assert (image == expected).mean() > 0.99


@pytest.mark.parametrize("padding", [0, 1, 6])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_nv24_has_a_colour_for_each_pixel_in_rows_of_two_steps(height, width, padding):
    bright, colour = samples(height, width), samples(height, width, 2)
    # a row of colour fills two steps; what they have beyond it is padding
    wide = np.pad(rows(colour), ((0, 0), (0, 2 * padding)))
    lines = np.concatenate([np.pad(bright, ((0, 0), (0, padding))), wide.reshape(height * 2, -1)])
    image = decoded(lines, height=height, width=width, encoding="nv24")
    expected = bt601(bright, colour[..., 0], colour[..., 1])
    assert np.abs(image - expected).max() <= 1
    assert (image == expected).mean() > 0.99


@pytest.mark.parametrize(
    ("yuv", "rgb"),
    [
        ((16, 128, 128), (0, 0, 0)),
        ((235, 128, 128), (255, 255, 255)),
        ((0, 128, 128), (0, 0, 0)),
        ((255, 128, 128), (255, 255, 255)),
        ((126, 128, 128), (128, 128, 128)),
        ((81, 90, 240), (254, 0, 0)),
        ((145, 54, 34), (0, 255, 1)),
        ((41, 240, 110), (0, 0, 255)),
    ],
    ids=["black", "white", "blacker", "whiter", "grey", "red", "green", "blue"],
)
def test_known_colours_of_bt601_are_found(yuv, rgb):
    y, u, v = yuv
    image = image_to_rgb(bytes([u, y, v, y]), height=1, width=2, step=4, encoding="uyvy")
    assert image.tolist() == [[list(rgb)] * 2]


RED_AT = {"rggb": (0, 0), "bggr": (1, 1), "gbrg": (1, 0), "grbg": (0, 1)}


def demosaiced(raw, row, column):
    """Bilinear: the mean of the nearest samples of each colour, mirrored at the edges."""
    height, width = raw.shape
    wide = np.pad(raw.astype(int), ((1, 1) if height > 1 else (0, 0), (0, 0)), "reflect")
    wide = wide if height > 1 else np.pad(wide, ((1, 1), (0, 0)), "edge")
    wide = np.pad(wide, ((0, 0), (1, 1)), "reflect" if width > 1 else "edge")
    rgb = np.zeros((height, width, 3), int)
    for y in range(height):
        for x in range(width):
            near = wide[y : y + 3, x : x + 3]
            cross = [near[0, 1], near[2, 1], near[1, 0], near[1, 2]]
            corners = near[::2, ::2].reshape(-1)
            sides, ends = near[1, ::2], near[::2, 1]
            middle = [near[1, 1]]
            in_red_row, in_red_column = y % 2 == row, x % 2 == column
            if in_red_row and in_red_column:
                colours = [middle, cross, corners]
            elif in_red_row:
                colours = [sides, middle, ends]
            elif in_red_column:
                colours = [ends, middle, sides]
            else:
                colours = [corners, cross, middle]
            rgb[y, x] = [(sum(of) + len(of) // 2) // len(of) for of in colours]
    return rgb


@pytest.mark.parametrize("padding", [0, 1, 5])
@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("pattern", RED_AT)
def test_the_colours_a_sensor_does_not_see_come_from_the_neighbours(
    pattern, height, width, padding
):
    raw = samples(height, width)
    encoding = f"bayer_{pattern}8"
    image = decoded(raw, padding, height=height, width=width, encoding=encoding)
    assert np.array_equal(image, demosaiced(raw, *RED_AT[pattern]))


@pytest.mark.parametrize("is_bigendian", [False, True])
@pytest.mark.parametrize("pattern", RED_AT)
def test_a_sensor_may_have_sixteen_bits(pattern, is_bigendian):
    raw = samples(11, 13, dtype=np.uint16)
    image = decoded(
        rows(raw.astype(">u2" if is_bigendian else "<u2")),
        height=11,
        width=13,
        encoding=f"bayer_{pattern}16",
        is_bigendian=is_bigendian,
    )
    eight_bits = np.rint(raw / 257).astype(np.uint8)
    assert np.array_equal(image, demosaiced(eight_bits, *RED_AT[pattern]))


@pytest.mark.parametrize("pattern", RED_AT)
def test_a_sensor_that_sees_one_colour_gives_an_image_of_that_colour(pattern):
    row, column = RED_AT[pattern]
    for colour, (dy, dx) in {0: (0, 0), 2: (1, 1)}.items():
        raw = np.zeros((6, 8), np.uint8)
        raw[(row + dy) % 2 :: 2, (column + dx) % 2 :: 2] = 200
        image = decoded(raw, height=6, width=8, encoding=f"bayer_{pattern}8")
        expected = np.zeros((6, 8, 3), np.uint8)
        expected[..., colour] = 200
        assert np.array_equal(image, expected)


def test_the_encodings_of_these_tests_are_those_of_the_error_message():
    with pytest.raises(ImageError, match="32FC1") as refusal:
        image_to_rgb(b"", height=1, width=1, step=4, encoding="32FC1")
    known = str(refusal.value).split("expected one of ")[1].split(", ")
    bayer = {f"bayer_{pattern}{bits}" for pattern in RED_AT for bits in (8, 16)}
    planes = {"nv12", "nv21", "nv24"}
    assert set(known) == {*BYTES, *WORDS, *PAIRS, *planes, *bayer}


BUFFERS = {
    "bytes": bytes,
    "array.array": lambda data: array.array("B", data),
    "bytearray": bytearray,
    "memoryview": memoryview,
    "ndarray": lambda data: np.frombuffer(data, np.uint8),
    "memoryview of words": lambda data: memoryview(data + b"\0" * (-len(data) % 4)).cast("I"),
}


@pytest.mark.parametrize("buffer", BUFFERS.values(), ids=BUFFERS)
def test_data_may_lie_in_any_buffer(buffer):
    rgb = samples(7, 5, 3)
    data = buffer(rgb.tobytes())
    image = image_to_rgb(data, height=7, width=5, step=15, encoding="rgb8")
    assert np.array_equal(image, rgb)


def test_the_result_does_not_change_with_the_message_it_came_from():
    data = bytearray(samples(4, 4, 3).tobytes())
    image = image_to_rgb(data, height=4, width=4, step=12, encoding="rgb8")
    before = image.copy()
    data[:] = bytes(48)
    assert np.array_equal(image, before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": bytes(47)}, "image has 47 bytes of data, expected at least 48 for 4 rows of s"),
        ({"step": 11}, "image step is 11 bytes, expected at least 12 for 4 columns of rgb8"),
        (
            {"step": 13},
            "image has 48 bytes of data, expected at least 51 for 4 rows of step 13",
        ),
        ({"encoding": "32FC1"}, 'encoding "32FC1" is not supported, expected one of rgb8, bgr8,'),
        ({"height": 0}, "image is 0 rows by 4 columns"),
        ({"width": 0}, "image is 4 rows by 0 columns"),
        ({"height": 2**32 - 1, "step": 2**32 - 1}, "image is 4294967295 rows by 4 columns"),
    ],
)
def test_an_image_that_contradicts_itself_is_refused_with_the_numbers(changes, message):
    image = {"data": bytes(48), "height": 4, "width": 4, "step": 12, "encoding": "rgb8"}
    with pytest.raises(ImageError, match=message):
        image_to_rgb(**{**image, **changes})


def test_data_that_is_no_buffer_is_refused():
    with pytest.raises(TypeError, match="bytes-like"):
        image_to_rgb([1, 2, 3], height=1, width=1, step=3, encoding="rgb8")
